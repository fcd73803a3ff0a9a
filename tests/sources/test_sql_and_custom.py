"""Inventories in a database, and sources written by others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.sources import custom
from tests.sources.support import brief, source


def sql(query: str) -> str:
    return f'type = "sql"\nquery = "{query}"'


@pytest.fixture
def database(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "stock.db") as connection:
        connection.execute("create table vehicles (ref text, title text, price numeric, km integer)")
        connection.executemany(
            "insert into vehicles values (?, ?, ?, ?)", [("A", "Golf", 100.5, 7), ("B", None, 200, 8)]
        )
    connection.close()
    return f"sqlite:///{tmp_path / 'stock.db'}"


def test_the_rows_of_a_query_are_the_inventory(tmp_path: Path, database: str) -> None:
    found = source(tmp_path, database, sql("select ref, title, price, km as mileage from vehicles order by ref"))
    assert brief(found.rows()) == [(1, "A", "Golf"), (2, "B", "required")]
    (golf,) = found.get(["A"])
    assert golf.listing is not None
    assert (golf.listing.price, golf.listing.mileage) == (100.5, 7)


def test_a_query_that_fails_is_told_without_the_url(tmp_path: Path, database: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(source(tmp_path, database, sql("select * from cars")).rows())
    assert "no such table: cars" in str(caught.value)
    assert "stock.db" not in str(caught.value)
    with pytest.raises(SourceError, match="has no column ref"):
        list(source(tmp_path, database, sql("select title from vehicles")).rows())


def test_a_database_url_that_cannot_be_used_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        list(source(tmp_path, "env:DB", sql("select 1"), DB="nosuch://user:pa55@db/x").rows())
    assert "pa55" not in str(caught.value)


class Stock:
    """What somebody else wrote."""

    def __init__(self, _: Any) -> None: ...

    def read(self) -> Iterator[dict[str, Any]]:
        yield {"ref": "A", "title": "Golf", "price": 100}
        yield {"ref": "B", "title": "Polo", "price": "x"}

    def get(self, references: Sequence[str]) -> Iterator[dict[str, Any]]:
        return (row for row in self.read() if row["ref"] in references)


class Broken(Stock):
    def read(self) -> Iterator[dict[str, Any]]:
        yield {"ref": "A", "title": "Golf", "price": 100}
        raise RuntimeError("the warehouse is closed")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(n, f"{__name__}:{n.title()}", custom.GROUP) for n in ("stock", "broken")]

    def found(group: str, name: str | None = None) -> list[EntryPoint]:
        return [point for point in points if name in (None, point.name)]

    monkeypatch.setattr(custom, "entry_points", found)


def test_a_source_of_ones_own_is_found_by_its_entry_point(tmp_path: Path, installed: None) -> None:
    found = source(tmp_path, "", 'type = "python:stock"')
    assert brief(found.rows()) == [(1, "A", "Golf"), (2, "B", "unreadable")]
    assert brief(found.get(["B"])) == [(1, "B", "unreadable")]


def test_a_source_that_breaks_is_a_source_error(tmp_path: Path, installed: None) -> None:
    with pytest.raises(SourceError, match="RuntimeError: the warehouse is closed"):
        list(source(tmp_path, "", 'type = "python:broken"').rows())


def test_a_source_that_is_not_installed_is_named_with_those_that_are(tmp_path: Path, installed: None) -> None:
    with pytest.raises(ConfigurationError, match="no source 'depot' is installed; installed: broken, stock"):
        source(tmp_path, "", 'type = "python:depot"')
