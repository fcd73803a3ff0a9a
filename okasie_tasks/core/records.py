"""The records that both sides write into the partitions of a run, and their encoding between tasks.

A row that equals its ledger entry is stored as the 8-byte hash of its reference; other rows are records. The values
of a listing (``values``) are included only if a comparison by value may be needed; see `Remote.values`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

import msgspec

from okasie_tasks.core import snapshot
from okasie_tasks.core.fingerprint import (
    Encoded,
    encoded_form,
    filled_fields,
    listing_dealer_fingerprint,
    reference_key,
)
from okasie_tasks.core.ledger_entry import price_code
from okasie_tasks.core.listing import Issue, Listing, bulk_item

_ROWS_PER_PARTITION = 32_000
BUCKETS = 1024
"""Ledger buckets per account; a partition of a run is a range of buckets."""


_KEY_OF_ROW: Final = struct.Struct(">Q4x")
"""The key in one row of `LocalBatch.same`."""


class Local(msgspec.Struct, frozen=True, array_like=True):
    """One row of the source. Non-empty ``issues``: the row is invalid, but proves that the car is in the source."""

    reference: str
    row: int
    content: bytes = b""
    rendering: bytes = b""
    dealer: bytes = b""
    filled: int = 0
    images: int = 0
    status: str = ""
    version: int = 0
    issues: tuple[Issue, ...] = ()
    values: bytes | None = None
    """Encoded compared values, when the marketplace's row must be compared by value."""
    where: str = ""
    traits: tuple[bytes, bytes, bytes, int | None] | None = None
    """Of a new listing; see `okasie_tasks.core.rekeyed`."""
    warnings: tuple[str, ...] = ()
    """What was left out of the listing or cut, one text per field."""
    price: float | None = None


class Remote(msgspec.Struct, frozen=True, array_like=True):
    """One row of the marketplace."""

    id: str
    reference: str
    status: str
    changed_at: int
    rendering: bytes
    dealer_profile: bytes = b""
    dealer_code: bytes = b""
    images: int = 0
    values: bytes | None = None
    """Encoded compared values, unless the ledger already knows this rendering."""
    provider: str = ""
    """The creator reported by the marketplace; "" for a row that the ledger has and that we created."""
    absent: int = 0
    """The fields that are unknown; see `okasie_tasks.core.remote_rows.RemoteListing`."""
    warning: str = ""
    """What is wrong with the row, or with its reference."""


class LocalBatch(msgspec.Struct, array_like=True):
    """What one block of the source adds to one partition. ``same``: rows equal to the ledger's, 12 bytes each.

    ``titles``: reference -> title and VIN, for the catalogue.
    """

    same: bytes = b""
    rows: list[Local] = []
    titles: dict[str, tuple[str, str]] = {}


class RemoteBatch(msgspec.Struct, array_like=True):
    """What one page adds to one partition. ``same``: hashes of references equal to the ledger's, 8 bytes each."""

    same: bytes = b""
    rows: list[Remote] = []


class Planned(msgspec.Struct, frozen=True, array_like=True):
    """One change of the plan. ``row``: the row number in the source, -1 if the change needs no row."""

    reference: str
    action: str
    reason: str
    row: int
    content: bytes
    dealer: bytes
    fields: tuple[str, ...] = ()
    rendering_seen: bytes = b""
    """The marketplace's rendering that this change overwrites, for a drift or a relisted car; else empty."""
    seen_ms: int | None = None
    """The age of an unchanged row that is only resent (ms); None: as new as this run."""
    changed: bool = False
    """The source row of an owned, live listing changed."""
    loses: tuple[str, ...] = ()
    """Filled fields that this change would empty."""
    traits: tuple[bytes, bytes, bytes, int | None] | None = None
    """Of a listing that is created; see `okasie_tasks.core.rekeyed`."""
    price_move: tuple[float, float] | None = None
    """Old and new price, if it moves by more than the guard allows."""
    about: bool = False
    """The old price is not known exactly."""
    changed_at: int = 0
    """The marketplace's ``updatedAt`` in the row that was read, whole seconds; 0 for no row."""

    @property
    def price_text(self) -> str:
        """Return how the price moves, for messages; "" if the guard allows it."""
        if self.price_move is None:
            return ""
        old, new = self.price_move
        return f"from {'about ' * self.about}{old:.10g} to {new:.10g} ({100 * (new - old) / old:+.1f} %)"

    @property
    def why(self) -> str:
        """Return the reason, with the old and new price if the guard does not allow the move."""
        return self.reason + (f", price {self.price_text}" if self.price_move else "")


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """One listing to send: its body, and what the ledger records once it is accepted."""

    reference: str
    action: str
    reason: str
    body: bytes
    content: bytes
    rendering: bytes
    dealer: bytes
    filled: int
    version: int
    row: bytes
    answers: bytes = b""
    """The marketplace's rendering that a resend overwrites; else empty."""
    seen_ms: int = 0
    """When the read of the source began, Redis time."""
    price: int = 0
    """See `okasie_tasks.core.ledger_entry.price_code`."""
    snapshot: bytes = b""
    """What the history keeps of it; see `okasie_tasks.core.snapshot.packed`. Empty if an older release made this."""


