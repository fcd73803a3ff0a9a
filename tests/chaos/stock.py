"""The cars of a round: a feed, what changes in it, and what the marketplace must hold in the end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from okasie_tasks.core.listing import bulk_item
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources import open_source

ROWS = (320, 480)
"""Two or three pages of the list, four or five bulk calls."""
MOST_SELLS = 5
"""No more than the guard lets go without a person."""


class Stock:
    """All choices come from ``rng``."""

    def __init__(self, feed: Path, account: AccountSettings, rng: Random) -> None:
        self._feed, self._account, self._rng = feed, account, rng
        self._seed = rng.randrange(10**6)
        self.rows = cars(rng.randint(*ROWS), seed=self._seed)
        self._next = len(self.rows) + 1
        self.gone: set[str] = set()
        self._write()

    def change(self) -> None:
        """Prices change, cars come, cars go."""
        for row in self._rng.sample(self.rows, self._rng.randint(20, 45)):
            row["price_eur"] = str(int(row["price_eur"]) + self._rng.randrange(50, 3_000, 50))
        leaving = self._rng.sample(self.rows, self._rng.randint(1, MOST_SELLS))
        self.gone |= {row["stock_no"] for row in leaving}
        self.rows = [row for row in self.rows if row not in leaving]
        fresh = cars(self._rng.randint(40, 160), seed=self._seed, first=self._next)
        self._next += len(fresh)
        self.rows += fresh
        self._write()

    def reprice(self, count: int) -> None:
        """Prices change, and nothing else."""
        for row in self._rng.sample(self.rows, count):
            row["price_eur"] = str(int(row["price_eur"]) + self._rng.randrange(-500, 550, 50))
        self._write()

    def _write(self) -> None:
        write_csv(self._feed, self.rows)

    def some(self, count: int) -> list[str]:
        return [row["stock_no"] for row in self._rng.sample(self.rows, count)]

    def bodies(self, references: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """The listings of the feed as they are to be sent, in write shape."""
        source = open_source(self._account, cache_dir=self._feed.parent, current_year=datetime.now(UTC).year)
        found = (row.listing for row in source.rows())
        listings = (listing for listing in found if listing is not None)
        wanted = None if references is None else set(references)
        return {
            listing.external_reference: msgspec.json.decode(bulk_item(listing))
            for listing in listings
            if wanted is None or listing.external_reference in wanted
        }
