"""Connections that send nothing too late: for a process that stood still between its permit and its request.

A worker may be stopped (SIGSTOP, a frozen machine) just after it has looked whether it may send, and go on when others
have done its work and more. What it would send then is old and would stand. So the clock is looked at once more before
each piece of a request is given to the socket; a request whose body is missing has no effect.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

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
    """Mixed into urllib3's connections."""

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
