"""The limiter's memory twin: the same port within one process, for tests and for trying a source without Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Final

from okasie_tasks.ports import Feedback, Lane, Permit, Wait

_WINDOW: Final = 60.05
_SECOND: Final = 1.005
_LONGEST: Final = 12.0


class MemoryLimiter:
    """A held log without pacing or queue: safe, not smooth. ``clock`` gives seconds."""

    def __init__(
        self, *, per_minute: int = 120, burst_per_second: int = 5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = ((_WINDOW, per_minute), (_SECOND, burst_per_second))
        self._clock = clock
        self._stamps: dict[str, float] = {}
        self._pause = 0.0
        self._ids = count()

    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait:  # noqa: ARG002 - one lane here
        now = self._clock()
        free = max([self._pause, *(self._free(now, *limit) for limit in self._limits)])
        if free > now:
            return Wait(min(max(free - now, 0.005), _LONGEST), "quota" if free > self._pause else "pause")
        permit = Permit(f"{ticket}/{next(self._ids)}")
        self._stamps[permit.id] = now + hold_seconds
        return permit

    def _free(self, now: float, window: float, limit: int) -> float:
        held = sorted(stamp for stamp in self._stamps.values() if stamp > now - window)
        if len(held) < limit:
            return now
        stamp = held[len(held) - limit]
        return now + 0.2 if stamp > now else stamp + window

    def report(self, permit: Permit, feedback: Feedback) -> None:
        now = self._clock()
        if self._stamps.get(permit.id, 0.0) <= now:
            return
        if feedback.status == -1:
            self.cancel(permit)
        elif feedback.status > 0:
            self._stamps[permit.id] = now
        if feedback.status == 429:
            self._pause = max(self._pause, now + (feedback.retry_after or 1.0))

    def cancel(self, permit: Permit) -> None:
        self._stamps.pop(permit.id, None)

    def drop(self, ticket: str) -> None:
        """Nothing to leave: there is no queue."""
