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
from celery import Task, chord, group, signature
from kombu.exceptions import OperationalError

from okasie_tasks.adapters.run_records import Claim
from okasie_tasks.celery import app
from okasie_tasks.celery_settings import QUEUE_OF
from okasie_tasks.celery_slots import Slots
from okasie_tasks.celery_story import Story, part_told
from okasie_tasks.errors import RetryLater
from okasie_tasks.logs import get_logger
from okasie_tasks.services import current_run, services
from okasie_tasks.sync import conduct, watchdog
from okasie_tasks.sync.tools import Part, Tools
from okasie_tasks.sync.work import Effect, perform, perform_next

log = get_logger(__name__)

CHANCE: Final = SystemRandom()
STORY: Final = Story(app)
SLOTS: Final = Slots()
TROUBLE: Final = (redis.RedisError, OperationalError)
"""Redis is away or refuses. A task that fails is over and its message gone: so it is tried again."""
TROUBLE_SECONDS: Final = 2.0
LONGEST_COUNTDOWN_SECONDS: Final = 12.0

_TURN_SECONDS: Final = 0.5
"""How long a slot goes on with what has no message while any message waits for a slot."""
_LONGEST_TURN_SECONDS: Final = 10.0
"""How long it goes on while none does: in Flower, and when a worker is to stop, a turn is one task."""
_HELP_SECONDS: Final = 1.0
"""How often whoever goes on calls one more to help, where answers take longer than the quota."""
_BACK_SECONDS: Final = 1.0
"""Where slots are scarce, whoever has to wait for a permit comes back when there are two: the limiter makes good what
was missed, up to a second and a half, and a message for two costs as much as for one."""
_IN_PLACE_SECONDS: Final = 0.5
_LONGEST_TROUBLE_SECONDS: Final = 200.0
"""Below the soft time limit, with room for the part itself."""
_NOTHING: Final = "nothing to do: done before, taken by another, or the run is over"
_DONE: Final = frozenset({"closed", "quiet", "last"})
_TASK_OF: Final = {
    "first": "okasie.fetch_page",
    "walk": "okasie.fetch_page",
    "load": "okasie.load_inventory",
    "diff": "okasie.diff_chunk",
    "spool": "okasie.spool",
    "upsert": "okasie.upsert_chunk",
    "sell": "okasie.mark_sold",
    "count": "okasie.count_listings",
}


def do_part(task: Task[Any, Any], account: str, run: str, stage: str, number: int) -> str:
    """Run the part that a message names, and others in the same turn. Returns what became of it in words.

    Rebuilds the message, calls one plain function, turns `RetryLater` into a retry.
    """
    tools = services().tools(account)
    # A word of this delivery's own: the same message delivered again takes the part over, and fences this one.
    part = Part(run, stage, number, f"{task.request.id}/{uuid4().hex[:8]}")
    token = current_run.set(run)
    began = time.monotonic()
    again = task.request.retries > 0 or _came_again(task)
    try:
        effect, told = _this(tools, part, again=again)
        # If its worker died in the middle of the turn, what it held was held for this message.
        held = tools.runs.held_for(run, stage, str(task.request.id)) if effect == "nothing" and again else []
        more = _resume(tools, part, held)
        if stage in conduct.CARRIED and (more or effect in _DONE):
            more += _carry_on(tools, part, began)
    except RetryLater as later:
        raise again_later(task, later, later.seconds) from None
    except TROUBLE as trouble:
        raise again_later(task, trouble, TROUBLE_SECONDS) from None
    finally:
        current_run.reset(token)
    return told + (f"; and {more} more in the same turn" if more else "")


def again_later(task: Task[Any, Any], why: Exception, seconds: float) -> Exception:
    """The same message once more after so long, `LONGEST_COUNTDOWN_SECONDS` at most, with its words for people.

    ``why`` is what Flower shows beside RETRY.
    """
    words: dict[str, Any] = {"argsrepr": getattr(task.request, "argsrepr", None)}
    return task.retry(countdown=min(seconds, LONGEST_COUNTDOWN_SECONDS), max_retries=None, exc=why, **words)


