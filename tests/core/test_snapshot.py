"""What stands for a content tells which fields the next one changes, and costs few bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import compared, encoded_form, filled_fields
from okasie_tasks.core.history import NOT_KEPT
from okasie_tasks.core.listing import bulk_item
from okasie_tasks.core.snapshot import Snapshot, diff, packed, theirs
from tests.core.test_history import listing


def body(**changes: object) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(bulk_item(listing(**changes)))
    return found


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"price": 8000}, ("price", 9500, 8000)),
        ({}, {"price": 8000.5}, ("price", 9500, 8000.5)),
        ({"mileage": 0}, {"mileage": None}, ("mileage", 0, None)),
        ({}, {"status": "draft"}, ("status", "active", "draft")),
        ({"color": "rood"}, {"color": "blauw"}, ("color", NOT_KEPT, "blauw")),
        ({"color": "rood"}, {}, ("color", NOT_KEPT, None)),
        ({}, {"color": "rood"}, ("color", None, "rood")),
        ({}, {"city": "Aalst"}, ("city", NOT_KEPT, "Aalst")),
        ({}, {"condition": "used"}, ("condition", None, "used")),
        ({"customType": "a"}, {"customType": "b"}, ("customType", NOT_KEPT, "b")),
        ({}, {"dealerLocationCode": "AALST"}, ("dealerLocationCode", NOT_KEPT, "AALST")),
        ({"images": ["https://a/1"]}, {"images": ["https://a/2"]}, ("images", NOT_KEPT, "1: https://a/2")),
        ({"images": ["https://a/1"]}, {"images": []}, ("images", NOT_KEPT, None)),
        ({"features": [{"name": "ABS"}]}, {"features": [{"name": "Navi"}]}, ("features", NOT_KEPT, "1: Navi")),
    ],
)  # fmt: skip
def test_the_next_content_tells_what_it_changes(before: Any, after: Any, told: Any) -> None:
    snapshot = Snapshot.unpack(Snapshot.of(body(**before)).pack())
    assert diff(snapshot, body(**after)) == (told,)
    assert diff(snapshot, body(**before)) == ()


def test_without_what_was_sent_before_nothing_is_told() -> None:
    assert diff(None, body()) == ()
    assert theirs(None, compared(listing())) == ()


def test_the_ledger_knows_of_a_sell_that_came_after_what_was_sent() -> None:
    assert diff(Snapshot.of(body()), body(), status="sold") == (("status", "sold", "active"),)


def test_a_row_of_the_marketplace_is_told_against_what_was_sent() -> None:
    snapshot = Snapshot.of(body(color="rood", condition="used", images=["https://a/1"]))
    row = compared(listing(color="ROOD", price=9400))
    assert theirs(snapshot, row) == (("price", 9500, 9400), ("color", NOT_KEPT, "ROOD"))
    assert theirs(snapshot, compared(listing(color="rood"))) == (), "what reads do not return is not compared"


def test_every_field_filled_is_small_and_whole_again() -> None:
    hashes = {
        name: name.encode()[:2] for name in FIELDS if name not in ("price", "mileage", "status", "externalReference")
    }
    snapshot = Snapshot(price=1e9 / 3, mileage=2**62, status="pending", hashes=hashes)
    assert len(snapshot.pack()) <= 130
    assert Snapshot.unpack(snapshot.pack()) == snapshot


@given(price=st.floats(1, 1e12), mileage=st.integers(0, 2**40))
def test_numbers_come_back(price: float, mileage: int) -> None:
    snapshot = Snapshot.of(body(price=price, mileage=mileage))
    assert Snapshot.unpack(snapshot.pack()) == snapshot


@pytest.mark.parametrize("spoiled", [b"", b"\x03", b"\x01" + b"\0" * 7 + b"ab", b"\0" * 8 + b"\x93\xc0\xc0\x63"])
def test_other_bytes_are_refused(spoiled: bytes) -> None:
    with pytest.raises(ValueError, match="no snapshot"):
        Snapshot.unpack(spoiled)


TEXT = st.text(st.characters(categories=("L", "N", "Zs")), min_size=1, max_size=30)
VALUES = {
    "text": TEXT,
    "integer": st.integers(0, 12),
    "number": st.integers(0, 80) | st.floats(0, 80),
    "boolean": st.booleans(),
    "texts": st.lists(TEXT, max_size=3),
    "images": st.lists(st.integers(0, 99).map("https://a.example/{}.jpg".format), max_size=4, unique=True),
    "features": st.lists(st.builds(dict, name=TEXT, category=st.sampled_from(["safety", "comfort"])), max_size=3),
}
CHOSEN = {"status", "currency", "dealerProfileId", "dealerLocationCode", "externalReference", "firstRegistration"}
FILLED = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: st.sampled_from(sorted(spec.choices)) if spec.choices else VALUES[spec.kind]
            for name, spec in FIELDS.items()
            if name not in CHOSEN
        },
        "status": st.sampled_from(["active", "pending", "draft", "sold"]),
        "price": st.integers(1, 90) | st.floats(1, 90),
        "currency": st.just("EUR"),
        "firstRegistration": st.sampled_from(["2021-05", "05/2021", "2021-05-31"]),
        "dealerLocationCode": st.sampled_from(["GENT", "Aalst", "ß"]),
    },
)


@given(FILLED)
def test_it_is_the_same_without_the_body(values: dict[str, Any]) -> None:
    car = listing(**values)
    body = msgspec.json.decode(bulk_item(car))
    assert packed(encoded_form(car), filled_fields(car), car.currency) == Snapshot.of(body).pack()
