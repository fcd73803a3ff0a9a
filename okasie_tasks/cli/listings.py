"""``okasie push``, ``sell``, ``why`` and ``retry``: send and explain single listings."""

from __future__ import annotations

import sys
from typing import Any

import click

from okasie_tasks.cli.common import Context, change_text, command_options, echo, emit, table, wrapped
from okasie_tasks.cli.run_view import print_run
from okasie_tasks.cli.runs import EXIT_FAILED, EXIT_REJECTED, exit_status
from okasie_tasks.cli.times import when


@click.command()
@click.argument("account")
@click.argument("reference", metavar="REF")
@command_options
def why(context: Context, account: str, reference: str) -> None:
    """Explain listing REF of ACCOUNT: what was sent, what was answered, what happens next."""
    from okasie_tasks.cli.connect import services_of, with_zone  # noqa: PLC0415 - redis-py only where it is needed
    from okasie_tasks.reports.listing import why_document  # noqa: PLC0415

    services = services_of(context)
    document = with_zone(services, why_document(services.context(account), reference))
    emit(context, document, lambda: _print_why(document))


@click.command()
@click.argument("account")
@click.argument("references", metavar="[REF...]", nargs=-1)
@command_options
def retry(context: Context, account: str, references: tuple[str, ...]) -> None:
    """Retry the listings of ACCOUNT that the marketplace refused, all or REF..., and follow the run that sends them."""
    from okasie_tasks.actions import accounts as actions  # noqa: PLC0415
    from okasie_tasks.cli.connect import PUBLISH_SECONDS, operator  # noqa: PLC0415
    from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - Celery only where it is needed

    follower = Follower(context, account)
    released = actions.retry(follower.services, account, references, by=operator(), try_seconds=PUBLISH_SECONDS)
    document: dict[str, Any] = {**released, "state": None, "still_parked": []}
    if released["run"]:
        document |= follower.follow(follower.picked_up(released["run"]))
        document["still_parked"] = follower.still_rejected([*released["freed"], *released["invalid"]])
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
    title = f": {document['title']}" if document["title"] else ""
    wrapped(f"{document['reference']} of {document['account']}{title}", 12)
    if document["listing_url"]:
        wrapped(f"  advert    {document['listing_url']}", 12)
    if ledger:
        labels = [ledger["status"] or "no status", *(text for flag, text in _FLAGS.items() if ledger[flag])]
        times = [f"{name.replace('_', ' ')} {when(ledger[name])}" for name in ("last_sent", "changed_there")]
        wrapped(f"  ledger    {', '.join(labels)}; {', '.join(times)}", 12)
    if reject:
        wrapped(f"  {reject['state']:<9} {reject['message']} ({reject['code']}, {reject['where']})", 12)
        request = f", request {reject['request_id']}" if reject["request_id"] else ""
        seen = f"first seen {when(reject['first_seen'])}, last {when(reject['last_seen'])}"
        wrapped(f"            refused {reject['attempts']} times, {seen}{request}", 12)
    if waiting:
        wrapped(f"  waiting   a {waiting['kind']}, accepted {when(waiting['accepted'])}, {waiting['tries']} tries", 12)
    for event in document["events"]:
        _print_event(event)
    wrapped(f"  next      {document['next']}", 12)


def _print_event(event: dict[str, Any]) -> None:
    origin = [f"{name} {event[key]}" for name, key in (("run", "run"), ("request", "request_id")) if event[key]]
    by = f", by {event['by']}" if event["by"] else ""
    wrapped(f"  {event['kind']:<9} {when(event['at'])}  {event['reason']}{by}", 12)
    if event["message"]:
        wrapped(f"            {event['message']}" + (f" ({event['code']})" if event["code"] else ""), 12)
    for change in event["changes"]:
        wrapped(f"            {change_text(change)}", 12)
    if event["changes_left_out"]:
        wrapped(f"            and {event['changes_left_out']} more", 12)
    for line in (*event["warnings"], *([", ".join(origin)] if origin else [])):
        wrapped(f"            {line}", 12)


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
