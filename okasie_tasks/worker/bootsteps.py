"""Steps added to Celery's consumer: lease renewal, dead-child check, and a channel that survives lost connections."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import redis
from celery import bootsteps
from celery.worker import state
from celery.worker.consumer.tasks import Tasks

from okasie_tasks.logs import get_logger

log = get_logger(__name__)

RENEWALS: Final = 4
"""Within one visibility timeout: three may fail before the message is delivered to another worker."""
_AFTER_FAILURE_SECONDS: Final = 1.0
"""When Redis is back the scores are old: renew them before the first sweep, if possible."""
BEYOND_LIMIT_SECONDS: Final = 60.0
"""A message is renewed for the tasks' hard time limit and this time more. A child can hang before its limit counts, and
threads have no limit: another worker must get their messages in the end."""
_WITHOUT_LIMIT_SECONDS: Final = 3600.0


class Leases:
    """The messages that a worker holds, and since when. ``clock`` counts seconds; only differences are used."""

    def __init__(self, longest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_seconds, self._clock = longest_seconds, clock
        self._since: dict[str, float] = {}

    def due(self, held: Iterable[str]) -> list[str]:
        """The messages in ``held`` whose lease may be renewed. Forgets messages that are no longer held."""
        now = self._clock()
        self._since = {tag: self._since.get(tag, now) for tag in held}
        return [tag for tag, since in self._since.items() if now - since < self._longest_seconds]


class LeaseKeeper(bootsteps.StartStopStep):
    """Renews the leases of the messages that a worker holds, for as long as the worker lives.

    Redis does not bind a delivery to a connection. kombu writes each delivered message into ``unacked_index`` with the
    time. Any worker returns a message to its queue when it has been there for longer than ``visibility_timeout``.
    Without renewal, that timeout must exceed the longest task, or tasks run twice, and a dead worker's messages wait as
    long. With this step it is seconds: a thread renews the time of all held messages four times within the timeout.

    There is one thread per worker. It outlives `stop`, because a warm shutdown first stops the consumer and then waits
    for its tasks in the main thread. It continues over reconnects, when `start` is called again. It has a separate
    connection to Redis, which a broken consumer does not affect. A timer of the event loop would not do: the loop does
    not run while a threads pool ends, nor during a soft shutdown.
    """

    requires = (Tasks,)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._consumer = consumer
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._channel: Any = None

    def start(self, consumer: Any) -> None:
        """Start the thread. After a reconnect, the running thread reads the new consumer's channel."""
        self._consumer = consumer
        if consumer.connection.transport.driver_type != "redis":
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
            self._thread.start()

    def stop(self, consumer: Any) -> None:
        """Do nothing: see the class."""

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
                # No error may end the thread: without renewal, tasks run twice.
                log.warning("lease renewal failed; retrying", error=type(error).__name__, reason=str(error))
                self._disconnect()
                wait = min(_AFTER_FAILURE_SECONDS, visible_seconds / RENEWALS)

    def _renew(self, tags: list[str]) -> None:
        if not tags:
            return
        if self._channel is None:
            self._connection = self._consumer.app.connection_for_write()
            self._channel = self._connection.channel()
        # The same clock as kombu's sweep. XX: a message that has just been acknowledged must not be added again.
        now = time.time()
        self._channel.client.zadd(self._channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=1)


def held(consumer: Any) -> set[str]:
    """The delivery tags of the messages that were delivered to this worker and are not acknowledged.

    The consumer's channel has those that are not a request yet. After a reconnect, only the requests show which tasks
    of the earlier connection still run.
    """
    tags = {str(request.message.delivery_tag) for request in list(state.requests.values())}
    tasks = consumer.task_consumer
    if tasks is not None and tasks.channel is not None:
        tags.update(list(tasks.channel.qos._delivered))
    return tags


