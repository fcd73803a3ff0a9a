"""Whole runs from a real PostgreSQL and a real MariaDB: what is created, updated and sold, and a line that is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import redis

from tests import databases
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, Row, varied

CARS: Final = 120


class DatabaseScenario(GuardedScenario):
    """The guarded scenario with its rows in a table."""

    def __init__(self, folder: Path, redis_url: str, *, url: str, line: databases.Line, rows: list[Row]) -> None:
        self.url, self.line = url, line
        environ = databases.settings(ACCOUNT, line.url)
        super().__init__(folder, redis_url, rows=rows, environ=environ)

    def reference(self, row: Row) -> str:
        return databases.reference_of(self.url, row)

    def _write_feed(self) -> None:
        databases.fill(self.url, self.rows)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = {"postgresql": databases.postgresql, "mariadb": databases.mariadb}[request.param]
    with server() as found:
        yield found


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis, url: str) -> Iterator[DatabaseScenario]:
    rows = varied(CARS, seed=1)
    with databases.Line(url) as line, DatabaseScenario(tmp_path, redis_url, url=url, line=line, rows=rows) as found:
        yield found


def references(scenario: DatabaseScenario, rows: Sequence[Row]) -> set[str]:
    return {scenario.reference(row) for row in rows}


def test_a_table_is_in_step_with_the_marketplace(scenario: DatabaseScenario) -> None:
    run = scenario.good_run()
    assert (run["listings"]["created"], run["listings"]["rejected"], run["listings"]["warnings"]) == (CARS, 0, 0), run
    standing = scenario.standing()
    assert set(standing) == references(scenario, scenario.rows)
    row = scenario.rows[0]
    body = standing[scenario.reference(row)]
    shown = (body["year"], body["firstRegistration"], body["price"], body["images"], body["doors"])
    images = row["photos"].split("|")
    assert shown == (int(row["year"]), row["first_reg"], int(row["price_eur"]), images, int(row["doors"]))
    for mode in ("incremental", "full"):
        quiet = scenario.good_run(mode)
        assert (quiet["listings"]["unchanged"], quiet["requests"]["bulk"]) == (CARS, 0)
    row["price_eur"] = str(int(row["price_eur"]) - 100)
    gone = references(scenario, scenario.rows[-3:])
    del scenario.rows[-3:]
    scenario.rows += varied(1, seed=1, first=900)
    run = scenario.good_run("incremental")
    counts = run["listings"]
    assert (counts["updated"], counts["created"], counts["sold"]) == (1, 1, 3)
    assert scenario.sold() == gone
    assert scenario.standing() == scenario.wanted()


def test_a_push_reads_one_row(scenario: DatabaseScenario) -> None:
    scenario.good_run()
    row = scenario.rows[5]
    row["price_eur"] = "4321"
    scenario.push_reference(scenario.reference(row))
    assert scenario.standing()[scenario.reference(row)]["price"] == 4321


def test_a_line_that_is_cut_sells_nothing(scenario: DatabaseScenario) -> None:
    scenario.good_run()
    before, line = scenario.standing(), scenario.line
    line.passed = 0
    assert scenario.good_run("full")["listings"]["unchanged"] == CARS
    whole = line.passed
    assert whole > 20_000, "of one read"
    for share in (0.3, 0.6, 0.95):
        line.passed, line.most = 0, int(whole * share)
        run = scenario.told("full")
        assert run["state"] == "failed", run
        assert "the database returned an error" in run["error"]["message"]
        assert (scenario.standing(), scenario.sold()) == (before, set())
    line.most = None
    assert scenario.good_run("full")["listings"]["unchanged"] == CARS
