"""A broker that delivers every message three times, retries included. Timings: ``python -m tests.chaos.multiplied``."""

from __future__ import annotations

import pytest

from tests.chaos.multiplied import play

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_messages_that_are_delivered_again_after_each_failover_cost_little() -> None:
    """The connections of all workers are cut four times, and the broker returns what they hold."""
    cut = play(1, failovers=4)
    assert cut.state == "done"
    assert cut.messages <= 300, cut


def test_three_copies_of_every_message_cost_three_deliveries_each_and_no_request() -> None:
    once, three = play(1), play(3)
    assert (once.state, three.state) == ("done", "done")
    assert once.requests == 46
    assert three.requests <= 47, "a stalled machine may lose a claim"
    assert three.messages <= 300, (once, three)
