"""A real web server, a real mail server, and a fleet without processes that sends alerts to them."""

from __future__ import annotations

import contextlib
import json
import threading
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from okasie_tasks.alerting.notifier import AlertContext, deliver, detect
from okasie_tasks.local.fleet import reserved_port
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.store.layout import check_layout

PASSWORD = "CANARY-mail-77d1"
TOKEN = "CANARY-hook-77d1"


# -- real servers --------------------------------------------------------------------------------------------------


class Hook:
    """A web server on loopback that keeps the requests it gets, and answers with a given status."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status, self.headers = 204, dict[str, str]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(json.loads(body))
                self.send_response(hook.status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/{TOKEN}"

    def __enter__(self) -> Hook:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Post:
    """A mail server on loopback that asks for a login."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self._reserved = contextlib.ExitStack()
        self.port = self._reserved.enter_context(reserved_port(8_100))
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, auth_required=True, auth_require_tls=False,
            authenticator=lambda *args: AuthResult(success=args[4].password == PASSWORD.encode(), handled=False),
        )  # fmt: skip

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        message = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        self.got.append(message)
        return "250 OK"

    def __enter__(self) -> Post:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
        self._reserved.close()


# -- a fleet -------------------------------------------------------------------------------------------------------


CONFIG = """
[redis]
url = "{redis}"
[accounts.dex]
api_key = "CANARY-key-77d1"
base_url = "http://127.0.0.1:1"
[accounts.dex.source]
url = "feed.csv"
reference = "r"
"""


class Senders:
    """The alert contexts of some control workers, over one Redis."""

    def __init__(self, folder: Path, redis_url: str, alerts: str, **environ: str) -> None:
        self.config = folder / "okasie.toml"
        self.config.write_text(CONFIG.format(redis=redis_url) + alerts)
        self._environ = environ
        self._services: list[Services] = []
        self.services = self.worker()
        check_layout(self.services.redis, prefix="okasie:", accounts=["dex"])  # as workers do when they start
        self.ctx = self.services.alerting()
        self.runs = self.services.runs

    def worker(self) -> Services:
        services = Services(load_settings(self.config, self._environ))
        self._services.append(services)
        return services

    def ended(self, state: str, *, account: str = "dex", **facts: str) -> str:
        """A run that ended in this state; returns its id."""
        name, _ = self.runs.request(account, "full")
        assert self.runs.begin(account) == name
        self.runs.note(name, noted=1, **facts)
        run = self.runs.get(name)
        assert run is not None
        self.runs.end(run, state)
        return name

    def tick(self, ctx: AlertContext | None = None) -> int:
        """Detect once, and send; returns the number of messages."""
        self.expire_detection()
        detect(ctx or self.ctx)
        return deliver(ctx or self.ctx)

    def expire_detection(self) -> None:
        """Let the claims of detecting expire, as between two ticks of a worker."""
        self.services.redis.delete("okasie:alerts:look:ended", "okasie:alerts:look:stale")

    def passes(self, seconds: float) -> None:
        """Let time pass for the queue: move every time that it stores back."""
        client, base = self.services.redis, "okasie:alerts:"
        for name in ("due", "hour"):
            for member, ms in client.zrange(base + name, 0, -1, withscores=True):
                client.zadd(base + name, {member: ms - seconds * 1000})
        for slot, value in client.hgetall(base + "last").items():
            ms, key = value.split(b" ", 1)
            client.hset(base + "last", slot, f"{int(ms) - int(seconds * 1000)} ".encode() + key)

    def close(self) -> None:
        for services in self._services:
            services.redis.close()
