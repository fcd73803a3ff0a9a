"""The open connections to one marketplace, each lent to one request at a time.

Not one for each thread: a worker of many threads that serves many accounts would hold their product open.
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
    """One connection, with what `requests` needs to use it."""

    def __init__(self, base_url: str, user_agent: str, connect_seconds: float) -> None:
        self._base_url, self._connect_seconds = base_url, connect_seconds
        self._pool: Any = None
        self._headers = {**requests.utils.default_headers(), "User-Agent": user_agent}
        self._proxies = requests.utils.get_environ_proxies(base_url)
        self._adapter = TimelyAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, timeout: tuple[float, float]
    ) -> requests.Response:
        """One request; its answer's body is still to be read. ``timeout``: seconds to connect, and between two reads.

        Without a session: what it does around this (redirects, cookies, a ``.netrc`` that replaces the key, hooks) is
        unwanted here, and costs a fifth as much again (measured with a page of 120 KB, gzipped).
        """
        request = requests.Request(method, url, headers={**self._headers, **headers}, data=body).prepare()
        return self._adapter.send(request, stream=True, timeout=timeout, verify=True, proxies=self._proxies)

    def preconnect(self) -> None:
        """Open the connection, so that a permit is not spent on waiting for one.

        A failure is not told here: the request that follows meets it again and reports it. What urllib3 keeps to
        itself is used with care: without it the request opens its own connection, a little later.
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
    """As many as were ever in use at the same time in this process; the last one used is lent first."""

    def __init__(self, base_url: str, user_agent: str, *, connect_seconds: float) -> None:
        self._made_of = (base_url, user_agent, connect_seconds)
        self._idle: list[PooledConnection] = []
        self._pid = os.getpid()

    def acquire(self) -> PooledConnection:
        """A connection for the caller alone, until `release`. A child process has none of its parent's."""
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return PooledConnection(*self._made_of)

    def release(self, line: PooledConnection) -> None:
        self._idle.append(line)

    def close(self) -> None:
        """Close what is not in use."""
        while self._idle:
            self._idle.pop().close()


LATE_SECONDS: Final = 2.0
"""From the last look to the last byte given away. With the time-out of one write it is shorter than any lease."""

_timing = threading.local()


@contextlib.contextmanager
def in_time(seconds: float = LATE_SECONDS) -> Iterator[None]:
    """Within the block this thread's requests must be sent within ``seconds``; see `was_late`."""
    _timing.until, _timing.late = time.monotonic() + seconds, False
    try:
        yield
    finally:
        _timing.until = None


def was_late() -> bool:
    """Whether this thread's last request was not sent, or not to its end, because it was too late."""
    return bool(getattr(_timing, "late", False))


class _Timely:
    """Mixed into urllib3's connections: they send nothing once it is too late.

    A worker may be stopped (SIGSTOP, a frozen machine) just after it has checked whether it may send, and continue when
    others have done its work and more. What it would send then is old and would stand. So the clock is read once more
    before each piece of a request is given to the socket; a request whose body is missing has no effect.
    """

    def send(self, data: Any) -> None:
        until = getattr(_timing, "until", None)
        if until is not None and time.monotonic() > until:
            _timing.late = True
            raise TimeoutError("too late to be sent")
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
    """What requests mounts, with such connections; through a proxy too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
