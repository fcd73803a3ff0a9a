"""Handles one request to the API: key, quota, fault, endpoint, response."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from typing import Any, Final, Protocol
from uuid import uuid4

import msgspec
from tornado import web

from okasie_tasks.sandbox import admin
from okasie_tasks.sandbox.codes import STATUS_OF, Refusal, refusal
from okasie_tasks.sandbox.edits import edited
from okasie_tasks.sandbox.faults import Fault
from okasie_tasks.sandbox.limits import Quota, QuotaDecision
from okasie_tasks.sandbox.rendering import stamp
from okasie_tasks.sandbox.routing import Caller, Key, route

_PAGE: Final = b"<!doctype html><html><head><title>Error</title></head><body><h1>Service Unavailable</h1></body></html>"


class Sandbox(admin.Sandbox, Protocol):
    """The parts of `okasie_tasks.sandbox.server.Sandbox` that answer a request."""

    keys: dict[str, Key]
    strangers: Quota


class _Dropped(Exception):
    """The connection is to be closed without a response."""


class ApiHandler(web.RequestHandler):
    """Handles every request to the API."""

    def initialize(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._count: Callable[[int, int], object] = lambda _status, _items: None
        """Notes status and accepted items of the request, if it has a key."""
        self._items = 0

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        # The marketplace's clock is that of the sandbox, which a test may step.
        self.set_header("Date", formatdate(self.settings_clock(), usegmt=True))
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("X-Request-Id", self.request.headers.get("X-Request-Id") or uuid4().hex)

    def settings_clock(self) -> float:
        sandbox = getattr(self, "_sandbox", None)
        return sandbox.clock() if sandbox else time.time()

    def compute_etag(self) -> None:
        return None

    async def prepare(self) -> None:
        self.set_default_headers()  # again, because the sandbox's clock is known only now
        now = self._sandbox.clock()
        key = self._key()
        if key is None:
            strangers = self._sandbox.strangers
            self._quota_headers(strangers, strangers.look(now), now)
            self._refuse(refusal("UNAUTHORIZED", "Missing or wrong API key"))
            return
        kind, argument = route(self.request.method or "", self.request.path)
        decision = self._sandbox.quotas[key.name].take(now)
        self._quota_headers(self._sandbox.quotas[key.name], decision, now)
        self._count = partial(self._sandbox.meters[key.name].note, now, kind)
        if not decision.allowed:
            self._too_many(decision.retry_after, now)
            return
        fault = self._sandbox.faults.pick(kind, key.name, lambda: self._references(kind, argument))
        try:
            await self._answer(key, kind, argument, fault, now)
        except _Dropped:
            self._count(0, 0)
            self._drop()
        except Refusal as refused:
            self._refuse(refused)

    def finish(self, chunk: Any = None) -> Any:
        """Count the request, then send the response: who has read it finds the request counted."""
        self._count(self.get_status(), self._items)
        return super().finish(chunk)

    def _key(self) -> Key | None:
        header = self.request.headers.get("Authorization", "")
        secret = header[7:] if header.startswith("Bearer ") else self.request.headers.get("X-API-Key", "")
        return self._sandbox.keys.get(secret)

    def _references(self, kind: str, argument: str) -> set[str]:
        """The references that this request writes."""
        if kind != "bulk":
            return {argument} if kind in ("put", "delete", "status") else set()
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            body = msgspec.json.decode(self.request.body)
            items = body.get("items") if isinstance(body, dict) else body
            return {str(item.get("externalReference")) for item in items or [] if isinstance(item, dict)}
        return set()

    # -- answering -------------------------------------------------------------------------------------------------

    async def _answer(self, key: Key, kind: str, argument: str, fault: Fault | None, now: float) -> None:
        what = fault.kind if fault else ""
        if what == "slow" and fault:
            await self._sandbox.faults.wait(fault.seconds)
        if self._before(what, fault, now):
            return
        status, body, items = self._endpoint(key, kind, argument, what)
        if what == "drop_after":
            raise _Dropped
        self._items = items
        if what == "garbage":
            body = b"\x00\xff not json at all"
        if fault and what == "answer_after":
            self._answer_by(fault)
            return
        if fault and what == "edit":
            status = fault.status or status
            body = msgspec.json.encode(edited(msgspec.json.decode(body), fault.edits, fault.rng))
            self._set_headers(fault)
        self.set_status(status)
        if what == "truncated":
            self._count(status, items)
            self._send_half(body)
        else:
            self.finish(body)

    def _before(self, what: str, fault: Fault | None, now: float) -> bool:
        """Apply a fault that keeps the request from having an effect; True if the response is sent."""
        if what == "drop_before":
            raise _Dropped
        if fault and (what == "429" or fault.code == "RATE_LIMITED"):
            self._too_many(fault.seconds, now)
            return True
        refusals = {
            "500": "UPSERT_FAILED", "400": "INVALID_BODY", "401": "UNAUTHORIZED", "error": fault.code if fault else "",
        }  # fmt: skip
        if what in refusals:
            code = refusals[what]
            raise Refusal(STATUS_OF[code], code, "Refused on request")
        if what in ("503_html", "html"):
            self.set_status(503 if what == "503_html" else 200)
            self.set_header("Content-Type", "text/html")
            self.finish(_PAGE)
        elif what == "redirect":
            self.set_status(302)
            self.set_header("Location", "http://127.0.0.1:9/elsewhere")
            self.finish()
        elif what == "data_not_list":
            self.finish(b'{"data": "x"}')
        elif what == "answer" and fault:
            self._answer_by(fault)
        return self._finished

    def _answer_by(self, fault: Fault) -> None:
        self.set_status(fault.status or 200, "On request")
        self.set_header("Content-Type", fault.content_type)
        self._set_headers(fault)
        body = fault.body.encode() if isinstance(fault.body, str) else msgspec.json.encode(fault.body)
        if fault.status == 204:
            self.clear_header("Content-Type")
            self.finish()
        else:
            self.finish(body)

    def _set_headers(self, fault: Fault) -> None:
        """Set the fault's headers; an empty value removes one."""
        for name, value in fault.headers.items():
            if value:
                self.set_header(name, value)
            else:
                self.clear_header(name)

    def _endpoint(self, key: Key, kind: str, argument: str, what: str) -> tuple[int, bytes, int]:
        api, query = self._sandbox.api, self._query()
        caller = Caller(key.name, frozenset(key.scopes), key.codes, self._sandbox.reach.get(key.name))
        api.skip_images = what == "skip_images"
        if kind == "list":
            return 200, api.list_listings(caller, query, argument or None), 0
        if kind == "locations":
            return 200, msgspec.json.encode(api.list_locations(caller, query)), 0
        status = 200
        if kind == "delete":
            document = api.delete(caller, argument)
        elif kind == "bulk":
            document = api.bulk(caller, self._json(), leave_out=what == "unknown_items")
        elif kind == "put":
            status, document = api.put(caller, argument, self._json())
        elif kind == "status":
            document = api.set_status(caller, argument, self._json())
        else:
            raise refusal("NOT_FOUND", "No such endpoint")
        self._sandbox.store.flush()
        data = document["data"]
        return status, msgspec.json.encode(document), data.get("successCount", 1)

    def _query(self) -> dict[str, str]:
        return {name: values[-1].decode(errors="replace") for name, values in self.request.query_arguments.items()}

    def _json(self) -> Any:
        try:
            return msgspec.json.decode(self.request.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise refusal("INVALID_JSON", "The body is not JSON") from None

    def _refuse(self, refused: Refusal) -> None:
        self.set_status(refused.status)
        self.finish(msgspec.json.encode(refused.document()))

    def _too_many(self, seconds: float, now: float) -> None:
        wait = max(1, math.ceil(seconds))
        self.set_status(429)
        self.set_header("Retry-After", str(wait))
        error = {"code": "RATE_LIMITED", "message": "Too many requests", "retryAt": stamp(now + wait)}
        self.finish(msgspec.json.encode({"error": error}))

    def _quota_headers(self, quota: Quota, decision: QuotaDecision, now: float) -> None:
        self.set_header("X-RateLimit-Limit", str(quota.limit or 1_000_000))
        self.set_header("X-RateLimit-Remaining", str(decision.remaining))
        self.set_header("X-RateLimit-Reset", str(math.ceil(max(now, decision.reset))))

    def _drop(self) -> None:
        self._finished = True
        stream = self.request.connection.detach() if hasattr(self.request.connection, "detach") else None  # type: ignore[union-attr]
        if stream is not None:
            stream.close()

    def _send_half(self, body: bytes) -> None:
        self._finished = True
        stream = self.request.connection.detach()  # type: ignore[union-attr]
        head = f"HTTP/1.1 {self.get_status()} OK\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self._headers.get_all())
        stream.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        asyncio.get_running_loop().call_later(0.05, stream.close)
