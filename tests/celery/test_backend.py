"""The result backend without a server: which one is built for which address, and how its connections retry."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, chord, group, signature
from redis.backoff import NoBackoff

from okasie_tasks.celery import configuration
from okasie_tasks.settings import load_settings
from okasie_tasks.worker.result_backend import RedisRetry, SteadyRedisBackend


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:pw@h:7/2", {"host": "h", "port": 7, "db": 2, "password": "pw"}),
        ("rediss://h:7/2", {"host": "h", "db": 2, "connection_class": redis.SSLConnection}),
        ("unix:///run/r.sock?db=3", {"path": "/run/r.sock", "db": 3}),
    ],
)
def test_every_kind_of_address_gets_the_steady_backend(tmp_path: Path, url: str, expected: dict[str, Any]) -> None:
    (tmp_path / "okasie.toml").write_text(f'[redis]\nurl = "{url}"\n')
    app = Celery("any", set_as_current=False)
    app.conf.update(configuration(load_settings(tmp_path / "okasie.toml", {})))
    assert type(app.backend) is SteadyRedisBackend
    assert expected.items() <= app.backend.connparams.items()
    assert isinstance(app.backend.connparams["retry"], RedisRetry)
    assert isinstance(app.backend.client.connection_pool.make_connection().retry, RedisRetry)
    assert "pw" not in app.backend.as_uri()


@pytest.mark.parametrize("error", [redis.ConnectionError, ConnectionRefusedError])
def test_tries_are_counted_once_though_redis_py_nests_them(error: type[Exception]) -> None:
    """A command that needs a connection connects within its own try."""
    retry = copy.deepcopy(RedisRetry(tries=3))
    retry._backoff = NoBackoff()
    connects: list[int] = []

    def connect() -> None:
        connects.append(1)
        raise error

    def command() -> None:
        retry.call_with_retry(connect, lambda _: None)

    with pytest.raises(error):
        retry.call_with_retry(command, lambda _: None)
    assert len(connects) == 4, "one try and three more, not their square"
    connects.clear()
    with pytest.raises(error):
        retry.call_with_retry(connect, lambda _: None)
    assert len(connects) == 4, "and so again for the next command"


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's own
def test_sending_a_part_does_not_subscribe_to_its_result(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    """In a pool of threads, plain Celery treats the sender as one that will wait, and keeps the subscription."""
    (tmp_path / "okasie.toml").write_text(f'[redis]\nurl = "{redis_url}"\n')
    app = Celery("any", set_as_current=False)
    app.conf.update(configuration(load_settings(tmp_path / "okasie.toml", {})))
    sent = app.send_task("any.part", queue="okasie.api", ignore_result=False)
    parts = [signature("any.part", queue="okasie.api", immutable=True, app=app) for _ in range(3)]
    chord(group(parts, app=app), signature("any.body", immutable=True, app=app), app=app)()
    assert client.llen("okasie.api") == 4
    assert client.pubsub_channels() == []
    app.backend.store_result(sent.id, 7, "SUCCESS")
    assert sent.get(timeout=60) == 7, "a process that waits receives the result"
    app.close()
