"""Partitions in which nothing changed, found without a look at their ledger entries.

A full run that finds all of a partition unchanged on both sides, and nothing left to do, seals it: the seal has the sum
of the keys of all its entries. While no entry is written, the next full run only adds up the keys of the rows that
equal their entries on either side. If both sums are the seal's, each entry has its row on both sides, as before.
A wrong seal costs a comparison and nothing else: a sum that differs opens the partition.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain

from okasie_tasks.core.ledger_entry import SHARED, EntryState, shared
from okasie_tasks.core.records import LocalBatch, RemoteBatch, hash8, hashes_as_numbers, rows_as_numbers, sum_of
from okasie_tasks.store.known_rows import Seal
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.partition import Partition


def settled(
    ctx: AccountContext, run: str, partition: int, partitions: int, *, load_first: int
) -> Counter[EntryState] | None:
    """Return the entries of a partition, counted, if all are unchanged since a full run sealed it; else None."""
    seal = ctx.ledger.known.seal(partition, partitions)
    if seal is None:
        return None
    local = list(ctx.runs.data.fetch(run, f"local:{partition}", LocalBatch, first=load_first))
    if any(batch.rows or batch.titles for batch in local):
        return None
    if sum_of(chain.from_iterable(rows_as_numbers(batch.same) for batch in local)) != seal.keys:
        return None
    remote = list(ctx.runs.data.fetch(run, f"remote:{partition}", RemoteBatch))
    if any(page.rows for page in remote) or not is_whole(seal, remote):
        return None
    return Counter({shared(between): count for between, count in seal.settled})


def is_whole(seal: Seal, pages: list[RemoteBatch]) -> bool:
    """Return whether the pages have a row equal to its entry for each entry of the partition, and for each just one."""
    return sum_of(chain.from_iterable(hashes_as_numbers(page.same) for page in pages)) == seal.keys


def note(ctx: AccountContext, partition: Partition, number: int, partitions: int) -> None:
    """Seal a partition that a full run has compared, if nothing in it differs and nothing is left to do.

    ``number``: of the run. What is written during the run breaks the seal, whether before or after this.
    """
    if partition.base or partition.rows or partition.remote or partition.titles:
        return
    keys = sum_of(int.from_bytes(hash8(reference), "big") for reference in partition.listed)
    counted = Counter(packed[SHARED] for packed in partition.packed.values())
    ctx.ledger.known.keep_seal(partition.number, Seal(number, partitions, keys, list(counted.items())))
