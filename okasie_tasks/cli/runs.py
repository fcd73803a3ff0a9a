"""``okasie sync``, ``plan``, ``status``, ``runs``, ``run``: start and follow runs, and show their records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from okasie_tasks.cli.common import Context, command_options, echo, emit, table, wrapped
from okasie_tasks.cli.run_view import (
    print_details,
    print_held,
    print_items,
    print_rejects,
    print_remarks,
    print_run,
    print_runs,
)
from okasie_tasks.core.estimates import Forecast
from okasie_tasks.errors import UNKNOWN_ACCOUNT, ConfigurationError

_REJECTS = 20
EXIT_FAILED, EXIT_CONFIGURATION, EXIT_HELD, EXIT_REJECTED, EXIT_UNREACHABLE = 1, 2, 3, 4, 5


@click.command()
@click.argument("account", required=False)
@click.option("--full", is_flag=True, help="Read all listings of the marketplace instead of only the changed ones.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the run is queued.")
@click.option("--dry-run", is_flag=True, help="The same as `okasie plan`: nothing is sent.")
@click.option("--follow", metavar="RUN", help="Follow this run, named by its id or the beginning of it.")
@command_options
def sync(  # noqa: PLR0917 - a parameter for each option
    context: Context, account: str | None, full: bool, no_wait: bool, dry_run: bool, follow: str | None
) -> None:
    """Enqueue one run of ACCOUNT on the running workers and follow it until it ends."""
    if follow is not None:
        if full or no_wait or dry_run:
            raise click.UsageError("--follow starts no run: it takes none of --full, --no-wait, --dry-run")
        _follow(context, account, follow)
        return
    if account is None:
        raise click.UsageError("Missing argument 'ACCOUNT'.")
    if dry_run:
        _plan(context, account, full=full)
        return
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - Celery only where it is needed

    follower = Follower(context, account)
    run = follower.start("full" if full else "incremental")
    if no_wait:
        emit(context, {"run": run, "account": account, "state": "queued"}, lambda: echo(run))
        return
    document = follower.follow(run)
    emit(context, document, lambda: print_run(document))
    sys.exit(exit_status(document))


def _follow(context: Context, account: str | None, name: str) -> None:
    from okasie_tasks.cli.connect import run_of, services_of  # noqa: PLC0415
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415

    services = services_of(context)
    record = run_of(services, name)
    if account not in (None, record.account):
        raise ConfigurationError(f"it is a run of {record.account}, not of {account}", where=record.id)
    document = Follower(context, record.account, services).follow(record.id, own=False)
    emit(context, document, lambda: print_run(document))
    sys.exit(exit_status(document))


@click.command()
@click.argument("account")
@click.option("--full", is_flag=True, help="Read all listings of the marketplace instead of only the changed ones.")
@click.option("--show", metavar="REF", help="Print the row of this reference as it would be sent, and nothing else.")
@command_options
def plan(context: Context, account: str, full: bool, show: str | None) -> None:
    """Show what a run of ACCOUNT would send, and why, without sending it."""
    from okasie_tasks.cli.preview import show_row  # noqa: PLC0415 - only where it is needed

    if show is not None:
        show_row(context, account, show)
        return
    _plan(context, account, full=full)


def _plan(context: Context, account: str, *, full: bool) -> None:
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415

    follower = Follower(context, account)
    run = follower.start("full" if full else "incremental", plan_only=True)
    document = follower.follow(run)
    document = follower.plan(run) if document["state"] == "done" else document

    def show() -> None:
        if "changes" not in document:
            print_run(document)
            return
        rows = [
            [c["action"], c["reference"], c["reason"] + (" (held)" if c["held"] else ""), ", ".join(c["fields"])]
            for c in document["changes"]
        ]
        if rows:
            table(["action", "reference", "reason", "fields"], rows)
        planned = document["planned"]
        wrapped(
            f"{planned['upserts']} to upsert, {planned['sells']} to mark sold, at least"
            f" {document['requests']['minimum']} requests: {_ahead(document['forecast'])}; nothing was sent"
        )
        counts = ", ".join(f"{count} {name}" for name, count in document["listings"].items() if count)
        echo(f"  listings  {counts or 'none'}")
        print_held(document)
        print_items(document)
        print_remarks(document)
        if rejects := document["rejects"]:
            echo(f"  rejects   {document['listings']['rejected']}, {document['new_rejects']} of them new")
            print_rejects(rejects[:_REJECTS])
            if len(rejects) > _REJECTS:
                echo(f"            {len(rejects) - _REJECTS} more; --json lists them")

    emit(context, document, show)
    if document["state"] != "done":
        sys.exit(EXIT_FAILED)
    sys.exit(EXIT_HELD if document["held"] else 0)


@click.command()
@click.argument("account")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many runs to list.")
@command_options
def runs(context: Context, account: str, limit: int) -> None:
    """List the runs of ACCOUNT, newest first: syncs, dry runs (plan), and runs that send an approved plan."""
    from okasie_tasks.cli.connect import services_of, with_zone  # noqa: PLC0415
    from okasie_tasks.reports.runs import runs_document  # noqa: PLC0415

    services = services_of(context)
    services.account(account)
    document = with_zone(services, runs_document(services, account, limit))
    emit(context, document, lambda: print_runs(document["runs"]))


@click.command()
@click.argument("run")
@click.option(
    "--html",
    "file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also write the run as an HTML page.",
)
@command_options
def run(context: Context, run: str, file: Path | None) -> None:
    """Show one run with its counts, timings, requests and errors. RUN: its id, or the beginning of it."""
    from okasie_tasks.cli.connect import run_of, services_of, with_zone  # noqa: PLC0415
    from okasie_tasks.reports.runs import run_details  # noqa: PLC0415

    services = services_of(context)
    document = with_zone(services, run_details(services, run_of(services, run)))
    if file is not None:
        from okasie_tasks.cli.html_report import render  # noqa: PLC0415 - Jinja2 only where it is needed

        try:
            file.write_text(render(document), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(file)) from error

    def show() -> None:
        print_run(document)
        print_details(document)
        if file is not None:
            echo(f"  page      {file}")

    emit(context, document, show)


def exit_status(document: dict[str, Any]) -> int:
    """Return the exit status of an ended run; where several apply, 1 comes before 3, and 3 before 4."""
    if document["error"] and document["error"]["code"] == UNKNOWN_ACCOUNT:
        return EXIT_CONFIGURATION
    if document["state"] in ("failed", "partial", "cancelled"):
        return EXIT_FAILED
    if document["state"] == "held":
        return EXIT_HELD
    return EXIT_REJECTED if document["new_rejects"] else 0


def _ahead(document: dict[str, Any]) -> str:
    return Forecast(**document).text