def hash8(reference: str) -> bytes:
    """Return the key of a reference in the records of a run."""
    return reference_key(reference)


def partition_of_hash(key: bytes, partitions: int) -> int:
    """The partition, 0 to ``partitions`` - 1, of the reference whose `hash8` is ``key``."""
    return bucket_of_hash(key) * partitions // BUCKETS


def bucket_of(reference: str) -> int:
    """Ledger bucket, 0..1023: the same in every run and release."""
    return bucket_of_hash(reference_key(reference))


def bucket_of_hash(key: bytes) -> int:
    """The ledger bucket of the reference whose `hash8` is ``key``."""
    return int.from_bytes(key, "big") % BUCKETS


def partitions_for(listings: int) -> int:
    """Return the number of partitions for about ``listings`` rows: a power of two, about 20,000 rows each.

    Each page writes into most partitions, so many cost time. Few cost memory: a few kB per thousand new rows.
    """
    count = 1
    while count < BUCKETS and listings > count * _ROWS_PER_PARTITION:
        count *= 2
    return count


def buckets_of(partition: int, partitions: int) -> range:
    """The ledger buckets that make up one partition."""
    width = BUCKETS // partitions
    return range(partition * width, (partition + 1) * width)


def same_row(key: bytes, row: int) -> bytes:
    """One entry of `LocalBatch.same`: `hash8` of the reference and the row, so that a drift can find its body."""
    return key + row.to_bytes(4, "big")


def split_rows(joined: bytes) -> Iterable[tuple[bytes, int]]:
    """Hash and row of each entry of `LocalBatch.same`."""
    return ((joined[i : i + 8], int.from_bytes(joined[i + 8 : i + 12], "big")) for i in range(0, len(joined), 12))


def split_hashes(joined: bytes) -> Iterable[bytes]:
    return (joined[i : i + 8] for i in range(0, len(joined), 8))


def sum_of(keys: Iterable[int]) -> tuple[int, int]:
    """Return the number of keys of references, each as an integer, and their sum: equal for equal sets."""
    numbers = list(keys)
    return len(numbers), sum(numbers) % 2**64


def rows_as_numbers(joined: bytes) -> Iterable[int]:
    """The keys in `LocalBatch.same`, as integers."""
    return chain.from_iterable(_KEY_OF_ROW.iter_unpack(joined))


def hashes_as_numbers(joined: bytes) -> tuple[int, ...]:
    """The hashes that `split_hashes` splits, as integers."""
    return struct.unpack(f">{len(joined) // 8}Q", joined)


def encode(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def merge_counts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


class Reject(msgspec.Struct, kw_only=True):
    """A listing that is rejected until its content changes. Times in whole seconds since the epoch, Redis time."""

    reference: str
    where: str
    code: str
    message: str
    fields: list[str] = []
    content: str = ""
    """Hex fingerprint of the refused content, or of the issues of an invalid row."""
    contract: str = ""
    """The revision of the contract under which it was refused; empty once `okasie retry` released it."""
    request_id: str | None = None
    attempts: int = 1
    """The number of refusals; 0 for an invalid row, which was never sent."""
    first_seen: int = 0
    last_seen: int = 0
    run: str = ""
    issues: list[tuple[str, str, str]] = []
    """Of an invalid row: field, code and the row's value, for each thing that is wrong with it."""
    unreadable: bool = False
    """The row's reference cannot be read. ``reference`` is what stands in its place, perhaps ""."""


class SkippedImages(msgspec.Struct, kw_only=True):
    """Images of one listing that the marketplace did not take. Times in whole seconds since the epoch, Redis time."""

    reference: str
    content: str
    """Hex fingerprint of the content they were sent with."""
    images: list[tuple[str, str]]
    """Source URL and reason of the first few."""
    count: int
    tries: int
    next_try: int
    given_up: bool


def encoded(listing: Listing, form: Encoded, row: Local) -> Outgoing:
    """Return a listing with its body before a decision about it. ``row``: its record."""
    return Outgoing(
        reference=row.reference,
        action="",
        reason="",
        body=bulk_item(listing),
        content=row.content,
        rendering=row.rendering,
        dealer=row.dealer,
        filled=row.filled,
        version=row.version,
        row=row.content,
        price=price_code(row.price),
        snapshot=snapshot.packed(form, row.filled, listing.currency),
    )


def outgoing(listing: Listing, *, action: str, reason: str, version: int, seen_ms: int) -> Outgoing:
    """Return a listing with its body and what the ledger records once it is accepted."""
    form, filled = encoded_form(listing), filled_fields(listing)
    return Outgoing(
        reference=listing.external_reference,
        action=action,
        reason=reason,
        body=bulk_item(listing),
        content=form.content,
        rendering=form.rendering,
        dealer=listing_dealer_fingerprint(listing),
        filled=filled,
        version=version,
        row=form.content,
        seen_ms=seen_ms,
        price=price_code(listing.price),
        snapshot=snapshot.packed(form, filled, listing.currency),
    )
