"""The sample of rounds for continuous integration: each kind of fault at least once, in short waits.

The full set is ``python -m tests.chaos``, see there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import Player
from tests.chaos.faults import FAULTS
from tests.chaos.round import plans_of
from tests.chaos.stalled import stall

SAMPLE = (1, 2, 3, 5, 9, 18, 23, 42, 91, 208, 211)

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


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


def test_a_worker_that_stood_still_for_longer_than_its_leases_finishes_late_and_changes_nothing(player: Player) -> None:
    """For 60 s: ``python -m tests.chaos.stalled``."""
    fleet, account = player.lend()
    assert stall(fleet, account, seconds=9.0, patience_seconds=60.0) == []
