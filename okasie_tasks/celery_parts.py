"""How the message of a part is worked on, and which messages come after it.

A message names one part. Its slot goes on with the parts that follow, for as long as permits come at once and half a
second is not over: a page is done in milliseconds, its message costs as much again. What has to wait for anything
gets a message of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from random import SystemRandom
from typing import Any, Final
from uuid import uuid4

import redis
from celery import Task, chord, group, signature
from kombu.exceptions import OperationalError

from okasie_tasks.celery import app, current_run, services
from okasie_tasks.celery_settings import QUEUE_OF
from okasie_tasks.celery_story import Story, part_told
from okasie_tasks.errors import RetryLater
from okasie_tasks.logs import get_logger
from okasie_tasks.sync import conduct, watchdog
from okasie_tasks.sync.tools import Part, Tools
from okasie_tasks.sync.work import Effect, perform

log = get_logger(__name__)

CHANCE: Final = SystemRandom()
STORY: Final = Story(app)
TROUBLE: Final = (redis.RedisError, OperationalError)
"""Redis is away or refuses. A task that fails is over and its message gone: so it is tried again."""
TROUBLE_SECONDS: Final = 2.0
LONGEST_COUNTDOWN_SECONDS: Final = 12.0

_TURN_SECONDS: Final = 0.5
"""How long a slot goes on with what has no message. Other queues' messages wait for the slot meanwhile."""
_IN_PLACE_SECONDS: Final = 0.5
_LONGEST_TROUBLE_SECONDS: Final = 200.0
"""Below the soft time limit, with room for the part itself."""
_NOTHING: Final = "nothing to do: done before, taken by another, or the run is over"
_DONE: Final = frozenset({"closed", "quiet"})
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
    until = time.monotonic() + _TURN_SECONDS
    again = task.request.retries > 0 or _came_again(task)
    try:
        effect, told = _in_place(tools, part, again=again)
        if effect == "nothing" and again:
            # Its worker died in the middle of the turn: what it held was held for this message.
            left = tools.runs.held_for(run, stage, str(task.request.id))
            more = _carry_on(tools, part, left)
        else:
            more = _carry_on(tools, part, _following(tools, part, until)) if effect in _DONE else 0
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


def _following(tools: Tools, part: Part, until: float) -> Iterator[int]:
    """The parts of the same stage to go on with, each taken as if it were published now."""
    while time.monotonic() < until and tools.market.flowing():
        taken = conduct.one_more(tools, part.run, part.stage)
        if taken is None:
            return
        yield taken


def _carry_on(tools: Tools, part: Part, numbers: Iterable[int]) -> int:
    """Do these parts too; returns how many were done. One that must wait gets a message, and ends the turn."""
    done = 0
    for number in numbers:
        try:
            effect, _ = _in_place(tools, part._replace(number=number))
        except RetryLater as later:
            seconds = min(later.seconds, LONGEST_COUNTDOWN_SECONDS)
            send_parts(tools, part.run, [(part.stage, [number])], countdown=seconds)
            return done
        if effect not in _DONE:
            return done  # the run is over, or rests
        done += 1
    return done


def _in_place(tools: Tools, part: Part, *, again: bool = False) -> tuple[Effect, str]:
    """Do the part; while Redis is away, wait here: nothing else could be done in this slot.

    A task that fails then cannot even tell so: its result is refused like everything else, its message is neither
    acknowledged nor given back, and the worker takes it for work in hand for ever.
    """
    told = [_NOTHING]
    until = time.monotonic() + _LONGEST_TROUBLE_SECONDS
    while True:
        try:
            with tools.runs.keeping(*part):
                effect = perform(tools, part, chance=CHANCE, tell=told.append)
            _go_on(tools, part.run, effect, again=again)
        except TROUBLE as error:
            if time.monotonic() > until:
                raise
            log.warning("Redis is in trouble; the part is tried again", part=part.ticket, error=type(error).__name__)
            again = True
            time.sleep(_IN_PLACE_SECONDS)
        else:
            STORY.tell(tools.runs, part.run, now=effect == "stopped")
            return effect, told[-1]


def _go_on(tools: Tools, run: str, effect: Effect, *, again: bool) -> None:
    """Publish what comes after a part."""
    if effect == "closed":
        publish(tools, run)
    elif effect == "stopped":
        begin_waiting(tools)
    elif effect != "quiet" and again:
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


def send_parts(tools: Tools, run: str, stages: list[tuple[str, Any]], *, countdown: float = 0.0) -> None:
    """Publish these parts as one chord, whose body moves the run on. ``countdown``: seconds before they are begun."""
    account = tools.rules.account
    totals = {stage: tools.runs.stage(run, stage).total for stage, _ in stages}
    header = [_message(account, run, stage, number, of=totals[stage]) for stage, parts in stages for number in parts]
    if countdown:
        header = [message.set(countdown=countdown) for message in header]
    if header:
        body = signature(
            "okasie.advance",
            kwargs={"account": account, "run": run},
            immutable=True,
            app=app,
            argsrepr=f"{account}: move the run on",
        )
        chord(group(header), body)()


def _message(account: str, run: str, stage: str, number: int, *, of: int) -> Any:
    """The message of one part; ``of`` and ``argsrepr`` are for the eyes of whoever reads them in Flower."""
    if stage in ("first", "walk"):
        count, of = (1, of) if stage == "first" else (number + 2, of + 1)
        kwargs = {"account": account, "run": run, "page": count, "of": of}
    else:
        count, kwargs = number + 1, {"account": account, "run": run, "part": number, "of": of}
    told = part_told(account, stage, count, of)
    return signature(_TASK_OF[stage], kwargs=kwargs, immutable=True, app=app, argsrepr=told)
