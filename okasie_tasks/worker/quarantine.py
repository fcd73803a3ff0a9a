"""Moves malformed messages out of the queues, so that none of them ends a worker."""

from __future__ import annotations

import time
from functools import cached_property
from queue import Empty
from typing import Any, Final

import redis
from celery import bootsteps
from celery.worker.consumer.tasks import Tasks
from kombu.serialization import prepare_accept_content
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from okasie_tasks import __version__
from okasie_tasks.logs import get_logger
from okasie_tasks.settings import process_settings
from okasie_tasks.settings.redis_url import redis_url
from okasie_tasks.store.connections import connect
from okasie_tasks.store.quarantine import Quarantine
from okasie_tasks.store.workers import Workers
from okasie_tasks.worker.arguments import check_of
from okasie_tasks.worker.messages import MalformedMessage, Rules, UnknownTask, checked

log = get_logger(__name__)

_SHOWN: Final = 200
"""Characters of the message in its log line."""
_LONGEST_WAIT_SECONDS: Final = 3_600
"""How long a message of an unknown task is put back: longer than a rolling upgrade takes."""
_AWAY: Final = (redis.RedisError, OSError)
"""Not kombu's ``connection_errors``: they include KeyError."""


class QuarantineStep(bootsteps.StartStopStep):
    """Checks each entry when it leaves a queue, before kombu decodes it, and quarantines a malformed one.

    It is there at most once: `BRPOP` has removed it. It starts again after a reconnect, with the new channel.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        if consumer.connection.transport.driver_type != "redis":
            return
        gate = Gate(consumer.app, consumer.task_consumer.channel)
        gate.check_deliveries()
        gate.check_restored()
        ignore_malformed_broadcasts(consumer.connection.transport.cycle)


class Gate:
    """The check between the queues of one channel and the worker."""

    def __init__(self, app: Any, channel: Any) -> None:
        self._app, self._channel = app, channel
        # Celery's own tasks are never sent here; celery.chord_unlock would retry without end.
        # Not `__header__`, which has the arguments of a decorator's wrapper.
        tasks = {name: check_of(task) for name, task in app.tasks.items() if not name.startswith("celery.")}
        self._rules = Rules(tasks, prepare_accept_content(app.conf.accept_content), app.conf.task_compression)

    @cached_property
    def _stores(self) -> tuple[Quarantine, Workers]:
        settings = process_settings()
        # Not the channel's client, which has just been used to wait for a message, and not its pool's limits.
        client, prefix = connect(redis_url(settings)), settings.redis.key_prefix
        return Quarantine(client, prefix=prefix), Workers(client, prefix=prefix)

    def check_deliveries(self) -> None:
        """Check what the channel reads; a malformed entry counts as an empty answer."""

        def read(reply: list[bytes] | None, **_: Any) -> list[bytes] | None:
            if not reply:
                return None
            key, raw = reply
            delivered = self._checked(bytes_to_str(key).rsplit(self._channel.sep, 1)[0], raw)
            return [key, delivered] if delivered is not None else None

        self._channel.client.set_response_callback("BRPOP", read)

    def check_restored(self) -> None:
        """Check what returns from ``unacked`` to its queue, when a worker died or its lease expired.

        kombu's sweep would stop at a malformed entry each time, and so restore nothing any more. Only what kombu itself
        needs is checked: the message may be another application's, or a task of a newer release.
        """
        qos, restore = self._channel.qos, self._channel.qos.restore_by_tag

        def restore_by_tag(tag: Any, client: Any = None, leftmost: bool = False) -> None:
            with self._channel.conn_or_acquire(client) as connection:
                raw = connection.hget(qos.unacked_key, tag)
                if raw is not None and not self._restorable(raw):
                    qos._remove_from_indices(tag).execute()
                else:
                    restore(tag, client=connection, leftmost=leftmost)

        qos.restore_by_tag = restore_by_tag

    def _restorable(self, raw: bytes) -> bool:
        try:
            message, exchange, routing_key = loads(bytes_to_str(raw))
            marked = (message.get("headers", {}), message.get("properties", {}).get("delivery_info", {}))
            if not all(isinstance(part, dict) for part in marked):
                raise MalformedMessage("headers or delivery_info is not an object")
            if not self._channel._lookup(exchange, routing_key):
                raise MalformedMessage(f"no queue is bound to {exchange!r:.60} with {routing_key!r:.60}")
        except _AWAY:
            raise
        except Exception as error:
            self._move(self._channel.unacked_key, raw, f"{type(error).__name__}: {error}")
            return False
        return True

    def _checked(self, queue: str, raw: bytes) -> bytes | None:
        known = self._app.amqp.queues.get(queue)
        exchange = known.exchange.name if known is not None else ""
        try:
            return checked(raw, queue=queue, exchange=exchange, channel=self._channel, rules=self._rules)
        except MalformedMessage as malformed:
            if not (isinstance(malformed, UnknownTask) and self._put_back(queue, raw)):
                self._move(queue, raw, str(malformed))
            return None

    def _put_back(self, queue: str, raw: bytes) -> bool:
        """Return a message to its queue after half a minute, if workers of another release run: they may know its task.

        It is stored like one whose worker died, which a sweep restores half a minute later. False after an hour.
        """
        payload, qos, now = loads(bytes_to_str(raw)), self._channel.qos, time.time()
        tag, first = payload["properties"]["delivery_tag"], payload["properties"].setdefault("okasie_put_back_at", now)
        try:
            others = [worker.name for worker in self._stores[1].live() if worker.version != __version__]
            if not others or abs(now - first) > _LONGEST_WAIT_SECONDS:
                return False
            with self._channel.conn_or_acquire() as connection, connection.pipeline() as pipe:
                pipe.zadd(qos.unacked_index_key, {tag: now})
                pipe.hset(qos.unacked_key, tag, dumps([payload, "", queue]))
                pipe.execute()
        except redis.RedisError:
            return False
        task = payload["headers"]["task"][:_SHOWN]
        log.warning("message left to workers of another release", task=task, workers=others)
        return True

    def _move(self, queue: str, raw: bytes, reason: str) -> None:
        try:
            entry = self._stores[0].add(queue, raw, reason)
        except redis.RedisError as error:
            log.warning("malformed message dropped: it cannot be stored", queue=queue, error=type(error).__name__)
            return
        log.warning("malformed message quarantined", queue=queue, reason=entry.reason, begins=entry.message[:_SHOWN])


def ignore_malformed_broadcasts(poller: Any) -> None:
    """Log and skip a malformed broadcast, such as an entry of ``celery.pidbox``, which would end every worker at once.

    The handlers of well-formed broadcasts catch their errors.
    """
    on_readable = poller.on_readable

    def read(fileno: int) -> Any:
        _, kind = poller._fd_to_chan.get(fileno, (None, ""))
        try:
            return on_readable(fileno)
        except Empty:
            raise
        except Exception as error:
            if kind != "LISTEN" or isinstance(error, _AWAY):
                raise
            log.warning("malformed broadcast ignored", error=type(error).__name__)
            raise Empty from error

    poller.on_readable = read
