"""Stories on the model's ground: a row of the decision table that needs rejects, and what the machine has found."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.sync.model_cars import Policy
from tests.sync.stock import INVALID, SOLD, raw_car
from tests.sync.support import Killed
from tests.sync.twins import Row
from tests.sync.workshop import Workshop

LIVE, CHANGED = raw_car("R0", 100, "Alpha", "GENT", 0), raw_car("R0", 200, "Beta", "GENT", 0)


def workshop(
    client: redis.Redis, policy: Policy = "local", missing_reads: int = 1, *, versioned: bool = False
) -> Workshop:
    return Workshop(
        client, policy=policy, missing_reads=missing_reads, sliceable=True, versioned=versioned, page_size=200
    )  # fmt: skip


def runs(shop: Workshop, *modes: str) -> None:
    for mode in modes:
        shop.clock.sleep(120)
        record = shop.run(mode)
        assert record is not None
        assert record.state == "done", record


def there_before_us(shop: Workshop, row: str) -> None:
    """The marketplace has R0 from a time before this ledger."""
    shop.market.rows["R0"] = Row("id-R0", json.loads(row), shop.clock.now_ms)


def test_rejected_before_and_unchanged_any_stays_parked_and_costs_no_request(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.market.refused_prices.add(100)
    shop.put("R0", LIVE)
    runs(shop, "full")
    requests = shop.market.requests
    runs(shop, "full", "incremental")
    assert shop.market.requests - requests == 2  # a page each
    assert shop.plain.ledger.rejects(["R0"])["R0"].code == "REFUSED"
    shop.put("R0", CHANGED)
    runs(shop, "incremental")
    assert shop.market.rows["R0"].body["price"] == 200
    assert shop.plain.ledger.reject_count() == 0


@pytest.mark.parametrize("policy", ["remote", "newest"])
def test_a_change_right_after_a_write_is_sent_whatever_the_echo_looks_like(client: redis.Redis, policy: Policy) -> None:
    shop = workshop(client, policy)
    shop.market.quirks = {"spelling"}
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.put("R0", CHANGED)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].body["price"] == 200


def test_a_row_that_says_sold_is_never_sold_by_an_upsert(client: redis.Redis) -> None:
    shop = workshop(client)
    there_before_us(shop, LIVE)
    shop.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    shop.run("full", plan_only=True)
    assert shop.running().plan.get("R0") != "update"


def test_a_car_comes_back_also_by_way_of_an_invalid_row(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.remove("R0")
    runs(shop, "full")
    shop.put("R0", INVALID)
    runs(shop, "full")
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].live


def test_a_car_sold_by_hand_and_revived_there_leaves_nothing_to_do_for_ever(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.sell(["R0"])
    shop.send(3)
    runs(shop, "full")
    shop.edit("R0", "revived", status="active")
    runs(shop, "full", "full", "full")
    shop.run("full", plan_only=True)
    assert shop.running().plan == {}


def test_a_car_revived_there_is_sold_again_when_its_row_says_so(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    runs(shop, "full")
    shop.edit("R0", "revived", status="active")
    runs(shop, "full", "full")
    assert not shop.market.rows["R0"].live


def test_a_car_sold_and_revived_there_is_sold_when_its_row_is_gone(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.edit("R0", "sold", status=SOLD)
    runs(shop, "full")
    shop.edit("R0", "revived", status="active")
    shop.remove("R0")
    runs(shop, "full", "full")
    assert not shop.market.rows["R0"].live


def test_a_car_that_is_sold_there_and_unknown_here_is_not_revived(client: redis.Redis) -> None:
    shop = workshop(client)
    there_before_us(shop, raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    shop.put("R0", LIVE)
    runs(shop, "full", "incremental")
    assert not shop.market.rows["R0"].live


def test_a_car_that_is_sold_there_and_unknown_here_is_revived_by_a_change_here(client: redis.Redis) -> None:
    shop = workshop(client)
    there_before_us(shop, raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    shop.put("R0", CHANGED)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].live


@pytest.mark.parametrize("policy", ["remote", "newest"])
def test_a_move_to_another_dealer_that_stands_is_decided_once(client: redis.Redis, policy: Policy) -> None:
    shop = workshop(client, policy)
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    shop.edit("R0", "dealer", dealerLocationCode="LIEGE")
    runs(shop, "full", "full")
    shop.put("R0", CHANGED)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].body["price"] == 200


def test_a_drift_whose_answer_was_refused_stays_parked(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    shop.edit("R0", "price", price=7000)
    shop.market.refused_prices.add(100)
    runs(shop, "full")
    requests = shop.market.requests
    runs(shop, "incremental", "full", "incremental", "full")
    assert shop.market.requests - requests == 4  # a page each


@pytest.mark.parametrize("policy", ["local", "remote", "newest"])
def test_whatever_the_rendering_all_is_quiet_after_two_runs(client: redis.Redis, policy: Policy) -> None:
    shop = workshop(client, policy)
    shop.market.quirks = {"order", "spaces", "rounds", "spelling"}
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    writes = shop.market.writes
    runs(shop, "full", "incremental", "full")
    assert shop.market.writes == writes


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_car_sold_there_whose_row_was_invalid_when_we_met_it_is_not_revived_in_silence(
    client: redis.Redis, mode: str
) -> None:
    shop = workshop(client)
    there_before_us(shop, raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    shop.put("R0", INVALID)
    runs(shop, "full")
    shop.put("R0", LIVE)
    runs(shop, mode, "incremental", "full")
    assert not shop.market.rows["R0"].live
    shop.put("R0", CHANGED)
    runs(shop, mode)
    assert shop.market.rows["R0"].live, "now somebody changed it here"


def test_a_pushed_car_sold_by_its_row_and_revived_there_is_what_its_row_says_again(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.push_listings({"R0": CHANGED}, 0)
    shop.send(3)
    runs(shop, "full")
    shop.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    runs(shop, "full")
    shop.edit("R0", "revived", status="active")
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].body["price"] == 100


def test_an_edit_there_while_a_missing_row_is_waited_for_is_answered_when_the_row_is_back(client: redis.Redis) -> None:
    shop = workshop(client, missing_reads=2)
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    shop.edit("R0", "price", price=7000)
    shop.remove("R0")
    runs(shop, "full")
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].body["price"] == 100


def test_a_car_that_they_keep_listed_is_sold_once_its_row_is_gone(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.sell(["R0"])
    shop.send(3)
    for _ in range(2):
        shop.edit("R0", "revived", status="active")
        runs(shop, "full", "full")
    assert shop.market.rows["R0"].live, "answered once, then a conflict"
    shop.push_listings({"R0": CHANGED}, 0)
    shop.send(3)
    runs(shop, "full")
    shop.remove("R0")
    runs(shop, "full")
    assert not shop.market.rows["R0"].live


@pytest.mark.parametrize("field", ["price", "title"])
def test_a_second_edit_before_our_answer_was_read_is_an_edit_like_any_other(client: redis.Redis, field: str) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    for theirs in (7000, 8000):
        shop.edit("R0", field, **{field: theirs if field == "price" else f"Theirs {theirs}"})
        runs(shop, "full")
    assert shop.market.rows["R0"].body[field] == json.loads(LIVE)[field]


@pytest.mark.parametrize("gone", [True, False])
def test_a_sold_car_whose_push_is_in_doubt_is_not_sold_again_by_a_run(client: redis.Redis, gone: bool) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.sell(["R0"])
    shop.send(3)
    if gone:
        shop.remove("R0")
    runs(shop, "full", "full")
    shop.market.faults = ["done but lost"]
    shop.push_listings({"R0": CHANGED}, 0)
    shop.send(0)
    shop.clock.sleep(1)
    shop.run("full")
    assert shop.market.rows["R0"].live
    shop.clock.sleep(120)
    shop.send(3)
    runs(shop, "full", "full")
    assert shop.market.rows["R0"].live
    assert shop.market.rows["R0"].body["price"] == 200


def test_a_sold_car_listed_again_there_while_its_sell_is_lost_is_still_sold_again(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.remove("R0")
    runs(shop, "full")
    shop.edit("R0", "revived", status="active")
    shop.market.faults = ["", *["lost"] * 3]
    shop.clock.sleep(120)
    record = shop.run("full")
    assert record is not None
    assert record.state == "partial"
    runs(shop, "incremental")
    assert not shop.market.rows["R0"].live


def test_a_row_that_goes_back_to_what_was_sent_is_a_change_where_theirs_stands(client: redis.Redis) -> None:
    shop = workshop(client, "remote")
    shop.put("R0", LIVE)
    runs(shop, "full", "full")
    shop.edit("R0", "price", price=7000)
    shop.put("R0", CHANGED)
    runs(shop, "full")
    assert shop.market.rows["R0"].body["price"] == 7000, "changed on both sides: theirs"
    shop.put("R0", LIVE)
    runs(shop, "full")
    assert shop.market.rows["R0"].body["price"] == 100, "changed here alone"


def test_a_push_that_waited_while_its_row_vanished_and_the_car_was_sold_comes_too_late(client: redis.Redis) -> None:
    shop = workshop(client, versioned=True)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.clock.sleep(10)
    shop.put("R0", CHANGED)
    shop.market.faults = ["no permit"]
    shop.push_rows(["R0"])
    shop.send(0)
    shop.remove("R0")
    runs(shop, "full")
    assert not shop.market.rows["R0"].live
    shop.send(3)
    assert not shop.market.rows["R0"].live, "the row that the push had read is older than its absence"


def test_a_pushed_car_whose_row_was_met_once_and_refused_is_sold_once_that_row_is_gone(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.push_listings({"R0": LIVE}, 0)
    shop.send(3)
    runs(shop, "full")
    shop.market.refused_prices.add(200)
    shop.put("R0", CHANGED)
    runs(shop, "full")
    shop.remove("R0")
    runs(shop, "full")
    assert not shop.market.rows["R0"].live


def test_a_comparison_that_is_done_twice_counts_a_missing_row_once(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died after the ledger had learned of it and before the part was closed."""
    shop = workshop(client, missing_reads=2)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.remove("R0")
    close, deaths = shop.ctx.runs.parts.close, iter([True])

    def dies(run: str, stage: str, *args: Any, **kwargs: Any) -> Any:
        if stage == "diff" and next(deaths, False):
            raise Killed
        return close(run, stage, *args, **kwargs)

    monkeypatch.setattr(shop.ctx.runs.parts, "close", dies)
    assert shop.run("full") is None
    shop.recover()
    assert shop.market.rows["R0"].live
    runs(shop, "full")
    assert not shop.market.rows["R0"].live


