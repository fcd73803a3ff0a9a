"""Steps added to Celery's consumer: lease renewal, dead-child check, connection parameters kept over a reconnect."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from celery import bootsteps
from celery.worker import state
from celery.worker.consumer.tasks import Tasks

from okasie_tasks.logs import get_logger

log = get_logger(__name__)

RENEWALS: Final = 4
"""Within one visibility timeout: three may fail before the message goes to somebody else."""
_AFTER_FAILURE_SECONDS: Final = 1.0
"""When Redis is back the scores are old: be quicker than the first sweep, if possible."""
BEYOND_LIMIT_SECONDS: Final = 60.0
"""A message is held for the tasks' hard time limit and so much longer. A child can hang before its limit counts, and
threads have no limit: what they hold must end up with somebody else."""
_WITHOUT_LIMIT_SECONDS: Final = 3600.0


class Leases:
    """What is held, and since when. ``clock`` counts seconds; only differences are used."""

    def __init__(self, longest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_seconds, self._clock = longest_seconds, clock
        self._since: dict[str, float] = {}

    def due(self, held: Iterable[str]) -> list[str]:
        """Those of the messages ``held`` now that are not held for too long; what is no longer held is forgotten."""
        now = self._clock()
        self._since = {tag: self._since.get(tag, now) for tag in held}
        return [tag for tag, since in self._since.items() if now - since < self._longest_seconds]


class LeaseKeeper(bootsteps.StartStopStep):
    """Renews the leases of the messages that a worker holds, for as long as the worker lives.

    Redis has no connection-bound delivery. kombu writes each delivered message into ``unacked_index`` with the time,
    and any worker returns to its queue what has been there for longer than ``visibility_timeout``. Without renewal,
    that timeout must be longer than the longest task, or tasks run twice; and a dead worker's messages lie idle for
    as long. With this step it is seconds: a thread renews the time of all held messages four times within it.

    One thread per worker. It outlives `stop`, because a warm shutdown stops the consumer first and waits for its
    tasks then, in the main thread; and it goes on over reconnects, when `start` comes again. Redis is reached through
    a connection of its own, so that nothing of a broken consumer's is in the way. It is a thread and no timer of the
    event loop's: that one stands still while a threads pool ends, and during a soft shutdown.
    """

    requires = (Tasks,)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._consumer = consumer
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._channel: Any = None

    def start(self, consumer: Any) -> None:
        """After a reconnect there is a new consumer channel to look at, and the same thread."""
        self._consumer = consumer
        if consumer.connection.transport.driver_type != "redis":
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
            self._thread.start()

    def stop(self, consumer: Any) -> None:
        """Nothing: see the class."""

    def _keep(self) -> None:
        conf = self._consumer.app.conf
        visible_seconds = float(conf.broker_transport_options.get("visibility_timeout", 3600))
        limit = conf.task_time_limit
        leases = Leases(limit + BEYOND_LIMIT_SECONDS if limit else _WITHOUT_LIMIT_SECONDS)
        wait = visible_seconds / RENEWALS
        while True:
            time.sleep(wait)
            try:
                self._renew(leases.due(held(self._consumer)))
                wait = visible_seconds / RENEWALS
            except Exception as error:
                # Whatever it is: without its leases a worker runs tasks twice.
                log.warning("leases could not be renewed, trying again", error=type(error).__name__, reason=str(error))
                self._disconnect()
                wait = min(_AFTER_FAILURE_SECONDS, visible_seconds / RENEWALS)

    def _renew(self, tags: list[str]) -> None:
        if not tags:
            return
        if self._channel is None:
            self._connection = self._consumer.app.connection_for_write()
            self._channel = self._connection.channel()
        # kombu's own clock, which its sweep reads; XX: a message that was acknowledged meanwhile must not come back.
        now = time.time()
        self._channel.client.zadd(self._channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=1)


def held(consumer: Any) -> set[str]:
    """The delivery tags of what was delivered here and is not done.

    The consumer's channel knows those that are no request yet; after a reconnect only the requests tell of what still
    runs from before.
    """
    tags = {str(request.message.delivery_tag) for request in list(state.requests.values())}
    tasks = consumer.task_consumer
    if tasks is not None and tasks.channel is not None:
        tags.update(list(tasks.channel.qos._delivered))
    return tags


class KeepAddress(bootsteps.StartStopStep):
    """Lets a worker outlive the loss of its connection while tasks run.

    Celery 5.7 takes a broken connection apart in two steps. The first makes its channel forget the server's address.
    The second returns the channel's messages and needs that address: ``AttributeError``, which is no connection error,
    so the worker ends with "Unrecoverable error". The same error comes when a task that ran through the loss is
    acknowledged. With the address kept, the first becomes a connection error, which Celery expects, and the second
    works: Redis knows messages by tag, not by connection. After a reconnect the channel is a new one.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        channel = consumer.task_consumer.channel
        if hasattr(channel, "_connparams"):
            keep_address(channel)


def keep_address(channel: Any) -> None:
    """Let the channel find its server after its connection was taken from it."""
    ask, kept = channel._connparams, channel._connparams()

    def connparams(asynchronous: bool = False) -> dict[str, Any]:
        if channel.connection is None or channel.connection.client is None:
            return dict(kept)
        found: dict[str, Any] = ask(asynchronous=asynchronous)
        return found

    channel._connparams = connparams


LOOK_SECONDS: Final = 0.25


class ChildWatch(bootsteps.StartStopStep):
    """Notices a pool's dead children within a quarter of a second. For prefork; other pools have no children.

    Celery 5.7 learns of a child's end when the pipe that the child held is closed, and asks the kernel for its exit
    status at once. The kernel closes the pipes of a killed process before it reports the status: the answer is "still
    running", the pipe is no longer watched, and only the pool's timer of 5 s finds the child and re-queues its task.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Celery cancels what was put on the loop's timer since it connected when the connection breaks: no doubles."""
        maintain = getattr(getattr(consumer.pool, "_pool", None), "maintain_pool", None)
        if consumer.hub is not None and maintain is not None:
            consumer.hub.call_repeatedly(LOOK_SECONDS, maintain)


class FirstStart(bootsteps.StartStopStep):
    """Calls what was registered with `on_first_start` once, when the worker begins to consume; not after a reconnect.

    Celery's ``worker_ready`` signal logs what its receivers raise and goes on; a worker that could not start its
    watchdog thread must end instead.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        while _on_first_start:
            _on_first_start.pop(0)(consumer)


_on_first_start: list[Callable[[Any], None]] = []


def on_first_start(callback: Callable[[Any], None]) -> Callable[[Any], None]:
    """Register ``callback(consumer)`` with `FirstStart`; usable as a decorator."""
    _on_first_start.append(callback)
    return callback
