"""Stories on the model's ground: a row of the decision table that needs rejects, and what the machine has found."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.sync.fake_marketplace import Row
from tests.sync.model_cars import Policy
from tests.sync.simulation import Simulation
from tests.sync.stock import INVALID, SOLD, raw_car
from tests.sync.support import Killed

LIVE, CHANGED = raw_car("R0", 100, "Alpha", "GENT", 0), raw_car("R0", 200, "Beta", "GENT", 0)


def simulation(
    client: redis.Redis, policy: Policy = "local", missing_reads: int = 1, *, versioned: bool = False
) -> Simulation:
    return Simulation(
        client, policy=policy, missing_reads=missing_reads, block_rows=5_000, versioned=versioned, page_size=200
    )  # fmt: skip


def runs(sim: Simulation, *modes: str) -> None:
    for mode in modes:
        sim.clock.sleep(120)
        record = sim.run(mode)
        assert record is not None
        assert record.state == "done", record


def there_before_us(sim: Simulation, row: str) -> None:
    """The marketplace has R0 from a time before this ledger."""
    sim.market.rows["R0"] = Row("id-R0", json.loads(row), sim.clock.now_ms)


def test_rejected_before_and_unchanged_any_stays_parked_and_costs_no_request(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.market.refused_prices.add(100)
    sim.put("R0", LIVE)
    runs(sim, "full")
    requests = sim.market.requests
    runs(sim, "full", "incremental")
    assert sim.market.requests - requests == 2  # a page each
    assert sim.plain.ledger.rejects(["R0"])["R0"].code == "REFUSED"
    sim.put("R0", CHANGED)
    runs(sim, "incremental")
    assert sim.market.rows["R0"].body["price"] == 200
    assert sim.plain.ledger.reject_count() == 0


@pytest.mark.parametrize("policy", ["remote", "newest"])
def test_a_change_right_after_a_write_is_sent_whatever_the_echo_looks_like(client: redis.Redis, policy: Policy) -> None:
    sim = simulation(client, policy)
    sim.market.quirks = {"spelling"}
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.put("R0", CHANGED)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].body["price"] == 200


def test_a_row_that_says_sold_is_never_sold_by_an_upsert(client: redis.Redis) -> None:
    sim = simulation(client)
    there_before_us(sim, LIVE)
    sim.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    sim.run("full", plan_only=True)
    assert sim.running().plan.get("R0") != "update"


def test_a_car_comes_back_also_by_way_of_an_invalid_row(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.remove("R0")
    runs(sim, "full")
    sim.put("R0", INVALID)
    runs(sim, "full")
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].live


def test_a_car_sold_by_hand_and_revived_there_leaves_nothing_to_do_for_ever(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.sell(["R0"])
    sim.send(3)
    runs(sim, "full")
    sim.edit("R0", "revived", status="active")
    runs(sim, "full", "full", "full")
    sim.run("full", plan_only=True)
    assert sim.running().plan == {}


def test_a_car_revived_there_is_sold_again_when_its_row_says_so(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    runs(sim, "full")
    sim.edit("R0", "revived", status="active")
    runs(sim, "full", "full")
    assert not sim.market.rows["R0"].live


def test_a_car_sold_and_revived_there_is_sold_when_its_row_is_gone(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.edit("R0", "sold", status=SOLD)
    runs(sim, "full")
    sim.edit("R0", "revived", status="active")
    sim.remove("R0")
    runs(sim, "full", "full")
    assert not sim.market.rows["R0"].live


def test_a_car_that_is_sold_there_and_unknown_here_is_not_revived(client: redis.Redis) -> None:
    sim = simulation(client)
    there_before_us(sim, raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    sim.put("R0", LIVE)
    runs(sim, "full", "incremental")
    assert not sim.market.rows["R0"].live


def test_a_car_that_is_sold_there_and_unknown_here_is_revived_by_a_change_here(client: redis.Redis) -> None:
    sim = simulation(client)
    there_before_us(sim, raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.put("R0", CHANGED)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].live


@pytest.mark.parametrize("policy", ["remote", "newest"])
def test_a_move_to_another_dealer_that_stands_is_decided_once(client: redis.Redis, policy: Policy) -> None:
    sim = simulation(client, policy)
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.edit("R0", "dealer", dealerLocationCode="LIEGE")
    runs(sim, "full", "full")
    sim.put("R0", CHANGED)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].body["price"] == 200


def test_a_drift_whose_answer_was_refused_stays_parked(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.edit("R0", "price", price=7000)
    sim.market.refused_prices.add(100)
    runs(sim, "full")
    requests = sim.market.requests
    runs(sim, "incremental", "full", "incremental", "full")
    assert sim.market.requests - requests == 4  # a page each


@pytest.mark.parametrize("policy", ["local", "remote", "newest"])
def test_whatever_the_rendering_all_is_quiet_after_two_runs(client: redis.Redis, policy: Policy) -> None:
    sim = simulation(client, policy)
    sim.market.quirks = {"order", "spaces", "rounds", "spelling"}
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    writes = sim.market.writes
    runs(sim, "full", "incremental", "full")
    assert sim.market.writes == writes


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_car_sold_there_whose_row_was_invalid_when_we_met_it_is_not_revived_in_silence(
    client: redis.Redis, mode: str
) -> None:
    sim = simulation(client)
    there_before_us(sim, raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    sim.put("R0", INVALID)
    runs(sim, "full")
    sim.put("R0", LIVE)
    runs(sim, mode, "incremental", "full")
    assert not sim.market.rows["R0"].live
    sim.put("R0", CHANGED)
    runs(sim, mode)
    assert sim.market.rows["R0"].live, "now somebody changed it here"


def test_a_pushed_car_sold_by_its_row_and_revived_there_is_what_its_row_says_again(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.push_listings({"R0": CHANGED}, 0)
    sim.send(3)
    runs(sim, "full")
    sim.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    runs(sim, "full")
    sim.edit("R0", "revived", status="active")
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].body["price"] == 100


def test_an_edit_there_while_a_missing_row_is_waited_for_is_answered_when_the_row_is_back(client: redis.Redis) -> None:
    sim = simulation(client, missing_reads=2)
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.edit("R0", "price", price=7000)
    sim.remove("R0")
    runs(sim, "full")
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].body["price"] == 100


def test_a_car_that_they_keep_listed_is_sold_once_its_row_is_gone(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.sell(["R0"])
    sim.send(3)
    for _ in range(2):
        sim.edit("R0", "revived", status="active")
        runs(sim, "full", "full")
    assert sim.market.rows["R0"].live, "answered once, then a conflict"
    sim.push_listings({"R0": CHANGED}, 0)
    sim.send(3)
    runs(sim, "full")
    sim.remove("R0")
    runs(sim, "full")
    assert not sim.market.rows["R0"].live


@pytest.mark.parametrize("field", ["price", "title"])
def test_a_second_edit_before_our_answer_was_read_is_an_edit_like_any_other(client: redis.Redis, field: str) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    for theirs in (7000, 8000):
        sim.edit("R0", field, **{field: theirs if field == "price" else f"Theirs {theirs}"})
        runs(sim, "full")
    assert sim.market.rows["R0"].body[field] == json.loads(LIVE)[field]


@pytest.mark.parametrize("gone", [True, False])
def test_a_sold_car_whose_push_is_in_doubt_is_not_sold_again_by_a_run(client: redis.Redis, gone: bool) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.sell(["R0"])
    sim.send(3)
    if gone:
        sim.remove("R0")
    runs(sim, "full", "full")
    sim.market.faults = ["done but lost"]
    sim.push_listings({"R0": CHANGED}, 0)
    sim.send(0)
    sim.clock.sleep(1)
    sim.run("full")
    assert sim.market.rows["R0"].live
    sim.clock.sleep(120)
    sim.send(3)
    runs(sim, "full", "full")
    assert sim.market.rows["R0"].live
    assert sim.market.rows["R0"].body["price"] == 200


def test_a_sold_car_listed_again_there_while_its_sell_is_lost_is_still_sold_again(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.remove("R0")
    runs(sim, "full")
    sim.edit("R0", "revived", status="active")
    sim.market.faults = ["", *["lost"] * 3]
    sim.clock.sleep(120)
    record = sim.run("full")
    assert record is not None
    assert record.state == "partial"
    runs(sim, "incremental")
    assert not sim.market.rows["R0"].live


def test_a_row_that_goes_back_to_what_was_sent_is_a_change_where_theirs_stands(client: redis.Redis) -> None:
    sim = simulation(client, "remote")
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.edit("R0", "price", price=7000)
    sim.put("R0", CHANGED)
    runs(sim, "full")
    assert sim.market.rows["R0"].body["price"] == 7000, "changed on both sides: theirs"
    sim.put("R0", LIVE)
    runs(sim, "full")
    assert sim.market.rows["R0"].body["price"] == 100, "changed here alone"


def test_a_push_that_waited_while_its_row_vanished_and_the_car_was_sold_comes_too_late(client: redis.Redis) -> None:
    sim = simulation(client, versioned=True)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.clock.sleep(10)
    sim.put("R0", CHANGED)
    sim.market.faults = ["no permit"]
    sim.push_rows(["R0"])
    sim.send(0)
    sim.remove("R0")
    runs(sim, "full")
    assert not sim.market.rows["R0"].live
    sim.send(3)
    assert not sim.market.rows["R0"].live, "the row that the push had read is older than its absence"


def test_a_pushed_car_whose_row_was_met_once_and_refused_is_sold_once_that_row_is_gone(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.push_listings({"R0": LIVE}, 0)
    sim.send(3)
    runs(sim, "full")
    sim.market.refused_prices.add(200)
    sim.put("R0", CHANGED)
    runs(sim, "full")
    sim.remove("R0")
    runs(sim, "full")
    assert not sim.market.rows["R0"].live


def test_a_comparison_that_is_done_twice_counts_a_missing_row_once(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died after the ledger had learned of it and before the part was closed."""
    sim = simulation(client, missing_reads=2)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.remove("R0")
    close, deaths = sim.ctx.runs.parts.close, iter([True])

    def dies(run: str, stage: str, *args: Any, **kwargs: Any) -> Any:
        if stage == "diff" and next(deaths, False):
            raise Killed
        return close(run, stage, *args, **kwargs)

    monkeypatch.setattr(sim.ctx.runs.parts, "close", dies)
    assert sim.run("full") is None
    sim.recover()
    assert sim.market.rows["R0"].live
    runs(sim, "full")
    assert not sim.market.rows["R0"].live


