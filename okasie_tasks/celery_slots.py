"""The slots of this worker's pool: whether one is wanted by a message that waits, and whether the worker is to stop.

Celery keeps in memory what its worker has taken from the queues and what of that is at work. That tells of slots where
tasks run in the worker's own process (threads); a child of a prefork pool can look at the queue only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from celery.worker import state

_LOOK_SECONDS: Final = 0.1
_IN_PROCESS: Final = ("celery.concurrency.thread", "celery.concurrency.solo")


class Slots:
    """One for each process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._looked: dict[str, tuple[float, bool]] = {}

    def of(self, pool: Any) -> None:
        """Tell the pool of the worker, once it is ready."""
        if type(pool).__module__ in _IN_PROCESS:
            self._count = int(pool.limit)

    def wanted(self, stage: str, waiting: Callable[[str], bool]) -> bool:
        """Whether a message waits for a slot and none is free. ``waiting`` looks at the stage's queue, now and then."""
        if not self._count:
            return self._look(stage, waiting)
        active = len(state.active_requests)
        return active >= self._count and (len(state.reserved_requests) > active or self._look(stage, waiting))

    @staticmethod
    def stopping() -> bool:
        """Whether this worker was told to stop: it waits for the tasks at work, so they should not go on."""
        return state.should_stop is not None and state.should_stop is not False

    def _look(self, stage: str, waiting: Callable[[str], bool]) -> bool:
        now = self._clock()
        looked_at, found = self._looked.get(stage, (-_LOOK_SECONDS, False))
        if now - looked_at >= _LOOK_SECONDS:
            found = waiting(stage)
            self._looked[stage] = (now, found)
        return found
