"""Re-keyed stock: the same cars under new references are one held plan, and are never live twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, Row, varied

CARS = 120


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(CARS, seed=1)) as found:
        found.good_run()
        yield found


def rekey(rows: list[Row]) -> None:
    for row in rows:
        row["stock_no"] = f"NEW-{row['stock_no']}"


def live(scenario: GuardedScenario) -> set[str]:
    return set(scenario.standing())


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_re_keyed_stock_is_one_held_plan_and_the_rest_goes_out(scenario: GuardedScenario, mode: str) -> None:
    old = live(scenario)
    rekey(scenario.rows)
    scenario.rows += varied(2, seed=9, first=900)
    fresh = {row["stock_no"] for row in scenario.rows[-2:]}
    held = scenario.told(mode)
    assert (held["state"], held["listings"]["held"]) == ("held", 2 * CARS), held
    assert (held["listings"]["created"], held["listings"]["sold"]) == (2, 0)
    assert live(scenario) == old | fresh
    first = held["held"][0]
    assert (first["guard"], first["what"], first["count"]) == ("rekeyed", "re-keyed", CARS)
    name = min(old)
    assert (
        f"{CARS} new references appear to be {CARS} listings that vanished, e.g. {name} -> NEW-{name}"
        in (first["reason"])
    )
    plan = scenario.look()
    assert all(change["held"] for change in plan["changes"])
    created = next(one for one in plan["items"] if one["action"] == "create")
    assert created["changes"]["brand"]["old"] is None
    assert [scenario.told(again)["held_run"] for again in ("incremental", "full")] == [held["run"]] * 2
    released = scenario.told(approves=held["run"])
    assert (released["listings"]["created"], released["listings"]["sold"]) == (CARS, CARS), released
    assert live(scenario) == {row["stock_no"] for row in scenario.rows}
    assert scenario.told()["state"] == "done"


def test_a_few_re_keyed_cars_beside_a_large_stock_are_held_too(scenario: GuardedScenario) -> None:
    old = live(scenario)
    rekey(scenario.of_dealer("DEMO-GENT")[:3] + scenario.of_dealer("DEMO-BRUGGE")[:3])
    held = scenario.told()
    assert [hold["guard"] for hold in held["held"]] == ["rekeyed"]
    assert (held["listings"]["held"], live(scenario)) == (12, old)


@pytest.mark.parametrize("replaced", [3, 20])
def test_a_dealer_who_replaces_cars_by_others_is_not_held(scenario: GuardedScenario, replaced: int) -> None:
    for branch in {row["branch"] for row in scenario.rows}:
        scenario.remove(scenario.of_dealer(branch)[: replaced // 3])
    scenario.rows += varied(replaced, seed=9, first=900)
    run = scenario.told()
    assert (run["listings"]["created"], {hold["guard"] for hold in run["held"]} - {"sold_percent"}) == (replaced, set())


def test_a_price_that_changed_with_the_reference_does_not_hide_it(scenario: GuardedScenario) -> None:
    old = live(scenario)
    for row in scenario.rows:
        row["price_eur"], row["notes"] = "4321", "Another text."
    rekey(scenario.rows)
    assert scenario.told()["listings"]["held"] == 2 * CARS
    assert live(scenario) == old


def test_stock_of_which_nothing_is_kept_is_held_by_its_number(scenario: GuardedScenario, client: redis.Redis) -> None:
    for key in client.scan_iter(f"{scenario.prefix}history:*"):
        client.delete(key)
    old = live(scenario)
    rekey(scenario.rows)
    held = scenario.told()
    assert (held["listings"]["held"], live(scenario)) == (2 * CARS, old)
    assert "cannot be compared" in held["held"][0]["reason"]
    assert scenario.told(approves=held["run"])["listings"]["created"] == CARS


@pytest.mark.parametrize("guard", ["missing_reads = 2", 'sells = "never"'])
def test_re_keyed_stock_is_held_while_its_sells_wait(
    tmp_path: Path, redis_url: str, client: redis.Redis, guard: str
) -> None:
    with GuardedScenario(tmp_path, redis_url, rows=varied(CARS, seed=1), guard=guard) as scenario:
        scenario.good_run()
        old = live(scenario)
        rekey(scenario.rows)
        held = scenario.told()
        assert (held["state"], live(scenario)) == ("held", old)
        assert (scenario.told()["state"], live(scenario)) == ("held", old)


def test_a_row_that_cannot_be_read_does_not_let_re_keyed_stock_out(scenario: GuardedScenario) -> None:
    old = live(scenario)
    rekey(scenario.rows)
    scenario.rows.append({**scenario.rows[0], "stock_no": ""})
    assert (scenario.told()["state"], live(scenario)) == ("held", old)


def test_a_rejected_plan_drops_creates_and_sells(scenario: GuardedScenario) -> None:
    old = live(scenario)
    rekey(scenario.rows)
    held = scenario.told()
    assert scenario.ctx.plans.close(ACCOUNT, held["run"], "dropped")
    assert scenario.told(approves=held["run"])["approved"] is None
    assert live(scenario) == old