def is_waiting(stage: str) -> bool:
    """Whether messages of a stage's kind are still to be taken up, of whichever account."""
    return int(services().redis.llen(QUEUE_OF[_TASK_OF[stage]])) > 0


def begin_waiting(tools: Tools) -> None:
    """Let the account's next run begin if one waits and none is at work."""
    account = tools.rules.account
    if watchdog.may_begin(tools, account):
        told = f"{account}: begin the run that waits"
        kwargs = {"account": account, "requested": True}
        signature("okasie.sync", kwargs=kwargs, app=app).apply_async(argsrepr=told)


# -- a turn --------------------------------------------------------------------------------------------------------


def _resume(tools: Tools, part: Part, numbers: list[int]) -> int:
    """Do these parts of the stage too; returns how many were done. One that must wait gets a message of its own."""
    done = 0
    for number in numbers:
        try:
            effect, _ = _this(tools, part._replace(number=number))
        except RetryLater as later:
            _leave(tools, part, number, later.seconds)
            continue
        if effect not in _DONE:
            break  # the run is over, or rests
        done += 1
    return done


def _carry_on(tools: Tools, part: Part, began: float) -> int:
    """Go on with the parts that follow; returns how many were done. The last one to go leaves a message for the next.

    ``began``: the turn, by the monotonic clock.
    """
    done, call_at = 0, began + _HELP_SECONDS
    while True:
        wanted, now = SLOTS.wanted(part.stage, is_waiting), time.monotonic()
        if SLOTS.stopping() or now - began >= (_TURN_SECONDS if wanted else _LONGEST_TURN_SECONDS):
            _leave(tools, part, conduct.one_more(tools, part.run, part.stage))
            return done
        if now >= call_at and not wanted and tools.market.short_handed(60 / tools.rules.per_minute):
            call_at = now + _HELP_SECONDS
            _leave(tools, part, conduct.one_more(tools, part.run, part.stage))
        taken: list[int] = []
        try:
            effect = _next(tools, part, taken, wait=not wanted)
        except RetryLater as later:
            if taken:
                _leave(tools, part, taken[0], later.seconds)
            else:
                seconds = max(later.seconds, _BACK_SECONDS if wanted else 0.0)
                _leave(tools, part, conduct.one_more(tools, part.run, part.stage, alone=True), seconds)
            return done
        if effect not in _DONE:
            return done  # nothing is left to take, or the run is over, or rests
        done += 1


def _leave(tools: Tools, part: Part, number: int | None, seconds: float = 0.0) -> None:
    """A message for this part of the stage, to be begun after so long.

    It is in no chord: who closes the last part of a stage that is carried on moves the run on. A chord of one would
    cost two messages, a result and a count, for each turn.
    """
    if number is not None:
        countdown = min(seconds, LONGEST_COUNTDOWN_SECONDS)
        message = _message(tools.rules.account, part.run, part.stage, number, of=tools.runs.stage(*part[:2]).total)
        message.apply_async(countdown=countdown or None, ignore_result=True)


def _this(tools: Tools, part: Part, *, again: bool = False) -> tuple[Effect, str]:
    """Do this part; what became of it, and in words."""
    told = [_NOTHING]

    def do() -> Effect:
        with tools.runs.keeping(*part):
            return perform(tools, part, chance=CHANCE, tell=told.append)

    return _in_place(tools, part, do, again=again), told[-1]


