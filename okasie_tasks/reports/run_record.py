"""One run's record as a document, and how it ended in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from okasie_tasks.reports.listing import iso
from okasie_tasks.store.records import Run
from okasie_tasks.sync import waiting_sells
from okasie_tasks.sync.lost_fields import lost_reasons

if TYPE_CHECKING:
    from okasie_tasks.store.runs import Runs

_LISTINGS: Final = (
    "local", "remote", "unchanged", "created", "updated", "sold", "rejected", "held", "drifted", "conflicts", "foreign",
    "skipped", "already_sold", "warnings", "sells_waiting",
)  # fmt: skip
_KINDS: Final = ("list", "bulk", "put", "delete")
_BY: Final = ("requested_by", "approved_by", "dropped_by", "cancelled_by")
"""Facts of a run: who requested it, approved or dropped its held plan, cancelled it."""


def run_document(runs: Runs, run: Run) -> dict[str, Any]:
    """Return one run as ``okasie sync --json`` prints it. Keys may be added; none is renamed."""
    listings = json.loads(run.facts.get("listings", "{}"))
    ended, notes = run.ended_ms or runs.now_ms(), list(_notes(run))
    document = {
        "run": run.id,
        "account": run.account,
        "mode": run.mode,
        "state": run.state,
        "listings": {name: listings.get(name, 0) for name in _LISTINGS},
        "requests": {
            **{kind: run.counts.get(f"requests.{kind}", 0) for kind in _KINDS},
            "retried": run.counts.get("retried", 0),
            "rate_limited": run.counts.get("rate_limited", 0),
            "minimum": run.fact("minimum"),
        },
        "seconds": round((ended - run.created_ms) / 1000, 3),
        "cursor": run.facts.get("cursor") or runs.account(run.account).cursor or None,
        "created_at": iso(run.created_ms),
        "started_at": iso(run.started_ms),
        "ended_at": iso(run.ended_ms),
        "new_rejects": run.fact("new_rejects"),
        "skipped_images": run.fact("skipped_images"),
        "held": json.loads(run.facts.get("held", "[]")),
        "held_run": run.facts.get("held_run") or None,
        "approved": run.facts.get("released") or None,
        "replaced_by": run.facts.get("replaced_by") or None,
        "control": json.loads(run.facts["control"]) if "control" in run.facts else None,
        "plan_only": run.plan_only,
        "purpose": purpose(run),
        **{name: run.facts.get(name) or None for name in _BY},
        "notes": [note.text for note in notes],
        "note_details": [{"code": note.code, **note.values} for note in notes],
        "error": json.loads(run.facts["error"]) if "error" in run.facts else None,
    }
    if "nameless_where" in run.facts:
        document["unreadable_references"] = json.loads(run.facts["nameless_where"])
    return document


class Note(NamedTuple):
    """What an operator should know about a run that is not an error. ``values``: the parts of ``text`` that vary."""

    code: str
    text: str
    values: dict[str, Any]


def _notes(run: Run) -> Iterator[Note]:
    def note(code: str, text: str, **values: Any) -> Note:
        return Note(code, text.format(**values), values)

    if run.cancelling:
        at = iso(run.fact("cancel_ms"))
        yield note("cancelled", "cancelled by an operator at {at}; the cursor was not moved", at=at)
    if waiting := waiting_sells.sentence(run):
        yield Note("sells_waiting", waiting, {})
    if run.fact("walk_moved"):
        text = "the marketplace's list changed while it was read: listings it did not return are not treated as missing"
        yield Note("walk_moved", text, {})
    if count := run.fact("unproven"):
        text = "{count} listings were not returned, but rows without a reference were: not treated as missing"
        yield note("unproven", text, count=count)
    for reason in lost_reasons(run):
        yield Note("fields_lost", reason, {})
    if count := run.fact("lacking"):
        text = "{count} rows of the list lack fields that we fill: these fields are not compared"
        yield note("lacking", text, count=count)
    if count := run.fact("unoffered"):
        text = "{count} marketplace edits could not be offered to the source; they will be offered again"
        yield note("unoffered", text, count=count)
    if "control" in run.facts:
        totals = json.loads(run.facts["control"])
        if totals["ours"] != totals["theirs"]:
            text = "the marketplace counts {theirs} active listings, we count {ours}"
            yield note("counts_differ", text, **totals)
    if run.fact("outdated"):
        follows = "; an ordinary run follows" if run.fact("folded") else ""
        text = f"nothing was sent: the approved plan of run {{run}} was outdated{follows}"
        yield note("outdated", text, run=run.facts.get("approves"))
    if replacing := run.facts.get("replaced_by"):
        yield note("replaced", "its held plan was replaced when run {run} planned again", run=replacing)
    if released := run.facts.get("released_by"):
        yield note("released", "approved by an operator, sent with run {run}", run=released)


def purpose(run: Run) -> str:
    """Return what a run is for: ``plan`` (a dry run), ``approved`` (it sends a held plan), else its mode."""
    return "plan" if run.plan_only else "approved" if run.facts.get("approves") else run.mode


def outcome_text(document: dict[str, Any]) -> str:
    """Return how a run ended, in one line: errors and what is held come first, then the counts."""
    state, error = document["state"], document["error"]
    counts = ", ".join(f"{count} {name}" for name, count in document["listings"].items() if count)
    sent = sum(document["requests"][kind] for kind in _KINDS)
    requests = f"{sent} requests, fewest possible {document['requests']['minimum']}"
    reasons = [f"{error['where'] + ': ' if error['where'] else ''}{error['message']}"] if error else []
    reasons += [f"{hold['count']} {hold['what']} held: {hold['reason']}" for hold in document["held"]]
    return "; ".join([*reasons, f"{state}: {counts or 'no listings'}", requests])
