"""``okasie cancel``, ``pause``, ``resume``, ``approve`` and ``reject``: decisions of an operator."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from okasie_tasks.cli.common import Context, command_options, echo, emit
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
    """Cancel RUN: at once if it is queued, else after its requests in flight. The cursor does not move."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415 - Celery only where it is needed

    document = fleet_client.cancel(context, run)
    emit(context, document, lambda: print_run(document))


@click.command()
@click.argument("account")
@command_options
def pause(context: Context, account: str) -> None:
    """Stop all work of ACCOUNT until it is resumed: runs do not start or continue, pushes and sells wait."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415

    document = fleet_client.pause(context, account)
    emit(context, document, lambda: _print_pause(document))


@click.command()
@click.argument("account")
@command_options
def resume(context: Context, account: str) -> None:
    """Resume the paused ACCOUNT where it stopped."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415

    document = fleet_client.resume(context, account)

    def show() -> None:
        since = document["was_paused_since"]
        echo(
            f"account {account} resumed; it was paused since {since}" if since else f"account {account} was not paused"
        )

    emit(context, document, show)


def _print_pause(document: dict[str, Any]) -> None:
    account = document["account"]
    again = " already" if document["was_paused"] else ""
    since = f"account {account} is{again} paused since {document['paused_since']}"
    echo(f"{since}; `okasie resume {account}` resumes it")
    if document["active"]:
        echo(f"run {document['active']} stops after its requests in flight and waits")


@click.command()
@click.argument("run")
@command_options
def approve(context: Context, run: str) -> None:
    """Approve the held plan of RUN, send it, and wait until that is done.

    The changes are planned again first. If the result differs from the held plan, nothing is sent, the exit status is
    3, and the run of the new plan is shown.
    """
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - Celery only where it is needed

    ctx, plan = _held(context, run)
    follower = Follower(context, ctx.policy.account)
    mode = "full" if plan.takes_over else "incremental"
    document = follower.follow(follower.start(mode, approves=run))
    if document["state"] not in ("failed", "partial", "cancelled") and document["approved"] != run:
        now = "another plan is held now" if document["held"] else "nothing is held any more"
        raise _outdated(run, document["held_run"] or document["run"], now=now)
    emit(context, document, lambda: print_run(document))
    sys.exit(exit_status(document))


@click.command()
@click.argument("run")
@command_options
def reject(context: Context, run: str) -> None:
    """Drop the held plan of RUN without sending it; later runs plan again."""
    from okasie_tasks.cli.fleet_client import one_run  # noqa: PLC0415
    from okasie_tasks.sync import plan_review  # noqa: PLC0415

    ctx, _ = _held(context, run)
    dropped = plan_review.drop(ctx, run)
    document = one_run(context, run)
    emit(context, document, lambda: print_run(document))
    sys.exit(0 if dropped else EXIT_FAILED)


def _held(context: Context, run: str) -> tuple[AccountContext, HeldPlan]:
    """Return the held plan of this run. Raises `PlanOutdated` if it expired or another plan has replaced it."""
    from okasie_tasks.cli.fleet_client import known_run, services_of  # noqa: PLC0415
    from okasie_tasks.sync import plan_review  # noqa: PLC0415

    services = services_of(context)
    record = known_run(services, run, hint="`okasie status` lists the held plans")
    ctx = services.context(record.account)
    plan = plan_review.held_plan(ctx)
    if plan is not None and plan.run == run:
        return ctx, plan
    state = services.runs.state(run)
    if replaced_by := record.facts.get("replaced_by"):
        raise _outdated(run, plan.run if plan else replaced_by, now="a later run planned again")
    if state == "expired":
        raise _outdated(run, plan.run if plan else "", now="it expired; the next run plans again")
    if state != "held":
        raise ConfigurationError(f"the run is {state}: it holds no plan", where=run)
    newest = plan.run if plan else next(iter(services.runs.history(record.account, 1)), "")
    raise _outdated(run, newest, now="another plan is held now" if plan else "no plan is held any more")


def _outdated(run: str, newest: str, *, now: str) -> PlanOutdated:
    return PlanOutdated(f"this plan is outdated, nothing was sent: {now}", where=run, run=newest or None)
