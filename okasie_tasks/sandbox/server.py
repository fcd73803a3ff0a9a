"""The sandbox as an HTTP server on tornado. It has one thread, so every request is atomic between its waits."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from okasie_tasks.sandbox import admin
from okasie_tasks.sandbox.api import Api
from okasie_tasks.sandbox.faults import Faults
from okasie_tasks.sandbox.handler import ApiHandler
from okasie_tasks.sandbox.limits import Meter, Quota, Window
from okasie_tasks.sandbox.routing import ROOT, Key
from okasie_tasks.sandbox.store import Store

_START_SECONDS: Final = 60.0


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
        self.strangers = Quota(limit, window, burst_per_second)
        """The quota that a request without a valid key is shown; it costs none."""
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
