"""Fields that most of the marketplace's rows have lost at once: guarded like a mass loss in the source.

Their empty values are unknown in this run: neither sent again, nor offered to the source, nor learned.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.core.ledger_entry import entry_state
from okasie_tasks.core.records import BUCKETS, merge_counts
from okasie_tasks.logs import get_logger
from okasie_tasks.sync import fetch
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

log = get_logger(__name__)

_BUCKETS_PER_TRIP: Final = 64


def review_fields(ctx: AccountContext, run: Run) -> dict[str, str | int]:
    """Return the facts of the run about fields that its rows lack, after the walk.

    ``lost_fields``: field -> rows that lost it, and listings that we filled. ``lost_new``: some were not
    lost in the last run, so that an alert is due.
    """
    pages = fetch.last_round(ctx, run)
    lost = _lost(ctx, run, pages)
    before = {name for name in ctx.runs.account(run.account).lost_fields.split(",") if name}
    # An incremental run reads few listings, so it does not prove that a field is back.
    after = set(lost) if run.fact("walked_all") else before.union(lost)
    if after != before and not run.plan_only:
        ctx.runs.note_account(run.account, lost_fields=",".join(sorted(after)))
    if not lost:
        return {}
    context = {"account": run.account, "run": run.id}
    log.warning("the marketplace lost fields of most listings", **context, fields=lost)
    return {"lost_fields": json.dumps(lost), "lost_new": int(not before.issuperset(lost))}


def lost_reasons(run: Run) -> list[str]:
    """Return a sentence for each field that most rows of the run had lost."""
    lost: dict[str, tuple[int, int]] = json.loads(run.facts.get("lost_fields", "{}"))
    return [
        f"the marketplace returns {field} empty or not at all in {count} of {filled} listings: not compared, not sent"
        " again, not offered to the source"
        for field, (count, filled) in lost.items()
    ]


def _lost(ctx: AccountContext, run: Run, pages: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    limits = ctx.policy.limits
    counts = merge_counts(page.get("lost", {}) for page in pages)
    counts = {field: count for field, count in sorted(counts.items()) if count > limits.free_field_loss_count}
    if not counts:
        return {}
    # An incremental run reads few listings: their own numbers count, until a full run has read all.
    filled = _filled(ctx) if run.fact("walked_all") else merge_counts(page.get("filled", {}) for page in pages)
    of = {field: max(count, filled.get(field, 0)) for field, count in counts.items()}
    return {
        field: (count, of[field])
        for field, count in counts.items()
        if 100.0 * count / of[field] > limits.max_field_loss_percent
    }


def _filled(ctx: AccountContext) -> dict[str, int]:
    """Return field -> our live listings of the ledger that fill it."""
    bitmaps: Counter[int] = Counter()
    for start in range(0, BUCKETS, _BUCKETS_PER_TRIP):
        for packed in ctx.ledger.packed_buckets(range(start, start + _BUCKETS_PER_TRIP)).values():
            state = entry_state(packed)
            if state.ours:
                bitmaps[state.filled] += 1
    return fetch.fields_in(bitmaps)
