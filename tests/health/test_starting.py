"""A worker that waits before it consumes, for minutes: it is alive all the time, and consumes only afterwards."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from okasie_tasks.health.verdict import problems
from okasie_tasks.worker import bootsteps
from okasie_tasks.worker import health as worker_health
from okasie_tasks.worker.health import Reporter, migrates


@pytest.fixture
def consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings = SimpleNamespace(redis=SimpleNamespace(state_dir=tmp_path))
    monkeypatch.setattr(worker_health, "process_settings", lambda: settings)
    monkeypatch.setattr(worker_health, "configuration_hash", lambda _: "c")
    queues = SimpleNamespace(consume_from={"okasie.api": None})
    app = SimpleNamespace(
        amqp=SimpleNamespace(queues=queues), conf=SimpleNamespace(task_soft_time_limit=300, task_time_limit=330)
    )
    return SimpleNamespace(
        hostname="api@node", app=app, pool=SimpleNamespace(limit=2), restart_count=1, connection=object(),
        broker_connection_retry_attempt=0,
    )  # fmt: skip


def test_a_migration_that_takes_ten_minutes_is_no_hang(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    reporter = Reporter(consumer, clock=lambda: now[0])
    monkeypatch.setattr(worker_health, "_reporters", [reporter])
    for _ in range(600):
        now[0] += 1
        migrates("old@node")
        found = reporter.heartbeat()
        assert (found.state, found.waits_for, list(problems(found, now[0]))) == ("migrating", "old@node", [])
    now[0] += 130
    assert list(problems(reporter.heartbeat(), now[0])), "one that no longer waits is stuck"
    reporter.connected()
    assert (reporter.heartbeat().state, reporter.heartbeat().waits_for) == ("consuming", "")


def test_what_redis_interrupts_before_the_first_message_is_done_after_the_reconnect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def migrate(_: Any) -> None:
        calls.append("migrate")
        if len(calls) == 1:
            raise redis.ConnectionError("a failover")

    monkeypatch.setattr(bootsteps, "_on_first_start", [migrate, lambda _: calls.append("threads")])
    step = bootsteps.FirstStart(SimpleNamespace())
    with pytest.raises(redis.ConnectionError):
        step.start(SimpleNamespace())
    for _ in range(2):
        step.start(SimpleNamespace())
    assert calls == ["migrate", "migrate", "threads"]
