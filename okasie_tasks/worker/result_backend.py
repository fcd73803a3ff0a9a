"""Celery's Redis result backend without the holes of 5.7 through which a chord's part, and so its body, is lost.

1. 5.7 stores a part's SUCCESS, then counts the part. A child killed in between leaves a message that its parent
   acknowledges, because it sees SUCCESS: nobody is left to count. Here the part is counted first. What is killed
   in between comes again, and 5.7 counts a part that comes twice only once.
2. 5.7 counts without a second try: one dropped connection turns a part that was done into a failed chord. Here every
   command of the backend is tried again by the connection itself, `PATIENCE_TRIES` times over about two minutes.
3. An answer may be lost after the command was executed. Of all commands only the count does not bear repeating: the
   body is published by whoever takes the claim, and the first try took it. Here the same token takes it twice.
4. Whoever sends a task with a result subscribes to it, and whoever sends a group keeps its results until they are
   ready; workers with threads too, which send every part and wait for none: a channel more in Redis and in the worker
   for each, for ever. Here only who waits subscribes, and nothing is kept of what is only sent.

Only for flat chords whose results nobody joins: in a header that holds groups the last part would wait for its own
result. The tests of ``tests/celery`` read the methods that this relies on, so that the next minor of Celery is read
before it is used.
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

PATIENCE_TRIES: Final = 60
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0

_TAKES_CLAIM: Final = "if redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
_HAS_CLAIM: Final = (
    "if done_marker == claim_token or redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
)

_Answer = TypeVar("_Answer")

_PASSING: Final = (ConnectionError, TimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError)


class RedisRetry(Retry):
    """Tries again with growing waits. redis-py connects within a try, with tries of its own: only the outer count.

    A connection has a copy of this for itself, and one thread at a time uses a connection.
    """

    def __init__(self, tries: int = PATIENCE_TRIES) -> None:
        # A server that is full or loading takes it later, as one that is away does.
        super().__init__(ExponentialBackoff(cap=_LONGEST_WAIT_SECONDS, base=_FIRST_WAIT_SECONDS), tries, _PASSING)
        self._trying = False

    def call_with_retry(
        self, do: Callable[[], _Answer], fail: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> _Answer:
        """As redis-py's, whose further arguments differ between its versions."""
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
        """As upstream's, with the two steps the other way round."""
        if request and request.chord:
            self.on_chord_part_return(request, state, result)
        if store_result and not (request and request.ignore_result):
            self.store_result(task_id, result, state, request=request)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing. Upstream's subscribes to the result, in case its sender waits for it; see `wait_for_pending`."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """Nothing either: a group asks for it in each process that builds one, and is kept there until it is done."""
        return result

    def wait_for_pending(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """What ``result.get`` ends in: now somebody waits."""
        super().add_pending_result(result)
        return super().wait_for_pending(result, *args, **kwargs)

    @cached_property
    def _chord_part_return_script(self) -> Any:
        return self.client.register_script(CHORD_PART_RETURN_LUA.replace(_TAKES_CLAIM, _HAS_CLAIM))
