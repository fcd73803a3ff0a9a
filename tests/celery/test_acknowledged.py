"""A delivery ends although the connection broke while its message was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Queue

from okasie_tasks.settings.redis_url import redis_urls
from okasie_tasks.worker.bootsteps import acknowledge_again


@pytest.fixture
def channel(redis_url: str, client: redis.Redis) -> Iterator[Any]:
    with Connection(redis_urls(redis_url).broker) as connection:
        found = connection.channel()
        queue = Queue("jobs")(found)
        queue.declare()
        connection.Producer(found).publish("one", routing_key="jobs", exchange="")
        yield found


def delivered(channel: Any, monkeypatch: pytest.MonkeyPatch, *, breaks: int) -> Any:
    """A message whose acknowledgement loses its connection so many times."""
    message = channel.basic_get("jobs")
    acknowledge, left = channel.qos._remove_from_indices, [redis.ConnectionError("reset by peer")] * breaks

    def remove(*args: Any) -> Any:
        if left:
            raise left.pop()
        return acknowledge(*args)

    monkeypatch.setattr(channel.qos, "_remove_from_indices", remove)
    return message


def test_it_is_acknowledged_over_a_new_connection(
    channel: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge_again(channel)
    message = delivered(channel, monkeypatch, breaks=1)
    assert client.hlen("unacked") == 1
    message.channel.basic_ack(message.delivery_tag)
    assert client.exists("unacked", "unacked_index") == 0
    assert channel.qos.can_consume()


def test_a_server_that_is_away_is_an_error_as_before(
    channel: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge_again(channel)
    message = delivered(channel, monkeypatch, breaks=2)
    with pytest.raises(redis.ConnectionError):
        message.channel.basic_ack(message.delivery_tag)
    assert client.hlen("unacked") == 1, "it is delivered again when its lease has run out"
