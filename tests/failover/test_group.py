"""Every part that talks to Redis follows the master: one failover, and what each part does after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from celery import Celery

from okasie_tasks.celery import configuration, with_sentinels
from okasie_tasks.cli import main
from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.ports import Feedback, Permit, Wait
from okasie_tasks.settings import load_settings
from okasie_tasks.store.connections import connect
from okasie_tasks.store.failovers import Failovers
from okasie_tasks.store.limiter import RedisLimiter
from okasie_tasks.store.redis_problems import is_passing
from okasie_tasks.worker.bootsteps import keep_address
from okasie_tasks.worker.result_backend import SteadySentinelBackend
from tests.failover.group import PASSWORD, SENTINEL_PASSWORD, SentinelGroup, free_ports
from tests.support import Place, poll

pytestmark = [pytest.mark.system]


@pytest.fixture
def config(tmp_path: Path, group: SentinelGroup) -> Path:
    (tmp_path / "okasie.toml").write_text(f'[redis]\nurl = "{group.url}"\n')
    return tmp_path / "okasie.toml"


@pytest.fixture
def flower(config: Path) -> Iterator[str]:
    """Flower's address."""
    (port,) = free_ports(1)
    place = Place(config.parent)
    argv = [sys.executable, "-m", "celery", "-A", "okasie_tasks", "flower", f"--port={port}", "--address=127.0.0.1"]
    with (config.parent / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdout=log, stderr=log, cwd=config.parent, env=place.env | {"OKASIE_CONFIG": str(config)}
        )
    try:
        url = f"http://127.0.0.1:{port}"
        poll(lambda: _answers(url), what="Flower")
        yield url
    finally:
        process.kill()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthcheck", timeout=10).ok
    except requests.RequestException:
        return False


def shows_events(flower: str, app: Celery, uuid: str) -> bool:
    """Send the event of a task, and return whether Flower's list has it."""
    with app.connection_for_write() as connection:
        dispatcher = app.events.Dispatcher(connection, hostname="api@test")
        dispatcher.send("task-received", uuid=uuid, name="okasie.push", args="()", kwargs="{}")
    asked = {
        "draw": "1", "start": "0", "length": "100", "search[value]": uuid,
        "order[0][column]": "0", "order[0][dir]": "asc", "columns[0][data]": "received",
    }  # fmt: skip
    answer = requests.get(f"{flower}/tasks/datatable", params=asked, timeout=30)
    return any(row["uuid"] == uuid for row in answer.json()["data"])


def test_every_part_follows_the_master(group: SentinelGroup, config: Path, flower: str) -> None:
    client, producer = connect(group.url), Client(group.url)
    app = Celery("any", set_as_current=False)
    app.conf.update(configuration(load_settings(config, {})))
    assert type(app.backend) is SteadySentinelBackend
    limiter = RedisLimiter(client, prefix="f:", bucket="dex", per_minute=600, burst_per_second=20)
    failovers = Failovers(client, prefix="f:")
    permit = limiter.acquire("one", "bulk", 10)
    assert isinstance(permit, Permit)
    limiter.report(permit, Feedback(status=200))
    assert failovers.look() == []
    producer.push("dex", ["A-1"])
    app.backend.client.set("result", 1)
    poll(lambda: shows_events(flower, app, "before"), what="an event in Flower")
    client.wait(2, 5000)

    old = group.master()
    group.signal(old, signal.SIGKILL)
    group.failed_over(old)

    assert int(client.llen("okasie.urgent")) == 1
    (lost,) = failovers.look()
    assert lost.from_ms <= lost.until_ms
    assert failovers.look() == [lost], "it is noted once"
    probe = limiter.acquire("two", "bulk", 10)
    assert isinstance(probe, Permit)
    blocked = limiter.acquire("three", "urgent", 10)
    assert (isinstance(blocked, Wait), blocked.reason if isinstance(blocked, Wait) else "") == (True, "probe")
    limiter.report(probe, Feedback(status=200))
    producer.push("dex", ["A-2"])
    assert app.backend.client.get("result") == b"1"
    poll(lambda: shows_events(flower, app, "after"), what="an event in Flower after the failover")
    group.restart(old)
    client.flushall()


