"""What a run or a dry run rejected, and the sells that wait for rows without a readable reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.records import Reject
from okasie_tasks.reports.listing import issues_document, rejects_document
from okasie_tasks.sync import rejects, unreadable_rows
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.ledger import Ledger
    from okasie_tasks.store.records import Run

_OF_PLAN: Final = 1_000
_NO_TITLE: Final = Titled()


def incomplete_source(ledger: Ledger) -> dict[str, Any]:
    """Return how many rows have no readable reference, how many sells wait, and why."""
    rows, waiting = ledger.waiting_sells()
    return {
        "rows_without_reference": rows,
        "sells_waiting": waiting.count,
        "sells_wait_for": waiting.reason or None,
    }


def rejects_page(ctx: AccountContext) -> dict[str, Any]:
    """Return every reject, grouped by reason as well, and the sells that wait for rows without a readable reference."""
    found = rejects_document(ctx)
    source = incomplete_source(ctx.ledger)
    return {"account": ctx.policy.account, "rejects": found, "groups": reject_groups(found), **source}


def reject_groups(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group rejects of the same kind, the largest group first: the same fields with the same codes.

    Messages quote values, so that of a group is the commonest. ``count``: rows without a reference are counted, too.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for reject in found:
        groups.setdefault(kind_of(reject), []).append(reject)
    documents = [
        {
            "code": members[0]["code"],
            "message": Counter(reject["message"] for reject in members).most_common(1)[0][0],
            "fields": members[0]["fields"],
            "issues": [{"field": field, "code": code} for field, code in kind[1:]],
            "count": len(members),
            "references": [reject["reference"] for reject in members if reject["reference"]],
        }
        for kind, members in groups.items()
    ]
    return sorted(documents, key=lambda group: -int(str(group["count"])))


def kind_of(reject: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return by what a reject is grouped: whether it is a row's fault, then each field with its code."""
    issues = [(issue["field"], issue["code"]) for issue in reject["issues"]]
    return (reject["code"], *(issues or [(field, reject["code"]) for field in reject["fields"]]))


def new_rejects(ledger: Ledger, record: Run, limit: int = 50) -> list[dict[str, Any]]:
    """Return the rejects that this run found first, at most ``limit``."""
    found = chain(ledger.unreadable_rows().rejects, ledger.all_rejects())
    new = (r for r in found if r.run == record.id and r.first_seen * 1000 >= record.created_ms - 1000)
    rejects = list(islice(new, limit))
    titles = ledger.catalog.get([reject.reference for reject in rejects])
    return [_short(reject) | {"title": titles.get(reject.reference, _NO_TITLE).title or None} for reject in rejects]


def rejects_of_plan(ctx: AccountContext, run: str) -> list[dict[str, Any]]:
    """Return the rejects that a dry run found, rows without a readable reference first, at most 1,000."""
    listings = (reject for batch in ctx.runs.data.fetch(run, rejects.COLLECTION, list[Reject]) for reject in batch)
    found = chain(unreadable_rows.of_plan(ctx, run), sorted(listings, key=lambda reject: reject.reference))
    return [_short(reject) for reject in islice(found, _OF_PLAN)]


def _short(reject: Reject) -> dict[str, Any]:
    return {
        "reference": reject.reference, "where": reject.where, "code": reject.code, "message": reject.message,
        "fields": reject.fields, "issues": issues_document(reject),
    }  # fmt: skip
