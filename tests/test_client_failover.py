"""The client while its Redis dies, becomes a replica or stands still, before the outbox or in the middle of a publish."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from kombu.transport.redis import Channel

from okasie_tasks import client as producer
from okasie_tasks.client import Client
from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor


class Server(NamedTuple):
    url: str
    child: Child

    def signal(self, number: signal.Signals) -> None:
        assert self.child.process is not None
        self.child.process.send_signal(number)
        if number is signal.SIGKILL:
            self.child.process.wait(20)

    def become_replica(self, *, of: str = "127.0.0.1 1") -> None:
        with redis.Redis.from_url(self.url) as admin:
            admin.execute_command("REPLICAOF", *of.split())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    embedded, supervisor = EmbeddedRedis(tmp_path), Supervisor(print)
    child = supervisor.add(embedded.child())
    embedded.wait(child)
    yield Server(embedded.url, child)
    if child.alive:
        child.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    supervisor.stop(3)


FAULTS: dict[str, tuple[Callable[[Server], None], str]] = {
    "killed": (lambda server: server.signal(signal.SIGKILL), "ConnectionError"),
    "a replica": (Server.become_replica, "ReadOnlyError"),
    "stopped": (lambda server: server.signal(signal.SIGSTOP), "TimeoutError"),
}


def at_publish(monkeypatch: pytest.MonkeyPatch, act: Callable[[Channel], None]) -> None:
    """Call ``act`` when the first message is about to be pushed: its request is in the outbox by then."""
    original, left = Channel._put, [act]

    def put(self: Channel, *arguments: Any, **options: Any) -> Any:
        if left:
            left.pop()(self)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Channel, "_put", put)


def at_store(monkeypatch: pytest.MonkeyPatch, act: Callable[[Channel], None]) -> None:
    original, left = producer._store, [act]

    def store(*arguments: Any) -> None:
        if left:
            left.pop()(arguments[0])
        original(*arguments)

    monkeypatch.setattr(producer, "_store", store)


@pytest.mark.parametrize("moment", [at_store, at_publish])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_is_the_documented_error_with_its_cause(
    server: Server, monkeypatch: pytest.MonkeyPatch, moment: Any, fault: str
) -> None:
    act, cause = FAULTS[fault]
    application = Client(server.url)
    application.sync("dex")
    moment(monkeypatch, lambda _: act(server))
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=f"did not accept the message.*{cause}"):
        application.push("dex", ["DEX-1"])
    assert time.monotonic() - began < 20, "about 2 s; a busy machine may take longer"


def test_a_channel_that_is_closed_in_the_middle_of_a_publish_is_replaced(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kombu raises AttributeError, no connection error: ``'NoneType' object has no attribute 'client'``."""
    application = Client(server.url)
    application.sync("dex")

    def closed(channel: Channel) -> None:
        channel.connection.client.collect()
        raise AttributeError("'NoneType' object has no attribute 'client'")

    at_publish(monkeypatch, closed)
    sent = application.push("dex", ["DEX-1"])
    with redis.Redis.from_url(server.url) as client:
        assert client.llen("okasie.urgent") == 1
        assert client.hexists("okasie:outbox", sent)


def test_a_failover_that_ends_within_the_call_is_not_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    application = Client(server.url)
    application.sync("dex")
    server.become_replica()
    monkeypatch.setattr(producer.time, "sleep", lambda _: server.become_replica(of="NO ONE"))
    application.push("dex", ["DEX-1"])
    with redis.Redis.from_url(server.url) as client:
        assert client.llen("okasie.urgent") == 1


def test_the_client_works_again_after_an_error(server: Server) -> None:
    application = Client(server.url)
    application.sync("dex")
    server.become_replica()
    with pytest.raises(ConnectionFailed):
        application.push("dex", ["DEX-1"])
    server.become_replica(of="NO ONE")
    application.push("dex", ["DEX-1"])


def test_a_listing_that_json_cannot_represent_is_the_callers_error(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="JSON"):
        Client(server.url).push("dex", listings=[{"externalReference": "DEX-1", "price": object()}])
