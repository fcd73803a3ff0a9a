"""Partitions in which little changed, compared without a look at most of their ledger entries.

A full run seals a partition: it keeps the sum of the keys of the settled entries, those that need no decision while
both sides stay as they are, and the references of the others. The next full run takes the references whose rows or
listings are not as their entries, and looks at these and at the others. It adds up the keys of all other rows that
equal their entries, on either side. If both sums are what the seal leaves for them, each of these settled entries has
its row on both sides, just once, as before. A sum that differs opens the partition, and so does an entry that was
written since, unless it is looked at anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

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
"""If more of a partition's entries are not settled, or have changed, a seal would save too little."""


class Rest(NamedTuple):
    """The settled entries of a partition that need no look. ``keys``: their number, and the sum of their keys.

    ``settled``: how many of them have which bytes (`okasie_tasks.core.ledger_entry.SHARED`).
    """

    keys: tuple[int, int]
    settled: Counter[bytes]

    def states(self) -> Counter[EntryState]:
        """Return their states, counted."""
        return Counter({shared(between): count for between, count in self.settled.items()})


def open_partition(
    ctx: AccountContext, run: str, number: int, partitions: int, *, full: bool, load_first: int
) -> tuple[Partition, Rest]:
    """Return a partition with the entries that must be looked at, and the rest; without a seal, with all entries."""
    local = list(ctx.runs.data.fetch(run, f"local:{number}", LocalBatch, first=load_first))
    remote = list(ctx.runs.data.fetch(run, f"remote:{number}", RemoteBatch))
    if full:
        names = (name for batch in local for name in chain((row.reference for row in batch.rows), batch.titles))
        rows = list(chain.from_iterable(rows_as_numbers(batch.same) for batch in local))
        under = _under_seal(ctx, number, partitions, {*names, *_changed(remote)}, rows, _listings(remote))
        if under is not None:
            packed, rest = under
            return Partition(number, partitions, packed, local, remote), rest
    packed = ctx.ledger.packed_buckets(buckets_of(number, partitions))
    return Partition(number, partitions, packed, local, remote), Rest((0, 0), Counter())


def entries_without_listing(
    ctx: AccountContext, number: int, partitions: int, pages: list[RemoteBatch]
) -> dict[str, bytes]:
    """Return the packed entries of a partition that may have no listing on these pages, and some that have."""
    under = _under_seal(ctx, number, partitions, set(_changed(pages)), _listings(pages))
    return under[0] if under is not None else ctx.ledger.packed_buckets(buckets_of(number, partitions))


def _changed(pages: list[RemoteBatch]) -> Iterator[str]:
    return (row.reference for page in pages for row in page.rows)


def _listings(pages: list[RemoteBatch]) -> list[int]:
    """Return the keys of the listings that equal their entries."""
    return list(chain.from_iterable(hashes_as_numbers(page.same) for page in pages))


def _under_seal(
    ctx: AccountContext, number: int, partitions: int, changed: set[str], *sides: list[int]
) -> tuple[dict[str, bytes], Rest] | None:
    """Return the packed entries that must be looked at, and the rest; None if the seal does not prove the rest.

    ``sides``: the keys of the rows that equal their entries, on either side.
    """
    seal = ctx.ledger.known.seal(number, partitions)
    if seal is None:
        return None
    others = frozenset(seal.others)
    if len(changed | others) * 100 > (seal.keys[0] + len(others)) * _MOST_OTHERS_PERCENT:
        return None
    names = sorted(changed | others)
    keys = list(map(hash8, names))
    packed = {name: entry for name, entry in zip(names, ctx.ledger.packed(names, keys), strict=True) if entry != ABSENT}
    rest = _without(seal, {name: packed[name] for name in packed.keys() - others})
    looked_at = {int.from_bytes(key, "big") for key in keys}
    if rest is None or any(_sum_without(side, looked_at) != rest.keys for side in sides):
        return None
    # After the entries were read: one that is written from now on is touched by this run, or by a later one. What was
    # settled must not have been written, even where its row changed as well: the seal has counted it as it was.
    return (packed, rest) if ctx.ledger.known.holds(seal, number, but=frozenset(map(hash8, others))) else None


def _without(seal: Seal, packed: dict[str, bytes]) -> Rest | None:
    """Return what the seal says of its settled entries without these; None if they cannot all be among them."""
    count, total = _sum(packed)
    settled = Counter(dict(seal.settled))
    settled.subtract(entry[SHARED] for entry in packed.values())
    if min(settled.values(), default=0) < 0:
        return None
    return Rest((seal.keys[0] - count, (seal.keys[1] - total) % 2**64), +settled)


def _sum_without(keys: list[int], some: set[int]) -> tuple[int, int]:
    return sum_of(key for key in keys if key not in some) if some else sum_of(keys)


def _sum(references: Iterable[str]) -> tuple[int, int]:
    return sum_of(int.from_bytes(hash8(reference), "big") for reference in references)


def note(ctx: AccountContext, partition: Partition, rest: Rest, number: int, partitions: int) -> None:
    """Seal a partition that a full run has compared. ``number``: of the run.

    What is written during the run breaks the seal, whether before or after this, unless it is among the others.
    """
    unlisted = {*partition.rows, *partition.remote, *partition.titles}.difference(partition.listed)
    others = sorted(unlisted.union(partition.base))
    settled = {name: packed for name, packed in partition.packed.items() if name not in partition.base}
    (count, total), (rest_count, rest_total) = _sum(settled), rest.keys
    if len(others) * 100 > (count + rest_count + len(others)) * _MOST_OTHERS_PERCENT:
        return
    counted = rest.settled + Counter(packed[SHARED] for packed in settled.values())
    keys = (count + rest_count, (total + rest_total) % 2**64)
    ctx.ledger.known.keep_seal(partition.number, Seal(number, partitions, keys, list(counted.items()), others))
