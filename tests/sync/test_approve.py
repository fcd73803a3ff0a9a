"""Approving a held plan: what an outdated approval sends (nothing), what becomes of its run, and what the plan shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.core.guards import item, reference_of
from okasie_tasks.reports.held import items_document, plan_of_run
from okasie_tasks.reports.runs import run_document
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

CARS = 100


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    rows = varied(CARS, seed=1)
    for row in rows:
        row["branch"] = "DEMO-GENT"
    with GuardedScenario(tmp_path, redis_url, rows=rows) as found:
        found.good_run()
        yield found


def hold_updates(scenario: GuardedScenario, *, price: str = "4321") -> dict[str, Any]:
    """Hold a plan of 70 updates: all but 30 cars get another price."""
    for row in scenario.rows[:70]:
        row["price_eur"] = price
    held = scenario.told()
    assert (held["state"], held["listings"]["held"], held["listings"]["updated"]) == ("held", 70, 0), held
    return held


def record(scenario: GuardedScenario, run: str) -> dict[str, Any]:
    found = scenario.ctx.runs.get(run)
    assert found is not None
    return run_document(scenario.ctx.runs, found)


def items(scenario: GuardedScenario, run: str) -> dict[str, dict[str, Any]]:
    """The items that ``okasie run`` shows, by reference."""
    found = scenario.ctx.runs.get(run)
    assert found is not None
    plan = plan_of_run(scenario.ctx, found)
    assert plan is not None
    document = items_document(scenario.ctx.plans.changes(ACCOUNT), plan.count)
    assert document["items_left_out"] == 0
    return {one["reference"]: one for one in document["items"]}


# -- outdated ------------------------------------------------------------------------------------------------------


def test_an_outdated_approval_sends_nothing_and_the_next_run_sends_what_is_safe(scenario: GuardedScenario) -> None:
    held = hold_updates(scenario)
    gone = scenario.remove(scenario.rows[-2:])
    scenario.rows[0]["price_eur"] = "5555"
    scenario.rows += varied(1, seed=9, first=900)
    before, seen = len(scenario.writes), len(scenario.requests())
    refused = scenario.told(approves=held["run"])
    assert scenario.writes[before:] == []
    assert set(scenario.requests(seen)) == {"list"}
    assert (refused["state"], refused["approved"], refused["held_run"]) == ("held", None, refused["run"])
    assert "nothing was sent" in refused["notes"][0]
    old = record(scenario, held["run"])
    assert (old["state"], old["replaced_by"]) == ("dropped", refused["run"])
    later = scenario.told()
    assert (later["held_run"], later["listings"]["sold"], later["listings"]["created"]) == (refused["run"], 2, 1)
    assert scenario.sold() == gone
    released = scenario.told(approves=refused["run"])
    assert (released["state"], released["listings"]["updated"]) == ("done", 70)


def test_a_drift_that_an_outdated_approval_reads_is_resent_by_the_next_run(scenario: GuardedScenario) -> None:
    held = hold_updates(scenario)
    scenario.rows[0]["price_eur"] = "5555"
    scenario.clock.ahead += 3600
    scenario.edit({"reference": scenario.rows[90]["stock_no"], "set": {"price": 1}})
    scenario.clock.ahead += 3600
    refused = scenario.told(approves=held["run"])
    assert refused["listings"]["updated"] == 0
    scenario.clock.ahead += 3600
    assert scenario.told()["listings"]["updated"] == 1, "the cursor did not move past the marketplace's edit"


def test_nothing_is_sent_either_when_nothing_is_held_any_more(scenario: GuardedScenario) -> None:
    prices = [row["price_eur"] for row in scenario.rows]
    held = hold_updates(scenario)
    for row, price in zip(scenario.rows, prices, strict=True):
        row["price_eur"] = price
    scenario.rows[90]["price_eur"] = "6666"
    before = len(scenario.writes)
    refused = scenario.told(approves=held["run"])
    assert (scenario.writes[before:], refused["held_run"]) == ([], None)
    old = record(scenario, held["run"])
    assert (old["state"], old["replaced_by"]) == ("dropped", refused["run"])
    assert scenario.told()["listings"]["updated"] == 1


def test_an_ordinary_run_that_replaces_a_plan_drops_it(scenario: GuardedScenario) -> None:
    held = hold_updates(scenario)
    scenario.rows[0]["price_eur"] = "5555"
    later = scenario.told()
    assert later["held_run"] == later["run"]
    old = record(scenario, held["run"])
    assert (old["state"], old["replaced_by"]) == ("dropped", later["run"])


@pytest.mark.parametrize("first", ["approval", "ordinary"])
def test_a_request_folded_with_an_outdated_approval_gets_a_run_of_its_own(
    scenario: GuardedScenario, first: str
) -> None:
    held = hold_updates(scenario)
    scenario.rows[0]["price_eur"] = "5555"
    scenario.rows += varied(1, seed=9, first=900)
    approval = {"approves": held["run"]}
    requests = [approval, {}] if first == "approval" else [{}, approval]
    runs = scenario.ctx.runs
    assert runs.request(ACCOUNT, "incremental", **requests[0])[0]
    refused = scenario.told(approves=requests[1].get("approves", ""))
    assert refused["listings"]["created"] == 0
    waiting = runs.waiting(ACCOUNT)
    assert waiting, "the ordinary request is not lost"
    assert scenario.told()["listings"]["created"] == 1


# -- what a plan shows ---------------------------------------------------------------------------------------------


def test_a_held_plan_shows_old_and_new_values(scenario: GuardedScenario) -> None:
    scenario.rows[0]["price_eur"], scenario.rows[0]["notes"] = "17000", "A first text."
    scenario.good_run()
    scenario.rows[0]["notes"] = "Another text."
    held = hold_updates(scenario)
    shown = items(scenario, held["run"])
    assert len(shown) == 70
    one = shown[scenario.rows[0]["stock_no"]]
    assert (one["action"], one["reason"]) == ("update", "changed in the source")
    assert one["changes"] == {
        "price": {"old": 17000, "new": 4321},
        "description": {"old": None, "new": "Another text.", "old_known": False},
    }
    plan = scenario.look()
    assert {entry["reference"]: entry for entry in plan["items"]} == shown


def test_values_that_the_marketplace_changed_are_shown_as_it_has_them(scenario: GuardedScenario) -> None:
    name = scenario.rows[0]["stock_no"]
    scenario.clock.ahead += 3600
    scenario.edit({"reference": name, "set": {"description": "Theirs."}})
    scenario.rows[0]["notes"] = "Ours."
    held = hold_updates(scenario)
    assert items(scenario, held["run"])[name]["changes"]["description"] == {"old": "Theirs.", "new": "Ours."}


def test_a_held_sell_shows_the_status_and_a_plan_keeps_its_values_over_later_runs(scenario: GuardedScenario) -> None:
    gone = scenario.remove(scenario.rows[:20])
    held = scenario.told()
    shown = items(scenario, held["run"])
    assert shown.keys() == gone
    assert [one["changes"] for one in shown.values()] == [{"status": {"old": "active", "new": "sold"}}] * 20
    assert scenario.told("full")["held_run"] == held["run"]
    assert items(scenario, held["run"]) == shown


def test_a_push_of_a_held_listing_does_not_outdate_the_plan(scenario: GuardedScenario) -> None:
    held = hold_updates(scenario)
    scenario.push_reference(scenario.rows[0]["stock_no"])
    assert scenario.told()["held_run"] == held["run"]
    released = scenario.told(approves=held["run"])
    assert (released["approved"], released["listings"]["updated"]) == (held["run"], 69)


@pytest.mark.parametrize("reference", ["VW 12", "DEX-1"])
def test_the_reference_of_an_item(reference: str) -> None:
    assert reference_of(item(reference, "sell")) == reference
    assert reference_of(item(reference, "update", b"12345678")) == reference
