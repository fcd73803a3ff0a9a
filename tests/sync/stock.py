"""An inventory in memory, and the virtual time that it shares with everybody: for tests in one thread."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, Final

from okasie_tasks.core.listing import Issue, Listing, bulk_item
from okasie_tasks.core.row_cache import RowCache, raw_fingerprint
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.sources.blocks import BlockSource
from tests.sync.support import Killed

SOLD: Final = "sold"
PLACE: Final = {"postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen"}


class Clock:
    """Virtual time: a Redis command or a leg of a request takes a millisecond. ``dies_in``: so many steps to a kill."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000
        self.dies_in: int | None = None
        self.dead = False
        self.on_jump: Callable[[], None] = lambda: None

    def step(self) -> None:
        self.now_ms += 1
        if self.dies_in is not None:
            self.dies_in -= 1
            self.dead |= self.dies_in <= 0
        if self.dead:
            raise Killed

    def sleep(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000) + 1
        self.on_jump()

    def revive(self) -> None:
        self.dead, self.dies_in = False, None


@cache
def parsed(text: str) -> Listing:
    return parse_listing(json.loads(text), current_year=2026).listing


def raw_car(reference: str, price: int, title: str, dealer: str, images: int, status: str = "active") -> str:
    """A listing in write shape, as JSON."""
    return json.dumps({
        "externalReference": reference, "status": status, "title": title, "price": price, "mileage": 88200, **PLACE,
        "powerKw": 85, "description": "One owner", "dealerLocationCode": dealer,
        "features": [{"category": "comfort", "name": "Airco"}, {"category": "safety", "name": "ABS"}],
        "images": [f"https://stock.invalid/{number}.jpg" for number in range(images)],
    })  # fmt: skip


@cache
def content_of(text: str) -> str:
    """What is sent of a listing, and what the marketplace then holds."""
    return key_of(json.loads(bulk_item(parsed(text))))


def key_of(body: dict[str, Any]) -> str:
    """The same for two bodies that are equal."""
    return json.dumps(body, sort_keys=True)


INVALID: Final = "invalid"
Stand = str | None
"""What a source says of a reference: a content, `INVALID`, or None for no row."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """One read of the source, as it was when it was opened; ``complete``: every reference in it could be read."""

    opened_ms: int
    says: dict[str, Stand]
    versions: dict[str, int]
    complete: bool


class Inventory:
    """The dealer's rows: ``rows[reference]`` is a list of listings as JSON, or `INVALID`, one for each row."""

    def __init__(self, clock: Clock, opened: Callable[[Reading], None], *, block_rows: int) -> None:
        self.clock, self._opened, self.block_rows = clock, opened, block_rows
        self.rows: dict[str, list[str]] = {}
        self.versions: dict[str, int] = {}
        self.unreadable = self.broken = 0
        """Rows whose reference cannot be read; reads that are still to break off."""
        self.surcharge = 0
        """What the mapping adds to each price."""

    def says(self, reference: str) -> Stand:
        rows = [self._mapped(row) for row in self.rows.get(reference, [])]
        if not rows:
            return None
        if INVALID in rows or len({content_of(row) for row in rows}) > 1:
            return INVALID
        return content_of(rows[0])

    def _mapped(self, row: str) -> str:
        if row == INVALID or not self.surcharge:
            return row
        body = json.loads(row)
        return json.dumps(body | {"price": body["price"] + self.surcharge})

    def open(self) -> TwinSource:
        return TwinSource(self)

    def read(self) -> tuple[list[SourceRow], bool]:
        """The rows as they are now, and whether the read breaks off."""
        says = {reference: stand for reference in self.rows if (stand := self.says(reference)) is not None}
        self._opened(Reading(self.clock.now_ms, says, dict(self.versions), not self.unreadable))
        breaks, self.broken = bool(self.broken), max(0, self.broken - 1)
        return list(self._stream()), breaks

    def _stream(self) -> Iterator[SourceRow]:
        unnamed: list[tuple[str | None, str]] = [(None, INVALID)] * self.unreadable
        named = [(reference, row) for reference, rows in self.rows.items() for row in rows]
        for number, (reference, row) in enumerate([*unnamed, *named], start=1):
            if row == INVALID:
                yield SourceRow(number, reference, None, issues=(Issue("price", "not_a_number", "expected a number"),))
            else:
                version = self.versions.get(reference or "", 0)
                raw = raw_fingerprint(json.dumps([reference, row, version]).encode())
                yield SourceRow(number, reference, parsed(self._mapped(row)), version=version, raw=raw)


class TwinSource(BlockSource):
    """The port ``Source``."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def version(self) -> str:
        return ""

    def blocks(self) -> Iterator[Block]:
        rows, breaks = self._inventory.read()
        yield from pickled(rows[: len(rows) // 2] if breaks else rows, self._inventory.block_rows)
        if breaks:
            raise SourceError("the feed ends half way")

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        known = known or RowCache()
        known.under(self._inventory.surcharge.to_bytes(8, "big"))
        rows: list[SourceRow] = pickle.loads(block.data)
        return (_as_known(row, known) for row in rows if row.listing is None or not known.take(row.raw, row.row))


def _as_known(row: SourceRow, known: RowCache) -> SourceRow:
    """The row as a source returns it that has read the same bytes before."""
    content = known.contents.get(row.raw)
    if row.listing is None or content is None:
        return row
    return SourceRow(row.row, row.reference, None, raw=row.raw, content=content, read=lambda: row)


def pickled(rows: Iterable[SourceRow], most: int) -> Iterator[Block]:
    """The rows as blocks of ``most``, as they come."""
    first, rows = 0, iter(rows)
    while some := list(islice(rows, most)):
        yield Block(first, len(some), 0, pickle.dumps(some))
        first += len(some)
