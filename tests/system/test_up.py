"""``okasie up``: it starts, mends, and takes everything along when it ends, however it ends."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import HANG_SECONDS, Place, Up, poll

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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed parent")
def test_an_end_of_any_kind_leaves_no_process_and_what_dies_is_started_again(place: Place) -> None:
    """One after another, because starting takes most of the time."""
    with Up(place) as up:
        assert place.sync("dex", "--full")[1]["listings"]["created"] == 30
        everything = up.tree()
        assert len(everything) >= 6
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(HANG_SECONDS) == 0
    assert ended(everything)
    assert place.okasie("status").status == 5

    with Up(place) as up:
        assert_nothing_is_sent_anew(place)
        everything = up.tree()
        up.process.kill()
        up.process.wait(HANG_SECONDS)
        poll(lambda: ended(everything), what="the end of all children")

    with Up(place) as up:
        assert_nothing_is_sent_anew(place)
        victim = worker(up, "api")
        assert victim is not None
        victim.kill()
        poll(lambda: (new := worker(up, "api")) is not None and new.pid != victim.pid, what="a new worker")
        assert "api ended (status -9)" in up.said()
        assert_nothing_is_sent_anew(place)
        (victim,) = [p for p in up.tree() if "valkey-server" in p.name() or "redis-server" in p.name()]
        # A killed server loses nothing that it has written to its file; only a machine that dies loses a second.
        victim.kill()
        poll(lambda: "redis ended (status -9)" in up.said(), what="the supervisor's notice")
        poll(lambda: place.okasie("status").status == 0, what="a system that answers again")
        assert_nothing_is_sent_anew(place)
        last, *_, first = place.okasie("runs", "dex", "--json").document["runs"]
        assert (first["listings"]["created"], last["listings"]["unchanged"]) == (30, 30)
        assert place.okasie("run", last["run"], "--json").document["state"] == "done"


def assert_nothing_is_sent_anew(place: Place) -> None:
    """What was settled before is still known."""
    status, document = place.sync("dex", "--full")
    assert (status, document["requests"]["bulk"], document["listings"]["unchanged"]) == (0, 0, 30)
