"""Collects the old and new values of held changes, for the operator who decides on the plan."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.fingerprint import decode_compared
from okasie_tasks.core.guards import TAKE_OVER, HeldPlan, action_of, reference_of
from okasie_tasks.core.held_change import (
    MOST_SHOWN,
    HeldChange,
    known_fields,
    of_listing,
    of_preexisting,
    of_row,
    with_old_values,
)
from okasie_tasks.core.records import Planned, Remote
from okasie_tasks.sync import rejects, unreadable_rows
from okasie_tasks.sync.context import AccountContext

_HELD: Final = "held"
"""A collection of the run: the held creates and updates of each block of the source."""
KEPT_FOR_PLANS: Final = (
    "sends:", "sells", "losing", "preexisting", _HELD, rejects.COLLECTION, unreadable_rows.COLLECTION,
)  # fmt: skip
"""The collections from which a dry run's plan is shown after its end."""


def keep(ctx: AccountContext, run: str, number: int, listings: Sequence[tuple[Planned, bytes]]) -> None:
    """Store what the held changes of one block would do. ``listings``: each with its body as it would be sent."""
    shown = listings[:MOST_SHOWN]
    if not shown:
        return
    snapshots = ctx.history.snapshots([planned.reference for planned, _ in shown if planned.action != "create"])
    theirs = {
        reference: values
        for batch in ctx.runs.data.fetch(run, "theirs", dict[str, bytes])
        for reference, values in batch.items()
    }
    titles = {
        name: row for batch in ctx.runs.data.fetch(run, "titles", dict[str, Titled]) for name, row in batch.items()
    }
    changes = []
    for planned, body in shown:
        row = theirs.get(planned.reference)
        values = None if row is None else decode_compared(row)
        before = snapshots.get(planned.reference)
        held = of_listing(planned, msgspec.json.decode(body), before=before, theirs=values)
        changes.append(with_old_values(held, known_fields(titles.get(planned.reference), before)))
    ctx.runs.data.put(run, _HELD, number, changes)


def still_held(ctx: AccountContext, plan: HeldPlan) -> list[HeldChange]:
    """Return the changes of a held plan whose listings were not written since: their old values are still the old ones.

    Of a field whose value the ledger does not keep, only the run that first saw the change knows the old value.
    """
    changes = ctx.plans.changes(ctx.policy.account)
    entries = ctx.ledger.get([change.reference for change in changes])
    return [c for c in changes if (entry := entries.get(c.reference)) is None or entry.sent_ms < plan.created_ms]


def collect(ctx: AccountContext, run: str, items: Sequence[str], before: Sequence[HeldChange] = ()) -> list[HeldChange]:
    """Return what the held items of a run would do, at most `MOST_SHOWN`, in the order of ``items``.

    ``before``: the changes of the plan held so far, for a take-over that an incremental run does not read again, and
    for old values that this run does not know; see `still_held`.
    """
    known = {change.item: change for change in before if change.action == TAKE_OVER}
    olds = {change.item: {field: old for field, old, _ in change.changes} for change in before}
    held = (change for batch in ctx.runs.data.fetch(run, _HELD, list[HeldChange]) for change in batch)
    known |= {change.item: with_old_values(change, olds.get(change.item, {})) for change in held}
    for batch in ctx.runs.data.fetch(run, "preexisting", list[Remote]):
        known |= {change.item: change for row in batch for change in of_preexisting(row)}
    wanted = {(action_of(name), reference_of(name)) for name in items}
    rows = [
        planned
        for collection in ("sells", "losing")
        for batch in ctx.runs.data.fetch(run, collection, list[Planned])
        for planned in batch
        if (planned.action, planned.reference) in wanted - known.keys()
    ]
    entries = ctx.ledger.get([planned.reference for planned in rows[:MOST_SHOWN]])
    for planned in rows[:MOST_SHOWN]:
        entry = entries.get(planned.reference)
        change = of_row(planned, status=entry.status if entry else "")
        known[change.item] = change
    found = (known.get((action_of(name), reference_of(name))) for name in items)
    return _with_titles(ctx, list(islice((change for change in found if change is not None), MOST_SHOWN)))


def _with_titles(ctx: AccountContext, changes: Sequence[HeldChange]) -> list[HeldChange]:
    """Add the titles of changes without a body, such as sells, as far as the catalogue knows them."""
    known = ctx.ledger.catalog.get([change.reference for change in changes if not change.title])
    return [
        msgspec.structs.replace(change, title=known[change.reference].title) if change.reference in known else change
        for change in changes
    ]
