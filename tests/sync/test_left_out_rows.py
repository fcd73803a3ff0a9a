"""Runs over feeds with blank rows, skipped rows and odd references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import csv_format
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, Row, varied

SKIP = f'[accounts.{ACCOUNT}.source.skip]\nstate = ["verkocht"]\nstock_no = ["Totaal"]\n'


def with_state(count: int) -> list[Row]:
    return [{**row, "state": ""} for row in varied(count, seed=1)]


def counts(document: dict[str, Any]) -> dict[str, int]:
    names = ("local", "skipped", "created", "sold", "rejected", "held", "sells_waiting")
    return {name: count for name in names if (count := document["listings"][name])}


def test_a_listing_that_becomes_skipped_is_sold_and_comes_back_with_its_row(tmp_path: Path, redis_url: str) -> None:
    rows = [*with_state(10), {"stock_no": "Totaal", "price_eur": "10"}]
    rows[9]["state"] = "Verkocht"
    with GuardedScenario(tmp_path, redis_url, rows=rows, more=SKIP) as scenario:
        assert counts(scenario.good_run()) == {"local": 9, "skipped": 2, "created": 9}
        assert counts(scenario.told()) == {"local": 9, "skipped": 2}
        scenario.rows[0]["state"] = "VERKOCHT"
        assert counts(scenario.look()) == {"local": 8, "skipped": 3}
        assert counts(scenario.told()) == {"local": 8, "skipped": 3, "sold": 1}
        assert scenario.rows[0]["stock_no"] not in scenario.standing()
        scenario.rows[0]["state"] = ""
        assert counts(scenario.told()) == {"local": 9, "skipped": 2}
        assert scenario.rows[0]["stock_no"] in scenario.standing()


def test_the_guards_of_sells_hold_listings_that_vanish_by_skip(tmp_path: Path, redis_url: str) -> None:
    rows = [{**row, "branch": "DEMO-GENT"} for row in with_state(30)]
    with GuardedScenario(tmp_path, redis_url, rows=rows, more=SKIP) as scenario:
        scenario.good_run()
        for row in scenario.rows[:8]:
            row["state"] = "verkocht"
        document = scenario.told()
        assert (document["state"], counts(document)) == ("held", {"local": 22, "skipped": 8, "held": 8})
        for row in scenario.rows:
            row["state"] = "verkocht"
        document = scenario.told()
        assert (document["state"], document["held"][0]["guard"]) == ("held", "source_empty")
        assert len(scenario.standing()) == 30


def test_a_push_of_a_skipped_listing_is_not_found(tmp_path: Path, redis_url: str) -> None:
    with GuardedScenario(tmp_path, redis_url, rows=with_state(3), more=SKIP) as scenario:
        scenario.good_run()
        writes = len(scenario.writes)
        scenario.rows[0]["state"], scenario.rows[0]["price_eur"] = "verkocht", "1234"
        scenario.push_reference(scenario.rows[0]["stock_no"])
        assert len(scenario.writes) == writes


@pytest.mark.parametrize("block_rows", [3, 5_000])
def test_blank_rows_do_not_count_and_no_sell_waits(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(csv_format, "BLOCK_ROWS", block_rows)
    blank: Row = {"stock_no": " ", "notes": "  "}
    cars = varied(10, seed=1)
    rows = [blank, *cars[:4], blank, blank, blank, *cars[4:], blank]
    with GuardedScenario(tmp_path, redis_url, rows=rows) as scenario:
        assert counts(scenario.good_run()) == {"local": 10, "created": 10}
        assert counts(scenario.told()) == {"local": 10}
        del scenario.rows[1]
        document = scenario.told()
        assert (document["state"], counts(document)) == ("done", {"local": 9, "sold": 1})


def test_any_printable_reference_goes_out_is_changed_and_is_sold(tmp_path: Path, redis_url: str) -> None:
    names = ["00123", "VW 12", "2026/114", "Ré-5", "ab-1", "AB-1", "1,23457E+11", "50%#?&+", "x" * 64]
    rows = [{**row, "stock_no": name} for row, name in zip(varied(len(names), seed=1), names, strict=True)]
    guard = "free_sold_count = 100\n"
    with GuardedScenario(tmp_path, redis_url, rows=[*rows, {**rows[0], "stock_no": "X" * 65}], guard=guard) as scenario:
        document = scenario.told("full")
        assert counts(document) == {"local": 10, "created": 9, "rejected": 1}
        assert set(scenario.standing()) == set(names)
        scenario.rows.pop()
        for row in scenario.rows:
            row["price_eur"] = "4321"
        assert scenario.told()["listings"]["updated"] == 9
        scenario.push_reference(names[2])
        scenario.rows[:] = scenario.rows[-1:]
        assert scenario.told()["listings"]["sold"] == 8
        assert set(scenario.standing()) == {names[-1]}


def test_a_reference_of_two_columns_names_the_listing(tmp_path: Path, redis_url: str) -> None:
    rows = varied(4, seed=1)
    with GuardedScenario(tmp_path, redis_url, rows=rows) as scenario:
        config = tmp_path / "okasie.toml"
        text = config.read_text().replace('reference = "stock_no"', 'reference = "{branch}/{stock_no}"')
        config.write_text(text)
        scenario.services = Services(load_settings(config, environ={}))
        scenario.ctx = scenario.services.context(ACCOUNT)
        scenario.good_run()
        assert set(scenario.standing()) == {f"{row['branch']}/{row['stock_no']}" for row in rows}
        scenario.rows[0]["price_eur"], scenario.rows[1]["branch"] = "4321", ""
        document = scenario.told()
        assert counts(document) == {"local": 4, "rejected": 1, "sells_waiting": 1}
        assert document["listings"]["updated"] == 1
