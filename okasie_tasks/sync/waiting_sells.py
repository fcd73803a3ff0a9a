"""Sells that wait because the source was not read completely: their number, and the reason in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from okasie_tasks.core.unreadable import MOST_NAMED, WaitingSells
from okasie_tasks.sync import settling
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

COLLECTION: Final = "sells_waiting"
"""A collection of the run: the references of each partition whose sell waits."""


def note(ctx: AccountContext, run: Run, count: int | None) -> None:
    """Store the sells that wait after a run, and note in the run whether an alert is due.

    ``count``: None for a run that did not compare everything, so that the number of the run before stands.
    """
    _, before = ctx.ledger.waiting_sells()
    # Once: if this is repeated after a crash, the number no longer differs from the one before.
    grown = run.fact("nameless_new") > 0 or (count is not None and count > before.count)
    ctx.runs.note_once(run.id, "waiting_alert", str(int(grown)))
    if count is None:
        return
    references = [name for names in ctx.runs.data.fetch(run.id, COLLECTION, list[str]) for name in names]
    if count or before.count:
        ctx.ledger.put_waiting_sells(WaitingSells(count, reason(run), run.id, references[:MOST_NAMED]))


def reason(run: Run) -> str:
    """Return why the run does not prove that a listing is absent from the source; "" if it does."""
    if count := run.fact("nameless"):
        places: list[str] = json.loads(run.facts.get("nameless_where", "[]"))
        named = ", ".join(places[:3]) + (", ..." if count > 3 else "")
        what = "1 row has no readable reference" if count == 1 else f"{count} rows have no readable reference"
        return f"{what}: {named}"
    if run.fact("unsettled"):
        return f"the source {settling.STILL_CHANGING}"
    if count := run.fact("unconfirmed"):
        message: str = json.loads(run.facts.get("error", "{}")).get("message", "could not be read again")
        return f"the source {message.removesuffix(f'; {count} sells wait')}"
    return ""


def sentence(run: Run) -> str:
    """Return how many sells wait after the run and why; also if none waits yet, but would; "" otherwise."""
    why = reason(run)
    if not why:
        return ""
    count = json.loads(run.facts.get("listings", "{}")).get("sells_waiting", 0)
    if not count:
        return f"no listing that disappears from the source is sold: {why}"
    return f"{count} sell{' waits' if count == 1 else 's wait'}: {why}"
