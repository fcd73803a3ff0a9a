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
from okasie_tasks.core.listing import Feature, InvalidListing, Listing, bulk_item, parse_reference, write_body
from okasie_tasks.core.remote_rows import read_remote, read_time
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.sandbox.validation import canonical, issues_of

CAR = {
    "externalReference": "A-1", "status": "active", "title": "Skoda Octavia", "price": 17450, "mileage": 88200,
    "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
}  # fmt: skip


def parsed(**changes: Any) -> Listing:
    return parse_listing(CAR | changes, current_year=2026).listing


def warned(**changes: Any) -> tuple[Listing, list[tuple[str, str, str]]]:
    listing, warnings = parse_listing(CAR | changes, current_year=2026)
    return listing, [(warning.field, warning.code, warning.message) for warning in warnings]


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
        ({"price": 0}, ("price", "out_of_range")),
        ({"price": 0.004}, ("price", "out_of_range")),
        ({"price": 10**400}, ("price", "out_of_range")),
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
        ({"vehicleType": "vat"}, ("vehicleType", "not_allowed")),
        ({"condition": "good"}, ("condition", "not_allowed")),
        ({"colour": "red"}, ("colour", "unknown_field")),
        ({"location": {"street": "x"}}, ("location.street", "unknown_field")),
        ({"carPass": "12345678901", "carPassUrl": "12345678901"}, ("carPassUrl", "given_twice")),
        ({"title": ["Skoda", "Octavia"]}, ("title", "not_text")),
        ({"city": 9000}, ("city", "not_text")),
        ({"externalReference": "a\tb"}, ("externalReference", "bad_reference")),
        ({"externalReference": "x" * 65}, ("externalReference", "bad_reference")),
    ],
)
def test_what_the_contract_forbids_is_named(changes: dict[str, Any], issue: tuple[str, str]) -> None:
    assert issue in wrong(**changes)


OF_THE_CONTRACT = "expected at least 1 and at most 10, got"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("doors", 0, f"left out: {OF_THE_CONTRACT} 0"),
        ("seats", 11, f"left out: {OF_THE_CONTRACT} 11"),
        ("gears", 13, "left out: expected at least 1 and at most 12, got 13"),
        ("year", 1899, "left out: expected at least 1900 and at most 2027, got 1899"),
        ("year", 2028, "left out: expected at least 1900 and at most 2027, got 2028"),
        ("year", 2020.5, "left out: expected a whole number, got 2020.5"),
        ("mileage", -1, "left out: expected at least 0, got -1"),
        ("mileage", 10**400, "left out: expected a number below 9007199254740992"),
        ("latitude", 91, "left out: expected at least -90 and at most 90, got 91"),
        ("powerKw", float("nan"), "left out: expected a finite number, got nan"),
        ("powerKw", "85", "left out: expected a number, got '85'"),
        ("co2Type", "EPA", "left out: expected NEDC or WLTP, got 'EPA'"),
        ("warranty", "yes", "left out: expected true or false, got 'yes'"),
        ("brand", ["Skoda"], "left out: expected text, got ['Skoda']"),
        ("conditionTags", "x", "left out: expected a list of texts, got 'x'"),
        ("firstRegistration", "09-2020", "left out: expected YYYY-MM, got '09-2020'"),
        ("firstRegistration", "2020-13", "left out: expected YYYY-MM, got '2020-13'"),
        ("vin", "x" * 33, "left out: expected at most 32 characters, got 33"),
        ("carPassUrl", "1234", "left out: expected a car-pass.be link or 11 digits, got '1234'"),
        ("carPassUrl", "https://car-pass.be.evil.test/1", "left out: expected a car-pass.be link or 11 digits, got 'https://car-pass.be.evil.test/1'"),
        ("images", "https://x.test/1.jpg", "left out: expected a list of URLs, got 'https://x.test/1.jpg'"),
        ("features", "ABS", "left out: expected a list of features, got 'ABS'"),
    ],
)  # fmt: skip
def test_an_invalid_value_costs_its_field_not_the_listing(field: str, value: object, message: str) -> None:
    listing, warnings = warned(**{field: value})
    assert [(name, text) for name, _, text in warnings] == [(field, message)]
    assert getattr(listing, FIELDS[field].attribute) in (None, ())


@pytest.mark.parametrize(
    ("field", "limit"),
    [("title", 120), ("description", 15_000), ("brand", 120), ("customType", 60), ("city", 120), ("emissionClass", 30)],
)
def test_a_long_text_is_cut(field: str, limit: int) -> None:
    listing, warnings = warned(**{field: "é" * (limit + 3)})
    assert warnings == [(field, "too_long", f"cut to {limit} characters of {limit + 3}")]
    assert getattr(listing, FIELDS[field].attribute) == "é" * limit
    assert warned(**{field: "é" * limit})[1] == []


