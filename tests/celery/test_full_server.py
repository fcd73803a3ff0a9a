"""A server that refuses writes for a while: out of memory, or loading its data."""

from __future__ import annotations

import signal

import redis

from tests.celery.scenario import Scenario
from tests.support import poll


def refusals(client: redis.Redis) -> int:
    return int(client.info("errorstats").get("errorstat_OOM", {}).get("count", 0))


def test_a_worker_waits_for_a_full_server(scenario: Scenario) -> None:
    """It cannot record what it pops. The messages stay queued, and it continues when there is memory."""
    node, client = scenario.nodes["ours-prefork"].ready(), scenario.client("ours-prefork")
    node.signal(signal.SIGKILL)
    for number in range(3):
        scenario.post("ours-prefork", "jobs.hold", node.queue, name=f"full-{number}")
    before = refusals(client)
    room = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", "1kb")
    try:
        node.start()
        poll(lambda: refusals(client) > before + 20 or not node.child.alive, what="many refusals")
    finally:
        client.config_set("maxmemory", room)
    for number in range(3):
        poll(lambda number=number: scenario.noted(f"full-{number}:ended"), what="the task")
    assert node.child.alive
