"""Decisions about held plans: send one, or drop it."""

from __future__ import annotations

from okasie_tasks.actions.runs import LEAST, find_run, start
from okasie_tasks.actions.sending import cleaned_name, redis_errors
from okasie_tasks.client import TRY_SECONDS
from okasie_tasks.core.guards import HeldPlan
from okasie_tasks.errors import ConfigurationError, PlanOutdated
from okasie_tasks.services import Services
from okasie_tasks.store.records import Run
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import AccountContext


def approve(services: Services, run: str, *, by: str, try_seconds: float = TRY_SECONDS) -> str:
    """Request the run that sends the held plan of ``run``; returns its id.

    That run plans again first. If the result differs from the held plan, it sends nothing, and ``approved`` of its
    document is None. Raises `PlanOutdated` if the plan is not held any more.
    """
    ctx, plan = held(services, run)
    mode = "full" if plan.takes_over else "incremental"
    return start(services, ctx.policy.account, mode, by=by, approves=plan.run, try_seconds=try_seconds)


@redis_errors()
def reject(services: Services, run: str, *, by: str) -> Run:
    """Drop the held plan of ``run`` and return that run; later runs plan again.

    Raises `PlanOutdated` if it is not held any more.
    """
    ctx, plan = held(services, run)
    if not plan_review.drop(ctx, plan.run):
        raise outdated(plan.run, "", now="another decision or run came first")
    ctx.runs.note(plan.run, dropped_by=cleaned_name(by))
    return find_run(services, plan.run)


@redis_errors()
def held(services: Services, run: str) -> tuple[AccountContext, HeldPlan]:
    """Return the held plan of this run. Raises `PlanOutdated` if it expired or another plan has replaced it."""
    record = find_run(services, run, least=LEAST, hint="`okasie status` lists the held plans")
    run, ctx = record.id, services.context(record.account)
    plan = plan_review.held_plan(ctx)
    if plan is not None and plan.run == run:
        return ctx, plan
    state = services.runs.state(run)
    if replaced_by := record.facts.get("replaced_by"):
        raise outdated(run, plan.run if plan else replaced_by, now="a later run planned again")
    if state == "expired":
        raise outdated(run, plan.run if plan else "", now="it expired; the next run plans again")
    if state != "held":
        raise ConfigurationError(f"the run is {state}: it holds no plan", where=run)
    newest = plan.run if plan else next(iter(services.runs.history(record.account, 1)), "")
    raise outdated(run, newest, now="another plan is held now" if plan else "no plan is held any more")


def outdated(run: str, newest: str, *, now: str) -> PlanOutdated:
    """Return the error of a plan that is not held any more. ``newest``: the run whose plan is held now, if any."""
    return PlanOutdated(f"this plan is outdated, nothing was sent: {now}", where=run, run=newest or None)
