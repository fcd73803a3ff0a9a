"""Nothing changed, nothing sent: whatever the marketplace makes of what we wrote, run after run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.sync.http_scenario import RENDERING, HttpScenario, varied

CARS = 150
_ORDERS = {
    "full runs first": ["full"] * 10 + ["incremental"] * 10,
    "incremental runs first": ["incremental"] * 10 + ["full"] * 10,
    "in turns": ["incremental", "full"] * 10,
}


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpScenario]:
    quirks = {**RENDERING, "page_rows": 40}
    with HttpScenario(tmp_path, redis_url, rows=varied(CARS, seed=5), quirks=quirks) as found:
        yield found


@pytest.mark.parametrize("modes", _ORDERS.values(), ids=_ORDERS)
def test_a_marketplace_that_renders_everything_anew_is_never_written_to_again(
    scenario: HttpScenario, modes: list[str]
) -> None:
    first = scenario.good_run()
    assert (first["listings"]["created"], len(scenario.writes)) == (CARS, CARS)
    _renders_anew(scenario)
    for number, mode in enumerate(modes):
        before = len(scenario.requests())
        document = scenario.good_run(mode)
        sent = scenario.requests(before)
        assert set(sent) == {"list"}, f"run {number}, {mode}: {document}"
        assert document["listings"]["unchanged"] == CARS, f"run {number}, {mode}: {document}"
        told = sum(document["requests"][kind] for kind in ("list", "bulk", "put", "delete"))
        assert told == len(sent), "the run knows what it cost"
        if mode == "incremental" and "incremental" in modes[:number]:
            assert sent == ["list"], f"run {number}: the echo has been read"
    assert len(scenario.writes) == CARS
    scenario.rows[3]["price_eur"] = "1234"
    assert scenario.good_run("incremental")["listings"]["updated"] == 1
    for mode in ("incremental", "full", "incremental"):
        scenario.good_run(mode)
    assert len(scenario.writes) == CARS + 1, "one price, and its own echo"
    assert scenario.standing() == scenario.wanted()


def _renders_anew(scenario: HttpScenario) -> None:
    """The test is of nothing unless the marketplace does return other values than were written."""
    shown, bodies = scenario.shown(), scenario.standing()
    for field in ("powerKw", "color", "description", "features", "images"):
        assert any(row[field] != bodies[row["externalReference"]].get(field) for row in shown), field
