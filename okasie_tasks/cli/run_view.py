"""A run as text: the summary that ``okasie sync`` prints, and the details that ``okasie run`` adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from okasie_tasks.cli.common import echo, table, width, wrapped
from okasie_tasks.cli.times import in_text, when

_BAR, _SHORT_BAR = 32, 14
_SLOTS: Final = 30
_ITEMS: Final = 20
_WIDE: Final = 120
"""Columns from which whole run ids are shown in a list."""
_SHORT_ID: Final = 14
_COUNTED: Final = ("created", "updated", "sold", "rejected", "held")
NO_REFERENCE: Final = "(none)"
"""Stands for an empty cell where a reference should be."""


def print_run(document: dict[str, Any]) -> None:
    """Print the summary of one run."""
    listings, requests = document["listings"], document["requests"]
    echo(
        f"run {document['run']} of {document['account']} ({document['mode']}): {document['state']}"
        f" in {document['seconds']:.1f} s"
    )
    wrapped("  listings  " + ", ".join(f"{count} {name}" for name, count in listings.items() if count), 12)
    sent = ", ".join(f"{requests[name]} {name}" for name in ("list", "bulk", "put", "delete") if requests[name])
    echo(f"  requests  {sent or 'none'} (fewest possible: {requests['minimum']})")
    if document["cursor"]:
        echo(f"  cursor    {when(document['cursor'])}")
    print_held(document)
    if document["approved"]:
        echo(f"  approved  the plan held by run {document['approved']}")
    print_remarks(document)
    if document["new_rejects"]:
        echo(f"  rejects   {document['new_rejects']} new")
    print_rejects(document.get("rejects", []))


def print_runs(documents: Sequence[dict[str, Any]]) -> None:
    """Print a line for each run. A narrow terminal shows the beginning of its id, which commands accept."""
    narrow = _narrow()
    rows = [
        [
            document["run"][:_SHORT_ID] if narrow else document["run"],
            document["purpose"],
            document["state"],
            when(document["created_at"])[5:16] if narrow else when(document["created_at"]),
            f"{document['seconds']:.1f}",
            _brief(document),
        ]
        for document in documents
    ]
    table(["run", "for", "state", "requested", "seconds", "listings"], rows)


def _brief(document: dict[str, Any]) -> str:
    counts = [f"{document['listings'][name]} {name}" for name in _COUNTED if document["listings"][name]]
    replacing = [f"replaced by {document['replaced_by']}"] if document["replaced_by"] else []
    return ", ".join([*replacing, *counts]) or "-"


def _decisions(document: dict[str, Any]) -> Iterator[str]:
    """Yield who requested the run, and who approved, dropped or cancelled it."""
    for name in ("requested_by", "approved_by", "dropped_by", "cancelled_by"):
        if document[name]:
            yield f"{name.replace('_', ' ')} {document[name]}"


def print_rejects(rejects: Sequence[dict[str, Any]]) -> None:
    """Print a line for each reject."""
    for reject in rejects:
        wrapped(f"            {reject['reference'] or NO_REFERENCE}  {reject['where']}  {reject['message']}", 14)


def waiting_lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield what waits because the source was not read completely. ``document``: of an account."""
    count, rows = document["sells_waiting"], document["rows_without_reference"]
    if count:
        yield f"{count} sell{' waits' if count == 1 else 's wait'}: {document['sells_wait_for']}"
    elif rows:
        what = "1 row has no readable reference" if rows == 1 else f"{rows} rows have no readable reference"
        yield f"{what}: no listing that disappears from the source is sold; `okasie rejects` shows why"


def print_remarks(document: dict[str, Any]) -> None:
    """Print the notes and the error of a run."""
    for note in document["notes"]:
        wrapped(f"  note      {in_text(note)}", 12)
    if document["error"]:
        error = document["error"]
        where = f"{error['where']}: " if error["where"] else ""
        wrapped(f"  error     {error['code']}: {where}{error['message']}", 12)


