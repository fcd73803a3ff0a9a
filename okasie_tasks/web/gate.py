"""What every request passes first: the Host it names, the size of its body; and the headers of every response."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from okasie_tasks.logs import get_logger
from okasie_tasks.settings.web import WebSettings

log = get_logger(__name__)

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of a request's body: 1,000 listings of 8 kB."""
PROBES: Final = frozenset({"/healthz", "/readyz", "/api/v1/healthz", "/api/v1/readyz"})
"""Paths that may be asked for under any Host: orchestrators use the address of the machine."""
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """An ASGI middleware.

    A forged Host would make a page of this server out of one of another site (DNS rebinding), and links that lead
    elsewhere. ``X-Forwarded-*`` headers count only from a proxy that is configured.
    """

    def __init__(self, app: ASGIApp, *, web: WebSettings) -> None:
        self._app, self._proxies = app, frozenset(web.trusted_proxies)
        self._hosts: frozenset[str] = _LOOPBACK | {web.address[0].lower()} if web.is_local else frozenset()
        if web.public_url:
            self._hosts |= {urlsplit(web.public_url).hostname or ""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if scope["client"] is not None and scope["client"][0] in self._proxies:
            scope = {**scope, **_forwarded(scope, headers, self._proxies)}
            host = headers.get("x-forwarded-host", host)
        if scope["path"] not in PROBES and not self._knows(host):
            await _refuse(send, 400, "host", "this server does not have the name in the Host header")
            return
        if _stated_length(headers) > MOST_BYTES:
            await _too_large(send)
            return
        body = _Bounded(receive)
        response = _Response(send, body)
        try:
            await self._app(scope, body, response)
        except Exception as error:
            if body.too_large:
                return
            log.error("unexpected error of the web server", path=scope["path"], exc_info=error)  # noqa: TRY400
            if not response.started:
                await _refuse(send, 500, "internal", "an unexpected error, which is logged")

    def _knows(self, host: str) -> bool:
        try:
            return (urlsplit(f"//{host}").hostname or "") in self._hosts
        except ValueError:
            return False


class _Bounded:
    """Receives a request's body as long as it is not too large. The application sees a client that is gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._size = receive, 0

    @property
    def too_large(self) -> bool:
        return self._size > MOST_BYTES

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self.too_large:
            return {"type": "http.disconnect"}
        return message


def _forwarded(scope: Scope, headers: dict[str, str], proxies: Collection[str]) -> dict[str, object]:
    """Return who the proxy was asked by, and how: the last address that is not that of a proxy of ours."""
    chain = [address.strip() for address in headers.get("x-forwarded-for", "").split(",") if address.strip()]
    others = [address for address in chain if address not in proxies]
    scheme = headers.get("x-forwarded-proto", "").strip().lower()
    return {
        "client": (others[-1], 0) if others else scope["client"],
        "scheme": scheme if scheme in ("http", "https") else scope["scheme"],
    }


def _stated_length(headers: dict[str, str]) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


class _Response:
    """Sends a response with the headers that each has; to a body that is too large, a refusal."""

    def __init__(self, send: Send, body: _Bounded) -> None:
        self._send, self._body, self.started = send, body, False

    async def __call__(self, message: Message) -> None:
        if self._body.too_large:
            if not self.started:
                self.started = True
                await _too_large(self._send)
            return
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message["headers"], *_encoded(_HEADERS.items(), message["headers"])]
        await self._send(message)


def _encoded(headers: Iterable[tuple[str, str]], given: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    pairs = ((name.lower().encode(), value.encode()) for name, value in headers)
    return [(name, value) for name, value in pairs if name not in names]


async def _too_large(send: Send) -> None:
    await _refuse(send, 413, "too_large", f"expected at most {MOST_BYTES} bytes")


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "where": None}}).encode()
    headers = [(b"content-type", b"application/json"), *_encoded(_HEADERS.items(), ())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
