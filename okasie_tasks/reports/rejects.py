"""What a run or a dry run rejected, and the sells that wait for rows without a readable reference."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.core.records import Reject
from okasie_tasks.sync import rejects, unreadable_rows
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.ledger import Ledger
    from okasie_tasks.store.records import Run

_OF_PLAN: Final = 1_000


def incomplete_source(ledger: Ledger) -> dict[str, Any]:
    """Return how many rows have no readable reference, how many sells wait, and why."""
    rows, waiting = ledger.waiting_sells()
    return {
        "rows_without_reference": rows,
        "sells_waiting": waiting.count,
        "sells_wait_for": waiting.reason or None,
    }


def new_rejects(ledger: Ledger, record: Run, limit: int = 50) -> list[dict[str, Any]]:
    """Return the rejects that this run found first, at most ``limit``."""
    found = chain(ledger.unreadable_rows().rejects, ledger.all_rejects())
    new = (r for r in found if r.run == record.id and r.first_seen * 1000 >= record.created_ms - 1000)
    return [_short(reject) for reject in islice(new, limit)]


def rejects_of_plan(ctx: AccountContext, run: str) -> list[dict[str, Any]]:
    """Return the rejects that a dry run found, rows without a readable reference first, at most 1,000."""
    listings = (reject for batch in ctx.runs.data.fetch(run, rejects.COLLECTION, list[Reject]) for reject in batch)
    found = chain(unreadable_rows.of_plan(ctx, run), sorted(listings, key=lambda reject: reject.reference))
    return [_short(reject) for reject in islice(found, _OF_PLAN)]


def _short(reject: Reject) -> dict[str, Any]:
    return {
        "reference": reject.reference, "where": reject.where, "code": reject.code, "message": reject.message,
        "fields": reject.fields,
    }  # fmt: skip
