"""Who approved a change that a run sends: the history shows it."""

from __future__ import annotations

from typing import NamedTuple

from okasie_tasks.core.guards import TAKE_OVER, action_of, reference_of
from okasie_tasks.sync.context import AccountContext


class Approval(NamedTuple):
    """The approval that a run sends a held plan with. Its other changes needed none."""

    by: str = ""
    changes: frozenset[tuple[str, str]] = frozenset()
    """Action and reference of each."""

    def of(self, reference: str, action: str) -> str:
        """Return who approved this change; "" if it needed no approval."""
        return self.by if (action, reference) in self.changes else ""


def approval_of(ctx: AccountContext, run: str) -> Approval:
    """Return the approval of a run while it sends. Its plan stays held until the run has ended."""
    by = ctx.runs.fact(run, "approved_by")
    released = ctx.runs.fact(run, "released") if by else ""
    plan = ctx.plans.get(ctx.policy.account, now_ms=ctx.runs.now_ms()) if released else None
    if plan is None or plan.run != released:
        return Approval()
    actions = ((action_of(held), reference_of(held)) for held in plan.items)
    return Approval(by, frozenset(("sell" if action == TAKE_OVER else action, name) for action, name in actions))
