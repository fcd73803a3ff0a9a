"""Prices that move by more than ``max_price_change_percent`` of what was last sent: an operator must approve them.

The old price is that of the listing's `Snapshot`. Where that has expired, or was never made, it is that of the
marketplace's row, if this run read it with its values, else that of the ledger entry, which is about right. Without any
the price is not judged. A push is not judged: its caller has just chosen the price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from okasie_tasks.core.decision import SENDS, Decision
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, decode_compared
from okasie_tasks.core.guards import EXAMPLES, DealerTotals, is_price_move
from okasie_tasks.core.ledger_entry import Entry, about_price
from okasie_tasks.core.records import Local, Planned, Remote
from okasie_tasks.core.snapshot import Snapshot
from okasie_tasks.sync.context import AccountContext

_PRICE: Final = COMPARED_FIELDS.index("price")


class NewPrice(NamedTuple):
    """The price that a plan would send. ``theirs``: the marketplace's row, if it was read with its values."""

    price: float
    theirs: bytes | None
    about: float | None
    """About the price that was last sent."""


def new_price(decision: Decision, local: Local | None, remote: Remote | None, base: Entry | None) -> NewPrice | None:
    """Return the price to judge; None if the listing is new, has none, or its content was sent before."""
    if decision.action not in SENDS or local is None or local.price is None or (base is None and remote is None):
        return None
    if base is not None and local.content == base.content:
        return None
    theirs = remote.values if remote is not None else None
    return NewPrice(local.price, theirs, about_price(base.price) if base is not None else None)


def judged(
    ctx: AccountContext, planned: Iterable[Planned], prices: Mapping[str, NewPrice], dealers: dict[str, DealerTotals]
) -> list[Planned]:
    """Return the plan with each excessive price move noted, and count those in the totals of their dealers."""
    limit = ctx.policy.limits.max_price_change_percent
    if limit is None or not prices:
        return list(planned)
    snapshots = ctx.history.snapshots(sorted(prices))
    changes = []
    for change in planned:
        new = prices.get(change.reference)
        old, about = (None, False) if new is None else _old_price(new, snapshots.get(change.reference))
        if new is not None and is_price_move(old, new.price, limit):
            change = msgspec.structs.replace(change, price_move=(old, new.price), about=about)  # noqa: PLW2901
            totals = dealers.setdefault(change.dealer.hex(), DealerTotals())
            totals.price_moves += 1
            if len(totals.price_examples) < EXAMPLES:
                totals.price_examples.append(f"{change.reference} {change.price_text}")
        changes.append(change)
    return changes


def _old_price(new: NewPrice, before: Snapshot | None) -> tuple[object, bool]:
    """Return the old price, None for none, and whether it is only about right."""
    if before is not None:
        return before.price, False
    if new.theirs is not None:
        return decode_compared(new.theirs)[_PRICE], False
    return new.about, True
