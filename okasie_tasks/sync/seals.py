"""Partitions in which nothing changed, found without a look at most of their ledger entries.

A full run seals a partition whose rows all have ledger entries. The seal has the sum of the keys of the settled
entries, those that need no decision while both sides stay as they are, and the references of the others. While no entry
is written, the next full run only adds up the keys of the rows that equal their entries on either side. If both sums
are the seal's, each settled entry has its row on both sides, as before, and only the other entries are looked at. A
sum that differs opens the partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain

import msgspec

from okasie_tasks.core.ledger_entry import ABSENT, SHARED, EntryState, shared
from okasie_tasks.core.records import (
    LocalBatch,
    RemoteBatch,
    buckets_of,
    hash8,
    hashes_as_numbers,
    rows_as_numbers,
    sum_of,
)
from okasie_tasks.store.known_rows import Seal
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.partition import Partition

_MOST_OTHERS_PERCENT = 25
"""If more of a partition's entries are not settled, a seal would save too little."""


def open_partition(
    ctx: AccountContext, run: str, number: int, partitions: int, *, full: bool, load_first: int
) -> tuple[Partition, Counter[EntryState], Seal | None]:
    """Return a partition with all entries, or under a seal that holds with those that are not settled.

    Beside it: the settled entries that it lacks, counted, and the seal.
    """
    local = list(ctx.runs.data.fetch(run, f"local:{number}", LocalBatch, first=load_first))
    remote = list(ctx.runs.data.fetch(run, f"remote:{number}", RemoteBatch))
    seal = ctx.ledger.known.seal(number, partitions) if full else None
    if seal is not None and _has_rows(seal, local) and has_listings(seal, remote):
        counted = Counter({shared(between): count for between, count in seal.settled})
        return Partition(number, partitions, packed_others(ctx, seal), local, remote), counted, seal
    packed = ctx.ledger.packed_buckets(buckets_of(number, partitions))
    return Partition(number, partitions, packed, local, remote), Counter(), None


def _has_rows(seal: Seal, batches: list[LocalBatch]) -> bool:
    others = set(seal.others)
    if any(row.reference not in others for batch in batches for row in batch.rows):
        return False
    if any(batch.titles.keys() - others for batch in batches):
        return False
    return _is_sum(seal, chain.from_iterable(rows_as_numbers(batch.same) for batch in batches))


def has_listings(seal: Seal, pages: list[RemoteBatch]) -> bool:
    """Return whether the pages have, besides listings of the other entries, each settled entry's listing just once."""
    others = set(seal.others)
    if any(row.reference not in others for page in pages for row in page.rows):
        return False
    return _is_sum(seal, chain.from_iterable(hashes_as_numbers(page.same) for page in pages))


def _is_sum(seal: Seal, keys: Iterable[int]) -> bool:
    others = {_number(reference) for reference in seal.others}
    return sum_of(key for key in keys if key not in others) == seal.keys if others else sum_of(keys) == seal.keys


def packed_others(ctx: AccountContext, seal: Seal) -> dict[str, bytes]:
    """Return the entries that are not settled, packed."""
    packed = ctx.ledger.packed(seal.others, list(map(hash8, seal.others)))
    return {reference: entry for reference, entry in zip(seal.others, packed, strict=True) if entry != ABSENT}


def note(ctx: AccountContext, partition: Partition, seal: Seal | None, number: int, partitions: int) -> None:
    """Seal a partition that a full run has compared, or keep its ``seal``. ``number``: of the run.

    What is written during the run breaks the seal, whether before or after this.
    """
    if seal is not None:
        ctx.ledger.known.keep_seal(partition.number, msgspec.structs.replace(seal, number=number))
        return
    others = sorted(partition.base)
    if {*partition.rows, *partition.remote, *partition.titles}.difference(partition.listed):
        return
    if len(others) * 100 > len(partition.packed) * _MOST_OTHERS_PERCENT:
        return
    settled = [(name, packed) for name, packed in partition.packed.items() if name not in partition.base]
    keys, counted = sum_of(_number(name) for name, _ in settled), Counter(packed[SHARED] for _, packed in settled)
    ctx.ledger.known.keep_seal(partition.number, Seal(number, partitions, keys, list(counted.items()), others))


def _number(reference: str) -> int:
    return int.from_bytes(hash8(reference), "big")
