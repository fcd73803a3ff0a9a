"""An account that the workers do not know: they answer at once, it is shown, and a reload makes it known."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery

from okasie_tasks.client import Client
from okasie_tasks.local.fleet import WORKERS
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.requests import Requests
from tests.support import Place, Up, poll

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key("old-secret", "old"), Key("new-secret", "new")], limit=0) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox) -> Place:
    found = Place(tmp_path)
    write_csv(tmp_path / "feed.csv", cars(10, seed=5))
    found.account("old", feed="feed.csv", base_url=sandbox.base_url, key="old-secret")
    return found


def add_account(place: Place, sandbox: Sandbox) -> None:
    place.account("new", feed="feed.csv", base_url=sandbox.base_url, key="new-secret")


def workers(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = place.okasie("status", "--json").document["workers"]
    return found


def test_an_account_that_was_added_later_is_answered_shown_and_known_after_a_reload(
    place: Place, sandbox: Sandbox
) -> None:
    with Up(place) as up:
        assert place.sync("old", "--full")[0] == 0
        assert [w["same_configuration"] for w in workers(place)] == [True] * len(WORKERS)
        assert "another configuration" not in place.okasie("status").stdout
        assert f"{len(WORKERS)} run this configuration" in place.okasie("doctor").stdout
        add_account(place, sandbox)

        status, document = place.sync("new")
        assert (status, document["state"], document["error"]["code"]) == (2, "failed", "unknown_account")
        message = document["error"]["message"]
        assert "does not know the account 'new', only old" in message
        assert "send SIGHUP to `okasie up`" in message
        assert f"{len(WORKERS)} of {len(WORKERS)} workers run with another configuration" in place.said[-1].stderr

        answer = place.okasie("push", "new", "DG-00001", "DG-00002", "--json")
        assert answer.status == 1
        assert [row["outcome"] for row in answer.document["listings"]] == ["failed", "failed"]
        assert "does not know the account 'new'" in answer.document["listings"][0]["message"]
        answer = place.okasie("sell", "new", "DG-00001", "--json")
        assert (answer.status, answer.document["listings"][0]["outcome"]) == (1, "failed")
        assert_inline_push_fails(place)
        assert_each_is_counted_and_shown(place)

        assert [w["same_configuration"] for w in workers(place)] == [False] * len(WORKERS)
        assert "runs another configuration than this command" in place.okasie("status").stdout
        doctor = place.okasie("doctor")
        assert doctor.status == 1
        assert "another configuration than" in doctor.stdout

        reload(up, place)
        assert place.sync("new", "--full")[0] == 0
        assert place.okasie("push", "new", "DG-00001").status == 0
        assert f"{len(WORKERS)} run this configuration" in place.okasie("doctor").stdout
        assert_workers_that_differ_end_the_run(place, up)


def assert_workers_that_differ_end_the_run(place: Place, up: Up) -> None:
    """The account is removed from the file, and the `api` workers start again: the others still know it, as this command."""
    full = place.folder / "full.toml"
    full.write_text(place.config.read_text())
    place.config.write_text(full.read_text().split("[accounts.new]")[0])
    names = {name for name in WORKERS if name.startswith("api")}
    for pid in celery_processes(up):
        if names & {word.removesuffix("@%h") for word in psutil.Process(pid).cmdline()}:
            psutil.Process(pid).kill()

    def differing() -> set[str]:
        answer = place.okasie("--config", str(full), "status", "--json")
        return {w["name"].split("@")[0] for w in answer.document["workers"] if not w["same_configuration"]}

    poll(lambda: differing() == names, what="workers with another configuration")
    answer = place.okasie("--config", str(full), "sync", "new", "--full", "--json")
    document = answer.document
    assert (answer.status, document["state"], document["error"]["code"]) == (2, "failed", "unknown_account")
    assert document["requests"]["bulk"] == 0


def assert_each_is_counted_and_shown(place: Place) -> None:
    """Also the messages that nobody waits for: the one that continues a queue, and the one that resumes an account."""
    url = find_embedded(place.folder / ".okasie")
    assert url is not None
    with Celery("theirs", broker=url.replace("unix://", "redis+socket://"), set_as_current=False) as theirs:
        theirs.send_task("okasie.send_urgent", kwargs={"account": "new"}, queue="okasie.urgent")
        theirs.send_task("okasie.resume", kwargs={"account": "new"}, queue="okasie.control")

    def discarded() -> dict[str, Any]:
        found: dict[str, Any] = place.okasie("status", "--json").document["discarded"]
        return found

    poll(lambda: discarded()["total"]["unknown_account"] == 6, what="six discarded requests")
    tasks = sorted(request["task"] for request in discarded()["last"])
    assert tasks == ["okasie.push", "okasie.push", "okasie.resume", "okasie.sell", "okasie.send_urgent"]
    assert {(r["account"], r["cause"]) for r in discarded()["last"]} == {("new", "unknown_account")}
    assert "discarded requests: 6 unknown account; the last one, okasie." in place.okasie("status").stdout
    assert 'okasie_discarded_requests_total{cause="unknown_account"} 6' in place.okasie("metrics", "--once").stdout


def assert_inline_push_fails(place: Place) -> None:
    url = find_embedded(place.folder / ".okasie")
    assert url is not None
    push = Client(url).push("new", listings=[{"externalReference": "DG-00003"}, {"price": 1}])
    with redis.Redis.from_url(url) as client:
        pushes = Requests(client, prefix="okasie:")
        outcomes = poll(lambda: pushes.get(push).outcomes, what="the outcome")
    assert {name: outcome.outcome for name, outcome in outcomes.items()} == {"DG-00003": "failed"}


def celery_processes(up: Up) -> set[int]:
    found = set()
    for process in psutil.Process(up.process.pid).children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if {"worker", "beat"} & set(process.cmdline()):
                found.add(process.pid)
    return found


def reload(up: Up, place: Place) -> None:
    before = celery_processes(up)
    up.process.send_signal(signal.SIGHUP)
    poll(lambda: len(now := celery_processes(up)) == len(WORKERS) + 1 and not now & before, what="new workers and Beat")
    poll(lambda: place.okasie("status").status == 0, what="workers that consume")
    assert "ended (status" not in up.said()


def test_an_invalid_file_is_reported_and_the_workers_stay(place: Place) -> None:
    with Up(place) as up:
        before, good = celery_processes(up), place.config.read_text()
        place.config.write_text(good + '\n[accounts.broken]\nconflict = "maybe"\n')
        up.process.send_signal(signal.SIGHUP)
        said = poll(lambda: up.said() if "not reloaded" in up.said() else "", what="the report")
        assert "accounts.broken.conflict: got 'maybe'" in said
        place.config.write_text('[redis]\nkey_prefix = "other:"\n' + good)
        up.process.send_signal(signal.SIGHUP)
        poll(lambda: "[redis] has changed: restart" in up.said(), what="the report")
        place.config.write_text(good)
        assert celery_processes(up) == before
        assert place.sync("old", "--full")[0] == 0


def test_a_sandbox_gets_the_account_too(place: Place) -> None:
    with Up(place, "--sandbox") as up:
        assert [w["same_configuration"] for w in workers(place)] == [True] * len(WORKERS)
        place.account("new", feed="feed.csv", base_url="https://www.okasie.be/api/external/v1", key="env:NOBODYS")
        reload(up, place)
        assert place.sync("new", "--full")[0] == 0
