"""The way back: a change feed that several processes write, a table by the mapping backwards, a source of one's own."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from sqlite3 import OperationalError, connect
from typing import Any

import pytest

from okasie_tasks.errors import OkasieError, SourceError
from okasie_tasks.ports import Offer, WriteBack
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import custom
from okasie_tasks.sources.write_back import ChangeFeed, open_write_back
from okasie_tasks.sources.write_back.reverse_mapping import ReverseMapping
from tests.sources.support import HEAD, source

AT = 1_795_449_600_123
"""2026-11-23T16:00:00.123Z"""


def way_back(folder: Path, url: str, options: str, **environ: str) -> WriteBack:
    config = folder / "okasie.toml"
    config.write_text(HEAD.format(url=url, options=options))
    found = open_write_back(load_settings(config, {"K": "key", **environ}).accounts["dex"])
    assert found is not None
    return found


def offer(reference: str = "A", **changes: tuple[object, object]) -> Offer:
    return Offer(reference, "01J", AT, tuple((field, ours, theirs) for field, (ours, theirs) in changes.items()))


# -- a change feed -------------------------------------------------------------------------------------------------

FEED = '[accounts.dex.source.write_back]\nfile = "changes.jsonl"'


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_an_account_without_a_way_back_has_none(tmp_path: Path) -> None:
    (tmp_path / "okasie.toml").write_text(HEAD.format(url="feed.csv", options=""))
    account = load_settings(tmp_path / "okasie.toml", {"K": "key"}).accounts["dex"]
    assert open_write_back(account) is None


def test_a_change_feed_tells_everything_in_one_line_an_offer(tmp_path: Path) -> None:
    feed = way_back(tmp_path, "feed.csv", FEED)
    features = (["\x1fAC", "safety\x1fABS"], None)
    assert feed.write_back([offer(price=(100, 95.5), title=("Golf", "Golf\n7")), offer("B", features=features)]) == 2
    assert feed.write_back([]) == 0
    assert feed.write_back([offer("C", mileage=(1, None))]) == 1
    first, second, third = lines(tmp_path / "changes.jsonl")
    assert first == {
        "at": "2026-11-23T16:00:00.123Z", "account": "dex", "run": "01J", "reference": "A",
        "changes": {"price": {"ours": 100, "theirs": 95.5}, "title": {"ours": "Golf", "theirs": "Golf\n7"}},
    }  # fmt: skip
    assert second["changes"]["features"]["ours"] == [{"name": "AC"}, {"category": "safety", "name": "ABS"}]
    assert third["changes"] == {"mileage": {"ours": 1, "theirs": None}}


def test_a_half_line_of_somebody_who_was_killed_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "changes.jsonl").write_text('{"whole": 1}\n{"at": "2026')
    assert way_back(tmp_path, "feed.csv", FEED).write_back([offer(price=(1, 2))]) == 1
    assert (tmp_path / "changes.jsonl").read_text().splitlines()[1] == '{"at": "2026'
    assert json.loads((tmp_path / "changes.jsonl").read_text().splitlines()[2])["reference"] == "A"


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = way_back(tmp_path, "feed.csv", FEED)
    assert feed.write_back([offer(price=(1, 2))]) == 1
    before = (tmp_path / "changes.jsonl").read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    with pytest.raises(SourceError, match="only a part"):
        feed.write_back([offer(price=(2, 3))])
    assert (tmp_path / "changes.jsonl").read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    feed = way_back(tmp_path, "feed.csv", FEED.replace("changes", "out/changes"))
    with pytest.raises(SourceError, match=f"changes.jsonl: .*its folder {tmp_path / 'out'} does not exist"):
        feed.write_back([offer(price=(1, 2))])
    (tmp_path / "out" / "changes.jsonl").mkdir(parents=True)
    with pytest.raises(SourceError, match="Is a directory"):
        feed.write_back([offer(price=(1, 2))])


def append(path: Path, who: str, batches: int, start: Any) -> None:
    os.fsync = lambda file: None  # in this process of its own: the writes follow each other without a pause
    feed = ChangeFeed(who, path)
    start.wait(60)
    for batch in range(batches):
        long = "x" * 3_000
        assert feed.write_back([offer(f"{who}-{batch}-{row}", title=(long, long)) for row in range(20)]) == 20


def test_lines_of_two_processes_never_mix(tmp_path: Path) -> None:
    file, batches = tmp_path / "changes.jsonl", 200
    fresh = multiprocessing.get_context("spawn")
    start = fresh.Barrier(2)
    both = [fresh.Process(target=append, args=(file, who, batches, start)) for who in ("a", "b")]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    found = [line["reference"] for line in lines(file)]
    assert sorted(found) == sorted(f"{w}-{b}-{row}" for w in ("a", "b") for b in range(batches) for row in range(20))
    assert [found[i : i + 20] for i in range(0, len(found), 20)] == [
        [f"{found[i].rpartition('-')[0]}-{row}" for row in range(20)] for i in range(0, len(found), 20)
    ], "a batch stands together"


# -- a table -------------------------------------------------------------------------------------------------------

SQL = """\
type = "sql"
query = 'select * from vehicles'
[accounts.dex.source.write_back]
table = "vehicles"
[accounts.dex.source.fields]
title = "{make} {model}"
brand = "make"
price = 'price "eur" %(x)s'
mileage = "km"
powerKw = "hp"
fuelType = "fuel"
warranty = "guarantee"
conditionTags = { column = "tags", split_on = "," }
[accounts.dex.source.values.fuelType]
Benzin = "petrol"
Strom = "electric"
Elektro = "electric"
"*" = "other"
[accounts.dex.source.units]
powerKw = "hp"
"""
PRICE = 'price "eur" %(x)s'
COLUMNS = {
    "ref": "text primary key", "make": "varchar(10)", "model": "text", PRICE: "decimal(10, 2)", "km": "integer",
    "hp": "integer", "fuel": "text", "guarantee": "boolean", "tags": "text", "color": "text not null",
    "doors": "integer check (doors < 6)", "vin": "text unique", "seats": "", "description": "text", "variant": "date",
}  # fmt: skip
ROW: dict[str, Any] = {
    "make": "VW", "model": "Golf", PRICE: 100.5, "km": 7, "hp": 116, "fuel": "Benzin", "guarantee": 1, "tags": "a,b",
    "color": "red", "doors": 5, "seats": "5", "description": "A car",
}  # fmt: skip
OURS: dict[str, Any] = {
    "title": "VW Golf", "brand": "VW", "price": 100.5, "mileage": 7, "powerKw": 85.32, "fuelType": "petrol",
    "warranty": True, "conditionTags": ["a", "b"], "color": "red", "doors": 5, "seats": 5, "description": "A car",
    "vin": None, "city": "Gent", "variant": None, "features": None,
}  # fmt: skip


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Any]:
    with closing(connect(tmp_path / "stock.db", isolation_level=None)) as database:
        columns = ", ".join(f"{_quoted(name)} {kind}" for name, kind in COLUMNS.items())
        database.execute(f"create table vehicles ({columns})")
        for reference in ("A", "B", "C"):
            put(database, {"ref": reference, **ROW})
        yield database


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def put(database: Any, row: Mapping[str, Any]) -> None:
    names = ", ".join(_quoted(name) for name in row)
    database.execute(f"insert into vehicles ({names}) values ({', '.join('?' * len(row))})", list(row.values()))


def row_of(database: Any, reference: str = "A") -> dict[str, Any]:
    cursor = database.execute("select * from vehicles where ref = ?", [reference])
    (found,) = cursor.fetchall()
    return {
        name: value
        for (name, *_), value in zip(cursor.description, found, strict=True)
        if value is not None and name != "ref"
    }


def table(tmp_path: Path, old: str = "", new: str = "") -> WriteBack:
    assert old in SQL
    return way_back(tmp_path, f"sqlite:///{tmp_path / 'stock.db'}", SQL.replace(old, new, 1))


def edited(reference: str = "A", **theirs: object) -> Offer:
    return offer(reference, **{field: (OURS[field], value) for field, value in theirs.items()})


@pytest.mark.parametrize(
    ("theirs", "cells"),
    [
        ({"price": 95}, {PRICE: 95}),
        ({"price": 95.99}, {PRICE: 95.99}),
        ({"mileage": 12_000}, {"km": 12_000}),
        ({"powerKw": 110.32}, {"hp": 150}),
        ({"powerKw": 110}, {"hp": 150}),  # no whole horsepower is nearer, and the comparison allows it
        ({"brand": "Seat"}, {"make": "Seat"}),
        ({"warranty": False}, {"guarantee": 0}),
        ({"description": None}, {"description": None}),
        ({"description": "A 'quoted'; drop table vehicles --"}, {"description": "A 'quoted'; drop table vehicles --"}),
        ({"seats": 4}, {"seats": 4}),
        ({"vin": "WVW"}, {"vin": "WVW"}),
        ({"price": 90, "mileage": 8, "color": "blue"}, {PRICE: 90, "km": 8, "color": "blue"}),
    ],
)  # fmt: skip
def test_theirs_is_in_the_table_and_is_read_again(
    tmp_path: Path, stock: Any, theirs: dict[str, Any], cells: dict[str, Any]
) -> None:
    back = table(tmp_path)
    other = row_of(stock, "B")
    assert back.write_back([edited(**theirs)]) == 1
    wanted = {name: cell for name, cell in (ROW | cells).items() if cell is not None}
    assert row_of(stock) == wanted
    assert row_of(stock, "B") == other
    assert back.write_back([edited(**theirs)]) == 1, "the same offer once more"
    assert row_of(stock) == wanted


def left_out(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The edits that were logged as not written back, each with its reason."""
    records: list[Any] = [r for r in caplog.records if r.getMessage() == "edit not written back"]
    return [(record.reference, record.reason) for record in records]


