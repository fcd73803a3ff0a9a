"""Builds and publishes the messages of a run: windows of parts as flat chords, and their bodies."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from celery import Task, chord, group, signature

from okasie_tasks.celery import app
from okasie_tasks.errors import LimiterUnavailable
from okasie_tasks.services import services
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.reading import reading_part
from okasie_tasks.tasks.deliveries import headers_of_retry
from okasie_tasks.tasks.run_events import RunEvents, part_label
from okasie_tasks.telemetry import tracing
from okasie_tasks.worker.settings import QUEUE_OF

RUN_EVENTS: Final = RunEvents(app)
LONGEST_COUNTDOWN_SECONDS: Final = 12.0
_EARLY_SECONDS: Final = 0.1
"""A write's message arrives so long before its turn, and its slot waits for the permit."""
TASK_OF: Final = {
    "first": "okasie.fetch_page",
    "walk": "okasie.fetch_page",
    "load": "okasie.load_inventory",
    "diff": "okasie.diff_chunk",
    "spool": "okasie.spool",
    "upsert": "okasie.upsert_chunk",
    "confirm": "okasie.confirm_sells",
    "sell": "okasie.mark_sold",
    "count": "okasie.count_listings",
}

_READING: Final = ("load", "confirm")
"""Stages with a part that reads the source."""


def again_later(task: Task[Any, Any], why: Exception, seconds: float) -> Exception:
    """Publish the same message again after ``seconds``, `LONGEST_COUNTDOWN_SECONDS` at most. Returns what to raise.

    Flower shows ``why`` beside RETRY. The ``argsrepr`` is kept, which Celery's ``retry`` would drop.
    """
    options: dict[str, Any] = {
        "argsrepr": getattr(task.request, "argsrepr", None),
        "headers": headers_of_retry(task, why),
    }
    return task.retry(countdown=min(seconds, LONGEST_COUNTDOWN_SECONDS), max_retries=None, exc=why, **options)


def is_waiting(stage: str) -> bool:
    """Whether messages wait in the queue that the stage uses, of any account."""
    queues = {QUEUE_OF[TASK_OF[stage]]} | ({_reading_queue()} if stage in _READING else set())
    return any(services().redis.llen(queue) for queue in queues)


def begin_waiting(ctx: AccountContext) -> None:
    """Begin the account's next run if one waits and none is active."""
    account = ctx.policy.account
    if watchdog.may_begin(ctx, account):
        label = f"{account}: begin the waiting run"
        kwargs = {"account": account, "requested": True}
        signature("okasie.sync", kwargs=kwargs, app=app).apply_async(argsrepr=label)


# -- windows -------------------------------------------------------------------------------------------------------


def publish(ctx: AccountContext, run: str) -> None:
    """Publish the next window of a run, if it is due, as one flat chord. Ends a run that is being cancelled."""
    record = ctx.runs.get(run)
    if record is not None and record.cancelling:
        if phases.advance(ctx, run) is not None:
            RUN_EVENTS.publish(ctx.runs, run, now=True)
            begin_waiting(ctx)
    elif record is not None and record.state == "running":
        window = phases.windows(ctx, run, record.stage)
        send_parts(ctx, run, window, countdowns=_turns(ctx, run, window))


def advance_run(ctx: AccountContext, run: str) -> None:
    """Move a run to its next phase if the current one is finished, and publish what is due."""
    with tracing.of_trace(ctx.runs.traceparent(run)):
        ended = phases.advance(ctx, run)
        if ended is None:
            publish(ctx, run)
    if ended is not None:
        begin_waiting(ctx)
    RUN_EVENTS.publish(ctx.runs, run, now=ended is not None)


def _turns(ctx: AccountContext, run: str, window: list[tuple[str, range]]) -> dict[tuple[str, int], float]:
    """Return the seconds until the turn of each write in a new window, by the pace of the quota.

    A message that is delivered before its turn only costs another one, since it must be retried.
    """
    writes = [(stage, number) for stage, parts in window if stage in phases.PACED_STAGES for number in parts]
    if not writes:
        return {}
    with contextlib.suppress(LimiterUnavailable):
        quota = services().limiter(ctx.policy.account).status()
        first = sum(ctx.runs.parts.unclaimed(run, stage) for stage in phases.PACED_STAGES) - len(writes)
        begin = quota.next_bulk_seconds - _EARLY_SECONDS
        return {write: begin + (first + place) * quota.pace_seconds for place, write in enumerate(writes)}
    return {}


def send_parts(
    ctx: AccountContext,
    run: str,
    stages: list[tuple[str, Any]],
    *,
    countdowns: dict[tuple[str, int], float] | None = None,
) -> None:
    """Publish these parts as one chord, whose body moves the run on.

    A single part is published alone, and so are those of a drained stage: the task that closes the last part moves the
    run on. A chord of one would cost another message, a result and a count. ``countdowns``: seconds until a part is to
    be executed, by stage and number; 0 for a part that it lacks.
    """
    seconds = countdowns or {}
    totals = {stage: ctx.runs.parts.stage(run, stage).total for stage, _ in stages}
    record = ctx.runs.get(run) if "load" in totals else None
    reads = {"load": reading_part(record) if record else 0, "confirm": 0}
    header = [
        part_message(
            ctx.policy.account,
            run,
            stage,
            number,
            of=totals[stage],
            reads=number == reads.get(stage),
            countdown=seconds.get((stage, number), 0.0),
        )
        for stage, parts in stages
        for number in parts
    ]
    alone = len(header) == 1 or all(stage in phases.DRAINED_STAGES for stage, _ in stages)
    with tracing.within(ctx.runs.traceparent(run)):
        if not alone:
            chord(group(header), advance_message(ctx, run))()
            return
        for message in header:
            message.apply_async(ignore_result=True)


def advance_message(ctx: AccountContext, run: str) -> Any:
    account = ctx.policy.account
    kwargs = {"account": account, "run": run}
    label = f"{account}: advance the run"
    return signature("okasie.advance", kwargs=kwargs, immutable=True, app=app, argsrepr=label)


def _reading_queue() -> str:
    return str(app.conf.okasie_feeds_queue)


def part_message(
    account: str, run: str, stage: str, number: int, *, of: int, reads: bool = False, countdown: float = 0.0
) -> Any:
    """The message of one part, for execution after ``countdown`` seconds, `LONGEST_COUNTDOWN_SECONDS` at most.

    ``of`` and ``argsrepr`` are shown in Flower. ``reads``: the part reads the source.
    """
    if stage in ("first", "walk"):
        count, of = (1, of) if stage == "first" else (number + 2, of + 1)
        kwargs = {"account": account, "run": run, "page": count, "of": of}
    else:
        count, kwargs = number + 1, {"account": account, "run": run, "part": number, "of": of}
    label = part_label(account, stage, count, of)
    if stage == "load":
        label = f"{account}: read of the source" if reads else part_label(account, stage, number, of - 1)
    options: dict[str, Any] = {"argsrepr": label}
    if reads:
        options["queue"] = _reading_queue()
    if countdown > 0:
        options["countdown"] = min(countdown, LONGEST_COUNTDOWN_SECONDS)
    return signature(TASK_OF[stage], kwargs=kwargs, immutable=True, app=app, **options)
