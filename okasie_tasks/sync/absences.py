"""Listings that a full walk did not return: whether that proves anything.

A live listing of the ledger counts as missing on the marketplace only if no row has its reference in another spelling,
the page past the announced end is empty, and no row without a readable reference may be it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from okasie_tasks.core.ledger_entry import ABSENT, LIVE, Entry, entry_state
from okasie_tasks.core.records import (
    LocalBatch,
    Remote,
    RemoteBatch,
    buckets_of,
    hash8,
    partition_of_hash,
    split_hashes,
)
from okasie_tasks.sync import fetch, seals
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

_AFTER_ALL_PAGES: Final = 1_000_000_000
"""The read number of records that replace those of the pages; of two records of one listing, the later counts."""


def missing_listings(ctx: AccountContext, run: Run) -> set[str]:
    """Return the live references of the ledger that no page of this walk returned, under any spelling.

    Rows whose reference is only spelled differently are assigned to their listings on the way.
    """
    missing: set[str] = set()
    partitions = run.fact("partitions", 1)
    for partition in _partitions(run):
        pages = list(ctx.runs.data.fetch(run.id, f"remote:{partition}", RemoteBatch))
        entries = seals.entries_without_listing(ctx, partition, partitions, pages)
        live = {name: packed for name, packed in entries.items() if entry_state(packed).status in LIVE}
        returned = set(_returned(pages)) if live else set()
        for reference, packed in live.items():
            if hash8(reference) not in returned:
                # Sent after the pages were read, it could not be on them.
                missing.update([reference] if Entry.unpack(packed).sent_ms < run.started_ms else [])
    return missing - _assign(ctx, run, missing, _unknown_rows(ctx, run)) if missing else missing


def is_proof(ctx: AccountContext, run: Run, missing: Collection[str]) -> bool:
    """Return whether no row without a readable reference may be one of the missing listings."""
    pages = fetch.last_round(ctx, run)
    ours = sum(page.get("unnamed", 0) + page.get("unreadable", 0) for page in pages)
    anonymous = sum(page.get("anonymous", 0) for page in pages)
    # Listings of others may have neither reference nor provider; a mass of both is a mass of unread references.
    many = len(missing) > ctx.policy.limits.free_field_loss_count
    unread = ours or (many and anonymous >= len(missing))
    # The last page is not empty when the walk gave up reading on.
    return not missing or not (unread or pages[-1].get("rows"))


def assign_new(ctx: AccountContext, run: Run) -> None:
    """Assign rows that are neither in ledger nor source to new source rows whose reference is only spelled differently.

    Called after the source was read by a full run.
    """
    if not sum(page.get("unowned", 0) for page in fetch.last_round(ctx, run)):
        return
    partitions = run.fact("partitions", 1)
    fresh: set[str] = set()
    rows: dict[str, Remote] = {}
    for partition in _partitions(run):
        known = ctx.ledger.packed_buckets(buckets_of(partition, partitions))
        local = {
            row.reference
            for batch in ctx.runs.data.fetch(run.id, f"local:{partition}", LocalBatch)
            for row in batch.rows
            if row.reference not in known
        }
        remote = {row.reference: row for row in _records(ctx, run, partition) if row.reference not in known}
        fresh.update(local - remote.keys())
        rows |= {name: row for name, row in remote.items() if name not in local and row.id}
    _assign(ctx, run, fresh, rows)


def _partitions(run: Run) -> range:
    return range(run.fact("partitions", 1))


def _records(ctx: AccountContext, run: Run, partition: int) -> Iterator[Remote]:
    for batch in ctx.runs.data.fetch(run.id, f"remote:{partition}", RemoteBatch):
        yield from batch.rows


def _returned(pages: Iterable[RemoteBatch]) -> Iterator[bytes]:
    for batch in pages:
        yield from split_hashes(batch.same)
        yield from (hash8(row.reference) for row in batch.rows)


def _unknown_rows(ctx: AccountContext, run: Run) -> dict[str, Remote]:
    """Return the rows that are not in the ledger, by reference."""
    rows: dict[str, Remote] = {}
    for partition in _partitions(run):
        found = {row.reference: row for row in _records(ctx, run, partition) if row.id}
        packed = ctx.ledger.packed(list(found), [hash8(reference) for reference in found])
        rows |= {name: row for (name, row), entry in zip(found.items(), packed, strict=True) if entry == ABSENT}
    return rows


# -- spelling ------------------------------------------------------------------------------------------------------


def _assign(ctx: AccountContext, run: Run, wanted: Iterable[str], rows: Mapping[str, Remote]) -> set[str]:
    """Assign each row to the one wanted reference that differs only in case and spaces; returns those references."""
    by_fold: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for reference in wanted:
        by_fold[_folded(reference)][0].append(reference)
    for reference in rows:
        if (fold := _folded(reference)) in by_fold:
            by_fold[fold][1].append(reference)
    pairs = {ours[0]: theirs[0] for ours, theirs in by_fold.values() if len(ours) == len(theirs) == 1}
    batches: dict[int, RemoteBatch] = defaultdict(RemoteBatch)
    partitions = run.fact("partitions", 1)
    for ours, theirs in sorted(pairs.items()):
        row, warning = rows[theirs], f"its reference is returned as {theirs!r}"
        record = msgspec.structs.replace(row, reference=ours, provider="", warning=row.warning or warning)
        batches[partition_of_hash(hash8(ours), partitions)].rows.append(record)
        # A record without an id removes the row under its own spelling.
        gone = msgspec.structs.replace(row, id="", provider="", values=None)
        batches[partition_of_hash(hash8(theirs), partitions)].rows.append(gone)
    if pairs:
        ctx.runs.data.mark(run.id, "with_values", [hash8(reference) for reference in pairs])
        number = _AFTER_ALL_PAGES + (run.stage == "load")
        ctx.runs.data.put_all(run.id, number, {f"remote:{name}": batch for name, batch in batches.items()})
    return set(pairs)


def _folded(reference: str) -> str:
    return "".join(reference.split()).casefold()
