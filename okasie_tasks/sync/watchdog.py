"""Watchdog: what was lost between the broker and the workers is found in the run record and published again.

A run that made no progress for `STALLED_SECONDS` gets its open parts published anew, at most once in that time; so
does a part that was left behind by those published after it. Doubled messages find their parts claimed or closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from okasie_tasks.sync import conduct
from okasie_tasks.sync.tools import Tools

if TYPE_CHECKING:
    from okasie_tasks.adapters.runs import Run

STALLED_SECONDS: Final = 45.0
"""Longer than any wait that the limiter hands out, shorter than an operator's patience."""
_LEFT_BEHIND: Final = 30
"""Permits are given in the order of publishing: a part so far behind died with the worker that had its message."""


def look(tools: Tools, account: str) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Parts to publish again, as ``(run, stage, parts)``, for the account's run if it stands still."""
    run_id = tools.runs.active(account)
    run = tools.runs.get(run_id) if run_id else None
    if run is None or run.state != "running":
        return
    if tools.runs.stops.paused_ms(account) and not run.cancelling:
        return
    now_ms = tools.runs.now_ms()
    if now_ms - run.fact("republished_ms") < STALLED_SECONDS * 1000:
        return
    if now_ms - run.progress_ms < STALLED_SECONDS * 1000:
        yield from _left_behind(tools, run, now_ms)
        return
    tools.runs.note(run.id, republished_ms=now_ms)
    for run_name, stage, lost in open_again(tools, run.id):
        yield run_name, stage, lost[:10] if stage in ("walk", "upsert", "sell") else lost


def open_again(tools: Tools, run_id: str) -> Iterator[tuple[str, str, Sequence[int]]]:
    """What a run goes on with when nobody knows which of its messages are left, as ``(run, stage, parts)``."""
    conduct.advance(tools, run_id)
    run = tools.runs.get(run_id)
    if run is None or run.state != "running":
        return
    stages = ("spool", "upsert", "sell") if run.stage == "apply" else (run.stage,)
    lost = [(stage, tools.runs.open_parts(run_id, stage)) for stage in stages]
    for stage, parts in (*conduct.windows(tools, run_id, run.stage), *lost):
        if parts:
            yield run_id, stage, parts


def _left_behind(tools: Tools, run: Run, now_ms: int) -> Iterator[tuple[str, str, Sequence[int]]]:
    for stage in {"walk": ("walk",), "apply": ("upsert", "sell")}.get(run.stage, ()):
        reached = tools.runs.stage(run.id, stage).published - _LEFT_BEHIND
        if lost := [part for part in tools.runs.open_parts(run.id, stage) if part < reached]:
            tools.runs.note(run.id, republished_ms=now_ms)
            yield run.id, stage, lost


def may_begin(tools: Tools, account: str) -> bool:
    """Whether a run waits although none is at work: the message that should have begun it was lost."""
    if tools.runs.waiting(account) is None or tools.runs.stops.paused_ms(account):
        return False
    active = tools.runs.active(account)
    return active is None or tools.runs.state(active) != "running"
