"""From a feed's row to a listing: columns, templates, words, units, defaults, numbers as people write them."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from okasie_tasks.core.listing import Listing
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.mapping import RowMapping
from tests.sources.support import one, source


def row(tmp_path: Path, columns: dict[str, str], options: str = "") -> SourceRow:
    cells = {"ref": "A", "title": "Golf", "price": "100"} | columns
    (tmp_path / "feed.csv").write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")
    return one(source(tmp_path, "feed.csv", 'delimiter = "\\t"\n' + options).rows())


def listing(tmp_path: Path, columns: dict[str, str], options: str = "") -> Listing:
    found = row(tmp_path, columns, options)
    assert found.listing is not None, found.issues
    return found.listing


def test_columns_of_okasies_names_need_no_mapping_and_fields_override(tmp_path: Path) -> None:
    assert listing(tmp_path, {"brand": "VW"}).brand == "VW"
    found = listing(tmp_path, {"brand": "VW", "make": "Volkswagen"}, '[accounts.dex.source.fields]\nbrand = "make"')
    assert found.brand == "Volkswagen"


@pytest.mark.parametrize(
    ("template", "title"),
    [
        ("{make} {model} {year}", "VW Golf 2020"),
        ("{make} {none} {year}", "VW 2020"),
        ("{make} ({none})", "VW ()"),
        ("Car: {make}", "Car: VW"),
        ("{make}{model}", "VWGolf"),
    ],
)
def test_empty_columns_drop_out_of_a_template(tmp_path: Path, template: str, title: str) -> None:
    columns = {"make": " VW ", "model": "Golf", "none": "  ", "year": "2020", "title": "ignored"}
    assert listing(tmp_path, columns, f'[accounts.dex.source.fields]\ntitle = "{template}"').title == title


def test_a_template_of_empty_columns_is_an_empty_field(tmp_path: Path) -> None:
    found = row(tmp_path, {"make": "", "title": "x"}, '[accounts.dex.source.fields]\ntitle = "{make}"')
    assert found.listing is None
    assert found.issues[0].field == "title"


@pytest.mark.parametrize(
    ("value", "fuel"), [("Benzin", "petrol"), (" bENZIN ", "petrol"), ("Strom", "Strom"), ("", None)]
)
def test_words_are_matched_without_case_and_pass_when_unknown(tmp_path: Path, value: str, fuel: str | None) -> None:
    assert (
        listing(tmp_path, {"fuelType": value}, '[accounts.dex.source.values.fuelType]\nBenzin = "petrol"').fuel_type
        == fuel
    )


def test_a_star_drops_what_is_not_mapped(tmp_path: Path) -> None:
    options = '[accounts.dex.source.values.fuelType]\nBenzin = "petrol"\n"*" = ""'
    assert listing(tmp_path, {"fuelType": "Strom"}, options).fuel_type is None


def test_a_strict_set_rejects_what_it_does_not_know(tmp_path: Path) -> None:
    found = row(tmp_path, {"condition": "as good as new"})
    assert found.listing is None
    assert found.issues[0].field == "condition"
    assert "used" in found.issues[0].message


@pytest.mark.parametrize(
    ("text", "decimal", "price"),
    [
        ("12500", ".", 12500), ("12,500", ".", 12500), ("12,500.50", ".", 12500.5), ("12.500,50", ",", 12500.5),
        ("12500,5", ",", 12500.5), ("12 500", ".", 12500), ("12\u00a0500", ".", 12500), ("1'250'000", ".", 1250000),
        ("1.5e3", ".", 1500),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(tmp_path: Path, text: str, decimal: str, price: float) -> None:
    assert listing(tmp_path, {"price": text}, f'decimal = "{decimal}"').price == price


@pytest.mark.parametrize(
    ("text", "decimal"),
    [("N/A", "."), ("12,5", "."), ("1.2.3", "."), ("12.5", ","), ("inf", "."), ("nan", "."), ("0x10", "."), ("1e999", ".")],
)  # fmt: skip
def test_a_number_that_could_mean_two_things_is_not_guessed(tmp_path: Path, text: str, decimal: str) -> None:
    found = row(tmp_path, {"price": text}, f'decimal = "{decimal}"')
    assert found.listing is None, found.listing
    assert found.issues[0].message.startswith("column price: expected a number, got")


@pytest.mark.parametrize(
    ("field", "unit", "text", "attribute", "value"),
    [
        ("powerKw", "hp", "116", "power_kw", 85.32),
        ("powerKw", "kW", "85", "power_kw", 85),
        ("mileage", "mi", "1000", "mileage", 1609),
        ("price", "cent", "1250050", "price", 12500.5),
    ],
)
def test_units_are_turned_into_okasies(
    tmp_path: Path, field: str, unit: str, text: str, attribute: str, value: Any
) -> None:
    found = listing(tmp_path, {field: text}, f'[accounts.dex.source.units]\n{field} = "{unit}"')
    assert getattr(found, attribute) == value


def test_defaults_fill_only_what_the_feed_leaves_empty(tmp_path: Path) -> None:
    assert listing(tmp_path, {"mileage": ""}).mileage == 10
    assert listing(tmp_path, {"mileage": "77"}).mileage == 77


def test_lists_are_split_where_it_is_said(tmp_path: Path) -> None:
    options = '[accounts.dex.source.fields]\nimages = { column = "photos", split_on = "," }'
    found = listing(tmp_path, {"photos": "https://x.test/1.jpg, https://x.test/2.jpg,"}, options)
    assert found.images == ("https://x.test/1.jpg", "https://x.test/2.jpg")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2026-11-23T16:00:00Z", 1795449600000),
        ("2026-11-23T17:00:00+01:00", 1795449600000),
        ("2026-11-23 17:00:00", 1795449600000),  # the account's own time zone: Brussels
        ("1795449600", 1795449600000),
        ("1795449600000", 1795449600000),
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_the_change_time_of_a_row_is_a_hint(tmp_path: Path, text: str, version: int) -> None:
    assert row(tmp_path, {"changed": text}, 'updated_at = "changed"').version == version


def test_all_that_is_wrong_with_a_row_is_told(tmp_path: Path) -> None:
    found = row(tmp_path, {"price": "free", "title": "", "condition": "mint", "doors": "99"})
    assert {issue.field for issue in found.issues} == {"price", "title", "condition"}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("condition", "Used", "used"), ("condition", " DEMO ", "demo"), ("vehicleType", "BTW", "btw"), ("co2Type", "wltp", "WLTP")],
)  # fmt: skip
def test_okasies_own_words_are_understood_in_any_case(tmp_path: Path, field: str, value: str, expected: str) -> None:
    found = listing(tmp_path, {field: value})
    assert {"condition": found.condition, "vehicleType": found.vehicle_type, "co2Type": found.co2_type}[
        field
    ] == expected


def test_a_value_table_is_stronger_than_okasies_own_words(tmp_path: Path) -> None:
    table = '[accounts.dex.source.values.condition]\nUsed = "demo"\nOccasion = "used"'
    assert listing(tmp_path, {"condition": "used"}, table).condition == "demo"
    only = f'{table}\n"*" = ""'
    assert listing(tmp_path, {"condition": "new"}, only).condition is None, "what the table lacks is dropped"


_CELLS: dict[str, list[Any]] = {
    "externalReference": ["A", "B", "", 7],
    "title": ["Golf", " Golf ", "", "x" * 130, 208],
    "price": ["17450", "17.450", 17450, 17450.5, "1.5.2", "", None, 0, True],
    "status": ["active", "Draft", "gone", "", None],
    "dealerLocationCode": ["GENT", "gent", "", None],
    "dealerProfileId": ["", None, "0e6a3cf2-7f0b-4d6c-9a51-5a1f6f8f0a11", "none"],
    "year": ["2019", 2019, "2019-05-17", "1850", True, 2019.0],
    "firstRegistration": ["2019-05", 2019, "05/2019", "soon", ""],
    "doors": ["5", 5, "11", "5 doors", 1, True, 1.0],
    "serviceHistory": ["ja", 1, "1", "perhaps", True, ""],
    "powerKw": ["85", "115 hp", 85.3, "much"],
    "conditionTags": ["a|b", "", ["a", 5], "a|" + "c" * 40],
    "features": ["comfort:Airco|Alarm", ["Airco"], "gone:Airco"],
    "images": ["https://x.be/1.jpg|https://x.be/2.jpg", "ftp://x", "", ["https://x.be/3.jpg"]],
    "postalCode": ["9000", 9000, ""],
    "city": ["Gent", ""],
    "province": ["Oost-Vlaanderen", ""],
}


@pytest.mark.parametrize("seed", range(3))
def test_a_row_becomes_the_same_listing_after_any_other_rows(seed: int) -> None:
    place = {"postalCode": "8000", "city": "Brugge", "province": "West-Vlaanderen"}
    settings = {"type": "jsonl", "url": "x.jsonl", "defaults": {"status": "active", **place}}
    account = AccountSettings.model_validate({"name": "dex", "api_key": "k", "source": settings})

    used, fresh = (RowMapping(account, columns=None, current_year=2026) for _ in range(2))
    random, valid = Random(seed), 0
    for number in range(2_000):
        # Mostly the first values, so that many rows are valid.
        raw = {name: cells[0] if random.random() < 0.95 else random.choice(cells) for name, cells in _CELLS.items()}
        del raw["dealerLocationCode" if raw["dealerProfileId"] else "dealerProfileId"]
        found = used.row(raw, number, "x")
        for field in fresh._plan:
            field.valid.clear()
        assert found == fresh.row(raw, number, "x"), raw
        valid += found.listing is not None and not found.warnings
    assert valid > 200
