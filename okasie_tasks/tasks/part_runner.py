"""How the message of a part is worked on, and which messages come after it.

A message names one part. Where the stage allows it, its slot goes on with the parts that follow: a page is done in
milliseconds, and its message costs as much again. For each of them it waits half a second for a permit; who must wait
longer leaves the rest to the others, of whom there are as many as the quota needs: at a time, one that waits and those
whose requests are under way. While a message waits for a slot and none is free, a turn waits for nothing and ends
within half a second, and a message goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from random import SystemRandom
from typing import Any, Final
from uuid import uuid4

import redis
from celery import Task
from celery.worker import state
from kombu.exceptions import OperationalError

from okasie_tasks.errors import RetryLater
from okasie_tasks.logs import get_logger
from okasie_tasks.services import current_run, services
from okasie_tasks.store.records import Claim
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.executor import Effect, perform, perform_next
from okasie_tasks.tasks.dispatch import (
    LONGEST_COUNTDOWN_SECONDS,
    RUN_EVENTS,
    advance_message,
    again_later,
    begin_waiting,
    is_waiting,
    part_message,
    publish,
    send_parts,
)

log = get_logger(__name__)

RNG: Final = SystemRandom()
BROKER_ERRORS: Final = (redis.RedisError, OperationalError)
"""Redis is away or refuses. A task that fails is over and its message gone: so it is tried again."""
BROKER_RETRY_SECONDS: Final = 2.0

_BATCH_SECONDS: Final = 0.5
"""How long a slot goes on with what has no message while any message waits for a slot."""
_LONGEST_BATCH_SECONDS: Final = 10.0
"""How long it goes on while none does: in Flower, and when a worker is to stop, a turn is one task."""
_HELP_SECONDS: Final = 1.0
"""How often whoever goes on calls one more to help, where answers take longer than the quota."""
_BACK_SECONDS: Final = 1.0
"""Where slots are scarce, whoever has to wait for a permit comes back when there are two: the limiter makes good what
was missed, up to a second and a half, and a message for two costs as much as for one."""
_IN_PLACE_SECONDS: Final = 0.5
_BROKER_OUTAGE_SECONDS: Final = 200.0
"""Below the soft time limit, with room for the part itself."""
_NOTHING: Final = "nothing to do: done before, taken by another, or the run is over"
_DONE: Final = frozenset({"closed", "quiet", "last"})
_LOOK_SECONDS: Final = 0.1
_IN_PROCESS: Final = ("celery.concurrency.thread", "celery.concurrency.solo")


class PoolSlots:
    """The slots of this worker's pool: whether a waiting message wants one, and whether the worker is to stop.

    Celery keeps in memory what its worker has taken from the queues and what of that is running. That covers slots
    whose tasks run in the worker's own process (threads); a child of a prefork pool can look at the queue only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._looked: dict[str, tuple[float, bool]] = {}

    def bind(self, pool: Any) -> None:
        """Tell the pool of the worker, once it is ready."""
        if type(pool).__module__ in _IN_PROCESS:
            self._count = int(pool.limit)

    def contended(self, stage: str, waiting: Callable[[str], bool]) -> bool:
        """Whether a message waits for a slot and none is free. ``waiting`` looks at the stage's queue, now and then."""
        if not self._count:
            return self._look(stage, waiting)
        active = len(state.active_requests)
        return active >= self._count and (len(state.reserved_requests) > active or self._look(stage, waiting))

    @staticmethod
    def stopping() -> bool:
        """Whether this worker was told to stop: it waits for the tasks at work, so they should not go on."""
        return state.should_stop is not None and state.should_stop is not False

    def _look(self, stage: str, waiting: Callable[[str], bool]) -> bool:
        now = self._clock()
        looked_at, found = self._looked.get(stage, (-_LOOK_SECONDS, False))
        if now - looked_at >= _LOOK_SECONDS:
            found = waiting(stage)
            self._looked[stage] = (now, found)
        return found


SLOTS: Final = PoolSlots()


def do_part(task: Task[Any, Any], account: str, run: str, stage: str, number: int) -> str:
    """Run the part that a message names, and others in the same turn. Returns what became of it in words.

    Rebuilds the message, calls one plain function, turns `RetryLater` into a retry.
    """
    ctx = services().context(account)
    # A word of this delivery's own: the same message delivered again takes the part over, and fences this one.
    part = Part(run, stage, number, f"{task.request.id}/{uuid4().hex[:8]}")
    token = current_run.set(run)
    began = time.monotonic()
    again = task.request.retries > 0 or _came_again(task)
    try:
        effect, told = run_part(ctx, part, again=again)
        # If its worker died in the middle of the turn, what it held was held for this message.
        held = ctx.runs.parts.claimed_by(run, stage, str(task.request.id)) if effect == "nothing" and again else []
        more = resume_parts(ctx, part, held)
        if stage in phases.DRAINED_STAGES and (more or effect in _DONE):
            more += drain_parts(ctx, part, began)
    except RetryLater as later:
        raise again_later(task, later, later.seconds) from None
    except BROKER_ERRORS as trouble:
        raise again_later(task, trouble, BROKER_RETRY_SECONDS) from None
    finally:
        current_run.reset(token)
    return told + (f"; and {more} more in the same turn" if more else "")


# -- a turn --------------------------------------------------------------------------------------------------------


