"""The sandbox as an HTTP server on tornado. It has one thread, so every request is atomic between its waits."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import msgspec
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from okasie_tasks.sandbox import admin
from okasie_tasks.sandbox.api import Api
from okasie_tasks.sandbox.edits import edited
from okasie_tasks.sandbox.faults import Fault, Faults
from okasie_tasks.sandbox.limits import Meter, Quota, QuotaDecision, Window
from okasie_tasks.sandbox.rendering import stamp
from okasie_tasks.sandbox.routing import ROOT, SCOPES, Caller, Refusal, route
from okasie_tasks.sandbox.store import Store

_START_SECONDS: Final = 60.0
_PAGE: Final = b"<!doctype html><html><head><title>Error</title></head><body><h1>Service Unavailable</h1></body></html>"


class Key(msgspec.Struct, frozen=True):
    """An API key. ``codes``: the location codes it may write to; None: any, and unknown ones are created."""

    secret: str
    name: str = "sandbox"
    scopes: tuple[str, ...] = SCOPES
    codes: tuple[str, ...] | None = None


class Sandbox:
    """An Okasie API. As a context manager it runs in a separate thread, for tests::

    with Sandbox([Key("secret")], limit=120) as sandbox:
        requests.get(f"{sandbox.base_url}/listings", headers={"Authorization": "Bearer secret"})
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        limit: int = 120,
        window: Window = "sliding",
        burst_per_second: int = 5,
        data: Path | None = None,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.clock = clock
        # Bound first, so that a port in use raises in the caller's thread and before any file is opened.
        self._sockets = bind_sockets(port, host)
        self.store = Store(data)
        self.api = Api(self.store, clock)
        self.faults = Faults()
        self.keys: dict[str, Key] = {}
        self.quotas: dict[str, Quota] = {}
        self.meters: dict[str, Meter] = {}
        self._quota = partial(Quota, limit, window, burst_per_second)
        self.reach: dict[str, tuple[str, ...]] = {}
        """Name of a key -> the location codes it is limited to. Other keys reach all of their partner's dealers."""
        for key in keys:
            self.add_key(key)
        self.port: int = self._sockets[0].getsockname()[1]
        self.base_url = f"http://{host}:{self.port}{ROOT}"
        self.admin_url = f"http://{host}:{self.port}/_sandbox"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def add_key(self, key: Key) -> None:
        """Accept this key, and create its dealers. Does nothing for one that it has."""
        if key.secret in self.keys:
            return
        for index, code in enumerate(key.codes or ()):
            head = self.store.by_code.get((key.name, (key.codes or ("",))[0].casefold()))
            self.store.add_dealer(key.name, code, parent=head.id if index and head else None)
        self.quotas[key.name], self.meters[key.name] = self._quota(), Meter()
        self.keys[key.secret] = key

    # -- running ---------------------------------------------------------------------------------------------------

    async def serve(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop`. Calls ``on_ready`` with the base URL once it accepts requests."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        routes: list[Any] = [(r"/_sandbox/(.*)", admin.AdminHandler, {"sandbox": self}),
                             (r".*", ApiHandler, {"sandbox": self})]  # fmt: skip
        server = HTTPServer(web.Application(routes, log_function=lambda _: None), max_buffer_size=64 * 1024 * 1024)
        server.add_sockets(self._sockets)
        if on_ready:
            on_ready(self.base_url)
        await self._stop.wait()
        server.stop()
        await server.close_all_connections()
        self.store.close()

    def stop(self) -> None:
        """End `serve`, from any thread."""
        if self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread:
            self._thread.join(10)
            self._thread = None

    def __enter__(self) -> Sandbox:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.serve(lambda _: ready.set())), name="sandbox", daemon=True
        )
        self._thread.start()
        if not ready.wait(_START_SECONDS):
            raise RuntimeError("the sandbox did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(sandbox: Sandbox, on_ready: Callable[[str], None]) -> None:
    """Serve in this process until SIGINT or SIGTERM."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, sandbox.stop)
        await sandbox.serve(on_ready)

    asyncio.run(main())


class _Dropped(Exception):
    """The connection is to be closed without a response."""


class ApiHandler(web.RequestHandler):
    """Handles every request to the API: key, quota, fault, endpoint, response."""

    def initialize(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

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
            self._refuse(Refusal(401, "UNAUTHORIZED", "Missing or wrong API key"))
            return
        kind, argument = route(self.request.method or "", self.request.path)
        decision = self._sandbox.quotas[key.name].take(now)
        self._quota_headers(self._sandbox.quotas[key.name], decision, now)
        meter = self._sandbox.meters[key.name]
        if not decision.allowed:
            meter.note(now, kind, 429, 0)
            self._too_many(decision.retry_after, now)
            return
        fault = self._sandbox.faults.pick(kind, key.name, lambda: self._references(kind, argument))
        try:
            items = await self._answer(key, kind, argument, fault, now)
        except _Dropped:
            meter.note(now, kind, 0, 0)
            self._drop()
            return
        except Refusal as refused:
            self._refuse(refused)
            items = 0
        meter.note(now, kind, self.get_status(), items)

    def _key(self) -> Key | None:
        header = self.request.headers.get("Authorization", "")
        secret = header[7:] if header.startswith("Bearer ") else self.request.headers.get("X-API-Key", "")
        return self._sandbox.keys.get(secret)

    def _references(self, kind: str, argument: str) -> set[str]:
        """The references that this request writes."""
        if kind != "bulk":
            return {unquote(argument)} if kind in ("put", "delete", "status") else set()
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            body = msgspec.json.decode(self.request.body)
            items = body.get("items") if isinstance(body, dict) else body
            return {str(item.get("externalReference")) for item in items or [] if isinstance(item, dict)}
        return set()

    # -- answering -------------------------------------------------------------------------------------------------

    async def _answer(self, key: Key, kind: str, argument: str, fault: Fault | None, now: float) -> int:
        what = fault.kind if fault else ""
        if what == "slow" and fault:
            await self._sandbox.faults.wait(fault.seconds)
        if self._before(what, fault, now):
            return 0
        status, body, items = self._endpoint(key, kind, argument, what)
        if what == "drop_after":
            raise _Dropped
        if what == "garbage":
            body = b"\x00\xff not json at all"
        if fault and what == "answer_after":
            self._answer_by(fault)
            return items
        if fault and what == "edit":
            status = fault.status or status
            body = msgspec.json.encode(edited(msgspec.json.decode(body), fault.edits, fault.rng))
            self._set_headers(fault)
        self.set_status(status)
        if what == "truncated":
            self._send_half(body)
            return items
        self.finish(body)
        return items

    def _before(self, what: str, fault: Fault | None, now: float) -> bool:
        """Apply a fault that keeps the request from having an effect; True if the response is sent."""
        if what == "drop_before":
            raise _Dropped
        if what == "429" and fault:
            self._too_many(fault.seconds, now)
            return True
        refusals = {
            "500": Refusal(500, "UPSERT_FAILED", "Something went wrong"),
            "400": Refusal(400, "INVALID_BODY", "Refused on request"),
            "401": Refusal(401, "UNAUTHORIZED", "Refused on request"),
        }
        if what in refusals:
            raise refusals[what]
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
        api, query = self._sandbox.api, {n: v[-1].decode() for n, v in self.request.query_arguments.items()}
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
            raise Refusal(404, "NOT_FOUND", "No such endpoint")
        self._sandbox.store.flush()
        data = document["data"]
        return status, msgspec.json.encode(document), data.get("successCount", 1)

    def _json(self) -> Any:
        try:
            return msgspec.json.decode(self.request.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refusal(400, "INVALID_JSON", "The body is not JSON") from None

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
