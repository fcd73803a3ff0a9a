"""Actions on an account: pause and resume it, and retry the listings that the marketplace refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from okasie_tasks.actions.runs import start
from okasie_tasks.actions.sending import cleaned_name, notify, redis_errors
from okasie_tasks.client import TRY_SECONDS
from okasie_tasks.reports.listing import iso
from okasie_tasks.services import Services
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.rejects import free
from okasie_tasks.urgent.accept import checked_references


@redis_errors()
def pause(services: Services, account: str, *, by: str) -> dict[str, Any]:
    """Stop all work of the account until it is resumed. A second pause changes nothing."""
    ctx = services.context(account)
    before = ctx.runs.controls.paused_ms(account)
    since = ctx.runs.controls.pause(account, by=cleaned_name(by))
    return {
        "account": account,
        "paused_since": iso(since),
        "paused_by": ctx.runs.controls.paused_by(account) or None,
        "was_paused": bool(before),
        **_work(ctx),
    }


@redis_errors()
def resume(services: Services, account: str, *, by: str) -> dict[str, Any]:
    """Resume the account. ``published`` is False if the broker did not accept it: the watchdog continues soon."""
    ctx = services.context(account)
    since = ctx.runs.controls.resume(account)
    published = True
    if since:
        summary = f"{account}: resumed by {cleaned_name(by)}"
        published = notify(services, "okasie.resume", {"account": account}, summary)
    return {
        "account": account,
        "paused_since": None,
        "was_paused_since": iso(since),
        "published": published,
        **_work(ctx),
    }


def _work(ctx: AccountContext) -> dict[str, Any]:
    account = ctx.policy.account
    return {
        "active": ctx.runs.active(account),
        "waiting": ctx.runs.waiting(account),
        "pushes_waiting": ctx.urgent_queue.count(),
    }


@redis_errors()
def retry(
    services: Services, account: str, references: Sequence[str], *, by: str, try_seconds: float = TRY_SECONDS
) -> dict[str, Any]:
    """Free refused listings, these or all, and request the run that sends them: ``run``, None if nothing is to do."""
    ctx = services.context(account)
    freed = free(ctx, checked_references(list(references), "retry") if references else ())
    run = None
    if freed.freed or freed.invalid:
        run = start(services, account, "incremental", by=by, try_seconds=try_seconds)
    return {
        "account": account,
        "run": run,
        "freed": freed.freed,
        "invalid": freed.invalid,
        "not_parked": freed.not_rejected,
    }
