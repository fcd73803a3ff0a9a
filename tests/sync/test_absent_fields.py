"""Fields that the marketplace's rows lack, or show empty all at once: unknown, never a difference, never written back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
import redis
import requests

from okasie_tasks.reports.runs import run_document
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, RENDERING, Row, varied

CARS = 40
CAR, OTHER = "DG-00003", "DG-00004"
COLUMN = {"powerKw": "kw", "color": "colour", "mileage": "mileage", "brand": "make", "price": "price_eur"}
LOST = (
    "powerKw",
    "color",
    "mileage",
    "brand",
    "price",
    "status",
    "location",
    "features",
    "dealer",
    "dealerProfileId",
    "updatedAt",
)
Make = Callable[..., Any]


class SqlScenario(GuardedScenario):
    """The stock is a table of SQLite, and edits on the marketplace are written back into it."""

    def __init__(self, folder: Path, redis_url: str, *, rows: list[Row], policy: str) -> None:
        super().__init__(folder, redis_url, rows=rows, account=f'conflict = "{policy}"\n')
        self.database = folder / "stock.db"
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with closing(connect(self.database)) as database, database:
            database.execute(f"create table cars ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            database.executemany(f"insert into cars values ({marks})", [[row.get(c) for c in columns] for row in rows])
        config = folder / "okasie.toml"
        text = config.read_text()
        text = text.replace('type = "csv"', 'type = "sql"\nquery = "select * from cars"').replace(
            'delimiter = ";"\n', ""
        )
        text = text.replace('url = "feed.csv"', f'url = "sqlite:///{self.database}"')
        config.write_text(text + f'\n[accounts.{ACCOUNT}.source.write_back]\ntable = "cars"\n')
        self.services = Services(load_settings(config, environ={}))
        self.ctx = self.services.context(ACCOUNT)

    def cells(self) -> list[tuple[Any, ...]]:
        with closing(connect(self.database)) as database:
            return database.execute("select * from cars order by stock_no").fetchall()

    def set(self, reference: str, column: str, value: Any) -> None:
        with closing(connect(self.database)) as database, database:
            database.execute(f"update cars set {column} = ? where stock_no = ?", [value, reference])

    def cell(self, reference: str, column: str) -> Any:
        with closing(connect(self.database)) as database:
            return database.execute(f"select {column} from cars where stock_no = ?", [reference]).fetchone()[0]

    def lose(self, field: str, do: str = "remove", **more: Any) -> None:
        """The field is gone from the list, or null in it."""
        edit = {"path": f"data.*.{field}", "do": do, **({"value": None} if do == "set" else {}), **more}
        self._post("faults", {"kind": "edit", "match": {"path": "list"}, "edits": [edit]})

    def heal(self) -> None:
        requests.delete(f"{self.sandbox.admin_url}/faults", timeout=60).raise_for_status()

    def sent(self, mode: str) -> list[str]:
        """Play a run; the references that it wrote."""
        before = len(self.writes)
        self.last = run_document(self.ctx.runs, self.run(mode))
        assert self.last["state"] in ("done", "held"), self.last
        return sorted(write.reference for write in self.writes[before:])


@pytest.fixture
def make(tmp_path: Path, redis_url: str, client: redis.Redis) -> Make:
    @contextmanager
    def scenario(policy: str, *, echo: bool = True) -> Iterator[SqlScenario]:
        rows = varied(CARS, seed=1)
        for row in rows:
            row["features"] = row["features"] or "comfort:airco"
        with SqlScenario(tmp_path, redis_url, rows=rows, policy=policy) as found:
            found.quirks(**RENDERING)
            found.good_run()
            if echo:
                found.good_run()
            yield found

    return scenario


@pytest.mark.parametrize("policy", ["local", "remote", "newest"])
@pytest.mark.parametrize("do", ["remove", "set"], ids=["absent", "null"])
@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_field_that_vanishes_and_returns_changes_nothing(make: Make, policy: str, do: str, mode: str) -> None:
    with make(policy) as scenario:
        cells = scenario.cells()
        for field in LOST:
            if mode == "incremental":  # the rows are read again, since their time has changed
                scenario.edit(*({"reference": row["stock_no"], "set": {}} for row in scenario.rows))
            scenario.lose(field, do)
            for _ in range(2):
                assert scenario.sent(mode) == [], (field, scenario.last)
                assert scenario.last["listings"]["sold"] == scenario.last["listings"]["drifted"] == 0, field
            scenario.heal()
            for _ in range(2):
                assert scenario.sent(mode) == [], (field, "returned", scenario.last)
        assert scenario.sent("full") == []
        assert scenario.last["listings"]["unchanged"] == CARS
        assert scenario.cells() == cells
