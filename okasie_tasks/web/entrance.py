"""Where people sign in: with a token, or with the address that was printed at the start."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from okasie_tasks.web.console.page import ConsoleRoute, Form, Page, local_path
from okasie_tasks.web.identity import LOCAL
from okasie_tasks.web.sessions import check_csrf, close_session, doors_of, open_session, session_of

_PARAMETER: Final = "token"
routes = APIRouter(route_class=ConsoleRoute, include_in_schema=False)


@routes.get("/login")
def show(request: Request, next: str = "/") -> Response:
    """Show the form; somebody who is signed in goes on."""
    if session_of(request) is not None:
        return RedirectResponse(local_path(next), 303)
    return _form(request, next)


@routes.post("/login")
def sign_in(request: Request, form: Form) -> Response:
    """Exchange a token for a session. Ten failures a minute from one address are answered without looking.

    A form of another site is refused and not counted: any page could otherwise lock out the address of its visitor.
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise HTTPException(403)
    doors, address = doors_of(request), request.client.host if request.client else ""
    if doors.attempts.too_many(address):
        return _form(request, form.get("next", "/"), problem="limited", status=429)
    token = form.get(_PARAMETER, "")
    identity = doors.tokens.identify(token)
    if identity is None:
        doors.attempts.failed(address)
        return _form(request, form.get("next", "/"), problem="refused", status=401)
    response = RedirectResponse(local_path(form.get("next", "/")), 303)
    open_session(request, response, identity.name, token)
    return response


@routes.post("/logout")
def sign_out(request: Request, form: Form) -> Response:
    """End the session."""
    response = RedirectResponse("/login", 303)
    if (session := session_of(request)) is not None:
        check_csrf(session, form)
        close_session(request, response)
    return response


def _form(request: Request, place: str, *, problem: str = "", status: int = 200) -> Response:
    page = Page(request, None)
    start = doors_of(request).tokens.has_start_token
    return page.show("login.html", answer=status, next=local_path(place), problem=problem, start_token=start)


class StartToken:
    """An ASGI middleware: exchanges the start token in an address for a cookie, and removes it from the address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and b"token=" in scope["query_string"]:
            request = Request(scope, receive)
            response = await run_in_threadpool(_exchanged, request)
            if response is not None:
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _exchanged(request: Request) -> Response | None:
    """Return the answer to an address with a token; None where there is no start token.

    Wrong ones are not counted: any page can make its visitor request such an address. 24 random bytes are not guessed.
    """
    doors = doors_of(request)
    given = parse_qsl(request.url.query, keep_blank_values=True)
    token = next((value for name, value in given if name == _PARAMETER), "")
    if not doors.tokens.has_start_token:
        return None
    rest = urlencode([pair for pair in given if pair[0] != _PARAMETER])
    response = RedirectResponse(local_path(request.url.path + (f"?{rest}" if rest else "")), 303)
    if doors.tokens.is_start_token(token):
        open_session(request, response, LOCAL.name, token)
    return response
