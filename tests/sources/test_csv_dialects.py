"""Csv files as dealers' systems export them: titles above the header, no header, odd quotes, blank rows."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.sources.csv_reader import BUFFER_BYTES
from tests.sources.support import brief, source

HEAD = "ref;title;price;brand\n"
CARS = "A-1;Octavia;17450;Skoda\nA-2;Polo;11900;VW\nA-3;i3;19900;BMW\n"
READ = [(1, "A-1", "Octavia"), (2, "A-2", "Polo"), (3, "A-3", "i3")]
SEMICOLON = 'delimiter = ";"'


def rows(folder: Path, content: str | bytes, options: str = SEMICOLON, *, name: str = "feed.csv") -> list[SourceRow]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return list(source(folder, name, options).rows())


def refused(folder: Path, content: str | bytes, options: str = SEMICOLON) -> SourceError:
    with pytest.raises(SourceError) as caught:
        rows(folder, content, options)
    return caught.value


# -- above the first car -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "options"),
    [
        ("sep=;\n", ""),
        ("SEP=;\r\n", 'delimiter = ","'),
        ('"sep=;"\n', ""),
        ("\n\n", SEMICOLON),
        (";;;\n", SEMICOLON),
        ("Stock list Garage Janssens 27/11/2026;;;\n", f"{SEMICOLON}\nskip_lines = 1"),
        ("Stock list\n\nas of today, 3 cars\n", f"{SEMICOLON}\nskip_lines = 3"),
        ("sep=;\nStock list\n", "skip_lines = 2"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_lines_above_the_header_are_no_rows(tmp_path: Path, above: str, options: str, encoding: str) -> None:
    stated = "" if encoding.startswith("utf-8") else f'\nencoding = "{encoding}"'
    found = rows(tmp_path, (above + HEAD + CARS).encode(encoding), options + stated)
    assert brief(found) == READ
    assert [row.where for row in found] == [f"feed.csv:{above.count(chr(10)) + line}" for line in (2, 3, 4)]


def test_a_line_too_many_to_skip_leaves_a_car_as_header(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD + CARS, f"{SEMICOLON}\nskip_lines = 1")
    assert error.code == "columns"
    assert "A-1" in error.message


@pytest.mark.parametrize("value", ["-1", "1.5", '"two"', "1001"])
def test_skip_lines_is_a_small_number(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match="skip_lines"):
        source(tmp_path, "feed.csv", f"skip_lines = {value}")


NUMBERED = """\
header = false
delimiter = ";"
[accounts.dex.source.fields]
title = "2"
price = "3"
brand = "4"
"""


def numbered(folder: Path, content: bytes, encoding: str = "utf-8", options: str = NUMBERED) -> list[SourceRow]:
    (folder / "feed.csv").write_bytes(content)
    stated = f'encoding = "{encoding}"\n{options}'
    return list(source(folder, "feed.csv", stated, OKASIE_ACCOUNTS__DEX__SOURCE__REFERENCE="1").rows())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("first", "line"),
    [
        ("A-1;Octavia;17450;Skoda\n", 1),
        ('"A-1";"Octavia";17450;"Sko\nda"\n', 1),
        ("\n;;;\nA-1;Octavia;17450;Skoda\n", 3),
        ("sep=;\nA-1;Octavia;17450;Skoda\n", 2),
    ],
)
def test_without_a_header_columns_have_numbers(tmp_path: Path, first: str, line: int, encoding: str) -> None:
    content = (first + CARS.partition("\n")[2]).encode(encoding)
    found = numbered(tmp_path, content, encoding.removesuffix("-sig"))
    assert brief(found) == READ
    assert found[0].where == f"feed.csv:{line}"
    assert [row.listing.brand for row in found[1:] if row.listing] == ["VW", "BMW"]


def test_a_column_beyond_the_first_car_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no column 5; its columns are 1, 2, 3, 4"):
        numbered(tmp_path, CARS.encode(), options=NUMBERED.replace('"4"', '"5"'))


# -- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "blank", ["", ";;;", " ; ;;", "   ", '"";"";"";""', '" ";;;', "\t", "\xa0;;;", "\x1a", ";;;;;;", '"\n";;;']
)
@pytest.mark.parametrize("last", [False, True])
def test_rows_of_nothing_are_no_rows(tmp_path: Path, blank: str, last: bool) -> None:
    first, others = CARS.split("\n", 1)
    content = f"{HEAD}{CARS}{blank}\n" if last else f"{HEAD}{first}\n{blank}\n{others}"
    assert brief(rows(tmp_path, content)) == READ


@pytest.mark.parametrize("ends", [("", ";"), (";", ";"), (";", ""), ("", ";; ;"), (";;", ";")])
def test_delimiters_at_the_end_are_no_columns(tmp_path: Path, ends: tuple[str, str]) -> None:
    head, row = ends
    content = HEAD.replace("\n", f"{head}\n") + CARS.replace("\n", f"{row}\n")
    assert brief(rows(tmp_path, content)) == READ


def test_a_value_beyond_the_columns_is_a_reject(tmp_path: Path) -> None:
    found = rows(tmp_path, HEAD + CARS.replace("VW", "VW;and more"))
    assert [row.listing is None for row in found] == [False, True, False]
    assert found[1].reference == "A-2"
    assert found[1].issues[0].message == "expected 4 columns, got 5"


def test_two_columns_of_one_name_are_refused_where_a_field_needs_them(tmp_path: Path) -> None:
    content = HEAD.replace("brand", "price") + CARS.replace("Skoda", "1").replace("VW", "2").replace("BMW", "3")
    error = refused(tmp_path, content)
    assert (error.code, error.where) == ("columns", "feed.csv:1")
    assert "2 columns 'price' (columns 3, 4)" in error.message


def test_two_columns_that_no_field_needs_may_share_a_name(tmp_path: Path) -> None:
    content = HEAD.replace("\n", ";remark;remark\n") + CARS.replace("\n", ";x;y\n")
    assert brief(rows(tmp_path, content)) == READ


# -- quotes --------------------------------------------------------------------------------------------------------

STRAY = {
    "leading": ('"Sport" pakket', '"Sport" pakket'),
    "open": ('"Sport pakket', '"Sport pakket'),
    "inches": ('19" rims', '19" rims'),
    "two": ('"A" or "B"', '"A" or "B"'),
}


@pytest.mark.parametrize("cell", STRAY)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_stray_quote_costs_no_other_row(tmp_path: Path, cell: str, place: int) -> None:
    written, title = STRAY[cell]
    cars = [f"A-{n};{written if n == place else f'Car {n}'};1{n}000;VW" for n in range(4)]
    found = rows(tmp_path, HEAD + "\n".join(cars) + "\n")
    wanted = [(n + 1, f"A-{n}", title if n == place else f"Car {n}") for n in range(4)]
    assert brief(found) == wanted
    assert [row.where for row in found] == [f"feed.csv:{n + 2}" for n in range(4)]


def test_two_stray_quotes_do_not_swallow_what_stands_between_them(tmp_path: Path) -> None:
    """Parsed as csv, the first three cars are one row of four columns, and the sync would sell two of them."""
    cars = 'A-1;Golf;100;"VW\nA-2;Polo;200;VW\nA-3;Up;300;VW"\nA-4;Passat;400;VW\n'
    assert [reference for _, reference, _ in brief(rows(tmp_path, HEAD + cars))] == ["A-1", "A-2", "A-3", "A-4"]


def test_stray_quotes_in_every_row(tmp_path: Path) -> None:
    cars = "".join(f'A-{n};"Car" {n};1000;"VW\n' for n in range(3_000))
    assert len(rows(tmp_path, HEAD + cars + "A-X;Car;1000;VW\n")) == 3_001


def test_a_row_whose_columns_cannot_be_told_has_no_reference(tmp_path: Path) -> None:
    found = rows(tmp_path, HEAD + CARS.replace("Polo", '"Polo" "a;b"'))
    assert [row.reference for row in found] == ["A-1", None, "A-3"]
    assert found[1].issues[0].message == "expected 4 columns, got 5, and its quotes are misplaced"
    assert found[1].where == "feed.csv:3"


def test_a_row_whose_columns_cannot_be_told_is_not_made_to_fit(tmp_path: Path) -> None:
    """Without its last, empty cell it would have the right width, with the wrong cell in each column."""
    (row,) = rows(tmp_path, HEAD + 'A-1;"Polo" "a;b";11900;\n')
    assert row.reference is None


def test_inches_in_rows_with_a_delimiter_at_the_end(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEAD + 'A-1;Polo 17" rims;11900;VW;\n')
    assert row.listing is not None
    assert row.listing.title == 'Polo 17" rims'


def test_a_field_with_line_breaks_is_one_field(tmp_path: Path) -> None:
    texts = ["one\ntwo", "one; two\nthree", "\n", "a\n\nb;c\n", 'say "hi"\nx']
    cells = [text.replace('"', '""') for text in texts]
    content = "ref;title;price;model\n" + "".join(f'A-{n};Car;100;"{cell}"\n' for n, cell in enumerate(cells))
    found = rows(tmp_path, content)
    assert [row.listing and row.listing.model for row in found] == [text.strip() or None for text in texts]
    lines = itertools.accumulate((text.count("\n") + 1 for text in texts), initial=2)
    assert [row.where for row in found] == [f"feed.csv:{line}" for line, _ in zip(lines, texts, strict=False)]


# -- the end, and the encoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8", "cp1252", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_end_is_one_in_every_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    content = (HEAD + CARS).replace("\n", end).encode(encoding)
    found = rows(tmp_path, content, f'{SEMICOLON}\nencoding = "{encoding}"')
    assert brief(found) == READ
    assert not found[-1].unterminated


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_a_last_row_without_a_line_end_may_be_cut(tmp_path: Path, encoding: str) -> None:
    content = (HEAD + CARS.removesuffix("\n")).encode(encoding)
    assert rows(tmp_path, content, f'{SEMICOLON}\nencoding = "{encoding}"')[-1].unterminated


@pytest.mark.parametrize("line", [2, 3, 3_001, 9_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("encoding", "bad"), [("utf-8", b"\xe9\xe9"), ("ascii", b"\xe9"), ("cp1252", b"\x81")])
def test_a_byte_that_is_not_of_the_encoding_has_its_line(
    tmp_path: Path, line: int, end: str, encoding: str, bad: bytes
) -> None:
    lines = [f"A-{n};Car;100;VW{end}".encode() for n in range(2, 9_010)]
    lines[line - 2] = lines[line - 2].replace(b"Car", b"C" + bad + b"r")
    error = refused(
        tmp_path, HEAD.replace("\n", end).encode() + b"".join(lines), f'{SEMICOLON}\nencoding = "{encoding}"'
    )
    assert (error.code, error.where) == ("encoding", f"feed.csv:{line}")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("border", [-1, 0, 1])
def test_a_line_end_on_the_border_of_two_reads_is_one_line_end(tmp_path: Path, end: str, border: int) -> None:
    before = HEAD.replace("\n", end).encode() + b"A-1;Car;100;"
    content = before.ljust(BUFFER_BYTES + border - len(end), b"x") + end.encode() + b"A-2;C\xe9;100;VW" + end.encode()
    assert refused(tmp_path, content).where == "feed.csv:3"
