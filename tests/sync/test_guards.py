"""Each guard with its plan: what trips it, what goes out all the same, what waits, and what a person's word releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.sync import plan_review
from tests.sync.guarded_world import GuardedWorld
from tests.sync.http_world import ACCOUNT, varied

CARS = 120
"""Of three dealers, some forty each."""


@pytest.fixture
def world(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedWorld]:
    """A dealer group in step with the marketplace, under the guards as they are when nothing is said."""
    with GuardedWorld(tmp_path, redis_url, rows=varied(CARS, seed=1)) as found:
        found.good_run()
        yield found


# -- sells ---------------------------------------------------------------------------------------------------------


def test_too_many_sells_of_one_dealer_wait_prices_and_other_dealers_do_not(world: GuardedWorld) -> None:
    gone = world.remove(world.of_dealer("DEMO-GENT")[:10])
    other = world.remove(world.of_dealer("DEMO-BRUGGE")[:2])
    world.rows[0]["price_eur"] = "4321"
    held = world.told()
    assert (held["state"], held["listings"]["held"], held["listings"]["updated"]) == ("held", 10, 1), held
    assert world.sold() == other
    assert held["held_run"] == held["run"]
    assert [(plan_review["guard"], plan_review["what"], plan_review["count"]) for plan_review in held["held"]] == [
        ("sold_percent", "sells", 10)
    ]
    assert world.status()["held_plan"]["run"] == held["run"]
    released = world.told(approves=held["run"])
    assert (released["state"], released["approved"], released["listings"]["sold"]) == ("done", held["run"], 10)
    assert world.sold() == gone | other
    before = world.ctx.runs.get(held["run"])
    assert before is not None
    assert (before.state, world.status()["held_plan"]) == ("done", None)
    assert world.good_run()["requests"]["delete"] == 0


def test_an_equal_plan_keeps_its_name_and_our_own_writes_do_not_outdate_it(world: GuardedWorld) -> None:
    rows = world.of_dealer("DEMO-GENT")[:10]
    world.remove(rows)
    first = world.told()
    world.rows[3]["price_eur"] = "4321"
    later = [world.told(mode) for mode in ("incremental", "full", "incremental")]
    assert [(run["state"], run["held_run"], run["listings"]["held"]) for run in later] == [
        ("held", first["run"], 10)
    ] * 3
    by_hand = rows[0]["stock_no"]
    world.sell(by_hand)
    assert world.told()["held_run"] == first["run"], "one less, by our own hand"
    released = world.told(approves=first["run"])
    assert (released["approved"], released["listings"]["sold"]) == (first["run"], 9)
    assert world.sold() == {row["stock_no"] for row in rows}


@pytest.mark.parametrize("moved", ["one more is gone", "one is back", "all are back"])
def test_a_plan_that_is_no_longer_what_waits_is_not_sent(world: GuardedWorld, moved: str) -> None:
    rows = world.of_dealer("DEMO-GENT")
    world.remove(rows[:10])
    first = world.told()
    if moved == "one more is gone":
        world.remove(rows[10:11])
    else:
        world.rows += rows[:1] if moved == "one is back" else rows[:10]
    refused = world.told(approves=first["run"])
    assert (refused["approved"], refused["listings"]["sold"], world.sold()) == (None, 0, set())
    if moved == "all are back":
        assert (refused["state"], world.status()["held_plan"]) == ("done", None)
        return
    assert refused["held_run"] == refused["run"] != first["run"]
    again = world.told(approves=first["run"])
    assert (again["approved"], again["held_run"]) == (None, refused["run"]), "the old name releases nothing"
    assert world.told(approves=refused["run"])["listings"]["sold"] == (11 if moved == "one more is gone" else 9)


def test_a_dropped_plan_is_not_sent_and_later_runs_plan_anew(world: GuardedWorld) -> None:
    world.remove(world.of_dealer("DEMO-GENT")[:10])
    first = world.told()
    assert plan_review.drop(world.ctx, first["run"])
    assert not plan_review.drop(world.ctx, first["run"]), "once"
    assert world.ctx.runs.state(first["run"]) == "dropped"
    assert world.told(approves=first["run"])["approved"] is None
    second = world.told()
    assert (second["state"], world.sold()) == ("held", set())
    assert second["held_run"] != first["run"]


def test_a_plan_expires(world: GuardedWorld, client: redis.Redis) -> None:
    world.remove(world.of_dealer("DEMO-GENT")[:10])
    first = world.told()
    plan = plan_review.held_plan(world.ctx)
    assert plan is not None
    now_ms = world.ctx.runs.now_ms()
    assert abs(plan.expires_ms - now_ms - 72 * 3600 * 1000) < 60_000, "plan_expires = 72h"
    assert world.ctx.plans.get(ACCOUNT, now_ms=plan.expires_ms - 1) is not None
    assert world.ctx.plans.get(ACCOUNT, now_ms=plan.expires_ms) is None
    assert world.ctx.runs.state(first["run"]) == "expired"
    assert world.told(approves=first["run"])["approved"] is None
    assert world.sold() == set()


def test_a_look_at_the_plan_shows_what_the_run_then_does_and_changes_nothing(world: GuardedWorld) -> None:
    gone = world.remove(world.of_dealer("DEMO-GENT")[:10])
    world.rows[0]["price_eur"] = "4321"
    plan = world.look()
    assert {change["reference"] for change in plan["changes"] if change["held"]} == gone
    assert [c["reference"] for c in plan["changes"] if not c["held"]] == [world.rows[0]["stock_no"]]
    assert (world.status()["held_plan"], plan["planned"]) == (None, {"upserts": 1, "sells": 0})
    run = world.told()
    assert (run["listings"]["held"], run["listings"]["updated"]) == (10, 1)


@pytest.mark.parametrize(("keep", "state"), [(0, "held"), (CARS // 2, "held"), (CARS - 5, "done")])
def test_a_source_that_shrank_or_is_empty(world: GuardedWorld, keep: int, state: str) -> None:
    del world.rows[keep:]
    run = world.told()
    assert run["state"] == state, run
    assert len(world.sold()) == (0 if state == "held" else CARS - keep)
    if state == "held":
        assert run["held"][0]["guard"] == ("source_shrunk" if keep else "source_empty")
        again = world.told("full")
        assert (again["held_run"], again["listings"]["held"]) == (run["run"], CARS - keep), "still cut, still held"


# -- updates -------------------------------------------------------------------------------------------------------


def test_a_mapping_that_changes_everything_waits_as_a_whole(world: GuardedWorld) -> None:
    world.rows.clear()
    world.rows += varied(90, seed=2)
    for row in world.rows:
        row["branch"] = "DEMO-GENT"
    world.lose_redis()
    world.sandbox.store.reset()
    world.good_run()
    for row in world.rows[:54]:
        row["price_eur"] = "4321"
    assert world.told()["listings"]["updated"] == 54, "just 60 %"
    for row in world.rows[:55]:
        row["price_eur"] = "5432"
    held = world.told()
    assert (held["state"], held["listings"]["held"], held["listings"]["updated"]) == ("held", 55, 0), held
    assert held["requests"]["minimum"] == 1
    world.rows += varied(1, seed=2, first=500)
    later = world.told("full")
    assert (later["held_run"], later["listings"]["created"]) == (held["run"], 1), "what is new goes out"
    released = world.told(approves=held["run"])
    assert (released["approved"], released["listings"]["updated"]) == (held["run"], 55)
    assert world.standing() == world.wanted()


def test_a_field_that_vanishes_is_not_wiped_until_a_person_says_so(world: GuardedWorld) -> None:
    mine = [row for row in world.of_dealer("DEMO-GENT") if row["colour"].strip()]
    few, rest = mine[: len(mine) // 5], mine[len(mine) // 5 :]
    assert len(few) > 5, "more than are free"
    for row in few:
        row["colour"] = ""
    assert world.told()["listings"]["updated"] == len(few), "at most 20 %"
    for row in rest:
        row["colour"] = ""
    cheaper = world.of_dealer("DEMO-BRUGGE")[0]
    cheaper["price_eur"] = "4321"
    held = world.told()
    assert (held["state"], held["held"][0]["guard"], held["held"][0]["fields"]) == ("held", "field_loss", ["color"])
    assert (held["listings"]["held"], held["listings"]["updated"]) == (len(rest), 1)
    standing = world.standing()
    assert all("color" in standing[row["stock_no"]] for row in rest)
    assert standing[cheaper["stock_no"]]["price"] == 4321
    released = world.told(approves=held["run"])
    assert released["approved"] == held["run"]
    assert world.standing() == world.wanted()


@pytest.mark.parametrize("broken", ["half the bytes", "empty", "an error page", "a renamed price column", "no prices"])
def test_a_broken_feed_sells_nothing_and_wipes_nothing(world: GuardedWorld, broken: str) -> None:
    before = world.standing()
    text = world.feed_text()
    head, _, rest = text.partition("\n")
    world.feed_is({
        "half the bytes": text[: len(text) // 2],
        "empty": "",
        "an error page": "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        "a renamed price column": head.replace("price_eur", "prijs") + "\n" + rest,
        "no prices": "\n".join([head, *(_without_price(line) for line in rest.splitlines())]) + "\n",
    }[broken])  # fmt: skip
    for mode in ("incremental", "full"):
        run = world.told(mode)
        assert run["state"] in ("held", "failed"), run
        assert (run["error"] or {}).get("message") or run["held"][0]["reason"]
        assert (world.standing(), world.sold()) == (before, set())


def _without_price(line: str) -> str:
    cells = line.split(";")
    return ";".join([*cells[:5], "", *cells[6:]])


# -- the key, and what was there before us -------------------------------------------------------------------------


def test_a_key_that_reaches_fewer_dealers_creates_nothing_and_sells_nothing(world: GuardedWorld) -> None:
    world.good_run()  # the first that finds dealers there
    gone = world.remove(world.of_dealer("DEMO-GENT")[:1])
    world.scope("DEMO-GENT", "DEMO-BRUGGE")
    run = world.told("full")
    assert (run["state"], run["held"][0]["guard"], run["listings"]["held"]) == ("held", "scope_narrowed", 1), run
    assert (run["requests"]["bulk"], world.sold()) == (0, set())
    world.scope()
    assert world.good_run()["listings"]["sold"] == 1
    assert world.sold() == gone


@pytest.mark.parametrize("word", ["hold", "drop", "allow"])
def test_rows_from_before_our_time(tmp_path: Path, redis_url: str, client: redis.Redis, word: str) -> None:
    rows = varied(40, seed=3)
    with GuardedWorld(
        tmp_path, redis_url, rows=rows, guard='first_full_sells = "allow"' if word == "allow" else ""
    ) as world:
        world.good_run()
        world.edit({"reference": "OTHER", "create": {"title": "Theirs", "price": 5}})
        world.lose_redis()
        gone = world.remove(world.rows[:3])
        run = world.told("full")
        if word == "allow":
            assert (run["state"], run["listings"]["sold"], world.sold()) == ("done", 3, gone), run
        else:
            assert (run["state"], run["held"][0]["guard"], run["listings"]["held"]) == ("held", "take_over", 3), run
            assert (run["listings"]["unchanged"], run["listings"]["foreign"], run["requests"]["bulk"]) == (37, 1, 0)
            later = [world.told(mode) for mode in ("incremental", "full")]
            assert [(one["held_run"], one["state"]) for one in later] == [(run["run"], "held")] * 2
        if word == "hold":
            released = world.told("full", approves=run["run"])
            assert (released["approved"], released["listings"]["sold"], world.sold()) == (run["run"], 3, gone)
        if word == "drop":
            assert plan_review.drop(world.ctx, run["run"])
        last = world.good_run()
        assert (last["listings"]["sold"], last["listings"]["foreign"]) == (0, 4 if word == "drop" else 1)
        assert world.sold() == (set() if word == "drop" else gone)


def test_a_person_may_confirm_that_the_key_reaches_fewer_dealers(world: GuardedWorld) -> None:
    world.good_run()
    gone = world.remove(world.of_dealer("DEMO-GENT")[:1])
    world.rows[:] = [row for row in world.rows if row["branch"] != "DEMO-MECHELEN"]
    world.scope("DEMO-GENT", "DEMO-BRUGGE")
    held = world.told("full")
    assert held["state"] == "held"
    released = world.told("full", approves=held["run"])
    assert (released["state"], released["approved"]) == ("done", held["run"]), released
    assert gone <= world.sold()
    assert world.told("full")["state"] == "done", "what the key reaches now is the measure"


@pytest.mark.parametrize("cut_at", [";9", "\n"])
def test_a_feed_that_is_cut_within_its_last_cell_sends_nothing(world: GuardedWorld, cut_at: str) -> None:
    """The row still has all its columns, but what its last one says may be half of it."""
    lines = world.feed_text().splitlines()
    for number, line in enumerate(lines[1:], start=1):
        lines[number] = f"{line.rsplit(';', 1)[0]};comfort:airco"
    world.feed_is("\n".join(lines) + "\n")
    world.told()
    before = world.standing()
    half = "\n".join(lines[:60])
    world.feed_is(half[:-4] if cut_at != "\n" else half + "\n")
    run = world.told()
    if cut_at == "\n":
        assert (run["state"], run["held"][0]["guard"]) == ("held", "source_shrunk")
    else:
        assert (run["state"], run["error"]["code"]) == ("failed", "cut"), run
    assert (world.standing(), world.sold()) == (before, set())
