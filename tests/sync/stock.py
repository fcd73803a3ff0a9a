"""An inventory in memory, and the virtual time that it shares with everybody: for tests in one thread."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from okasie_tasks.core.listing import Issue, Listing, bulk_item
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import SourceRow
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

    def __init__(self, clock: Clock, opened: Callable[[Reading], None], *, sliceable: bool) -> None:
        self.clock, self._opened, self.sliceable = clock, opened, sliceable
        self.rows: dict[str, list[str]] = {}
        self.versions: dict[str, int] = {}
        self.unreadable = self.broken = 0
        """Rows whose reference cannot be read; reads that are still to break off."""

    def says(self, reference: str) -> Stand:
        rows = self.rows.get(reference, [])
        if not rows:
            return None
        if INVALID in rows or len({content_of(row) for row in rows}) > 1:
            return INVALID
        return content_of(rows[0])

    def open(self) -> TwinSource:
        says = {reference: stand for reference in self.rows if (stand := self.says(reference)) is not None}
        self._opened(Reading(self.clock.now_ms, says, dict(self.versions), not self.unreadable))
        breaks, self.broken = bool(self.broken), max(0, self.broken - 1)
        return TwinSource(self, list(self._stream()), breaks=breaks)

    def _stream(self) -> Iterator[SourceRow]:
        unnamed: list[tuple[str | None, str]] = [(None, INVALID)] * self.unreadable
        named = [(reference, row) for reference, rows in self.rows.items() for row in rows]
        for number, (reference, row) in enumerate([*unnamed, *named], start=1):
            if row == INVALID:
                yield SourceRow(number, reference, None, issues=(Issue("price", "not_a_number", "expected a number"),))
            else:
                yield SourceRow(number, reference, parsed(row), version=self.versions.get(reference or "", 0))


class TwinSource:
    """The port ``Source``."""

    def __init__(self, inventory: Inventory, rows: list[SourceRow], *, breaks: bool) -> None:
        self.sliceable, self._rows, self._breaks = inventory.sliceable, rows, breaks

    def version(self) -> str:
        return ""

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        half = len(self._rows) // 2 if self._breaks else stop
        yield from self._rows[start:half]
        if self._breaks:
            raise SourceError("the feed ends half way")

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        return (row for row in self.rows() if row.reference in references)
