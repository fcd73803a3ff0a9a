"""What is shown of a car that is rejected: its name, whether an advert is online, and what is wrong with its row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.listings import listings_document
from okasie_tasks.reports.rejects import reject_groups, rejects_page
from okasie_tasks.reports.runs import run_details
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(8, seed=1)) as found:
        yield found


def rejects(scenario: GuardedScenario) -> dict[str, dict[str, Any]]:
    return {one["reference"]: one for one in rejects_page(scenario.ctx)["rejects"]}


def test_a_reject_has_a_name_and_says_whether_an_advert_is_online(scenario: GuardedScenario) -> None:
    never, once = scenario.rows[0], scenario.rows[1]
    names = {reference: row["title"] for reference, row in scenario.wanted().items()}
    never["price_eur"] = "on request"
    scenario.good_run()
    once["price_eur"] = "17.x"
    run = scenario.ask()
    found = rejects(scenario)
    assert [(found[row["stock_no"]]["title"], found[row["stock_no"]]["online"]) for row in (never, once)] == [
        (names[never["stock_no"]], False),
        (names[once["stock_no"]], True),
    ]
    wrong = {"field": "price", "code": "unreadable", "value": "17.x"}
    assert found[once["stock_no"]]["issues"] == [wrong]
    short = {one["reference"]: one for one in run_details(scenario.services, run)["rejects"]}[once["stock_no"]]
    assert (short["title"], short["issues"]) == (names[once["stock_no"]], [wrong])
    assert why_document(scenario.ctx, once["stock_no"])["reject"] == found[once["stock_no"]]
    listed = {
        one["reference"]: one for one in listings_document(scenario.ctx, search=names[never["stock_no"]])["listings"]
    }
    assert (listed[never["stock_no"]]["state"], listed[never["stock_no"]]["online"]) == ("rejected", False)


def test_a_rejected_car_that_leaves_the_source_is_not_found_any_more(scenario: GuardedScenario) -> None:
    scenario.rows[0] |= {"version": "Unobtainium", "price_eur": "on request"}
    scenario.ask()
    assert listings_document(scenario.ctx, search="unobtainium")["count"] == 1
    del scenario.rows[0]
    for _ in range(3):
        scenario.ask("full")
    assert listings_document(scenario.ctx, search="unobtainium")["count"] == 0


def test_rejects_are_grouped_by_what_is_wrong_and_not_by_the_values() -> None:
    def reject(reference: str, message: str, *codes: str) -> dict[str, Any]:
        issues = [{"field": "price", "code": code, "value": message} for code in codes]
        return {
            "reference": reference, "code": "not_a_number", "fields": ["price"] * len(codes), "message": message, "issues": issues,
        }  # fmt: skip

    one, other = ("not_a_number",), ("not_a_number", "required")
    found = reject_groups(
        [reject("A", "1", *one), reject("B", "2", *one), reject("", "2", *one), reject("C", "2", *other)]
    )
    assert [(group["count"], group["message"], group["references"]) for group in found] == [
        (3, "2", ["A", "B"]),
        (1, "2", ["C"]),
    ]
    assert found[0]["issues"] == [{"field": "price", "code": "not_a_number"}]


def test_what_the_marketplace_refused_is_grouped_by_code_and_fields() -> None:
    rows = [
        {"reference": name, "code": "REFUSED", "fields": [field], "message": name, "issues": []}
        for name, field in (("A", "price"), ("B", "price"), ("C", "title"))
    ]
    assert [group["references"] for group in reject_groups(rows)] == [["A", "B"], ["C"]]
