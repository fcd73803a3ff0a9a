"""Celery's Redis result backend, with fixes for four defects of 5.7. The first three lose a chord's part or body.

1. 5.7 stores a part's SUCCESS, then counts the part. If a child is killed in between, its parent sees SUCCESS and
   acknowledges the message, and the part is never counted. Here the part is counted first. If the child is killed in
   between, the message is delivered again, and 5.7 counts a part that returns twice only once.
2. 5.7 counts without a retry: one dropped connection turns a finished part into a failed chord. Here the connection
   itself retries every command of the backend, `RETRY_TRIES` times over about two minutes.
3. A reply may be lost after the command was executed. Of all commands only the count cannot be repeated: the process
   that takes the claim publishes the body, and the first try took it. Here the same token can take it twice.
4. A process that sends a task with a result subscribes to it, and one that sends a group keeps its results until they
   are ready. Workers with threads send every part and wait for none, so channels would pile up in Redis and in the
   worker. Here a process subscribes only when it waits, and keeps no results of what it only sends.

Use it only for flat chords whose results are not joined: in a header with groups, the last part would wait for its own
result. The tests of ``tests/celery`` check the source of the methods that this module relies on, so that each new minor
version of Celery is reviewed before use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from celery import states

# The stubs are of an older Celery.
from celery.backends.redis import CHORD_PART_RETURN_LUA, RedisBackend  # type: ignore[attr-defined]
from kombu.utils.objects import cached_property
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, TimeoutError
from redis.retry import Retry

RETRY_TRIES: Final = 60
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0

_TAKES_CLAIM: Final = "if redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
_HAS_CLAIM: Final = (
    "if done_marker == claim_token or redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
)

_Reply = TypeVar("_Reply")

_TRANSIENT: Final = (ConnectionError, TimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError)


class RedisRetry(Retry):
    """Retries with growing waits. redis-py connects within a try, with its own retries; only the outer ones count.

    Each connection has its own copy, and one thread at a time uses a connection.
    """

    def __init__(self, tries: int = RETRY_TRIES) -> None:
        # A server that is full or loading accepts the command later, as one that is away does.
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


class SteadyRedisBackend(RedisBackend):
    """``result_backend = "okasie_tasks.worker.result_backend:SteadyRedisBackend+redis://..."``, or rediss://, socket://."""

    connparams: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connparams["retry"] = RedisRetry()

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """As upstream, but the part is counted before its result is stored."""
        if request and request.chord:
            self.on_chord_part_return(request, state, result)
        if store_result and not (request and request.ignore_result):
            self.store_result(task_id, result, state, request=request)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing. Upstream subscribes to the result, in case the sender waits for it; see `wait_for_pending`."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """Do nothing. Every process that builds a group calls this, and would keep the result until it is ready."""
        return result

    def wait_for_pending(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for a result, on behalf of ``result.get``: subscribe to it first."""
        super().add_pending_result(result)
        return super().wait_for_pending(result, *args, **kwargs)

    @cached_property
    def _chord_part_return_script(self) -> Any:
        return self.client.register_script(CHORD_PART_RETURN_LUA.replace(_TAKES_CLAIM, _HAS_CLAIM))