def test_a_car_that_was_handed_in_over_a_row_that_says_sold_is_sold_once_that_row_is_gone(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.put("R0", raw_car("R0", 200, "Alpha", "GENT", 0, status=SOLD))
    runs(shop, "full")
    shop.push_listings({"R0": LIVE}, 0)
    shop.send(3)
    shop.market.refused_prices.add(200)
    shop.push_listings({"R0": CHANGED}, 0)
    shop.send(3)
    shop.remove("R0")
    runs(shop, "full")
    assert not shop.market.rows["R0"].live


def test_a_car_that_was_handed_in_and_sold_by_its_first_row_is_in_the_source(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.push_listings({"R0": LIVE}, 0)
    shop.send(3)
    shop.put("R0", raw_car("R0", 200, "Alpha", "GENT", 0, status=SOLD))
    runs(shop, "full")
    shop.push_listings({"R0": CHANGED}, 0)
    shop.send(3)
    shop.remove("R0")
    runs(shop, "full")
    assert not shop.market.rows["R0"].live


def test_a_sold_car_that_comes_back_with_a_row_that_is_refused_is_listed_with_its_next_row(client: redis.Redis) -> None:
    shop = workshop(client)
    there_before_us(shop, LIVE)
    shop.sell(["R0"])
    shop.send(3)
    runs(shop, "full")
    shop.market.refused_prices.add(200)
    shop.put("R0", CHANGED)
    runs(shop, "full")
    shop.put("R0", LIVE)
    runs(shop, "full")
    assert shop.market.rows["R0"].live


def test_a_car_sold_by_hand_that_was_listed_again_and_sold_as_gone_comes_back_with_its_row(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.sell(["R0"])
    shop.send(3)
    shop.edit("R0", "revived", status="active")
    shop.remove("R0")
    runs(shop, "full")
    assert not shop.market.rows["R0"].live
    shop.put("R0", LIVE)
    runs(shop, "full")
    assert shop.market.rows["R0"].live


def test_a_car_that_was_sold_there_while_its_row_was_invalid_is_not_sold_once_more(client: redis.Redis) -> None:
    shop = workshop(client)
    shop.put("R0", LIVE)
    runs(shop, "full")
    shop.put("R0", INVALID)
    shop.edit("R0", "sold", status=SOLD)
    runs(shop, "full")
    shop.put("R0", raw_car("R0", 100, "Alpha", "GENT", 0, status=SOLD))
    writes = shop.market.writes
    shop.clock.sleep(4000)
    runs(shop, "incremental")
    assert shop.market.writes == writes
