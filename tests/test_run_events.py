"""The events that make a run one row in Flower, as they leave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery.events.state import State

from okasie_tasks.store.runs import Runs
from okasie_tasks.tasks.run_events import RunEvents, part_label, push_label


class Monitor:
    """Stands for the app and for a monitor: Celery's state machine, which Flower builds on."""

    def __init__(self) -> None:
        self.state, self.kinds, self.hosts = State(), [], set()
        self.events = self
        self.current_worker_task = None

    @contextlib.contextmanager
    def default_dispatcher(self, hostname: str) -> Iterator[Monitor]:
        self.hosts.add(hostname)
        yield self

    def send(self, kind: str, *, uuid: str, retry: bool, **fields: Any) -> None:
        assert not retry
        self.kinds.append(kind)
        moment = float(len(self.kinds))
        event = {"type": kind, "uuid": uuid, "hostname": "w@h", "timestamp": moment, "clock": len(self.kinds)}
        self.state.event({**event, "local_received": moment, **fields})


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


@pytest.fixture
def events(monitor: Monitor) -> RunEvents:
    events = RunEvents(monitor)  # type: ignore[arg-type]
    events.home = "control@here"
    return events


@pytest.fixture
def runs(client: redis.Redis) -> Runs:
    return Runs(client, prefix="okasie:")


def begun(runs: Runs) -> str:
    run, _ = runs.request("dex", "full")
    assert runs.begin("dex") == run
    return run


def test_a_run_at_work_is_progress_and_its_end_replaces_it(runs: Runs, monitor: Monitor, events: RunEvents) -> None:
    run = begun(runs)
    events.publish(runs, run)
    row = monitor.state.tasks[run]
    assert (row.name, row.state, row.args) == ("okasie.run", "PROGRESS", "dex: full run")
    assert row.result == "pages 0/1; 0 requests"
    assert row.kwargs == f"{{'account': 'dex', 'run': '{run}', 'mode': 'full'}}"
    record = runs.get(run)
    assert record is not None
    runs.note(run, error='{"code": "x", "message": "is empty", "where": "dex.csv"}')
    runs.end(record, "failed")
    events.publish(runs, run, now=True)
    row = monitor.state.tasks[run]
    assert (row.state, row.exception) == (
        "FAILURE",
        "dex.csv: is empty; failed: no listings; 0 requests, fewest possible 0",
    )
    assert monitor.hosts == {"control@here"}


def test_a_cancelled_run_does_not_stay_at_work(runs: Runs, monitor: Monitor, events: RunEvents) -> None:
    run = begun(runs)
    events.publish(runs, run)
    record = runs.get(run)
    assert record is not None
    runs.end(record, "cancelled")
    events.publish(runs, run, now=True)
    assert monitor.state.tasks[run].state == "FAILURE"
    assert monitor.state.tasks[run].result.startswith("cancelled: ")


def test_progress_is_published_once_a_second_and_the_end_always(
    runs: Runs, monitor: Monitor, events: RunEvents
) -> None:
    run = begun(runs)
    for _ in range(5):
        events.publish(runs, run)
    assert monitor.kinds == ["task-progress"]
    events.publish(runs, run, now=True)
    assert len(monitor.kinds) == 2


def test_a_plan_and_an_unknown_run_are_not_published(runs: Runs, monitor: Monitor, events: RunEvents) -> None:
    run, _ = runs.request("dex", "full", plan_only=True)
    runs.begin("dex")
    events.publish(runs, run)
    events.publish(runs, "nobody")
    assert monitor.kinds == []


def test_while_redis_is_away_only_the_events_are_lost(monitor: Monitor, events: RunEvents) -> None:
    away = redis.Redis(host="127.0.0.1", port=1)
    events.publish(Runs(away, prefix="okasie:"), "run")
    assert monitor.kinds == []


def test_labels() -> None:
    assert part_label("dex", "walk", 3, 17) == "dex: page 3 of 17"
    assert part_label("dex", "upsert", 1, 0) == "dex: chunk 1"
    assert push_label("dex", "push", ["A", "B"]) == "dex: push of 2: A, B"
    assert push_label("dex", "sell", ["A", "B", "C", "D"]) == "dex: sell of 4: A, B, C, ..."


def test_with_many_active_runs_each_is_published_less_often(
    events: RunEvents, monitor: Monitor, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty accounts, published every second for a minute: ten events a second, not thirty."""
    begun_runs = []
    for number in range(30):
        run, _ = runs.request(f"a{number}", "full")
        runs.begin(f"a{number}")
        begun_runs.append(run)
    now = 1000.0
    monkeypatch.setattr("okasie_tasks.tasks.run_events.time.monotonic", lambda: now)
    for run in begun_runs:
        events.publish(runs, run)
    assert len(monitor.kinds) == 30, "each of them at first"
    for _ in range(60):
        now += 1.0
        for run in begun_runs:
            events.publish(runs, run)
    assert len(monitor.kinds) == 30 + 60 * 10
