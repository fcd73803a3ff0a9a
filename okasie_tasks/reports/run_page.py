"""A run's document with its phases and its requests: what ``okasie run`` draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.run_record import run_document
from okasie_tasks.store.records import Run

if TYPE_CHECKING:
    from okasie_tasks.store.request_stats import Trace
    from okasie_tasks.store.runs import Runs

_PHASES: Final = {
    "first": ("first page", ("first",)),
    "walk": ("other pages", ("walk",)),
    "load": ("read the source", ("load",)),
    "diff": ("compare", ("diff",)),
    "apply": ("send", ("spool", "upsert", "confirm", "sell")),
    "count": ("control count", ("count",)),
}
"""Phase -> its label and its stages."""


def page_document(runs: Runs, run: Run, trace: Trace, *, limit: int) -> dict[str, Any]:
    """Return `run_document` with its phases and its requests. ``limit``: requests a minute.

    Seconds count from the run's start, after it waited for another run. ``parts`` is None for a run that is older than
    two days.
    """
    return {
        **run_document(runs, run),
        "waited_seconds": round((run.started_ms - run.created_ms) / 1000, 3) if run.started_ms else None,
        "timeline": _timeline(runs, run),
        "limit_per_minute": limit,
        "requests_over_time": [
            {**msgspec.to_builtins(slot), "share": round(slot.requests / (limit * slot.seconds / 60), 3)}
            for slot in trace.slots
        ],
        "slowest_requests": [_request(run, sent) for sent in trace.slowest],
        "failed_requests": [_request(run, sent) for sent in trace.failed],
    }


def _request(run: Run, sent: Any) -> dict[str, Any]:
    entry: dict[str, Any] = msgspec.to_builtins(sent)
    return {**entry, "sent_at": iso(run.started_ms + sent.at * 1000)}


def _timeline(runs: Runs, run: Run) -> list[dict[str, Any]]:
    if not run.started_ms:
        return []
    begun = {"first": run.started_ms} | {name: run.fact(f"at:{name}") for name in _PHASES if run.fact(f"at:{name}")}
    order = sorted(begun, key=lambda name: begun[name])
    ends = [begun[name] for name in order[1:]] + [run.ended_ms or runs.now_ms()]
    return [
        {
            "phase": _PHASES[name][0],
            "begins": round((begun[name] - run.started_ms) / 1000, 3),
            "seconds": round(max(0, end - begun[name]) / 1000, 3),
            "parts": _parts(runs, run, _PHASES[name][1]),
        }
        for name, end in zip(order, ends, strict=True)
    ]


def _parts(runs: Runs, run: Run, stages: tuple[str, ...]) -> list[dict[str, Any]] | None:
    states = [(stage, runs.parts.stage(run.id, stage)) for stage in stages]
    entries = [
        {"stage": stage, "parts": state.total, "closed": state.closed, "failed": state.failed}
        for stage, state in states
        if state.total
    ]
    return entries or None
