"""A row without a readable reference is a reject, and every place that people look at counts the sells that wait for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.alerting import notifier
from okasie_tasks.alerting.notifier import detect
from okasie_tasks.cli import html_report
from okasie_tasks.core import unreadable
from okasie_tasks.errors import RunAborted
from okasie_tasks.reports import listing, rejects, run_page, runs
from okasie_tasks.sources import csv_format
from okasie_tasks.store.request_stats import Traces
from okasie_tasks.sync import executor, load, reading
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, Row, varied
from tests.sync.test_metrics import look

LONG = "X" * 65


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(10, seed=1)) as scenario:
        scenario.good_run()
        yield scenario


def nameless(reference: str = LONG, *, price: str = "9900") -> Row:
    return {**varied(1, seed=3)[0], "stock_no": reference, "price_eur": price}


def counts(document: dict[str, Any]) -> tuple[int, int, int, int]:
    listings = document["listings"]
    return document["new_rejects"], listings["rejected"], listings["sold"], listings["sells_waiting"]


def sold(scenario: GuardedScenario) -> int:
    return sum(row["status"] == "sold" for row in scenario.stored())


# -- a reject like any other -----------------------------------------------------------------------------------------


def test_it_is_new_once_and_ends_with_its_row(scenario: GuardedScenario) -> None:
    scenario.rows.insert(3, nameless())
    assert counts(scenario.told()) == (1, 1, 0, 0)
    (reject,) = listing.rejects_document(scenario.ctx)
    assert (reject["reference"], reject["where"], reject["code"]) == (LONG, "feed.csv:5", "bad_reference")
    scenario.rows.insert(0, scenario.rows.pop(3))
    assert counts(scenario.told("full")) == (0, 1, 0, 0), "the same row on another line"
    (moved,) = listing.rejects_document(scenario.ctx)
    assert (moved["where"], moved["first_seen"]) == ("feed.csv:2", reject["first_seen"])
    scenario.rows[0]["price_eur"] = "9800"
    assert counts(scenario.told()) == (1, 1, 0, 0), "its content changed"
    del scenario.rows[0]
    assert counts(scenario.told()) == (0, 0, 0, 0)
    assert listing.rejects_document(scenario.ctx) == []


def test_sells_wait_for_it_and_every_report_says_how_many_and_why(scenario: GuardedScenario) -> None:
    scenario.rows.append(nameless())
    scenario.told()
    scenario.rows[:] = scenario.rows[4:]
    run = scenario.ask()
    document = runs.run_document(scenario.ctx.runs, run)
    assert (run.state, *counts(document)) == ("done", 0, 1, 0, 4)
    reason = "4 sells wait: 1 row has no readable reference: feed.csv:8"
    assert reason in document["notes"]
    assert ", 4 sells_waiting;" in runs.outcome_text(document)
    status = scenario.status()
    assert (status["rejects"], status["rows_without_reference"], status["sells_waiting"]) == (1, 1, 4)
    assert status["sells_wait_for"] == "1 row has no readable reference: feed.csv:8"
    metrics = look(scenario)
    assert metrics[f'okasie_rejected_listings{{account="{ACCOUNT}"}}'] == 1
    assert metrics[f'okasie_unreadable_rows{{account="{ACCOUNT}"}}'] == 1
    assert metrics[f'okasie_waiting_sells{{account="{ACCOUNT}"}}'] == 4
    page = run_page.page_document(scenario.ctx.runs, run, Traces(scenario.ctx.runs).read(run.id), limit=120)
    html = html_report.render(page | {"rejects": rejects.new_rejects(scenario.ctx.ledger, run)})
    assert reason in html
    assert sold(scenario) == 0


def test_the_sells_go_out_once_the_row_is_readable(scenario: GuardedScenario) -> None:
    scenario.rows.append(nameless())
    scenario.rows[:] = scenario.rows[4:]
    assert counts(scenario.told()) == (1, 1, 0, 4)
    scenario.rows[-1]["stock_no"] = "VW 12/3"
    document = scenario.told()
    assert (counts(document), document["listings"]["created"]) == ((0, 0, 4, 0), 1)
    assert not any("wait" in note for note in document["notes"])
    assert scenario.status()["sells_waiting"] == 0


def test_why_explains_the_row_and_each_listing_whose_sell_waits(scenario: GuardedScenario) -> None:
    scenario.rows.append(nameless())
    gone = scenario.rows.pop(0)["stock_no"]
    scenario.told()
    found = listing.why_document(scenario.ctx, LONG)
    assert (found["reject"]["where"], found["reject"]["holds_sells"]) == ("feed.csv:11", True)
    assert "no listing that disappears is sold" in found["next"]
    waits = listing.why_document(scenario.ctx, gone)
    assert waits["sell_waits_for"] == "1 row has no readable reference: feed.csv:11"
    assert waits["next"].startswith("the source lacks it, but its sell waits")
    assert listing.why_document(scenario.ctx, scenario.rows[0]["stock_no"])["sell_waits_for"] is None


def test_a_plan_shows_the_rejects_and_the_sells_that_would_wait(scenario: GuardedScenario) -> None:
    scenario.rows.append(nameless())
    scenario.rows[5]["price_eur"] = "geen"
    scenario.rows[:] = scenario.rows[4:]
    plan = scenario.look()
    assert counts(plan) == (2, 2, 0, 4)
    assert [(found["reference"], found["where"]) for found in plan["rejects"]] == [
        (LONG, "feed.csv:8"), (scenario.rows[1]["stock_no"], "feed.csv:3"),
    ]  # fmt: skip
    assert "4 sells wait: 1 row has no readable reference: feed.csv:8" in plan["notes"]
    assert scenario.ctx.ledger.reject_count() == 0, "a dry run stores nothing"
    assert scenario.status()["sells_waiting"] == 0
    assert counts(scenario.told()) == (2, 2, 0, 4)


@pytest.mark.parametrize("row", [nameless(""), nameless("A\tB"), nameless("..")], ids=["empty", "control", "reserved"])
def test_whatever_makes_the_reference_unreadable(scenario: GuardedScenario, row: Row) -> None:
    scenario.rows[:] = [*scenario.rows[1:], row]
    assert counts(scenario.told()) == (1, 1, 0, 1)


def test_equal_rows_are_counted_one_by_one(scenario: GuardedScenario) -> None:
    scenario.rows += [nameless(), nameless()]
    assert counts(scenario.told()) == (2, 2, 0, 0)
    scenario.rows.append(nameless())
    assert counts(scenario.told()) == (1, 3, 0, 0)
    del scenario.rows[-1]
    assert counts(scenario.told()) == (0, 2, 0, 0)


def test_only_the_first_rows_are_kept_and_all_are_counted(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (unreadable, load):
        monkeypatch.setattr(module, "MOST_NAMED", 3)
    scenario.rows += [nameless(price=str(9000 + number)) for number in range(8)]
    assert counts(scenario.told()) == (8, 8, 0, 0)
    assert len(listing.rejects_document(scenario.ctx)) == 3
    assert scenario.status()["rejects"] == 8
    scenario.rows.append(nameless(price="8000"))
    assert counts(scenario.told()) == (1, 9, 0, 0)
    assert counts(scenario.told()) == (0, 9, 0, 0)


def test_rows_of_several_blocks_are_gathered(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_format, "BLOCK_ROWS", 4)
    scenario.rows[0:0] = [nameless(price="9001")]
    scenario.rows.append(nameless(price="9002"))
    assert counts(scenario.told()) == (2, 2, 0, 0)
    assert [found["where"] for found in listing.rejects_document(scenario.ctx)] == ["feed.csv:2", "feed.csv:13"]


def test_a_first_run_counts_the_existing_listings_that_it_does_not_sell(tmp_path: Path, redis_url: str) -> None:
    """Without a ledger, live rows that the source lacks would be sold at once with first_full_sells = "allow"."""
    guard = 'first_full_sells = "allow"'
    with GuardedScenario(tmp_path, redis_url, rows=varied(10, seed=1), guard=guard) as scenario:
        scenario.good_run()
        scenario.lose_redis()
        scenario.services.check_layout()
        scenario.rows[:] = [*scenario.rows[2:], nameless()]
        assert counts(scenario.told("full")) == (1, 1, 0, 2)
        scenario.rows.pop()
        assert counts(scenario.told("full")) == (0, 0, 2, 0)


# -- the alert -------------------------------------------------------------------------------------------------------


def alerts(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reasons of the alerts that are raised now."""
    raised = []
    monkeypatch.setattr(notifier, "_put", lambda _, alert: raised.append(alert))
    scenario.services.redis.delete(f"{scenario.prefix}alerts:look:ended", f"{scenario.prefix}alerts:look:stale")
    detect(scenario.services.alerting())
    return [alert.reason for alert in raised if alert.kind == "sells_waiting"]


