"""Fields that the marketplace's rows lack, or show empty all at once: unknown, never a difference, never written back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product
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
GROUPS = (
    ("powerKw", "color", "mileage", "features"), ("brand", "location"), ("price", "status", "updatedAt"),
    ("dealer",), ("dealerProfileId", "dealer"), ("title", "images", "id"),
)  # fmt: skip
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

    def columns(self) -> list[str]:
        with closing(connect(self.database)) as database:
            return [name for _, name, *_ in database.execute("pragma table_info(cars)")]

    def lose(self, *fields: str, do: str = "remove", **more: Any) -> None:
        """The fields are gone from the list, or null in it."""
        value = {"value": None} if do == "set" else {}
        edits = [{"path": f"data.*.{field}", "do": do, **value, **more} for field in fields]
        self._post("faults", {"kind": "edit", "match": {"path": "list"}, "edits": edits})

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


POLICIES = pytest.mark.parametrize("policy", ["local", "remote", "newest"])
GONE = pytest.mark.parametrize("do", ["remove", "set"], ids=["absent", "null"])


CASES = [
    # One in seven covers every value with every other one; the rest takes two minutes.
    pytest.param(*case, marks=[] if number % 7 == 0 else pytest.mark.slow)
    for number, case in enumerate(
        product(("local", "remote", "newest"), ("remove", "set"), ("full", "incremental"), (True, False), GROUPS)
    )
]


@pytest.mark.parametrize(("policy", "do", "mode", "echo", "fields"), CASES)
def test_fields_that_vanish_and_return_change_nothing(
    make: Make, policy: str, do: str, mode: str, echo: bool, fields: tuple[str, ...]
) -> None:
    """Also when the first rows after our write lack them: their spelling is learned once they are back."""
    with make(policy, echo=echo) as scenario:
        cells = scenario.cells()
        if echo:  # the rows are read again, since their time has changed
            scenario.edit(*({"reference": row["stock_no"], "set": {}} for row in scenario.rows))
        scenario.lose(*fields, do=do)
        for again in (mode, "full"):
            assert scenario.sent(again) == [], scenario.last
            assert scenario.last["listings"]["sold"] == scenario.last["listings"]["drifted"] == 0
        scenario.heal()
        for again in (mode, "full", "full"):
            assert scenario.sent(again) == [], ("returned", scenario.last)
        assert (scenario.last["listings"]["unchanged"], scenario.last["notes"]) == (CARS, [])
        assert scenario.cells() == cells


@POLICIES
@GONE
def test_edits_there_are_noticed_while_a_field_is_gone(make: Make, policy: str, do: str) -> None:
    with make(policy) as scenario:
        cells = scenario.cells()
        scenario.lose("powerKw", "seats", "color", do=do)
        assert scenario.sent("full") == []
        scenario.clock.ahead += 60
        scenario.edit({"reference": CAR, "set": {"price": 1111}}, {"reference": OTHER, "set": {"model": "Sprinter"}})
        assert scenario.sent("full") == ([CAR, OTHER] if policy == "local" else []), scenario.last
        assert scenario.last["listings"]["drifted"] == 2
        taken = policy != "local"
        assert (scenario.cell(CAR, "price_eur") in (1111, "1111"), scenario.cell(OTHER, "model") == "Sprinter") == (
            taken,
            taken,
        )
        for _ in range(2):
            scenario.sent("full")
        scenario.heal()
        for mode in ("incremental", "full", "full"):
            assert scenario.sent(mode) == [], scenario.last
        columns = scenario.columns()
        changed = {
            (row[0], column)
            for row, before in zip(scenario.cells(), cells, strict=True)
            for column, value, old in zip(columns, row, before, strict=True)
            if value != old
        }
        assert changed == ({(CAR, "price_eur"), (OTHER, "model")} if taken else set())


@POLICIES
@GONE
@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_our_changes_are_sent_while_a_field_is_gone(make: Make, policy: str, do: str, mode: str) -> None:
    with make(policy) as scenario:
        scenario.edit(*({"reference": row["stock_no"], "set": {}} for row in scenario.rows))
        scenario.lose("powerKw", "color", do=do)
        scenario.set(CAR, "price_eur", "2222")
        scenario.set(OTHER, "colour", "paars")
        cells = scenario.cells()
        assert scenario.sent(mode) == [CAR, OTHER]
        assert scenario.sent("full") == []
        scenario.heal()
        for again in ("incremental", "full"):
            assert scenario.sent(again) == []
        assert scenario.cells() == cells
        assert scenario.standing()[CAR]["price"] == 2222


@pytest.mark.parametrize("policy", ["local", "remote"])
def test_a_single_field_that_somebody_empties_there_is_an_edit(make: Make, policy: str) -> None:
    with make(policy) as scenario:
        scenario.clock.ahead += 60
        scenario.edit({"reference": CAR, "set": {"variant": None}})
        assert scenario.sent("full") == ([CAR] if policy == "local" else [])
        assert scenario.last["listings"]["drifted"] == 1
        assert (scenario.cell(CAR, "version") is None) is (policy == "remote")


@POLICIES
@pytest.mark.parametrize("echo", [True, False])
def test_a_few_values_that_are_null_without_an_edit_are_not_written_back(make: Make, policy: str, echo: bool) -> None:
    with make(policy, echo=echo) as scenario:
        cells = scenario.cells()
        scenario.lose("variant", do="set", references=[CAR, OTHER])
        sent = scenario.sent("full")
        # Dropped from what we had just written: sent once more.
        assert sent == ([CAR, OTHER] if policy == "local" and not echo else [])
        scenario.sent("full")
        scenario.heal()
        for _ in range(2):
            assert scenario.sent("full") in ([], sent)
        assert scenario.sent("full") == []
        assert scenario.cells() == cells


@GONE
def test_a_mass_loss_is_reported_and_alerted_once(make: Make, do: str, client: redis.Redis) -> None:
    with make("local") as scenario:
        scenario.lose("powerKw", do=do)
        for new in (True, False):
            assert scenario.sent("full") == []
            (note, *_) = scenario.status()["last_run"]["notes"]
            assert note.startswith(f"the marketplace returns powerKw empty or not at all in {CARS} of {CARS} listings")
            ended = client.lrange(f"{scenario.prefix}alerts:ended", 0, -1)
            assert (scenario.last["run"].encode() in ended) is new
        scenario.heal()
        scenario.sent("full")
        assert scenario.last["notes"] == []


def test_a_few_rows_that_lack_a_field_are_reported_too(make: Make) -> None:
    with make("remote") as scenario:
        cells = scenario.cells()
        scenario.lose("powerKw", references=[CAR, OTHER])
        assert scenario.sent("full") == []
        assert scenario.last["notes"] == ["2 rows of the list lack fields that we fill: these fields are not compared"]
        assert scenario.cells() == cells


@POLICIES
def test_a_lost_ledger_adopts_rows_that_lack_fields(make: Make, policy: str) -> None:
    with make(policy) as scenario:
        cells = scenario.cells()
        scenario.lose_redis()
        scenario.lose("powerKw", "color", "images")
        for _ in range(2):
            assert scenario.sent("full") == []
        scenario.heal()
        for _ in range(2):
            assert scenario.sent("full") == []
        assert scenario.cells() == cells
