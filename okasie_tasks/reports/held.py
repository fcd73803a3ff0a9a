"""The changes of a held plan as documents: each field with its old and its new value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from okasie_tasks.core.guards import HeldPlan
from okasie_tasks.core.held_change import HeldChange
from okasie_tasks.core.history import NOT_KEPT, Change
from okasie_tasks.store.records import Run
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import AccountContext


def plan_of_run(ctx: AccountContext, run: Run) -> HeldPlan | None:
    """Return the held plan that this run refers to; None once it is sent, dropped or expired."""
    plan = plan_review.held_plan(ctx)
    return plan if plan is not None and plan.run in (run.id, run.facts.get("held_run")) else None


def items_document(changes: Sequence[HeldChange], count: int) -> dict[str, Any]:
    """Return held changes, and how many of ``count`` are not listed because their values are not kept."""
    return {
        "items": [
            {
                "reference": change.reference,
                "action": change.action,
                "reason": change.reason,
                "dealer": change.dealer or None,
                "changes": {one[0]: _values(one) for one in change.changes},
            }
            for change in changes
        ],
        "items_left_out": max(0, count - len(changes)),
    }


def _values(change: Change) -> dict[str, Any]:
    """Return both values; ``old_known`` false: only a fingerprint of the old value is kept."""
    _, old, new = change
    return {"old": None, "new": new, "old_known": False} if old == NOT_KEPT else {"old": old, "new": new}
