"""Executes the message of a part, and publishes the messages that follow it.

A message names one part. Where the stage allows it, its slot continues with the parts that follow, as one slot batch:
a page takes milliseconds, and its message costs as much again. For each part the slot waits half a second for a
permit. If the wait is longer, it leaves the rest to the other slots. There are as many as the quota needs: one that
waits, and those whose requests are in flight. While a message waits for a slot and none is free, a batch does not wait
for permits. It ends within half a second, and a new message continues it.

Messages of writes are published for the moments at which the quota should allow them. A slot that has sent one
continues only with parts that have no message, and only while permits come without a wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from random import SystemRandom
from typing import Any, Final
from uuid import uuid4

import redis
from celery import Task
from celery.worker import state
from kombu.exceptions import OperationalError

from okasie_tasks.errors import RetryLater
from okasie_tasks.logs import get_logger
from okasie_tasks.services import current_run
from okasie_tasks.store.records import Claim
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.executor import Effect, perform, perform_next
from okasie_tasks.tasks.deliveries import delivery
from okasie_tasks.tasks.dispatch import (
    LONGEST_COUNTDOWN_SECONDS,
    RUN_EVENTS,
    advance_message,
    advance_run,
    again_later,
    begin_waiting,
    is_waiting,
    part_message,
    publish,
    send_parts,
)
from okasie_tasks.tasks.unknown_account import context_of_run
from okasie_tasks.telemetry import tracing

log = get_logger(__name__)

RNG: Final = SystemRandom()
BROKER_ERRORS: Final = (redis.RedisError, OperationalError)
"""Redis is away or refuses. The task is retried, because a failed task ends and its message is lost."""
BROKER_RETRY_SECONDS: Final = 2.0

_BATCH_SECONDS: Final = 0.5
"""The longest slot batch while a message waits for a slot."""
_LONGEST_BATCH_SECONDS: Final = 10.0
"""The longest otherwise: Flower shows a batch as one task, and a worker that stops waits for it."""
_HELP_SECONDS: Final = 1.0
"""How often a batch publishes a message for one more slot, where answers take longer than the quota's pace."""
_BACK_SECONDS: Final = 1.0
"""Where slots are scarce, a batch that must wait for a permit returns when there are two. The limiter makes up for
missed permits, up to a second and a half, and a message for two parts costs as much as for one."""
_RETRY_SECONDS: Final = 0.5
_BROKER_OUTAGE_SECONDS: Final = 200.0
"""Below the soft time limit, with room for the part itself."""
_NOTHING: Final = "nothing to do: already done, claimed by another task, or the run has ended"
_DONE: Final = frozenset({"closed", "quiet", "last"})
_CHECK_SECONDS: Final = 0.1
_IN_PROCESS: Final = ("celery.concurrency.thread", "celery.concurrency.solo")


class PoolSlots:
    """The slots of this worker's pool: whether a message waits for one, and whether the worker is stopping.

    Celery keeps in memory which messages its worker has taken from the queues, and which of them are running. Only
    pools whose tasks run in the worker's process (threads) can read that. A prefork child can only read the queue.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._checked: dict[str, tuple[float, bool]] = {}

    def bind(self, pool: Any) -> None:
        """Use the worker's pool. To be called once it is ready."""
        if type(pool).__module__ in _IN_PROCESS:
            self._count = int(pool.limit)

    @property
    def count(self) -> int:
        """Threads of the pool; 0 if its tasks run in child processes."""
        return self._count

    def contended(self, stage: str, waiting: Callable[[str], bool]) -> bool:
        """Whether a message waits for a slot and none is free. ``waiting`` reads the stage's queue."""
        if not self._count:
            return self._queued(stage, waiting)
        active = len(state.active_requests)
        return active >= self._count and (len(state.reserved_requests) > active or self._queued(stage, waiting))

    @staticmethod
    def stopping() -> bool:
        """Whether this worker is shutting down. It waits for its active tasks, so their batches should end."""
        return state.should_stop is not None and state.should_stop is not False

    def _queued(self, stage: str, waiting: Callable[[str], bool]) -> bool:
        """The answer of ``waiting``, cached for `_CHECK_SECONDS`."""
        now = self._clock()
        checked_at, queued = self._checked.get(stage, (-_CHECK_SECONDS, False))
        if now - checked_at >= _CHECK_SECONDS:
            queued = waiting(stage)
            self._checked[stage] = (now, queued)
        return queued


SLOTS: Final = PoolSlots()


