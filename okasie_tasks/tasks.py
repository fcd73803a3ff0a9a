"""The Celery tasks and how they chain: the whole distributed story.

::

    okasie.sync  -> begins the account's run, publishes page 1
    okasie.fetch_page, load_inventory, diff_chunk, spool, upsert_chunk, mark_sold
                 -> one part each: permit, claim, do, close; then publish the next window when this one is nearly done
    okasie.advance -> the body of every window's chord: moves the run to its next phase, or ends it
    okasie.watchdog -> every 5 s, rung by a thread of each control worker and by Beat: publishes again what was lost,
                 ends what is stuck, sends other applications' requests again whose message was lost
    okasie.push, sell -> into the account's inbox, and sent at once in the urgent lane
    okasie.send_urgent -> goes on with an inbox whose sender had to wait
    okasie.resume -> goes on with all that a pause left behind

A window is one flat chord: ``chord(group(parts), advance)``. Messages carry ids; Redis holds the truth: a message
that comes twice finds its part closed, one that is lost is published again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from random import SystemRandom
from typing import Any
from uuid import uuid4

import redis
from celery import Task, chord, group, signature
from celery.signals import task_received, worker_ready
from kombu.exceptions import OperationalError

from okasie_tasks.adapters.asked import Asked
from okasie_tasks.celery import app, current_run, services
from okasie_tasks.celery_settings import CONTROL, QUEUE_OF, URGENT
from okasie_tasks.celery_story import Story, part_told
from okasie_tasks.errors import OkasieError, RetryLater
from okasie_tasks.logs import about, get_logger
from okasie_tasks.sync import alerting, conduct, push, watchdog
from okasie_tasks.sync.send import Sender
from okasie_tasks.sync.tools import Part, Tools
from okasie_tasks.sync.work import Effect, perform

log = get_logger(__name__)

_CHANCE = SystemRandom()
_STORY = Story(app)
_NOTHING = "nothing to do: done before, taken by another, or the run is over"
_TASK_OF = {
    "first": "okasie.fetch_page",
    "walk": "okasie.fetch_page",
    "load": "okasie.load_inventory",
    "diff": "okasie.diff_chunk",
    "spool": "okasie.spool",
    "upsert": "okasie.upsert_chunk",
    "sell": "okasie.mark_sold",
    "count": "okasie.count_listings",
}


_TROUBLE = (redis.RedisError, OperationalError)
"""Redis is away or refuses. A task that fails is over and its message gone: so it is tried again."""
_TROUBLE_SECONDS = 2.0
_IN_PLACE_SECONDS = 0.5
_LONGEST_TROUBLE_SECONDS = 200.0
"""Below the soft time limit, with room for the part itself."""
_STEADY: dict[str, Any] = {
    "autoretry_for": _TROUBLE,
    "default_retry_delay": _TROUBLE_SECONDS,
    "max_retries": None,
    "throws": (OkasieError,),
}
_PART: dict[str, Any] = {"bind": True, "max_retries": None, "ignore_result": False, "throws": (OkasieError,)}
"""Parts have results because a chord counts them; an error of our tree is a condition, told without a traceback."""


# -- the control tasks ---------------------------------------------------------------------------------------------


@app.task(name="okasie.sync", bind=True, **_STEADY)
def sync(
    self: Task[Any, Any], account: str, mode: str = "incremental", plan_only: bool = False, requested: bool = False
) -> str:
    """Ask for a run of ``account`` and begin it unless one is at work. ``requested``: the record was made already.

    Raises `FixConfiguration` for an unknown account or mode.
    """
    with _taken(str(self.request.id)):
        tools = services().tools(account)
        conduct.check_mode(mode)
        if not requested and not _asked().was_taken(str(self.request.id)):
            tools.runs.request(account, mode, plan_only=plan_only)
    run = tools.runs.begin(account)
    if run is not None:
        log.info("run begins", account=account, run=run)
        publish(tools, run)
        _STORY.tell(tools.runs, run, now=True)
    return run or ""


@app.task(name="okasie.advance", **_STEADY)
def advance(account: str, run: str) -> None:
    """Move a run on when its phase is finished; the body of every window's chord."""
    tools = services().tools(account)
    ended = conduct.advance(tools, run)
    if ended is None:
        publish(tools, run)
    else:
        _begin_waiting(tools)
    _STORY.tell(tools.runs, run, now=ended is not None)


