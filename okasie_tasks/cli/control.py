"""``okasie cancel``, ``pause``, ``resume``, ``approve`` and ``reject``: what an operator decides."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from okasie_tasks.cli.common import Context, command_options, emit
from okasie_tasks.cli.run_view import print_run
from okasie_tasks.cli.runs import EXIT_FAILED, exit_status
from okasie_tasks.errors import ConfigurationError, PlanOutdated

if TYPE_CHECKING:
    from okasie_tasks.core.guards import HeldPlan
    from okasie_tasks.sync.context import AccountContext


@click.command()
@click.argument("run")
@command_options
def cancel(context: Context, run: str) -> None:
    """End RUN: one that waits at once, one at work after its requests in flight. The cursor stays where it was."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415 - Celery only where it is needed

    document = fleet_client.cancel(context, run)
    emit(context, document, lambda: print_run(document))


@click.command()
@click.argument("account")
@command_options
def pause(context: Context, account: str) -> None:
    """Stop all work of ACCOUNT until it is resumed: no run begins, none goes on, and pushes and sells wait."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415

    document = fleet_client.pause(context, account)
    emit(context, document, lambda: _print_pause(document))


@click.command()
@click.argument("account")
@command_options
def resume(context: Context, account: str) -> None:
    """Let ACCOUNT go on where it was paused."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415

    document = fleet_client.resume(context, account)

    def show() -> None:
        since = document["was_paused_since"]
        click.echo(f"{account} goes on; it was paused since {since}" if since else f"{account} was not paused")

    emit(context, document, show)


def _print_pause(document: dict[str, Any]) -> None:
    account = document["account"]
    again = " already" if document["was_paused"] else ""
    click.echo(f"{account} is{again} paused, since {document['paused_since']}; `okasie resume {account}` lets it go on")
    if document["active"]:
        click.echo(f"run {document['active']} waits where it is, after its requests in flight")


@click.command()
@click.argument("run")
@command_options
def approve(context: Context, run: str) -> None:
    """Send what the held plan of RUN makes wait, and wait for the end.

    Everything is planned anew first: if it is no longer just this that waits, nothing of it is sent, the exit status is
    3, and the new plan's run is named.
    """
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - Celery only where it is needed

    ctx, plan = _held(context, run)
    follower = Follower(context, ctx.policy.account)
    mode = "full" if plan.takes_over else "incremental"
    document = follower.follow(follower.start(mode, approves=run))
    if document["state"] not in ("failed", "partial", "cancelled") and document["approved"] != run:
        raise _outdated(run, document["held_run"] or document["run"], now="what waits now is another plan")
    emit(context, document, lambda: print_run(document))
    sys.exit(exit_status(document))


@click.command()
@click.argument("run")
@command_options
def reject(context: Context, run: str) -> None:
    """Drop the held plan of RUN: nothing of it is sent; later runs plan anew."""
    from okasie_tasks.cli.fleet_client import one_run  # noqa: PLC0415
    from okasie_tasks.sync import plan_review  # noqa: PLC0415

    ctx, _ = _held(context, run)
    dropped = plan_review.drop(ctx, run)
    document = one_run(context, run)
    emit(context, document, lambda: print_run(document))
    sys.exit(0 if dropped else EXIT_FAILED)


def _held(context: Context, run: str) -> tuple[AccountContext, HeldPlan]:
    """The plan that waits under this name. Raises `PlanOutdated` when something else waits, or it is over."""
    from okasie_tasks.cli.fleet_client import known_run, services_of  # noqa: PLC0415
    from okasie_tasks.sync import plan_review  # noqa: PLC0415

    services = services_of(context)
    record = known_run(services, run, told_by="`okasie status` names the plans that wait")
    ctx = services.context(record.account)
    plan = plan_review.held_plan(ctx)
    if plan is not None and plan.run == run:
        return ctx, plan
    state = services.runs.state(run)
    if state == "expired":
        raise _outdated(run, plan.run if plan else "", now="it waited too long; the next run plans anew")
    if state != "held":
        raise ConfigurationError(f"the run is {state}: it holds no plan", where=run)
    newest = plan.run if plan else next(iter(services.runs.history(record.account, 1)), "")
    raise _outdated(run, newest, now="what waits now is another plan" if plan else "nothing waits any more")


def _outdated(run: str, newest: str, *, now: str) -> PlanOutdated:
    return PlanOutdated(f"this plan is outdated, nothing of it was sent: {now}", where=run, run=newest or None)
