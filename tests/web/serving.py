"""The web server as it is served, for tests: the real server in a thread, with tokens of each role."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import requests

from okasie_tasks.services import Services
from okasie_tasks.web.server import Server
from tests.support import poll

TOKENS: Final = {
    name: f"token-of-{name}-0123456789abcdef0123456789abcdef" for name in ("reader", "pusher", "boss", "other")
}
CONFIG: Final = """
[web]
listen = "127.0.0.1:0"
[web.tokens.reader]
token = "env:TOKEN_READER"
role = "read"
accounts = ["dex"]
[web.tokens.pusher]
token = "env:TOKEN_PUSHER"
role = "push"
accounts = ["dex"]
[web.tokens.boss]
token = "env:TOKEN_BOSS"
role = "operate"
[web.tokens.other]
token = "env:TOKEN_OTHER"
role = "operate"
accounts = ["other"]

[accounts.other]
api_key = "env:OTHER_KEY"
base_url = "https://www.okasie.be/api/external/v1"
[accounts.other.source]
type = "csv"
url = "other.csv"
reference = "stock_no"
"""
ENVIRON: Final = {f"TOKEN_{name.upper()}": token for name, token in TOKENS.items()} | {"OTHER_KEY": "k" * 20}


class Site:
    """A client of the server. ``as_``: the name of a token; None for no token."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.session = requests.Session()

    def __call__(self, method: str, path: str, as_: str | None = "boss", **options: Any) -> requests.Response:
        headers = dict(options.pop("headers", {}))
        self.session.cookies.clear()
        if as_ is not None:
            headers["Authorization"] = f"Bearer {TOKENS.get(as_, as_)}"
        return self.session.request(
            method, f"{self.origin}{path}", headers=headers, timeout=120, allow_redirects=False, **options
        )

    def get(self, path: str, as_: str | None = "boss", **options: Any) -> requests.Response:
        return self("GET", f"/api/v1{path}", as_, **options)

    def post(self, path: str, body: object = None, as_: str | None = "boss", **options: Any) -> requests.Response:
        return self("POST", f"/api/v1{path}", as_, json=body, **options)


@contextmanager
def serving(services: Services, *, start_token: str = "") -> Iterator[tuple[Site, Server]]:
    """Serve until the block ends."""
    server = Server(services, start_token=start_token)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    poll(lambda: server.started, what="the server")
    host, port = server.bound
    site = Site(f"http://{host}:{port}")
    try:
        yield site, server
    finally:
        site.session.close()
        server.stop()
        thread.join(30)
