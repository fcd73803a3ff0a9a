"""Cells as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.sources.values import NumberReader, UnreadableCell, plain_text, read_month, reference_text
from tests.sources.test_mapping import listing, row


@pytest.mark.parametrize(
    ("field", "text", "decimal", "value"),
    [
        ("price", "€ 12.345,-", ",", 12345),
        ("price", "€12.345,00", ",", 12345),
        ("price", "12\u00a0345 €", ",", 12345),
        ("price", "9\u202f950 €", ",", 9950),
        ("price", "EUR 12 345.50", ".", 12345.5),
        ("price", "12’345.--", ".", 12345),
        ("price", "12.345", ",", 12345),
        ("mileage", "123.456 km", ",", 123456),
        ("mileage", "88,200 KM", ".", 88200),
        ("mileage", "1,000 miles", ".", 1609),
        ("powerKw", "110 kW (150 ch)", ",", 110),
        ("powerKw", "150 pk", ",", 110.32),
        ("powerKw", "150PS", ".", 110.32),
        ("weight", "1.420 kg", ",", 1420),
        ("co2Emission", "119 g/km", ",", 119),
        ("fuelConsumption", "5,4 l/100 km", ",", 5.4),
        ("warrantyMonths", "12 maanden", ",", 12),
        ("price", Decimal("9900.00"), ",", 9900),
        ("price", Decimal("9900.50"), ",", 9900.5),
    ],
)
def test_a_number_may_have_the_unit_of_its_field(field: str, text: Any, decimal: str, value: float) -> None:
    assert NumberReader(decimal, {}).read(field, text) == value


@pytest.mark.parametrize(
    ("field", "text", "decimal", "message"),
    [
        ("price", "$ 12345", ",", "expected a number in EUR"),
        ("price", "12345 CHF", ",", "expected a number in EUR"),
        ("price", "12345 km", ",", "expected a number in EUR"),
        ("mileage", "88 furlongs", ",", "expected a number in km or mi"),
        ("powerKw", "110 kW 150 ch", ",", "expected a number"),
        ("powerKw", "kW 110 ch", ",", "expected a number in hp or kW"),
        ("doors", "4/5", ",", "expected a number"),
        ("doors", "5 doors", ",", "expected a number without a unit"),
        ("price", "op aanvraag", ",", "expected a number"),
        ("price", "12345 - 13000", ",", "expected a number"),
    ],
)
def test_another_unit_is_refused(field: str, text: str, decimal: str, message: str) -> None:
    with pytest.raises(UnreadableCell, match=f"^{message}"):
        NumberReader(decimal, {}).read(field, text)


@pytest.mark.parametrize(
    ("text", "decimal", "other"),
    [("12.345", ".", ","), ("17.001", ".", ","), ("€ 17,001", ",", "."), ("1.000 €", ".", ",")],
)
def test_three_decimals_of_a_price_are_refused_with_a_hint(text: str, decimal: str, other: str) -> None:
    with pytest.raises(UnreadableCell, match=f'with three decimals: set decimal = "{other}"'):
        NumberReader(decimal, {}).read("price", text)
    assert NumberReader(decimal, {}).read("mileage", "12" + decimal + "345") == 12.345, "of a price only"


def test_the_unit_in_the_cell_goes_before_that_of_the_feed() -> None:
    reader = NumberReader(".", {"powerKw": "hp"})
    assert (reader.read("powerKw", "110 kW"), reader.read("powerKw", "110")) == (110, 80.9)


@given(st.integers(0, 10**9), st.sampled_from((",", ".")), st.sampled_from((" ", "\u00a0", "\u202f", "\u2009", "")))
def test_any_spelling_of_a_whole_price_is_the_same_number(value: int, decimal: str, space: str) -> None:
    thousands = "." if decimal == "," else ","
    reader = NumberReader(decimal, {})
    grouped = f"{value:,}".replace(",", thousands)
    spaced = f"{value:,}".replace(",", space)
    for text in (
        str(value),
        grouped,
        spaced,
        f"€{space}{grouped}{decimal}-",
        f"{spaced}{space}EUR",
        f"{grouped}{decimal}00 €",
    ):
        assert reader.read("price", text) == value, text


@pytest.mark.parametrize(
    ("value", "month"),
    [
        ("2019-03", (2019, 3)),
        ("2019-03-15", (2019, 3)),
        ("2019-03-15T10:00:00Z", (2019, 3)),
        ("03/2019", (2019, 3)),
        ("3.2019", (2019, 3)),
        ("15/03/2019", (2019, 3)),
        ("15.03.2019", (2019, 3)),
        ("20190315", (2019, 3)),
        (20190315, (2019, 3)),
        (20190315.0, (2019, 3)),
        (Decimal("20190315"), (2019, 3)),
        (date(2019, 3, 15), (2019, 3)),
        (datetime(2019, 3, 15, 10, tzinfo=UTC), (2019, 3)),
        ("15/03.2019", None),
        ("03/15/2019", None),
        ("15/03/19", None),
        ("2019", None),
        ("13/2019", None),
        ("00/2019", None),
        ("32.01.2019", None),
        (2019.25, None),
        (3.2019, None),
        (True, None),
    ],
)
def test_a_month_is_read_from_the_usual_dates(value: Any, month: tuple[int, int] | None) -> None:
    assert read_month(value) == month


def test_year_and_first_registration_take_any_date(tmp_path: Path) -> None:
    found = listing(tmp_path, {"firstRegistration": "15/03/2019", "year": "03/2019"})
    assert (found.first_registration, found.year) == ("2019-03", 2019)
    unread = row(tmp_path, {"firstRegistration": "spring 2019"})
    assert (unread.listing is None, [warning.field for warning in unread.warnings]) == (False, ["firstRegistration"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(2020.0, "2020"), (Decimal("2020"), "2020"), (Decimal("1.50"), "1.50"), (1.5, "1.5"), (" x ", "x")],
)
def test_a_whole_number_stays_whole_as_text(value: Any, text: str) -> None:
    assert plain_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("00123", "00123"), (123, "123"), (123.0, "123"), (Decimal("77"), "77"), (1.5, None), (True, None), (None, None),
     (UUID(int=1), "00000000-0000-0000-0000-000000000001")],
)  # fmt: skip
def test_what_may_be_a_reference(value: Any, text: str | None) -> None:
    assert reference_text(value) == text


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://cdn.example/octavia foto 1.jpg", "https://cdn.example/octavia%20foto%201.jpg"),
        ("https://cdn.example/été.jpg?v=ü#é", "https://cdn.example/%C3%A9t%C3%A9.jpg?v=%C3%BC#%C3%A9"),
        ("//cdn.example/1.jpg", "https://cdn.example/1.jpg"),
        ("https://cdn.example/a%20b.jpg", "https://cdn.example/a%20b.jpg"),
        ("https://münchen.example/1.jpg", "https://xn--mnchen-3ya.example/1.jpg"),
        ("http://cdn.example:8080/a b", "http://cdn.example:8080/a%20b"),
    ],
)
def test_image_urls_are_percent_encoded(tmp_path: Path, url: str, sent: str) -> None:
    assert listing(tmp_path, {"images": url}).images == (sent,)


@pytest.mark.parametrize(
    "url", ["foto.jpg", "ftp://x.test/1.jpg", "https://", "https://a\u2028b/1.jpg", "https://u:p@x.test/1.jpg é"]
)
def test_what_is_no_web_address_is_left_out(tmp_path: Path, url: str) -> None:
    found = row(tmp_path, {"images": f"{url}|https://x.test/2.jpg"})
    assert found.listing is not None
    assert found.listing.images == ("https://x.test/2.jpg",)
    assert [warning.code for warning in found.warnings] == ["not_a_url"]
