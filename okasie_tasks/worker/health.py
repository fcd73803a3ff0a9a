"""Writes the worker's heartbeat file, from what its event loop, its consumer and its pool really did.

A worker may be connected, answer ``inspect ping`` and yet consume nothing: kombu's event loop can lose the socket of a
blocking pop, after a reconnect for example. So the loop looks at the pop itself, and probes the pool with a job. A
thread writes the file, because the loop does not run while the worker connects or stops.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from celery import bootsteps
from celery.signals import task_postrun, task_prerun
from celery.worker import state

from okasie_tasks import __version__
from okasie_tasks.health import files, systemd
from okasie_tasks.health.files import Heartbeat, State
from okasie_tasks.health.operations import OPERATIONS, TASK_SECONDS, Slot
from okasie_tasks.health.verdict import problems
from okasie_tasks.logs import get_logger
from okasie_tasks.settings import configuration_hash, process_settings
from okasie_tasks.worker.bootsteps import FirstStart

log = get_logger(__name__)

BEAT_SECONDS: Final = 2.0
_SAMPLE_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 10.0
_LATE_SECONDS: Final = 5.0
"""After this long a blocking pop of 1 s should have been answered."""


class Health(bootsteps.StartStopStep):
    """Samples the consumer every second in its event loop, and starts the thread that writes the heartbeat file.

    The thread runs before the step starts: the callbacks of `FirstStart` may wait for minutes.
    """

    requires = (FirstStart,)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None
        self.reporter = Reporter(consumer)
        _reporters[:] = [self.reporter]
        self.reporter.start()

    def start(self, consumer: Any) -> None:
        self.reporter.connected()
        self._timer = consumer.timer.call_repeatedly(_SAMPLE_SECONDS, self.reporter.sample)

    def stop(self, consumer: Any) -> None:
        self.reporter.disconnected()
        if self._timer is not None:
            consumer.timer.cancel(self._timer)
            self._timer = None


class Reporter:
    """Collects the worker's signs of life and writes them. ``clock`` counts seconds."""

    def __init__(self, consumer: Any, clock: Callable[[], float] = time.monotonic) -> None:
        settings = process_settings()
        self._consumer, self._clock = consumer, clock
        self._place = files.folder(settings.redis.state_dir)
        self._pid = os.getpid()
        self._identity: dict[str, Any] = {
            "worker": str(consumer.hostname),
            "host": socket.gethostname(),
            "pid": self._pid,
            "started": files.process_started(self._pid),
            "queues": tuple(sorted(consumer.app.amqp.queues.consume_from)),
            "version": __version__,
            "configuration": configuration_hash(settings),
            "concurrency": int(consumer.pool.limit or 1),
        }
        conf = consumer.app.conf
        self._limit_seconds = float(conf.task_soft_time_limit or conf.task_time_limit or TASK_SECONDS)
        self._in_children = hasattr(getattr(consumer.pool, "_pool", None), "maintain_pool")
        self._state: State = "connecting"
        self._main = threading.get_ident()
        self._looped_at = clock()
        self._waited_at = 0.0
        """The loop's last run after which it was found in a call to Redis."""
        self._unpolled = self._unprobed = 0
        self._probing, self._answered_at = False, 0.0
        self._attempts: object = None
        self._active_since: dict[str, float] = {}
        self._waits_for = ""
        self._ready = self._ended = False
        self._writing = threading.Lock()
        self.problem = ""
        """What is wrong with the worker; "" if nothing."""

    def start(self) -> None:
        files.replace_dead(self._place, self._identity["worker"], self._identity["queues"])
        atexit.register(self.end)
        threading.Thread(target=self._keep, name="health", daemon=True).start()

    def end(self) -> None:
        """Remove the file: the process ends in order. A forked child inherits this and does nothing."""
        if os.getpid() == self._pid:
            with self._writing:
                self._ended = True
                files.remove(self._place, self.heartbeat())

    # -- in the event loop -----------------------------------------------------------------------------------------

    def migrates(self, waits_for: str) -> None:
        self._looped_at, self._state, self._waits_for = self._clock(), "migrating", waits_for

    def connected(self) -> None:
        self._looped_at, self._state, self._waits_for = self._clock(), "consuming", ""
        self._unpolled = self._unprobed = 0

    def disconnected(self) -> None:
        self._looped_at, self._state = self._clock(), "connecting"

    def sample(self) -> None:
        """Record that the loop runs, whether the consumer polls its queues, and probe the pool."""
        now = self._looped_at = self._clock()
        self._unpolled = 0 if polls(self._consumer) else self._unpolled + 1
        free = len(state.active_requests) < self._identity["concurrency"]
        self._unprobed = self._unprobed + 1 if self._probing and free else 0
        if not self._probing and now - self._answered_at >= _PROBE_SECONDS:
            self._probing = True
            self._probe()

    def _probe(self) -> None:
        """Hand a job to the pool, through the semaphore of a prefork pool as a task: it takes a slot."""
        pool, acquire = self._consumer.pool, getattr(self._consumer.controller, "_quick_acquire", None)
        given = {"callback": self._answered, "error_callback": self._answered}
        if self._in_children and acquire is not None:
            acquire(lambda: pool.apply_async(_take_slot, (), {}, **given))
        else:
            pool.apply_async(_take_slot, (), {}, **given)

    def _answered(self, _result: object) -> None:
        self._answered_at, self._probing = self._clock(), False

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        failed = ""
        while True:
            try:
                self._beat()
                failed = ""
            except Exception as error:
                # No error may end the thread: without its file the worker counts as dead.
                if failed != type(error).__name__:
                    log.warning("heartbeat file cannot be written", path=str(self._place), reason=str(error))
                failed = type(error).__name__
            time.sleep(BEAT_SECONDS)

    def _beat(self) -> None:
        self._note_attempts()
        heartbeat = self.heartbeat()
        before, self.problem = self.problem, "; ".join(problems(heartbeat, heartbeat.written_at))
        if self.problem and not before:
            log.error("worker is unhealthy", problem=self.problem)
        elif before and not self.problem:
            log.info("worker is healthy again")
        self._notify(heartbeat)
        with self._writing:
            if not self._ended:
                files.write(self._place, heartbeat)

    def _note_attempts(self) -> None:
        """While the consumer has no connection, each attempt is its sign of life."""
        consumer = self._consumer
        attempts = consumer.restart_count, consumer.broker_connection_retry_attempt, consumer.connection is None
        if self._state == "connecting" and attempts != self._attempts:
            self._looped_at = self._clock()
        self._attempts = attempts

    def heartbeat(self) -> Heartbeat:
        flags: tuple[object, ...] = (state.should_stop, state.should_terminate)
        ending = any(flag is not None and flag is not False for flag in flags)
        return Heartbeat(
            **self._identity,
            state="stopping" if ending else self._connected_state(),
            written_at=self._clock(),
            looped_at=self._looped_at,
            unpolled=self._unpolled,
            unprobed=self._unprobed,
            slots=self._slots_of_children() if self._in_children else OPERATIONS.slots(),
            waits_for=self._waits_for,
        )

    def _connected_state(self) -> State:
        """``waiting`` instead of ``consuming`` if the loop has been found in a call to Redis since it last ran."""
        if self._state != "consuming" or self._clock() - self._looped_at < _LATE_SECONDS:
            return self._state
        if self._waited_at != self._looped_at and _in_redis(self._main):
            self._waited_at = self._looped_at
        return "waiting" if self._waited_at == self._looped_at else self._state

    def _slots_of_children(self) -> tuple[Slot, ...]:
        """The tasks in child processes, each with its soft time limit: what they are doing is not known here."""
        try:
            active = {str(request.id): str(request.name) for request in list(state.active_requests)}
        except RuntimeError:  # a thread added one at this moment
            active = {}
        now = self._clock()
        self._active_since = {task_id: self._active_since.get(task_id, now) for task_id in active}
        since = self._active_since
        return tuple(Slot(name, "", since[i], since[i] + self._limit_seconds) for i, name in active.items())

    def _notify(self, heartbeat: Heartbeat) -> None:
        """Report to systemd, if it started the worker: ready with the first poll, then alive for as long as healthy."""
        doing = f"{heartbeat.state}, waits for {heartbeat.waits_for}" if heartbeat.waits_for else heartbeat.state
        lines = [f"STATUS={self.problem or doing}"]
        if not self._ready and heartbeat.state in ("connecting", "migrating"):
            lines.append("EXTEND_TIMEOUT_USEC=60000000")  # Redis may start last, and older workers may end late
        elif not self._ready:
            self._ready = True
            lines.append("READY=1")
        if heartbeat.state == "stopping":
            lines.append("STOPPING=1")
        if not self.problem:
            lines.append("WATCHDOG=1")
        systemd.notify(*lines)


