"""The web server as it is served, in a thread of the test, and a browser without JavaScript."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn
from fastapi import FastAPI

from tests.support import poll


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve the application on a free port; yields its address."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        poll(lambda: server.started, what="the server")
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


class Browser:
    """Keeps cookies, follows no redirect, and sends a path as it is written."""

    def __init__(self, url: str) -> None:
        self._url, self._session = url, requests.Session()

    @property
    def cookies(self) -> Any:
        return self._session.cookies

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._send("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self._send("POST", path, **options)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        prepared = self._session.prepare_request(requests.Request(method, f"{self._url}/", **options))
        prepared.url = f"{self._url}{path}"
        return self._session.send(prepared, allow_redirects=False, timeout=60)
