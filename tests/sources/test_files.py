"""Feeds in files: read to their proven end, bad rows told with their line, half feeds refused."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.fingerprint import content_fingerprint
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Source, SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.csv_reader import CsvReader, cells_of
from tests.sources.support import brief, source

CARS = (("A", "Golf", 100), ("B", "Polo", 200), ("C", "Clio", 300), ("D", "", 400))
CSV = "ref,title,price\nA,Golf,100\nB,Polo,200\nC,Clio,300\n"


def read(
    tmp_path: Path, content: str | bytes, name: str = "feed.csv", options: str = ""
) -> list[tuple[int, str | None, str | None]]:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return brief(source(tmp_path, name, options).rows())


def refused(tmp_path: Path, content: str | bytes, name: str = "feed.csv", options: str = "") -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, content, name, options)
    return caught.value


ALL = [(1, "A", "Golf"), (2, "B", "Polo"), (3, "C", "Clio")]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (CSV, ""),
        ("\ufeff" + CSV, ""),
        (CSV.replace("\n", "\r\n"), ""),
        (CSV.removesuffix("\n"), ""),
        (CSV.replace("\n", "\n\n"), ""),
        (CSV.replace(",", ";"), 'delimiter = ";"'),
        (CSV.replace("Golf", '"Golf"'), ""),
        (CSV.encode("utf-16"), 'encoding = "utf-16"'),
        (CSV.replace("ref,", " ref ,"), ""),
    ],
)
def test_a_csv_is_read_whatever_its_dress(tmp_path: Path, content: str | bytes, options: str) -> None:
    assert read(tmp_path, content, options=options) == ALL


def test_a_gzipped_feed_is_read_as_such(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(CSV.encode()), "feed.csv.gz") == ALL


def test_lines_in_quotes_keep_the_line_numbers_right(tmp_path: Path) -> None:
    content = 'ref,title,price\nA,"Golf\nplus",100\nB,Polo,x\n'
    (tmp_path / "feed.csv").write_text(content)
    *_, bad = source(tmp_path, "feed.csv").rows()
    assert (bad.row, bad.where) == (2, "feed.csv:4")
    assert bad.issues[0].message == "column price: expected a number, got 'x'"


def test_single_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text(CSV)
    found = source(tmp_path, "feed.csv")
    whole = list(found.rows())
    assert list(found.get(["C", "A", "nobody"])) == [whole[0], whole[2]]


@pytest.mark.parametrize(
    ("row", "code"),
    [("B,Polo", "columns"), ("B,Polo,1,2", "columns"), (",Polo,1", "bad_reference"), ("a\tb,Polo,1", "bad_reference")],
)
def test_a_bad_row_stops_no_other(tmp_path: Path, row: str, code: str) -> None:
    found = read(tmp_path, CSV.replace("B,Polo,200", row))
    assert [r[0] for r in found] == [1, 2, 3]
    assert (found[1][2], found[0][2], found[2][2]) == (code, "Golf", "Clio")


@pytest.mark.parametrize(
    ("content", "code", "where"),
    [
        (CSV.replace("Clio", '"Clio'), "cut", "feed.csv:4"),
        (CSV.replace("Clio,300", 'Clio,"300\nand more'), "cut", "feed.csv:4"),
        (CSV.encode().replace(b"Polo", b"P\xe9lo"), "encoding", "feed.csv:3"),
        (CSV + "D,Mini", "cut", "feed.csv:5"),
        ("<!DOCTYPE html><html></html>", "markup", "feed.csv"),
        ("  \n<HTML>", "markup", "feed.csv"),
        ("reference,title\nA,x\n", "columns", "feed.csv:1"),
        ("", "columns", "feed.csv:1"),
    ],
)
def test_a_feed_that_is_not_whole_is_refused(tmp_path: Path, content: str | bytes, code: str, where: str) -> None:
    error = refused(tmp_path, content)
    assert error.code == code
    assert (error.where or "").startswith(where)


def test_a_cut_gzip_is_refused_even_when_its_rows_are_whole(tmp_path: Path) -> None:
    error = refused(tmp_path, gzip.compress(CSV.encode())[:-6], "feed.csv.gz")
    assert error.code == "cut"


def test_a_damaged_gzip_and_a_missing_file_are_named(tmp_path: Path) -> None:
    assert "gzip" in refused(tmp_path, gzip.compress(CSV.encode()) + b"more", "feed.csv").message
    with pytest.raises(SourceError, match=r"missing\.csv.*No such file"):
        list(source(tmp_path, "missing.csv").rows())
    with pytest.raises(SourceError, match=r"missing\.csv.*No such file"):
        source(tmp_path, "missing.csv").version()


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    assert "klingon" in refused(tmp_path, CSV, options='encoding = "klingon"').message


# -- JSON ----------------------------------------------------------------------------------------------------------

LINES = '{"ref":"A","title":"Golf","price":1}\n\n{"ref":"B","title":"Polo","price":2}\n'


def test_json_lines_are_read_and_bad_lines_told(tmp_path: Path) -> None:
    content = "\ufeff" + LINES + '[1]\n{"ref":\n'
    found = read(tmp_path, content, "feed.jsonl", 'type = "jsonl"')
    assert found == [(1, "A", "Golf"), (2, "B", "Polo"), (3, None, "not_an_object"), (4, None, "not_an_object")]


def test_json_lines_that_end_in_the_middle_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, LINES + '{"ref":', "feed.jsonl", 'type = "jsonl"').code == "cut"


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ('[{"ref":"A","title":"Golf","price":1}]', ""),
        ('{"vehicles":[{"ref":"A","title":"Golf","price":1}]}', 'items = "vehicles"'),
        ('{"stock":{"cars":[{"ref":"A","title":"Golf","price":1}]}}', 'items = "stock.cars"'),
    ],
)
def test_a_json_list_is_found_where_it_is_said_to_be(tmp_path: Path, content: str, items: str) -> None:
    assert read(tmp_path, content, "feed.json", f'type = "json"\n{items}') == [(1, "A", "Golf")]


@pytest.mark.parametrize(("content", "code"), [('[{"ref":', "cut"), ('{"a":1}', "no_list"), ("", "cut")])
def test_a_json_document_that_is_not_whole_is_refused(tmp_path: Path, content: str, code: str) -> None:
    assert refused(tmp_path, content, "feed.json", 'type = "json"').code == code


def test_nested_values_of_okasies_own_names_need_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "feed.json").write_text(
        '[{"ref":"A","title":"Golf","price":1,"images":["https://x.test/1.jpg"],"features":[{"name":"ABS"}]}]'
    )
    (row,) = source(tmp_path, "feed.json", 'type = "json"').rows()
    assert row.listing is not None
    assert row.listing.images == ("https://x.test/1.jpg",)
    assert [feature.name for feature in row.listing.features] == ["ABS"]


@given(
    st.lists(
        st.lists(
            st.sampled_from(
                ["a", "b;c", 'say "hi"', '"', ';"', "two\nlines", "cr\rhere", "", " ", "19in", "\xe9\x85\u2028"]
            ),
            min_size=3,
            max_size=3,
        ),
        max_size=12,
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 13),
)
def test_pieces_of_a_csv_have_just_its_rows(rows: list[list[str]], end: str, most: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";", lineterminator=end).writerows([*rows[:2], [], *rows[2:]])
    data = text.getvalue().encode() + b'x;19" rim;y\n' * 2
    account = AccountSettings(name="dex", api_key="env:K")  # type: ignore[arg-type]

    def reader(data: bytes, line: int | None = None) -> CsvReader:
        piece = None if line is None else (line, data)
        return CsvReader(BoundedFile(io.BytesIO(data), Bounds(account), "feed"), "utf-8", ";", piece=piece)

    plain = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline=""), delimiter=";", strict=True)
    wanted = [(plain.line_num, cells) for cells in plain if any(cell.strip() for cell in cells)]
    whole, found = reader(data), list[tuple[int, list[str]]]()
    pieces = list(whole.cut(most, 1_000))
    assert b"".join(piece for _, _, piece in pieces) == data
    for line, count, piece in pieces:
        part = reader(piece, line)
        read = [(part.line_num, cells_of(line, ";") if cells is None else cells) for line, cells, _ in part.read()]
        assert len(read) == count <= most
        found += read
    assert found == wanted
    assert whole.line_num == plain.line_num


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_that_are_the_same_to_the_byte_come_unread(tmp_path: Path, kind: str) -> None:
    lines = [f'{{"ref": "{name}", "title": "{title}", "price": {price}}}\n' for name, title, price in CARS]
    options = 'type = "jsonl"' if kind == "jsonl" else ""
    text = "".join(lines) if kind == "jsonl" else CSV + "D,,400\n"
    (tmp_path / "feed").write_text(text)
    found = source(tmp_path, "feed", options)

    def learn(known: RowCache, source: Source) -> list[SourceRow]:
        rows = [row for block in source.blocks() for row in source.decode(block, known=known)]
        for row in rows:
            if content := row.content or (content_fingerprint(row.listing) if row.listing else b""):
                known.note(row.raw, content)
        return rows

    first = RowCache()
    whole = learn(first, found)
    assert [row.read for row in whole] == [None] * 4
    kept = first.pack()
    assert kept is not None
    (tmp_path / "feed").write_text(text.replace("Polo", "Polo GTI"))
    again = learn(RowCache(kept), found)
    assert [row.reference for row in again if row.read] == ["A", "C"], "B changed, and D has no title"
    assert [row.content for row in again if row.read] == [content_fingerprint(whole[i].listing) for i in (0, 2)]  # type: ignore[arg-type]
    assert [row.read() for row in again if row.read] == [whole[0], whole[2]]
    other = learn(RowCache(kept), source(tmp_path, "feed", options + "\ndecimal = ','"))
    assert not any(row.read for row in other), "another mapping may come to another content"


def test_a_known_row_has_its_reference_wherever_it_stands(tmp_path: Path) -> None:
    """Behind a delimiter that is text, in quotes of its own, or before the first quote."""
    text = 'title,ref,price\n"Golf, nice",A,100\nPolo,"B1",200\nClio,C,"300"\n"say ""hi"", you",D,400\n'
    (tmp_path / "feed").write_text(text)
    found = source(tmp_path, "feed")
    (block,) = found.blocks()
    first = RowCache()
    for row in found.decode(block, known=first):
        assert row.listing is not None
        first.note(row.raw, content_fingerprint(row.listing))
    again = list(found.decode(block, known=RowCache(first.pack() or b"")))
    assert [row.reference for row in again] == ["A", "B1", "C", "D"]
    assert all(row.read for row in again)
