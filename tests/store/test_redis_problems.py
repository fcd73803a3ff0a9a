"""The cause of a Redis error is named, whether it comes from a command, a pipeline, a transaction or a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from redis import exceptions

from okasie_tasks.errors import LimiterUnavailable
from okasie_tasks.store.limiter import RedisLimiter
from okasie_tasks.store.redis_problems import redis_problem

Write = Callable[[redis.Redis], Any]


def piped(client: redis.Redis, *, transaction: bool) -> Any:
    pipe = client.pipeline(transaction=transaction)
    pipe.set("key", "value")
    return pipe.execute()


WRITES: dict[str, Write] = {
    "command": lambda client: client.set("key", "value"),
    "pipeline": lambda client: piped(client, transaction=False),
    "transaction": lambda client: piped(client, transaction=True),
    "script": lambda client: client.eval("return redis.call('SET', KEYS[1], 'value')", 1, "key"),
}


def problem_of(client: redis.Redis, write: Write) -> str:
    with pytest.raises(redis.RedisError) as caught:
        write(client)
    return redis_problem(caught.value).message


@pytest.fixture
def full(client: redis.Redis) -> Iterator[redis.Redis]:
    room = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", "1kb")
    yield client
    client.config_set("maxmemory", room)


@pytest.fixture
def replica(client: redis.Redis) -> Iterator[redis.Redis]:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield client
    client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("way", WRITES)
def test_a_full_server(full: redis.Redis, way: str) -> None:
    assert "full" in problem_of(full, WRITES[way])


@pytest.mark.parametrize("way", WRITES)
def test_a_read_only_replica(replica: redis.Redis, way: str) -> None:
    assert "read-only replica" in problem_of(replica, WRITES[way])


@pytest.mark.parametrize("password", [None, "another"])
def test_a_refused_login(client: redis.Redis, redis_url: str, password: str | None) -> None:
    client.config_set("requirepass", "a-password")
    try:
        with redis.Redis.from_url(redis_url, password=password) as other:
            assert problem_of(other, WRITES["command"]) == "Redis refuses the login"
    finally:
        client.config_set("requirepass", "")


def test_the_limiter_names_the_cause(replica: redis.Redis) -> None:
    limiter = RedisLimiter(replica, prefix="p:", bucket="b", per_minute=100, burst_per_second=5)
    with pytest.raises(LimiterUnavailable, match="read-only replica") as caught:
        limiter.acquire("ticket", "bulk", 1.0)
    assert "read-only" in redis_problem(caught.value).message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "still loading"),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "its disk"),
        (exceptions.ResponseError("Command # 1 (SET k) of pipeline caused error: MISCONF Redis is configured"), "disk"),
        (exceptions.NoPermissionError("this user has no permissions"), "does not allow"),
        (exceptions.ResponseError("BUSY Redis is busy running a script"), "busy"),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), "too few replicas"),
        (exceptions.ConnectionError("max number of clients reached"), "more connections"),
        (exceptions.ConnectionError("Error 111 connecting"), "does not answer (ConnectionError)"),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), "does not answer (ResponseError)"),
    ],
)
def test_other_causes(error: Exception, message: str) -> None:
    assert message in redis_problem(error).message
    wrapped = OperationalError(str(error))
    wrapped.__cause__ = error
    assert redis_problem(wrapped).fix == redis_problem(error).fix
