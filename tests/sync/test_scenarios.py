"""Listings that the feed alone does not explain, each over many runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.reports.listing import why_document
from okasie_tasks.sync import rejects
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import Row, varied

MANY = ("incremental", "full", "incremental", "full")
PUSHED = "PUSHED-1"


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(30, seed=1)) as found:
        found.good_run()
        yield found


def quiet(scenario: GuardedScenario) -> None:
    """Many runs, and none of them writes anything."""
    for mode in MANY:
        document = scenario.good_run(mode)
        sent = {kind: document["requests"][kind] for kind in ("bulk", "put", "delete")}
        assert sent == {"bulk": 0, "put": 0, "delete": 0}, document


def alike(scenario: GuardedScenario, reference: str) -> Row:
    """A row for this reference, as for a car of Ghent."""
    return {**scenario.of_dealer("DEMO-GENT")[0], "stock_no": reference}


def test_a_pushed_car_that_the_feed_does_not_know_stands_until_it_was_there_and_left(scenario: GuardedScenario) -> None:
    scenario.push(alike(scenario, PUSHED), price=7777)
    quiet(scenario)
    assert scenario.standing()[PUSHED]["price"] == 7777
    scenario.rows.append({**alike(scenario, PUSHED), "price_eur": "8888"})
    assert scenario.good_run("incremental")["listings"]["updated"] == 1
    assert scenario.standing()[PUSHED]["price"] == 8888
    scenario.rows.pop()
    assert scenario.good_run("incremental")["listings"]["sold"] == 1
    quiet(scenario)
    assert PUSHED in scenario.sold()


def test_a_pushed_price_stands_until_its_row_changes(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    scenario.push(row, price=7777)
    quiet(scenario)
    assert scenario.standing()[row["stock_no"]]["price"] == 7777
    row["price_eur"] = "6666"
    assert scenario.good_run("incremental")["listings"]["updated"] == 1
    assert scenario.standing()[row["stock_no"]]["price"] == 6666


def test_a_car_sold_by_hand_stays_sold_while_its_row_stands(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    scenario.sell(row["stock_no"])
    quiet(scenario)
    row["price_eur"] = "6666"
    quiet(scenario)
    assert scenario.sold() == {row["stock_no"]}
    scenario.remove([row])
    quiet(scenario)
    scenario.rows.append(row)
    assert scenario.good_run("incremental")["listings"]["updated"] == 1, "back after it was gone"
    assert scenario.sold() == set()


def test_a_car_sold_by_hand_comes_back_when_somebody_pushes_it(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    scenario.sell(row["stock_no"])
    quiet(scenario)
    scenario.push(row, price=7777)
    quiet(scenario)
    assert scenario.standing()[row["stock_no"]]["price"] == 7777


def test_a_car_sold_by_somebody_on_the_marketplace_is_not_revived_in_silence(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    scenario.edit({"reference": row["stock_no"], "status": "sold"})
    for mode in MANY:
        document = scenario.good_run(mode, step=False)
        assert (document["listings"]["conflicts"], document["requests"]["bulk"]) == (1, 0), document
    row["price_eur"] = "6666"
    assert scenario.good_run("incremental")["listings"]["updated"] == 1, "somebody changed the row"
    assert scenario.sold() == set()


def test_a_row_without_a_readable_reference_makes_all_sells_wait(scenario: GuardedScenario) -> None:
    name = scenario.rows[0]["stock_no"]
    scenario.rows[0]["stock_no"] = "no\treference"
    for mode in MANY:
        document = scenario.good_run(mode)
        assert (document["listings"]["sold"], document["requests"]["delete"]) == (0, 0), document
        assert document["unreadable_references"]
    scenario.rows[0]["stock_no"] = name
    quiet(scenario)
    assert scenario.sold() == set()


def test_one_reference_twice_counts_once_when_equal_and_not_at_all_when_not(scenario: GuardedScenario) -> None:
    twin = dict(scenario.rows[0])
    scenario.rows.append(twin)
    quiet(scenario)
    before = scenario.standing()[twin["stock_no"]]
    twin["price_eur"] = "6666"
    for mode in MANY:
        run = scenario.told(mode)
        assert (run["listings"]["rejected"], run["requests"]["bulk"], run["listings"]["sold"]) == (1, 0, 0), run
    assert scenario.standing()[twin["stock_no"]] == before
    scenario.remove([twin])
    assert scenario.good_run("incremental")["listings"]["sold"] == 1, "now it is gone"


def test_a_dealer_out_of_reach_parks_his_own_items_only(scenario: GuardedScenario) -> None:
    scenario.scope("DEMO-GENT", "DEMO-BRUGGE")
    far = scenario.of_dealer("DEMO-MECHELEN")
    for row in scenario.rows:
        row["price_eur"] = "6666"
    run = scenario.told("incremental")
    assert run["listings"]["updated"] == len(scenario.rows) - len(far), run
    rejects = list(scenario.ctx.ledger.all_rejects())
    assert {reject.reference for reject in rejects} == {row["stock_no"] for row in far}
    assert {reject.code for reject in rejects} == {"PROFILE_FORBIDDEN"}
    for _ in range(2):
        assert scenario.told("incremental")["requests"]["bulk"] == 0, "not sent again"


def test_what_is_pushed_is_what_a_run_would_send(scenario: GuardedScenario) -> None:
    """The same row by either way is the same content: a run after a push by reference finds nothing to do."""
    row = scenario.rows[0]
    row["price_eur"] = "6666"
    scenario.push_reference(row["stock_no"])
    quiet(scenario)


def test_a_sell_that_was_refused_is_parked_like_anything_else(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    scenario.remove([row])
    scenario.faults({"kind": "400", "match": {"path": "delete"}, "times": 1})
    assert scenario.told("incremental")["requests"]["delete"] == 1
    quiet(scenario)
    assert (scenario.sold(), scenario.status()["rejects"]) == (set(), 1)
    assert rejects.free(scenario.ctx, [row["stock_no"]]).freed == [row["stock_no"]]
    assert scenario.good_run("incremental")["listings"]["sold"] == 1
    assert (scenario.sold(), scenario.status()["rejects"]) == ({row["stock_no"]}, 0)


def test_a_held_listing_says_so(scenario: GuardedScenario) -> None:
    gone = scenario.remove(scenario.of_dealer("DEMO-GENT")[:6])
    held = scenario.told("incremental")
    assert held["state"] == "held", held
    for reference in sorted(gone):
        assert why_document(scenario.ctx, reference)["held_run"] == held["run"]
    assert why_document(scenario.ctx, scenario.rows[0]["stock_no"])["held_run"] is None


@pytest.mark.parametrize("how", ["gone from the feed", "sold by hand"])
@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_what_we_sold_and_somebody_lists_again_is_sold_again(scenario: GuardedScenario, how: str, mode: str) -> None:
    row = scenario.rows[0]
    if how == "sold by hand":
        scenario.sell(row["stock_no"])
    else:
        scenario.remove([row])
        scenario.good_run()
    quiet(scenario)
    scenario.clock.ahead += 3600
    scenario.edit({"reference": row["stock_no"], "status": "active"})
    document = scenario.good_run(mode, step=False)
    assert (document["listings"]["sold"], document["listings"]["drifted"]) == (1, 1), document
    quiet(scenario)
    assert scenario.sold() == {row["stock_no"]}


def test_a_marketplace_that_keeps_a_sold_car_listed_is_not_fought(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    scenario.sell(row["stock_no"])
    quiet(scenario)
    for number, outcome in enumerate(("sold", "conflicts")):
        scenario.clock.ahead += 3600
        scenario.edit({"reference": row["stock_no"], "status": "active"})
        document = scenario.good_run("incremental" if number else "full", step=False)
        assert document["listings"][outcome] == 1, document
    assert scenario.told("full")["requests"]["delete"] == 0