def test_a_push_that_no_replica_has_is_an_error(group: SentinelGroup) -> None:
    group.cut_off_replicas()
    try:
        with pytest.raises(ConnectionFailed, match="no replica has confirmed the request"):
            Client(group.url).push("dex", ["A-1"])
    finally:
        group.reconnect_replicas()
    poll(group.is_whole, what="a whole group")
    Client(group.url).push("dex", ["A-1"])


def test_a_replica_and_a_restart_are_passing_faults(group: SentinelGroup) -> None:
    """Also in a transaction and in a script."""
    with group.client(group.replicas()[0]) as replica:
        for write in (
            lambda: replica.set("key", 1),
            lambda: replica.eval("return redis.call('SET', KEYS[1], 1)", 1, "key"),
            lambda: replica.pipeline().set("key", 1).execute(),
        ):
            with pytest.raises(redis.ResponseError) as caught:
                write()
            assert is_passing(caught.value)


def test_a_worker_that_loses_its_connection_still_reaches_the_master(group: SentinelGroup, config: Path) -> None:
    """It returns its messages after its connection has been removed. Without `keep_address` the worker would end."""
    app = Celery("any", set_as_current=False)
    app.conf.update(configuration(load_settings(config, {})))
    connection = app.connection_for_write()
    channel = connection.channel()
    keep_address(channel)
    channel.connection.client, channel._pool = None, None
    assert channel._create_client().ping()
    channel.connection, channel._pool = None, None
    assert channel._create_client().ping()
    assert channel.connection is None


def test_a_deployment_may_replace_the_transport_options(group: SentinelGroup) -> None:
    given: dict[str, Any] = {"broker_transport_options": {"socket_timeout": 3}, "result_backend_transport_options": {}}
    found = with_sentinels(given, group.url)
    assert found["broker_transport_options"]["master_name"] == "okasie"
    assert found["broker_transport_options"]["socket_timeout"] == 3
    assert "master_name" in found["result_backend_transport_options"]


def test_doctor_asks_every_sentinel(group: SentinelGroup, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def doctor() -> dict[str, tuple[bool, str]]:
        with pytest.raises(SystemExit):
            main(["doctor", "--json", "--config", str(config)])
        text = capsys.readouterr().out
        assert PASSWORD not in text
        assert SENTINEL_PASSWORD not in text
        return {check["name"]: (check["ok"], check["detail"]) for check in json.loads(text)["checks"]}

    checks = doctor()
    assert checks["redis master"] == (True, f"127.0.0.1:{group.master()}, named by 3 of 3 sentinels")
    assert checks["redis replicas"] == (True, "2 in step")
    assert "min-replicas-to-write is 0" in checks["redis min-replicas"][1]
    group.signal(group.sentinel_ports[0], signal.SIGSTOP)
    try:
        checks = doctor()
        assert checks["redis sentinels"][0] is False
        assert checks["redis master"] == (True, f"127.0.0.1:{group.master()}, named by 2 of 3 sentinels")
    finally:
        group.signal(group.sentinel_ports[0], signal.SIGCONT)
    poll(group.is_whole, what="a whole group")


def test_no_page_of_flower_and_no_inspection_shows_a_password(group: SentinelGroup, config: Path) -> None:
    app = Celery("any", set_as_current=False)
    app.conf.update(configuration(load_settings(config, {})))
    shown = f"{app.conf.humanize(with_defaults=False)} {app.connection().as_uri()} {app.backend.as_uri()}"
    assert "sentinel" in shown
    assert PASSWORD not in shown
    assert SENTINEL_PASSWORD not in shown
