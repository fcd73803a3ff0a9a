"""``okasie listings`` and ``rejects``: the listings of an account, and those that cannot be sent."""

from __future__ import annotations

from typing import Any, Final

import click

from okasie_tasks.cli.common import Context, command_options, echo, emit, table, width, wrapped
from okasie_tasks.cli.run_view import NO_REFERENCE, waiting_lines
from okasie_tasks.cli.times import when

_WIDE: Final = 120
"""Columns from which VINs and adverts are shown."""


@click.command()
@click.argument("account")
@click.option("--search", default="", metavar="TEXT", help="Only those with this part of a reference, title or VIN.")
@click.option(
    "--status",
    multiple=True,
    metavar="STATUS",
    help="Only those in this state (live, sold, rejected, waiting, held, unknown) or of this status; may be repeated.",
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="How many to list.")
@click.option("--after", default="", metavar="REF", help="List those after this reference.")
@command_options
def listings(  # noqa: PLR0917 - a parameter for each option
    context: Context, account: str, search: str, status: tuple[str, ...], limit: int, after: str
) -> None:
    """List the listings of ACCOUNT in the order of their references."""
    from okasie_tasks.cli.connect import services_of, with_zone  # noqa: PLC0415
    from okasie_tasks.reports.listings import listings_document  # noqa: PLC0415

    services = services_of(context)
    found = listings_document(services.context(account), search=search, status=status, after=after, limit=limit)
    document = with_zone(services, found)
    emit(context, document, lambda: _print_listings(document))


def _print_listings(document: dict[str, Any]) -> None:
    found = document["listings"]
    wide = (width() or _WIDE) >= _WIDE
    headers = ["reference", "state", "price", "title", *(["VIN", "updated", "advert"] if wide else [])]
    rows = [
        [
            one["reference"],
            one["state"],
            "-" if one["price"] is None else f"{one['price']:,}",
            one["title"] or "-",
            *([one["vin"] or "-", when(one["updated_at"]), one["listing_url"] or "-"] if wide else []),
        ]
        for one in found
    ]
    if rows:
        table(headers, rows)
    count = document["count"]
    echo(f"{len(rows)} of {count} listings" if rows else "no listings found")
    if document["next"]:
        echo(f"`--after {document['next']}` lists those that follow")


@click.command()
@click.argument("account")
@command_options
def rejects(context: Context, account: str) -> None:
    """List the rejected listings of ACCOUNT: refused by the marketplace, or invalid in the source."""
    from okasie_tasks.cli.connect import services_of, with_zone  # noqa: PLC0415
    from okasie_tasks.reports.rejects import rejects_page  # noqa: PLC0415

    services = services_of(context)
    document = with_zone(services, rejects_page(services.context(account)))
    emit(context, document, lambda: _print_rejects(document))


def _print_rejects(document: dict[str, Any]) -> None:
    entries = document["rejects"]
    for reject in entries:
        _print_reject(reject)
    left = document["rows_without_reference"] - sum(reject["holds_sells"] for reject in entries)
    echo(f"{len(entries)} rejected" if entries else "nothing is rejected")
    if left:
        echo(f"{left} more rows without a readable reference")
    for line in waiting_lines(document):
        wrapped(line)


def _print_reject(reject: dict[str, Any]) -> None:
    fields = f": {', '.join(reject['fields'])}" if reject["fields"] else ""
    wrapped(f"{reject['reference'] or NO_REFERENCE}  {reject['state']}{fields}")
    wrapped(f"  {reject['message']} ({reject['code']})", indent=4)
    tried = f"sent {reject['attempts']} times" if reject["attempts"] else "never sent"
    request = f"; request {reject['request_id']}" if reject["request_id"] else ""
    seen = f"first {when(reject['first_seen'])}, last {when(reject['last_seen'])}"
    wrapped(f"  {reject['where']}; {tried}; {seen}{request}", indent=4)
