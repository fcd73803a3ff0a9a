"""The sample of rounds for continuous integration: each kind of fault at least once, in short waits.

The full set is ``python -m tests.chaos``, see there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import Player
from tests.chaos.faults import FAULTS
from tests.chaos.round import plans_of
from tests.chaos.scripted import SCRIPTS

SAMPLE = (1, 2, 3, 5, 9, 18, 23, 42, 91, 208, 211)
IN_CI = ("worker_stalled", "request_lost", "message_doubled", "cursor_moved")
"""The rounds lose messages in any case."""

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    """One that has a fleet as long as there is none that a round has spoilt."""
    found = Player(quick=True)
    yield found
    found.stop()


def test_the_sample_has_every_kind_of_fault() -> None:
    assert {plan.fault for seed in SAMPLE for plan in plans_of(seed)} == set(FAULTS)


@pytest.mark.parametrize("seed", SAMPLE)
def test_a_round(player: Player, seed: int) -> None:
    result = player.play(seed)
    assert result.wrong == [], f"play it again: python -m tests.chaos --quick --seed {seed}"


@pytest.mark.parametrize("name", IN_CI)
def test_an_accident(player: Player, name: str) -> None:
    """For 60 s of the first: ``python -m tests.chaos.stalled``. What each is for: ``tests/chaos/mutations.py``."""
    assert player.play_script(SCRIPTS[name]) == []
