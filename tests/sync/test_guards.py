"""Each guard with its plan: what trips it, what goes out all the same, what waits, and what a person's word releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.sync import plan_review
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

CARS = 120
"""Of three dealers, some forty each."""


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    """A dealer group in step with the marketplace, under the guards as they are when nothing is said."""
    with GuardedScenario(tmp_path, redis_url, rows=varied(CARS, seed=1)) as found:
        found.good_run()
        yield found


# -- sells ---------------------------------------------------------------------------------------------------------


def test_too_many_sells_of_one_dealer_wait_prices_and_other_dealers_do_not(scenario: GuardedScenario) -> None:
    gone = scenario.remove(scenario.of_dealer("DEMO-GENT")[:10])
    other = scenario.remove(scenario.of_dealer("DEMO-BRUGGE")[:2])
    scenario.rows[0]["price_eur"] = "4321"
    held = scenario.told()
    assert (held["state"], held["listings"]["held"], held["listings"]["updated"]) == ("held", 10, 1), held
    assert scenario.sold() == other
    assert held["held_run"] == held["run"]
    assert [(plan_review["guard"], plan_review["what"], plan_review["count"]) for plan_review in held["held"]] == [
        ("sold_percent", "sells", 10)
    ]
    assert scenario.status()["held_plan"]["run"] == held["run"]
    released = scenario.told(approves=held["run"])
    assert (released["state"], released["approved"], released["listings"]["sold"]) == ("done", held["run"], 10)
    assert scenario.sold() == gone | other
    before = scenario.ctx.runs.get(held["run"])
    assert before is not None
    assert (before.state, scenario.status()["held_plan"]) == ("done", None)
    assert scenario.good_run()["requests"]["delete"] == 0


def test_an_equal_plan_keeps_its_name_and_our_own_writes_do_not_outdate_it(scenario: GuardedScenario) -> None:
    rows = scenario.of_dealer("DEMO-GENT")[:10]
    scenario.remove(rows)
    first = scenario.told()
    scenario.rows[3]["price_eur"] = "4321"
    later = [scenario.told(mode) for mode in ("incremental", "full", "incremental")]
    assert [(run["state"], run["held_run"], run["listings"]["held"]) for run in later] == [
        ("held", first["run"], 10)
    ] * 3
    by_hand = rows[0]["stock_no"]
    scenario.sell(by_hand)
    assert scenario.told()["held_run"] == first["run"], "one less, by our own hand"
    released = scenario.told(approves=first["run"])
    assert (released["approved"], released["listings"]["sold"]) == (first["run"], 9)
    assert scenario.sold() == {row["stock_no"] for row in rows}


@pytest.mark.parametrize("moved", ["one more is gone", "one is back", "all are back"])
def test_a_plan_that_is_no_longer_what_waits_is_not_sent(scenario: GuardedScenario, moved: str) -> None:
    rows = scenario.of_dealer("DEMO-GENT")
    scenario.remove(rows[:10])
    first = scenario.told()
    if moved == "one more is gone":
        scenario.remove(rows[10:11])
    else:
        scenario.rows += rows[:1] if moved == "one is back" else rows[:10]
    refused = scenario.told(approves=first["run"])
    assert (refused["approved"], refused["listings"]["sold"], scenario.sold()) == (None, 0, set())
    if moved == "all are back":
        assert (refused["state"], scenario.status()["held_plan"]) == ("done", None)
        return
    assert refused["held_run"] == refused["run"] != first["run"]
    again = scenario.told(approves=first["run"])
    assert (again["approved"], again["held_run"]) == (None, refused["run"]), "the old name releases nothing"
    assert scenario.told(approves=refused["run"])["listings"]["sold"] == (11 if moved == "one more is gone" else 9)


def test_a_dropped_plan_is_not_sent_and_later_runs_plan_anew(scenario: GuardedScenario) -> None:
    scenario.remove(scenario.of_dealer("DEMO-GENT")[:10])
    first = scenario.told()
    assert plan_review.drop(scenario.ctx, first["run"])
    assert not plan_review.drop(scenario.ctx, first["run"]), "once"
    assert scenario.ctx.runs.state(first["run"]) == "dropped"
    assert scenario.told(approves=first["run"])["approved"] is None
    second = scenario.told()
    assert (second["state"], scenario.sold()) == ("held", set())
    assert second["held_run"] != first["run"]


def test_a_plan_expires(scenario: GuardedScenario, client: redis.Redis) -> None:
    scenario.remove(scenario.of_dealer("DEMO-GENT")[:10])
    first = scenario.told()
    plan = plan_review.held_plan(scenario.ctx)
    assert plan is not None
    now_ms = scenario.ctx.runs.now_ms()
    assert abs(plan.expires_ms - now_ms - 72 * 3600 * 1000) < 60_000, "plan_expires = 72h"
    assert scenario.ctx.plans.get(ACCOUNT, now_ms=plan.expires_ms - 1) is not None
    assert scenario.ctx.plans.get(ACCOUNT, now_ms=plan.expires_ms) is None
    assert scenario.ctx.runs.state(first["run"]) == "expired"
    assert scenario.told(approves=first["run"])["approved"] is None
    assert scenario.sold() == set()


def test_a_look_at_the_plan_shows_what_the_run_then_does_and_changes_nothing(scenario: GuardedScenario) -> None:
    gone = scenario.remove(scenario.of_dealer("DEMO-GENT")[:10])
    scenario.rows[0]["price_eur"] = "4321"
    plan = scenario.look()
    assert {change["reference"] for change in plan["changes"] if change["held"]} == gone
    assert [c["reference"] for c in plan["changes"] if not c["held"]] == [scenario.rows[0]["stock_no"]]
    assert (scenario.status()["held_plan"], plan["planned"]) == (None, {"upserts": 1, "sells": 0})
    run = scenario.told()
    assert (run["listings"]["held"], run["listings"]["updated"]) == (10, 1)


@pytest.mark.parametrize(("keep", "state"), [(0, "held"), (CARS // 2, "held"), (CARS - 5, "done")])
def test_a_source_that_shrank_or_is_empty(scenario: GuardedScenario, keep: int, state: str) -> None:
    del scenario.rows[keep:]
    run = scenario.told()
    assert run["state"] == state, run
    assert len(scenario.sold()) == (0 if state == "held" else CARS - keep)
    if state == "held":
        assert run["held"][0]["guard"] == ("source_shrunk" if keep else "source_empty")
        again = scenario.told("full")
        assert (again["held_run"], again["listings"]["held"]) == (run["run"], CARS - keep), "still cut, still held"


# -- updates -------------------------------------------------------------------------------------------------------


def test_a_mapping_that_changes_everything_waits_as_a_whole(scenario: GuardedScenario) -> None:
    scenario.rows.clear()
    scenario.rows += varied(90, seed=2)
    for row in scenario.rows:
        row["branch"] = "DEMO-GENT"
    scenario.lose_redis()
    scenario.sandbox.store.reset()
    scenario.good_run()
    for row in scenario.rows[:54]:
        row["price_eur"] = "4321"
    assert scenario.told()["listings"]["updated"] == 54, "just 60 %"
    for row in scenario.rows[:55]:
        row["price_eur"] = "5432"
    held = scenario.told()
    assert (held["state"], held["listings"]["held"], held["listings"]["updated"]) == ("held", 55, 0), held
    assert held["requests"]["minimum"] == 1
    scenario.rows += varied(1, seed=2, first=500)
    later = scenario.told("full")
    assert (later["held_run"], later["listings"]["created"]) == (held["run"], 1), "what is new goes out"
    released = scenario.told(approves=held["run"])
    assert (released["approved"], released["listings"]["updated"]) == (held["run"], 55)
    assert scenario.standing() == scenario.wanted()


def test_a_field_that_vanishes_is_not_wiped_until_a_person_says_so(scenario: GuardedScenario) -> None:
    mine = [row for row in scenario.of_dealer("DEMO-GENT") if row["colour"].strip()]
    few, rest = mine[: len(mine) // 5], mine[len(mine) // 5 :]
    assert len(few) > 5, "more than are free"
    for row in few:
        row["colour"] = ""
    assert scenario.told()["listings"]["updated"] == len(few), "at most 20 %"
    for row in rest:
        row["colour"] = ""
    cheaper = scenario.of_dealer("DEMO-BRUGGE")[0]
    cheaper["price_eur"] = "4321"
    held = scenario.told()
    assert (held["state"], held["held"][0]["guard"], held["held"][0]["fields"]) == ("held", "field_loss", ["color"])
    assert (held["listings"]["held"], held["listings"]["updated"]) == (len(rest), 1)
    standing = scenario.standing()
    assert all("color" in standing[row["stock_no"]] for row in rest)
    assert standing[cheaper["stock_no"]]["price"] == 4321
    released = scenario.told(approves=held["run"])
    assert released["approved"] == held["run"]
    assert scenario.standing() == scenario.wanted()


@pytest.mark.parametrize("broken", ["half the bytes", "empty", "an error page", "a renamed price column", "no prices"])
def test_a_broken_feed_sells_nothing_and_wipes_nothing(scenario: GuardedScenario, broken: str) -> None:
    before = scenario.standing()
    text = scenario.feed_text()
    head, _, rest = text.partition("\n")
    scenario.feed_is({
        "half the bytes": text[: len(text) // 2],
        "empty": "",
        "an error page": "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        "a renamed price column": head.replace("price_eur", "prijs") + "\n" + rest,
        "no prices": "\n".join([head, *(_without_price(line) for line in rest.splitlines())]) + "\n",
    }[broken])  # fmt: skip
    for mode in ("incremental", "full"):
        run = scenario.told(mode)
        assert run["state"] in ("held", "failed"), run
        assert (run["error"] or {}).get("message") or run["held"][0]["reason"]
        assert (scenario.standing(), scenario.sold()) == (before, set())


def _without_price(line: str) -> str:
    cells = line.split(";")
    return ";".join([*cells[:5], "", *cells[6:]])


# -- the key, and what was there before us -------------------------------------------------------------------------


def test_a_key_that_reaches_fewer_dealers_creates_nothing_and_sells_nothing(scenario: GuardedScenario) -> None:
    scenario.good_run()  # the first that finds dealers there
    gone = scenario.remove(scenario.of_dealer("DEMO-GENT")[:1])
    scenario.scope("DEMO-GENT", "DEMO-BRUGGE")
    run = scenario.told("full")
    assert (run["state"], run["held"][0]["guard"], run["listings"]["held"]) == ("held", "scope_narrowed", 1), run
    assert (run["requests"]["bulk"], scenario.sold()) == (0, set())
    scenario.scope()
    assert scenario.good_run()["listings"]["sold"] == 1
    assert scenario.sold() == gone


@pytest.mark.parametrize("word", ["hold", "drop", "allow"])
def test_rows_from_before_our_time(tmp_path: Path, redis_url: str, client: redis.Redis, word: str) -> None:
    rows = varied(40, seed=3)
    with GuardedScenario(
        tmp_path, redis_url, rows=rows, guard='first_full_sells = "allow"' if word == "allow" else ""
    ) as scenario:
        scenario.good_run()
        scenario.edit({"reference": "OTHER", "create": {"title": "Theirs", "price": 5}})
        scenario.lose_redis()
        gone = scenario.remove(scenario.rows[:3])
        run = scenario.told("full")
        if word == "allow":
            assert (run["state"], run["listings"]["sold"], scenario.sold()) == ("done", 3, gone), run
        else:
            assert (run["state"], run["held"][0]["guard"], run["listings"]["held"]) == ("held", "take_over", 3), run
            assert (run["listings"]["unchanged"], run["listings"]["foreign"], run["requests"]["bulk"]) == (37, 1, 0)
            later = [scenario.told(mode) for mode in ("incremental", "full")]
            assert [(one["held_run"], one["state"]) for one in later] == [(run["run"], "held")] * 2
        if word == "hold":
            released = scenario.told("full", approves=run["run"])
            assert (released["approved"], released["listings"]["sold"], scenario.sold()) == (run["run"], 3, gone)
        if word == "drop":
            assert plan_review.drop(scenario.ctx, run["run"])
        last = scenario.good_run()
        assert (last["listings"]["sold"], last["listings"]["foreign"]) == (0, 4 if word == "drop" else 1)
        assert scenario.sold() == (set() if word == "drop" else gone)


def test_a_person_may_confirm_that_the_key_reaches_fewer_dealers(scenario: GuardedScenario) -> None:
    scenario.good_run()
    gone = scenario.remove(scenario.of_dealer("DEMO-GENT")[:1])
    scenario.rows[:] = [row for row in scenario.rows if row["branch"] != "DEMO-MECHELEN"]
    scenario.scope("DEMO-GENT", "DEMO-BRUGGE")
    held = scenario.told("full")
    assert held["state"] == "held"
    released = scenario.told("full", approves=held["run"])
    assert (released["state"], released["approved"]) == ("done", held["run"]), released
    assert gone <= scenario.sold()
    assert scenario.told("full")["state"] == "done", "what the key reaches now is the measure"


@pytest.mark.parametrize("cut_at", [";9", "\n"])
def test_a_feed_that_is_cut_within_its_last_cell_sends_nothing(scenario: GuardedScenario, cut_at: str) -> None:
    """The row still has all its columns, but what its last one says may be half of it."""
    lines = scenario.feed_text().splitlines()
    for number, line in enumerate(lines[1:], start=1):
        lines[number] = f"{line.rsplit(';', 1)[0]};comfort:airco"
    scenario.feed_is("\n".join(lines) + "\n")
    scenario.told()
    before = scenario.standing()
    half = "\n".join(lines[:60])
    scenario.feed_is(half[:-4] if cut_at != "\n" else half + "\n")
    run = scenario.told()
    if cut_at == "\n":
        assert (run["state"], run["held"][0]["guard"]) == ("held", "source_shrunk")
    else:
        assert (run["state"], run["error"]["code"]) == ("failed", "cut"), run
    assert (scenario.standing(), scenario.sold()) == (before, set())
