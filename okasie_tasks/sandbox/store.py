"""The sandbox's listings and dealers, in memory; written through to SQLite when a file is given."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from okasie_tasks.sandbox.validation import BOOLEANS, ENUMS, INTEGERS, NUMBERS, STRINGS

WRITE_ONLY: Final = frozenset({"condition", "customType", "dealerProfileId", "dealerLocationCode", "images", "features",
                               "postalCode", "city", "province", "latitude", "longitude"})  # fmt: skip
_READ: Final = [
    name
    for name in (
        "title",
        "description",
        *STRINGS,
        *INTEGERS,
        *NUMBERS,
        *BOOLEANS,
        *ENUMS,
        "conditionTags",
        "carPassUrl",
    )
    if name not in WRITE_ONLY and name not in ("currency", "status")
]


def stamp(moment: float) -> str:
    """ISO 8601 in UTC at second precision, as the marketplace shows times."""
    return datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")


class Dealer(msgspec.Struct):
    id: str
    code: str
    name: str
    parent: str | None = None


class Listing(msgspec.Struct):
    """One stored listing: the body as written, and what the marketplace adds."""

    id: str
    partner: str
    reference: str | None
    provider: str
    dealer: str
    status: str
    body: dict[str, Any]
    created_at: float
    updated_at: float
    sold_at: float | None = None


class Quirks(msgspec.Struct):
    """How this marketplace renders and orders what it returns; all off is the faithful one."""

    round_power: bool = False
    trim_text: bool = False
    reorder_features: bool = False
    shuffle_pages: bool = False
    insert_during_walk: int = 0


class Store:
    """All partners' listings. References are scoped per partner (API docs, listings/delete: "for this partner")."""

    def __init__(self, data: Path | None = None) -> None:
        self.listings: dict[str, Listing] = {}
        self.dealers: dict[str, Dealer] = {}
        self.by_reference: dict[tuple[str, str], Listing] = {}
        self.by_code: dict[tuple[str, str], Dealer] = {}
        self.quirks = Quirks()
        self._order: dict[str, list[Listing]] = {}
        self._rendered: dict[str, bytes] = {}
        self._file = sqlite3.connect(data, check_same_thread=False) if data else None
        if self._file:
            self._load()

    # -- dealers ---------------------------------------------------------------------------------------------------

    def add_dealer(self, partner: str, code: str, parent: str | None = None, name: str | None = None) -> Dealer:
        """A dealer profile with a UUID that follows from partner and code."""
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
        self, partner: str, reference: str, body: dict[str, Any], dealer: Dealer, now: float
    ) -> tuple[Listing, bool]:
        """Create or replace; what the body leaves out is gone."""
        listing = self.by_reference.get((partner, reference))
        status = body.get("status", "draft")
        created = listing is None
        if listing is None:
            identity = str(uuid5(NAMESPACE_URL, f"okasie-sandbox/listing/{partner}/{reference}"))
            listing = Listing(identity, partner, reference, f"sandbox-{partner}", dealer.id, status, body, now, now)
            self._add(listing)
        listing.body, listing.dealer, listing.updated_at = body, dealer.id, now
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
        self, partner: str, reference: str | None, body: dict[str, Any], dealer: Dealer, now: float
    ) -> Listing:
        """A listing that somebody else made within the key's reach."""
        identity = str(uuid5(NAMESPACE_URL, f"okasie-sandbox/foreign/{partner}/{len(self.listings)}"))
        listing = Listing(
            identity, partner, reference, "somebody-else", dealer.id, body.get("status", "active"), body, now, now
        )
        self._add(listing)
        self.changed(listing)
        return listing

    def _add(self, listing: Listing) -> None:
        self.listings[listing.id] = listing
        self._order.setdefault(listing.partner, []).append(listing)
        if listing.reference is not None:
            self.by_reference.setdefault((listing.partner, listing.reference), listing)

    def changed(self, listing: Listing) -> None:
        """Forget the rendering and write through."""
        self._rendered.pop(listing.id, None)
        if self._file:
            self._file.execute(
                "insert or replace into listing values (?, ?)", (listing.id, msgspec.json.encode(listing))
            )

    def flush(self) -> None:
        if self._file:
            self._file.commit()

    def close(self) -> None:
        """Write what is left and let the file go."""
        if self._file:
            self._file.commit()
            self._file.close()
            self._file = None

    def reset(self) -> None:
        """Forget every listing; dealers and keys stay."""
        for kept in (self.listings, self.by_reference, self._order, self._rendered):
            kept.clear()
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
        """The partner's listings in the order they came, or in chance order."""
        rows = self._order.get(partner, [])
        rows = [row for row in rows if keep(row)] if keep else rows
        if shuffle is not None:
            rows = list(rows)
            shuffle.shuffle(rows)
        return rows

    def render(self, rows: Iterable[Listing]) -> Iterator[bytes]:
        """Each listing in read shape, as JSON; rendered once per change."""
        for row in rows:
            known = self._rendered.get(row.id)
            if known is None:
                known = self._rendered[row.id] = msgspec.json.encode(self._read_shape(row))
            yield known

    def set_quirks(self, quirks: Quirks) -> None:
        self.quirks = quirks
        self._rendered.clear()

    def _read_shape(self, row: Listing) -> dict[str, Any]:
        body, dealer = row.body, self.dealers[row.dealer]
        shown: dict[str, Any] = {name: body.get(name) for name in _READ}
        if shown.get("vin"):
            shown["vin"] = shown["vin"][:17]
        if self.quirks.round_power and isinstance(shown.get("powerKw"), int | float):
            shown["powerKw"] = round(round(float(shown["powerKw"]) / 0.73549875) * 0.73549875, 1)
        if self.quirks.trim_text:
            shown = {k: " ".join(v.split()) if isinstance(v, str) else v for k, v in shown.items()}
        features = [
            {"category": f.get("category", "other"), "name": f.get("name", f.get("feature"))}
            for f in body.get("features") or []
        ]
        images = [
            {"url": f"https://cdn.invalid/listings/{row.id}/{_hash(url)}.webp", "position": index}
            for index, url in enumerate(image_urls(body))
        ]
        return {
            "id": row.id,
            "dealerProfileId": row.dealer,
            "externalReference": row.reference,
            "externalProvider": row.provider,
            "slug": f"listing-{row.id[:8]}",
            "listingUrl": f"https://www.okasie.invalid/{row.id}",
            "status": row.status,
            "currency": "EUR",
            **shown,
            "location": {n: body.get(n) for n in ("postalCode", "city", "province", "latitude", "longitude")},
            "features": features[::-1] if self.quirks.reorder_features else features,
            "images": images,
            "mainImageUrl": images[0]["url"] if images else None,
            "dealer": {
                "id": dealer.id,
                "parentId": dealer.parent,
                "locationCode": dealer.code,
                "companyName": dealer.name,
            },
            "createdAt": stamp(row.created_at),
            "updatedAt": stamp(row.updated_at),
            "soldAt": stamp(row.sold_at) if row.sold_at else None,
        }


def image_urls(body: dict[str, Any]) -> list[str]:
    """The source URLs of a stored body, in order."""
    items: list[Any] = body.get("images") or []
    return [str(item.get("url", item.get("imageUrl", "")) if isinstance(item, dict) else item) for item in items]


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
