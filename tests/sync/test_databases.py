"""Whole runs from a real PostgreSQL and a real MariaDB: what is created, updated and sold, and a line that is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

import pytest
import redis

from tests import databases
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, Row, varied

CARS: Final = 120
_COLUMNS: Final = (
    "branch", "make", "model", "version", "price_eur", "km", "year", "fuel", "gearbox", "body", "kw", "doors", "colour",
    "vat", "notes", "photos", "features",
)  # fmt: skip
_POSTGRESQL: Final = """
create table vehicles (
    stock_no uuid primary key, branch text, make varchar(40), model text, version text, price_eur numeric(10,2),
    km bigint, year numeric(4,0), first_reg date, fuel text, gearbox text, body char(20), kw double precision,
    doors smallint, colour text, vat text, notes text, photos jsonb, features text[]
)"""
_MARIADB: Final = """
create table vehicles (
    stock_no decimal(10,0) primary key, branch varchar(40), make varchar(40), model varchar(40), version varchar(80),
    price_eur decimal(10,2), km int unsigned, year year, first_reg date, fuel varchar(20), gearbox varchar(20),
    body varchar(20), kw double, doors tinyint, colour varchar(40), vat varchar(10), notes text, photos json, features text
) character set utf8mb4"""


class DatabaseScenario(GuardedScenario):
    """The guarded scenario with its rows in a table, in columns of the types that a dealer's system has."""

    def __init__(self, folder: Path, redis_url: str, *, url: str, line: databases.Line, rows: list[Row]) -> None:
        self.is_postgresql = url.startswith("postgresql")
        self.url, self.line = url, line
        environ = {
            "TYPE": "sql", "URL": line.url, "QUERY": "select * from vehicles order by stock_no",
            "FIELDS__IMAGES__column": "photos[]",
        }  # fmt: skip
        prefix = f"OKASIE_ACCOUNTS__{ACCOUNT.upper()}__SOURCE__"
        super().__init__(
            folder, redis_url, rows=rows, environ={f"{prefix}{name}": value for name, value in environ.items()}
        )

    def reference(self, row: Row) -> str:
        number = row["stock_no"].removeprefix("DG-")
        return str(uuid5(UUID(int=0), number)) if self.is_postgresql else str(int(number))

    def _write_feed(self) -> None:
        names = ("stock_no", "first_reg", *_COLUMNS)
        casts = {"photos": "cast(:photos as jsonb)", "features": "string_to_array(:features, '|')"}
        values = ", ".join(casts.get(name, f":{name}") if self.is_postgresql else f":{name}" for name in names)
        databases.execute(
            self.url,
            "drop table if exists vehicles",
            _POSTGRESQL if self.is_postgresql else _MARIADB,
            f"insert into vehicles ({', '.join(names)}) values ({values})",
            rows=[self._cells(row) for row in self.rows],
        )

    def _cells(self, row: Row) -> dict[str, str | None]:
        photos = ", ".join(f'"{url}"' for url in row["photos"].split("|"))
        cells = {name: row[name] for name in _COLUMNS}
        return cells | {
            "stock_no": self.reference(row), "first_reg": f"{row['first_reg']}-15", "photos": f"[{photos}]",
        }  # fmt: skip


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
