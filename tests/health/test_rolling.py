"""A rolling restart under saturation, once; ``python -m tests.health.rolling`` does it more often, and for the quota."""

from __future__ import annotations

import pytest

from tests.health.rolling import roll

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_rolling_restart_costs_no_request_and_fails_no_part() -> None:
    outcome = roll(1, sells=90, per_minute=300)
    assert (outcome.state, outcome.failed, outcome.refused) == ("done", 0, 0)
    assert outcome.requests == outcome.fewest
    assert outcome.restarts == 5
