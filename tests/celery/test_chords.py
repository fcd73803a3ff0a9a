"""The ways in which Celery 5.7 on Redis loses a chord with plain settings, and does not with this project's."""

from __future__ import annotations

import time

import pytest

from tests.celery.jobs import FAULT
from tests.celery.world import World
from tests.support import poll

PLAIN, OURS = "plain-prefork", "ours-prefork"


def over(world: World, node: str, name: str, *, parts: int) -> None:
    """Wait until this many parts have run and nothing is pending."""
    poll(lambda: len(world.noted(f"{name}:parts")) >= parts and world.idle(node), what="the end")


def counted(world: World, node: str) -> int:
    """Parts that wait to be read for their chord's body."""
    return sum(world.client(node).zcard(key) for key in world.client(node).keys("celery-taskset-meta-*.j"))


def test_plain_a_child_killed_between_storing_and_counting_leaves_a_chord_that_never_ends(world: World) -> None:
    world.notes.set(FAULT, "kill between")
    world.chord(PLAIN, "a")
    over(world, PLAIN, "a", parts=3)
    assert world.notes.get(FAULT) is None
    assert "succeeded before the worker was lost" in world.nodes[PLAIN].log()
    assert (counted(world, PLAIN), world.noted("a:bodies")) == (2, []), "the third is never counted"


def test_ours_a_child_killed_between_counting_and_storing_does_its_part_again(world: World) -> None:
    world.notes.set(FAULT, "kill between")
    world.chord(OURS, "a")
    assert poll(lambda: world.noted("a:bodies"), what="the body") == ["0,1,2"]
    over(world, OURS, "a", parts=4)
    assert world.notes.get(FAULT) is None
    assert world.noted("a:bodies") == ["0,1,2"]


@pytest.mark.parametrize(
    ("fault", "end"), [("request lost", "FAILURE"), ("join lost", "FAILURE"), ("answer lost", "PENDING")]
)
def test_plain_one_lost_connection_while_counting_loses_the_chord(world: World, fault: str, end: str) -> None:
    world.notes.set(FAULT, fault)
    body = world.chord(PLAIN, "b")
    over(world, PLAIN, "b", parts=3)
    assert world.notes.get(FAULT) is None
    assert sorted(world.noted("b:parts")) == ["0", "1", "2"], "every part was done"
    assert (body.state, world.noted("b:bodies")) == (end, [])


@pytest.mark.parametrize("fault", ["request lost", "join lost", "answer lost"])
def test_ours_one_lost_connection_while_counting_is_repaired(world: World, fault: str) -> None:
    world.notes.set(FAULT, fault)
    world.chord(OURS, "b")
    assert poll(lambda: world.noted("b:bodies"), what="the body") == ["0,1,2"]
    over(world, OURS, "b", parts=3)
    assert world.notes.get(FAULT) is None
    assert sorted(world.noted("b:parts")) == ["0", "1", "2"]
    assert world.noted("b:bodies") == ["0,1,2"]


def test_a_server_away_for_four_seconds_while_parts_end(world: World) -> None:
    """The parts end while the server is away."""
    end = world.folder / "the-parts-end"
    body = world.chord(PLAIN, "c-plain", parts=2, until=str(end))
    world.chord(OURS, "c-ours", parts=2, until=str(end))
    poll(lambda: len(world.noted("c-plain:parts") + world.noted("c-ours:parts")) == 4, what="the parts at work")
    world.kill_redis()
    end.touch()
    killed = time.monotonic()
    poll(lambda: time.monotonic() > killed + 4, what="four seconds")
    world.start_redis()
    assert poll(lambda: world.noted("c-ours:bodies"), what="the body") == ["0,1"]
    poll(lambda: world.idle(PLAIN) and world.idle(OURS), what="the end")
    assert (body.state, world.noted("c-plain:bodies")) == ("FAILURE", [])
    assert world.noted("c-ours:bodies") == ["0,1"]
