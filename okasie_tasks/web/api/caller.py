"""Who calls the API: a program with a bearer token, or a person's browser that reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from okasie_tasks.services import Services
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.web.api.errors import Refused
from okasie_tasks.web.identity import Identity
from okasie_tasks.web.sessions import doors_of, session_of

_RETRY_SECONDS: Final = "60"
_SCHEME: Final = HTTPBearer(auto_error=False, description="A token of `[web.tokens]`.")


class CallerRoute(APIRoute):
    """A route that identifies the caller before it reads the body: the bodies of others are never parsed."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        answer = super().get_route_handler()

        async def identified(request: Request) -> Response:
            request.state.identity = await run_in_threadpool(_identify, request)
            return await answer(request)

        return identified


def _identify(request: Request) -> Identity:
    """Return who calls. Raises `Refused`: 401, or 429 after ten failures within a minute."""
    doors, address = doors_of(request), request.client.host if request.client else ""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if not token and request.method == "GET" and (session := session_of(request)) is not None:
        return session.identity
    if doors.attempts.too_many(address):
        raise Refused(429, "too many failed attempts", headers={"Retry-After": _RETRY_SECONDS})
    identity = doors.tokens.identify(token.strip()) if kind.lower() == "bearer" and token.strip() else None
    if identity is None:
        if token:
            doors.attempts.failed(address)
        raise Refused(401, "expected `Authorization: Bearer TOKEN`", headers={"WWW-Authenticate": "Bearer"})
    return identity


class Call:
    """One call of a `CallerRoute`: who makes it, and the services of this process."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.identity: Identity = request.state.identity
        self.services: Services = request.app.state.services

    @property
    def by(self) -> str:
        return f"token:{self.identity.name}"

    @property
    def accounts(self) -> list[str]:
        """The accounts that the caller may read."""
        return [name for name in self.services.settings.accounts if self.identity.may_read(name)]

    def to_read(self, account: str) -> AccountContext:
        return self._allowed(account, self.identity.may_read(account))

    def to_send(self, account: str) -> AccountContext:
        return self._allowed(account, self.identity.may_send(account))

    def to_operate(self, account: str) -> AccountContext:
        return self._allowed(account, self.identity.may_operate(account))

    def _allowed(self, account: str, allowed: bool) -> AccountContext:
        """Return the account's context. One that the caller must not know of is as unknown as any other."""
        if account not in self.services.settings.accounts or not self.identity.sees(account):
            raise Refused(404, f"there is no account {account!r:.60}", code="unknown_account", where="account")
        if not allowed:
            raise Refused(403, f"the token {self.identity.name!r} has the role {self.identity.role!r}")
        return self.services.context(account)


async def _call(request: Request, _: Annotated[object, Depends(_SCHEME)]) -> Call:
    """Return the call. FastAPI would construct a class in a thread of the pool, and the request would wait for it."""
    return Call(request)


Caller = Annotated[Call, Depends(_call)]
