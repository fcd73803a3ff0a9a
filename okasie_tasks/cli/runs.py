"""``okasie sync``, ``plan``, ``status``, ``runs``, ``run``: start and follow runs, and show their records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from okasie_tasks.cli.common import Context, change_text, command_options, echo, emit, table
from okasie_tasks.cli.run_view import (
    print_details,
    print_held,
    print_items,
    print_rejects,
    print_remarks,
    print_run,
    waiting_lines,
)
from okasie_tasks.core.estimates import Forecast
from okasie_tasks.errors import UNKNOWN_ACCOUNT, ConfigurationError

_CONFLICTS, _REJECTS = 3, 20
EXIT_FAILED, EXIT_CONFIGURATION, EXIT_HELD, EXIT_REJECTED, EXIT_UNREACHABLE = 1, 2, 3, 4, 5


@click.command()
@click.argument("account")
@click.option("--full", is_flag=True, help="Read all listings of the marketplace instead of only the changed ones.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the run is queued.")
@click.option("--dry-run", is_flag=True, help="The same as `okasie plan`: nothing is sent.")
@command_options
def sync(context: Context, account: str, full: bool, no_wait: bool, dry_run: bool) -> None:
    """Enqueue one run of ACCOUNT on the running workers and follow it until it ends."""
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
        echo(
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
@click.argument("account", required=False)
@command_options
def status(context: Context, account: str | None) -> None:
    """Show the last runs, cursor, quota, lanes, held plans, rejects and staleness of each account."""
    from okasie_tasks.cli.fleet_client import fleet  # noqa: PLC0415

    document = fleet(context, account)
    emit(context, document, lambda: _print_status(document))
    if document["missing"]:
        sys.exit(EXIT_UNREACHABLE)


@click.command()
@click.argument("account")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many runs to list.")
@command_options
def runs(context: Context, account: str, limit: int) -> None:
    """List the runs of ACCOUNT, newest first."""
    from okasie_tasks.cli.fleet_client import history  # noqa: PLC0415

    documents = history(context, account, limit)

    def show() -> None:
        rows = [
            [d["run"], d["mode"], _state(d), f"{d['seconds']:.1f}", *(str(d["listings"][n]) for n in _SHOWN)]
            for d in documents
        ]
        table(["run", "mode", "state", "seconds", *_SHOWN], rows)

    emit(context, {"account": account, "runs": documents}, show)


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
    """Show one run with its counts, timings, requests and errors."""
    from okasie_tasks.cli.fleet_client import one_run  # noqa: PLC0415

    document = one_run(context, run)
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


_SHOWN = ("created", "updated", "sold", "rejected", "held")


def exit_status(document: dict[str, Any]) -> int:
    """Return the exit status of an ended run; where several apply, 1 comes before 3, and 3 before 4."""
    if document["error"] and document["error"]["code"] == UNKNOWN_ACCOUNT:
        return EXIT_CONFIGURATION
    if document["state"] in ("failed", "partial", "cancelled"):
        return EXIT_FAILED
    if document["state"] == "held":
        return EXIT_HELD
    return EXIT_REJECTED if document["new_rejects"] else 0


def _state(document: dict[str, Any]) -> str:
    replacing = document["replaced_by"]
    return f"{document['state']}, replaced by {replacing}" if replacing else str(document["state"])


def _ahead(document: dict[str, Any]) -> str:
    return Forecast(**document).text


def _worker_remarks(worker: dict[str, Any]) -> Iterator[str]:
    if not worker["same_configuration"]:
        yield "runs another configuration than this command: send SIGHUP to `okasie up`, or restart it"
    if not worker["same_version"]:
        yield f"runs version {worker['version'] or 'before 0.2'}: restart it"
    if worker["problem"]:
        yield f"is unhealthy: {worker['problem']}"


def _print_status(document: dict[str, Any]) -> None:
    rows = []
    for entry in document["accounts"]:
        last, stale, quota, lanes = entry["last_run"], entry["stale_seconds"], entry["quota"], entry["lanes"]
        rows.append(
            [
                entry["account"],
                f"{last['mode']} {last['state']}" if last else "never ran",
                f"{stale / 60:.0f} min" if stale is not None else "-",
                entry["cursor"] or "-",
                f"{quota['used_last_minute']}/{quota['limit']}",
                f"{lanes['urgent']} urgent, {lanes['bulk']} bulk",
                str(entry["pushes_waiting"]),
                str(entry["rejects"]),
                str(entry["held_plan"]["count"] if entry["held_plan"] else 0),
            ]
        )
    if rows:
        headers = ["account", "last run", "last success", "cursor", "quota", "tickets", "pushes", "rejects", "held"]
        table(headers, rows)
    for entry in document["accounts"]:
        for hold in entry["held"]:
            plan = entry["held_plan"]
            echo(
                f"{entry['account']}: {hold['count']} {hold['what']} held until {plan['expires_at']}: {hold['reason']};"
                f" `okasie approve {plan['run']}` or `okasie reject {plan['run']}`"
            )
        for line in _remarks(entry):
            echo(f"{entry['account']}: {line}")
    for queue, count in document["queues"].items():
        consumers = "unknown" if count["consumers"] is None else count["consumers"]
        echo(f"queue {queue}: {count['waiting']} waiting, {consumers} consumers")
    for worker in document.get("workers", []):
        for line in _worker_remarks(worker):
            echo(f"worker {worker['name']} {line}")
    if quarantine := document.get("quarantine", {}).get("last"):
        last = quarantine[0]
        echo(
            f"quarantine: {document['quarantine']['total']} malformed messages; the last one from {last['queue']} at"
            f" {last['at']}: {last['reason']}; `okasie status --json` shows more"
        )
    if discarded := document.get("discarded", {}).get("last"):
        _print_discarded(document["discarded"]["total"], discarded[0])
    for name in document["missing"]:
        echo(document["redis_problem"] if name == "redis" else f"no worker consumes {name}")


def _print_discarded(total: dict[str, int], last: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in total.items() if count)
    name = f"{last['task'] or 'a request'} of {last['account']}" if last["account"] else last["task_id"]
    echo(
        f"discarded requests: {counts}; the last one, {name}, at {last['at']}: {last['reason']};"
        " `okasie status --json` shows more"
    )


def _remarks(entry: dict[str, Any]) -> Iterator[str]:
    """Yield an account's problems, and how long its current run will take."""
    quota, active, last = entry["quota"], entry["forecast"]["active"], entry["last_run"]
    if last and last["error"]:
        error = last["error"]
        where = f"{error['where']}: " if error["where"] else ""
        yield f"last run {last['state']}: {where}{error['message']}; see `okasie run {last['run']}`"
    yield from waiting_lines(entry)
    if entry["paused_since"]:
        yield f"paused since {entry['paused_since']}; `okasie resume {entry['account']}` resumes it"
    if active:
        yield f"run {entry['active']}: {active['requests']} requests left, {_ahead(active)}"
    if quota["pause_seconds"]:
        reasons = {"429": "the marketplace refused a request", "breaker": "five failures in a row"}
        reason = reasons.get(quota["pause_reason"] or "", "requested by the marketplace")
        yield f"pausing for {quota['pause_seconds']:.0f} s more ({reason})"
    if quota["learned_limit"] and quota["learned_limit"] != quota["limit"]:
        yield f"the marketplace reports a limit of {quota['learned_limit']} a minute, {quota['limit']} is used"
    if quota["foreign"]:
        yield f"{quota['foreign']} requests of another client with the same key in the last minute"
    for event in entry["conflicts"][:_CONFLICTS]:
        changes = "; ".join(change_text(change) for change in event["changes"])
        yield f"{event['kind']} {event['reference']}: {event['reason']}" + (f" ({changes})" if changes else "")
