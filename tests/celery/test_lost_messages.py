"""The pop gap: kombu pops a message from its queue, then records it. A worker that dies in between loses it."""

from __future__ import annotations

import redis

from okasie_tasks.store.runs import Runs
from okasie_tasks.worker.settings import CONTROL
from tests.celery.world import World
from tests.support import poll

PLAIN, OURS = "plain-prefork", "ours-threads"


def test_plain_a_message_popped_by_a_worker_that_dies_is_lost(world: World) -> None:
    queue = world.nodes[PLAIN].queue
    world.lose(PLAIN, lambda: world.post(PLAIN, "jobs.hold", queue, name="gap"))
    assert world.idle(PLAIN), "neither queued nor unacknowledged"
    world.send(PLAIN, "jobs.hold", name="after")
    poll(lambda: world.noted("after:ended") and world.idle(PLAIN), what="the end")
    assert world.noted("gap:begun") == []


def test_ours_the_watchdog_finds_the_part_and_publishes_it_again(world: World) -> None:
    """A run's first page is lost."""
    world.nodes["ours-prefork"].ready()
    world.lose(OURS, lambda: world.post(OURS, "okasie.sync", CONTROL, account="dex", mode="full"))
    assert world.idle(OURS)
    with redis.Redis.from_url(world.server.url) as client:
        runs = Runs(client, prefix=world.settings.redis.key_prefix)
        run = runs.active("dex")
        assert run is not None
        assert runs.parts.stage(run, "first").closed == 0
        world.nodes[OURS].ready()

        def ended() -> bool:
            record = runs.get(run)
            return record is not None and not record.open

        world.post(OURS, "okasie.watchdog", CONTROL)
        poll(ended, what="the end of the run")
        record = runs.get(run)
        assert record is not None
        assert record.state == "done", record
