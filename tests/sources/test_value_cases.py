"""Feeds in the shapes that dealers' systems export: what each of their values becomes, and what is reported of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.core.listing import Listing
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source

CASES = Path(__file__).with_name("cases")
CONFIG = """\
[accounts.dex]
api_key = "env:K"
[accounts.dex.source]
type = "{kind}"
url = "{feed}"
reference = "{reference}"
delimiter = ";"
decimal = "{decimal}"
[accounts.dex.source.fields]
title = "{{merk}} {{model}}"
brand = "merk"
price = "prijs"
year = "bouwjaar"
fuelType = "brandstof"
{fields}
[accounts.dex.source.values.fuelType]
Diesel = "diesel"
"*" = "other"
[accounts.dex.source.defaults]
status = "active"
postalCode = "9000"
city = "Gent"
province = "Oost-Vlaanderen"
dealerLocationCode = "DEX-GENT"
{defaults}
"""
MORE = {
    "datemy": 'mileage = "kmstand"\nfirstRegistration = "eerste toelating"',
    "datedmy": 'mileage = "kmstand"\nfirstRegistration = "eerste toelating"',
    "desclong": 'mileage = "kmstand"\ndescription = "omschrijving"',
    "imgspace": 'mileage = "kmstand"\nimages = { column = "fotos", split_on = "|" }',
    "zeros": 'mileage = "km"\ndoors = "deuren"\nseats = "zitplaatsen"\ngears = "versnellingen"\nco2Emission = "co2"\npowerKw = "kw"',
}


def rows(
    folder: Path, case: str, *, decimal: str = ".", kind: str = "csv", defaults: str = "", **changes: str
) -> dict[str | None, SourceRow]:
    """Read a case, each column of ``changes`` with the same value in every row; as another kind of feed if asked."""
    with (CASES / f"{case}.csv").open(encoding="utf-8", newline="") as file:
        cars = [row | changes for row in csv.DictReader(file, delimiter=";")]
    if kind == "csv":
        with (folder / "feed").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(cars[0]), delimiter=";")
            writer.writeheader()
            writer.writerows(cars)
    else:
        lines = map(json.dumps, cars)
        (folder / "feed").write_text(f"[{','.join(lines)}]" if kind == "json" else "\n".join(lines) + "\n")
    fields = MORE.get(case, 'mileage = "kmstand"')
    reference = "stocknr" if case == "zeros" else "voorraadnr"
    text = CONFIG.format(kind=kind, feed="feed", reference=reference, decimal=decimal, fields=fields, defaults=defaults)
    (folder / "okasie.toml").write_text(text, encoding="utf-8")
    account = load_settings(folder / "okasie.toml", {"K": "key"}).accounts["dex"]
    found = list(open_source(account, cache_dir=folder / "feeds", current_year=2026).rows())
    return {row.reference: row for row in found}


def listings(found: dict[str | None, SourceRow]) -> list[Listing]:
    assert all(row.listing is not None for row in found.values()), [row.issues for row in found.values()]
    return [row.listing for row in found.values() if row.listing is not None]


def reported(row: SourceRow) -> list[str]:
    return [str(issue) for issue in (*row.issues, *row.warnings)]


KINDS = pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])


@KINDS
@pytest.mark.parametrize("case", ["eurodash", "eurosuffix", "kmunit", "dots"])
def test_prices_and_mileages_with_units_and_thousands(tmp_path: Path, case: str, kind: str) -> None:
    found = rows(tmp_path, case, decimal=",", kind=kind)
    prices = [12345, 9950, 19900]
    mileages = [123456, 61000, 43500] if case == "kmunit" else [88200, 61000, 43500]
    assert [(car.price, car.mileage) for car in listings(found)] == list(zip(prices, mileages, strict=True))
    assert not any(row.warnings for row in found.values())


@KINDS
def test_a_price_with_three_decimals_rejects_its_row_with_a_hint(tmp_path: Path, kind: str) -> None:
    found = rows(tmp_path, "dots", kind=kind)
    assert all(row.listing is None for row in found.values())
    for row in found.values():
        assert 'three decimals: set decimal = ","' in reported(row)[0]


@KINDS
@pytest.mark.parametrize("case", ["datemy", "datedmy"])
def test_a_first_registration_in_any_order(tmp_path: Path, case: str, kind: str) -> None:
    months = [car.first_registration for car in listings(rows(tmp_path, case, kind=kind))]
    assert months == ["2019-03", "2018-11", "2021-01"]


@KINDS
def test_a_year_out_of_a_month(tmp_path: Path, kind: str) -> None:
    assert [car.year for car in listings(rows(tmp_path, "yearmy", kind=kind))] == [2019, 2018, 2021]


@KINDS
def test_zeros_cost_their_fields_and_a_price_of_0_the_row(tmp_path: Path, kind: str) -> None:
    found = rows(tmp_path, "zeros", decimal=",", kind=kind)
    assert [reference for reference, row in found.items() if row.listing is None] == ["A-3"]
    assert reported(found["A-3"]) == ["price: expected more than 0 when status is active, got 0"]
    golf, polo, rio = (found[name].listing for name in ("A-1", "A-2", "A-4"))
    assert golf and polo and rio
    assert (golf.doors, golf.seats, golf.gears, golf.co2_emission, golf.power_kw) == (None, None, None, 0, 0)
    between = "left out: expected at least 1 and at most"
    limits = {"doors": 10, "seats": 10, "gears": 12}
    assert sorted(reported(found["A-1"])) == sorted(f"{name}: {between} {most}, got 0" for name, most in limits.items())
    assert (polo.doors, polo.seats, polo.co2_emission) == (None, 5, None)
    assert sorted(reported(found["A-2"])) == [
        "co2Emission: left out: expected a whole number, got 119.5",
        "doors: left out: column deuren: expected a number, got '4/5'",
    ]
    assert (rio.year, rio.mileage) == (None, None), "12500.0 and 2019.0 do not fit the decimal comma"
    assert len(reported(found["A-4"])) == 2


def test_the_decimal_point_reads_the_whole_numbers_of_a_database(tmp_path: Path) -> None:
    rio = rows(tmp_path, "zeros")["A-4"].listing
    assert rio
    assert (rio.year, rio.mileage) == (2019, 12500)


@pytest.mark.parametrize("decimal", [".", ","])
def test_a_default_never_replaces_an_invalid_value(tmp_path: Path, decimal: str) -> None:
    defaults = "doors = 5\nprice = 5000\ngears = 6"
    found = rows(tmp_path, "zeros", decimal=decimal, defaults=defaults)
    golf, up = found["A-1"], found["A-3"]
    assert golf.listing
    assert (golf.listing.doors, golf.listing.gears) == (None, None)
    assert up.listing is None, "its price is 0, not missing"
    empty = rows(tmp_path, "zeros", decimal=decimal, defaults=defaults, deuren="", versnellingen=" ", prijs="")
    assert {(car.doors, car.gears, car.price) for car in listings(empty)} == {(5, 6, 5000)}


@KINDS
def test_a_long_description_is_cut(tmp_path: Path, kind: str) -> None:
    found = rows(tmp_path, "desclong", kind=kind)
    row = found["A-1"]
    assert row.listing
    length = len(row.listing.description or "")
    assert length == 15_000
    assert [(issue.field, issue.code) for issue in row.warnings] == [("description", "too_long")]
    assert reported(row)[0].startswith("description: cut to 15000 characters of 15")


@KINDS
def test_an_image_address_with_a_space(tmp_path: Path, kind: str) -> None:
    found = rows(tmp_path, "imgspace", kind=kind)
    first, second = listings(found)
    assert first.images == ("https://cdn.example/octavia%20foto%201.jpg", "https://cdn.example/2.jpg")
    assert second.images == ("https://cdn.example/3.jpg",)
    assert not found["A-1"].warnings


@KINDS
@pytest.mark.parametrize(
    ("fotos", "images", "warning"),
    [
        ("//cdn.example/1.jpg|https://cdn.example/é.jpg", ("https://cdn.example/1.jpg", "https://cdn.example/%C3%A9.jpg"), None),
        ("geen foto|https://cdn.example/2.jpg", ("https://cdn.example/2.jpg",), "1 of 2 left out: image 1: expected an http(s) URL, got 'geen foto'"),
        ("C:\\fotos\\1.jpg", (), "1 of 1 left out: image 1"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_costs_the_image(
    tmp_path: Path, fotos: str, images: tuple[str, ...], warning: str | None, kind: str
) -> None:
    found = rows(tmp_path, "imgspace", kind=kind, fotos=fotos)
    assert {car.images for car in listings(found)} == {images}
    texts = reported(found["A-1"])
    assert texts == [] if warning is None else texts[0].startswith(f"images: {warning}")


@KINDS
@pytest.mark.parametrize(
    ("column", "value", "field"),
    [("prijs", "op aanvraag", "price"), ("prijs", "$ 9000", "price"), ("prijs", "12345 km", "price")],
)
def test_a_price_that_cannot_be_read_rejects_the_row(
    tmp_path: Path, column: str, value: str, field: str, kind: str
) -> None:
    found = rows(tmp_path, "kmunit", decimal=",", kind=kind, **{column: value})
    assert {tuple(issue.field for issue in row.issues) for row in found.values()} == {(field,)}


@KINDS
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("88 furlongs", "left out: column kmstand: expected a number in km or mi, got '88 furlongs'"),
        ("-5", "left out: expected at least 0, got -5"),
        ("onbekend", "left out: column kmstand: expected a number"),
    ],
)
def test_a_mileage_that_cannot_be_read_costs_the_field(tmp_path: Path, value: str, message: str, kind: str) -> None:
    found = rows(tmp_path, "kmunit", decimal=",", kind=kind, kmstand=value)
    assert {car.mileage for car in listings(found)} == {None}
    assert all(reported(row)[0].startswith(f"mileage: {message}") for row in found.values())


@pytest.mark.parametrize("value", [["one", "two"], {"nl": "een"}, True])
def test_a_value_that_is_no_text_costs_the_field(tmp_path: Path, value: Any) -> None:
    found = rows(tmp_path, "desclong", kind="jsonl", omschrijving=value)
    assert {car.description for car in listings(found)} == {None}
    assert all(reported(row)[0].startswith("description: left out: expected text, got") for row in found.values())


def test_a_member_that_paths_lead_into_is_no_value_of_the_field_with_its_name(tmp_path: Path) -> None:
    """Okasie has a field `engine`; here it is the object that the power is read from."""
    (tmp_path / "feed").write_text(
        '[{"voorraadnr": "A", "merk": "VW", "model": "Golf", "prijs": 100, "engine": {"power_kw": 110}}]'
    )
    text = CONFIG.format(
        kind="json", feed="feed", reference="voorraadnr", decimal=".", fields='powerKw = "engine.power_kw"', defaults=""
    )
    (tmp_path / "okasie.toml").write_text(text)
    account = load_settings(tmp_path / "okasie.toml", {"K": "key"}).accounts["dex"]
    (row,) = open_source(account, cache_dir=tmp_path / "feeds", current_year=2026).rows()
    assert row.listing
    assert (row.listing.power_kw, row.listing.engine, row.warnings) == (110, None, ())
