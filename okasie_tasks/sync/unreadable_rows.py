"""Rows without a readable reference, in a run: recorded as rejects once the source is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from okasie_tasks.core.fingerprint import fingerprint
from okasie_tasks.core.listing import Issue
from okasie_tasks.core.records import Reject
from okasie_tasks.core.unreadable import UnreadableRow, UnreadableRows, merged, rejects_of
from okasie_tasks.ports import SourceRow
from okasie_tasks.sync import rejects
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

COLLECTION: Final = "unreadable"
"""A collection of a dry run: the rejects of its rows without a readable reference."""
_NO_REASON: Final = Issue("externalReference", "bad_reference", "the source gives no reference")
_PLACES: Final = 20
"""Places that the run's record keeps."""


def record_of(row: SourceRow) -> UnreadableRow:
    """Return what is kept of a row whose reference cannot be read."""
    issues = row.issues or (_NO_REASON,)
    content = row.raw or fingerprint([row.found, *(issue.message for issue in issues)])
    return UnreadableRow(row.where, content, row.found, issues)


def record(ctx: AccountContext, run: Run, rows: Sequence[UnreadableRow], *, count: int, complete: bool) -> None:
    """Store the rows of a read as rejects, and note in the run how many there are and how many are new.

    ``count``: all such rows, of which ``rows`` are the first. ``complete``: see `okasie_tasks.core.unreadable.merged`.
    """
    before = ctx.ledger.unreadable_rows()
    now = UnreadableRows(count, rejects_of(rows, run=run.id, now=int(ctx.runs.now())))
    after, new = merged(before, now, complete=complete)
    # Noted first and once: if this is repeated after a crash, the rows are no longer new.
    ctx.runs.note_once(run.id, "nameless_new", str(new))
    if count:
        ctx.runs.note(run.id, nameless_where=json.dumps([row.where for row in rows[:_PLACES]]))
    if run.plan_only:
        ctx.runs.data.put(run.id, COLLECTION, 0, now.rejects)
    elif before.count or count:
        ctx.ledger.put_unreadable_rows(after)
        known = {reject.content for reject in before.rejects}
        rejects.log_new(ctx, [reject for reject in now.rejects if reject.content not in known])


def of_plan(ctx: AccountContext, run: str) -> list[Reject]:
    """Return the rejects of a dry run's rows without a readable reference."""
    return ctx.runs.data.fetch_one(run, COLLECTION, 0, list[Reject]) or []
