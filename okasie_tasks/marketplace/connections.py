"""A pool of connections to one marketplace, each used by one request at a time.

There is not one connection per thread: a worker with many threads and accounts would keep their product open.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class PooledConnection:
    """A connection, with the `requests` adapter that uses it."""

    def __init__(self, base_url: str, user_agent: str, connect_seconds: float) -> None:
        self._base_url, self._connect_seconds = base_url, connect_seconds
        self._pool: Any = None
        self._headers = {**requests.utils.default_headers(), "User-Agent": user_agent}
        self._proxies = requests.utils.get_environ_proxies(base_url)
        self._adapter = TimelyAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, timeout: tuple[float, float]
    ) -> requests.Response:
        """Send one request. The caller reads the response's body.

        ``timeout``: seconds to connect, and seconds between two reads. There is no session: its redirects, cookies,
        hooks and a ``.netrc`` that replaces the key are unwanted. It would add a fifth to the time of a call (measured
        with a gzipped page of 120 KB).
        """
        request = requests.Request(method, url, headers={**self._headers, **headers}, data=body).prepare()
        return self._adapter.send(request, stream=True, timeout=timeout, verify=True, proxies=self._proxies)

    def preconnect(self) -> None:
        """Open the connection, so that no permit expires while it is opened.

        Failures are ignored, changes of urllib3's private API among them: the request meets and reports them.
        """
        if self._proxies:
            return
        with contextlib.suppress(Exception):
            if self._pool is None:
                request = requests.Request("GET", self._base_url).prepare()
                self._pool = self._adapter.get_connection_with_tls_context(request, verify=True)
            connection = self._pool._get_conn(timeout=0)
            try:
                if connection.is_closed:
                    connection.timeout = self._connect_seconds
                    connection.connect()
            finally:
                self._pool._put_conn(connection)

    def close(self) -> None:
        self._adapter.close()


class Connections:
    """As many connections as this process ever used at the same time. The last one released is acquired first."""

    def __init__(self, base_url: str, user_agent: str, *, connect_seconds: float) -> None:
        self._arguments = (base_url, user_agent, connect_seconds)
        self._idle: list[PooledConnection] = []
        self._pid = os.getpid()

    def acquire(self) -> PooledConnection:
        """A connection for exclusive use until `release`. A child process uses none of its parent's."""
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return PooledConnection(*self._arguments)

    def release(self, connection: PooledConnection) -> None:
        self._idle.append(connection)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()


LATE_SECONDS: Final = 2.0
"""From the last check of the lease to the last byte sent. With the time-out of one write it is shorter than a lease."""

_timing = threading.local()


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Let this thread's requests fail in the block if they are not sent within ``seconds``; see `was_late`."""
    _timing.until, _timing.late = time.monotonic() + seconds, False
    try:
        yield
    finally:
        _timing.until = None


def was_late() -> bool:
    """Whether this thread's last request was not sent completely because its time had run out."""
    return bool(getattr(_timing, "late", False))


class _Timely:
    """A mixin for urllib3's connections that sends nothing once the time of `in_time` has run out.

    A worker may be stopped (SIGSTOP, a frozen machine) just after it has checked whether it may send. By the time it
    continues, other workers may have sent newer content, which its request would replace. So the clock is read again
    before each piece of a request is passed to the socket. A request without its complete body has no effect.
    """

    def send(self, data: Any) -> None:
        until = getattr(_timing, "until", None)
        if until is not None and time.monotonic() > until:
            _timing.late = True
            raise TimeoutError("the time to send has run out")
        super().send(data)  # type: ignore[misc]


class _Http(_Timely, HTTPConnection):
    pass


class _Https(_Timely, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


_POOLS: Final = {"http": _HttpPool, "https": _HttpsPool}


class TimelyAdapter(HTTPAdapter):
    """The adapter of `requests`, with such connections, through a proxy as well."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def never_connected(error: requests.RequestException) -> bool:
    """Whether the error came before any byte of the request was sent: connection refused, or unknown host."""
    cause: BaseException | None = error
    names: list[str] = []
    while cause is not None and len(names) < 10:
        names.append(type(cause).__name__)
        reason = getattr(cause, "reason", None)
        inner = cause.args[0] if cause.args else None
        cause = next((c for c in (cause.__cause__, reason, inner) if isinstance(c, BaseException)), None)
    return any(name in ("NewConnectionError", "NameResolutionError", "ConnectionRefusedError") for name in names)


def plain(error: requests.RequestException, timeout: tuple[float, float]) -> str:
    """The error in one line, without URLs, addresses or passwords of proxies."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout[0]:g} s"
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout[1]:g} s"
    if never_connected(error):
        return "cannot connect"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off before its end"
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return "the answer cannot be decompressed, or is larger than 64 MB"
    return "the connection was lost before the answer came"