def resume_parts(ctx: AccountContext, part: Part, numbers: list[int]) -> int:
    """Do these parts of the stage too; returns how many were done. One that must wait gets a message of its own."""
    done = 0
    for number in numbers:
        try:
            effect, _ = run_part(ctx, part._replace(number=number))
        except RetryLater as later:
            requeue_part(ctx, part, number, later.seconds)
            continue
        if effect not in _DONE:
            break  # the run is over, or rests
        done += 1
    return done


def drain_parts(ctx: AccountContext, part: Part, began: float) -> int:
    """Go on with the parts that follow; returns how many were done. The last one to go leaves a message for the next.

    ``began``: the turn, by the monotonic clock.
    """
    done, call_at = 0, began + _HELP_SECONDS
    while True:
        wanted, now = SLOTS.contended(part.stage, is_waiting), time.monotonic()
        if SLOTS.stopping() or now - began >= (_BATCH_SECONDS if wanted else _LONGEST_BATCH_SECONDS):
            requeue_part(ctx, part, phases.one_more(ctx, part.run, part.stage))
            return done
        if now >= call_at and not wanted and ctx.market.needs_more_workers(60 / ctx.policy.per_minute):
            call_at = now + _HELP_SECONDS
            requeue_part(ctx, part, phases.one_more(ctx, part.run, part.stage))
        taken: list[int] = []
        try:
            effect = run_next_part(ctx, part, taken, wait=not wanted)
        except RetryLater as later:
            if taken:
                requeue_part(ctx, part, taken[0], later.seconds)
            else:
                seconds = max(later.seconds, _BACK_SECONDS if wanted else 0.0)
                requeue_part(ctx, part, phases.one_more(ctx, part.run, part.stage, alone=True), seconds)
            return done
        if effect not in _DONE:
            return done  # nothing is left to take, or the run is over, or rests
        done += 1


def requeue_part(ctx: AccountContext, part: Part, number: int | None, seconds: float = 0.0) -> None:
    """A message for this part of the stage, to be begun after so long.

    It is in no chord: who closes the last part of a stage that is carried on moves the run on. A chord of one would
    cost two messages, a result and a count, for each turn.
    """
    if number is not None:
        countdown = min(seconds, LONGEST_COUNTDOWN_SECONDS)
        message = part_message(
            ctx.policy.account, part.run, part.stage, number, of=ctx.runs.parts.stage(*part[:2]).total
        )
        message.apply_async(countdown=countdown or None, ignore_result=True)


def run_part(ctx: AccountContext, part: Part, *, again: bool = False) -> tuple[Effect, str]:
    """Do this part; what became of it, and in words."""
    told = [_NOTHING]

    def do() -> Effect:
        with ctx.runs.parts.renewing_claim(*part):
            return perform(ctx, part, rng=RNG, tell=told.append)

    return retrying_redis(ctx, part, do, again=again), told[-1]


def run_next_part(ctx: AccountContext, part: Part, taken: list[int], *, wait: bool) -> Effect:
    """Do the next part of the stage, whichever that is by the time there is a permit for it.

    ``taken`` gets its number: it is taken once, however often Redis goes away meanwhile.
    """

    def do() -> Effect:
        with ExitStack() as kept:

            def take() -> tuple[int, Claim]:
                if taken:
                    number, claim = taken[0], ctx.runs.parts.claim(part.run, part.stage, taken[0], part.token)
                else:
                    number, claim = phases.claim_next(ctx, part)
                if claim.state == "claimed":
                    taken[:] = [number]
                    kept.enter_context(ctx.runs.parts.renewing_claim(*part._replace(number=number)))
                return number, claim

            return perform_next(ctx, part, take, wait=wait, rng=RNG)

    return retrying_redis(ctx, part, do)


def retrying_redis(ctx: AccountContext, part: Part, do: Callable[[], Effect], *, again: bool = False) -> Effect:
    """Do a part; while Redis is away, wait here: nothing else could be done in this slot.

    A task that fails then cannot even tell so: its result is refused like everything else, its message is neither
    acknowledged nor given back, and the worker takes it for work in hand for ever.
    """
    until = time.monotonic() + _BROKER_OUTAGE_SECONDS
    while True:
        try:
            effect = do()
            after_part(ctx, part, effect, again=again)
        except BROKER_ERRORS as error:
            if time.monotonic() > until:
                raise
            log.warning("Redis is in trouble; the part is tried again", part=part.ticket, error=type(error).__name__)
            again = True
            time.sleep(_IN_PLACE_SECONDS)
        else:
            RUN_EVENTS.publish(ctx.runs, part.run, now=effect == "stopped")
            return effect


def after_part(ctx: AccountContext, part: Part, effect: Effect, *, again: bool) -> None:
    """Publish what comes after a part. A stage that is carried on needs no windows, and has no chord for its end."""
    run, carried = part.run, part.stage in phases.DRAINED_STAGES
    if effect == "last" and carried:
        advance_message(ctx, run).apply_async()
    elif effect in ("closed", "last") and not carried:
        publish(ctx, run)
    elif effect == "stopped":
        begin_waiting(ctx)
    elif effect == "nothing" and again:
        for _, stage, parts in watchdog.after_a_death(ctx, run, waiting=is_waiting):
            send_parts(ctx, run, [(stage, parts)])


def _came_again(task: Task[Any, Any]) -> bool:
    return bool((task.request.delivery_info or {}).get("redelivered"))
