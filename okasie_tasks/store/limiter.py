"""The rate limiter: one bucket per account in Redis, shared by all workers.

A *held log*: each permit is stamped with the latest moment at which the marketplace can have counted its request (the
response's arrival, else the call's total time-out). A new one is granted only if fewer than the limit lie within
60.05 s. So no network delay can put more than the limit into any 60 s, whatever kind of window the server uses. Bulk
requests are *paced* evenly below the limit; a second, short log keeps the burst rule. A waiter holds a *ticket*:
a place in the queue that reserves nothing, so a dead worker uses no quota and urgent requests go first.

Keys, all in one hash slot (``{prefix}rl:{bucket}:``): ``l`` log, ``s`` burst log, ``q`` queue, ``d`` promised returns,
``w`` since when tickets wait, ``h`` state: ``now`` (never falls), ``sl`` (the server's limit), ``lc``/``lv`` (a
higher limit under watch), ``tat`` (pace), ``lp``/``lt`` (the latest permit, and the pace before it),
``pause``/``pr`` (its end and reason), ``ok`` (0 or absent: probing with one request at a time), ``pt``/``pp`` (moment
and permit of the probe under way), ``lh`` (mean hold, ms), ``st`` (urgent grants in a row while bulk waits),
``cf``/``co`` (failures in a row, openings of the breaker), ``fx``/``fxt`` and ``hx``/``hxt`` (caution after refusals
that nothing explained, and since when: requests fewer, pace slower), ``fo`` (when another client was last seen on the
key), ``m`` (the master's replication id), ``seq``.

`okasie_tasks.core.quota` has the invariants and the arithmetic of the status. ``tests/limiter_model.py`` is a reference
model of the whole in plain Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, cast
from uuid import uuid4

import redis

from okasie_tasks.core.quota import BucketState, LimiterStatus, Limits
from okasie_tasks.errors import LimiterUnavailable
from okasie_tasks.ports import Feedback, Lane, Permit, RequestLog, Wait
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.store.scripts import Call, Steps, script

_RETRY_SECONDS: Final = 2.0
_LANES: Final = {"urgent": 0, "bulk": 1}
_BULK: Final = 2**40


class RedisLimiter:
    """One account's bucket. ``clock`` (ms) stands in for Redis TIME in simulations only.

    ``count``: what ``request_count.lua`` is called with for a request, in the step that reports its response.

    Every method raises `LimiterUnavailable` when Redis does not answer: closed, never open.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str,
        bucket: str,
        per_minute: int = 120,
        burst_per_second: int = 5,
        adapt_limit: bool = False,
        clock: Callable[[], int] | None = None,
        count: Callable[[RequestLog], Call] | None = None,
    ) -> None:
        self._redis = client
        base = f"{prefix}rl:{{{bucket}}}:"
        self._log, self._second, self._queue, self._due, self._state, self._asked = (base + name for name in "lsqdhw")
        self._limits = Limits(per_minute, burst_per_second, adapt_limit)
        self._clock = clock
        steps = ("acquire", "report", "cancel")
        self._acquire, self._report, self._cancel = (script(client, f"limiter_{step}") for step in steps)
        self._count, self._report_and_count = count, Steps(client, "limiter_report", "request_count")

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        """Return a permit, or how long to wait before retrying with the same ticket (at most 12 s).

        ``reserve_seconds`` is the total time-out of the call the permit is for. A permit may have to be kept for up to
        20 ms (``Permit.after_seconds``) before the request is sent.
        """
        reserve = round(reserve_seconds * 1000)
        permit = f"{ticket}/{uuid4().hex[:12]}.{reserve}"
        per_minute, burst, adapt = self._limits
        answer = self._run(
            self._acquire,
            [self._log, self._second, self._queue, self._due, self._state, self._asked],
            [ticket, permit, _LANES[lane], reserve, per_minute, burst, "1" if adapt else "", self._now()],
        )
        if answer[0] == 0:
            return Permit(permit, after_seconds=answer[1] / 1000, waited_seconds=answer[2] / 1000)
        return Wait(answer[1] / 1000, answer[2].decode())

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None:
        """Report the response to a permitted request. Idempotent, but for the count of the ``request``."""
        reserve = permit.id.rsplit(".", 1)[1]
        retry_ms = "" if feedback.retry_after is None else math.ceil(feedback.retry_after * 1000)
        headers = ["" if value is None else value for value in (feedback.limit, feedback.remaining)]
        per_minute, _, adapt = self._limits
        status = 503 if feedback.failed else feedback.status
        keys = [self._log, self._second, self._state]
        args = [permit.id, status, *headers, retry_ms, reserve, per_minute, "1" if adapt else "", self._now()]
        if request is None or self._count is None:
            self._run(self._report, keys, args)
            return
        try:
            self._report_and_count((keys, args), self._count(request))
        except redis.RedisError as error:
            raise _unavailable(error) from error

    def cancel(self, permit: Permit) -> None:
        """Return a permit for which no byte was sent."""
        self._leave(permit.id, "")

    def drop(self, ticket: str) -> None:
        """Leave the queue."""
        self._leave("", ticket)

    def status(self) -> LimiterStatus:
        """Return the bucket's status; changes nothing."""
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.zrange(self._log, 0, -1, withscores=True)
            pipe.zcount(self._queue, "-inf", f"({_BULK}")
            pipe.zcount(self._queue, _BULK, "+inf")
            pipe.hgetall(self._state)
            (seconds, micros), log, urgent, bulk, state = cast("Any", pipe.execute())
        except redis.RedisError as error:
            raise _unavailable(error) from error
        bucket = BucketState.read({name.decode(): value.decode() for name, value in state.items()})
        stamps = [(permit.decode(), int(stamp)) for permit, stamp in log]
        now_ms = int(self._now() or seconds * 1000 + micros // 1000)
        return bucket.summary(now_ms, self._limits, stamps, urgent=urgent, bulk=bulk)

    def _leave(self, permit: str, ticket: str) -> None:
        keys = [self._log, self._second, self._queue, self._due, self._state, self._asked]
        self._run(self._cancel, keys, [permit, ticket])

    def _now(self) -> int | str:
        return self._clock() if self._clock else ""

    def _run(self, step: Any, keys: list[str], args: list[Any]) -> Any:
        try:
            return step(keys=keys, args=args)
        except redis.RedisError as error:
            raise _unavailable(error) from error


def _unavailable(error: redis.RedisError) -> LimiterUnavailable:
    return LimiterUnavailable(f"no permit: {redis_problem(error).message}", seconds=_RETRY_SECONDS, where="limiter")
