"""What the slots of this process are doing, and until when each may take: the deadlines of requests and reads.

A threads pool has no time limits: a thread that hangs, in a name lookup for instance, keeps its slot for as long as the
worker lives. Here each task and each operation with a deadline is noted in the thread that executes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

TASK_SECONDS: Final = 300.0
"""How long a task may take outside of any operation. Longer than retries while Redis is away, which take 200 s."""


class Slot(NamedTuple):
    """A busy slot. ``since``, ``due``: when its operation began and must have ended, by the monotonic clock."""

    task: str
    operation: str
    since: float
    due: float


class Operations:
    """The busy slots, one per thread. Each thread changes its own entry only. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots: dict[int, Slot] = {}

    def begin_task(self, task: str) -> None:
        now = self._clock()
        self._slots[threading.get_ident()] = Slot(task, "", now, now + TASK_SECONDS)

    def end_task(self) -> None:
        self._slots.pop(threading.get_ident(), None)

    @contextmanager
    def operation(self, name: str, seconds: float) -> Iterator[None]:
        """The thread's slot is busy with ``name``, which ends within ``seconds``. Outside of a task, does nothing."""
        thread, now = threading.get_ident(), self._clock()
        slot = self._slots.get(thread)
        if slot is None:
            yield
            return
        self._slots[thread] = Slot(slot.task, name, now, now + seconds)
        try:
            yield
        finally:
            self._slots[thread] = Slot(slot.task, "", now := self._clock(), now + TASK_SECONDS)

    def slots(self) -> tuple[Slot, ...]:
        return tuple(self._slots.copy().values())


OPERATIONS: Final = Operations()
