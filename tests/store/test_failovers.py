"""Which server answers: one that has restarted is the same, a replica that took over is another."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.store.failovers import Failovers, LostInterval
from tests.failover.group import SentinelGroup, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[EmbeddedRedis, Child]]:
    embedded, supervisor = EmbeddedRedis(tmp_path), Supervisor(print)
    child = supervisor.add(embedded.child())
    embedded.wait(child)
    yield embedded, child
    supervisor.stop(3)


def test_a_killed_server_that_comes_back_is_no_failover(server: tuple[EmbeddedRedis, Child]) -> None:
    embedded, child = server
    with redis.Redis.from_url(embedded.url) as client:
        failovers = Failovers(client, prefix="p:")
        assert failovers.look() == []
        before = client.info("replication")["master_replid"]
        assert child.process is not None
        child.process.send_signal(signal.SIGKILL)
        child.process.wait(20)
        child.start()
        embedded.wait(child)
        assert client.info("replication")["master_replid"] != before
        assert failovers.look() == []


def test_a_server_that_was_up_before_the_last_look_has_taken_over(client: redis.Redis) -> None:
    """As behind a name that moves to another server."""
    failovers = Failovers(client, prefix="p:")
    failovers.look()
    seconds, _ = client.time()
    at_ms = (int(seconds) + 60) * 1000  # of the old master, whose clock may be ahead
    client.hset("p:master", mapping={"id": "another", "run": "another", "at_ms": at_ms})
    (lost,) = failovers.look()
    assert lost.from_ms == at_ms
    assert failovers.look() == [lost]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[SentinelGroup]:
    found = SentinelGroup(tmp_path)
    yield found
    found.stop()


def test_a_master_whose_replicas_come_and_go_is_the_same(group: SentinelGroup) -> None:
    """Its replication id changes with the first replica, and when there has been none for the backlog's time."""
    first, second = group.ports[:2]
    group.start_server(first)
    until(lambda: group.client(first).ping(), "the master")
    master, other = group.client(first), group.client(second)
    failovers = Failovers(master, prefix="p:")
    failovers._behind_sentinels = True

    def about(server: redis.Redis) -> dict[str, str]:
        return cast("dict[str, str]", server.info("replication"))

    def id_of_master() -> str:
        return about(master)["master_replid"]

    assert failovers.look() == []
    alone = id_of_master()
    group.start_server(second, of=first)
    until(lambda: id_of_master() != alone, "the id for a replica")
    assert failovers.look() == []
    master.config_set("repl-backlog-ttl", 1)
    replicated = id_of_master()
    group.signal(second, signal.SIGKILL)
    until(lambda: id_of_master() != replicated, "the id after the backlog")
    assert failovers.look() == []
    group.start_server(second, of=first)
    until(lambda: about(other)["master_link_status"] == "up", "a replica in step")
    assert failovers.look() == []

    # It is a replica for a while, and so loses what the other one did not have. Then it takes over again.
    other.replicaof("NO", "ONE")
    master.replicaof("127.0.0.1", str(second))
    until(lambda: about(master)["master_link_status"] == "up", "the old master as a replica")
    master.replicaof("NO", "ONE")
    assert len(failovers.look()) == 1


def test_intervals_are_joined_and_old_ones_forgotten(client: redis.Redis) -> None:
    failovers = Failovers(client, prefix="p:")
    assert failovers.since(0) is None
    client.zadd("p:failovers", {"10 20": 20, "30 40": 40, "50 60": 60})
    assert failovers.since(21) == LostInterval(30, 60)
    assert failovers.since(61) is None


def test_a_user_that_may_not_call_info_notices_no_failover(client: redis.Redis, redis_url: str) -> None:
    client.acl_setuser("some", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-info"])
    try:
        with redis.Redis.from_url(redis_url, username="some", password="any") as other:
            assert Failovers(other, prefix="p:").look() == []
    finally:
        client.acl_deluser("some")
