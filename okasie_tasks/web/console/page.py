"""What every page of the console has: the person who looks at it, the language, the account, and the form's secret."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

import redis
from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from okasie_tasks.errors import ConfigurationError, ConnectionFailed, OkasieError, PlanOutdated
from okasie_tasks.services import Services
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.web.console import words
from okasie_tasks.web.console.languages import COOKIE, _, negotiate, translations
from okasie_tasks.web.console.rendering import render
from okasie_tasks.web.sessions import Session, check_csrf, session_of, signed_in

_MOST_BYTES: Final = 65_536
"""Of a form; the longest field is a reference."""


class Page:
    """One request for a page. The templates read its attributes as ``page``."""

    def __init__(self, request: Request, session: Session | None) -> None:
        self.request = request
        self.services: Services = request.app.state.services
        self.session = session
        self.language = negotiate(request.cookies.get(COOKIE), request.headers.get("accept-language", ""))
        self.path = request.url.path
        self.address = f"{self.path}?{request.url.query}" if request.url.query else self.path
        self.back = self.address if request.method == "GET" else "/"
        self.account: str | None = None
        self.zone = ""
        self.accounts = [
            name for name in self.services.settings.accounts if session is not None and session.identity.may_read(name)
        ]
        done = request.query_params.get("done", "")
        self.notice = self.gettext(words.NOTICES[done]) if done in words.NOTICES else ""

    def gettext(self, text: str) -> str:
        return translations(self.language).gettext(text)

    @property
    def csrf(self) -> Markup:
        """The hidden field that proves that a form is a page of this server."""
        field = Markup('<input type="hidden" name="csrf" value="{}">')
        return field.format(self.session.csrf) if self.session else Markup()

    @property
    def by(self) -> str:
        return f"console:{self.session.identity.name}" if self.session else "console"

    @property
    def sees_all(self) -> bool:
        """Whether the person sees what is of no account: it may quote any of them."""
        return self.session is not None and self.session.identity.accounts is None

    @property
    def may_send(self) -> bool:
        return bool(self.session and self.account and self.session.identity.may_send(self.account))

    @property
    def may_operate(self) -> bool:
        return bool(self.session and self.account and self.session.identity.may_operate(self.account))

    def of_account(self, name: str) -> AccountContext:
        """Make this a page of an account. One that the person must not see is as unknown as one that is not there."""
        if name not in self.accounts:
            raise HTTPException(404)
        self.account = name
        self.zone = str(self.services.account(name).timezone)
        return self.services.context(name)

    def to_operate(self, name: str) -> None:
        """Make this a page of an account, and refuse a person who may only look at it."""
        self.of_account(name)
        if not self.may_operate:
            raise HTTPException(403)

    def zones(self) -> dict[str, str]:
        return {name: str(self.services.account(name).timezone) for name in self.accounts}

    def show(self, template: str, *, answer: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(render(template, self.language, page=self, **values), answer)

    def go(self, path: str, **query: str) -> RedirectResponse:
        """Answer a form with another page, so that reloading does not send the form again."""
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)


SignedIn = Annotated[Session, Depends(signed_in)]


def opened(request: Request, session: SignedIn) -> Page:
    return Page(request, session)


async def form_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50))


Form = Annotated[Mapping[str, str], Depends(form_of)]


def sent(request: Request, session: SignedIn, form: Form) -> Page:
    """Return the page of a form whose secret is right."""
    check_csrf(session, form)
    return Page(request, session)


Opened = Annotated[Page, Depends(opened)]
Sent = Annotated[Page, Depends(sent)]


class ConsoleRoute(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError:
                status, detail = 400, ""
            except StarletteHTTPException as error:
                if error.status_code < 400:
                    raise
                status, detail = error.status_code, error.detail
            except redis.RedisError as error:
                status, detail = 503, redis_problem(error).message
            except OkasieError as error:
                status, detail = _status_of(error), str(error)
            return await run_in_threadpool(problem, request, status, detail)

        return guarded


def _status_of(error: OkasieError) -> int:
    if isinstance(error, ConnectionFailed):
        return 503
    if isinstance(error, PlanOutdated) or error.code == "busy":
        return 409
    return 400 if isinstance(error, ConfigurationError) else 500


_TITLES: Final = {
    400: _("This request cannot be understood"),
    403: _("This is not allowed"),
    404: _("There is no such page"),
    409: _("This is not possible now"),
    413: _("This is too long"),
    500: _("Something went wrong"),
    503: _("Not available at the moment"),
}
_MESSAGES: Final = {
    403: _("Your token does not allow it, or the form is an old one. Open the page again and retry."),
    404: _("It may be gone, or your token does not give access to it."),
}


def problem(request: Request, status: int, detail: str) -> HTMLResponse:
    """Return the page of an error, for the person who is signed in."""
    session = None
    with contextlib.suppress(redis.RedisError):
        session = session_of(request)
    page = Page(request, session)
    title = page.gettext(_TITLES.get(status, _TITLES[500]))
    message = page.gettext(_MESSAGES[status]) if status in _MESSAGES else detail or title
    return page.show("error.html", answer=status, title=title, message=message)


def local_path(address: str) -> str:
    """Return a path of this server; an address of another one becomes the overview."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if plain else "/"
