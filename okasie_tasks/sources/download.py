"""GET requests for feeds, each with a deadline for the whole response, headers included."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from okasie_tasks.sources.transports.deadline import SocketDeadline

_TIMEOUT_SECONDS: Final = (10.0, 60.0)
_downloading = threading.local()


@contextlib.contextmanager
def get(url: str, *, seconds: float, **options: Any) -> Iterator[requests.Response]:
    """Send a GET request; the response is streamed. ``options``: those of `requests.get`.

    After ``seconds`` a read of the headers or of the body ends as if the server had closed the connection. The caller
    compares the time.
    """
    try:
        with SocketDeadline(seconds) as _downloading.deadline, requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter())
            headers = {"Accept-Encoding": "identity"} | options.pop("headers", {})
            with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS, **options) as response:
                yield response
    finally:
        del _downloading.deadline


class _Noted:
    """A mixin for urllib3's connections that notes the sockets of this thread's download."""

    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        _downloading.deadline.add(self.sock)


class _Http(_Noted, HTTPConnection):
    pass


class _Https(_Noted, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _Adapter(HTTPAdapter):
    """The adapter of `requests`, with such connections, through a proxy as well."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager
