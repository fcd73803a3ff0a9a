"""The ways in which Celery 5.7 on Redis loses a chord with plain settings, and does not with this project's."""

from __future__ import annotations

import time

import pytest

from tests.celery.jobs import FAULT
from tests.celery.scenario import Scenario
from tests.support import poll

PLAIN, OURS = "plain-prefork", "ours-prefork"


def over(scenario: Scenario, node: str, name: str, *, parts: int) -> None:
    """Wait until this many parts have run and nothing is pending."""
    poll(lambda: len(scenario.noted(f"{name}:parts")) >= parts and scenario.idle(node), what="the end")


def counted(scenario: Scenario, node: str) -> int:
    """Parts that wait to be read for their chord's body."""
    return sum(scenario.client(node).zcard(key) for key in scenario.client(node).keys("celery-taskset-meta-*.j"))


def test_plain_a_child_killed_between_storing_and_counting_leaves_a_chord_that_never_ends(scenario: Scenario) -> None:
    scenario.notes.set(FAULT, "kill between")
    scenario.chord(PLAIN, "a")
    over(scenario, PLAIN, "a", parts=3)
    assert scenario.notes.get(FAULT) is None
    assert "succeeded before the worker was lost" in scenario.nodes[PLAIN].log()
    assert (counted(scenario, PLAIN), scenario.noted("a:bodies")) == (2, []), "the third is never counted"


def test_ours_a_child_killed_between_counting_and_storing_does_its_part_again(scenario: Scenario) -> None:
    scenario.notes.set(FAULT, "kill between")
    scenario.chord(OURS, "a")
    assert poll(lambda: scenario.noted("a:bodies"), what="the body") == ["0,1,2"]
    over(scenario, OURS, "a", parts=4)
    assert scenario.notes.get(FAULT) is None
    assert scenario.noted("a:bodies") == ["0,1,2"]


@pytest.mark.parametrize(
    ("fault", "end"), [("request lost", "FAILURE"), ("join lost", "FAILURE"), ("answer lost", "PENDING")]
)
def test_plain_one_lost_connection_while_counting_loses_the_chord(scenario: Scenario, fault: str, end: str) -> None:
    scenario.notes.set(FAULT, fault)
    body = scenario.chord(PLAIN, "b")
    over(scenario, PLAIN, "b", parts=3)
    assert scenario.notes.get(FAULT) is None
    assert sorted(scenario.noted("b:parts")) == ["0", "1", "2"], "every part was done"
    assert (body.state, scenario.noted("b:bodies")) == (end, [])


@pytest.mark.parametrize("fault", ["request lost", "join lost", "answer lost"])
def test_ours_one_lost_connection_while_counting_is_repaired(scenario: Scenario, fault: str) -> None:
    scenario.notes.set(FAULT, fault)
    scenario.chord(OURS, "b")
    assert poll(lambda: scenario.noted("b:bodies"), what="the body") == ["0,1,2"]
    over(scenario, OURS, "b", parts=3)
    assert scenario.notes.get(FAULT) is None
    assert sorted(scenario.noted("b:parts")) == ["0", "1", "2"]
    assert scenario.noted("b:bodies") == ["0,1,2"]


def test_a_server_away_for_four_seconds_while_parts_end(scenario: Scenario) -> None:
    """The parts end while the server is away."""
    end = scenario.folder / "the-parts-end"
    body = scenario.chord(PLAIN, "c-plain", parts=2, until=str(end))
    scenario.chord(OURS, "c-ours", parts=2, until=str(end))
    poll(lambda: len(scenario.noted("c-plain:parts") + scenario.noted("c-ours:parts")) == 4, what="the parts at work")
    scenario.kill_redis()
    end.touch()
    killed = time.monotonic()
    poll(lambda: time.monotonic() > killed + 4, what="four seconds")
    scenario.start_redis()
    assert poll(lambda: scenario.noted("c-ours:bodies"), what="the body") == ["0,1"]
    poll(lambda: scenario.idle(PLAIN) and scenario.idle(OURS), what="the end")
    assert (body.state, scenario.noted("c-plain:bodies")) == ("FAILURE", [])
    assert scenario.noted("c-ours:bodies") == ["0,1"]
