"""Everything in Redis lost: the next full run learns anew what stands, sells nothing and rewrites nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.core.ledger_entry import Flag
from tests.sync.http_scenario import RENDERING, HttpScenario, varied

CARS = 120
_PAGES = {"page_rows": 50}


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=varied(CARS, seed=9), quirks=_PAGES) as found:
        yield found


def lost(scenario: HttpScenario, client: redis.Redis) -> None:
    """Two runs, so that every echo was read, and then nothing in Redis any more."""
    scenario.good_run()
    scenario.good_run()
    client.flushall()


@pytest.mark.parametrize("mode", ["full", "incremental"])
@pytest.mark.parametrize("quirk", ["faithful", *RENDERING, "all"])
def test_the_ledger_is_rebuilt_without_a_write(
    scenario: HttpScenario, client: redis.Redis, quirk: str, mode: str
) -> None:
    on: dict[str, Any] = RENDERING if quirk == "all" else {quirk: True} if quirk in RENDERING else {}
    scenario.quirks(**_PAGES, **on)
    lost(scenario, client)
    before = len(scenario.writes)
    document = scenario.good_run(mode)
    sent = scenario.writes[before:]
    assert sent == [], f"{len(sent)} of {CARS} listings written: {document['listings']}"
    assert document["listings"]["unchanged"] == CARS
    entries = scenario.ctx.ledger.get([row["stock_no"] for row in scenario.rows])
    assert len(entries) == CARS
    assert {entry.flags & Flag.OWNED for entry in entries.values()} == {Flag.OWNED}
    _goes_on_as_ever(scenario)


def _goes_on_as_ever(scenario: HttpScenario) -> None:
    """What was rebuilt serves as a ledger does: one change, one send; one car gone, one sell."""
    before = len(scenario.writes)
    scenario.good_run("incremental")
    scenario.good_run("full")
    assert scenario.writes[before:] == []
    gone = scenario.rows.pop()["stock_no"]
    scenario.rows[0]["price_eur"] = "4321"
    scenario.good_run("incremental")
    found = [(write.reference, write.outcome) for write in scenario.writes[before:]]
    assert sorted(found) == sorted([(scenario.rows[0]["stock_no"], "updated"), (gone, "sold")])
    assert scenario.standing() == scenario.wanted()


def test_what_differs_is_sent_and_what_left_meanwhile_is_sold(scenario: HttpScenario, client: redis.Redis) -> None:
    lost(scenario, client)
    left = {scenario.rows.pop()["stock_no"] for _ in range(3)}
    scenario.rows[4]["price_eur"] = "4321"
    scenario.rows[5]["photos"] += "|https://photos.invalid/new.jpg"
    scenario.rows += varied(2, seed=9, first=CARS + 1)
    before = len(scenario.writes)
    for mode in ("full", "incremental", "full"):
        scenario.good_run(mode)
    names = [row["stock_no"] for row in scenario.rows]
    assert {(write.reference, write.outcome) for write in scenario.writes[before:]} == {
        (names[4], "updated"), (names[5], "updated"), (names[-2], "created"), (names[-1], "created"),
        *((name, "sold") for name in left),
    }  # fmt: skip
    assert len(scenario.writes) == before + 7, "each once"
    assert scenario.standing() == scenario.wanted()


def test_a_photo_exchanged_while_the_ledger_is_lost_is_not_seen(scenario: HttpScenario, client: redis.Redis) -> None:
    """Reads return addresses of the marketplace's own, so that images can only be counted; told in the design."""
    lost(scenario, client)
    scenario.rows[5]["photos"] = scenario.rows[5]["photos"].replace("/0.jpg", "/other.jpg")
    before = len(scenario.writes)
    scenario.good_run()
    assert scenario.writes[before:] == []
