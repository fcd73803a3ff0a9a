"""A price that moves by more than `max_price_change_percent` of what was last sent waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.ledger_entry import about_price, price_code
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

ON = "max_price_change_percent = 50.0"
CARS = 40


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    """Forty cars at 17000, in step with the marketplace."""
    rows = varied(CARS, seed=1)
    for row in rows:
        row["price_eur"] = "17000"
    with GuardedScenario(tmp_path, redis_url, rows=rows, guard=ON) as found:
        found.good_run()
        yield found


def prices(scenario: GuardedScenario) -> dict[str, Any]:
    return {reference: body["price"] for reference, body in scenario.standing().items()}


def held_by(run: dict[str, Any]) -> list[tuple[str, int]]:
    return [(hold["guard"], hold["count"]) for hold in run["held"]]


@pytest.mark.parametrize(
    ("price", "waits"),
    [("8500", False), ("8499.99", True), ("25500", False), ("25500.01", True), ("17", True), ("1700000", True)],
)
def test_more_than_half_either_way_waits(scenario: GuardedScenario, price: str, waits: bool) -> None:
    scenario.rows[0]["price_eur"] = price
    scenario.rows[1]["price_eur"] = "16900"
    run = scenario.told()
    changed = prices(scenario)
    assert changed[scenario.rows[1]["stock_no"]] == 16900, "the others go out"
    assert changed[scenario.rows[0]["stock_no"]] == (17000 if waits else float(price))
    assert (run["state"], run["listings"]["held"]) == (("held", 1) if waits else ("done", 0))


def test_an_export_that_divides_every_price_by_a_thousand_waits_as_a_whole(scenario: GuardedScenario) -> None:
    """The first line of defence is the reader, which refuses `17.001`; here the export writes 17."""
    for row in scenario.rows:
        row["price_eur"] = "17"
    run = scenario.told()
    assert (run["state"], run["listings"]["held"], run["listings"]["updated"]) == ("held", CARS, 0)
    assert set(prices(scenario).values()) == {17000}
    assert sum(count for guard, count in held_by(run) if guard == "price_change") == CARS
    first = scenario.rows[0]["stock_no"]
    reasons = [hold["reason"] for hold in run["held"] if hold["guard"] == "price_change"]
    assert any(f"{first} from 17000 to 17 (-99.9 %)" in reason for reason in reasons), reasons
    again = scenario.told("full")
    assert (again["held_run"], again["listings"]["held"]) == (run["run"], CARS), "still held, under its first id"


def test_three_decimals_are_refused_before_any_guard(scenario: GuardedScenario) -> None:
    for row in scenario.rows:
        row["price_eur"] = "17.001"
    run = scenario.told()
    assert (run["listings"]["rejected"], run["listings"]["updated"]) == (CARS, 0)
    assert set(prices(scenario).values()) == {17000}


def test_the_plan_shows_both_prices_and_an_approval_releases_it(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    row["price_eur"] = "1700"
    plan = scenario.look()
    (item,) = plan["items"]
    assert item["reference"] == row["stock_no"]
    assert item["reason"] == "changed in the source, price from 17000 to 1700 (-90.0 %)"
    assert item["changes"]["price"] == {"old": 17000, "new": 1700}
    assert [(change["held"], change["reason"]) for change in plan["changes"]] == [(True, item["reason"])]
    held = scenario.told()
    assert held["state"] == "held"
    released = scenario.told(approves=held["run"])
    assert (released["state"], released["approved"], released["listings"]["updated"]) == ("done", held["run"], 1)
    assert prices(scenario)[row["stock_no"]] == 1700
    assert scenario.good_run()["requests"]["bulk"] == 0


def test_a_push_is_exempt_and_later_runs_judge_by_what_it_sent(scenario: GuardedScenario) -> None:
    by_row, inline = scenario.rows[:2]
    by_row["price_eur"] = "1700"
    scenario.push_reference(by_row["stock_no"])
    scenario.push(inline, price=1800)
    assert (prices(scenario)[by_row["stock_no"]], prices(scenario)[inline["stock_no"]]) == (1700, 1800)
    assert scenario.good_run("incremental")["listings"]["held"] == 0
    by_row["price_eur"] = "1750"
    inline["price_eur"] = "17001"
    run = scenario.told()
    assert (run["listings"]["updated"], run["listings"]["held"]) == (1, 1)
    assert prices(scenario)[inline["stock_no"]] == 1800, "from 1800 to 17001"


def test_an_edit_on_the_marketplace_is_no_move_of_ours(scenario: GuardedScenario) -> None:
    scenario.edit({"reference": scenario.rows[0]["stock_no"], "set": {"price": 1}})
    run = scenario.good_run()
    assert (run["listings"]["drifted"], run["listings"]["held"]) == (1, 0)
    assert set(prices(scenario).values()) == {17000}


def test_a_new_car_and_a_car_with_other_changes_are_not_judged(scenario: GuardedScenario) -> None:
    scenario.rows += varied(1, seed=3, first=900)
    scenario.rows[0]["colour"] = "paars"
    run = scenario.good_run("incremental")
    assert (run["listings"]["created"], run["listings"]["updated"]) == (1, 1)


def test_without_a_ledger_the_price_on_the_marketplace_counts(scenario: GuardedScenario) -> None:
    scenario.lose_redis()
    scenario.rows[0]["price_eur"] = "17"
    run = scenario.told("full")
    assert (run["state"], run["listings"]["held"]) == ("held", 1), run
    assert held_by(run) == [("price_change", 1)]
    assert set(prices(scenario).values()) == {17000}


@pytest.mark.parametrize("lost", ["history", "all"])
def test_a_listing_that_was_not_sent_for_long_is_judged_by_its_ledger_entry(
    scenario: GuardedScenario, client: redis.Redis, lost: str
) -> None:
    """Its history has expired; or it was on the marketplace before the ledger, and never sent."""
    for key in client.scan_iter(f"{scenario.prefix}history:*" if lost == "history" else f"{scenario.prefix}*"):
        client.delete(key)
    scenario.good_run("full")
    assert scenario.good_run("incremental")["listings"]["unchanged"] == CARS
    scenario.rows[0]["price_eur"], scenario.rows[1]["price_eur"] = "17", "16000"
    run = scenario.told()
    assert (run["state"], run["listings"]["held"], run["listings"]["updated"]) == ("held", 1, 1), run
    assert f"{scenario.rows[0]['stock_no']} from about 17000 to 17 (-99.9 %)" in run["held"][0]["reason"]


@given(st.floats(50, 12_000_000))
def test_a_price_in_one_byte_is_about_right(price: float) -> None:
    about = about_price(price_code(price))
    assert about is not None
    assert abs(about - price) <= 0.08 * price


@pytest.mark.parametrize(("price", "code"), [(None, 0), (0, 0), (-1, 0), (0.5, 1), (50, 1), (1e15, 255)])
def test_any_price_has_a_code(price: float | None, code: int) -> None:
    assert price_code(price) == code


@pytest.mark.parametrize("guard", ['max_price_change_percent = "off"', "max_price_change_percent = 99.9"])
def test_the_limit_is_a_setting(tmp_path: Path, redis_url: str, client: redis.Redis, guard: str) -> None:
    rows = varied(3, seed=1)
    rows[0]["price_eur"] = "17000"
    with GuardedScenario(tmp_path, redis_url, rows=rows, guard=guard) as scenario:
        scenario.good_run()
        scenario.rows[0]["price_eur"] = "17"
        assert scenario.told()["listings"]["updated"] == 1


def test_a_car_that_comes_back_at_another_price_waits(scenario: GuardedScenario) -> None:
    (row,) = scenario.rows[:1]
    scenario.remove([row])
    scenario.told()
    assert row["stock_no"] in scenario.sold()
    scenario.rows.append({**row, "price_eur": "17"})
    run = scenario.told()
    assert (run["state"], held_by(run)) == ("held", [("price_change", 1)])
    assert row["stock_no"] in scenario.sold()
