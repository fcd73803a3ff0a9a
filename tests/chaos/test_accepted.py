"""A sample of the rounds in which accepted requests meet killed processes; all: ``python -m tests.chaos.accepted``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.accepted import VICTIMS, Deaths, Rounds, fleet

pytestmark = [pytest.mark.system, pytest.mark.slow]

SAMPLE = range(1, 6)


@pytest.fixture(scope="module")
def rounds() -> Iterator[Rounds]:
    with fleet() as running:
        yield Rounds(running)


def test_the_sample_kills_each_kind_of_process() -> None:
    killed = {name for seed in SAMPLE for _, name in Deaths.of(seed).moments}
    assert killed >= {"web", "redis", "urgent"}
    assert killed <= set(VICTIMS)


@pytest.mark.parametrize("seed", SAMPLE)
def test_an_accepted_request_is_neither_lost_nor_applied_twice(rounds: Rounds, seed: int) -> None:
    assert not rounds.play(seed), f"play it again: python -m tests.chaos.accepted --rounds 1 --start {seed}"