# -- the watchdog --------------------------------------------------------------------------------------------------


@app.task(name="okasie.watchdog")
def watch(every_seconds: float = watchdog.LOOK_SECONDS, hurried: bool = False) -> None:
    """Look after every account's run: publish lost parts again, move stuck runs, begin runs that wait.

    Whoever comes while somebody else is at it, or was just now, has nothing to do.
    """
    found, patience = services(), watchdog.HURRIED if hurried else _patience()
    if not found.runs.watch(uuid4().hex, seconds=every_seconds * 0.9):
        return
    for account in found.settings.accounts:
        try:
            with about(account=account):
                _watch_account(found.tools(account), account, patience)
        except _TROUBLE:
            raise
        except Exception:
            # One account's trouble must not leave the others alone.
            log.exception("the watchdog could not look after an account", account=account)
    _ask_again(found.runs.now_ms(), patience)


def _watch_account(tools: Tools, account: str, patience: watchdog.Patience) -> None:
    at_work = tools.runs.active(account)
    for run, stage, parts in watchdog.look(tools, account, patience, waiting=_waiting):
        _send(tools, run, [(stage, parts)])
    if at_work and tools.runs.active(account) != at_work:
        _STORY.tell(tools.runs, at_work, now=True)
    _begin_waiting(tools)
    if tools.inbox.unattended(tools.runs.now_ms()):
        _send_waiting(account)


def _patience() -> watchdog.Patience:
    """``okasie_stalled_seconds`` and ``okasie_watchdog_seconds`` may stand in celeryconfig.py, for tests in a hurry."""
    usual = watchdog.USUAL
    stalled = float(app.conf.get("okasie_stalled_seconds", usual.stalled))
    return usual._replace(stalled=stalled, unmoved=min(usual.unmoved, stalled))


def _waiting(stage: str) -> bool:
    return int(services().redis.llen(QUEUE_OF[_TASK_OF[stage]])) > 0


def _ask_again(now_ms: int, patience: watchdog.Patience) -> None:
    """Send other applications' requests again whose message was lost, under the same id: taken up twice is once."""
    for task_id, ask in _asked().lost(now_ms, after_seconds=patience.stalled):
        queue = QUEUE_OF[ask.task]
        if not services().redis.llen(queue):
            log.warning("asked for and never taken up; it is sent again", task=ask.task, task_id=task_id)
            left = (ask.expires_ms - now_ms) / 1000
            app.send_task(ask.task, kwargs=ask.kwargs, task_id=task_id, queue=queue, expires=left)


def _asked() -> Asked:
    return Asked(services().redis, prefix=services().settings.redis.key_prefix)


@contextlib.contextmanager
def _taken(task_id: str) -> Iterator[None]:
    """Take up another application's request: within the block it is written down, or refused for good."""
    try:
        yield
    except RetryLater:
        raise
    except OkasieError:
        _asked().taken(task_id)
        raise
    _asked().taken(task_id)


@worker_ready.connect
def _ready(sender: Any, **_: object) -> None:
    """A control worker rings for the watchdog by itself, so that it needs neither Beat nor any one worker."""
    _STORY.home = str(sender.hostname)
    if CONTROL in sender.app.amqp.queues.consume_from:
        watchdog.Bell(watch, float(app.conf.get("okasie_watchdog_seconds", watchdog.LOOK_SECONDS))).start()
        if services().settings.alerts.on:
            alerting.Messenger(services().alerting()).start()


