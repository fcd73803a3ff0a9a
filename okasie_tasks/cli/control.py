"""``okasie cancel``, ``pause``, ``resume``, ``approve`` and ``reject``: decisions of an operator."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import click

from okasie_tasks.cli.common import Context, command_options, echo, emit, progress_line
from okasie_tasks.cli.run_view import print_run
from okasie_tasks.cli.runs import exit_status
from okasie_tasks.cli.times import when

_POLL_SECONDS: Final = 0.1


@click.command()
@click.argument("run")
@command_options
def cancel(context: Context, run: str) -> None:
    """Cancel RUN: at once if it is queued, else after its requests in flight. The cursor does not move."""
    from okasie_tasks.actions import runs as actions  # noqa: PLC0415 - kombu only where it is needed
    from okasie_tasks.cli.connect import operator, services_of, with_zone  # noqa: PLC0415
    from okasie_tasks.reports.run_record import run_document  # noqa: PLC0415

    services = services_of(context)
    record = actions.cancel(services, run, by=operator())
    if record.open:
        progress_line("waiting for the requests in flight; Ctrl-C stops only the waiting")
    while record.open:
        time.sleep(_POLL_SECONDS)
        # The command ends the run itself, in case no worker is running.
        record = actions.settle(services, record, by=operator())
    document = with_zone(services, run_document(services.runs, record))
    emit(context, document, lambda: print_run(document))


@click.command()
@click.argument("account")
@command_options
def pause(context: Context, account: str) -> None:
    """Stop all work of ACCOUNT until it is resumed: runs do not start or continue, pushes and sells wait."""
    from okasie_tasks.actions import accounts as actions  # noqa: PLC0415
    from okasie_tasks.cli.connect import operator, services_of, with_zone  # noqa: PLC0415

    services = services_of(context)
    document = with_zone(services, actions.pause(services, account, by=operator()))
    emit(context, document, lambda: _print_pause(document))


@click.command()
@click.argument("account")
@command_options
def resume(context: Context, account: str) -> None:
    """Resume the paused ACCOUNT where it stopped."""
    from okasie_tasks.actions import accounts as actions  # noqa: PLC0415
    from okasie_tasks.cli.connect import operator, services_of, with_zone  # noqa: PLC0415

    services = services_of(context)
    document = with_zone(services, actions.resume(services, account, by=operator()))
    if not document["published"]:
        progress_line("the broker did not accept the message; the watchdog acts within a minute")

    def show() -> None:
        since = document["was_paused_since"]
        paused = f"resumed; it was paused since {when(since)}" if since else "was not paused"
        echo(f"account {account} {paused}")

    emit(context, document, show)


def _print_pause(document: dict[str, Any]) -> None:
    account = document["account"]
    again = " already" if document["was_paused"] else ""
    by = f" by {document['paused_by']}" if document["was_paused"] and document["paused_by"] else ""
    since = f"account {account} is{again} paused since {when(document['paused_since'])}{by}"
    echo(f"{since}; `okasie resume {account}` resumes it")
    if document["active"]:
        echo(f"run {document['active']} stops after its requests in flight and waits")


@click.command()
@click.argument("run")
@command_options
def approve(context: Context, run: str) -> None:
    """Approve the held plan of RUN, send it, and wait until that is done.

    The changes are planned again first. If the result differs from the held plan, nothing is sent, the exit status is
    3, and the run of the new plan is shown. RUN may be the first 12 characters of its id.
    """
    from okasie_tasks.actions import plans as actions  # noqa: PLC0415
    from okasie_tasks.cli.connect import PUBLISH_SECONDS, operator, services_of  # noqa: PLC0415
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - Celery only where it is needed

    services = services_of(context)
    ctx, plan = actions.held(services, run)
    follower = Follower(context, ctx.policy.account, services)
    sending = actions.approve(services, plan.run, by=operator(), try_seconds=PUBLISH_SECONDS)
    document = follower.follow(follower.picked_up(sending))
    if document["state"] not in ("failed", "partial", "cancelled") and document["approved"] != plan.run:
        now = "another plan is held now" if document["held"] else "nothing is held any more"
        raise actions.outdated(plan.run, document["held_run"] or document["run"], now=now)
    emit(context, document, lambda: print_run(document))
    sys.exit(exit_status(document))


@click.command()
@click.argument("run")
@command_options
def reject(context: Context, run: str) -> None:
    """Drop the held plan of RUN without sending it; later runs plan again. RUN: at least 12 characters of its id."""
    from okasie_tasks.actions import plans as actions  # noqa: PLC0415
    from okasie_tasks.cli.connect import operator, services_of, with_zone  # noqa: PLC0415
    from okasie_tasks.reports.runs import run_details  # noqa: PLC0415

    services = services_of(context)
    record = actions.reject(services, run, by=operator())
    document = with_zone(services, run_details(services, record))
    emit(context, document, lambda: print_run(document))