@pytest.mark.parametrize(
    ("field", "theirs", "why"),
    [
        ("title", "VW Golf 7", "not read from one plain column"),
        ("fuelType", "electric", "2 of the source's values mean it"),
        ("fuelType", "other", "none of the source's values means it"),
        ("fuelType", "hydrogen", "none of the source's values means it"),
        ("conditionTags", ["a"], "is a list"),
        ("features", ["safety\x1fABS"], "is a list"),
        ("city", "Brugge", "not read from one plain column"),
        ("brand", "Volkswagen Nutzfahrzeuge", "its column cannot hold it"),
        ("color", None, "its column cannot hold it"),
        ("price", None, "no cell would be read"),
        ("mileage", None, "no cell would be read"),  # the default would take its place
        ("doors", 4.5, "no cell would be read"),
        ("description", "a\x00b", "its column cannot hold it"),
        ("variant", "GTI", "a type that is not written"),
    ],
)
def test_what_has_no_way_back_is_counted_and_left_alone(
    tmp_path: Path, stock: Any, caplog: pytest.LogCaptureFixture, field: str, theirs: object, why: str
) -> None:
    back: Any = table(tmp_path)
    caplog.set_level(logging.INFO, "okasie_tasks")
    assert back.write_back([edited(**{field: theirs})]) == 0
    assert row_of(stock) == ROW
    assert back.skipped == {field: 1}
    ((reference, reason),) = left_out(caplog)
    assert (reference, reason.partition(": ")[0]) == ("A", field)
    assert why in reason
    assert back.write_back([edited(**{field: theirs, "seats": 2})]) == 1, "the others go on"
    assert row_of(stock) == ROW | {"seats": 2}
    assert back.skipped == {field: 2}


