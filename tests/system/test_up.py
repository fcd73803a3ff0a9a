"""``okasie up``: it starts, mends, and takes everything along when it ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, Up, poll

pytestmark = pytest.mark.system


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key("up-secret", "dex")], limit=0) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox) -> Place:
    found = Place(tmp_path)
    write_csv(tmp_path / "feed.csv", cars(30, seed=5))
    found.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="up-secret")
    return found


def ended(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def worker(up: Up, name: str) -> psutil.Process | None:
    for process in up.tree():
        with contextlib.suppress(psutil.Error):  # it may end, or be a zombie, while we look
            if f"{name}@%h" in process.cmdline():
                return process
    return None


def test_sigterm_ends_everything_and_a_new_start_knows_what_was_sent(place: Place) -> None:
    with Up(place) as up:
        assert place.sync("dex", "--full")[1]["listings"]["created"] == 30
        everything = up.tree()
        assert len(everything) >= 6
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(60) == 0
    assert ended(everything)
    assert place.okasie("status").status == 5
    with Up(place) as up:
        status, document = place.sync("dex", "--full")
        assert (status, document["requests"]["bulk"], document["listings"]["unchanged"]) == (0, 0, 30)
        (last, first) = place.okasie("runs", "dex", "--json").document["runs"]
        assert (first["listings"]["created"], last["run"]) == (30, document["run"])
        assert place.okasie("run", document["run"], "--json").document["state"] == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed parent")
def test_sigkill_leaves_no_process_and_the_next_start_works(place: Place) -> None:
    with Up(place) as up:
        everything = up.tree()
        up.process.kill()
        up.process.wait(10)
        poll(lambda: ended(everything), what="the end of all children")
    with Up(place):
        assert place.sync("dex", "--full")[0] == 0


def test_a_worker_that_dies_is_started_again(place: Place) -> None:
    with Up(place) as up:
        victim = worker(up, "api")
        assert victim is not None
        os.kill(victim.pid, signal.SIGKILL)
        poll(lambda: (new := worker(up, "api")) is not None and new.pid != victim.pid, what="a new worker")
        assert "api ended (status -9)" in up.said()
        assert place.sync("dex", "--full")[0] == 0


def test_a_redis_that_dies_is_started_again_and_forgets_nothing_that_was_settled(place: Place) -> None:
    with Up(place) as up:
        assert place.sync("dex", "--full")[0] == 0
        (victim,) = [p for p in up.tree() if "valkey-server" in p.name() or "redis-server" in p.name()]
        # A killed server loses nothing that it has written to its file; only a machine that dies loses a second.
        victim.kill()
        poll(lambda: "redis ended (status -9)" in up.said(), what="the supervisor's notice")
        poll(lambda: place.okasie("status").status == 0, what="a system that answers again")
        status, document = place.sync("dex", "--full")
        assert (status, document["requests"]["bulk"], document["listings"]["unchanged"]) == (0, 0, 30)


def test_up_with_a_sandbox_needs_no_key_and_no_marketplace(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_csv(tmp_path / "feed.csv", cars(30, seed=5))
    place.account("dex", feed="feed.csv", base_url="https://www.okasie.be/api/external/v1", key="env:NOT_SET_ANYWHERE")
    with Up(place, "--sandbox") as up:
        status, document = place.sync("dex", "--full")
        assert (status, document["listings"]["created"]) == (0, 30)
        address = up.said().split("state under ")[1].split("/\n")[0]
        state = json.loads(requests.get(f"{address}/state", timeout=10).text)
        assert state["dex"]["listings"]["active"] == 30
        assert (tmp_path / ".okasie" / "sandbox").is_dir()
        assert not list((tmp_path / ".okasie").glob("valkey-*")), "a sandbox must not share the real ledger's folder"
