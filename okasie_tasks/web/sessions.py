"""Sessions of people in a browser: a cookie, exchanged for a token once.

Keys, under the configured prefix::

    web:session:{hash of the cookie}  hash  name and digest of the token, CSRF secret; it expires after 12 h
    web:failed:{address}              string  failed attempts of the last minute
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.responses import Response

from okasie_tasks.web.identity import Identity
from okasie_tasks.web.tokens import digest_of

if TYPE_CHECKING:
    from okasie_tasks.web.doors import Doors

COOKIE: Final = "okasie_session"
SESSION_SECONDS: Final = 12 * 3600


class Session(NamedTuple):
    """A person who is signed in. ``csrf``: the secret that each form must contain."""

    identity: Identity
    csrf: str


def doors_of(request: Request) -> Doors:
    """Return what the application checks tokens and sessions with."""
    return cast("Doors", request.app.state.doors)


def open_session(request: Request, response: Response, name: str, token: str) -> None:
    """Begin a session of this token, and set its cookie. It ends with the token."""
    doors, cookie = doors_of(request), secrets.token_urlsafe(32)
    key = _key(doors.prefix, cookie)
    pipe = doors.redis.pipeline()
    pipe.hset(key, mapping={"name": name, "token": digest_of(token), "csrf": secrets.token_urlsafe(24)})
    pipe.expire(key, SESSION_SECONDS)
    pipe.execute()
    response.set_cookie(
        COOKIE, cookie, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def session_of(request: Request) -> Session | None:
    """Return the session of the request's cookie."""
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return None
    doors = doors_of(request)
    found = cast("dict[bytes, bytes]", doors.redis.hgetall(_key(doors.prefix, cookie)))
    if not found:
        return None
    identity = doors.tokens.of_session(found[b"name"].decode(), found.get(b"token", b""))
    return Session(identity, found[b"csrf"].decode()) if identity is not None else None


def close_session(request: Request, response: Response) -> None:
    doors = doors_of(request)
    doors.redis.delete(_key(doors.prefix, request.cookies.get(COOKIE, "")))
    response.delete_cookie(COOKIE)


def signed_in(request: Request) -> Session:
    """Return the session; a request without one is sent to the page where one signs in."""
    session = session_of(request)
    if session is None:
        place = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        to = f"/login?next={quote(place, safe='')}" if request.method == "GET" and place != "/" else "/login"
        raise HTTPException(303, headers={"Location": to})
    return session


def check_csrf(session: Session, form: Mapping[str, str]) -> None:
    """Refuse a form that does not contain the session's secret: a page of another site may have sent it."""
    if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
        raise HTTPException(403)


def _key(prefix: str, cookie: str) -> str:
    return f"{prefix}web:session:{hashlib.sha256(cookie.encode()).hexdigest()}"
