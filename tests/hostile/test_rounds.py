"""The sample of hostile rounds for continuous integration; all of them: ``python -m tests.hostile``."""

from __future__ import annotations

import pytest

from tests.hostile.round import excess, play

SAMPLE = range(1, 13)
ONCE_WRONG = (15, 90, 120, 135, 312)
"""Rounds that have gone wrong."""


@pytest.mark.parametrize("seed", [*SAMPLE, *ONCE_WRONG])
def test_a_round(redis_url: str, seed: int) -> None:
    result = play(seed, redis_url)
    assert result.wrong == [], f"play it again: python -m tests.hostile --rounds 1 --seed {seed} --story"


@pytest.mark.slow
def test_a_longer_sample_with_the_fewest_requests(redis_url: str) -> None:
    results = [play(seed, redis_url) for seed in range(100, 130)]
    assert {result.seed: result.wrong for result in results if result.wrong} == {}
    assert excess(results) <= 2.0
