"""The pop gap: kombu pops a message from its queue, then records it. A worker that dies in between loses it."""

from __future__ import annotations

import redis

from okasie_tasks.store.runs import Runs
from okasie_tasks.worker.settings import CONTROL
from tests.celery.scenario import Scenario
from tests.support import poll

PLAIN, OURS = "plain-prefork", "ours-threads"


def test_plain_a_message_popped_by_a_worker_that_dies_is_lost(scenario: Scenario) -> None:
    queue = scenario.nodes[PLAIN].queue
    scenario.lose(PLAIN, lambda: scenario.post(PLAIN, "jobs.hold", queue, name="gap"))
    assert scenario.idle(PLAIN), "neither queued nor unacknowledged"
    scenario.send(PLAIN, "jobs.hold", name="after")
    poll(lambda: scenario.noted("after:ended") and scenario.idle(PLAIN), what="the end")
    assert scenario.noted("gap:begun") == []


def test_ours_the_watchdog_finds_the_part_and_publishes_it_again(scenario: Scenario) -> None:
    """A run's first page is lost."""
    scenario.nodes["ours-prefork"].ready()
    scenario.lose(OURS, lambda: scenario.post(OURS, "okasie.sync", CONTROL, account="dex", mode="full"))
    assert scenario.idle(OURS)
    with redis.Redis.from_url(scenario.server.url) as client:
        runs = Runs(client, prefix=scenario.settings.redis.key_prefix)
        run = runs.active("dex")
        assert run is not None
        assert runs.parts.stage(run, "first").closed == 0
        scenario.nodes[OURS].ready()

        def ended() -> bool:
            record = runs.get(run)
            return record is not None and not record.open

        scenario.post(OURS, "okasie.watchdog", CONTROL)
        poll(ended, what="the end of the run")
        record = runs.get(run)
        assert record is not None
        assert record.state == "done", record
