"""A sample of the rounds in which a producer loses its message; all of them: ``python -m tests.chaos.producers``."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.chaos.producers import MOMENTS, PRODUCERS, Rounds, fleet, plan_of

pytestmark = [pytest.mark.system, pytest.mark.slow]

SAMPLE = range(1, 11)


@pytest.fixture(scope="module")
def rounds() -> Iterator[Rounds]:
    with fleet() as running:
        yield Rounds(running)


def test_the_sample_has_every_producer_and_every_moment() -> None:
    plans = [plan_of(Random(f"producers:{seed}")) for seed in SAMPLE]
    assert {plan[0] for plan in plans} == set(PRODUCERS)
    assert {plan[2] for plan in plans} == set(MOMENTS)


@pytest.mark.parametrize("seed", SAMPLE)
def test_a_request_whose_message_is_lost_is_executed(rounds: Rounds, seed: int) -> None:
    assert not rounds.play(seed), f"play it again: python -m tests.chaos.producers --rounds 1 --start {seed}"