def test_a_car_that_was_handed_in_over_a_row_that_says_sold_is_sold_once_that_row_is_gone(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.put("R0", raw_car("R0", 200, "Alpha", "GENT", 0, status=SOLD))
    runs(sim, "full")
    sim.push_listings({"R0": LIVE}, 0)
    sim.send(3)
    sim.market.refused_prices.add(200)
    sim.push_listings({"R0": CHANGED}, 0)
    sim.send(3)
    sim.remove("R0")
    runs(sim, "full")
    assert not sim.market.rows["R0"].live


def test_a_car_that_was_handed_in_and_sold_by_its_first_row_is_in_the_source(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.push_listings({"R0": LIVE}, 0)
    sim.send(3)
    sim.put("R0", raw_car("R0", 200, "Alpha", "GENT", 0, status=SOLD))
    runs(sim, "full")
    sim.push_listings({"R0": CHANGED}, 0)
    sim.send(3)
    sim.remove("R0")
    runs(sim, "full")
    assert not sim.market.rows["R0"].live


def test_a_sold_car_that_comes_back_with_a_row_that_is_refused_is_listed_with_its_next_row(client: redis.Redis) -> None:
    sim = simulation(client)
    there_before_us(sim, LIVE)
    sim.sell(["R0"])
    sim.send(3)
    runs(sim, "full")
    sim.market.refused_prices.add(200)
    sim.put("R0", CHANGED)
    runs(sim, "full")
    sim.put("R0", LIVE)
    runs(sim, "full")
    assert sim.market.rows["R0"].live


def test_a_car_sold_by_hand_that_was_listed_again_and_sold_as_gone_comes_back_with_its_row(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.sell(["R0"])
    sim.send(3)
    sim.edit("R0", "revived", status="active")
    sim.remove("R0")
    runs(sim, "full")
    assert not sim.market.rows["R0"].live
    sim.put("R0", LIVE)
    runs(sim, "full")
    assert sim.market.rows["R0"].live


def test_a_car_that_was_sold_there_while_its_row_was_invalid_is_not_sold_once_more(client: redis.Redis) -> None:
    sim = simulation(client)
    sim.put("R0", LIVE)
    runs(sim, "full")
    sim.put("R0", INVALID)
    sim.edit("R0", "sold", status=SOLD)
    runs(sim, "full")
    sim.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    writes = sim.market.writes
    sim.clock.sleep(4000)
    runs(sim, "incremental")
    assert sim.market.writes == writes


@pytest.mark.parametrize("policy", ["local", "remote", "newest"])
def test_a_change_that_no_answer_names_is_sent_by_the_next_run(client: redis.Redis, policy: Policy) -> None:
    sim = simulation(client, policy)
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.market.unnamed.add("R0")
    sim.put("R0", CHANGED)
    sim.clock.sleep(120)
    record = sim.run("incremental")
    assert record is not None and record.state == "partial"
    sim.market.unnamed.clear()
    runs(sim, "incremental")
    assert sim.market.rows["R0"].body["price"] == 200
    assert not sim.model.wrong, sim.model.wrong


def test_a_look_at_the_plan_records_nothing(client: redis.Redis) -> None:
    sim = simulation(client, "remote")
    sim.put("R0", LIVE)
    runs(sim, "full", "full")
    sim.edit("R0", "price", price=7000)
    before = sim.plain.ledger.get(["R0"])
    sim.clock.sleep(120)
    sim.run("full", plan_only=True)
    assert sim.plain.ledger.get(["R0"]) == before
    runs(sim, "full")
    assert sim.plain.ledger.get(["R0"]) != before, "the run records that theirs stands"
