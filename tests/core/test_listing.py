"""The write shape: limits and required-when rules of the contract, told field by field, and the body that is sent."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import (
    compared,
    compared_row,
    content_fingerprint,
    decode_compared,
    differing,
    echo_learnable,
    encode_compared,
    filled_fields,
)
from okasie_tasks.core.listing import InvalidListing, Listing, bulk_item, parse_reference, write_body
from okasie_tasks.core.remote_rows import read_remote, read_time
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.sandbox.validation import canonical, issues_of

CAR = {
    "externalReference": "A-1", "status": "active", "title": "Skoda Octavia", "price": 17450, "mileage": 88200,
    "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
}  # fmt: skip


def parsed(**changes: Any) -> Listing:
    return parse_listing(CAR | changes, current_year=2026)


def wrong(**changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidListing) as caught:
        parsed(**changes)
    return [(issue.field, issue.code) for issue in caught.value.found]


@pytest.mark.parametrize(
    ("changes", "issue"),
    [
        ({"title": ""}, ("title", "required")),
        ({"title": None}, ("title", "required")),
        ({"status": None}, ("status", "required")),
        ({"status": "live"}, ("status", "not_allowed")),
        ({"price": None}, ("price", "required")),
        ({"price": None, "status": "pending"}, ("price", "required")),
        ({"price": -1}, ("price", "out_of_range")),
        ({"price": "100"}, ("price", "not_a_number")),
        ({"price": True}, ("price", "not_a_number")),
        ({"price": float("inf")}, ("price", "not_a_number")),
        ({"price": float("nan")}, ("price", "not_a_number")),
        ({"currency": "USD"}, ("currency", "not_allowed")),
        ({"postalCode": None}, ("postalCode", "required")),
        ({"city": None}, ("city", "required")),
        ({"province": None}, ("province", "required")),
        ({"dealerLocationCode": None}, ("dealerLocationCode", "required")),
        ({"dealerProfileId": "5b1c2d3e-0000-4000-8000-00000000d001"}, ("dealerLocationCode", "given_twice")),
        ({"dealerProfileId": "no-uuid", "dealerLocationCode": None}, ("dealerProfileId", "not_a_uuid")),
        ({"description": "x" * 15_001}, ("description", "too_long")),
        ({"brand": "x" * 121}, ("brand", "too_long")),
        ({"customType": "x" * 61}, ("customType", "too_long")),
        ({"vin": "x" * 33}, ("vin", "too_long")),
        ({"city": "x" * 121}, ("city", "too_long")),
        ({"year": 1899}, ("year", "out_of_range")),
        ({"year": 2028}, ("year", "out_of_range")),
        ({"year": 2020.5}, ("year", "not_an_integer")),
        ({"mileage": -1}, ("mileage", "out_of_range")),
        ({"gears": 13}, ("gears", "out_of_range")),
        ({"doors": 0}, ("doors", "out_of_range")),
        ({"seats": 11}, ("seats", "out_of_range")),
        ({"co2Type": "EPA"}, ("co2Type", "not_allowed")),
        ({"vehicleType": "vat"}, ("vehicleType", "not_allowed")),
        ({"condition": "good"}, ("condition", "not_allowed")),
        ({"warranty": "yes"}, ("warranty", "not_a_boolean")),
        ({"conditionTags": ["x"] * 1 + [str(n) for n in range(6)]}, ("conditionTags", "too_many")),
        ({"conditionTags": ["x" * 33]}, ("conditionTags", "too_long")),
        ({"conditionTags": "x"}, ("conditionTags", "not_a_list")),
        ({"firstRegistration": "09-2020"}, ("firstRegistration", "bad_month")),
        ({"firstRegistration": "2020-13"}, ("firstRegistration", "bad_month")),
        ({"carPassUrl": "https://car-pass.be.evil.test/1"}, ("carPassUrl", "bad_car_pass")),
        ({"carPassUrl": "1234"}, ("carPassUrl", "bad_car_pass")),
        ({"latitude": 91}, ("latitude", "out_of_range")),
        ({"images": ["ftp://x.test/1.jpg"]}, ("images.0", "not_a_url")),
        ({"images": "https://x.test/1.jpg"}, ("images", "not_a_list")),
        ({"images": [{"url": "https://x.test/1.jpg", "position": "first"}]}, ("images.0.position", "not_a_number")),
        ({"features": [{"category": "engine", "name": "V8"}]}, ("features.0.category", "not_allowed")),
        ({"features": [{"category": "safety"}]}, ("features.0", "not_a_feature")),
        ({"colour": "red"}, ("colour", "unknown_field")),
        ({"location": {"street": "x"}}, ("location.street", "unknown_field")),
        ({"carPass": "12345678901", "carPassUrl": "12345678901"}, ("carPassUrl", "given_twice")),
        ({"externalReference": "a\tb"}, ("externalReference", "bad_reference")),
        ({"externalReference": "x" * 65}, ("externalReference", "bad_reference")),
    ],
)
def test_what_the_contract_forbids_is_named(changes: dict[str, Any], issue: tuple[str, str]) -> None:
    assert issue in wrong(**changes)


def test_everything_that_is_wrong_is_told_and_survives_pickling() -> None:
    with pytest.raises(InvalidListing) as caught:
        parsed(title="", price=-1, doors=99)
    carried = pickle.loads(pickle.dumps(caught.value))
    assert {issue.field for issue in carried.found} == {"title", "price", "doors"}


@pytest.mark.parametrize("status", ["draft", "sold"])
def test_a_draft_needs_neither_price_nor_place(status: str) -> None:
    found = parsed(status=status, price=None, postalCode=None, city=None, province=None)
    assert found.price is None


@pytest.mark.parametrize(
    ("given_value", "attribute", "value"),
    [
        ({"price": 17450.0}, "price", 17450),
        ({"price": 17450.004}, "price", 17450),
        ({"title": "  Golf "}, "title", "Golf"),
        ({"firstRegistration": "2020-09-17"}, "first_registration", "2020-09"),
        ({"carPass": "12345678901"}, "car_pass_url", "12345678901"),
        ({"carPassUrl": "https://public.car-pass.be/vhr/1"}, "car_pass_url", "https://public.car-pass.be/vhr/1"),
        ({"images": [{"imageUrl": "https://x.test/1.jpg"}, " https://x.test/1.jpg"]}, "images", ("https://x.test/1.jpg",)),
        ({"images": [{"url": "https://x.test/2.jpg", "position": 2}, {"url": "https://x.test/1.jpg", "position": 1}]}, "images", ("https://x.test/1.jpg", "https://x.test/2.jpg")),
        ({"images": [{"url": "https://x.test/9.jpg", "position": 9}, "https://x.test/1.jpg", {"url": "https://x.test/b.jpg", "position": 1}]}, "images", ("https://x.test/1.jpg", "https://x.test/b.jpg", "https://x.test/9.jpg")),
        ({"images": [f"https://x.test/{n}.jpg" for n in range(60)]}, "images", tuple(f"https://x.test/{n}.jpg" for n in range(50))),
        ({"postalCode": None, "location": {"postalCode": "8500"}}, "postal_code", "8500"),
        ({"conditionTags": ["a", " a ", ""]}, "condition_tags", ("a",)),
        ({"year": 2027}, "year", 2027),
    ],
)  # fmt: skip
def test_values_are_brought_into_one_form(given_value: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(parsed(**given_value), attribute) == value


@pytest.mark.parametrize("reference", ["A", "x" * 64, "a.b_c-D9", " A "])
def test_a_reference_that_a_path_can_hold(reference: str) -> None:
    assert parse_reference(reference) == reference.strip()


@pytest.mark.parametrize(
    "reference", ["", " ", ".", "..", "a\nb", "a\x1b[2Jb", "a\u202eb", "x" * 65, None, 7, "bulk-upsert"]
)
def test_a_reference_that_a_path_cannot_hold(reference: object) -> None:
    assert parse_reference(reference) is None


def test_the_body_holds_what_is_filled_and_says_when_there_are_no_images() -> None:
    body = json.loads(bulk_item(parsed(images=["https://x.test/1.jpg"], features=[{"feature": "ABS"}])))
    features = [{"name": "ABS", "category": "other"}]
    assert body == {**CAR, "images": ["https://x.test/1.jpg"], "features": features}
    assert set(json.loads(write_body(parsed()))) == set(CAR) - {"externalReference"} | {"images"}


# -- the two readings of the contract meet ----------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=130)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": _TEXT,
    "integer": st.integers(-5, 3_000),
    "number": st.one_of(st.integers(-5, 200_000), st.floats(-200, 200_000, allow_nan=False)),
    "boolean": st.booleans(),
    "texts": st.lists(st.text("ab ", max_size=34), max_size=8),
    "images": st.lists(st.sampled_from(["https://x.test/1.jpg", "http://x.test/2.jpg", "ftp://x", "x"]), max_size=4),
    "features": st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["ABS", "Airco", ""])},
            optional={"category": st.sampled_from(["safety", "comfort", "engine"])},
        ),
        max_size=3,
    ),
}


def _value(name: str) -> st.SearchStrategy[Any]:
    spec = FIELDS[name]
    usual = _VALUES[spec.kind]
    return st.one_of(usual, st.sampled_from(sorted(spec.choices))) if spec.choices else usual


@st.composite
def raw_rows(draw: st.DrawFn) -> dict[str, Any]:
    """Rows near the border between valid and invalid."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=6))
    changed: dict[str, Any] = {name: draw(_value(name)) for name in names if name != "externalReference"}
    return CAR | changed


