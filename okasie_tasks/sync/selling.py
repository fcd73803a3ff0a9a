"""Selling: one listing is marked sold, if nothing newer says otherwise by then."""

from __future__ import annotations

from okasie_tasks.core.entry import Entry, Flag, Version
from okasie_tasks.core.history import Event
from okasie_tasks.core.records import Planned
from okasie_tasks.errors import SetAside
from okasie_tasks.ports import Call
from okasie_tasks.sync import rejects, remember
from okasie_tasks.sync.apply import source_began_ms
from okasie_tasks.sync.tools import Part, Tools


def mark_sold(tools: Tools, part: Part, call: Call) -> dict[str, int]:
    """Mark one listing sold. A reference that is not known there is settled: there is nothing left to sell."""
    change: Planned | None = tools.runs.data.fetch_one(part.run, "selling", part.number, Planned)
    if change is None:
        return {}
    # Over a row that did not change it is an older sell said again: a push that waits may be newer than that.
    seen_ms = source_began_ms(tools, part.run) if change.seen_ms is None else change.seen_ms
    with tools.locks.all([change.reference]):
        if not tools.runs.parts.holds(*part):
            return {}
        entry = tools.ledger.get([change.reference]).get(change.reference)
        if entry is None or not _still_to_sell(change, entry):
            return {"overtaken": 1}
        if entry.having(Flag.URGENT) and entry.seen_ms > seen_ms:
            spent = Flag.IN_SOURCE if change.row < 0 and entry.having(Flag.GIVEN) else Flag(0)
            tools.ledger.swap([(change.reference, entry, entry.but(clear=spent))])
            return {"overtaken": 1}
        if _newer_waits(tools, change, seen_ms):
            return {"overtaken": 1}
        try:
            answer = call.delete(change.reference)
            status, request_id = answer.items[0].status or "sold", answer.request_id
        except SetAside as refused:
            if refused.status != 404:
                raise
            status, request_id = "sold", refused.request_id or ""
        # A row that says sold stands: it is what its next change is measured by.
        stands = change.row >= 0
        found = Flag.IN_SOURCE if stands else Flag(0)
        absence = Flag(0) if stands else Flag.IN_SOURCE | Flag.SOLD_BY_HAND
        over = Flag.ECHO_DUE | Flag.URGENT | Flag.GIVEN | Flag.REVIVED | absence
        again = Flag.RESENT if change.rendering_seen else Flag(0)
        now_ms = tools.runs.now_ms()
        row = change.content if stands else entry.row
        # Nor has a sell a version of its own: what was pushed before this read of the source is older than it.
        settled = entry.but(
            status=status,
            missed=0,
            row=row,
            sent_ms=now_ms,
            version=0,
            seen_ms=seen_ms,
            set_flags=again | found,
            clear=over,
        )
        if not tools.ledger.swap([(change.reference, entry, settled)]):
            event = Event(now_ms, "sold", change.reason, run=part.run, request_id=request_id)
            remember.sold(tools, change.reference, event, entry, status=status)
    return {"sold": 1}


def _still_to_sell(change: Planned, entry: Entry) -> bool:
    """Whether the ledger still tells what the sell was decided by."""
    if change.rendering_seen:  # listed again by somebody; a push since then lists it for us
        return entry.having(Flag.REVIVED)
    # Without a row: pushed since it was decided, and its absence was spent.
    return entry.status != "sold" and (change.row >= 0 or entry.having(Flag.IN_SOURCE))


def _newer_waits(tools: Tools, change: Planned, seen_ms: int) -> bool:
    """Whether something waits in the urgent lane that this sell must not come before."""
    wish = tools.inbox.waiting([change.reference]).get(change.reference)
    if wish is None:
        return False
    if wish.row_gone or not wish.stamp.older_than(Version(0, seen_ms)):
        if change.row < 0:
            tools.inbox.row_gone(wish)
        return True
    # Perhaps it was that push which listed it again, and its answer was lost.
    return bool(change.rendering_seen) and wish.kind == "push"


def refused_sell(tools: Tools, part: Part, refused: SetAside) -> dict[str, int]:
    """Park a listing whose DELETE was refused."""
    change: Planned | None = tools.runs.data.fetch_one(part.run, "selling", part.number, Planned)
    if change is None:
        return {}
    reject = rejects.reject_of(
        rejects.answer_of(change.reference, refused),
        None,
        where=f"DELETE /listings/{change.reference}",
        run=part.run,
        request_id=refused.request_id,
        now=int(tools.runs.now()),
    )
    return {"new_rejects": rejects.park(tools, [reject], tools.ledger.get([change.reference]))}
