"""Runs, pushes and sells of the same cars, interleaved at random: the newest version always stands at the end.

A round is a seed: it fails again the same way. ``RACE_ROUNDS=500 pytest tests/sync/test_race.py`` plays five hundred,
``RACE_SEED=17`` plays one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations

import pytest
import redis

from okasie_tasks.core.fingerprint import content_fingerprint
from tests.sync.market import SOLD, listing
from tests.sync.oracle import may_stand
from tests.sync.scenario import ANCHOR, Scenario

_ROUNDS = int(os.environ.get("RACE_ROUNDS", "60"))
_BLOCK = 10
_ONE = os.environ.get("RACE_SEED")


def race(client: redis.Redis, seed: int, *, versioned: bool = False) -> Scenario:
    """Some cars are known, some pushed, some sold; then everybody at once."""
    scenario = Scenario(client, seed, versioned=versioned)
    rng = scenario.rng
    kinds = ("given", "read") if versioned else ("given", "read", "sell")
    scenario.inventory.prices[ANCHOR] = scenario.new_price()
    for reference in scenario.references:
        if rng.random() < 0.7:
            scenario.inventory.prices[reference] = scenario.new_price()
    client.hset("okasie:account:dex", "rows", 1)  # so that a run of few cars has one partition
    scenario.quiet_run()
    if rng.random() < 0.5:
        scenario.add_pusher(rng.choices(kinds, k=2))
        scenario.play()
    for _ in range(rng.randint(0, 3)):
        scenario.change(rng)
    scenario.market.losses, scenario.deaths = rng.choice(((0, 0), (0, 0), (1, 0), (2, 0), (0, 1), (1, 1)))
    scenario.market.refusals = rng.choice((0, 3))
    scenario.add_runner(rng.randint(1, 2))
    scenario.add_dealer(rng.randint(0, 5))
    for _ in range(rng.randint(1, 3)):
        scenario.add_pusher(rng.choices(("given", "read"), k=rng.randint(1, 3)))
    for _ in range(0 if versioned else rng.randint(0, 2)):
        scenario.add_pusher(["sell"] * rng.randint(1, 2))
    scenario.play()
    return scenario


def check(scenario: Scenario, when: str) -> None:
    """The newest stands, and the ledger tells of just that."""
    stands, ledger = scenario.market.stands(), scenario.plain.ledger.get(scenario.references)
    said = scenario.statements()
    for reference in scenario.references:
        found, allowed = stands.get(reference, SOLD), may_stand(said[reference])
        told = "\n".join(sorted(map(str, said[reference])))
        assert found in allowed, f"{when}: {reference} stands at {found}, allowed {allowed}, said:\n{told}"
        entry = ledger.get(reference)
        known = SOLD if entry is None else entry.status
        assert known == (SOLD if found == SOLD else "active"), f"{when}: {reference}, ledger {entry}, stands {found}"
        if entry is not None and isinstance(found, int):
            assert entry.content == content_fingerprint(listing(reference, found)), f"{when}: {reference}, {entry}"


def check_versions(scenario: Scenario) -> None:
    """Where each content tells its own version, which is its price, the dearest stands, whenever it was accepted."""
    stands, said = scenario.market.stands(), scenario.statements()
    for reference in scenario.references:
        prices = {statement.price for statement in said[reference] if statement.kind == "given"}
        prices.add(scenario.inventory.prices.get(reference))
        newest = max((price for price in prices if price is not None), default=SOLD)
        told = "\n".join(sorted(map(str, said[reference])))
        assert stands.get(reference, SOLD) == newest, f"{reference} stands at {stands.get(reference)}, said:\n{told}"


def check_one_writer(scenario: Scenario) -> None:
    """Two writes of one listing were never under way at the same time."""
    for one, two in combinations(scenario.market.writes, 2):
        if set(one.references) & set(two.references):
            assert one.end_ms < two.sent_ms or two.end_ms < one.sent_ms, (one, two)


def check_told(scenario: Scenario) -> None:
    """Every push heard of every reference, and of none that it waits."""
    for message in scenario.messages:
        outcomes = scenario.plain.pushes.get(message.id).outcomes
        assert set(outcomes) == set(message.references), (message, outcomes)
        assert "waiting" not in {told.outcome for told in outcomes.values()}, (message, outcomes)


def play(client: redis.Redis, seed: int) -> None:
    versioned = seed % 4 == 3
    scenario = race(client, seed, versioned=versioned)
    if not versioned:
        check(scenario, "after the race")
    check_told(scenario)
    scenario.quiet_run()
    if versioned:
        check_versions(scenario)
    else:
        check(scenario, "after a quiet run")
    writes = len(scenario.market.writes)
    scenario.quiet_run()
    assert len(scenario.market.writes) == writes, f"nothing was left to do: {scenario.market.writes[writes:]}"
    check_one_writer(scenario)


_SEEDS = [range(int(_ONE), int(_ONE) + 1)] if _ONE else [range(n, n + _BLOCK) for n in range(0, _ROUNDS, _BLOCK)]
_USUAL = 2
_BLOCKS = [*_SEEDS[:_USUAL], *(pytest.param(seeds, marks=pytest.mark.slow) for seeds in _SEEDS[_USUAL:])]
"""The first ones are played each time, the others with `make test-all`."""


@pytest.mark.parametrize("seeds", _BLOCKS, ids=str)
def test_the_newest_version_stands_at_the_end(client: redis.Redis, seeds: Sequence[int]) -> None:
    for seed in seeds:
        try:
            play(client, seed)
        except BaseException as error:
            error.add_note(f"the seed is {seed}: RACE_SEED={seed}")
            raise


def test_a_seed_gives_the_same_round_again(client: redis.Redis) -> None:
    first, again = (race(client, 7) for _ in range(2))
    assert [repr(request) for request in first.market.writes] == [repr(request) for request in again.market.writes]
