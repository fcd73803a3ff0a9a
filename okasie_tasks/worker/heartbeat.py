"""Reports to Redis that a worker runs, and with which configuration."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import redis
from celery import bootsteps
from celery.signals import worker_init

from okasie_tasks import __version__
from okasie_tasks.settings import Settings, configuration_hash, keep_settings, process_settings
from okasie_tasks.settings.redis_url import redis_url
from okasie_tasks.store.connections import connect
from okasie_tasks.store.workers import HEARTBEAT_SECONDS, Workers
from okasie_tasks.worker.bootsteps import FirstStart
from okasie_tasks.worker.health import current_problem

_TIMEOUT_SECONDS: Final = 2.0
"""The heartbeat runs in the worker's event loop, which must not wait for long."""


class Heartbeat(bootsteps.StartStopStep):
    """Writes the worker's record every few seconds while it consumes. A heartbeat that cannot be written is skipped."""

    requires = (FirstStart,)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None
        settings = process_settings()
        self._configuration = configuration_hash(settings)
        self._workers = _workers(settings)

    def start(self, consumer: Any) -> None:
        name, queues = str(consumer.hostname), sorted(consumer.app.amqp.queues.consume_from)

        def beat() -> None:
            with contextlib.suppress(redis.RedisError):
                self._workers.beat(name, queues, self._configuration, version=__version__, problem=current_problem())

        beat()
        self._timer = consumer.timer.call_repeatedly(HEARTBEAT_SECONDS, beat)

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            consumer.timer.cancel(self._timer)
            self._timer = None
        with contextlib.suppress(redis.RedisError):
            self._workers.stopped(str(consumer.hostname))


@worker_init.connect
def _load(**_: object) -> None:
    keep_settings()


def _workers(settings: Settings) -> Workers:
    url = redis_url(settings)
    client = connect(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, tries=1)
    return Workers(client, prefix=settings.redis.key_prefix)
