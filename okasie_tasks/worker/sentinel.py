"""Celery's settings for a Redis behind Sentinel: for kombu, for Celery's result backend and for redbeat."""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from okasie_tasks.core.sentinel_url import SentinelUrl, is_sentinel, parse_sentinel_url
from okasie_tasks.store.connections import ANSWER_SECONDS
from okasie_tasks.worker.settings import SETTINGS


def sentinel_settings(url: str) -> dict[str, Any]:
    """Return the settings that differ from those for one server. ``url``: ``redis.url``."""
    address = parse_sentinel_url(url)
    found: dict[str, Any] = {
        "broker_transport_options": {**SETTINGS["broker_transport_options"], "socket_timeout": ANSWER_SECONDS},
        "redis_socket_timeout": ANSWER_SECONDS,
        "result_backend": f"okasie_tasks.worker.result_backend:SteadySentinelBackend+{address.backend()}",
        # redbeat reads the addresses from its options, where Celery hides a password.
        "redbeat_redis_url": "redis-sentinel://",
        "redbeat_redis_options": {
            **SETTINGS["redbeat_redis_options"],
            "sentinels": [list(host) for host in address.hosts],
            "service_name": address.master,
            "db": address.database,
            "sentinel_kwargs": _options(address),
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


def with_sentinels(settings: dict[str, Any], url: str) -> dict[str, Any]:
    """Return the settings with the master's name in both transport options, which a deployment may have replaced."""
    if not is_sentinel(url):
        return settings
    address = parse_sentinel_url(url)
    named = {"master_name": address.master, "sentinel_kwargs": _options(address)}
    options = ("broker_transport_options", "result_backend_transport_options")
    return {**settings, **{name: {**named, **settings[name]} for name in options}}


def _options(address: SentinelUrl) -> dict[str, Any]:
    # By default each sentinel that is away is tried ten times, before the next one, at every connection.
    return {**address.sentinel_options(), "retry": Retry(NoBackoff(), 0)}
