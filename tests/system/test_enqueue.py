"""Runs asked for from outside: by the client, by a message made by hand, by Beat; folded, begun once, followed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.settings.redis_url import find_embedded
from tests.support import OKASIE, faults, held, poll, release
from tests.system.conftest import Fleet
from tests.test_client import handmade

pytestmark = pytest.mark.system


def history(fleet: Fleet, account: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = fleet.place.okasie("runs", account, "--json").document["runs"]
    return found


def test_a_message_from_any_language_starts_a_run(fleet: Fleet) -> None:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    with redis.Redis.from_url(url) as client:
        client.lpush("okasie.control", handmade("by_hand", "full"))
    runs = poll(lambda: [r for r in history(fleet, "by_hand") if r["state"] == "done"], what="the run")
    assert (len(runs), runs[0]["mode"]) == (1, "full")


def test_the_client_starts_a_run(fleet: Fleet) -> None:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    Client(url).sync("by_client")
    runs = poll(lambda: [r for r in history(fleet, "by_client") if r["state"] == "done"], what="the run")
    assert runs[0]["mode"] == "incremental"


def test_messages_that_make_no_sense_are_refused_and_harm_nobody(fleet: Fleet) -> None:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    with redis.Redis.from_url(url) as client:
        for account, mode in (("nobody", "full"), ("by_hand", "everything"), ("../../etc", "full")):
            client.lpush("okasie.control", handmade(account, mode))
        client.lpush("okasie.control", json.dumps(json.loads(handmade("by_hand", "full")) | {"body": "bm8="}))
        poll(lambda: client.llen("okasie.control") == 0, what="the queue's end")
    assert fleet.place.okasie("status").status == 0
    log = (fleet.place.folder / ".okasie" / "logs" / "control.log").read_text()
    poll(lambda: "expected 'incremental' or 'full'" in (fleet.place.folder / ".okasie/logs/control.log").read_text())
    assert "no account 'nobody'" in log or "nobody" in (fleet.place.folder / ".okasie/logs/control.log").read_text()


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """A child heeds SIGINT as from a terminal, also where these tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_command_leaves_its_run_to_go_on(fleet: Fleet, heeds_ctrl_c: None) -> None:
    faults(fleet.sandbox, held("list", "interrupted"))
    argv = [*OKASIE, "sync", "interrupted", "--full"]
    with subprocess.Popen(
        argv, cwd=fleet.place.folder, env=fleet.place.env, stderr=subprocess.PIPE, text=True
    ) as command:
        poll(lambda: [r for r in history(fleet, "interrupted") if r["state"] == "running"], what="the run's start")
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=300)
    release(fleet.sandbox)
    assert command.returncode == 130
    assert "continues" in said
    assert "Traceback" not in said
    poll(lambda: [r for r in history(fleet, "interrupted") if r["state"] == "done"], what="the run's end")


def test_requests_that_come_together_are_one_run_and_one_follow_up(fleet: Fleet) -> None:
    started = {fleet.place.okasie("sync", "folded", "--no-wait", "--json").document["run"] for _ in range(4)}
    poll(lambda: all(r["state"] == "done" for r in history(fleet, "folded")), what="their end")
    assert started == {run["run"] for run in history(fleet, "folded")}
    assert len(started) <= 4
