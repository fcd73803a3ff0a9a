"""Upgrades from real older releases: their code, taken from the history, fills Redis; this one goes on from there.

``V2`` is the first commit that stores the layout of the state, ``V3`` the first with layout 3, and ``V4`` has the
present one. A clone without the history skips these tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.core.ledger_entry import Entry
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.layout import LAYOUT
from okasie_tasks.store.ledger import Ledger
from tests.support import HANG_SECONDS, Place, faults, held, poll, release, stored

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
V2, V3 = "5e79916eaa40a31e335ee943782c73801ce13fa4", "d421eedc6456532ab9d9acb9924e304c7f973017"
V4 = "81ea15527cf6d9285c16e9c8a502e3c06907ead1"
ALL_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"
CARS = 450


class Fleet:
    """Workers of this release and of an older one, over one Redis and one sandbox."""

    def __init__(self, folder: Path, older: Path, sandbox: Sandbox) -> None:
        self.sandbox, self._older = sandbox, older
        self.place = Place(folder)
        self.supervisor = Supervisor(print)
        server = EmbeddedRedis(folder)
        server.wait(self.supervisor.add(server.child()))
        self.url, self.client = server.url, redis.Redis.from_url(server.url)
        self.place.env |= {"OKASIE_REDIS__URL": server.url, "OKASIE_CONFIG": str(self.place.config)}
        self.rows = cars(CARS, seed=8)
        write_csv(folder / "feed.csv", self.rows)
        self.place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="k", extra="read_timeout = 300\n")

    def worker(self, name: str, *, old: bool = False) -> Child:
        # Python and Celery import from the current directory first, which must not be that of this release.
        argv = [
            "/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(self.place.folder),
            sys.executable, "-m", "celery", "-A", "okasie_tasks", "worker", "-Q", ALL_QUEUES, "-P", "threads", "-c", "4",
            "-n", f"{name}@%h", "--without-mingle", "--without-gossip", "-l", "INFO",
        ]  # fmt: skip
        log = self.place.folder / f"{name}.log"
        return self.supervisor.add(Child(name, argv, log=log, env=self._env(old)))

    def ready(self, child: Child) -> Child:
        poll(lambda: " ready." in text(child) or not child.alive, seconds=HANG_SECONDS, what=f"{child.name}, ready")
        assert child.alive, text(child)
        return child

    def stop(self, child: Child) -> None:
        """As in a rolling restart: a warm shutdown, which finishes what is in progress."""
        child.stopping = True
        assert child.process is not None
        child.process.terminate()
        child.process.wait(HANG_SECONDS)

    def old_okasie(self, *arguments: str) -> dict[str, Any]:
        """A command of the older release; returns its document."""
        argv = [sys.executable, "-m", "okasie_tasks", *arguments, "--json"]
        done = subprocess.run(
            argv,
            cwd=self.place.folder,
            env=self._env(True),
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _env(self, old: bool) -> dict[str, str]:
        return {**self.place.env, "PYTHONPATH": str(self._older if old else ROOT)}

    def settled(self) -> None:
        """A full run of this release finds everything as the older one left it."""
        status, document = self.place.sync("dex", "--full")
        assert (status, document["listings"]["unchanged"]) == (0, len(self.rows)), document
        assert [document["listings"][name] for name in ("created", "updated", "sold", "rejected")] == [0, 0, 0, 0]
        live = [row for row in stored(self.sandbox, "dex").values() if row["status"] == "active"]
        assert len(live) == len(self.rows)


@pytest.fixture
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The code of the older release, in a folder of its own."""
    commit = str(request.param)
    done = subprocess.run(["git", "archive", commit, "okasie_tasks"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this clone does not have the commit {commit[:7]}")
    folder = tmp_path / "older"
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def fleet(tmp_path: Path, older: Path) -> Iterator[Fleet]:
    folder = tmp_path / "place"
    folder.mkdir()
    with Sandbox([Key("k", "dex")], limit=0) as sandbox:
        found = Fleet(folder, older, sandbox)
        try:
            yield found
        finally:
            with contextlib.suppress(OSError):
                release(sandbox)
            found.supervisor.stop(20)
            found.client.close()


def text(child: Child) -> str:
    return child.log.read_text(encoding="utf-8", errors="replace")


def assert_no_traceback(*children: Child) -> None:
    for child in children:
        assert "Traceback" not in text(child), text(child)


@pytest.mark.parametrize("older", [V2, V3], indirect=True)
def test_state_of_an_older_layout_is_migrated_once_its_workers_have_stopped(fleet: Fleet) -> None:
    old = fleet.ready(fleet.worker("old", old=True))
    fleet.old_okasie("sync", "dex", "--full")
    layout = int(fleet.client.get("okasie:layout") or 0)
    assert layout < LAYOUT
    gone = fleet.rows.pop()["stock_no"]
    fleet.old_okasie("sell", "dex", gone)
    fleet.old_okasie("push", "dex", fleet.rows[0]["stock_no"])

    # While a worker of the older release runs, this one waits, and the old one does all the work.
    new = fleet.worker("new")
    poll(lambda: "waiting for workers of an older release to stop" in text(new), what="a worker that waits")
    # It is alive, so nothing restarts it, and not ready.
    poll(lambda: "migrating, waits for old@" in fleet.place.okasie("health").stdout, what="its heartbeat")
    answer = fleet.place.okasie("health", "--ready")
    assert (answer.status, "does not consume: migrating, waits for old@" in answer.stdout) == (5, True), answer.text
    refused = fleet.place.okasie("status")
    assert (refused.status, "workers of this release migrate it" in refused.stderr) == (2, True), refused.text
    write_csv(fleet.place.folder / "feed.csv", fleet.rows)
    assert fleet.old_okasie("sync", "dex")["listings"]["unchanged"] == len(fleet.rows)
    assert f"old@{os.uname().nodename}" in text(new)

    # A run of the older release that is interrupted is continued or replaced.
    faults(fleet.sandbox, held("list", "dex"))
    interrupted = fleet.old_okasie("sync", "dex", "--full", "--no-wait")["run"]
    poll(lambda: fleet.client.hget(f"okasie:run:{interrupted}", "state") == b"running", what="the old run")
    # A push that waits stays.
    fleet.old_okasie("pause", "dex")
    fleet.rows[1]["price_eur"] = str(int(fleet.rows[1]["price_eur"]) + 10)
    write_csv(fleet.place.folder / "feed.csv", fleet.rows)
    Client(fleet.url).push("dex", [fleet.rows[1]["stock_no"]])
    poll(lambda: fleet.client.zcard("okasie:urgent:dex:order") == 1, what="the push in the urgent queue")
    assert old.process is not None
    old.stopping = True
    old.process.kill()
    fleet.ready(new)
    poll(lambda: fleet.place.okasie("health", "--ready").status == 0, what="a worker that consumes")
    release(fleet.sandbox)
    assert fleet.client.get("okasie:layout") == str(LAYOUT).encode()
    runs = fleet.place.okasie("runs", "dex", "--json").document["runs"]
    error = next(run for run in runs if run["run"] == interrupted)["error"]
    assert error is None or (error["code"], layout) == ("upgraded", 2), "from layout 3 it goes on"
    assert fleet.client.zcard("okasie:urgent:dex:order") == 1
    fleet.place.okasie("resume", "dex")
    poll(lambda: fleet.client.zcard("okasie:urgent:dex:order") == 0, what="the push, sent")
    assert str(stored(fleet.sandbox, "dex")[fleet.rows[1]["stock_no"]]["body"]["price"]) == fleet.rows[1]["price_eur"]
    poll(
        lambda: fleet.place.okasie("runs", "dex", "--json").document["runs"][0]["state"] == "done",
        what="the run in its place",
    )
    fleet.settled()
    assert stored(fleet.sandbox, "dex")[gone]["status"] == "sold"
    why = fleet.place.okasie("why", "dex", gone, "--json")
    assert (why.status, "sold" in why.stdout) == (0, True)

    # Going back is refused by the old release itself.
    again = fleet.worker("again", old=True)
    poll(lambda: "holds state of" in text(again), what="the older release's refusal")
    again.stopping = True
    assert_no_traceback(old, new)


@pytest.mark.parametrize("older", [V4], indirect=True)
def test_two_releases_of_one_layout_share_a_run(fleet: Fleet) -> None:
    old = fleet.ready(fleet.worker("old", old=True))
    fleet.old_okasie("sync", "dex", "--full")
    for row in fleet.rows[::2]:
        row["price_eur"] = str(int(row["price_eur"]) + 10)
    write_csv(fleet.place.folder / "feed.csv", fleet.rows)
    new = fleet.ready(fleet.worker("new"))
    faults(fleet.sandbox, {"kind": "slow", "seconds": 0.2})  # so that both have a share
    _, document = fleet.place.sync("dex", "--full")
    assert (document["state"], document["listings"]["updated"]) == ("done", len(fleet.rows[::2])), document
    assert document["listings"]["sold"] == 0
    assert all("Task okasie.upsert_chunk[" in text(worker) for worker in (old, new)), "both took a share"
    pushed = fleet.place.okasie("push", "dex", *(row["stock_no"] for row in fleet.rows[:5]), "--json")
    assert pushed.status == 0, pushed.text

    # The old one stops in the middle of a run, which this one finishes.
    for row in fleet.rows[1::2]:
        row["price_eur"] = str(int(row["price_eur"]) + 10)
    write_csv(fleet.place.folder / "feed.csv", fleet.rows)
    run = fleet.place.okasie("sync", "dex", "--full", "--no-wait", "--json").document["run"]
    poll(lambda: fleet.client.hget(f"okasie:run:{run}", "stage") not in (None, b"first"), what="the run's walk")
    fleet.stop(old)
    ended = poll(
        lambda: (
            (found := fleet.place.okasie("run", run, "--json").document)["state"] not in ("queued", "running") and found
        ),
        what="the run's end",
    )
    assert (ended["state"], ended["listings"]["sold"]) == ("done", 0), ended
    release(fleet.sandbox)
    fleet.settled()
    names = [row["stock_no"] for row in fleet.rows]
    entries = Ledger(fleet.client, prefix="okasie:", account="dex").get(names)
    assert len(entries) == len(names)
    assert all(isinstance(entry, Entry) and entry.live for entry in entries.values())
    assert_no_traceback(old, new)
