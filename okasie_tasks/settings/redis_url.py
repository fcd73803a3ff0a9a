"""The address of the Redis server in each library's spelling: the configured server, else the embedded one.

The embedded server writes a record to ``state_dir``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import msgspec
import psutil

from okasie_tasks.core.sentinel_url import is_sentinel, parse_sentinel_url
from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.settings import Settings, masked

RECORD_FILE: Final = "redis.json"


# -- addresses -----------------------------------------------------------------------------------------------------


class RedisUrls(NamedTuple):
    """One server as redis-py, kombu and Celery's result backend (behind ``module:Class+``) spell it."""

    client: str
    broker: str
    backend: str


def without_login(url: str) -> tuple[str, dict[str, str]]:
    """Return a client URL without user and password, and both as redis-py options."""
    parts = urlsplit(url)
    login = {"username": parts.username, "password": parts.password}
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    # A socket's URL has no host: urlunsplit would drop the slashes that redis-py requires.
    query = f"?{parts.query}" if parts.query else ""
    plain = urlunsplit(place) if place.netloc else f"{parts.scheme}://{parts.path}{query}"
    return plain, {name: unquote(value) for name, value in login.items() if value}


def redis_urls(url: str) -> RedisUrls:
    """Return the spellings of a URL of any kind that ``redis.url`` may have (Celery docs, backends-and-brokers/redis).

    Behind sentinels, redis-py has none: see `okasie_tasks.store.connections`.
    """
    if is_sentinel(url):
        address = parse_sentinel_url(url)
        return RedisUrls(url, address.kombu(), address.backend())
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        if parts.scheme == "rediss" and "ssl_cert_reqs" not in parts.query:
            query = urlencode([*parse_qsl(parts.query), ("ssl_cert_reqs", "required")])
            url = urlunsplit(parts._replace(query=query))
        return RedisUrls(url, url, url)
    if parts.scheme == "unix" and parts.path:
        database = dict(parse_qsl(parts.query)).get("db", "0")
        return RedisUrls(
            url,
            f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}",
            f"socket://{parts.netloc}{parts.path}?virtual_host={database}",
        )
    raise ConfigurationError(
        f'got {masked(url)}, expected redis://, rediss://, sentinel:// or unix:///path, or "embedded"',
        where="redis.url",
    )


def redis_url(settings: Settings) -> str:
    """Return the configured server, else the running embedded one. Raises `ConnectionFailed` if there is neither."""
    if settings.redis.url is not None:
        return settings.redis.url
    url = find_embedded(settings.redis.state_dir)
    if url is None:
        raise ConnectionFailed(
            f"no Redis is running in {settings.redis.state_dir}: start one with `okasie up`, or set redis.url",
            where="redis",
        )
    return url


# -- the record of a running server ----------------------------------------------------------------------------------


class Record(msgspec.Struct):
    """The content of ``state_dir/redis.json``, which other commands read."""

    url: str
    pid: int
    engine: str
    version: str
    started: float
    """The process's start time, so that a reused process id is not mistaken for the server."""


def find_embedded(state_dir: Path) -> str | None:
    """Return the URL of the server that runs in ``state_dir``, or None."""
    record = read_record(state_dir)
    if record is None:
        return None
    with contextlib.suppress(psutil.Error):
        if abs(psutil.Process(record.pid).create_time() - record.started) < 2:
            return record.url
    return None


def read_record(state_dir: Path) -> Record | None:
    try:
        return msgspec.json.decode((state_dir / RECORD_FILE).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None