@pytest.mark.parametrize(
    ("field", "value", "kept", "message"),
    [
        ("images", ["ftp://x.test/1.jpg", "https://x.test/2.jpg", "x"], ("https://x.test/2.jpg",), "2 of 3 left out: image 1: expected an http(s) URL, got 'ftp://x.test/1.jpg'"),
        ("images", ["http://[", "http://x.test:nine/1.jpg", "https://x.test/a\n.jpg", 7], (), "4 of 4 left out: image 1: expected an http(s) URL, got 'http://['"),
        ("images", ["https://cdn .test/1.jpg"], (), "1 of 1 left out: image 1: expected an http(s) URL, got 'https://cdn .test/1.jpg'"),
        ("images", [{"url": "https://x.test/1.jpg", "position": "first"}], ("https://x.test/1.jpg",), "position of image 1 ignored: got 'first'"),
        ("images", [f"https://x.test/{n}.jpg" for n in range(60)], tuple(f"https://x.test/{n}.jpg" for n in range(50)), "10 of 60 left out: at most 50, each once"),
        ("conditionTags", [str(n) for n in range(8)], tuple("012345"), "2 of 8 left out: at most 6"),
        ("conditionTags", ["x" * 33, "y"], ("x" * 32, "y"), "1 of 2 cut to 32 characters"),
        ("features", [{"category": "safety"}, {"name": "ABS"}], (Feature("ABS"),), "1 of 2 left out: expected a category and a name, got {'category': 'safety'}"),
        ("features", [{"category": "engine", "name": "V8"}], (), "1 of 1 left out: expected the category comfort or exterior or interior or other or safety or technology, got 'engine'"),
    ],
)  # fmt: skip
def test_an_invalid_item_costs_the_item_not_the_list(field: str, value: object, kept: object, message: str) -> None:
    listing, warnings = warned(**{field: value})
    assert [(name, text) for name, _, text in warnings] == [(field, message)]
    assert getattr(listing, FIELDS[field].attribute) == kept


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("https://x.test/octavia foto 1.jpg", "https://x.test/octavia%20foto%201.jpg"),
        ("https://x.test/octavia\u00a0foto.jpg", "https://x.test/octavia%C2%A0foto.jpg"),
        ("https://x.test/citroën.jpg?naam=é&b=1", "https://x.test/citro%C3%ABn.jpg?naam=%C3%A9&b=1"),
        ("https://x.test/100%é.jpg", "https://x.test/100%25%C3%A9.jpg"),
        ("https://x.test/a%20b é.jpg", "https://x.test/a%20b%20%C3%A9.jpg"),
        ("//x.test/1.jpg", "https://x.test/1.jpg"),
        ("//x.test/foto 1.jpg", "https://x.test/foto%201.jpg"),
        ("https://foto's.test:8443/é", None),
        ("https://bücher.test:8443/é", "https://xn--bcher-kva.test:8443/%C3%A9"),
    ],
)
def test_an_address_is_sent_percent_encoded(given_url: str, url: str | None) -> None:
    listing, warnings = warned(images=[given_url])
    assert (listing.images, bool(warnings)) == ((url,) if url else (), url is None)


def test_several_warnings_of_a_listing() -> None:
    listing, warnings = warned(doors=0, gears=0, vin="x" * 40, description="x" * 15_001)
    assert [field for field, _, _ in warnings] == ["doors", "gears", "vin", "description"]
    assert (listing.doors, listing.gears, listing.vin, len(listing.description or "")) == (None, None, None, 15_000)


@pytest.mark.parametrize("status", ["pending", "draft", "sold"])
def test_only_an_active_listing_needs_a_price_above_0(status: str) -> None:
    assert warned(price=0, status=status)[0].price == 0


def test_everything_that_is_wrong_is_told_and_survives_pickling() -> None:
    with pytest.raises(InvalidListing) as caught:
        parsed(title="", price=-1, doors=99, condition="good")
    carried = pickle.loads(pickle.dumps(caught.value))
    assert {issue.field for issue in carried.found} == {"title", "price", "condition"}


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
        found, _ = parse_listing(raw, current_year=2026)
    except InvalidListing:
        return
    body = canonical(json.loads(bulk_item(found)))
    body.pop("externalReference")
    assert issues_of(body) == []


@given(raw_rows())
def test_what_comes_back_unchanged_is_no_difference(raw: dict[str, Any]) -> None:
    try:
        found, _ = parse_listing(raw, current_year=2026)
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