@given(raw_rows())
def test_what_we_accept_the_marketplace_accepts(raw: dict[str, Any]) -> None:
    """The sandbox reads the contract for itself: a body that we would send must be one that it takes."""
    try:
        found = parse_listing(raw, current_year=2026)
    except InvalidListing:
        return
    body = canonical(json.loads(bulk_item(found)))
    body.pop("externalReference")
    assert issues_of(body) == []


@given(raw_rows())
def test_what_comes_back_unchanged_is_no_difference(raw: dict[str, Any]) -> None:
    try:
        found = parse_listing(raw, current_year=2026)
    except InvalidListing:
        return
    body = json.loads(bulk_item(found))
    place = {name: body.pop(name, None) for name in ("postalCode", "city", "province", "latitude", "longitude")}
    theirs = compared_row({**body, "location": place})
    assert differing(compared(found), theirs) == ()
    assert decode_compared(encode_compared(theirs)) == theirs


# -- comparing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "fields"),
    [
        ({"price": 100}, {"price": 100.0}, ()),
        ({"price": 100}, {"price": "100.00"}, ()),
        ({"price": 100}, {"price": 101}, ("price",)),
        ({"powerKw": 85}, {"powerKw": 85.3}, ()),
        ({"powerKw": 85}, {"powerKw": 88}, ("powerKw",)),
        ({"title": "Golf"}, {"title": " Golf "}, ()),
        ({"title": "Golf"}, {"title": "golf"}, ("title",)),
        ({"vin": "WVWZZZ1KZAW000001EXTRA"}, {"vin": "WVWZZZ1KZAW000001"}, ()),
        ({"conditionTags": ["b", "a"]}, {"conditionTags": ["a", "b"]}, ()),
        ({"features": [{"name": "ABS", "category": "safety"}]}, {"features": [{"name": "ABS", "category": "safety"}]}, ()),
        ({"firstRegistration": "2020-09"}, {"firstRegistration": "2020-09-01"}, ()),
        ({"description": None}, {"description": "new"}, ("description",)),
        ({"mileage": 5}, {"mileage": None}, ("mileage",)),
        ({"mileage": 5}, {"mileage": {"odd": 1}}, ("mileage",)),
    ],
)  # fmt: skip
def test_what_counts_as_a_difference(ours: dict[str, Any], theirs: dict[str, Any], fields: tuple[str, ...]) -> None:
    mine = parsed(**ours)
    place = {"postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen"}
    row = {"title": "Skoda Octavia", "price": 17450, "mileage": 88200, "status": "active", "location": place} | theirs
    assert differing(compared(mine), compared_row(row)) == fields


