"""What is known of rows and partitions changes no decision: a twin account that forgets it before each run agrees.

``KNOWN_HISTORIES=10000 pytest -n 2 tests/sync/test_known_rows.py`` plays ten thousand random histories.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import msgspec
import pytest
import redis

from okasie_tasks.core.records import bucket_of
from okasie_tasks.sync import seals
from okasie_tasks.sync.context import AccountContext
from tests.sync.fake_marketplace import Row
from tests.sync.model_cars import Policy
from tests.sync.simulation import Simulation
from tests.sync.stock import INVALID, SOLD, raw_car

_HISTORIES: Final = int(os.environ.get("KNOWN_HISTORIES", "40"))
_EACH: Final = 20
"""Histories of one test."""
_CARS: Final = tuple(f"R{number}" for number in range(5))
_HOUR: Final = 3600
_TIMES: Final = {"sent_ms": 0, "seen_ms": 0, "changed_at": 0, "version": 0}

Step = Callable[[Simulation], object]
"""What happens to either twin."""


def simulation(client: redis.Redis, *, policy: Policy = "local", block_rows: int = 5_000) -> Simulation:
    return Simulation(
        client, policy=policy, missing_reads=1, block_rows=block_rows, versioned=False, page_size=2
    )  # fmt: skip


def runs(sim: Simulation, *modes: str) -> None:
    for mode in modes:
        sim.clock.sleep(_HOUR)
        record = sim.run(mode)
        assert record is not None
        assert record.state == "done", record
    assert not sim.model.wrong, "\n".join(sim.model.wrong)


@pytest.fixture
def sim(client: redis.Redis) -> Simulation:
    """Two cars, of which everything is known."""
    sim = simulation(client)
    for car in ("R0", "R1"):
        sim.put(car, raw_car(car, 100, "Alpha", "GENT", 0))
    runs(sim, "full", "full", "full")
    sim.put("R2", raw_car("R2", 100, "Alpha", "GENT", 0))
    runs(sim, "full")
    sim.remove("R2")
    runs(sim, "full", "full", "full")
    seal = sim.plain.ledger.known.seal(0, 1)
    assert seal is not None
    assert seal.others == ["R2"], "it is sold"
    return sim


def price(sim: Simulation, car: str) -> int:
    return int(sim.market.rows[car].body["price"])


def test_a_row_as_it_was_before_a_push_is_sent_again(sim: Simulation) -> None:
    sim.put("R0", raw_car("R0", 90, "Alpha", "GENT", 0))
    sim.push_rows(["R0"])
    sim.send(1)
    assert price(sim, "R0") == 90
    sim.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0))
    runs(sim, "incremental")
    assert price(sim, "R0") == 100


def test_a_listing_as_it_was_before_a_push_that_was_not_done_is_sent_again(sim: Simulation) -> None:
    before = sim.market.rows["R0"]
    sim.put("R0", raw_car("R0", 90, "Alpha", "GENT", 0))
    sim.push_rows(["R0"])
    sim.send(1)
    sim.market.rows["R0"] = before
    runs(sim, "full", "full")
    assert price(sim, "R0") == 90


def test_another_mapping_reads_the_same_row_anew(sim: Simulation) -> None:
    sim.inventory.surcharge = 50
    runs(sim, "full")
    assert price(sim, "R0") == 150


def test_a_listing_that_is_gone_on_one_side_opens_the_partition(sim: Simulation) -> None:
    del sim.market.rows["R1"]
    runs(sim, "full", "full")
    assert price(sim, "R1") == 100
    runs(sim, "full")
    sim.remove("R0")
    runs(sim, "full")
    assert sim.market.rows["R0"].body["status"] == SOLD


def test_an_entry_that_was_written_is_counted_as_it_is_now(sim: Simulation) -> None:
    def dealers() -> set[str]:
        (result,) = sim.plain.runs.parts.results(sim.running().id, "diff")
        return set(result["dealers"])

    before = dealers()
    sim.put("R0", raw_car("R0", 100, "Alpha", "BRUGGE", 0))
    sim.push_rows(["R0"])
    sim.send(1)
    runs(sim, "incremental", "incremental", "full")
    assert len(dealers()) == len(before) + 1


def test_an_entry_that_was_written_and_whose_row_changed_since_is_counted_as_it_is_now(
    sim: Simulation, taken: Counter[str]
) -> None:
    def dealers() -> list[int]:
        (result,) = sim.plain.runs.parts.results(sim.running().id, "diff")
        return sorted(totals["live"] for totals in result["dealers"].values())

    for number in (3, 4, 5):
        sim.put(f"R{number}", raw_car(f"R{number}", 100, "Alpha", "BRUGGE", 0))
    runs(sim, "full", "full", "full")
    sim.put("R0", raw_car("R0", 100, "Alpha", "BRUGGE", 0))
    runs(sim, "incremental", "incremental")
    sim.put("R0", raw_car("R0", 90, "Alpha", "BRUGGE", 0))
    taken.clear()
    runs(sim, "full")
    assert taken["all entries"]
    known = dealers()
    sim.plain.ledger.known.forget()
    runs(sim, "full")
    assert known == dealers()


def test_entries_that_were_lost_are_made_anew(sim: Simulation) -> None:
    sim.redis.delete(f"okasie:ledger:dex:{bucket_of('R0')}")
    runs(sim, "full")
    assert set(sim.plain.ledger.get(["R0", "R1"])) == {"R0", "R1"}


def test_a_change_opens_its_listing_and_leaves_the_rest_sealed(sim: Simulation, taken: Counter[str]) -> None:
    def others() -> list[str]:
        seal = sim.plain.ledger.known.seal(0, 1)
        assert seal is not None
        return seal.others

    sim.put("R0", raw_car("R0", 90, "Alpha", "GENT", 0))
    taken.clear()
    runs(sim, "full")
    assert (price(sim, "R0"), others()) == (90, ["R0", "R2"])
    sim.put("R3", raw_car("R3", 100, "Alpha", "GENT", 0))
    runs(sim, "full", "full", "full")
    assert (price(sim, "R3"), others()) == (100, ["R2"]), "settled again"
    assert "all entries" not in taken


@pytest.fixture
def twins(client: redis.Redis) -> Iterator[tuple[redis.Redis, redis.Redis]]:
    options: dict[str, Any] = {**client.connection_pool.connection_kwargs, "db": 1}
    kind = client.connection_pool.connection_class
    with redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind, **options)) as other:
        yield client, other


def test_entries_that_were_lost_are_noticed_although_others_were_made(sim: Simulation) -> None:
    sim.push_listings({"R4": raw_car("R4", 100, "Alpha", "GENT", 0)}, 0)
    sim.send(1)
    sim.redis.delete(f"okasie:ledger:dex:{bucket_of('R0')}")
    runs(sim, "incremental")
    assert set(sim.plain.ledger.get(["R0", "R1", "R4"])) == {"R0", "R1", "R4"}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often which path was taken."""
    paths, under_seal = Counter[str](), seals._under_seal

    def counted(ctx: AccountContext, number: int, partitions: int, changed: set[str], *sides: list[int]) -> Any:
        found = under_seal(ctx, number, partitions, changed, *sides)
        paths["all entries" if found is None else "some changed" if changed else "nothing changed"] += 1
        return found

    monkeypatch.setattr(seals, "_under_seal", counted)
    monkeypatch.setattr(seals, "_MOST_OTHERS_PERCENT", 90)  # of five cars
    return paths


