"""A pool's child that dies with its task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from okasie_tasks.worker.bootsteps import CHILD_CHECK_SECONDS, ChildWatch
from tests.celery.scenario import Scenario
from tests.support import poll


def test_a_message_that_killed_its_process_is_retried_after_a_moment(scenario: Scenario) -> None:
    scenario.send("ours-prefork", "jobs.die", name="dies")
    poll(lambda: len(scenario.noted("dies:times")) == 2, what="the second time")
    poll(lambda: scenario.idle("ours-prefork"), what="the end")
    assert "Retry in 0.5s: WorkerLostError" in scenario.nodes["ours-prefork"].log(), "and not after 180 s"
    assert len(scenario.noted("dies:times")) == 2


def test_the_pool_is_checked_all_the_time() -> None:
    timers: list[tuple[float, Any]] = []
    hub = SimpleNamespace(call_repeatedly=lambda seconds, what: timers.append((seconds, what)))
    pool = SimpleNamespace(maintain_pool=object())
    step = ChildWatch(SimpleNamespace())
    step.start(SimpleNamespace(hub=hub, pool=SimpleNamespace(_pool=pool)))
    assert timers == [(CHILD_CHECK_SECONDS, pool.maintain_pool)]
    step.start(SimpleNamespace(hub=hub, pool=SimpleNamespace()))
    step.start(SimpleNamespace(hub=None, pool=SimpleNamespace(_pool=pool)))
    assert len(timers) == 1, "threads have no children, and without an event loop there is no timer"
