"""What comes together goes together: how long the urgent lane's sender waits before its first request."""

from __future__ import annotations

from random import Random

import pytest
import redis

from okasie_tasks.urgent.accept import accept_push
from okasie_tasks.urgent.sender import Sender
from tests.sync.market import raw_listing
from tests.sync.world import ANCHOR, World


@pytest.fixture
def world(client: redis.Redis) -> World:
    found = World(client, 0)
    found.inventory.prices[ANCHOR] = 1
    return found


def sent(world: World, *, arriving: int, announced: int = 0) -> tuple[list[int], float]:
    """Sizes of the requests, and how long the sender slept, while one more push comes in each of its first waits.

    ``announced``: looks at which a worker has received one that is not in the inbox yet.
    """
    slept, looks = [], iter(range(announced, 0, -1))

    def accept(number: int) -> None:
        accept_push(world.plain, f"push-{number}", listings=[raw_listing(f"R{number}", 100 + number)])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) <= arriving:
            accept(len(slept))

    accept(0)
    Sender(world.plain, "sender", rng=Random(0), sleep=sleep, coming=lambda: next(looks, 0)).run()
    return [len(request.references) for request in world.market.writes], sum(slept)


def test_a_push_alone_waits_for_a_moment(world: World) -> None:
    sizes, slept = sent(world, arriving=0)
    assert sizes == [1]
    assert 0 < slept <= 0.1


def test_pushes_that_come_while_it_waits_are_in_its_request(world: World) -> None:
    sizes, _ = sent(world, arriving=2)
    assert sizes == [3]


def test_it_waits_for_what_is_announced(world: World) -> None:
    alone, waited = sent(world, arriving=0, announced=2)
    assert alone == [1]
    assert waited > 0.1


def test_it_never_waits_for_long_however_many_come(world: World) -> None:
    sizes, slept = sent(world, arriving=100, announced=100)
    assert sizes[0] >= 3
    assert slept <= 0.5
