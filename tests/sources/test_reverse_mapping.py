"""The mapping backwards: what is written back is read again as theirs, or it is not written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, compared, differing
from okasie_tasks.settings import AccountSettings, SourceSettings
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.sql_cells import plain_cell
from okasie_tasks.sources.write_back.reverse_mapping import CannotWriteBack, Holds, ReverseMapping

YEAR = 2026
ROW: dict[str, Any] = {
    "ref": "A", "title": "Golf", "price": "100", "km": 10, "hp": 100, "lat": 50.5, "liters": 5, "fuel": "Benzin",
    "history": "yes", "text": "red", "year": 2020,
}  # fmt: skip
FIELDS = {
    "mileage": "km", "powerKw": "hp", "latitude": "lat", "fuelConsumption": "liters", "fuelType": "fuel",
    "serviceHistory": "history", "color": "text",
}  # fmt: skip
PLACE = {"status": "active", "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "OVL"}
WORDS = {"Benzin": "petrol", "benzine": "petrol", "Diesel": "diesel", "Strom": "electric", "*": "other"}


def account(**source: Any) -> AccountSettings:
    source = {"reference": "ref", "fields": FIELDS, "defaults": PLACE} | source
    return AccountSettings(name="dex", api_key="env:K", source=SourceSettings(**source))  # type: ignore[arg-type]


def reverse(settings: AccountSettings) -> ReverseMapping:
    return ReverseMapping(settings, columns=ROW, current_year=YEAR)


def read(settings: AccountSettings, cells: dict[str, Any]) -> Compared:
    """A whole row, as the inventory is read."""
    row = RowMapping(settings, columns=ROW, current_year=YEAR).row(cells, 1, "")
    assert row.listing is not None, row.issues
    return compared(row.listing)


def with_theirs(ours: Compared, field: str, theirs: object) -> Compared:
    return tuple(theirs if name == field else value for name, value in zip(COMPARED_FIELDS, ours, strict=True))


def whole_or_not(value: float) -> float:
    return int(value) if value == int(value) else value


EDITS = st.one_of(
    st.tuples(st.just("price"), st.integers(1, 10**8).map(lambda cents: whole_or_not(cents / 100))),
    st.tuples(st.just("mileage"), st.integers(0, 10**6)),
    st.tuples(st.just("powerKw"), st.integers(0, 10**5).map(lambda value: whole_or_not(value / 100))),
    st.tuples(st.just("latitude"), st.floats(-90, 90).map(whole_or_not)),
    st.tuples(st.just("fuelConsumption"), st.integers(0, 400).map(lambda value: whole_or_not(value / 10))),
    st.tuples(st.just("year"), st.integers(1900, YEAR + 1)),
    st.tuples(st.just("serviceHistory"), st.booleans()),
    st.tuples(
        st.sampled_from(["color", "title"]),
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=60)
        .map(str.strip)
        .filter(bool),
    ),
)
UNITS = st.fixed_dictionaries(
    {},
    optional={
        "powerKw": st.sampled_from(["kW", "hp"]),
        "mileage": st.sampled_from(["km", "mi"]),
        "price": st.sampled_from(["EUR", "cent"]),
    },
)
HOLDS = st.one_of(
    st.sampled_from([Holds("whole"), Holds("float"), Holds("boolean"), Holds("anything"), Holds("decimal")]),
    st.builds(Holds, kind=st.just("text"), length=st.none() | st.integers(1, 20)),
    st.builds(Holds, kind=st.just("decimal"), scale=st.integers(0, 4)),
)
POINT = st.sampled_from([".", ","])


@given(EDITS | st.tuples(st.sampled_from([*FIELDS, "price"]), st.none()), UNITS, POINT, HOLDS)
def test_what_is_written_back_is_read_as_theirs(edit: tuple[str, Any], units: Any, point: str, holds: Holds) -> None:
    field, theirs = edit
    settings = account(units=units, decimal=point, values={"serviceHistory": {"voll": "yes", "keine": "no"}})
    back = reverse(settings)
    try:
        cell = back.cell(field, theirs, holds)
    except CannotWriteBack as why:
        event(f"{field} into {holds.kind}: {why}")
        return
    event(f"{field} into {holds.kind}")
    ours = read(settings, ROW)
    cells = ROW | {back.column(field): plain_cell(cell)}
    assert differing(read(settings, cells), with_theirs(ours, field, theirs)) == ()
    assert back.reads_as(field, plain_cell(cell), theirs)


@given(EDITS, UNITS, POINT, st.sampled_from([Holds("text"), Holds("anything")]))
def test_a_column_that_holds_everything_holds_exactly_theirs(
    edit: tuple[str, Any], units: Any, point: str, holds: Holds
) -> None:
    field, theirs = edit
    settings = account(units=units, decimal=point)
    back = reverse(settings)
    cells = ROW | {back.column(field): back.cell(field, theirs, holds)}
    assert read(settings, cells) == with_theirs(read(settings, ROW), field, theirs)


@given(st.sampled_from(["petrol", "diesel", "electric", "other", "hybrid", "Strom"]))
def test_a_word_goes_back_only_where_it_has_one_meaning(theirs: str) -> None:
    settings = account(values={"fuelType": WORDS})
    words = {"diesel": "Diesel", "electric": "Strom"}
    back = reverse(settings)
    if theirs in words:
        assert back.cell("fuelType", theirs, Holds("text")) == words[theirs]
    else:
        with pytest.raises(CannotWriteBack, match="of the source's values mean"):
            back.cell("fuelType", theirs, Holds("text"))


def test_a_word_spelt_twice_is_one_word() -> None:
    settings = account(values={"fuelType": {"Diesel": "diesel", "DIESEL": "diesel"}})
    assert reverse(settings).cell("fuelType", "diesel", Holds("text")) == "DIESEL"


def test_a_number_with_a_word_for_none_is_a_number_all_the_same() -> None:
    settings = account(values={"mileage": {"n/a": ""}})
    assert reverse(settings).cell("mileage", 12, Holds("text")) == "12"


def test_a_text_with_a_word_for_none_is_written_as_it_is() -> None:
    settings = account(values={"color": {"n.v.t.": ""}})
    assert reverse(settings).cell("color", "blue", Holds("text")) == "blue"


def test_the_shortest_number_is_written() -> None:
    back = reverse(account(units={"powerKw": "hp", "mileage": "mi", "price": "cent"}, decimal=","))
    assert back.cell("powerKw", 85.32, Holds("text")) == "116"
    assert back.cell("powerKw", 85, Holds("text")) == "115,57"
    assert back.cell("mileage", 1610, Holds("float")) == 1000.4
    assert back.cell("price", 17.99, Holds("text")) == "1799"


def test_a_field_found_under_an_alias_goes_back_there() -> None:
    settings = account(fields={})
    back = ReverseMapping(settings, columns=[*ROW, "carPass"], current_year=YEAR)
    assert back.column("carPassUrl") == "carPass"
    assert back.cell("carPassUrl", "12345678901", Holds("text")) == "12345678901"
    with pytest.raises(CannotWriteBack):
        back.cell("carPassUrl", "https://elsewhere.test/1", Holds("text"))


@pytest.mark.parametrize("column", ["ref", "changed"])
def test_the_columns_that_say_which_row_and_how_new_are_never_written(column: str) -> None:
    settings = account(fields={"vin": column}, updated_at="changed")
    with pytest.raises(CannotWriteBack, match="identifies the row"):
        ReverseMapping(settings, columns=[*ROW, "changed"], current_year=YEAR).column("vin")


def test_a_column_that_skips_rows_is_not_written_and_no_trial_row_is_skipped() -> None:
    mapping = reverse(account(skip={"text": ("red", ""), "fuel": ("",)}))
    with pytest.raises(CannotWriteBack, match="column text decides whether the row is skipped"):
        mapping.column("color")
    assert mapping.cell("mileage", 25, Holds("whole")) == 25


def test_each_column_of_a_reference_template_identifies_the_row() -> None:
    mapping = reverse(account(reference="{ref}-{text}"))
    with pytest.raises(CannotWriteBack, match="column text identifies the row"):
        mapping.column("color")
    assert mapping.cell("mileage", 25, Holds("whole")) == 25
