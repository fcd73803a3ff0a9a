"""XLSX workbooks as feeds: what is read, what is refused, and with which place and reason."""

from __future__ import annotations

import datetime
import io
import struct
import zipfile
from pathlib import Path

import openpyxl
import pytest

from tests.sources.formats import failure, records, repacked, rows, values, workbook

STOCK = workbook({
    "Stock": [
        ["Nr", "Merk", "Prijs", "Km", "Datum", "Foto's"],
        ["X-1", "Opel", 9900, 61000.0, datetime.datetime.fromisoformat("2019-03-15"), "https://cdn.example/1.jpg"],
        ["X-2", "BMW", 12345.5, 1, datetime.date(2020, 1, 1), None],
        [None, "  ", None, None, None, ""],
        [12345, "VW", 8000, 5, None, None],
    ],
    "Oud": [["Nr"], ["Y-1"]],
})  # fmt: skip
FIELDS = """
reference = "Nr"
[accounts.dex.source.fields]
title = "{Merk} {Nr}"
price = "Prijs"
mileage = "Km"
firstRegistration = "Datum"
images = "Foto's"
"""


def test_a_sheet_of_vehicles(tmp_path: Path) -> None:
    first, second, third = rows(tmp_path, "xlsx", STOCK, FIELDS)
    assert [row.issues for row in (first, second, third)] == [(), (), ()]
    assert first.listing is not None
    listing = first.listing
    assert (first.reference, listing.price, listing.mileage, listing.first_registration) == (
        "X-1",
        9900,
        61000,
        "2019-03",
    )
    assert len(listing.images) == 1
    assert (third.reference, third.listing and third.listing.title) == ("12345", "VW 12345")
    assert [row.where for row in (first, second, third)] == [f"stock.xlsx:Stock!{line}" for line in (2, 3, 5)]


def test_another_sheet_and_one_that_is_not_there(tmp_path: Path) -> None:
    assert values(tmp_path, "xlsx", STOCK, 'sheet = "Oud"') == [{"Nr": "Y-1"}]
    error = failure(tmp_path, "xlsx", STOCK, 'sheet = "Nieuw"')
    assert str(error) == "stock.xlsx: has no sheet Nieuw; its sheets are Stock, Oud"