@app.task(name="okasie.resume", throws=(OkasieError,))
def resume(account: str) -> None:
    """Go on with what a pause left: parts whose messages found the account at rest, a run that waits, the inbox."""
    tools = services().tools(account)
    log.info("the account goes on", account=account)
    if run := tools.runs.active(account):
        for name, stage, parts in watchdog.open_again(tools, run):
            _send(tools, name, [(stage, parts)])
    _begin_waiting(tools)
    if tools.inbox.count():
        _send_waiting(account)


# -- the urgent lane -----------------------------------------------------------------------------------------------


@app.task(name="okasie.push", bind=True, **_STEADY)
def push_listings(
    self: Task[Any, Any],
    account: str,
    references: list[str] | None = None,
    listings: list[dict[str, Any]] | None = None,
    version: int = 0,
) -> None:
    """Send listings now: by reference (read from the source) or handed in, in write shape.

    ``version``: the caller's own version of the ``listings`` (ms since the epoch), where calls may overtake each other.
    """
    with _taken(str(self.request.id)):
        tools = services().tools(account)
        push.accept_push(tools, str(self.request.id), references=references, listings=listings, version=version)
    _send_urgent(tools, str(self.request.id))


@app.task(name="okasie.sell", bind=True, **_STEADY)
def sell(self: Task[Any, Any], account: str, references: list[str]) -> None:
    """Mark listings sold now."""
    with _taken(str(self.request.id)):
        tools = services().tools(account)
        push.accept_sell(tools, str(self.request.id), references=references)
    _send_urgent(tools, str(self.request.id))


@app.task(name="okasie.send_urgent", bind=True, **_STEADY)
def send_urgent(self: Task[Any, Any], account: str) -> None:
    """Go on sending an account's inbox."""
    try:
        _sender(services().tools(account), str(self.request.id)).run()
    except RetryLater as later:
        raise _again(self, later, min(later.seconds, 12.0)) from None


def _send_urgent(tools: Tools, token: str) -> None:
    """Send in this very slot: a message more would cost time. What must wait goes on in a message of its own."""
    try:
        _sender(tools, token).run()
    except RetryLater as later:
        _send_waiting(tools.rules.account, countdown=min(later.seconds, 12.0))


def _send_waiting(account: str, countdown: float = 0.0) -> None:
    told = f"{account}: pushes and sells that wait"
    send_urgent.apply_async(kwargs={"account": account}, countdown=countdown or None, argsrepr=told)


def _sender(tools: Tools, token: str) -> Sender:
    return Sender(tools, token, chance=_CHANCE, coming=lambda: int(services().redis.llen(URGENT)))


@task_received.connect
def _received(request: Any, **_: object) -> None:
    """Stamp a push in the order in which messages arrive: the threads that take them up may overtake each other."""
    if request.name in (push_listings.name, sell.name):
        services().pushes.receive(str(request.id))


# -- the parts -----------------------------------------------------------------------------------------------------


@app.task(name="okasie.fetch_page", **_PART)
def fetch_page(self: Task[Any, Any], account: str, run: str, page: int, of: int = 0) -> str:
    """Read one page of the marketplace's list into the run."""
    return _do(self, account, run, "first" if page == 1 else "walk", 0 if page == 1 else page - 2)