def test_the_marketplace_may_teach_us_its_spelling_but_never_a_price() -> None:
    mine = compared(parsed(description="Eerste eigenaar, é!"))
    row = {"title": "SKODA OCTAVIA", "description": "eerste eigenaar e", "price": 17450, "mileage": 88200,
           "status": "active", "location": {"postalCode": "9000", "city": "Gent", "province": "Oost Vlaanderen"}}  # fmt: skip
    assert echo_learnable(mine, compared_row(row))
    for change in ({"price": 17000}, {"mileage": 1}, {"status": "pending"}, {"title": "Skoda Fabia"}):
        assert not echo_learnable(mine, compared_row(row | change)), change


@pytest.mark.parametrize(
    "change",
    [{"images": ["https://x.test/2.jpg"]}, {"condition": "demo"}, {"customType": "x"}, {"dealerLocationCode": "BRUGGE"},
     {"price": 17451}, {"features": [{"name": "ABS"}]}],
)  # fmt: skip
def test_the_content_fingerprint_sees_everything_that_is_sent(change: dict[str, Any]) -> None:
    assert content_fingerprint(parsed(**change)) != content_fingerprint(parsed())


def test_the_content_fingerprint_is_the_same_in_every_release() -> None:
    """A change here re-sends every listing of every dealer once: it must be meant."""
    assert content_fingerprint(parsed()).hex() == GOLDEN
    assert content_fingerprint(parsed(dealerLocationCode="gent")).hex() == GOLDEN, "codes are without case"