class KeepAddress(bootsteps.StartStopStep):
    """Keeps a worker running when it loses its connection while tasks run.

    Celery 5.7 closes a broken connection in two steps. The first clears the server's address in the channel. The second
    returns the channel's messages, needs that address, and raises ``AttributeError``. That is no connection error, so
    the worker ends with "Unrecoverable error". Acknowledging a task that outlasted the loss raises the same error.

    With the address kept, the second step raises a connection error, which Celery expects. Acknowledging works, because
    Redis knows messages by tag, not by connection. After a reconnect the channel is a new one.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        channel = consumer.task_consumer.channel
        if hasattr(channel, "_connparams"):
            keep_address(channel)
            acknowledge_again(channel)
            keep_clients(type(channel))


class _KeptAddress(NamedTuple):
    """Stands in for the connection and its parameters while kombu builds a pool behind sentinels."""

    alt: list[str]
    default_port: int

    @property
    def client(self) -> _KeptAddress:
        return self


def keep_address(channel: Any) -> None:
    """Keep the channel's connection parameters for use after its connection has been removed."""
    original, kept = channel._connparams, channel._connparams()

    def connparams(asynchronous: bool = False) -> dict[str, Any]:
        if _is_removed(channel) or isinstance(channel.connection, _KeptAddress):
            return dict(kept)
        parameters: dict[str, Any] = original(asynchronous=asynchronous)
        return parameters

    channel._connparams = connparams
    if hasattr(channel, "_sentinel_managed_pool"):
        _keep_sentinels(channel)


def _keep_sentinels(channel: Any) -> None:
    original = channel._sentinel_managed_pool
    kept = _KeptAddress(list(channel.connection.client.alt), channel.connection.default_port)

    def managed_pool(asynchronous: bool = False) -> Any:
        if not _is_removed(channel):
            return original(asynchronous)
        removed, channel.connection = channel.connection, kept
        try:
            return original(asynchronous)
        finally:
            channel.connection = removed

    channel._sentinel_managed_pool = managed_pool


def _is_removed(channel: Any) -> bool:
    return channel.connection is None or channel.connection.client is None


def acknowledge_again(channel: Any) -> None:
    """Acknowledge once more, over a new connection, when the pooled connection breaks during an acknowledgement.

    Celery only logs "Couldn't ack". If the consumer's own connection is whole, nothing else ends the delivery: the
    message fills a prefetch slot for as long as the worker lives. Acknowledging twice is harmless.
    """
    acknowledge = channel.qos.ack

    def ack(delivery_tag: str) -> None:
        try:
            acknowledge(delivery_tag)
        except (redis.ConnectionError, redis.TimeoutError):
            acknowledge(delivery_tag)

    channel.qos.ack = ack


def keep_clients(channels: type[Any]) -> None:
    """Let each channel of this class keep its client for as long as it has its pool.

    kombu 5.7 creates a client for each command, four and more for a message. That costs more CPU than the command.
    """
    if hasattr(channels, "_kept_client"):
        return
    create = channels._create_client

    def kept(channel: Any, asynchronous: bool = False) -> Any:
        if asynchronous:
            return create(channel, asynchronous)
        client = channel._kept_client
        if client is None or client.connection_pool is not channel.pool:
            client = channel._kept_client = create(channel)
        return client

    channels._kept_client, channels._create_client = None, kept


CHILD_CHECK_SECONDS: Final = 0.25


class ChildWatch(bootsteps.StartStopStep):
    """Detects dead children of a prefork pool within a quarter of a second. Other pools have no children.

    Celery 5.7 reads a child's exit status as soon as the child's pipe is closed. The kernel closes a killed process's
    pipes before it reports the status. So the child still counts as running, and its pipe is no longer watched. Only
    the pool's timer of 5 s then finds the child and re-queues its task.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Start the timer. Celery cancels it when the connection breaks, so there is never a second one."""
        maintain = getattr(getattr(consumer.pool, "_pool", None), "maintain_pool", None)
        if consumer.hub is not None and maintain is not None:
            consumer.hub.call_repeatedly(CHILD_CHECK_SECONDS, maintain)


class FirstStart(bootsteps.StartStopStep):
    """Calls the callbacks of `on_first_start` once, when the worker begins to consume; not after a reconnect.

    One that Redis interrupts is called again after the reconnect: without it the worker must not consume.
    Celery's ``worker_ready`` signal would only log an exception of a receiver. A worker that cannot start its watchdog
    thread must end instead.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        while _on_first_start:
            _on_first_start[0](consumer)
            del _on_first_start[0]


_on_first_start: list[Callable[[Any], None]] = []


def on_first_start(callback: Callable[[Any], None]) -> Callable[[Any], None]:
    """Register ``callback(consumer)`` with `FirstStart`; usable as a decorator."""
    _on_first_start.append(callback)
    return callback
