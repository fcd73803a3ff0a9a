"""What comes together goes together: how long the urgent lane's sender waits before its first request."""

from __future__ import annotations

from random import Random

import pytest
import redis

from okasie_tasks.urgent.accept import accept_push
from okasie_tasks.urgent.sender import Sender
from tests.sync.market import raw_listing
from tests.sync.scenario import ANCHOR, Scenario


@pytest.fixture
def scenario(client: redis.Redis) -> Scenario:
    found = Scenario(client, 0)
    found.inventory.prices[ANCHOR] = 1
    return found


def sent(scenario: Scenario, *, arriving: int, announced: int = 0) -> tuple[list[int], float]:
    """Sizes of the requests, and how long the sender slept, while one more push comes in each of its first waits.

    ``announced``: looks at which a worker has received one that is not in the urgent queue yet.
    """
    slept, looks = [], iter(range(announced, 0, -1))

    def accept(number: int) -> None:
        accept_push(scenario.plain, f"push-{number}", listings=[raw_listing(f"R{number}", 100 + number)])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) <= arriving:
            accept(len(slept))

    accept(0)
    Sender(scenario.plain, "sender", rng=Random(0), sleep=sleep, coming=lambda: next(looks, 0)).run()
    return [len(request.references) for request in scenario.market.writes], sum(slept)


def test_a_push_alone_waits_for_a_moment(scenario: Scenario) -> None:
    sizes, slept = sent(scenario, arriving=0)
    assert sizes == [1]
    assert 0 < slept <= 0.1


def test_pushes_that_come_while_it_waits_are_in_its_request(scenario: Scenario) -> None:
    sizes, _ = sent(scenario, arriving=2)
    assert sizes == [3]


def test_it_waits_for_what_is_announced(scenario: Scenario) -> None:
    alone, waited = sent(scenario, arriving=0, announced=2)
    assert alone == [1]
    assert waited > 0.1


def test_it_never_waits_for_long_however_many_come(scenario: Scenario) -> None:
    sizes, slept = sent(scenario, arriving=100, announced=100)
    assert sizes[0] >= 3
    assert slept <= 0.5
