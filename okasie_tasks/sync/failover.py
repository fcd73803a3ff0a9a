"""A run after a failover of Redis: what it planned before, and the full run that heals an older ledger.

See `okasie_tasks.core.older_ledger` for its decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from okasie_tasks.core.records import Outgoing
from okasie_tasks.logs import get_logger
from okasie_tasks.sync.context import AccountContext, Part

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run
    from okasie_tasks.store.runs import Runs

log = get_logger(__name__)

_RECENT_MS: Final = 30_000


def is_recent(runs: Runs) -> bool:
    """Return whether Redis has just failed over: messages and claims may be lost, and the workers have resumed."""
    return runs.failovers.since(runs.now_ms() - _RECENT_MS) is not None


def is_planned_before(ctx: AccountContext, run: Run) -> bool:
    """Return whether Redis failed over during the run: a push that contradicts its plan may be lost."""
    return ctx.runs.failovers.since(run.started_ms) is not None


def may_undo_push(ctx: AccountContext, part: Part, items: list[Outgoing]) -> list[Outgoing]:
    """Return the items that the run must not send after a failover: they answer a drift that may be a lost push."""
    answers = [item for item in items if item.answers]
    run = ctx.runs.get(part.run) if answers else None
    return answers if run is not None and is_planned_before(ctx, run) else []


def request_healing(ctx: AccountContext) -> None:
    """Request a full run for an account whose ledger may be older than its last write; again if it did not heal it."""
    account = ctx.policy.account
    lost = ctx.runs.lost_writes(account)
    if lost is None or ctx.runs.is_healing(account, lost):
        return
    run, _ = ctx.runs.request(account, "full")
    ctx.runs.note_account(account, healing_ms=lost.until_ms, healing_run=run, healing_asked_ms=ctx.runs.now_ms())
    # Its holder may have given it up in a write that is lost.
    ctx.urgent_queue.end_lead()
    log.warning(
        "ledger may be older than its last write",
        account=account,
        seconds=round((lost.until_ms - lost.from_ms) / 1000, 1),
        reason="Redis failed over; a full run compares everything, and until it ends missing listings are not sold",
    )


def healed(ctx: AccountContext, run: Run) -> dict[str, str]:
    """Return the account facts of a full run that has compared every row with the ledger since the failover."""
    lost = ctx.runs.lost_writes(run.account)
    if lost is None or run.started_ms <= lost.until_ms or not (run.fact("walked_all") and run.fact("walk_complete")):
        return {}
    return {"healed_ms": str(lost.until_ms)}
