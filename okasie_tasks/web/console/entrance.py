"""What is open to everybody: the page to sign in, the language, the static files."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from okasie_tasks.web.console.languages import COOKIE, languages
from okasie_tasks.web.console.page import ConsoleRoute, Form, local_path, problem
from okasie_tasks.web.console.rendering import STATIC, static_file

_YEAR_SECONDS: Final = 365 * 86_400
routes = APIRouter(route_class=ConsoleRoute)
rest = APIRouter()
"""Every other address; to be included last."""


@routes.get("/static/{name}")
def static(name: str) -> Response:
    """Return one of the files of `STATIC`; no other path exists."""
    if name not in STATIC:
        raise HTTPException(404)
    return Response(static_file(name), media_type=STATIC[name])


@routes.post("/language")
def choose_language(request: Request, form: Form) -> Response:
    """Keep the language in a cookie, and return to the page. It needs no session and changes nothing else."""
    answer = RedirectResponse(local_path(form.get("back", "")), 303)
    if form.get("language") in languages():
        answer.set_cookie(
            COOKIE,
            form["language"],
            max_age=_YEAR_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return answer


@rest.get("/{path:path}")
def nowhere(request: Request, path: str) -> Response:
    """Answer an address that leads nowhere with a page; programs get the error of the API."""
    if path.startswith("api/"):
        raise HTTPException(404)
    return problem(request, 404, "")
