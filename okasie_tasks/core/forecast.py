"""How long the requests that are left will take at the account's quota."""

from __future__ import annotations

from math import ceil

import msgspec

from okasie_tasks.core.packing import ITEMS_PER_BULK, ROWS_PER_PAGE


class Forecast(msgspec.Struct, frozen=True):
    """``at_least``: the run has not decided yet what it will send, so this is only what it must read."""

    requests: int
    seconds: float
    at_least: bool

    @property
    def text(self) -> str:
        """``about 4 min at this quota``."""
        return f"{'at least' if self.at_least else 'about'} {duration(self.seconds)} at this quota"


def forecast(requests: int, *, per_minute: int, pause_seconds: float = 0.0, at_least: bool = False) -> Forecast:
    """``requests`` sent one after another at the limit, after what is left of a pause."""
    seconds = pause_seconds + requests * 60.0 / max(1, per_minute) if requests else 0.0
    return Forecast(requests, round(seconds, 1), at_least)


def duration(seconds: float) -> str:
    """Two digits are enough to decide whether to wait: ``40 s``, ``4 min``, ``3 h``."""
    if seconds < 90:
        return f"{ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"


def to_read(listings: int, *, full: bool) -> int:
    """Requests that reading costs at the least: every page of a full run, one of an incremental."""
    return max(1, ceil(listings / ROWS_PER_PAGE)) if full else 1


def to_send(*, upserts: int, sells: int, chunks_done: int, chunks_open: int, sells_done: int) -> int:
    """Requests that are left of a plan; chunks that were halved or sent again come on top of those planned."""
    chunks = max(ceil(upserts / ITEMS_PER_BULK) - chunks_done, chunks_open)
    return max(0, chunks) + max(0, sells - sells_done)
