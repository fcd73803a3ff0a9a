"""The small records that both sides write into the partitions of a run, and how they travel between tasks.

A row that equals the ledger's picture is only the 8-byte hash of its reference; everything else is a record. The
values of a listing (``values``) travel only where a comparison by value may be needed: see `Remote.values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from okasie_tasks.core.fingerprint import (
    Compared,
    compared,
    compared_fingerprint,
    content_fingerprint,
    filled_fields,
    listing_dealer_fingerprint,
    reference_hash,
    reference_key,
)
from okasie_tasks.core.listing import Issue, Listing, bulk_item

_ROWS_PER_PARTITION = 15_000
BUCKETS = 1024
"""Ledger buckets per account; a partition of a run is a range of buckets."""


class Local(msgspec.Struct, frozen=True, array_like=True):
    """One row of the source. ``issues`` non-empty: the row is invalid, yet proves that the car is there."""

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
    """Who made it, as the marketplace tells; "" for a row that the ledger has and that bears our name."""


class LocalBatch(msgspec.Struct, array_like=True):
    """What one slice of the source puts into one partition. ``same``: rows equal to the ledger's, 12 bytes each."""

    same: bytes = b""
    rows: list[Local] = []


class RemoteBatch(msgspec.Struct, array_like=True):
    """What one page puts into one partition. ``same``: hashes of references equal to the ledger's, 8 bytes each."""

    same: bytes = b""
    rows: list[Remote] = []


class Planned(msgspec.Struct, frozen=True, array_like=True):
    """One change of the plan. ``row`` is where the source had it (-1: the change needs no row)."""

    reference: str
    action: str
    reason: str
    row: int
    content: bytes
    dealer: bytes
    fields: tuple[str, ...] = ()
    rendering_seen: bytes = b""
    """The marketplace's rendering that this change answers, for a drift or a car listed again; else empty."""
    seen_ms: int | None = None
    """For a row that did not change, so that ours is only sent again: how new that is; else as new as this run."""
    changed: bool = False
    """The row of a listing that is ours and live changed in the source."""
    loses: tuple[str, ...] = ()
    """Fields that stand filled and that this would empty."""


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """One listing on its way: the body and what the ledger must know once it is accepted."""

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
    """The marketplace's rendering that is answered by sending ours again; else empty."""
    seen_ms: int = 0
    """When the read of the source began, Redis time."""


def hash8(reference: str) -> bytes:
    """What stands for a reference in the records of a run: `reference_hash` as bytes."""
    return reference_key(reference)


def partition_of_hash(key: bytes, partitions: int) -> int:
    """The partition, 0 to ``partitions`` - 1, of the reference whose `hash8` is ``key``."""
    return int.from_bytes(key, "big") % BUCKETS * partitions // BUCKETS


def bucket_of(reference: str) -> int:
    """Ledger bucket, 0..1023: the same in every run and release."""
    return reference_hash(reference) % BUCKETS


def partitions_for(listings: int) -> int:
    """How many partitions a run over about ``listings`` rows is cut into: a power of two, about 10,000 rows each.

    Each page writes into most of them, so many cost time; few cost memory, a few kB a thousand rows when all are new.
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


def encode(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def merge_counts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


class Reject(msgspec.Struct, kw_only=True):
    """A listing that is parked until its content changes. Times in whole seconds since the epoch, Redis time."""

    reference: str
    where: str
    code: str
    message: str
    fields: list[str] = []
    content: str = ""
    """Hex fingerprint of what was refused: the content, or for an invalid row its issues."""
    contract: str = ""
    """The revision of the contract under which it was refused; empty once `okasie retry` has freed it."""
    request_id: str | None = None
    attempts: int = 1
    """Times that the marketplace refused it; 0 for a row that was never sent, because it is invalid."""
    first_seen: int = 0
    last_seen: int = 0
    run: str = ""


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


def outgoing(
    listing: Listing,
    *,
    action: str,
    reason: str,
    version: int,
    seen_ms: int,
    answers: bytes = b"",
    values: Compared | None = None,
) -> Outgoing:
    """A listing with its body and all that the ledger must know of it once it is accepted.

    ``values``: its compared form, where that was made already.
    """
    values = values or compared(listing)
    content = content_fingerprint(listing, values)
    return Outgoing(
        reference=listing.external_reference,
        action=action,
        reason=reason,
        body=bulk_item(listing),
        content=content,
        rendering=compared_fingerprint(values),
        dealer=listing_dealer_fingerprint(listing),
        filled=filled_fields(listing),
        version=version,
        row=content,
        answers=answers,
        seen_ms=seen_ms,
    )