def test_an_alert_is_raised_for_a_new_row_and_whenever_more_sells_wait(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alerts(scenario, monkeypatch) == []
    scenario.rows.append(nameless())
    scenario.told()
    place = "1 row has no readable reference: feed.csv:12"
    assert alerts(scenario, monkeypatch) == [f"no listing that disappears from the source is sold: {place}"]
    scenario.rows[:] = scenario.rows[4:]
    scenario.told()
    assert alerts(scenario, monkeypatch) == ["4 sells wait: 1 row has no readable reference: feed.csv:8"]
    scenario.told()
    assert alerts(scenario, monkeypatch) == [], "as many as before"
    del scenario.rows[0]
    scenario.told()
    assert alerts(scenario, monkeypatch) == ["5 sells wait: 1 row has no readable reference: feed.csv:7"]


def test_a_run_that_fails_later_still_raises_the_alert_of_a_new_row(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.rows.append(nameless())
    monkeypatch.setitem(executor._JOBS, "diff", _stops)
    document = scenario.told()
    assert (document["state"], document["new_rejects"]) == ("failed", 1)
    assert alerts(scenario, monkeypatch) == [document["notes"][0]]
    monkeypatch.undo()
    assert counts(scenario.told()) == (0, 1, 0, 0)


def _stops(*_: object) -> object:
    raise RunAborted("stopped", code="source", where="diff")


# -- other reasons ---------------------------------------------------------------------------------------------------


def test_sells_that_wait_for_a_source_that_is_still_written_are_counted(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading.settling, "is_settled", lambda *_: False)
    scenario.rows[:] = scenario.rows[3:]
    document = scenario.told()
    assert (document["state"], *counts(document)) == ("partial", 0, 0, 0, 3)
    assert document["notes"][0].startswith("3 sells wait: the source was still being written after 60 s")
    assert scenario.status()["sells_waiting"] == 3
    assert alerts(scenario, monkeypatch) == [document["notes"][0]]
    monkeypatch.undo()
    assert counts(scenario.told()) == (0, 0, 3, 0)


def test_a_row_that_an_unsettled_read_lacks_stays_a_reject(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.rows.append(nameless())
    scenario.told()
    kept = scenario.rows.pop()
    monkeypatch.setattr(reading.settling, "is_settled", lambda *_: False)
    assert counts(scenario.told()) == (0, 1, 0, 0)
    monkeypatch.undo()
    scenario.rows.append(kept)
    assert counts(scenario.told()) == (0, 1, 0, 0), "not new"
    scenario.rows.pop()
    assert counts(scenario.told()) == (0, 0, 0, 0)


def test_the_reports_of_a_run_name_the_places(scenario: GuardedScenario) -> None:
    scenario.rows += [nameless(price=str(number)) for number in range(9000, 9005)]
    run = scenario.ask()
    assert json.loads(run.facts["nameless_where"]) == [f"feed.csv:{line}" for line in range(12, 17)]
    (note,) = runs.run_document(scenario.ctx.runs, run)["notes"]
    assert note.endswith("5 rows have no readable reference: feed.csv:12, feed.csv:13, feed.csv:14, ...")


def test_why_says_of_an_invalid_row_whether_its_car_was_ever_sent(scenario: GuardedScenario) -> None:
    known, new = scenario.rows[0], varied(1, seed=6, first=100)[0]
    scenario.rows.append(new)
    known["price_eur"] = new["price_eur"] = "auf Anfrage"
    scenario.told()
    found = {row["stock_no"]: listing.why_document(scenario.ctx, row["stock_no"])["next"] for row in (known, new)}
    assert "the marketplace keeps its version" in found[known["stock_no"]]
    assert "it was never sent" in found[new["stock_no"]]
