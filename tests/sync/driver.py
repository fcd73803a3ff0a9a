"""A run from its request to its end, part by part, in this thread: what the Celery tasks do, without the messages."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from okasie_tasks.errors import RetryLater
from okasie_tasks.store.records import Run
from okasie_tasks.sync import phases
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.executor import perform


def drive(
    ctx: AccountContext, mode: str = "incremental", *, plan_only: bool = False,
    wait: Callable[[float], None] = lambda _: None, rng: Random | None = None,
) -> Run:  # fmt: skip
    """Ask for a run of the account and do its parts until it ends. ``wait``: what a `RetryLater` costs, in seconds."""
    asked, _ = ctx.runs.request(ctx.policy.account, mode, plan_only=plan_only)
    begun = ctx.runs.begin(ctx.policy.account)
    assert begun == asked, "another run is at work"
    return finish(ctx, asked, wait=wait, rng=rng)


def finish(
    ctx: AccountContext, run: str, *, wait: Callable[[float], None] = lambda _: None, rng: Random | None = None,
    before: Callable[[], None] = lambda: None,
) -> Run:  # fmt: skip
    """Do the parts of a run that has begun until it ends. ``before``: what else happens before each part."""
    luck, number = rng or Random(0), 0
    while (record := ctx.runs.get(run)) is not None and record.open:
        parts = [(stage, part) for stage, found in phases.windows(ctx, run, record.stage) for part in found]
        if not parts:
            stood = (record.stage, record.progress_ms)
            phases.advance(ctx, run)
            record = ctx.runs.get(run)
            assert record is not None
            assert not record.open or (record.stage, record.progress_ms) != stood, f"{run} stands still: {record}"
        for stage, part in parts:
            number += 1
            before()
            _one(ctx, Part(run, stage, part, f"task-{number}"), luck, wait)
            phases.advance(ctx, run)
    assert record is not None
    return record


def _one(ctx: AccountContext, part: Part, luck: Random, wait: Callable[[float], None]) -> None:
    while True:
        try:
            perform(ctx, part, rng=luck)
        except RetryLater as later:
            wait(later.seconds)
        else:
            return