def test_a_price_in_another_currency_is_not_a_price(tmp_path: Path, stock: Any) -> None:
    back = table(tmp_path)
    assert back.write_back([offer(price=(100.5, 90), currency=("EUR", "CHF"), color=("red", "blue"))]) == 1
    assert row_of(stock) == ROW | {"color": "blue"}
    assert back.write_back([offer(price=(100.5, 90), currency=("EUR", "EUR"))]) == 1
    assert row_of(stock)[PRICE] == 90


def test_a_newer_change_in_the_source_is_not_overwritten(tmp_path: Path, stock: Any) -> None:
    stock.execute("update vehicles set km = 9 where ref = 'A'")
    back: Any = table(tmp_path)
    assert back.write_back([edited(mileage=8, price=90)]) == 1
    assert row_of(stock) == ROW | {"km": 9, PRICE: 90}
    assert back.skipped == {"mileage": 1}


def test_a_column_that_two_fields_read_is_left_alone(tmp_path: Path, stock: Any) -> None:
    back = table(tmp_path, 'brand = "make"', 'brand = "model"')
    assert back.write_back([offer(model=("Golf", "Polo"))]) == 0
    assert row_of(stock) == ROW


def test_a_reference_must_name_one_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(connect(tmp_path / "stock.db", isolation_level=None)) as stock:
        stock.execute("create table vehicles (ref integer, color text)")
        stock.executemany("insert into vehicles values (?, 'red')", [(1,), (2,), (2,)])
        back = table(tmp_path)
        assert back.write_back([offer(ref, color=("red", "blue")) for ref in ("2", "3", "1", "01", "x")]) == 1
        assert stock.execute("select ref, color from vehicles order by 1").fetchall() == [
            (1, "blue"),
            (2, "red"),
            (2, "red"),
        ]
    reasons = dict(left_out(caplog))
    assert reasons["2"].startswith("more than one row has this reference")
    assert reasons["3"].startswith("no row has this reference")