_reporters: list[Reporter] = []


def current_problem() -> str:
    """Return what is wrong with this process's worker; "" if nothing, or if it runs no worker."""
    return _reporters[0].problem if _reporters else ""


def migrates(waits_for: str) -> None:
    """Note that this process's worker still waits for the migration of the state, and for whom: a sign of life."""
    for reporter in _reporters:
        reporter.migrates(waits_for)


def polls(consumer: Any) -> bool:
    """Whether the consumer asks the broker for messages, or has no room for more while it works on others.

    A pop that the server has not answered counts: kombu ends a dead connection itself. An answer that is not read does
    not, nor does a consumer without queues, or without room although it holds no message.
    """
    channel = consumer.task_consumer.channel if consumer.task_consumer is not None else None
    if channel is None or not hasattr(channel, "_brpop_start"):
        return channel is not None  # another transport
    if not channel.qos.can_consume():
        return bool(state.requests)
    asked = getattr(channel, "_in_poll", None)
    if not asked or not channel.active_queues:
        return False
    waited = time.monotonic() - (getattr(channel, "_brpop_sent_at", None) or 0.0)
    return waited < _LATE_SECONDS or not _has_answer(getattr(asked, "_sock", None))


def _has_answer(sock: Any) -> bool:
    """Whether a socket has something to read that was not read yet."""
    if sock is None:
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def _in_redis(thread: int) -> bool:
    """Whether a thread is in a call to Redis, which has a time-out, while a lock or another hang may have none."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("redis."):
            return True
        frame = frame.f_back
    return False


def _take_slot() -> None:
    """Run in a slot of the pool, to show that there is one that works."""


@task_prerun.connect
def _begin(task: Any = None, **_: object) -> None:
    OPERATIONS.begin_task(str(task.name))


@task_postrun.connect
def _end(**_: object) -> None:
    OPERATIONS.end_task()
