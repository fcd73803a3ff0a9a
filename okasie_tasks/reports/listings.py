"""The listings of an account: searched by reference, title and VIN, and filtered by status or state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from heapq import nsmallest
from typing import Any, Final, NamedTuple

from okasie_tasks.core.catalog import BUCKETS_PER_SHELF, SHELVES, Titled, folded, shelf_of
from okasie_tasks.core.guards import reference_of
from okasie_tasks.core.ledger_entry import ABSENT, Entry, entry_state
from okasie_tasks.reports.listing import is_online, iso, state_of
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import AccountContext

STATES: Final = ("waiting", "rejected", "held", "live", "sold", "unknown")
"""The first that applies: a push or sell waits; its newest content is rejected; a change is held; then by the ledger.

``unknown``: the ledger has no entry, or an entry whose status the last answer did not show.
"""
_MOST_LISTED: Final = 500
_SHELVES_PER_TRIP: Final = 4


class _Marked(NamedTuple):
    """References whose state the ledger alone does not show."""

    waiting: Collection[str]
    rejected: Collection[str]
    held: Collection[str]

    def state(self, reference: str, packed: bytes) -> str:
        for name in self._fields:
            if reference in getattr(self, name):
                return name
        return state_of(entry_state(packed).status)


def listings_document(
    ctx: AccountContext, *, search: str = "", status: Sequence[str] = (), after: str = "", limit: int = 50
) -> dict[str, Any]:
    """Return a page of listings in the order of their references.

    ``search``: part of a title, VIN or reference, in any case, accents ignored. ``status``: statuses of the ledger or
    `STATES`; a listing that has one of them is listed. ``after``: ``next`` of the page before. ``count``: of all pages.
    """
    needle, wanted = folded(" ".join(search.split())), frozenset(status)
    marked, limit = _marked(ctx), min(max(limit, 1), _MOST_LISTED)
    count, page = 0, list[tuple[str, str, Titled | None, bytes]]()
    for found in _shelves(ctx, marked):
        fits = [row for row in found if _matches(row, needle) and _is_wanted(row, marked, wanted)]
        count += len(fits)
        rows = ((name, marked.state(name, packed), row, packed) for name, row, packed in fits if name > after)
        page = nsmallest(limit + 1, [*page, *rows], key=lambda row: row[0])
    return {
        "account": ctx.policy.account,
        "listings": _documents(ctx, page[:limit]),
        "count": count,
        "next": page[limit - 1][0] if len(page) > limit else None,
    }


_Row = tuple[str, Titled | None, bytes]
"""Reference, title and VIN if known, packed ledger entry."""


def _marked(ctx: AccountContext) -> _Marked:
    plan = plan_review.held_plan(ctx)
    held = frozenset(map(reference_of, plan.items)) if plan is not None else frozenset[str]()
    return _Marked(ctx.urgent_queue.references(), ctx.ledger.rejected_references(), held)


def _shelves(ctx: AccountContext, marked: _Marked) -> Iterator[list[_Row]]:
    """Yield the listings of some shelves at a time, so that a search needs little memory."""
    others: dict[int, list[str]] = defaultdict(list)
    for reference in {*marked.waiting, *marked.rejected}:
        others[shelf_of(reference) // _SHELVES_PER_TRIP].append(reference)
    for trip in range(SHELVES // _SHELVES_PER_TRIP):
        shelves = range(trip * _SHELVES_PER_TRIP, (trip + 1) * _SHELVES_PER_TRIP)
        texts = ctx.ledger.catalog.texts(shelves)
        entries = ctx.ledger.packed_buckets(range(shelves[0] * BUCKETS_PER_SHELF, shelves.stop * BUCKETS_PER_SHELF))
        rows: list[_Row] = []
        for line in (line for text in texts if text for line in text.split("\n")):
            name, title, vin = line.split("\t")
            rows.append((name, Titled(title, vin), entries.pop(name, ABSENT)))
        known = {name for name, _, _ in rows} if others[trip] else frozenset[str]()
        rows += [(name, None, packed) for name, packed in entries.items()]
        rows += [(name, None, ABSENT) for name in others[trip] if name not in known and name not in entries]
        yield rows


def _matches(row: _Row, needle: str) -> bool:
    if not needle:
        return True
    name, known, _ = row
    # The tab is in no needle, so that no match goes over two of them.
    return needle in folded(f"{name}\t{known.title}\t{known.vin}" if known else name)


def _is_wanted(row: _Row, marked: _Marked, wanted: frozenset[str]) -> bool:
    name, _, packed = row
    return not wanted or entry_state(packed).status in wanted or marked.state(name, packed) in wanted


def _documents(ctx: AccountContext, page: Sequence[tuple[str, str, Titled | None, bytes]]) -> list[dict[str, Any]]:
    references = [name for name, *_ in page]
    links, snapshots = ctx.history.links(references), ctx.history.snapshots(references)
    documents = []
    for name, state, known, packed in page:
        entry = None if packed == ABSENT else Entry.unpack(packed)
        snapshot = snapshots.get(name)
        documents.append(
            {
                "reference": name,
                "title": (known.title if known else "") or None,
                "vin": (known.vin if known else "") or None,
                "status": (entry.status if entry else "") or None,
                "price": snapshot.price if snapshot else None,
                "listing_url": links.get(name),
                "state": state,
                "online": is_online(entry),
                "updated_at": iso(entry.sent_ms) if entry else None,
            }
        )
    return documents
