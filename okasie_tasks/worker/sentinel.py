"""Celery's settings for a Redis behind Sentinel: for kombu, for Celery's result backend and for redbeat."""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from okasie_tasks.core.sentinel_url import parse_sentinel_url
from okasie_tasks.worker.settings import SETTINGS


def sentinel_settings(url: str) -> dict[str, Any]:
    """Return the settings that differ from those for one server. ``url``: ``redis.url``."""
    address = parse_sentinel_url(url)
    # By default each sentinel that is away is tried ten times, before the next, at every connection.
    options = {**address.sentinel_options(), "retry": Retry(NoBackoff(), 0)}
    named = {"master_name": address.master, "sentinel_kwargs": options}
    found: dict[str, Any] = {
        "broker_transport_options": {**SETTINGS["broker_transport_options"], **named},
        "result_backend": f"okasie_tasks.worker.result_backend:SteadySentinelBackend+{address.backend()}",
        "result_backend_transport_options": {**SETTINGS["result_backend_transport_options"], **named},
        # redbeat reads the addresses from its options, where Celery hides a password.
        "redbeat_redis_url": "redis-sentinel://",
        "redbeat_redis_options": {
            **SETTINGS["redbeat_redis_options"],
            "sentinels": [list(host) for host in address.hosts],
            "service_name": address.master,
            "db": address.database,
            "sentinel_kwargs": options,
            **address.login,
        },
    }
    if address.tls:
        found |= {
            "broker_use_ssl": address.tls,
            "redis_backend_use_ssl": address.tls,
            "redbeat_redis_use_ssl": address.tls,
        }
    return found
