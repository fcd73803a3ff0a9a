"""Commands of README and docs, executed as written: from a feed to a marketplace, single workers, the messages."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import redis
import requests

from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.settings.redis_url import find_embedded
from tests.support import OKASIE, Place, Up, poll
from tests.test_readme import README, blocks, page, section, typed

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent


FEED = section(README, "Sync your own feed")


def words(text: str, program: str) -> list[list[str]]:
    """The command lines of a page that start ``program``, split."""
    return [shlex.split(line) for line in typed(text) if line.split()[0] == program]


@pytest.fixture
def dealer(tmp_path: Path) -> Place:
    """README's own feed and configuration."""
    place = Place(tmp_path)
    (tmp_path / "dex.csv").write_text(blocks(FEED, "csv")[0])
    place.config.write_text(blocks(FEED, "toml")[0])
    return place


def test_the_walk_from_a_feed_to_the_sandbox(dealer: Place) -> None:
    started, *lines = [line[1:] for line in words(FEED, "okasie")]
    assert started == ["up", "--sandbox"]
    assert [" ".join(line) for line in lines] == ["plan dex --full", "sync dex --full", "push dex DEX-1", "status dex"]
    with Up(dealer, *started[1:]) as up:
        assert [dealer.okasie(*line).status for line in lines] == [0, 4, 0, 0]
        assert "3 to upsert" in dealer.said[0].stdout
        assert "DEX-4  dex.csv:5  price:" in dealer.said[1].stdout
        run, pushed = (json.loads(block) for block in blocks(page("cli"), "json"))
        assert_shaped(run, dealer.okasie("sync", "dex", "--json").document)
        assert_shaped(pushed, dealer.okasie("push", "dex", "DEX-2", "--json").document)
        assert dealer.okasie("status", "dex", "--json").document["accounts"][0]["rejects"] == 1
        (shown,) = [b for b in blocks(page("metrics"), "console") if "--once" in b]
        lines_shown = set(shape(shown)) - {"...", "$ okasie metrics --once"}
        assert lines_shown <= set(shape(dealer.okasie("metrics", "--once").stdout))
        url = find_embedded(dealer.folder / ".okasie")
        assert url is not None
        before = len(dealer.okasie("runs", "dex", "--json").document["runs"])
        (snippet,) = blocks(section(page("integrations"), "Python"), "python")
        code = snippet.replace("redis://127.0.0.1:6379/0", url)
        assert code != snippet
        subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
        poll(lambda: len(done(dealer)) == before + 1, what="the client's run")
        (message,) = blocks(page("integrations"), "json")
        with redis.Redis.from_url(url) as client:
            client.lpush("okasie.control", json.dumps(json.loads(message)))
        poll(lambda: len(done(dealer)) == before + 2, what="the run of the message in JSON")
        assert done(dealer)[0]["mode"] == "full"
        address = up.said().split("state under ")[1].split("/\n")[0]
        counted = requests.get(f"{address}/state", timeout=60).json()
        assert sum(counted["dex"]["listings"].values()) == 3, "a sandbox of its own: no key, no marketplace"
        assert (dealer.folder / ".okasie" / "sandbox").is_dir()
        assert not list((dealer.folder / ".okasie").glob("valkey-*")), "the real ledger's folder is another"


def assert_shaped(documented: Any, printed: Any) -> None:
    """Every name of the documented JSON is printed."""
    if isinstance(documented, dict):
        for name, value in documented.items():
            assert name in printed
            assert_shaped(value, printed[name])
    elif isinstance(documented, list):
        for value in documented:
            assert_shaped(value, printed[0])


def done(place: Place) -> list[dict[str, object]]:
    return [run for run in place.okasie("runs", "dex", "--json").document["runs"] if run["state"] == "done"]


@pytest.mark.slow
def test_single_workers_beat_and_flower(dealer: Place, redis_url: str, client: redis.Redis) -> None:
    dealer.env |= {"OKASIE_REDIS__URL": redis_url, "OKASIE_CONFIG": str(dealer.config)}
    commands = words(page("deployment"), "celery")
    assert [command[3] for command in commands] == ["worker"] * 4 + ["beat", "flower"]
    supervisor = Supervisor(print)
    try:
        for number, command in enumerate(commands):
            log = dealer.folder / f"{number}.log"
            more = ["--port=0"] if command[3] == "flower" else []  # 5555 may be in use
            argv = [str(BIN / "python"), "-m", *command, *more]
            # The working directory is this one: a checkout is not needed, nor is a celeryconfig.py.
            supervisor.add(Child(command[3], argv, log=log, env=dealer.env))
        poll(lambda: dealer.okasie("status").status == 0, what="a consumer for every queue")
        poll(lambda: b"okasie:beat:okasie-dex-full" in client.keys("okasie:beat:*"), what="Beat's schedule")
        poll(lambda: b'"last_run_at"' in (client.hget("okasie:beat:okasie-watchdog", "meta") or b""), what="a tick")
        poll(lambda: "Connected to redis" in (dealer.folder / "5.log").read_text(), what="Flower's connection")
        assert all(child.alive for child in supervisor.children)
    finally:
        supervisor.stop(20)


def shape(text: str) -> list[str]:
    """Lines with their numbers taken out."""
    return [re.sub(r"[\d.,]*\d", "N", line).rstrip() for line in text.strip().splitlines()]


@pytest.mark.slow
def test_the_demo_prints_what_readme_shows_and_leaves_nothing_behind(tmp_path: Path) -> None:
    mark = uuid4().hex  # tests run side by side: processes are recognised by what they inherit
    (block,) = [b for b in blocks(README, "console") if "make demo" in b]
    ran = subprocess.run(
        [*OKASIE, "demo", "--vehicles", "600"],
        cwd=tmp_path,
        # The user's environment must neither harm the demo nor be changed by it.
        env={
            **os.environ,
            "OKASIE_REDIS__URL": "redis://127.0.0.1:9/0",
            "OKASIE_CONFIG": "/nowhere/okasie.toml",
            "STARTED_BY": mark,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    documented = [re.sub(r" +", " ", line) for line in shape(block.removeprefix("$ make demo\n"))]
    assert [re.sub(r" +", " ", line) for line in shape(ran.stdout)] == documented
    assert "0 differ" in ran.stdout
    assert [process.cmdline() for process in psutil.process_iter() if _started_by(process) == mark] == []
    assert list(tmp_path.iterdir()) == []


def _started_by(process: psutil.Process) -> str:
    try:
        return process.environ().get("STARTED_BY", "")
    except (psutil.Error, OSError):
        return ""
