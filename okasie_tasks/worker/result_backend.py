"""Celery's Redis result backend, with fixes for four defects of 5.7. The first three lose a chord's part or body.

1. 5.7 stores a part's SUCCESS, then counts the part. If a child is killed in between, its parent sees SUCCESS and
   acknowledges the message, and the part is never counted. Here the part is counted first. If the child is killed in
   between, the message is delivered again, and 5.7 counts a part that returns twice only once.
2. 5.7 counts without a retry: one dropped connection turns a finished part into a failed chord. Here the connection
   itself retries every command of the backend, `RETRY_TRIES` times over about two minutes (see `RedisRetry`).
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

from typing import Any, Final

from celery import states

# The stubs are of an older Celery.
from celery.backends.redis import CHORD_PART_RETURN_LUA, RedisBackend, SentinelBackend  # type: ignore[attr-defined]
from kombu.utils.objects import cached_property

from okasie_tasks.store.connections import RedisRetry

_TAKES_CLAIM: Final = "if redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
_HAS_CLAIM: Final = (
    "if done_marker == claim_token or redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
)


class _Steady(RedisBackend):
    """The fixes, for both kinds of backend."""

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


class SteadyRedisBackend(_Steady):
    """``result_backend = "okasie_tasks.worker.result_backend:SteadyRedisBackend+redis://..."``, or rediss://, socket://."""


class SteadySentinelBackend(_Steady, SentinelBackend):
    """The same behind sentinels: ``sentinel://HOST:26379/0;sentinel://HOST2:26379/0``."""