def test_the_first_sheet_that_is_shown(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(io.BytesIO(STOCK))
    book["Stock"].sheet_state = "hidden"
    book.active = 1
    out = io.BytesIO()
    book.save(out)
    assert values(tmp_path, "xlsx", out.getvalue()) == [{"Nr": "Y-1"}]


def test_lines_above_the_header_and_a_sheet_without_one(tmp_path: Path) -> None:
    data = workbook({"a": [["Voorraad van vandaag"], [], ["Nr", "Merk"], ["1", "Opel"], ["2"]]})
    assert values(tmp_path, "xlsx", data, "skip_lines = 1") == [{"Nr": "1", "Merk": "Opel"}, {"Nr": "2", "Merk": None}]
    data = workbook({"a": [["1", "Opel"], ["2", "BMW", 3]]})
    assert values(tmp_path, "xlsx", data, "header = false") == [{"1": "1", "2": "Opel"}, {"1": "2", "2": "BMW", "3": 3}]
    (first, _) = rows(tmp_path, "xlsx", data, 'header = false\nreference = "1"\nfields = { title = "2" }')
    assert first.reference == "1"


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no column Kenteken; its columns are Nr, Merk, Prijs"):
        rows(tmp_path, "xlsx", STOCK, 'reference = "Kenteken"')


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    data = workbook({"a": [["Nr", "Prijs", "Prijs"], ["1", 2, 3]]})
    assert values(tmp_path, "xlsx", data, 'reference = "Nr"') == [{"Nr": "1", "Prijs": 3}]
    error = failure(tmp_path, "xlsx", data, 'reference = "Nr"\nfields = { price = "Prijs" }')
    assert (error.where, error.code) == ("stock.xlsx:a!1", "columns")
    assert "two columns Prijs (B and C)" in error.message


def test_cells_as_values(tmp_path: Path) -> None:
    cells = [
        1.0,
        2.5,
        True,
        datetime.datetime.fromisoformat("2020-01-02T03:04"),
        datetime.date(2020, 1, 2),
        datetime.time(3, 4),
        " x ",
    ]
    (value,) = values(tmp_path, "xlsx", workbook({"a": [list("abcdefg"), cells]}))
    assert list(value.values()) == [
        1,
        2.5,
        True,
        datetime.datetime.fromisoformat("2020-01-02T03:04"),
        datetime.date(2020, 1, 2),
        "03:04:00",
        " x ",
    ]
    assert type(value["a"]) is int


def test_a_formula_is_the_value_that_is_stored_and_an_error_is_empty_and_reported(tmp_path: Path) -> None:
    data = workbook({"a": [["Nr", "title", "price", "Merk"], ["1", "a", 1, "x"]]})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    price = b'<c r="C2" t="n"><v>1</v></c>'
    assert price in sheet
    formula = sheet.replace(price, b'<c r="C2"><f>900+1</f><v>901</v></c><c r="D2" t="e"><f>X()</f><v>#N/A</v></c>')
    data = repacked(
        data,
        {
            "xl/worksheets/sheet1.xml": formula.split(b'<c r="D2" t="inl')[0].split(b'<c r="D2" t="s"')[0]
            + b"</row></sheetData></worksheet>"
        },
    )
    (row,) = rows(tmp_path, "xlsx", data, 'reference = "Nr"\nfields = { brand = "Merk" }')
    assert row.listing is not None, row.issues
    assert (row.listing.price, row.listing.brand, [warning.message for warning in row.warnings]) == (
        901,
        None,
        ["cell D2: #N/A, taken as empty"],
    )


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"Nr;Merk\n1;Opel\n", "not_xlsx", "is not a workbook"),
        (b"", "not_xlsx", "is not a workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "not_xlsx", "password"),
        (STOCK[:-100], "cut", "not a whole workbook"),
        (STOCK[:2000], "cut", "not a whole workbook"),
        (repacked(STOCK, {"xl/workbook.xml": b"<x"}), "not_xlsx", "is not a workbook that can be read"),
        (repacked(STOCK, {"xl/workbook.xml": b"?"}), "not_xml", "not well-formed"),
        (repacked(STOCK, {"xl/worksheets/sheet1.xml": b"<worksheet><sheetData><row><c>"}), "not_xlsx", "can be read: ParseError"),
        (repacked(STOCK, {"xl/worksheets/sheet1.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><worksheet/>'}), "dtd", "document type"),
        (repacked(STOCK, {"xl/sharedStrings.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><sst/>'}), "dtd", "document type"),
    ],
)  # fmt: skip
def test_what_is_not_a_whole_workbook_is_refused(tmp_path: Path, data: bytes, code: str, reason: str) -> None:
    error = failure(tmp_path, "xlsx", data)
    assert (error.code, reason in error.message) == (code, True), error.message
    assert (error.where or "").startswith("stock.xlsx")


def test_a_zip_bomb_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    error = failure(tmp_path, "xlsx", repacked(STOCK, {"xl/worksheets/sheet1.xml": b" " * 30_000_000}), "max_mb = 20")
    assert (error.code, "is larger than 20 MB" in error.message) == ("too_large", True)
    error = failure(
        tmp_path, "xlsx", repacked(STOCK, {"xl/sharedStrings.xml": b" " * 9_000_000}), "max_document_mb = 5"
    )
    assert (error.code, "max_document_mb" in error.message) == ("too_large", True)


def test_a_zip_that_understates_its_sizes_is_refused(tmp_path: Path) -> None:
    data = bytearray(repacked(STOCK, {"xl/worksheets/sheet1.xml": b" " * 3_000_000}))
    at = data.rfind(b"xl/worksheets/sheet1.xml") - 46  # its entry in the directory
    assert struct.unpack_from("<I", data, at + 24)[0] == 3_000_000
    struct.pack_into("<I", data, at + 24, 1000)
    assert failure(tmp_path, "xlsx", bytes(data), "max_mb = 2").code == "not_xlsx"


@pytest.mark.parametrize("place", [b'r="99999999"', b'r="1000000000000"'])
def test_a_row_number_far_away_does_not_fill_the_gap_for_ever(tmp_path: Path, place: bytes) -> None:
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row '
        + place
        + b"><c><v>1</v></c></row></sheetData></worksheet>"
    )
    error = failure(tmp_path, "xlsx", repacked(STOCK, {"xl/worksheets/sheet1.xml": sheet}))
    assert (error.code, "more than 1048576 rows" in error.message) == ("too_large", True)


def test_a_wrong_dimension_hides_no_cell(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(STOCK)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    assert b'<dimension ref="A1:F5"' in sheet
    data = repacked(STOCK, {"xl/worksheets/sheet1.xml": sheet.replace(b"A1:F5", b"A1:A1")})
    assert len(list(records(tmp_path, "xlsx", data))) == 3
