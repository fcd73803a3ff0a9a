"""Creates that were never answered: the marketplace may have done them, though the ledger has no entry for them.

Their references are noted before each request and forgotten once its answer settles them. If such a listing is found on
the marketplace, and its row has left the source by then, it is ours. Without the note it would count as a foreign one,
and stay there for good.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from okasie_tasks.core.decision import claim_of
from okasie_tasks.core.ledger_entry import LIVE
from okasie_tasks.core.records import Outgoing
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.partition import Partition


def creates_of(items: Sequence[Outgoing], known: Collection[str]) -> set[str]:
    """The references of the creates among the items of a request. ``known``: those in the ledger."""
    return {item.reference for item in items if item.action == "create" and item.reference not in known}


def claim(ctx: AccountContext, partition: Partition, *, plan_only: bool) -> None:
    """Add such listings to the partition, and to the ledger, as listings that were in the source."""
    unowned = [
        reference
        for reference, row in partition.remote.items()
        if row.status in LIVE and reference not in partition.base and reference not in partition.rows
    ]
    claimed = {name: claim_of(partition.remote[name]) for name in ctx.ledger.noted_creates(unowned)}
    partition.base.update(claimed)
    if not plan_only:
        ctx.ledger.swap((name, None, entry) for name, entry in claimed.items())
        ctx.ledger.forget_creates(claimed)
