"""Flower: what its list of tasks says of runs and their parts, asked as its own page asks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import poll
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[2] / "docs" / "flower.md").read_text(encoding="utf-8")


def search(fleet: Fleet, query: str) -> list[dict[str, Any]]:
    """The rows of Flower's list of tasks."""
    asked = {
        "draw": "1", "start": "0", "length": "100", "search[value]": query,
        "order[0][column]": "0", "order[0][dir]": "asc", "columns[0][data]": "received",
    }  # fmt: skip
    answer = requests.get(f"{fleet.flower_url}/tasks/datatable", params=asked, timeout=60).json()
    assert "searchError" not in answer
    rows: list[dict[str, Any]] = answer["data"]
    return rows


def ended(fleet: Fleet, run: str) -> dict[str, Any]:
    """The row of a run once Flower has heard of its end."""

    def look() -> dict[str, Any] | None:
        return next((r for r in search(fleet, f"okasie.run {run}") if r["state"] in ("SUCCESS", "FAILURE")), None)

    found: dict[str, Any] = poll(look, what="the run's end in Flower")
    return found


def parts_of(fleet: Fleet, run: str) -> list[dict[str, Any]]:
    """The rows of a run's parts, once Flower has heard of the end of each: the run's own end may be there before."""

    def look() -> list[dict[str, Any]] | None:
        rows = search(fleet, f"kwargs:run={run}")
        return rows if rows and all(row["result"] is not None for row in rows) else None

    found: list[dict[str, Any]] = poll(look, what="the end of all parts in Flower")
    return found


def test_a_run_is_one_row_and_its_parts_are_found_by_its_id(fleet: Fleet) -> None:
    _, document = fleet.place.sync("told", "--full")
    run = document["run"]
    row = ended(fleet, run)
    assert (row["uuid"], row["name"], row["state"]) == (run, "okasie.run", "SUCCESS")
    assert row["args"] == "told: full run"
    assert row["result"].startswith(f"done: {CARS} local")
    parts = parts_of(fleet, run)
    told = {part["name"]: (part["args"], part["result"]) for part in parts}
    assert told["okasie.fetch_page"] == ("told: page 1 of 1", "'done'")
    assert told["okasie.upsert_chunk"] == ("told: chunk 1 of 1", f"'{CARS} sent, {CARS} created'")
    assert set(told) >= {"okasie.load_inventory", "okasie.diff_chunk", "okasie.spool", "okasie.advance"}
    assert {part["uuid"] for part in search(fleet, "kwargs:account=told")} >= {part["uuid"] for part in parts}
    assert search(fleet, "kwargs:account=told state:PROGRESS") == []


def test_a_failed_run_begins_with_its_reason(fleet: Fleet) -> None:
    feed(fleet.place, "told_failed").write_text("nothing;of;this\n1;2;3\n")
    status, document = fleet.place.sync("told_failed", "--full")
    row = ended(fleet, document["run"])
    assert (status, row["state"]) == (1, "FAILURE")
    assert row["result"].startswith("told_failed.csv:1: has no column")
    assert row["exception"] == row["result"]
    (loaded,) = [part for part in parts_of(fleet, document["run"]) if part["name"] == "okasie.load_inventory"]
    assert loaded["result"].startswith("'the run stops: told_failed.csv:1: has no column")


@pytest.mark.parametrize("query", re.findall(r"^\| `([^`]+)`(?: \(a run's id\))? \|", PAGE, re.MULTILINE))
def test_every_search_of_the_page_is_one_that_flower_understands(fleet: Fleet, query: str) -> None:
    search(fleet, query)