@app.task(name="okasie.load_inventory", **_PART)
def load_inventory(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Read one slice of the source into the run."""
    return _do(self, account, run, "load", part)


@app.task(name="okasie.diff_chunk", **_PART)
def diff_chunk(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Compare one partition of both sides and the ledger."""
    return _do(self, account, run, "diff", part)


@app.task(name="okasie.spool", **_PART)
def spool(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Read the bodies of planned listings and pack them into chunks."""
    return _do(self, account, run, "spool", part)


@app.task(name="okasie.upsert_chunk", **_PART)
def upsert_chunk(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Send one chunk of at most 100 listings."""
    return _do(self, account, run, "upsert", part)


@app.task(name="okasie.mark_sold", **_PART)
def mark_sold(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Mark one listing sold."""
    return _do(self, account, run, "sell", part)


@app.task(name="okasie.count_listings", **_PART)
def count_listings(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Compare what the marketplace counts with what we believe."""
    return _do(self, account, run, "count", part)


def _do(task: Task[Any, Any], account: str, run: str, stage: str, number: int) -> str:
    """Run one part: rebuild the message, call one plain function, turn `RetryLater` into a retry. Returns what
    became of it in words.
    """
    tools = services().tools(account)
    # A word of this delivery's own: the same message delivered again takes the part over, and fences this one.
    part = Part(run, stage, number, f"{task.request.id}/{uuid4().hex[:8]}")
    token = current_run.set(run)
    try:
        return _in_place(task, tools, part)
    except RetryLater as later:
        raise _again(task, later, min(later.seconds, 12.0)) from None
    except _TROUBLE as trouble:
        raise _again(task, trouble, _TROUBLE_SECONDS) from None
    finally:
        current_run.reset(token)


def _again(task: Task[Any, Any], why: Exception, seconds: float) -> Exception:
    """The same message once more, with its words for people; ``why`` is what Flower shows beside RETRY."""
    words: dict[str, Any] = {"argsrepr": getattr(task.request, "argsrepr", None)}
    return task.retry(countdown=seconds, max_retries=None, exc=why, **words)


def _in_place(task: Task[Any, Any], tools: Tools, part: Part) -> str:
    """Do the part; while Redis is away, wait here: nothing else could be done in this slot.

    A task that fails then cannot even tell so: its result is refused like everything else, its message is neither
    acknowledged nor given back, and the worker takes it for work in hand for ever.
    """
    told = [_NOTHING]
    again, until = task.request.retries > 0 or _came_again(task), time.monotonic() + _LONGEST_TROUBLE_SECONDS
    while True:
        try:
            with tools.runs.keeping(*part):
                effect = perform(tools, part, chance=_CHANCE, tell=told.append)
            _go_on(tools, part.run, effect, again=again)
        except _TROUBLE as error:
            if time.monotonic() > until:
                raise
            log.warning("Redis is in trouble; the part is tried again", part=part.ticket, error=type(error).__name__)
            again = True
            time.sleep(_IN_PLACE_SECONDS)
        else:
            _STORY.tell(tools.runs, part.run, now=effect == "stopped")
            return told[-1]


def _go_on(tools: Tools, run: str, effect: Effect, *, again: bool) -> None:
    """Publish what comes after a part."""
    if effect == "closed":
        publish(tools, run)
    elif effect == "stopped":
        _begin_waiting(tools)
    elif effect != "quiet" and again:
        for _, stage, parts in watchdog.after_a_death(tools, run, waiting=_waiting):
            _send(tools, run, [(stage, parts)])


def _came_again(task: Task[Any, Any]) -> bool:
    return bool((task.request.delivery_info or {}).get("redelivered"))


def _begin_waiting(tools: Tools) -> None:
    """Let the account's next run begin if one waits and none is at work."""
    account = tools.rules.account
    if watchdog.may_begin(tools, account):
        told = f"{account}: begin the run that waits"
        sync.apply_async(kwargs={"account": account, "requested": True}, argsrepr=told)


# -- windows -------------------------------------------------------------------------------------------------------


def publish(tools: Tools, run: str) -> None:
    """Publish the next window of a run if it is time, as one flat chord."""
    record = tools.runs.get(run)
    if record is not None and record.cancelling:
        if conduct.advance(tools, run) is not None:
            _STORY.tell(tools.runs, run, now=True)
            _begin_waiting(tools)
    elif record is not None and record.state == "running":
        _send(tools, run, conduct.windows(tools, run, record.stage))


def _send(tools: Tools, run: str, stages: list[tuple[str, Any]]) -> None:
    account = tools.rules.account
    totals = {stage: tools.runs.stage(run, stage).total for stage, _ in stages}
    header = [_message(account, run, stage, number, of=totals[stage]) for stage, parts in stages for number in parts]
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
