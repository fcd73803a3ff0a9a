"""``okasie push``, ``sell``, ``why``, ``rejects`` and ``retry``: send and explain single listings."""

from __future__ import annotations

import sys
from typing import Any

import click

from okasie_tasks.cli.common import Context, change_text, command_options, echo, emit, table
from okasie_tasks.cli.run_view import NO_REFERENCE, print_run, waiting_lines
from okasie_tasks.cli.runs import EXIT_FAILED, EXIT_REJECTED, exit_status


@click.command()
@click.argument("account")
@click.argument("reference", metavar="REF")
@command_options
def why(context: Context, account: str, reference: str) -> None:
    """Explain listing REF of ACCOUNT: what was sent, what was answered, what happens next."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415 - Celery only where it is needed

    document = fleet_client.why(context, account, reference)
    emit(context, document, lambda: _print_why(document))


@click.command()
@click.argument("account")
@command_options
def rejects(context: Context, account: str) -> None:
    """List the rejected listings of ACCOUNT: refused by the marketplace, or invalid in the source."""
    from okasie_tasks.cli import fleet_client  # noqa: PLC0415

    document = fleet_client.rejects(context, account)
    entries = document["rejects"]

    def show() -> None:
        headers = ["reference", "state", "fields", "message", "code", "where", "attempts", "first", "last", "request"]
        rows = [
            [
                r["reference"] or NO_REFERENCE, r["state"], ", ".join(r["fields"]), r["message"], r["code"], r["where"],
                str(r["attempts"]), _time(r["first_seen"]), _time(r["last_seen"]), r["request_id"] or "-",
            ] for r in entries
        ]  # fmt: skip
        if rows:
            table(headers, rows)
        left = document["rows_without_reference"] - sum(r["holds_sells"] for r in entries)
        echo(f"{len(rows)} rejected" if rows else "nothing is rejected")
        if left:
            echo(f"{left} more rows without a readable reference")
        for line in waiting_lines(document):
            echo(line)

    emit(context, document, show)


@click.command()
@click.argument("account")
@click.argument("references", metavar="[REF...]", nargs=-1)
@command_options
def retry(context: Context, account: str, references: tuple[str, ...]) -> None:
    """Retry the listings of ACCOUNT that the marketplace refused, all or REF..., and follow the run that sends them."""
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415

    follower = Follower(context, account)
    released = follower.free(references)
    document: dict[str, Any] = {
        "account": account,
        "run": None,
        "state": None,
        "freed": released.freed,
        "invalid": released.invalid,
        "not_parked": released.not_rejected,
        "still_parked": [],
    }
    if released.freed or released.invalid:
        document |= follower.follow(follower.start("incremental"))
        document["still_parked"] = follower.still_rejected([*released.freed, *released.invalid])
    emit(context, document, lambda: _print_retry(document))
    if document["run"]:
        sys.exit(exit_status(document))


def _print_retry(document: dict[str, Any]) -> None:
    for reference in document["not_parked"]:
        echo(f"{reference} is not rejected")
    if not document["run"]:
        echo("nothing to retry")
        return
    freed, invalid = len(document["freed"]), len(document["invalid"])
    rows = f", {invalid} invalid rows checked again" if invalid else ""
    echo(f"{freed} refused listings retried{rows}; {len(document['still_parked'])} still rejected")
    print_run(document)


# -- one listing ---------------------------------------------------------------------------------------------------

_FLAGS = {
    "owned": "ours",
    "in_source": "in the source",
    "sold_by_hand": "sold manually",
    "disputed": "disputed",
    "given": "pushed inline",
    "parked": "newest content refused",
}


def _print_why(document: dict[str, Any]) -> None:
    ledger, reject, waiting = document["ledger"], document["reject"], document["waiting"]
    echo(f"{document['reference']} of {document['account']}")
    if document["listing_url"]:
        echo(f"  advert    {document['listing_url']}")
    if ledger:
        labels = [ledger["status"] or "no status", *(text for flag, text in _FLAGS.items() if ledger[flag])]
        times = [f"{name.replace('_', ' ')} {_time(ledger[name])}" for name in ("last_sent", "changed_there")]
        echo(f"  ledger    {', '.join(labels)}; {', '.join(times)}")
    if reject:
        echo(f"  {reject['state']:<9} {reject['message']} ({reject['code']}, {reject['where']})")
        request = f", request {reject['request_id']}" if reject["request_id"] else ""
        seen = f"first seen {_time(reject['first_seen'])}, last {_time(reject['last_seen'])}"
        echo(f"            refused {reject['attempts']} times, {seen}{request}")
    if waiting:
        echo(f"  waiting   a {waiting['kind']}, accepted {_time(waiting['accepted'])}, {waiting['tries']} tries")
    for event in document["events"]:
        _print_event(event)
    echo(f"  next      {document['next']}")


def _print_event(event: dict[str, Any]) -> None:
    origin = [f"{name} {event[key]}" for name, key in (("run", "run"), ("request", "request_id")) if event[key]]
    echo(f"  {event['kind']:<9} {_time(event['at'])}  {event['reason']}")
    if event["message"]:
        echo(f"            {event['message']}" + (f" ({event['code']})" if event["code"] else ""))
    for change in event["changes"]:
        echo(f"            {change_text(change)}")
    if event["changes_left_out"]:
        echo(f"            and {event['changes_left_out']} more")
    for line in (*event["warnings"], *([", ".join(origin)] if origin else [])):
        echo(f"            {line}")


def _time(moment: str | None) -> str:
    return moment.replace("T", " ")[:19] if moment else "-"


_FAILED = ("failed", "not_found")


@click.command()
@click.argument("account")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return as soon as the push is queued.")
@command_options
def push(context: Context, account: str, references: tuple[str, ...], no_wait: bool) -> None:
    """Read the listings REF... of ACCOUNT from its source and send them now, ahead of any run."""
    _send(context, "okasie.push", account, references, no_wait=no_wait)


@click.command()
@click.argument("account")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return as soon as the sell is queued.")
@command_options
def sell(context: Context, account: str, references: tuple[str, ...], no_wait: bool) -> None:
    """Mark the listings REF... of ACCOUNT sold now, ahead of any run."""
    _send(context, "okasie.sell", account, references, no_wait=no_wait)


def _send(context: Context, task: str, account: str, references: tuple[str, ...], *, no_wait: bool) -> None:
    from okasie_tasks.cli.push_client import Waiter  # noqa: PLC0415 - Celery only where it is needed

    waiter = Waiter(context, account)
    push_id = waiter.start(task, references)
    if no_wait:
        emit(context, {"push": push_id, "account": account, "state": "queued"}, lambda: echo(push_id))
        return
    document = waiter.wait(push_id)
    emit(context, document, lambda: _print(document))
    sys.exit(_status(document))


def _status(document: dict[str, Any]) -> int:
    outcomes = {row["outcome"] for row in document["listings"]}
    if document["error"] or outcomes.intersection(_FAILED):
        return EXIT_FAILED
    return EXIT_REJECTED if "rejected" in outcomes else 0


def _print(document: dict[str, Any]) -> None:
    rows = [
        [
            r["reference"],
            r["outcome"],
            f"{r['seconds']:.2f} s",
            "; ".join(filter(None, (r["message"], *r["warnings"]))) or r["listing_url"] or "",
        ]
        for r in document["listings"]
    ]
    if rows:
        table(["reference", "outcome", "after", ""], rows)
    if document["error"]:
        echo(f"failed: {document['error']}")
