"""The lease keeper: messages that a worker holds stay its own for as long as it lives.

Redis has no connection-bound delivery: kombu writes each delivered message into ``unacked_index`` with the time, and
any worker gives back to its queue what has stood there for longer than ``visibility_timeout``. That must be longer
than the longest task, or tasks run twice; and as long as a dead worker's messages lie idle. With this step it is
seconds: a thread writes the time anew, four times within the timeout, for all that its worker holds.
"""

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
    """A consumer step: ``app.steps["consumer"].add(LeaseKeeper)``.

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
