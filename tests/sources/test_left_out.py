"""Rows that do not count: blank ones and skipped ones; and references that are read from several columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.sources.blocks import BlockSource
from tests.sources.support import source

HEAD = "ref;title;price;state\n"
NAMED = 'delimiter = ";"\n'


def read(folder: Path, text: str, options: str = "", *, name: str = "feed.csv") -> list[SourceRow]:
    (folder / name).write_text(text, encoding="utf-8")
    return list(source(folder, name, options).rows())


def brief(rows: list[SourceRow]) -> list[str | None]:
    """What each row is: its reference, or why it does not count."""
    return [row.left_out or row.reference for row in rows]


def skip(**rules: Any) -> str:
    lines = (f"{json.dumps(column)} = {json.dumps(values)}" for column, values in rules.items())
    return "\n".join(["[accounts.dex.source.skip]", *lines])


# -- blank rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [";;;", "  ;\t; ;", '"";"";;""', ";;;;;;", "   ", "\u00a0;\u202f;;", ";"], ids=repr)
@pytest.mark.parametrize("last", [False, True])
def test_a_csv_row_of_nothing_is_no_row(tmp_path: Path, line: str, last: bool) -> None:
    rows = ["A;Golf;9900;", line, *([] if last else ["B;Polo;9900;"])]
    found = read(tmp_path, HEAD + "\n".join([*rows, ""]), NAMED)
    assert brief(found) == ["A", *([] if last else ["B"])]
    assert [row.where for row in found if row.reference] == ["feed.csv:2", *([] if last else ["feed.csv:4"])]


@pytest.mark.parametrize(("end", "left"), [(";;", 1), ("  ", 1), ('"";""', 1), ("Totaal", 2)])
def test_a_row_that_is_left_out_may_still_show_that_the_file_is_cut(tmp_path: Path, end: str, left: int) -> None:
    rules = NAMED + skip(ref=["totaal"])
    with pytest.raises(SourceError, match="ends in the middle of a row"):
        read(tmp_path, f"{HEAD}A;Golf;9900;\n{end}", rules)
    assert len(read(tmp_path, f"{HEAD}A;Golf;9900;\n{end}\n", rules)) == left


def test_a_total_line_that_is_skipped_stands_for_those_with_other_numbers(tmp_path: Path) -> None:
    rules = NAMED + skip(ref=["Totaal: 140 wagens"])
    rows = "A;Golf;9900;\nTotaal: 139 wagens;;;\nTotaal;;;\nTOTAL-12;Polo;9900;\nB;Totaal: 139 wagens;9900;\n"
    assert brief(read(tmp_path, HEAD + rows, rules)) == ["A", "skipped", "skipped", "TOTAL-12", "B"]
    other = read(tmp_path, HEAD + rows, NAMED + skip(ref=["A"]))
    assert brief(other)[:2] == ["skipped", "Totaal: 139 wagens"], "it is not named, so it is reported"
    assert all(row.issues for row in other[1:3])


@pytest.mark.parametrize("end", ["\x1a", ";;;", ";;;;;"])
def test_an_end_without_a_line_end_may_be_one(tmp_path: Path, end: str) -> None:
    assert brief(read(tmp_path, f"{HEAD}A;Golf;9900;\n{end}", NAMED)) == ["A"]


@pytest.mark.parametrize("line", ["{}", "{ }", '{"ref": "", "title": null, "photos": []}'])
def test_an_empty_object_is_blank(tmp_path: Path, line: str) -> None:
    row = '{"ref": "A", "title": "Golf", "price": 9900}'
    assert brief(read(tmp_path, f"{row}\n{line}\n", 'type = "jsonl"', name="feed.jsonl")) == ["A", "blank"]
    assert brief(read(tmp_path, f"[{row}, {line}]", 'type = "json"', name="feed.json")) == ["A", "blank"]


@pytest.mark.parametrize("line", [";x;;", "0;;;;;", ";;;0", '"""";;;'])
def test_a_row_with_anything_in_it_is_not(tmp_path: Path, line: str) -> None:
    (row,) = read(tmp_path, f"{HEAD}{line}\n", NAMED)
    assert not row.left_out


