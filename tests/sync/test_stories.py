"""Listings that the feed alone does not explain, each over many runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.reports.listing import why_document
from okasie_tasks.sync import rejects
from tests.sync.guarded_world import GuardedWorld
from tests.sync.http_world import Row, varied

MANY = ("incremental", "full", "incremental", "full")
PUSHED = "PUSHED-1"


@pytest.fixture
def world(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedWorld]:
    with GuardedWorld(tmp_path, redis_url, rows=varied(30, seed=1)) as found:
        found.good_run()
        yield found


def quiet(world: GuardedWorld) -> None:
    """Many runs, and none of them writes anything."""
    for mode in MANY:
        document = world.good_run(mode)
        sent = {kind: document["requests"][kind] for kind in ("bulk", "put", "delete")}
        assert sent == {"bulk": 0, "put": 0, "delete": 0}, document


def alike(world: GuardedWorld, reference: str) -> Row:
    """A row for this reference, as for a car of Ghent."""
    return {**world.of_dealer("DEMO-GENT")[0], "stock_no": reference}


def test_a_pushed_car_that_the_feed_does_not_know_stands_until_it_was_there_and_left(world: GuardedWorld) -> None:
    world.push(alike(world, PUSHED), price=7777)
    quiet(world)
    assert world.standing()[PUSHED]["price"] == 7777
    world.rows.append({**alike(world, PUSHED), "price_eur": "8888"})
    assert world.good_run("incremental")["listings"]["updated"] == 1
    assert world.standing()[PUSHED]["price"] == 8888
    world.rows.pop()
    assert world.good_run("incremental")["listings"]["sold"] == 1
    quiet(world)
    assert PUSHED in world.sold()


def test_a_pushed_price_stands_until_its_row_changes(world: GuardedWorld) -> None:
    row = world.rows[0]
    world.push(row, price=7777)
    quiet(world)
    assert world.standing()[row["stock_no"]]["price"] == 7777
    row["price_eur"] = "6666"
    assert world.good_run("incremental")["listings"]["updated"] == 1
    assert world.standing()[row["stock_no"]]["price"] == 6666


def test_a_car_sold_by_hand_stays_sold_while_its_row_stands(world: GuardedWorld) -> None:
    row = world.rows[0]
    world.sell(row["stock_no"])
    quiet(world)
    row["price_eur"] = "6666"
    quiet(world)
    assert world.sold() == {row["stock_no"]}
    world.remove([row])
    quiet(world)
    world.rows.append(row)
    assert world.good_run("incremental")["listings"]["updated"] == 1, "back after it was gone"
    assert world.sold() == set()


def test_a_car_sold_by_hand_comes_back_when_somebody_pushes_it(world: GuardedWorld) -> None:
    row = world.rows[0]
    world.sell(row["stock_no"])
    quiet(world)
    world.push(row, price=7777)
    quiet(world)
    assert world.standing()[row["stock_no"]]["price"] == 7777


def test_a_car_sold_by_somebody_on_the_marketplace_is_not_revived_in_silence(world: GuardedWorld) -> None:
    row = world.rows[0]
    world.edit({"reference": row["stock_no"], "status": "sold"})
    for mode in MANY:
        document = world.good_run(mode, step=False)
        assert (document["listings"]["conflicts"], document["requests"]["bulk"]) == (1, 0), document
    row["price_eur"] = "6666"
    assert world.good_run("incremental")["listings"]["updated"] == 1, "somebody changed the row"
    assert world.sold() == set()


def test_a_row_without_a_readable_reference_makes_all_sells_wait(world: GuardedWorld) -> None:
    name = world.rows[0]["stock_no"]
    world.rows[0]["stock_no"] = "no/reference"
    for mode in MANY:
        document = world.good_run(mode)
        assert (document["listings"]["sold"], document["requests"]["delete"]) == (0, 0), document
        assert document["unreadable_references"]
    world.rows[0]["stock_no"] = name
    quiet(world)
    assert world.sold() == set()


def test_one_reference_twice_counts_once_when_equal_and_not_at_all_when_not(world: GuardedWorld) -> None:
    twin = dict(world.rows[0])
    world.rows.append(twin)
    quiet(world)
    before = world.standing()[twin["stock_no"]]
    twin["price_eur"] = "6666"
    for mode in MANY:
        run = world.told(mode)
        assert (run["listings"]["rejected"], run["requests"]["bulk"], run["listings"]["sold"]) == (1, 0, 0), run
    assert world.standing()[twin["stock_no"]] == before
    world.remove([twin])
    assert world.good_run("incremental")["listings"]["sold"] == 1, "now it is gone"


def test_a_dealer_out_of_reach_parks_his_own_items_only(world: GuardedWorld) -> None:
    world.scope("DEMO-GENT", "DEMO-BRUGGE")
    far = world.of_dealer("DEMO-MECHELEN")
    for row in world.rows:
        row["price_eur"] = "6666"
    run = world.told("incremental")
    assert run["listings"]["updated"] == len(world.rows) - len(far), run
    rejects = list(world.ctx.ledger.all_rejects())
    assert {reject.reference for reject in rejects} == {row["stock_no"] for row in far}
    assert {reject.code for reject in rejects} == {"PROFILE_FORBIDDEN"}
    for _ in range(2):
        assert world.told("incremental")["requests"]["bulk"] == 0, "not sent again"


def test_what_is_pushed_is_what_a_run_would_send(world: GuardedWorld) -> None:
    """The same row by either way is the same content: a run after a push by reference finds nothing to do."""
    row = world.rows[0]
    row["price_eur"] = "6666"
    world.push_reference(row["stock_no"])
    quiet(world)


def test_a_sell_that_was_refused_is_parked_like_anything_else(world: GuardedWorld) -> None:
    row = world.rows[0]
    world.remove([row])
    world.faults({"kind": "400", "match": {"path": "delete"}, "times": 1})
    assert world.told("incremental")["requests"]["delete"] == 1
    quiet(world)
    assert (world.sold(), world.status()["rejects"]) == (set(), 1)
    assert rejects.free(world.ctx, [row["stock_no"]]).freed == [row["stock_no"]]
    assert world.good_run("incremental")["listings"]["sold"] == 1
    assert (world.sold(), world.status()["rejects"]) == ({row["stock_no"]}, 0)


def test_a_held_listing_says_so(world: GuardedWorld) -> None:
    gone = world.remove(world.of_dealer("DEMO-GENT")[:6])
    held = world.told("incremental")
    assert held["state"] == "held", held
    for reference in sorted(gone):
        assert why_document(world.ctx, reference)["held_run"] == held["run"]
    assert why_document(world.ctx, world.rows[0]["stock_no"])["held_run"] is None


@pytest.mark.parametrize("how", ["gone from the feed", "sold by hand"])
@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_what_we_sold_and_somebody_lists_again_is_sold_again(world: GuardedWorld, how: str, mode: str) -> None:
    row = world.rows[0]
    if how == "sold by hand":
        world.sell(row["stock_no"])
    else:
        world.remove([row])
        world.good_run()
    quiet(world)
    world.clock.ahead += 3600
    world.edit({"reference": row["stock_no"], "status": "active"})
    document = world.good_run(mode, step=False)
    assert (document["listings"]["sold"], document["listings"]["drifted"]) == (1, 1), document
    quiet(world)
    assert world.sold() == {row["stock_no"]}


def test_a_marketplace_that_keeps_a_sold_car_listed_is_not_fought(world: GuardedWorld) -> None:
    row = world.rows[0]
    world.sell(row["stock_no"])
    quiet(world)
    for number, outcome in enumerate(("sold", "conflicts")):
        world.clock.ahead += 3600
        world.edit({"reference": row["stock_no"], "status": "active"})
        document = world.good_run("incremental" if number else "full", step=False)
        assert document["listings"][outcome] == 1, document
    assert world.told("full")["requests"]["delete"] == 0
