"""Whatever dealers, people and accidents do, in whatever order: what may never happen, and what stands in the end.

The same steps each time. ``MODEL_STEPS=100000 pytest -n 2 tests/sync/test_model.py`` makes a hundred thousand,
``MODEL_SEED=7`` makes others. A failure prints the steps that lead to it, as few as were found; with ``MODEL_QUICK=1`` it
does so at once, with all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.sync.machine import Machine

_STEPS = int(os.environ.get("MODEL_STEPS", "2000"))
_SEED = os.environ.get("MODEL_SEED")
_MOST = 10_000
"""Steps of one test: more are several tests, each with its own seed, so that ``-n 2`` plays two at a time."""
_EACH = 50
"""Steps of one example."""


@pytest.fixture
def machine(client: redis.Redis) -> Iterator[type[Machine]]:
    Machine.plain, Machine.steps, Machine.settled = client, 0, 0
    yield Machine


@pytest.mark.slow
@pytest.mark.timeout(max(1800, _STEPS))
@pytest.mark.parametrize("part", range(-(-_STEPS // _MOST)))
def test_the_system_keeps_its_laws(machine: type[Machine], part: int) -> None:
    checks = list(HealthCheck)
    steps = min(_MOST, _STEPS - part * _MOST)
    chosen = None if _SEED is None and not part else int(_SEED or 0) + part
    plan = settings(
        settings.get_profile("house"), max_examples=-(-steps * 3 // 2 // _EACH), stateful_step_count=_EACH, database=None,
        suppress_health_check=checks, derandomize=chosen is None,
        **({"phases": [Phase.generate]} if os.environ.get("MODEL_QUICK") else {}),
    )  # fmt: skip
    run_state_machine_as_test(machine if chosen is None else seed(chosen)(machine), settings=plan)
    assert machine.steps >= steps
    assert machine.settled * _EACH >= steps, "every example ends with the check that nothing is left to do"
