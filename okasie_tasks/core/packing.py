"""How many requests, and what goes into one: the arithmetic of batches.

Limits are the contract's: at most 100 items a bulk call, at most 200 rows a page (API docs, listings/bulk-upsert and
listings/list); the size of a body is not documented, so it stays under about 1 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

ITEMS_PER_BULK: Final = 100
ROWS_PER_PAGE: Final = 200
BYTES_PER_BULK: Final = 1_000_000


def minimum_requests(*, rows_listed: int, upserts: int, sells: int) -> int:
    """The fewest requests that can do it: ``max(1, ceil(rows / 200)) + ceil(upserts / 100) + one DELETE per sell``."""
    return max(1, ceil(rows_listed / ROWS_PER_PAGE)) + ceil(upserts / ITEMS_PER_BULK) + sells


def pack(sizes: Sequence[int], *, flush: bool) -> list[int]:
    """Cut a stream of bodies into bulk calls; returns the length of each call in order.

    ``sizes`` are bytes per body. Without ``flush`` the rest that does not fill a call is left out, so that it can
    wait for more: no chunk is short but the last one.
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
    """How a refused chunk of ``count`` >= 2 items is cut to find the culprit."""
    return count // 2, count - count // 2
