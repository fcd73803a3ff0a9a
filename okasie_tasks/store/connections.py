"""Connections to Redis: by an address, or to the master that the sentinels name.

A connection asks the sentinels when it connects. After a failover every old connection breaks: the master has died, is
a replica that refuses writes, or does not answer within the time-out. The retry then reaches the new master.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from okasie_tasks.core.sentinel_url import SentinelUrl, is_sentinel, parse_sentinel_url
from okasie_tasks.settings.redis_url import redis_urls

RETRY_TRIES: Final = 60
_STORE_TRIES: Final = 8
"""About 7 s. A task whose store is away for longer is retried."""
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
"""The longest socket time-out behind sentinels: they replace a master that does not answer for about as long."""

_Reply = TypeVar("_Reply")

_TRANSIENT: Final = (
    ConnectionError, TimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError, MasterDownError, OSError,
)  # fmt: skip
"""``OSError``: redis-py 6.4 makes a `ConnectionError` of a refused connection only after its retries."""


class RedisRetry(Retry):
    """Retries with growing waits. redis-py connects within a try, with its own retries; only the outer ones count.

    Each connection has its own copy, and one thread at a time uses a connection.
    """

    def __init__(self, tries: int = RETRY_TRIES) -> None:
        # A server that is full, loading or a replica accepts the command later, as one that is away does.
        super().__init__(ExponentialBackoff(cap=_LONGEST_WAIT_SECONDS, base=_FIRST_WAIT_SECONDS), tries, _TRANSIENT)
        self._trying = False

    def call_with_retry(self, do: Callable[[], _Reply], fail: Callable[..., Any], *args: Any, **kwargs: Any) -> _Reply:
        """As in redis-py, whose further arguments differ between versions."""
        if self._trying:
            once = Retry(NoBackoff(), 0, self._supported_errors)
            return once.call_with_retry(do, fail, *args, **kwargs)
        self._trying = True
        try:
            return super().call_with_retry(do, fail, *args, **kwargs)
        finally:
            self._trying = False


def connect(
    url: str, *, socket_timeout: float = 10, socket_connect_timeout: float = 5, tries: int = _STORE_TRIES
) -> redis.Redis:
    """Return a client for ``redis.url`` as configured. It connects with the first command.

    ``tries``: of a command, in seconds of waiting; only behind sentinels, where one failure is usual.
    """
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": socket_connect_timeout,
        "health_check_interval": 15,
    }
    if not is_sentinel(url):
        return redis.Redis.from_url(redis_urls(url).client, **options)
    address = parse_sentinel_url(url)
    options["socket_timeout"] = min(socket_timeout, ANSWER_SECONDS)
    client: redis.Redis = sentinels(address).master_for(
        address.master,
        db=address.database,
        retry=RedisRetry(tries),
        **options,
        **address.login,
        **({"ssl": True, **address.tls} if address.tls else {}),
    )
    return client


def sentinels(address: SentinelUrl) -> Any:
    """Return redis-py's group of sentinels. Their clients do not retry, as another sentinel can answer."""
    return Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs={**address.sentinel_options(), "retry": Retry(NoBackoff(), 0)}
    )
