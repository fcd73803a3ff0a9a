"""Values that are left out of a listing or cut: the car goes out, and each of them is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from okasie_tasks.core.pending import PushOutcome
from okasie_tasks.reports.listing import why_document
from okasie_tasks.urgent import accept
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import Row, varied

CARS = 60
BETWEEN = "left out: expected at least 1 and at most"


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    rows = varied(CARS, seed=1)
    with GuardedScenario(tmp_path, redis_url, rows=rows) as found:
        found.good_run()
        yield found


def spoil(row: Row) -> str:
    """Put four values that cannot be sent into a row; its reference."""
    row |= {"doors": "0", "km": "onbekend", "photos": "geen foto|https://x.test/2.jpg", "notes": "x" * 15_001}
    return row["stock_no"]


SPOILT = [
    "description: cut to 15000 characters of",
    "doors: left out: expected at least 1 and",
    "images: 1 of 2 left out: image 1: expec",
    "mileage: left out: column km: expected ",
]
"""How the four warnings begin."""


def events(scenario: GuardedScenario, reference: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in why_document(scenario.ctx, reference)["events"] if event["kind"] == kind]


def is_listed_without_them(scenario: GuardedScenario, reference: str) -> bool:
    body = scenario.standing()[reference]
    left = (body.get("doors"), body.get("mileage"), len(body["description"]), body["images"])
    return left == (None, None, 15_000, ["https://x.test/2.jpg"])


@pytest.mark.parametrize("new", [True, False])
def test_the_car_goes_out_without_them_and_each_is_reported_once(scenario: GuardedScenario, new: bool) -> None:
    if new:
        scenario.rows += varied(1, seed=1, first=900)
    reference = spoil(scenario.rows[-1])
    plan = scenario.look()
    assert plan["listings"]["warnings"] == 4
    run = scenario.good_run("incremental")
    assert (run["listings"]["warnings"], run["listings"]["rejected"]) == (4, 0)
    assert is_listed_without_them(scenario, reference)
    (event,) = events(scenario, reference, "warning")
    assert event["reason"] == "4 warnings"
    texts = sorted(event["warnings"])
    assert [text[: len(start)] for text, start in zip(texts, SPOILT, strict=True)] == SPOILT
    for mode in ("incremental", "full", "full"):
        assert scenario.good_run(mode)["listings"]["warnings"] == 0, "the row did not change"
    assert len(events(scenario, reference, "warning")) == 1


def test_one_warning_is_its_own_reason(scenario: GuardedScenario) -> None:
    row = scenario.rows[0]
    row["doors"] = "4/5"
    assert scenario.good_run("incremental")["listings"]["warnings"] == 1
    (event,) = events(scenario, row["stock_no"], "warning")
    assert event["reason"] == "doors: left out: column doors: expected a number, got '4/5'"
    row["doors"] = "5"
    assert scenario.good_run("incremental")["listings"]["warnings"] == 0
    assert scenario.standing()[row["stock_no"]]["doors"] == 5


def test_a_column_that_can_no_longer_be_read_is_held_as_a_lost_field(scenario: GuardedScenario) -> None:
    for row in scenario.rows:
        row["doors"] = "4/5"
    run = scenario.told()
    assert (run["state"], run["listings"]["updated"], run["listings"]["warnings"]) == ("held", 0, CARS)
    assert {field for hold in run["held"] if hold["guard"] == "field_loss" for field in hold["fields"]} == {"doors"}
    assert all("doors" in body for body in scenario.standing().values())
    again = scenario.told("full")
    assert (again["held_run"], len(events(scenario, scenario.rows[0]["stock_no"], "warning"))) == (run["run"], 1)
    assert scenario.told(approves=run["run"])["listings"]["updated"] == CARS
    assert not any("doors" in body for body in scenario.standing().values())


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [("price_eur", "0", "price"), ("vat", "vat", "vehicleType"), ("price_eur", "op aanvraag", "price")],
)
def test_an_invalid_value_that_matters_rejects_the_row(
    scenario: GuardedScenario, column: str, value: str, field: str
) -> None:
    before = scenario.standing()
    row = scenario.rows[0]
    row |= {column: value, "doors": "0"}
    run = scenario.told()
    assert (run["listings"]["rejected"], run["listings"]["updated"], run["listings"]["warnings"]) == (1, 0, 0)
    assert why_document(scenario.ctx, row["stock_no"])["reject"]["fields"] == [field]
    assert scenario.standing() == before


def outcome(scenario: GuardedScenario, **push: Any) -> dict[str, PushOutcome]:
    name = uuid4().hex
    accept.accept_push(scenario.ctx, name, **push)
    scenario._send()
    return scenario.ctx.pushes.get(name).outcomes


def test_a_push_from_the_source_reports_them(scenario: GuardedScenario) -> None:
    reference = spoil(scenario.rows[0])
    scenario._write_feed()
    answer = outcome(scenario, references=[reference])[reference]
    assert (answer.outcome, len(answer.warnings)) == ("updated", 4)
    assert f"doors: {BETWEEN} 10, got 0" in answer.warnings
    assert is_listed_without_them(scenario, reference)
    (event,) = events(scenario, reference, "pushed")
    assert any(text.startswith("doors: left out") for text in event["warnings"])
    assert scenario.good_run("incremental")["listings"]["warnings"] == 0, "the push has reported them"


def test_a_pushed_listing_is_read_by_the_same_rules(scenario: GuardedScenario) -> None:
    reference = scenario.rows[0]["stock_no"]
    body = {**scenario.wanted()[reference], "externalReference": reference, "doors": 0, "vin": "x" * 40}
    assert outcome(scenario, listings=[body])[reference].warnings == (
        f"doors: {BETWEEN} 10, got 0",
        "vin: left out: expected at most 32 characters, got 40",
    )
    assert "doors" not in scenario.standing()[reference]
    refused = outcome(scenario, listings=[{**body, "condition": "mint"}])[reference]
    assert (refused.outcome, refused.fields, refused.warnings) == ("rejected", ("condition",), ())
    misnamed = outcome(scenario, listings=[{**body, "colour": "red"}])[reference]
    assert (misnamed.outcome, misnamed.fields) == ("rejected", ("colour",)), "no value, but a name nobody knows"
