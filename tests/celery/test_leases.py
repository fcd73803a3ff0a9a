"""A message whose task takes longer than the visibility timeout, and one whose worker dies."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest

from okasie_tasks.celery_lease import Leases, held
from okasie_tasks.celery_settings import SETTINGS
from tests.celery.ours import VISIBLE_SECONDS
from tests.celery.world import World
from tests.support import poll

LONG_SECONDS = 2.5 * VISIBLE_SECONDS


def test_a_long_task_runs_once_with_leases_and_more_than_once_without(world: World) -> None:
    nodes = ("hasty-prefork", "hasty-threads", "ours-prefork", "ours-threads")
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


@pytest.mark.parametrize("name", ["ours-prefork", "ours-threads"])
def test_a_warm_shutdown_keeps_what_it_waits_for(world: World, name: str) -> None:
    node = world.nodes[name]
    world.send(name, "jobs.hold", name=name, seconds=LONG_SECONDS)
    poll(lambda: world.noted(f"{name}:begun"), what="the beginning")
    assert node.child.process is not None
    node.child.process.send_signal(signal.SIGTERM)
    second = world.beside(name)
    try:
        node.child.process.wait(30)
        assert len(world.noted(f"{name}:ended")) == 1
        poll(lambda: world.idle(name), what="the end")
        assert len(world.noted(f"{name}:begun")) == 1
    finally:
        second.signal(signal.SIGKILL)


@pytest.mark.parametrize("name", ["ours-prefork", "ours-threads"])
def test_a_worker_outlives_the_loss_of_its_server_while_a_task_runs(world: World, name: str) -> None:
    world.send(name, "jobs.hold", name=name, seconds=LONG_SECONDS)
    poll(lambda: world.noted(f"{name}:begun"), what="the beginning")
    pid = world.nodes[name].pid
    world.kill_redis()
    world.start_redis()
    poll(lambda: world.noted(f"{name}:ended") and world.idle(name), what="the end")
    world.send(name, "jobs.hold", name="next", seconds=0)
    poll(lambda: world.noted("next:ended"), what="the next task")
    assert world.nodes[name].child.alive
    assert world.nodes[name].pid == pid


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
