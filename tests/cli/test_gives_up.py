"""A command whose request no worker takes up, though workers answer: it ends with status 5, and nothing is sent later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings import configuration_hash, load_settings
from okasie_tasks.store.workers import Workers
from tests.support import Place

RUN = """\
import sys
from okasie_tasks.cli import fleet_client, push_client, run_client
for module in (fleet_client, push_client, run_client):
    module.unattended, module.GIVE_UP_SECONDS = lambda *queues: [], 0.2
fleet_client._TAKEN_UP_SECONDS = 0.1
from okasie_tasks.cli import main
sys.argv[0] = "okasie"
main()
"""


def run(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", RUN, *words]
    return subprocess.run(
        argv, cwd=place.folder, env=place.env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def place(tmp_path: Path, redis_url: str, client: redis.Redis) -> Place:
    found = Place(tmp_path)
    found.env |= {"OKASIE_REDIS__URL": redis_url, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    write_csv(tmp_path / "dex.csv", cars(3, seed=1))
    found.account("dex", feed="dex.csv", base_url="http://127.0.0.1:1", key="secret")
    return found


@pytest.mark.parametrize("words", [("push", "dex", "DG-00001"), ("sell", "dex", "DG-00001"), ("sync", "dex")])
def test_a_request_that_nobody_takes_up_is_withdrawn(place: Place, client: redis.Redis, words: tuple[str, ...]) -> None:
    done = run(place, *words)
    assert done.returncode == 5, done.stderr
    assert "no worker took" in done.stderr
    assert "Traceback" not in done.stderr
    if words[0] == "sync":
        (record,) = [key for key in client.keys("okasie:run:*") if client.hexists(key, "state")]
        assert client.hget(record, "state") == b"cancelled"
    else:
        assert any(client.hexists(key, "withdrawn") for key in client.keys("okasie:push:*"))
        assert not client.exists("okasie:outbox")


@pytest.mark.parametrize("words", [("push", "dex", "DG-00001"), ("plan", "dex"), ("sync", "dex", "--no-wait")])
def test_workers_with_another_configuration_are_named_once(
    place: Place, client: redis.Redis, words: tuple[str, ...]
) -> None:
    """The file was edited while `okasie up` runs: only `okasie status` said so."""
    workers = Workers(client, prefix="okasie:")
    workers.beat("control@old", ["okasie.control"], "0123456789ab")
    workers.beat("api@new", ["okasie.api"], configuration_hash(load_settings(place.config, place.env)))
    warning = f"1 of 2 workers run with another configuration than {place.config}, and a run uses theirs: restart"
    assert run(place, *words).stderr.count(warning) == 1
    workers.stopped("control@old")
    assert "another configuration" not in run(place, *words).stderr


def test_a_run_of_somebody_else_that_nobody_takes_up_stays_queued(place: Place, client: redis.Redis) -> None:
    asked = run(place, "sync", "dex", "--no-wait").stdout.strip()
    done = run(place, "sync", "--follow", asked)
    assert (done.returncode, "it stays queued" in done.stderr) == (5, True), done.stderr
    assert client.hget(f"okasie:run:{asked}", "state") == b"queued"


def test_no_wait_says_queued_only_when_the_outbox_holds_the_request(place: Place, client: redis.Redis) -> None:
    done = run(place, "push", "dex", "DG-00001", "--no-wait", "--json")
    assert '"state": "queued"' in done.stdout
    assert client.hlen("okasie:outbox") == 1