@pytest.mark.parametrize("part", range(-(-_HISTORIES // _EACH)))
def test_the_fast_path_and_the_full_comparison_decide_the_same(
    twins: tuple[redis.Redis, redis.Redis], part: int, taken: Counter[str]
) -> None:
    for number in range(min(_EACH, _HISTORIES)):
        _history(part * _EACH + number, *twins)
    assert set(taken) == {"all entries", "nothing changed", "some changed"}, "some path was never taken"


def _history(seed: int, *clients: redis.Redis) -> None:
    """Play one history on both twins, and compare them after each run."""
    rng = Random(seed)
    policy: Policy = rng.choice(["local", "local", "remote", "newest"])
    block_rows = rng.choice([1, 2, 5_000])
    fast, whole = (simulation(client, policy=policy, block_rows=block_rows) for client in clients)
    for number, car in enumerate(_CARS[:4]):
        _both(
            fast,
            whole,
            lambda sim, car=car, number=number: sim.put(car, raw_car(car, 100 + number, "Alpha", "GENT", 1)),
        )  # type: ignore[misc]
    steps = [_run("full"), _run("full"), *(_step(rng) for _ in range(rng.randint(4, 9))), _run("full")]
    for number, step in enumerate(steps):
        whole.plain.ledger.known.forget()
        _both(fast, whole, step)
        assert _stand(fast) == _stand(whole), f"seed {seed}, after step {number}"


def _both(fast: Simulation, whole: Simulation, step: Step) -> None:
    """At the same time for both."""
    now_ms = max(fast.clock.now_ms, whole.clock.now_ms) // 1000 * 1000 + 400_000
    for sim in (fast, whole):
        sim.clock.now_ms = now_ms
        step(sim)


def _stand(sim: Simulation) -> dict[str, Any]:
    entries = sim.plain.ledger.get([*_CARS, "ANCHOR"])
    return {
        "marketplace": {name: row.body for name, row in sim.market.rows.items()},
        "requests": (sim.market.requests, sim.market.writes),
        "ledger": {name: msgspec.structs.replace(entry, **_TIMES) for name, entry in entries.items()},
        "rejects": sorted(sim.plain.ledger.rejects(list(_CARS))),
        "results": sim.plain.runs.parts.results(sim.running().id, "diff"),
        "wrong": sim.model.wrong,
    }


def _run(mode: str) -> Step:
    return lambda sim: sim.run(mode)


def _step(rng: Random) -> Step:
    """Choose what happens, with all that is random in it."""
    car, other, cost, title = (
        rng.choice(_CARS),
        rng.choice(_CARS),
        rng.choice([100, 101, 200]),
        rng.choice(["Alpha", "Beta"]),
    )
    row, faults = (
        raw_car(car, cost, title, "GENT", rng.randint(0, 1)),
        rng.sample(["lost", "500", "done but lost", "item 500"], 2),
    )
    kind, value = rng.choice([("price", 7000), ("title", "Theirs"), ("status", SOLD), ("status", "active")])
    steps: list[tuple[int, Step]] = [
        (12, _run("full")),
        (4, _run("incremental")),
        (1, lambda sim: sim.run("full", plan_only=True)),
        (4, lambda sim: sim.put(car, row)),
        (2, lambda sim: sim.remove(car)),
        (1, lambda sim: sim.put(car, INVALID)),
        (1, lambda sim: sim.put(car, row, row)),
        (1, lambda sim: sim.put(car, raw_car(car, cost, title, "GENT", 0, status=SOLD))),
        (2, lambda sim: _edit(sim, car, **{kind: value})),
        (2, lambda sim: (sim.push_rows([car]), sim.send(2))),
        (2, lambda sim: (sim.push_listings({car: row}, 0), sim.send(2))),
        (1, lambda sim: (sim.sell([car]), sim.send(2))),
        (1, lambda sim: _taken_back(sim, car, row)),
        (1, lambda sim: setattr(sim.inventory, "surcharge", cost % 3)),
        (1, lambda sim: sim.redis.delete(f"okasie:ledger:dex:{bucket_of(other)}")),
        (1, lambda sim: sim.market.faults.extend(faults)),
    ]  # fmt: skip
    weights, chosen = zip(*steps, strict=True)
    return rng.choices(chosen, weights)[0]  # type: ignore[no-any-return]


def _edit(sim: Simulation, car: str, **changes: Any) -> None:
    if car in sim.market.rows and sim.market.rows[car].body != sim.market.rows[car].body | changes:
        sim.edit(car, "any", **changes)


def _taken_back(sim: Simulation, car: str, row: str) -> None:
    """A push that the marketplace accepts and does not keep."""
    before = sim.market.rows.get(car)
    sim.push_listings({car: row}, 0)
    sim.send(2)
    if before is not None:
        sim.market.rows[car] = Row(before.identity, dict(before.body), before.changed_ms, before.provider)
