"""The part of ``okasie health --ready`` that asks Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import redis

from okasie_tasks.errors import OkasieError
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.redis_url import redis_url, redis_urls
from okasie_tasks.store import redis_problems

_SECONDS: Final = 2.0


def redis_problem(config: Path | None) -> str | None:
    """Ping Redis; return what is wrong, or None. Raises `ConfigurationError` for an invalid configuration."""
    settings = load_settings(config)
    try:
        url = redis_urls(redis_url(settings)).client
        client = redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        client.ping()
    except (redis.RedisError, OkasieError) as error:
        return f"redis: {redis_problems.redis_problem(error).message}"
    return None
