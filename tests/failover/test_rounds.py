"""The sample of rounds for continuous integration; the full set is ``python -m tests.failover --rounds 20``."""

from __future__ import annotations

import pytest

from tests.failover.__main__ import play
from tests.failover.round import FAULTS

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_failover_that_loses_writes() -> None:
    """Seed 2: of the faults, the one that takes the last writes with it."""
    assert list(FAULTS)[2] == "lose_seconds"
    assert [result.wrong for result in play([2])] == [[], []], "play it again: python -m tests.failover --start 2"
