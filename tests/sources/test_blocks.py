"""Blocks: a source is read once, and its rows are decoded elsewhere."""

from __future__ import annotations

import json
import sqlite3
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from okasie_tasks.core.fingerprint import content_fingerprint
from okasie_tasks.core.listing import Listing
from okasie_tasks.core.records import hash8
from okasie_tasks.core.row_cache import RowCache, Same
from okasie_tasks.ports import Block, Record
from okasie_tasks.sources import blocks, csv_format, jsonl, records
from okasie_tasks.sources.custom import CustomSource
from tests.sources.support import brief, source

NAMES = [f"C{number:02}" for number in range(23)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocks, csv_format, jsonl, records):
        monkeypatch.setattr(module, "BLOCK_ROWS", 5)


def sent(found: list[Block]) -> list[Block]:
    """As another process gets them."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=list[Block])


def make(folder: Path, kind: str) -> Any:
    """A source of that kind. What it reads is gone once `take_away` was called."""
    rows = [{"ref": name, "title": f"Zoë {name}", "price": 100 + n} for n, name in enumerate(NAMES)]
    if kind == "csv":
        lines = [f'{row["ref"]},"{row["title"]}\n2",{row["price"]}\n\n' for row in rows]
        (folder / "feed").write_text("ref,title,price\n" + "".join(lines))
        return source(folder, "feed")
    if kind in ("utf-16", "latin-1"):
        lines = [f"{row['ref']},{row['title']},{row['price']}\n" for row in rows]
        (folder / "feed").write_text("ref,title,price\n" + "".join(lines), encoding=kind)
        return source(folder, "feed", f'encoding = "{kind}"')
    if kind == "jsonl":
        (folder / "feed").write_text("\n".join(json.dumps(row) + "\n" for row in rows))
        return source(folder, "feed", 'type = "jsonl"')
    if kind == "json":
        (folder / "feed").write_text(json.dumps(rows))
        return source(folder, "feed", 'type = "json"')
    if kind == "sql":
        with sqlite3.connect(folder / "feed") as connection:
            connection.execute("create table cars (ref text, title text, price numeric)")
            connection.executemany("insert into cars values (:ref, :title, :price)", rows)
        connection.close()
        query = 'type = "sql"\nquery = "select * from cars order by ref"'
        return source(folder, f"sqlite:///{folder / 'feed'}", query)
    account = source(folder, "feed")._account  # type: ignore[attr-defined]
    return CustomSource(account, Stock(folder, rows), current_year=2026)


class Stock:
    def __init__(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        (folder / "feed").write_text("")
        self.folder, self._rows = folder, rows

    def read(self) -> Iterator[dict[str, Any]]:
        assert (self.folder / "feed").exists()
        yield from self._rows


KINDS = ["csv", "utf-16", "latin-1", "jsonl", "json", "sql", "custom"]


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_decoded_without_the_source(tmp_path: Path, kind: str) -> None:
    found = make(tmp_path, kind)
    whole = list(found.rows())
    assert [row.reference for row in whole] == NAMES
    assert all(row.listing is not None for row in whole)
    taken = sent(list(found.blocks()))
    assert [(block.first, block.rows) for block in taken] == [(0, 5), (5, 5), (10, 5), (15, 5), (20, 3)]
    (tmp_path / "feed").unlink()
    assert [row for block in reversed(taken) for row in reversed(list(found.decode(block)))] == whole[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_of_other_rows_only_the_reference_is_read(tmp_path: Path, kind: str) -> None:
    found = make(tmp_path, kind)
    rows = [row for block in found.blocks() for row in found.decode(block, only={"C07", "C21"})]
    assert [row.reference for row in rows] == NAMES
    assert [row.reference for row in rows if row.listing] == ["C07", "C21"]
    assert [row.reference for row in found.get(["C07", "nobody"])] == ["C07"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_source_that_are_the_same_come_unread(tmp_path: Path, kind: str) -> None:
    found = make(tmp_path, kind)
    block = next(iter(found.blocks()))
    first = RowCache()
    for row in found.decode(block, known=first):
        first.note(row.raw, content_fingerprint(row.listing))
    again = list(found.decode(block, known=RowCache(first.pack() or b"")))
    assert [row.reference for row in again] == NAMES[:5]
    assert [row.read() for row in again if row.read] == list(found.decode(block))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_source_that_equal_their_entries_are_taken(tmp_path: Path, kind: str) -> None:
    found = make(tmp_path, kind)
    block = next(iter(found.blocks()))
    first = RowCache(number=7)
    for row in found.decode(block, known=first):
        first.note_same(row.raw, hash8(row.reference or ""))
    kept = first.pack()
    assert kept is not None
    untrusted, asked = hash8(NAMES[1]), []

    def trust(same: Same, noted_by: int) -> Same:
        asked.append(noted_by)
        return {raw: key for raw, key in same.items() if key != untrusted}

    again = RowCache(kept, number=8, trust=trust)
    (left,) = found.decode(block, known=again)
    assert (left.reference, left.row, left.listing is None) == (NAMES[1], 2, False)
    assert again.taken == [(hash8(name), number) for number, name in enumerate(NAMES[:5], 1) if number != 2]
    assert asked == [7]
    again.note_same(left.raw, untrusted)
    packed = again.pack()
    assert packed is not None
    assert sorted(packed[20:]) == sorted(kept[20:]), "all are noted again"


def test_a_block_is_cut_by_its_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (csv_format, jsonl, records):
        monkeypatch.setattr(module, "BLOCK_BYTES", 60)
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        found = make(tmp_path / kind, kind)
        taken = list(found.blocks())
        assert all(len(block.data) < 250 for block in taken), kind
        assert len(taken) > 5
        assert [row.reference for block in taken for row in found.decode(block)] == NAMES


@pytest.mark.parametrize("kind", ["csv", "utf-16", "jsonl", "sql"])
def test_a_read_takes_the_memory_of_a_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for module in (csv_format, jsonl, records):
        monkeypatch.setattr(module, "BLOCK_ROWS", 500)
    monkeypatch.setattr(sys.modules[__name__], "NAMES", [f"C{number:05}" + "x" * 300 for number in range(20_000)])
    found = make(tmp_path, kind)
    assert next(iter(found.blocks())).rows == 500, "what is imported for it is imported"
    tracemalloc.start()
    try:
        count = sum(block.rows for block in found.blocks())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert most < 4_000_000, "of more than 12 MB"


def test_values_without_a_msgpack_type_survive(tmp_path: Path) -> None:
    values = {
        "day": date(2024, 2, 29), "moment": datetime(2024, 2, 29, 12, 0, tzinfo=UTC), "local": datetime(2024, 1, 1),  # noqa: DTZ001
        "price": Decimal("12.50"), "id": UUID(int=7), "huge": 2**70, "bits": b"\x01", "none": None, "nested": {"a": [1, 2.5, {"b": True}]},
    }  # fmt: skip
    (block,) = records.cut_records([Record("here", values)])
    ((_, packed, _),) = msgspec.msgpack.decode(block.data, type=list[tuple[str, msgspec.Raw, str]])
    found = msgspec.msgpack.decode(packed, ext_hook=records._unpacked)
    assert found == values | {"huge": Decimal(2**70)}
    assert type(found["moment"]) is datetime


def test_a_listing_of_a_custom_source_stays_one(tmp_path: Path) -> None:
    (golf,) = (row.listing for row in make(tmp_path, "json").get(["C03"]))
    found = make(tmp_path, "custom")
    found._inner._rows = [golf]
    (row,) = found.rows()
    assert (row.reference, row.listing) == ("C03", golf)
    assert isinstance(row.listing, Listing)


def test_a_record_that_could_not_be_read_or_packed_is_a_row_with_its_reason(tmp_path: Path) -> None:
    found = make(tmp_path, "json")
    deep: Any = {}
    for _ in range(5_000):
        deep = {"a": deep}
    given = [
        Record("feed:1", None, "a date is cut"),
        Record("feed:2", {"ref": "\ud800"}),
        Record("feed:3", deep),
        Record("feed:4", 7),
    ]
    rows = [row for block in records.cut_records(given) for row in found.decode(block)]
    assert brief(rows) == [
        (1, None, "unreadable"),
        (2, None, "unreadable"),
        (3, None, "unreadable"),
        (4, None, "not_an_object"),
    ]
    assert [row.where for row in rows] == ["feed:1", "feed:2", "feed:3", "feed:4"]
    assert rows[0].issues[0].message == "a date is cut"


def test_a_long_line_end_is_not_mistaken_for_a_cut_feed(tmp_path: Path) -> None:
    """The last byte of UTF-16 is half a character."""
    for encoding, text in (("utf-16", "ref,title,price\nA,Golf,1\n"), ("utf-8", "ref,title,price\rA,Golf,1\r")):
        (tmp_path / "feed").write_text(text, encoding=encoding, newline="")
        (row,) = source(tmp_path, "feed", f'encoding = "{encoding}"').rows()
        assert not row.unterminated
    (tmp_path / "feed").write_text("ref,title,price\nB,Polo,2\nA,Golf,1", encoding="utf-16")
    before, row = source(tmp_path, "feed", 'encoding = "utf-16"').rows()
    assert (before.unterminated, row.unterminated) == (False, True)
