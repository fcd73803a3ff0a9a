"""The limiter's memory twin: the same port and the same arithmetic within one process, without Redis."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import count
from threading import Lock

from okasie_tasks.core.limiter import Ask, HeldLog, LimiterStatus, Limits
from okasie_tasks.ports import Feedback, Lane, Permit, Wait


class MemoryLimiter:
    """One account's bucket, for the threads of one process. ``clock`` gives seconds; only its differences count."""

    def __init__(
        self,
        *,
        per_minute: int = 120,
        burst_per_second: int = 5,
        adapt_limit: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = Limits(per_minute, burst_per_second, adapt_limit)
        self._clock = clock
        self._log = HeldLog()
        self._ids = count()
        self._one_at_a_time = Lock()

    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait:
        hold = round(hold_seconds * 1000)
        with self._one_at_a_time:
            permit = f"{ticket}/{next(self._ids)}.{hold}"
            answer = self._log.acquire(self._now(), Ask(ticket, permit, int(lane == "bulk"), hold), self._limits)
        if answer.granted:
            return Permit(permit, after_seconds=answer.ms / 1000, waited_seconds=answer.waited_ms / 1000)
        return Wait(answer.ms / 1000, answer.reason)

    def report(self, permit: Permit, feedback: Feedback) -> None:
        with self._one_at_a_time:
            self._log.report(
                self._now(),
                permit.id,
                feedback.status,
                hold_ms=int(permit.id.rsplit(".", 1)[1]),
                limits=self._limits,
                limit=feedback.limit,
                remaining=feedback.remaining,
                retry_after_ms=None if feedback.retry_after is None else math.ceil(feedback.retry_after * 1000),
            )

    def cancel(self, permit: Permit) -> None:
        with self._one_at_a_time:
            self._log.cancel(permit.id)

    def drop(self, ticket: str) -> None:
        with self._one_at_a_time:
            self._log.drop(ticket)

    def forget(self) -> None:
        """Lose everything, as a Redis does that is flushed."""
        with self._one_at_a_time:
            self._log = HeldLog()

    def status(self) -> LimiterStatus:
        with self._one_at_a_time:
            return self._log.status(self._now(), self._limits)

    def _now(self) -> int:
        return round(self._clock() * 1000)
