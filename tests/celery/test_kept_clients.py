"""A channel keeps its client of Redis, and gets another one with another pool."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from kombu import Connection, Queue
from kombu.transport.redis import Channel

from okasie_tasks.settings.redis_url import redis_urls
from okasie_tasks.worker.bootsteps import keep_clients


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clients that channels create."""
    made, create = list[Any](), Channel._create_client

    def counted(channel: Channel, asynchronous: bool = False) -> Any:
        client = create(channel, asynchronous)
        made.append(client)
        return client

    monkeypatch.setattr(Channel, "_create_client", counted)
    monkeypatch.setattr(Channel, "_kept_client", None, raising=False)
    del Channel._kept_client
    keep_clients(Channel)
    return made


def test_one_client_sends_takes_and_acknowledges_messages(made: list[Any], redis_url: str, client: redis.Redis) -> None:
    with Connection(redis_urls(redis_url).broker) as connection:
        channel = connection.channel()
        queue = Queue("jobs")(channel)
        queue.declare()
        del made[:]
        for body in ("one", "two"):
            connection.Producer(channel).publish(body, routing_key="jobs", exchange="")
        for body in ("one", "two"):
            message = channel.basic_get("jobs")
            assert message.payload == body
            message.ack()
        assert client.exists("jobs", "unacked", "unacked_index") == 0
        assert len(made) <= 1
        first = channel._create_client()
        channel._disconnect_pools()
        second = channel._create_client()
        assert first is not second
        assert second.ping()
        assert connection.channel()._create_client() is not second, "each channel has its own"