def do_part(task: Task[Any, Any], account: str, run: str, stage: str, number: int) -> str:
    """Run the part that a message names, and following parts in the same slot batch. Returns a text for Flower.

    Turns `RetryLater` and errors of Redis or the broker into a retry of the message. A copy of it ends at once.
    """
    try:
        with delivery(task) as died:
            return _do_part(task, account, run, stage, number, died=died)
    except BROKER_ERRORS as error:
        raise again_later(task, error, BROKER_RETRY_SECONDS) from None


def _do_part(task: Task[Any, Any], account: str, run: str, stage: str, number: int, *, died: bool) -> str:
    """As `do_part`. ``died``: an earlier delivery of the message may have ended in the middle."""
    ctx = context_of_run(account, run)
    # The token is unique to this delivery: a redelivery of the message takes the part over and fences this one off.
    part = Part(run, stage, number, f"{task.request.id}/{uuid4().hex[:8]}")
    token = current_run.set(run)
    began = time.monotonic()
    try:
        with tracing.of_trace(ctx.runs.traceparent(run)):
            effect, detail = run_part(ctx, part, again=died)
            # If its worker died during a batch, the parts that it had claimed are claimed for this message.
            held = ctx.runs.parts.claimed_by(run, stage, str(task.request.id)) if effect == "nothing" and died else []
            more = resume_parts(ctx, part, held)
            if stage in phases.DRAINED_STAGES and (more or effect in _DONE):
                more += drain_parts(ctx, part, began)
            elif stage in phases.CONTINUED_STAGES and effect in _DONE:
                more += continue_parts(ctx, part, began)
            if not task.request.chord:  # else its body moves the run on
                move_on(ctx, part, effect)
    except RetryLater as later:
        with tracing.within(ctx.runs.traceparent(run)):  # a chain of retries would nest one span in the other
            raise again_later(task, later, later.seconds) from None
    finally:
        current_run.reset(token)
    return detail + (f"; and {more} more in the same slot batch" if more else "")


# -- a slot batch --------------------------------------------------------------------------------------------------


def resume_parts(ctx: AccountContext, part: Part, numbers: list[int]) -> int:
    """Do these parts of the stage too; returns how many were done. A part that must wait gets a separate message."""
    done = 0
    for number in numbers:
        try:
            effect, _ = run_part(ctx, part._replace(number=number))
        except RetryLater as later:
            requeue_part(ctx, part, number, later.seconds)
            continue
        if effect not in _DONE:
            break  # the run has ended, or is paused
        done += 1
    return done


def drain_parts(ctx: AccountContext, part: Part, began: float) -> int:
    """Do the parts that follow; returns how many were done. Publishes a message for the next part when it stops early.

    ``began``: when the batch began, by the monotonic clock, in seconds.
    """
    done, call_at = 0, began + _HELP_SECONDS
    while True:
        contended, now = SLOTS.contended(part.stage, is_waiting), time.monotonic()
        if SLOTS.stopping() or now - began >= (_BATCH_SECONDS if contended else _LONGEST_BATCH_SECONDS):
            requeue_part(ctx, part, phases.next_to_publish(ctx, part.run, part.stage))
            return done
        if now >= call_at and not contended and ctx.market.needs_more_workers(60 / ctx.policy.per_minute):
            call_at = now + _HELP_SECONDS
            requeue_part(ctx, part, phases.next_to_publish(ctx, part.run, part.stage))
        taken: list[int] = []
        try:
            effect = run_next_part(ctx, part, taken, wait=not contended)
        except RetryLater as later:
            if taken:
                requeue_part(ctx, part, taken[0], later.seconds)
            else:
                seconds = max(later.seconds, _BACK_SECONDS if contended else 0.0)
                requeue_part(ctx, part, phases.next_to_publish(ctx, part.run, part.stage, alone=True), seconds)
            return done
        if effect not in _DONE:
            return done  # no part is left, or the run has ended or is paused
        done += 1


def continue_parts(ctx: AccountContext, part: Part, began: float) -> int:
    """Do parts that have no message, as long as permits come without a wait; returns how many were done.

    Publishes nothing when it stops: each part that is closed publishes the messages that are due after it.
    """
    done = 0
    while True:
        longest = _BATCH_SECONDS if SLOTS.contended(part.stage, is_waiting) else _LONGEST_BATCH_SECONDS
        if SLOTS.stopping() or time.monotonic() - began >= longest:
            return done
        taken: list[int] = []
        try:
            effect = run_next_part(ctx, part, taken, wait=False)
        except RetryLater as later:
            if taken:
                requeue_part(ctx, part, taken[0], later.seconds)
            return done
        if effect not in _DONE:
            return done
        done += 1