def print_held(document: dict[str, Any]) -> None:
    """Print what needs approval, and the commands that approve or drop it."""
    for hold in document["held"]:
        wrapped(f"  held      {hold['count']} {hold['what']}: {hold['reason']}", 12)
    if document.get("held_run") and document["held"]:
        wrapped(f"            okasie approve {document['held_run']} sends it, okasie reject drops it", 12)


def print_items(document: dict[str, Any]) -> None:
    """Print what each held change would do; the rest is counted."""
    items = document.get("items", [])
    for item in items[:_ITEMS]:
        changes = "; ".join(_values(field, change) for field, change in item["changes"].items())
        wrapped(f"            {item['action']} {item['reference']}: {changes or item['reason']}", 14)
    if left := max(0, len(items) - _ITEMS) + document.get("items_left_out", 0):
        echo(f"            {left} more are held" + ("; --json lists them" if len(items) > _ITEMS else ""))


def _values(field: str, change: dict[str, Any]) -> str:
    old, new = ("empty" if change[name] is None else change[name] for name in ("old", "new"))
    return f"{field}: {old if change.get('old_known', True) else 'unknown'} -> {new}"


def print_details(document: dict[str, Any]) -> None:
    """Print times, phases, use of the quota, and the slowest and failed requests."""
    print_items(document)
    begun, ended = (when(document[name], none="not yet") for name in ("started_at", "ended_at"))
    echo(f"  started   {begun}, ended {ended}")
    for number, line in enumerate(_decisions(document)):
        echo(f"  {'' if number else 'by':<10}{line}")
    for number, phase in enumerate(document["timeline"]):
        wrapped(f"  {'' if number else 'timeline':<10}{_phase(phase, document['seconds'])}", 28)
    for number, line in enumerate(_use(document)):
        wrapped(f"  {'' if number else 'quota':<10}{line}", 28)
    for name, key in (("failed", "failed_requests"), ("slowest", "slowest_requests")):
        for number, sent in enumerate(document[key][:5]):
            wrapped(f"  {'' if number else name:<10}{_request(sent)}", 24)


def _narrow() -> bool:
    return (width() or _WIDE) < _WIDE


def _phase(phase: dict[str, Any], seconds: float) -> str:
    most = _SHORT_BAR if _narrow() else _BAR
    scale = most / max(seconds, phase["begins"] + phase["seconds"], 1e-3)
    bar = f"{' ' * int(phase['begins'] * scale)}{'#' * max(1, round(phase['seconds'] * scale))}"
    parts = ", ".join(_parts(part) for part in phase["parts"] or ())
    return f"{phase['phase']:<16}{bar:<{most + 1}} {phase['seconds']:7.1f} s  {parts}".rstrip()


def _parts(part: dict[str, Any]) -> str:
    failed = f" ({part['failed']} failed)" if part["failed"] else ""
    return f"{part['closed']}/{part['parts']} {part['stage']}{failed}"


def _use(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line a slot; in a long run a line combines several slots."""
    slots, most = document["requests_over_time"], _SHORT_BAR if _narrow() else _BAR
    per_line = -(-len(slots) // _SLOTS) or 1
    for first in range(0, len(slots), per_line):
        some = slots[first : first + per_line]
        seconds = sum(slot["seconds"] for slot in some)
        share = sum(slot["share"] * slot["seconds"] for slot in some) / seconds
        worse = {name: sum(slot[name] for slot in some) for name in ("refused", "failed")}
        problems = "".join(f", {count} {name}" for name, count in worse.items() if count)
        span = f"{some[0]['at']}-{some[0]['at'] + seconds} s"
        count = sum(slot["requests"] for slot in some)
        bar = "#" * round(min(share, 1) * most)
        yield f"{span:<16}{bar:<{most + 1}} {share * 100:7.0f} %  {count} requests{problems}"


def _request(sent: dict[str, Any]) -> str:
    status = sent["status"] or "no answer"
    return (
        f"{sent['ms'] / 1000:7.2f} s  {sent['where']}  ({status}, after {sent['at']} s, request {sent['request_id']})"
    )
