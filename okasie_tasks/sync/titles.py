"""The catalogue of titles during a run: new and changed rows enter it, and what was never sent leaves it with its row.

A name without a ledger entry is that of a listing still to be sent, held, or refused. When its row is gone, nothing
else would remove it: after a feed with other references, whose listings were held, all of them would still be found.
So shelves with such names are marked, and the next complete read of the source looks at them. A run without new rows
reads only the marks.
"""

from __future__ import annotations

from okasie_tasks.core.catalog import BUCKETS_PER_SHELF, shelf_of
from okasie_tasks.core.records import bucket_of
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.partition import Partition


def note(ctx: AccountContext, partition: Partition, *, complete: bool) -> None:
    """Write the titles of a partition. ``complete``: the source was read completely, so a row it lacks is gone."""
    catalog = ctx.ledger.catalog
    catalog.put(partition.titles)
    if complete:
        _remove_vanished(ctx, partition)
    catalog.mark_new({shelf_of(name) for name in partition.titles.keys() - partition.listed})


def _remove_vanished(ctx: AccountContext, partition: Partition) -> None:
    catalog, buckets = ctx.ledger.catalog, partition.buckets
    shelves = range(buckets.start // BUCKETS_PER_SHELF, (buckets.stop - 1) // BUCKETS_PER_SHELF + 1)
    unlisted = {shelf: rows.keys() - partition.listed for shelf, rows in catalog.shelves(catalog.marked_new(shelves))}
    # Under a seal, most entries were not read.
    known = ctx.ledger.get(sorted(set[str]().union(*unlisted.values()))).keys()
    unlisted = {shelf: names - known for shelf, names in unlisted.items()}
    gone = (name for names in unlisted.values() for name in names - partition.rows.keys())
    vanished = {name for name in gone if bucket_of(name) in buckets}
    if vanished:
        # A push enters the queue before the catalogue, and the ledger before it leaves the queue.
        vanished -= ctx.urgent_queue.references() | ctx.ledger.rejected_references()
        vanished -= ctx.ledger.get(sorted(vanished)).keys()
        catalog.put(dict.fromkeys(vanished))
    catalog.unmark_new([shelf for shelf, names in unlisted.items() if names <= vanished])
