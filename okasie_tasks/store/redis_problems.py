"""Names the cause of a Redis error: a full, loading or read-only server and a refused password are not "no answer"."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from redis import exceptions


class RedisProblem(NamedTuple):
    """What is wrong with the server, and how an operator fixes it."""

    message: str
    fix: str


_FULL: Final = RedisProblem(
    "Redis is full: it uses all of its maxmemory and refuses writes",
    "raise `maxmemory` on the server, or remove other data from it; work continues by itself when there is room",
)
_DISK: Final = RedisProblem(
    "Redis refuses writes because it cannot save to its disk, which may be full",
    "free disk space on the server; its log has the reason",
)
_READ_ONLY: Final = RedisProblem(
    "Redis is a read-only replica",
    "set redis.url to the primary, or to its sentinels: sentinel://HOST:26379/0?master=NAME",
)
_LOADING: Final = RedisProblem("Redis is still loading its data", "wait until the server has started")
_PASSWORD: Final = RedisProblem(
    "Redis refuses the login", "set user and password in redis.url: redis://USER:PASSWORD@HOST:PORT/0"
)
_RIGHTS: Final = RedisProblem(
    "Redis does not allow its user a command that is needed", "allow the user of redis.url all commands and keys"
)
_BUSY: Final = RedisProblem("Redis is busy with another program's script", "wait, or end it with `SCRIPT KILL`")
_NO_REPLICAS: Final = RedisProblem(
    "Redis refuses writes because it has too few replicas", "start its replicas, or lower `min-replicas-to-write`"
)
_STALE: Final = RedisProblem("Redis is a replica that has lost its primary", "set redis.url to the primary")
_DEMOTED: Final = RedisProblem("Redis has become a replica", "wait: the sentinels name the new primary")
_CLIENTS: Final = RedisProblem("Redis refuses more connections", "raise `maxclients` on the server")

_BY_CLASS: Final[tuple[tuple[type[Exception], RedisProblem], ...]] = (
    (exceptions.OutOfMemoryError, _FULL),
    (exceptions.ReadOnlyError, _READ_ONLY),
    (exceptions.BusyLoadingError, _LOADING),
    (exceptions.AuthenticationError, _PASSWORD),
    (exceptions.AuthenticationWrongNumberOfArgsError, _PASSWORD),
    (exceptions.NoPermissionError, _RIGHTS),
    (exceptions.MasterDownError, _STALE),
    (exceptions.MaxConnectionsError, _CLIENTS),
)
_BY_WORD: Final = {
    "OOM": _FULL,
    "MISCONF": _DISK,
    "READONLY": _READ_ONLY,
    "LOADING": _LOADING,
    "NOAUTH": _PASSWORD,
    "WRONGPASS": _PASSWORD,
    "NOPERM": _RIGHTS,
    "BUSY": _BUSY,
    "NOREPLICAS": _NO_REPLICAS,
    "MASTERDOWN": _STALE,
    "UNBLOCKED": _DEMOTED,
    "max number of clients": _CLIENTS,
}
_PASSING: Final = (_FULL, _DISK, _READ_ONLY, _LOADING, _BUSY, _NO_REPLICAS, _STALE, _DEMOTED)
_WORDS: Final = re.compile("|".join(rf"\b{word}\b" for word in _BY_WORD))


def redis_problem(error: BaseException) -> RedisProblem:
    """Return what an error of redis-py means, or an error that was raised from it."""
    cause: BaseException | None = error
    while cause is not None:
        for kind, problem in _BY_CLASS:
            if isinstance(cause, kind):
                return problem
        # The server's own word begins its answer. In a pipeline or a transaction, other text precedes it.
        if isinstance(cause, exceptions.ResponseError) and (word := _WORDS.search(str(cause))):
            return _BY_WORD[word[0]]
        if "max number of clients" in str(cause):
            return _CLIENTS
        cause = cause.__cause__
    return RedisProblem(
        f"Redis does not answer ({type(error).__name__})", "start the server that redis.url names, or correct redis.url"
    )


def is_passing(error: BaseException) -> bool:
    """Return whether the server is away, full, loading or a replica, as during a failover: a retry will succeed.

    Otherwise the error is a defect or a refused login.
    """
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        return True
    return isinstance(error, exceptions.ResponseError) and redis_problem(error) in _PASSING
