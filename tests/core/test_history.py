"""Events: small, whole again after packing, and with both versions of what differed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import compared
from okasie_tasks.core.history import EVENT_BYTES, KINDS, Event, both_versions, brief, fit, pack, unpack
from okasie_tasks.core.validate import parse_listing

RUN, REQUEST = "01J9ZZZZZZ0123456789ABCDEF", "0123456789abcdef0123456789abcdef"
ANY_TEXT = st.text(st.characters(), max_size=300)  # halves of surrogate pairs among them
VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), ANY_TEXT).map(brief)
EVENT = st.builds(
    Event,
    at_ms=st.integers(0, 2**48),
    kind=st.sampled_from((*KINDS, "odd")),
    reason=st.sampled_from(("new in the source", "pushed")) | ANY_TEXT,
    run=st.sampled_from(("", RUN, RUN.lower())) | ANY_TEXT,
    request_id=st.sampled_from(("", REQUEST, REQUEST.upper())) | ANY_TEXT,
    changes=st.lists(st.tuples(st.sampled_from(tuple(FIELDS)), VALUE, VALUE), max_size=40).map(tuple),
    code=ANY_TEXT,
    message=ANY_TEXT,
    warnings=st.lists(ANY_TEXT, max_size=4).map(tuple),
)


def listing(**changes: object) -> Any:
    raw = {
        "externalReference": "A", "status": "active", "title": "Skoda Octavia", "price": 9500, "mileage": 88200,
        "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
    }  # fmt: skip
    return parse_listing(raw | changes, current_year=2026).listing


@given(EVENT)
def test_whatever_happened_fits_and_comes_back_as_it_was_kept(event: Event) -> None:
    kept = fit(event)
    packed = pack(kept)
    assert len(packed) <= EVENT_BYTES
    assert unpack(packed) == kept
    assert fit(kept) == kept
    assert len(kept.changes) + kept.left_out == len(event.changes)
    assert (kept.at_ms, kept.kind) == (event.at_ms, event.kind)


def test_an_event_of_a_run_needs_few_bytes() -> None:
    assert len(pack(Event(1_800_000_000_000, "created", "new in the source", RUN, REQUEST))) < 50


def test_of_many_changes_the_price_is_not_left_out_and_the_rest_is_counted() -> None:
    texts = dict.fromkeys(
        ("brand", "model", "variant", "color", "fuelType", "bodyType", "engine", "driveType"), "é" * 60
    )
    ours, theirs = listing(), listing(price=1, **texts)
    event = Event(1, "drift", "r", changes=both_versions(compared(ours), compared(theirs)))
    kept = fit(event)
    assert kept.changes[0] == ("price", 9500, 1)
    assert kept.left_out == len(event.changes) - len(kept.changes) > 0


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({"price": 9500}, {"price": 8750.5}, ("price", 9500, 8750.5)),
        ({"status": "active"}, {"status": "draft"}, ("status", "active", "draft")),
        ({"color": "rood"}, {}, ("color", "rood", None)),
        ({}, {"warranty": True}, ("warranty", None, True)),
        ({"description": "a" * 60 + "ONE"}, {"description": "a" * 60 + "TWO"}, ("description", "…aaaaaaaaaaONE", "…aaaaaaaaaaTWO")),
        ({"description": "b" * 60}, {"description": "c"}, ("description", "b" * 39 + "…", "c")),
        ({"conditionTags": ["x", "y"]}, {"conditionTags": ["y", "z", "q"]}, ("conditionTags", "1: x", "2: q, z")),
        ({"conditionTags": ["x", "y"]}, {"conditionTags": ["y"]}, ("conditionTags", "1: x", "1 in all")),
        (
            {"features": [{"name": "Navi"}, {"name": "ABS", "category": "safety"}]}, {"features": [{"name": "Navi"}]},
            ("features", "1: ABS", "1 in all"),
        ),
    ],
)  # fmt: skip
def test_both_versions_are_told_where_they_differ(ours: Any, theirs: Any, told: Any) -> None:
    assert both_versions(compared(listing(**ours)), compared(listing(**theirs))) == (told,)
    assert both_versions(compared(listing(**ours)), compared(listing(**ours))) == ()


def test_the_same_news_at_another_time_is_the_same() -> None:
    event = Event(1, "drift", "r", changes=(("price", 1, 2),))
    assert event.same_as(msgspec.structs.replace(event, at_ms=2, run="other"))
    assert not event.same_as(msgspec.structs.replace(event, changes=(("price", 1, 3),)))
    assert not event.same_as(None)


@pytest.mark.parametrize("spoiled", [b"", b"\xc1", b"\x01", b"\x90", b"\x93\x01\x01"])
def test_other_bytes_are_refused(spoiled: bytes) -> None:
    with pytest.raises(ValueError, match="no event"):
        unpack(spoiled)


def test_what_a_newer_release_has_written_can_still_be_told() -> None:
    newer = msgspec.msgpack.encode([1, 99, 98, "", "", [(200, 1, 2)], 0, "", "", [], "", "more"])
    assert unpack(newer) == Event(1, "#99", "#98", changes=(("#200", 1, 2),))