def move_on(ctx: AccountContext, part: Part, effect: Effect) -> None:
    """Move the run to its next phase after a part that is in no chord, if it was the last.

    In a drained stage, `after_part` has done so. A part that was closed already may have been the last: the worker that
    closed it may have died.
    """
    if part.stage in phases.APPLY or effect == "nothing":
        record = ctx.runs.get(part.run)
        if record is not None and record.state == "running" and phases.is_finished(ctx, record):
            advance_message(ctx, part.run).apply_async()
    elif effect == "last" and part.stage not in phases.DRAINED_STAGES:
        # A phase of one part is small: a message would cost more than what it moves.
        advance_run(ctx, part.run)


def requeue_part(ctx: AccountContext, part: Part, number: int | None, seconds: float = 0.0) -> None:
    """Publish a message for this part of the stage, to be executed after ``seconds``. ``number`` None: do nothing.

    It is in no chord, see `okasie_tasks.tasks.dispatch.send_parts`.
    """
    if number is not None:
        countdown = min(seconds, LONGEST_COUNTDOWN_SECONDS)
        message = part_message(
            ctx.policy.account, part.run, part.stage, number, of=ctx.runs.parts.stage(*part[:2]).total
        )
        with tracing.within(ctx.runs.traceparent(part.run)):
            message.apply_async(countdown=countdown or None, ignore_result=True)


def run_part(ctx: AccountContext, part: Part, *, again: bool = False) -> tuple[Effect, str]:
    """Do this part; returns its effect, and a text for Flower."""
    details = [_NOTHING]

    def do() -> Effect:
        with ctx.runs.parts.renewing_claim(*part):
            return perform(ctx._replace(publish=partial(publish_meanwhile, ctx)), part, rng=RNG, report=details.append)

    return retrying_redis(ctx, part, do, again=again), details[-1]


def publish_meanwhile(ctx: AccountContext, run: str) -> None:
    """Publish the parts that a part in progress has added. The watchdog finds those that could not be published."""
    with suppress(*BROKER_ERRORS):
        publish(ctx, run)


def run_next_part(ctx: AccountContext, part: Part, taken: list[int], *, wait: bool) -> Effect:
    """Do the next part of the stage, chosen when there is a permit for it.

    ``taken`` receives its number, so that retries after a Redis error claim the same part.
    """

    def do() -> Effect:
        with ExitStack() as stack:

            def take() -> tuple[int, Claim]:
                if taken:
                    work, number = phases.WORK_OF.get(part.stage, ""), taken[0]
                    claim = ctx.runs.parts.claim(part.run, part.stage, number, part.token, work=work)
                else:
                    number, claim = phases.claim_next(ctx, part)
                if claim.state == "claimed":
                    taken[:] = [number]
                    stack.enter_context(ctx.runs.parts.renewing_claim(*part._replace(number=number)))
                return number, claim

            return perform_next(ctx, part, take, wait=wait, rng=RNG)

    return retrying_redis(ctx, part, do)


def retrying_redis(ctx: AccountContext, part: Part, do: Callable[[], Effect], *, again: bool = False) -> Effect:
    """Do a part, and retry in this slot while Redis is away. Raises the error of Redis or the broker after 200 s.

    A task that failed during an outage could not report it: Redis would refuse its result, too. Its message would be
    neither acknowledged nor returned, and the worker would count it as active until it ends.
    """
    until = time.monotonic() + _BROKER_OUTAGE_SECONDS
    while True:
        try:
            effect = do()
            after_part(ctx, part, effect, again=again)
        except BROKER_ERRORS as error:
            if time.monotonic() > until:
                raise
            log.warning("Redis error; the part is retried", part=part.ticket, error=type(error).__name__)
            again = True
            time.sleep(_RETRY_SECONDS)
        else:
            RUN_EVENTS.publish(ctx.runs, part.run, now=effect == "stopped")
            return effect


def after_part(ctx: AccountContext, part: Part, effect: Effect, *, again: bool) -> None:
    """Publish the messages that follow a part. A drained stage has neither windows nor a chord that ends it."""
    run, drained = part.run, part.stage in phases.DRAINED_STAGES
    if effect == "last" and drained:
        advance_message(ctx, run).apply_async()
    elif effect == "closed" and not drained:
        publish(ctx, run)
    elif effect == "stopped":
        begin_waiting(ctx)
    elif effect == "nothing" and again:
        for _, stage, parts in watchdog.after_worker_death(ctx, run, waiting=is_waiting):
            send_parts(ctx, run, [(stage, parts)])