# -- skip ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"state": ["verkocht"]}, ["A", "C", "D"]),
        ({"state": ["VERKOCHT", "gereserveerd"]}, ["A", "D"]),
        ({"state": [""]}, ["B", "C"]),
        ({"price": [9900]}, ["D"]),
        ({"state": ["verkocht"], "title": ["golf"]}, ["C", "D"]),
        ({"state": ["verk"]}, ["A", "B", "C", "D"]),
    ],
)
def test_rows_are_skipped_by_their_cells(tmp_path: Path, rules: dict[str, Any], left: list[str]) -> None:
    text = HEAD + "A;Golf;9900;\nB;Polo;9900; Verkocht \nC;Up;9900;Gereserveerd\nD;Fox;8000;  \n"
    rows = read(tmp_path, text, NAMED + skip(**rules))
    assert [row.reference for row in rows if not row.left_out] == left
    assert [row.left_out for row in rows if row.left_out] == ["skipped"] * (4 - len(left))
    assert all((row.listing is not None) == (not row.left_out) for row in rows)


def test_a_total_line_is_skipped_before_its_reference_and_its_width_are_looked_at(tmp_path: Path) -> None:
    text = HEAD + "A;Golf;9900;\nTotaal\n\tTOTAAL\t;1;9900;;\n"
    assert brief(read(tmp_path, text, NAMED + skip(ref=["totaal"]))) == ["A", "skipped", "skipped"]


def test_a_cell_that_a_damaged_row_lacks_skips_nothing(tmp_path: Path) -> None:
    """It would sell the car."""
    (row,) = read(tmp_path, HEAD + "A;Golf;9900\n", NAMED + skip(state=[""]))
    assert (row.reference, row.left_out, row.issues[0].code) == ("A", "", "columns")


def test_paths_lists_and_truth_values_are_compared(tmp_path: Path) -> None:
    cars: list[dict[str, Any]] = [
        {"ref": "A", "title": "Golf", "price": 1, "sale": {"sold": True}},
        {"ref": "B", "title": "Golf", "price": 1, "tags": ["new", "Demo"]},
        {"ref": "C", "title": "Golf", "price": 1, "sale": {"sold": False}, "tags": []},
    ]
    rules = skip(**{"sale.sold": [True], "tags": ["demo"]})
    found = read(tmp_path, json.dumps(cars), 'type = "json"\n' + rules, name="feed.json")
    assert brief(found) == ["skipped", "skipped", "C"]


def test_a_column_that_the_feed_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no column stat;"):
        read(tmp_path, HEAD + "A;Golf;9900;\n", NAMED + skip(stat=["verkocht"]))


def test_an_empty_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"accounts\.dex\.source\.skip\.state"):
        read(tmp_path, HEAD, NAMED + skip(state=[]))


