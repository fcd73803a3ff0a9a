"""``okasie status``: the accounts, their runs and problems, the queues and the workers."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from okasie_tasks.cli.common import Context, change_text, command_options, echo, emit, table, wrapped
from okasie_tasks.cli.run_view import waiting_lines
from okasie_tasks.cli.runs import EXIT_UNREACHABLE
from okasie_tasks.cli.times import in_zone, when
from okasie_tasks.core.estimates import duration

_CONFLICTS: Final = 3
_WATCH_SECONDS: Final = 2.0


@click.command()
@click.argument("account", required=False)
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@command_options
def status(context: Context, account: str | None, watch: bool) -> None:
    """Show the last runs, progress, quota, held plans, rejects and staleness of each account."""
    from okasie_tasks.cli.fleet_client import fleet  # noqa: PLC0415 - Celery only where it is needed

    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(context, account)
        return
    document = fleet(context, account)
    emit(context, document, lambda: print_status(document, single=account is not None))
    if document["missing"]:
        sys.exit(EXIT_UNREACHABLE)


def _watch(context: Context, account: str | None) -> None:
    from okasie_tasks.cli.fleet_client import fleet  # noqa: PLC0415

    while True:
        document = fleet(context, account)
        if not context.as_json:
            click.clear()  # does nothing in a file or pipe
        emit(context, document, lambda document=document: print_status(document, single=account is not None))  # type: ignore[misc]
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


def print_status(document: dict[str, Any], *, single: bool = False) -> None:
    """Print the document. ``single``: an account was named, so that its details are shown, too."""
    rows = [_row(entry) for entry in document["accounts"]]
    if rows:
        table(["account", "last run", "success", "quota", "pushes", "rejects", "held"], rows)
    for entry in document["accounts"]:
        with in_zone(entry["timezone"]):
            for line in (*_held(entry), *_remarks(entry), *(_details(entry) if single else ())):
                wrapped(f"{entry['account']}: {line}")
    for queue, count in document["queues"].items():
        consumers = "unknown" if count["consumers"] is None else count["consumers"]
        echo(f"queue {queue}: {count['waiting']} waiting, {consumers} consumers")
    _print_workers(document)
    for name in document["missing"]:
        wrapped(document["redis_problem"] if name == "redis" else f"no worker consumes {name}")


def _row(entry: dict[str, Any]) -> list[str]:
    last, stale, quota = entry["last_run"], entry["stale_seconds"], entry["quota"]
    return [
        entry["account"],
        f"{last['purpose']} {last['state']}" if last else "never ran",
        f"{duration(stale)} ago" if stale is not None else "-",
        f"{quota['used_last_minute']}/{quota['limit']}",
        str(entry["pushes_waiting"]),
        str(entry["rejects"]),
        str(entry["held_plan"]["count"] if entry["held_plan"] else 0),
    ]


def _held(entry: dict[str, Any]) -> Iterator[str]:
    plan = entry["held_plan"]
    for hold in entry["held"]:
        yield (
            f"{hold['count']} {hold['what']} held until {when(plan['expires_at'])}: {hold['reason']};"
            f" `okasie approve {plan['run']}` or `okasie reject {plan['run']}`"
        )


def _details(entry: dict[str, Any]) -> Iterator[str]:
    lanes = entry["lanes"]
    yield f"cursor {when(entry['cursor'])}"
    yield f"requests that wait for the quota: {lanes['urgent']} urgent, {lanes['bulk']} bulk"


def _remarks(entry: dict[str, Any]) -> Iterator[str]:
    """Yield an account's problems, and how far its current run is."""
    quota, last = entry["quota"], entry["last_run"]
    if last and last["error"]:
        error = last["error"]
        where = f"{error['where']}: " if error["where"] else ""
        yield f"last run {last['state']}: {where}{error['message']}; see `okasie run {last['run']}`"
    yield from waiting_lines(entry)
    if entry["paused_since"]:
        by = f" by {entry['paused_by']}" if entry["paused_by"] else ""
        yield f"paused since {when(entry['paused_since'])}{by}; `okasie resume {entry['account']}` resumes it"
    if entry["ledger_behind_since"]:
        yield (
            f"the ledger may lack writes since {when(entry['ledger_behind_since'])}, when Redis failed over: listings"
            " that the source lacks are sold only once a full run has compared everything, which the workers request"
        )
    yield from _work(entry)
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


def _work(entry: dict[str, Any]) -> Iterator[str]:
    for progress in (entry["progress"], entry["waiting_progress"]):
        if progress:
            yield f"run {progress['run']}, {progress['mode']}: {progress['text']}"


def _print_workers(document: dict[str, Any]) -> None:
    """Print what is wrong with the workers and with messages."""
    for worker in document.get("workers", []):
        for remark in _worker_remarks(worker):
            wrapped(f"worker {worker['name']} {remark}")
    if quarantine := document.get("quarantine", {}).get("last"):
        last = quarantine[0]
        wrapped(
            f"quarantine: {document['quarantine']['total']} malformed messages; the last one from {last['queue']} at"
            f" {last['at']}: {last['reason']}; `okasie status --json` shows more"
        )
    if discarded := document.get("discarded", {}).get("last"):
        _print_discarded(document["discarded"]["total"], discarded[0])


def _worker_remarks(worker: dict[str, Any]) -> Iterator[str]:
    if not worker["same_configuration"]:
        yield "runs another configuration than this command: send SIGHUP to `okasie up`, or restart it"
    if not worker["same_version"]:
        yield f"runs version {worker['version'] or 'before 0.2'}: restart it"
    if worker["problem"]:
        yield f"is unhealthy: {worker['problem']}"


def _print_discarded(total: dict[str, int], last: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in total.items() if count)
    name = f"{last['task'] or 'a request'} of {last['account']}" if last["account"] else last["task_id"]
    wrapped(
        f"discarded requests: {counts}; the last one, {name}, at {last['at']}: {last['reason']};"
        " `okasie status --json` shows more"
    )