def _next(tools: Tools, part: Part, taken: list[int], *, wait: bool) -> Effect:
    """Do the next part of the stage, whichever that is by the time there is a permit for it.

    ``taken`` gets its number: it is taken once, however often Redis goes away meanwhile.
    """

    def do() -> Effect:
        with ExitStack() as kept:

            def take() -> tuple[int, Claim]:
                if taken:
                    number, claim = taken[0], tools.runs.claim(part.run, part.stage, taken[0], part.token)
                else:
                    number, claim = conduct.take(tools, part)
                if claim.state == "claimed":
                    taken[:] = [number]
                    kept.enter_context(tools.runs.keeping(*part._replace(number=number)))
                return number, claim

            return perform_next(tools, part, take, wait=wait, chance=CHANCE)

    return _in_place(tools, part, do)


def _in_place(tools: Tools, part: Part, do: Callable[[], Effect], *, again: bool = False) -> Effect:
    """Do a part; while Redis is away, wait here: nothing else could be done in this slot.

    A task that fails then cannot even tell so: its result is refused like everything else, its message is neither
    acknowledged nor given back, and the worker takes it for work in hand for ever.
    """
    until = time.monotonic() + _LONGEST_TROUBLE_SECONDS
    while True:
        try:
            effect = do()
            _go_on(tools, part, effect, again=again)
        except TROUBLE as error:
            if time.monotonic() > until:
                raise
            log.warning("Redis is in trouble; the part is tried again", part=part.ticket, error=type(error).__name__)
            again = True
            time.sleep(_IN_PLACE_SECONDS)
        else:
            STORY.tell(tools.runs, part.run, now=effect == "stopped")
            return effect


def _go_on(tools: Tools, part: Part, effect: Effect, *, again: bool) -> None:
    """Publish what comes after a part. A stage that is carried on needs no windows, and has no chord for its end."""
    run, carried = part.run, part.stage in conduct.CARRIED
    if effect == "last" and carried:
        _advance(tools, run).apply_async()
    elif effect in ("closed", "last") and not carried:
        publish(tools, run)
    elif effect == "stopped":
        begin_waiting(tools)
    elif effect == "nothing" and again:
        for _, stage, parts in watchdog.after_a_death(tools, run, waiting=is_waiting):
            send_parts(tools, run, [(stage, parts)])


def _came_again(task: Task[Any, Any]) -> bool:
    return bool((task.request.delivery_info or {}).get("redelivered"))


# -- windows -------------------------------------------------------------------------------------------------------


def publish(tools: Tools, run: str) -> None:
    """Publish the next window of a run if it is time, as one flat chord."""
    record = tools.runs.get(run)
    if record is not None and record.cancelling:
        if conduct.advance(tools, run) is not None:
            STORY.tell(tools.runs, run, now=True)
            begin_waiting(tools)
    elif record is not None and record.state == "running":
        send_parts(tools, run, conduct.windows(tools, run, record.stage))


def send_parts(tools: Tools, run: str, stages: list[tuple[str, Any]]) -> None:
    """Publish these parts as one chord, whose body moves the run on."""
    totals = {stage: tools.runs.stage(run, stage).total for stage, _ in stages}
    header = [
        _message(tools.rules.account, run, stage, number, of=totals[stage])
        for stage, parts in stages
        for number in parts
    ]
    if header:
        chord(group(header), _advance(tools, run))()


def _advance(tools: Tools, run: str) -> Any:
    account = tools.rules.account
    kwargs = {"account": account, "run": run}
    told = f"{account}: move the run on"
    return signature("okasie.advance", kwargs=kwargs, immutable=True, app=app, argsrepr=told)


def _message(account: str, run: str, stage: str, number: int, *, of: int) -> Any:
    """The message of one part; ``of`` and ``argsrepr`` are for the eyes of whoever reads them in Flower."""
    if stage in ("first", "walk"):
        count, of = (1, of) if stage == "first" else (number + 2, of + 1)
        kwargs = {"account": account, "run": run, "page": count, "of": of}
    else:
        count, kwargs = number + 1, {"account": account, "run": run, "part": number, "of": of}
    told = part_told(account, stage, count, of)
    return signature(_TASK_OF[stage], kwargs=kwargs, immutable=True, app=app, argsrepr=told)