def test_the_environment_may_name_the_values(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text(HEAD + "A;Golf;9900;x\nB;Golf;9900;\nC;Golf;9900;y\n")
    found = source(tmp_path, "feed.csv", NAMED + skip(state=["z"]), OKASIE_ACCOUNTS__DEX__SOURCE__SKIP__STATE="X,")
    assert brief(list(found.rows())) == ["skipped", "skipped", "C"]


def test_a_push_does_not_find_a_skipped_row(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text(HEAD + "A;Golf;9900;sold\nB;Golf;9900;\n")
    found = source(tmp_path, "feed.csv", NAMED + skip(state=["sold"]), push=True)
    assert [row.reference for row in found.get(["A", "B"])] == ["B"]


def again(folder: Path, text: str, options: str, first: RowCache | None = None) -> tuple[list[SourceRow], RowCache]:
    """Read as a run does that has the rows of the last one."""
    (folder / "feed.csv").write_text(text, encoding="utf-8")
    feed = source(folder, "feed.csv", options)
    assert isinstance(feed, BlockSource)
    known = RowCache(first.pack() or b"" if first else b"")
    rows = [row for block in feed.blocks() for row in feed.decode(block, known=known)]
    for row in rows:
        if row.raw and row.reference:
            known.note(row.raw, row.content or b"c" * 8)
    return rows, known


def test_cached_rows_are_skipped_once_a_rule_names_them(tmp_path: Path) -> None:
    text = HEAD + "A;Golf;9900;sold\nB;Golf;9900;\n"
    _, known = again(tmp_path, text, NAMED)
    rows, _ = again(tmp_path, text, NAMED, known)
    assert [(row.reference, row.content) for row in rows] == [("A", b"c" * 8), ("B", b"c" * 8)], "from the cache"
    rows, known = again(tmp_path, text, NAMED + skip(state=["sold"]), known)
    assert brief(rows) == ["skipped", "B"]
    rows, _ = again(tmp_path, text, NAMED + skip(state=["sold"]), known)
    assert brief(rows) == ["skipped", "B"]
    assert rows[1].content


# -- references ------------------------------------------------------------------------------------------------------

TEMPLATE = "{branch}-{no}"


def of_template(folder: Path, *cells: str, reference: str = TEMPLATE) -> SourceRow:
    (folder / "feed.csv").write_text(f"branch;no;title;price\n{';'.join(cells)};Golf;9900\n")
    (row,) = source(folder, "feed.csv", NAMED, reference=reference).rows()
    return row


@pytest.mark.parametrize(
    ("cells", "reference"),
    [
        (("GENT", "12"), "GENT-12"),
        ((" GENT ", " 12 "), "GENT-12"),
        (("", "12"), None),
        (("GENT", " "), None),
        (("GENT", "1" * 60), None),
    ],
)
def test_every_column_of_a_template_must_be_filled(
    tmp_path: Path, cells: tuple[str, str], reference: str | None
) -> None:
    row = of_template(tmp_path, *cells)
    assert (row.reference, row.listing is None) == (reference, reference is None)
    if reference is None and "" in (cells[0], cells[1].strip()):
        assert row.issues[0].message.endswith("must be filled")


def test_a_template_may_have_text_around_its_columns(tmp_path: Path) -> None:
    assert of_template(tmp_path, "G", "7", reference="DEX/{branch} {no}!").reference == "DEX/G 7!"


def test_a_template_over_a_missing_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no column number"):
        of_template(tmp_path, "G", "7", reference="{branch}-{number}")


def test_a_broken_template_is_refused_when_the_configuration_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"accounts\.dex\.source\.reference"):
        of_template(tmp_path, "G", "7", reference="{branch}-{no")


def test_the_row_cache_reads_references_from_templates(tmp_path: Path) -> None:
    text = 'branch;no;title;price\nG;1;Golf;9900\n"A;B";"2";"Go;lf";9900\n'
    (tmp_path / "feed.csv").write_text(text)
    feed, known = source(tmp_path, "feed.csv", NAMED, reference=TEMPLATE), RowCache()
    assert isinstance(feed, BlockSource)
    rows = [row for block in feed.blocks() for row in feed.decode(block, known=known)]
    for row in rows:
        known.note(row.raw, b"c" * 8)
    before = RowCache(known.pack() or b"")
    cached = [row for block in feed.blocks() for row in feed.decode(block, known=before)]
    assert [row.reference for row in rows] == [row.reference for row in cached] == ["G-1", "A;B-2"]
    assert all(row.content for row in cached)


def test_a_reference_may_be_a_path(tmp_path: Path) -> None:
    cars = [{"id": {"no": 7}, "title": "Golf", "price": 1}, {"id": {}, "title": "Golf", "price": 1}]
    (tmp_path / "feed.json").write_text(json.dumps(cars))
    found = list(source(tmp_path, "feed.json", 'type = "json"', reference="id.no").rows())
    assert [row.reference for row in found] == ["7", None]


@pytest.mark.parametrize("reference", ["VW 12", "2026/114", "Ré-5", "00123", "a" * 64, "1,2E+11", "#?%&"])
def test_any_printable_text_is_a_reference(tmp_path: Path, reference: str) -> None:
    (row,) = read(tmp_path, f"{HEAD} {reference} ;Golf;9900;\n", NAMED)
    assert row.reference == reference


@pytest.mark.parametrize("cell", ["a" * 65, ".", "..", "bulk-upsert", "a\tb", ""])
def test_what_is_no_reference_is_kept_as_it_was_found(tmp_path: Path, cell: str) -> None:
    (row,) = read(tmp_path, f"{HEAD}{cell};Golf;9900;\n", NAMED)
    assert (row.reference, row.found, row.issues[0].code) == (None, cell, "bad_reference")
    assert ("got 65: 'a" in row.issues[0].message) == (len(cell) > 64)
