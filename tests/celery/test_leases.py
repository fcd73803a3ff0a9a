"""A message whose task takes longer than the visibility timeout, and one whose worker dies."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from okasie_tasks.worker.bootsteps import Leases, held
from okasie_tasks.worker.settings import SETTINGS
from tests.celery.ours import SWEEP_SECONDS, VISIBLE_SECONDS
from tests.celery.scenario import Scenario
from tests.support import poll

LONG_SECONDS = VISIBLE_SECONDS + 2 * SWEEP_SECONDS
"""By then a message whose lease is not renewed is taken from its worker."""
HASTY = ("hasty-prefork", "hasty-threads")
OURS = ("ours-prefork", "ours-threads")


@pytest.fixture
def end(tmp_path: Path) -> Path:
    """The file that the tasks wait for. So they last as long as the test needs, however slow the machine is."""
    return tmp_path / "the-tasks-end"


def hold(scenario: Scenario, end: Path, *nodes: str) -> None:
    """Let each of these workers run a task that lasts until the file ``end`` exists."""
    for node in nodes:
        scenario.send(node, "jobs.hold", name=node, until=str(end))
    poll(lambda: all(scenario.noted(f"{node}:begun") for node in nodes), what="the beginning")


def outlast_the_timeout() -> None:
    began = time.monotonic()
    poll(lambda: time.monotonic() > began + LONG_SECONDS, what="a time in which the leases were renewed")


def begun(scenario: Scenario, *nodes: str) -> list[int]:
    """How often the task of each node began."""
    return [len(scenario.noted(f"{node}:begun")) for node in nodes]


def test_a_long_task_runs_once_with_leases_and_more_than_once_without(scenario: Scenario, end: Path) -> None:
    nodes = (*HASTY, *OURS)
    hold(scenario, end, *nodes)
    outlast_the_timeout()
    poll(lambda: min(begun(scenario, *HASTY)) > 1, what="a second beginning where there are no leases")
    end.touch()
    for node in nodes:
        poll(lambda node=node: scenario.noted(f"{node}:ended") and scenario.idle(node), what=f"the end at {node}")
    assert begun(scenario, *OURS) == [1, 1]


def test_a_dead_workers_message_comes_again(scenario: Scenario, end: Path) -> None:
    """Long after its beginning: the lease was renewed, and is not any more."""
    name = "ours-prefork"
    hold(scenario, end, name)
    outlast_the_timeout()
    assert begun(scenario, name) == [1]
    scenario.nodes[name].signal(signal.SIGKILL)
    scenario.nodes[name].start()
    poll(lambda: begun(scenario, name) == [2], what="the second beginning")
    end.touch()
    poll(lambda: scenario.noted(f"{name}:ended") and scenario.idle(name), what="the end")
    assert begun(scenario, name) == [2]


def test_a_warm_shutdown_keeps_what_it_waits_for(scenario: Scenario, end: Path) -> None:
    """While another worker sweeps, and would take it."""
    hold(scenario, end, *OURS)
    ending = [process for name in OURS if (process := scenario.nodes[name].child.process)]
    for process in ending:
        process.send_signal(signal.SIGTERM)
    others = [scenario.beside(name) for name in OURS]
    try:
        outlast_the_timeout()
        end.touch()
        for process in ending:
            process.wait(60)
        assert [len(scenario.noted(f"{name}:ended")) for name in OURS] == [1, 1]
        poll(lambda: all(scenario.idle(name) for name in OURS), what="the end")
        assert begun(scenario, *OURS) == [1, 1]
    finally:
        for other in others:
            other.signal(signal.SIGKILL)


def test_workers_outlive_the_loss_of_their_server_while_tasks_run(scenario: Scenario, end: Path) -> None:
    for name in OURS:
        scenario.nodes[name].ready()
    pids = [scenario.nodes[name].pid for name in OURS]
    hold(scenario, end, *OURS)
    scenario.kill_redis()
    scenario.start_redis()
    end.touch()
    poll(lambda: all(scenario.noted(f"{name}:ended") and scenario.idle(name) for name in OURS), what="the end")
    for name in OURS:
        scenario.send(name, "jobs.hold", name=f"next-{name}")
        poll(lambda name=name: scenario.noted(f"next-{name}:ended"), what="the next task")
    assert [scenario.nodes[name].pid for name in OURS] == pids
    assert all(scenario.nodes[name].child.alive for name in OURS)


def test_what_is_held_are_the_channels_messages_and_what_runs_from_before_a_reconnect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SimpleNamespace(message=SimpleNamespace(delivery_tag="old"))
    monkeypatch.setattr("celery.worker.state.requests", {"some-id": old})
    channel = SimpleNamespace(qos=SimpleNamespace(_delivered={"new": object()}))
    assert held(SimpleNamespace(task_consumer=SimpleNamespace(channel=channel))) == {"old", "new"}
    assert held(SimpleNamespace(task_consumer=None)) == {"old"}, "between two connections"


def test_a_message_is_not_held_indefinitely() -> None:
    now = 0.0
    leases = Leases(longest_seconds=10, clock=lambda: now)
    assert leases.due(["a"]) == ["a"]
    now = 9
    assert leases.due(["a", "b"]) == ["a", "b"]
    now = 11
    assert leases.due(["a", "b"]) == ["b"], "a child that hangs must not keep it"
    assert leases.due(["b"]) == ["b"]
    assert leases.due(["a"]) == ["a"], "it was returned and delivered again"


def test_the_visibility_timeout_is_the_same_wherever_it_is_set() -> None:
    broker, backend = SETTINGS["broker_transport_options"], SETTINGS["result_backend_transport_options"]
    assert broker["visibility_timeout"] == backend["visibility_timeout"]
