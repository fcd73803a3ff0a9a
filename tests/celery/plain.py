"""Plain Celery, with the settings that its manual gives for tasks that must not be lost; otherwise with defaults.

``tests.celery.plain:hasty`` also has the short visibility timeout of ``tests.celery.ours``.
"""

from __future__ import annotations

import os

from celery import Celery

from okasie_tasks.settings.redis_url import redis_urls
from tests.celery.ours import SWEEP_SECONDS, VISIBLE_SECONDS

PLAIN_DB, HASTY_DB = 1, 2


def _app(url: str, db: int, **settings: object) -> Celery:
    app = Celery("plain", include=["tests.celery.jobs"], set_as_current=__name__ == "tests.celery.plain")
    address = redis_urls(f"{url}?db={db}").broker
    app.conf.update(
        broker_url=address,
        result_backend=address,
        # Unix sockets refuse it.
        redis_socket_keepalive=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        **settings,
    )
    return app


def plain(url: str) -> Celery:
    return _app(url, PLAIN_DB)


def hasty(url: str) -> Celery:
    short = {
        "visibility_timeout": VISIBLE_SECONDS,
        "unacked_restore_interval": SWEEP_SECONDS,
        "unacked_restore_throttle": 1,
        # As in our workers. The server is killed beside these tests: a lock that a sweep held then would stop all
        # sweeps for kombu's 300 s.
        "unacked_mutex_expire": 10,
    }
    return _app(url, HASTY_DB, broker_transport_options=short)


if "PLAIN_URL" in os.environ:  # in a worker
    app = {"plain": plain, "hasty": hasty}[os.environ["PLAIN_KIND"]](os.environ["PLAIN_URL"])
