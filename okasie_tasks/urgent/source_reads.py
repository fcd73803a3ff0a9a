"""Reads of the source for pushes: one at a time in this process and account, shared by the pushes that wait for it.

A push that arrives during a read waits for the next one, since the running read may have passed its row. A few threads
wait, for half a second at most. Other messages are published again, so that an account with a slow source
does not hold the threads that the other accounts need.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

from okasie_tasks.errors import OkasieError, SourceBusy, SourceError, SourceUnsettled
from okasie_tasks.health.operations import OPERATIONS
from okasie_tasks.ports import SettlingSource, Source, SourceRow

_WAIT_SECONDS: Final = 0.5
_BACK_SECONDS: Final = (0.1, 1.0)
"""When a message comes back: after as long as the running read has taken so far, within these limits."""
_RETURNS_PER_SECOND: Final = 10
"""How many messages come back in a second at most: a hundred a second would keep the lane busy with nothing else."""
_KEEP_SECONDS: Final = 60.0
"""How long the rows are kept for a push whose message has moved to another process."""


class SourceRead:
    """One read of the source. ``began_ms``: when it began, Redis time; ``rows``: by reference."""

    def __init__(self) -> None:
        self.references: set[str] = set()
        self.began_ms = 0
        self.rows: dict[str, list[SourceRow]] = defaultdict(list)
        self.error: OkasieError | None = None
        self.began = self.ended = 0.0
        """By the monotonic clock; 0: not yet."""

    def execute(self, open_source: Callable[[], Source], now_ms: Callable[[], int]) -> None:
        self.began_ms = now_ms()
        try:
            source = open_source()
            for row in source.get(sorted(self.references)):
                if row.unterminated and isinstance(source, SettlingSource) and (seconds := source.settles_in("")):
                    # Its last cell may be half written.
                    raise SourceUnsettled("the source is being written", seconds=seconds, where=row.where)
                if row.reference is not None:
                    self.rows[row.reference].append(row)
        except OkasieError as error:
            self.error = error
        except OSError as error:
            self.error = SourceError(f"cannot be read: {error.strerror or type(error).__name__}", where="source")


class SourceReads:
    """The reads of one account's source in this process.

    ``share``: returns how many threads may be occupied with it at the same time. ``seconds``: the bound of a read.
    """

    def __init__(
        self, source: Callable[[], Source], *, share: Callable[[], int] = lambda: 1, seconds: float = 280
    ) -> None:
        self._source, self._share, self._seconds = source, share, seconds
        self._changed = threading.Condition()
        self._running: SourceRead | None = None
        self._next = SourceRead()
        self._of: dict[str, SourceRead] = {}
        """Push -> the read that is to answer it."""
        self._waiting = 0

    def read(
        self, push: str, references: Collection[str], now_ms: Callable[[], int], *, keep: bool = False
    ) -> SourceRead:
        """Return a read that began after this push arrived, and contains its references.

        ``keep``: return the same read if this push asks again within a minute, until `forget`.
        Raises `SourceBusy` while another read is running: call again with the same push. Raises the error of the read.
        """
        with self._changed:
            read = self._of.setdefault(push, self._next)
            if not read.began:
                read.references.update(references)
            self._wait_for(read)
            if not read.ended:
                self._running, self._next = read, SourceRead()
                read.began = time.monotonic()
        if not read.ended:
            self._execute(read, now_ms)
        if not keep:
            self.forget(push)
        if read.error is not None:
            raise read.error
        return read

    def forget(self, push: str) -> None:
        self._of.pop(push, None)

    def _wait_for(self, read: SourceRead) -> None:
        """Wait until this read has ended, or is to begin in this thread. Raises `SourceBusy`."""

        def is_due() -> bool:
            return bool(read.ended) or self._running is None

        if is_due():
            return
        if self._waiting + 1 < self._share():
            self._waiting += 1
            try:
                if self._changed.wait_for(is_due, _WAIT_SECONDS):
                    return
            finally:
                self._waiting -= 1
        assert self._running is not None  # noqa: S101 - it is not due
        shortest, longest = _BACK_SECONDS
        seconds = min(longest, max(shortest, time.monotonic() - self._running.began))
        seconds = max(seconds, len(self._of) / _RETURNS_PER_SECOND)
        raise SourceBusy("another push is reading the source", seconds=seconds, where="source")

    def _execute(self, read: SourceRead, now_ms: Callable[[], int]) -> None:
        try:
            with OPERATIONS.operation("read of the source", self._seconds):
                read.execute(self._source, now_ms)
        except BaseException:
            # A defect, or the end of this process's time: the pushes that share the read begin another one.
            with self._changed:
                self._of = {push: other for push, other in self._of.items() if other is not read}
            raise
        finally:
            with self._changed:
                self._running, read.ended = None, time.monotonic()
                kept = read.ended - _KEEP_SECONDS
                self._of = {push: other for push, other in self._of.items() if not 0 < other.ended < kept}
                self._changed.notify_all()
