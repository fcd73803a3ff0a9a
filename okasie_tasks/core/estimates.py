"""The number of requests and how items are batched into them.

Limits are the contract's: at most 100 items a bulk call, at most 200 rows a page (API docs, listings/bulk-upsert and
listings/list); the size of a body is not documented, so it stays under about 1 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

import msgspec

ITEMS_PER_BULK: Final = 100
ROWS_PER_PAGE: Final = 200
BYTES_PER_BULK: Final = 1_000_000


def minimum_requests(*, rows_listed: int, upserts: int, sells: int) -> int:
    """Return the minimum requests: ``max(1, ceil(rows / 200)) + ceil(upserts / 100) + one DELETE per sell``."""
    return max(1, ceil(rows_listed / ROWS_PER_PAGE)) + ceil(upserts / ITEMS_PER_BULK) + sells


def pack(sizes: Sequence[int], *, flush: bool) -> list[int]:
    """Cut a stream of bodies into bulk calls; returns the length of each call in order.

    ``sizes`` are bytes per body. Without ``flush``, items that do not fill a call are left
    out and wait for more, so that only the last call is short.
    """
    calls: list[int] = []
    items = used = 0
    for size in sizes:
        if items and (items == ITEMS_PER_BULK or used + size > BYTES_PER_BULK):
            calls.append(items)
            items = used = 0
        items += 1
        used += size + 1
    if items and (flush or items == ITEMS_PER_BULK):
        calls.append(items)
    return calls


def halves(count: int) -> tuple[int, int]:
    """Return how to split a refused chunk of ``count`` >= 2 items to find the offending item."""
    return count // 2, count - count // 2


class Forecast(msgspec.Struct, frozen=True):
    """An estimate. ``at_least``: the run has not yet decided what to send, so only reads are included."""

    requests: int
    seconds: float
    at_least: bool

    @property
    def text(self) -> str:
        """``about 4 min at this quota``."""
        return f"{'at least' if self.at_least else 'about'} {duration(self.seconds)} at this quota"


def forecast(requests: int, *, per_minute: int, pause_seconds: float = 0.0, at_least: bool = False) -> Forecast:
    """Estimate ``requests`` sent sequentially at the limit, after the rest of a pause."""
    seconds = pause_seconds + requests * 60.0 / max(1, per_minute) if requests else 0.0
    return Forecast(requests, round(seconds, 1), at_least)


def duration(seconds: float) -> str:
    """Format a duration coarsely, for deciding whether to wait: ``40 s``, ``4 min``, ``3 h``."""
    if seconds < 90:
        return f"{ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"


def to_read(listings: int, *, full: bool) -> int:
    """Return the minimum number of read requests: every page for a full run, one for an incremental run."""
    return max(1, ceil(listings / ROWS_PER_PAGE)) if full else 1


def to_send(*, upserts: int, sells: int, chunks_done: int, chunks_open: int, sells_done: int) -> int:
    """Return the requests left in a plan. Halved and re-sent chunks add to those planned."""
    chunks = max(ceil(upserts / ITEMS_PER_BULK) - chunks_done, chunks_open)
    return max(0, chunks) + max(0, sells - sells_done)
