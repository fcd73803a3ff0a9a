"""The sandbox's listings and dealers, in memory, and written through to SQLite if there is a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from okasie_tasks.sandbox.listings import Dealer, Listing
from okasie_tasks.sandbox.rendering import Quirks, read_shape


class Store:
    """All partners' listings. References are scoped per partner (API docs, listings/delete: "for this partner")."""

    def __init__(self, data: Path | None = None) -> None:
        self.listings: dict[str, Listing] = {}
        self.dealers: dict[str, Dealer] = {}
        self.by_reference: dict[tuple[str, str], Listing] = {}
        """The partner's listings. Another provider's listing may have the same reference; no write reaches it."""
        self.by_code: dict[tuple[str, str], Dealer] = {}
        self.quirks = Quirks()
        self.walks = Random(0)  # noqa: S311 - page order for tests
        self._order: dict[str, list[Listing]] = {}
        self._rendered: dict[str, bytes] = {}
        self._file = sqlite3.connect(data, check_same_thread=False) if data else None
        if self._file:
            self._load()

    # -- dealers ---------------------------------------------------------------------------------------------------

    def add_dealer(self, partner: str, code: str, parent: str | None = None, name: str | None = None) -> Dealer:
        """The dealer profile of a partner's code, created if needed. Its UUID is derived from both."""
        known = self.by_code.get((partner, code.casefold()))
        if known is None:
            identity = str(uuid5(NAMESPACE_URL, f"okasie-sandbox/{partner}/{code.casefold()}"))
            known = Dealer(identity, code, name or f"Garage {code}", parent)
            self.dealers[identity] = known
            self.by_code[partner, code.casefold()] = known
            if self._file:
                row = (identity, partner, msgspec.json.encode(known))
                self._file.execute("insert or replace into dealer values (?, ?, ?)", row)
        return known

    # -- writing ---------------------------------------------------------------------------------------------------

    def upsert(
        self, partner: str, reference: str, body: dict[str, Any], dealer: Dealer, now: float, *, skipped: list[str]
    ) -> tuple[Listing, bool]:
        """Create or replace a listing; fields that the body omits are removed. Returns it, and whether it is new.

        ``skipped``: images that could not be fetched.
        """
        listing = self.by_reference.get((partner, reference))
        status = body.get("status", "draft")
        created = listing is None
        if listing is None:
            identity = str(uuid5(NAMESPACE_URL, f"okasie-sandbox/listing/{partner}/{reference}"))
            provider = own_provider(partner)
            listing = Listing(identity, partner, reference, provider, dealer.id, status, body, now, now)
            self._add(listing)
        listing.body, listing.dealer, listing.updated_at, listing.skipped = body, dealer.id, now, skipped
        self.set_status(listing, status, now)
        return listing, created

    def set_status(self, listing: Listing, status: str, now: float) -> None:
        if status == "sold" and listing.status != "sold":
            listing.sold_at = now
        elif status != "sold":
            listing.sold_at = None
        listing.status = status
        listing.updated_at = now
        self.changed(listing)

    def add_foreign(
        self, partner: str, reference: str | None, body: dict[str, Any], dealer: Dealer, now: float,
        *, provider: str = "somebody-else",
    ) -> Listing:  # fmt: skip
        """Add a listing within the key's reach that was not written through this sandbox's API."""
        identity = str(uuid5(NAMESPACE_URL, f"okasie-sandbox/foreign/{partner}/{len(self.listings)}"))
        listing = Listing(
            identity, partner, reference, provider, dealer.id, body.get("status", "active"), body, now, now
        )
        self._add(listing)
        self.changed(listing)
        return listing

    def _add(self, listing: Listing) -> None:
        self.listings[listing.id] = listing
        self._order.setdefault(listing.partner, []).append(listing)
        if listing.reference is not None and listing.provider == own_provider(listing.partner):
            self.by_reference[listing.partner, listing.reference] = listing

    def changed(self, listing: Listing) -> None:
        """Drop the cached rendering of a listing, and write it to the file."""
        self._rendered.pop(listing.id, None)
        if self._file:
            self._file.execute(
                "insert or replace into listing values (?, ?)", (listing.id, msgspec.json.encode(listing))
            )

    def flush(self) -> None:
        if self._file:
            self._file.commit()

    def close(self) -> None:
        """Commit and close the file."""
        if self._file:
            self._file.commit()
            self._file.close()
            self._file = None

    def reset(self) -> None:
        """Remove every listing; dealers and keys stay."""
        for table in (self.listings, self.by_reference, self._order, self._rendered):
            table.clear()
        if self._file:
            self._file.execute("delete from listing")
            self._file.commit()

    def _load(self) -> None:
        assert self._file is not None  # noqa: S101
        self._file.execute("create table if not exists listing (id text primary key, body blob)")
        self._file.execute("create table if not exists dealer (id text primary key, partner text, body blob)")
        for partner, blob in self._file.execute("select partner, body from dealer order by rowid"):
            dealer = msgspec.json.decode(blob, type=Dealer)
            self.dealers[dealer.id] = self.by_code[partner, dealer.code.casefold()] = dealer
        for (blob,) in self._file.execute("select body from listing order by rowid"):
            self._add(msgspec.json.decode(blob, type=Listing))

    # -- reading ---------------------------------------------------------------------------------------------------

    def select(
        self, partner: str, keep: Callable[[Listing], bool] | None, *, shuffle: Random | None = None
    ) -> list[Listing]:
        """The partner's listings in order of creation, or in random order."""
        rows = self._order.get(partner, [])
        rows = [row for row in rows if keep(row)] if keep else rows
        if shuffle is not None:
            rows = list(rows)
            shuffle.shuffle(rows)
        return rows

    def find(self, partner: str, reference: str) -> Listing:
        """The partner's listing, else one of another provider within its reach. Raises `KeyError` if there is none."""
        rows = (row for row in self._order.get(partner, []) if row.reference == reference)
        found = self.by_reference.get((partner, reference)) or next(rows, None)
        if found is None:
            raise KeyError(reference)
        return found

    def render(self, rows: Iterable[Listing]) -> Iterator[bytes]:
        """Each listing in read shape, as JSON. Renderings are cached until the listing changes."""
        for row in rows:
            known = self._rendered.get(row.id)
            if known is None:
                dealer = self.dealers[row.dealer]
                shape = read_shape(row, dealer, self.dealers.get(dealer.parent or ""), self.quirks)
                known = self._rendered[row.id] = msgspec.json.encode(shape)
            yield known

    def set_quirks(self, quirks: Quirks) -> None:
        self.quirks, self.walks = quirks, Random(quirks.walk_seed)  # noqa: S311 - page order for tests
        self._rendered.clear()


def own_provider(partner: str) -> str:
    """The ``externalProvider`` of listings that a key's partner wrote."""
    return f"sandbox-{partner}"