GOLDEN = "d59337120362f015"


def test_filled_fields_are_a_bitmap_in_the_order_of_the_table() -> None:
    bits = filled_fields(parsed())
    names = {name for index, name in enumerate(FIELDS) if bits >> index & 1}
    assert set(CAR) <= names
    assert "description" not in names


# -- reading -------------------------------------------------------------------------------------------------------


def test_a_row_is_read_without_trusting_it() -> None:
    row = {"id": "1", "externalReference": "", "status": 7, "updatedAt": "yesterday", "images": "x", "dealer": []}
    found = read_remote(row)
    assert found is not None
    assert (found.reference, found.status, found.updated_at, found.image_count) == (None, None, None, -1)
    assert read_remote({"title": "A"}) is None
    unnamed = read_remote({"externalReference": 7})
    assert unnamed is not None, "the reference identifies it"
    assert (unnamed.id, unnamed.reference) == ("7", "7")
    assert read_remote("nonsense") is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_no_odd_value_breaks_the_reader(value: object) -> None:
    found = read_remote({"id": "1", "location": value, **dict.fromkeys(FIELDS, value)})
    assert found is not None


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-11-23T16:00:00Z", 16), ("2026-11-23T17:00:00+01:00", 16), ("2026-11-23T16:00:00", 16)]
)
def test_times_are_utc(text: str, hour: int) -> None:
    found = read_time(text)
    assert found is not None
    assert (found.hour, str(found.tzinfo)) == (hour, "UTC")


@pytest.mark.parametrize("text", ["", "x", None, 7, "9999-12-31T23:59:59-23:00"])
def test_what_is_no_time_is_none(text: object) -> None:
    assert read_time(text) is None