def test_what_a_rule_of_the_database_refuses_does_not_stop_the_others(
    tmp_path: Path, stock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    batch = [edited("A", vin="WVW"), edited("B", vin="WVW"), edited("C", doors=6), edited("C", color="blue")]
    assert table(tmp_path).write_back(batch) == 2
    assert [row_of(stock, ref).get("vin") for ref in "ABC"] == ["WVW", None, None]
    assert row_of(stock, "C") == ROW | {"color": "blue"}
    reason = dict(left_out(caplog))["B"]
    assert reason.startswith("the database returned an error: IntegrityError (UNIQUE constraint failed")


def test_a_batch_is_one_transaction(tmp_path: Path, stock: Any) -> None:
    stock.execute(
        "create trigger t before update on vehicles when new.ref = 'B' begin select abs(-9223372036854775807 - 1); end"
    )
    with pytest.raises(SourceError, match="the database returned an error: OperationalError"):
        table(tmp_path).write_back([edited("A", color="blue"), edited("B", color="blue")])
    assert row_of(stock) == ROW


def test_nobody_writes_between_our_look_and_our_update(
    tmp_path: Path, stock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    cell = ReverseMapping.cell

    def meanwhile(*args: Any) -> object:
        with closing(connect(tmp_path / "stock.db", timeout=0)) as other:
            try:
                other.execute("update vehicles set km = 9 where ref = 'A'")
                other.commit()
            except OperationalError as error:
                refused.append(str(error))
        return cell(*args)

    monkeypatch.setattr(ReverseMapping, "cell", meanwhile)
    assert table(tmp_path).write_back([edited(mileage=8)]) == 1
    assert refused == ["database is locked"]
    assert row_of(stock) == ROW | {"km": 8}


def test_a_table_that_does_not_fit_is_told(tmp_path: Path, stock: Any) -> None:
    stock.execute("alter table vehicles rename column ref to stock_no")
    with pytest.raises(SourceError, match="table vehicles of dex: has no column ref; its columns are stock_no, make"):
        table(tmp_path).write_back([edited(color="blue")])
    stock.execute("drop table vehicles")
    with pytest.raises(SourceError, match="table vehicles of dex: there is no such table"):
        table(tmp_path).write_back([edited(color="blue")])


def test_a_schema_may_be_named(tmp_path: Path, stock: Any) -> None:
    back = table(tmp_path, 'table = "vehicles"', 'table = "main.vehicles"')
    assert back.write_back([edited(color="blue")]) == 1
    assert row_of(stock) == ROW | {"color": "blue"}


@pytest.mark.parametrize("url", ["nosuch://user:pa55@db/x", "sqlite:////nowhere/pa55/x.db?token=pa55"])
def test_an_error_of_a_database_holds_no_secret(tmp_path: Path, url: str) -> None:
    with pytest.raises(OkasieError) as caught:
        way_back(tmp_path, "env:DB", SQL, DB=url).write_back([edited(color="blue")])
    assert "pa55" not in str(caught.value)


def test_the_next_read_of_the_inventory_gives_theirs(tmp_path: Path, stock: Any) -> None:
    theirs = {"price": 90.25, "mileage": 8, "powerKw": 110.32, "color": "blue", "warranty": False, "brand": "Seat"}
    assert table(tmp_path).write_back([edited(**theirs)]) == 1
    inventory = source(tmp_path, f"sqlite:///{tmp_path / 'stock.db'}", SQL)
    (found,) = inventory.get(["A"])
    listing = found.listing
    assert listing is not None, found.issues
    assert (listing.price, listing.mileage, listing.power_kw) == (90.25, 8, 110.32)
    assert (listing.color, listing.warranty, listing.brand, listing.title) == ("blue", False, "Seat", "Seat Golf")


# -- a source of one's own -----------------------------------------------------------------------------------------


class Stock:
    """What somebody else wrote."""

    told: Any = None
    given: list[Any]

    def __init__(self, _: Any) -> None:
        Stock.given = []

    def write_back(self, changes: Any) -> Any:
        self.given.extend(changes)
        if isinstance(Stock.told, Exception):
            raise Stock.told
        return Stock.told


class Reader:
    def __init__(self, _: Any) -> None: ...


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(n, f"{__name__}:{n.title()}", custom.GROUP) for n in ("stock", "reader")]
    monkeypatch.setattr(custom, "entry_points", lambda group, name: [p for p in points if p.name == name])


@pytest.mark.parametrize(("told", "taken"), [(None, 2), (1, 1), (0, 0)])
def test_a_source_of_ones_own_is_handed_plain_dicts(
    tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch, told: Any, taken: int
) -> None:
    monkeypatch.setattr(Stock, "told", told)
    back = way_back(tmp_path, "", 'type = "python:stock"')
    assert back.write_back([]) == 0
    assert Stock.given == []
    assert back.write_back([offer(price=(1, 2)), offer("B", color=("red", None))]) == taken
    assert Stock.given[0] == {
        "at": "2026-11-23T16:00:00.123Z", "account": "dex", "run": "01J", "reference": "A",
        "changes": {"price": {"ours": 1, "theirs": 2}},
    }  # fmt: skip
    assert Stock.given[1]["changes"] == {"color": {"ours": "red", "theirs": None}}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (RuntimeError("postgresql://me:pa55@db/x is away"), "write_back raised RuntimeError: postgresql://***@db/x"),
        ("two", "returned 'two', expected the number accepted of 1"),
        (2, "returned 2, expected the number accepted of 1"),
        (True, "returned True"),
    ],
)
def test_a_source_of_ones_own_that_breaks_is_a_source_error(
    tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch, told: Any, message: str
) -> None:
    monkeypatch.setattr(Stock, "told", told)
    with pytest.raises(SourceError) as caught:
        way_back(tmp_path, "", 'type = "python:stock"').write_back([offer(price=(1, 2))])
    assert message in str(caught.value)
    assert "pa55" not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_a_source_of_ones_own_may_have_no_way_back_or_a_change_feed(tmp_path: Path, installed: None) -> None:
    (tmp_path / "okasie.toml").write_text(HEAD.format(url="", options='type = "python:reader"'))
    assert open_write_back(load_settings(tmp_path / "okasie.toml", {"K": "key"}).accounts["dex"]) is None
    assert isinstance(way_back(tmp_path, "", f'type = "python:stock"\n{FEED}'), ChangeFeed)
