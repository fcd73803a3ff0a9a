"""A message whose task takes longer than the visibility timeout, and one whose worker dies."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest

from okasie_tasks.worker.bootsteps import Leases, held
from okasie_tasks.worker.settings import SETTINGS
from tests.celery.ours import VISIBLE_SECONDS
from tests.celery.world import World
from tests.support import poll

LONG_SECONDS = 1.7 * VISIBLE_SECONDS
OURS = ("ours-prefork", "ours-threads")


def test_a_long_task_runs_once_with_leases_and_more_than_once_without(world: World) -> None:
    nodes = ("hasty-prefork", "hasty-threads", *OURS)
    for node in nodes:
        world.send(node, "jobs.hold", name=node, seconds=LONG_SECONDS)
    for node in nodes:
        poll(lambda node=node: world.noted(f"{node}:ended") and world.idle(node), what=f"the end at {node}")
    runs = {node: len(world.noted(f"{node}:begun")) for node in nodes}
    assert runs["hasty-prefork"] > 1
    assert runs["hasty-threads"] > 1
    assert (runs["ours-prefork"], runs["ours-threads"]) == (1, 1)


def test_a_dead_workers_message_comes_again(world: World) -> None:
    """Long after its beginning: the lease was renewed, and is not any more."""
    node = world.nodes["ours-prefork"]
    world.send("ours-prefork", "jobs.hold", name="taken", seconds=LONG_SECONDS)
    began = time.monotonic()
    poll(lambda: world.noted("taken:begun"), what="the beginning")
    poll(lambda: time.monotonic() > began + 1.2 * VISIBLE_SECONDS, what="a time in which it was renewed")
    assert len(world.noted("taken:begun")) == 1
    node.signal(signal.SIGKILL)
    node.start()
    poll(lambda: len(world.noted("taken:begun")) == 2, what="the second beginning")
    poll(lambda: world.noted("taken:ended") and world.idle("ours-prefork"), what="the end")
    assert len(world.noted("taken:begun")) == 2


def hold(world: World) -> None:
    """Let each of our workers be at a long task."""
    for name in OURS:
        world.send(name, "jobs.hold", name=name, seconds=LONG_SECONDS)
    poll(lambda: all(world.noted(f"{name}:begun") for name in OURS), what="the beginning")


def test_a_warm_shutdown_keeps_what_it_waits_for(world: World) -> None:
    """While another worker sweeps, and would take it."""
    hold(world)
    ending = [process for name in OURS if (process := world.nodes[name].child.process)]
    for process in ending:
        process.send_signal(signal.SIGTERM)
    others = [world.beside(name) for name in OURS]
    try:
        for process in ending:
            process.wait(60)
        assert [len(world.noted(f"{name}:ended")) for name in OURS] == [1, 1]
        poll(lambda: all(world.idle(name) for name in OURS), what="the end")
        assert [len(world.noted(f"{name}:begun")) for name in OURS] == [1, 1]
    finally:
        for other in others:
            other.signal(signal.SIGKILL)


def test_workers_outlive_the_loss_of_their_server_while_tasks_run(world: World) -> None:
    for name in OURS:
        world.nodes[name].ready()
    pids = [world.nodes[name].pid for name in OURS]
    hold(world)
    world.kill_redis()
    world.start_redis()
    poll(lambda: all(world.noted(f"{name}:ended") and world.idle(name) for name in OURS), what="the end")
    for name in OURS:
        world.send(name, "jobs.hold", name=f"next-{name}", seconds=0)
        poll(lambda name=name: world.noted(f"next-{name}:ended"), what="the next task")
    assert [world.nodes[name].pid for name in OURS] == pids
    assert all(world.nodes[name].child.alive for name in OURS)


def test_what_is_held_are_the_channels_messages_and_what_runs_from_before_a_reconnect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SimpleNamespace(message=SimpleNamespace(delivery_tag="old"))
    monkeypatch.setattr("celery.worker.state.requests", {"some-id": old})
    channel = SimpleNamespace(qos=SimpleNamespace(_delivered={"new": object()}))
    assert held(SimpleNamespace(task_consumer=SimpleNamespace(channel=channel))) == {"old", "new"}
    assert held(SimpleNamespace(task_consumer=None)) == {"old"}, "between two connections"


def test_a_message_is_not_held_for_ever() -> None:
    now = 0.0
    leases = Leases(longest_seconds=10, clock=lambda: now)
    assert leases.due(["a"]) == ["a"]
    now = 9
    assert leases.due(["a", "b"]) == ["a", "b"]
    now = 11
    assert leases.due(["a", "b"]) == ["b"], "a child that hangs must not keep it"
    assert leases.due(["b"]) == ["b"]
    assert leases.due(["a"]) == ["a"], "it was given back and came again"


def test_the_visibility_timeout_is_the_same_wherever_it_is_set() -> None:
    broker, backend = SETTINGS["broker_transport_options"], SETTINGS["result_backend_transport_options"]
    assert broker["visibility_timeout"] == backend["visibility_timeout"]
