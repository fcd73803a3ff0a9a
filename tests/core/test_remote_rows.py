"""Questions put to packed entries have the answers of the slow way, and pages decoded straight are the same pages."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.decision import ReadEvidence
from okasie_tasks.core.fields import FIELDS, PLACE
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, compared_fingerprint, dealer_fingerprint, encoded_form
from okasie_tasks.core.ledger_entry import (
    ABSENT,
    SHARED,
    STATUSES,
    Entry,
    Flag,
    entry_state,
    is_as_read,
    is_as_rendered,
    shared,
)
from okasie_tasks.core.reconcile import decide
from okasie_tasks.core.records import Local
from okasie_tasks.core.remote_rows import KnownRow, RemoteListing, decode_rows, read_remote
from okasie_tasks.core.row_cache import RowCache, raw_fingerprint
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.ports import SourceRow
from okasie_tasks.sync.fetch import remote_record
from okasie_tasks.sync.load import local_record

CODE = dealer_fingerprint("code", "GENT")
DRAFT = {"externalReference": "A", "title": "Golf", "status": "draft", "dealerLocationCode": "GENT"}
CAR = parse_listing(DRAFT, current_year=2026).listing
FORM, ROW = encoded_form(CAR), SourceRow(1, "A", CAR)
SIXES = st.integers(0, 2**48 - 1)
ENTRIES = st.builds(
    Entry,
    content=st.binary(min_size=8, max_size=8),
    rendering=st.sampled_from([b"r" * 8, compared_fingerprint(())]),
    row=st.sampled_from([FORM.content, b"x" * 8]),
    dealer=st.sampled_from([CODE, b"else"]),
    filled=st.integers(0, 2**49),
    status=st.sampled_from(STATUSES),
    flags=st.sets(st.sampled_from(list(Flag))).map(lambda flags: Flag(sum(flag.value for flag in flags))),
    missed=st.sampled_from([0, 0, 1, 255]),
    sent_ms=SIXES,
    version=SIXES,
    seen_ms=SIXES,
)


@given(ENTRIES, st.sampled_from(["active", "sold", "draft", ""]))
def test_a_row_of_the_marketplace_is_judged_alike(entry: Entry, status: str) -> None:
    row = RemoteListing("id", "A", "us", status or None, None, None, "Gent", 0, ())
    quick = is_as_rendered(entry.pack(), compared_fingerprint(row.compared), status, (b"", CODE))
    assert quick is (remote_record(row, entry) is None)


@given(ENTRIES)
def test_a_row_of_the_source_is_judged_alike(entry: Entry) -> None:
    assert is_as_read(entry.pack(), FORM.content) is (local_record(ROW, FORM, entry) is None)


@given(ENTRIES, st.booleans())
def test_what_is_settled_needs_no_decision(entry: Entry, full: bool) -> None:
    found = entry_state(entry.pack())
    assert found == shared(entry.pack()[SHARED])
    assert (found.dealer, found.filled, found.status) == (entry.dealer, entry.filled, entry.status)
    assert found.ours is (entry.live and entry.has(Flag.OWNED))
    if found.settled:
        local = Local("A", 1, content=entry.row, dealer=entry.dealer, filled=entry.filled, status=entry.status)
        evidence = ReadEvidence(full=full, walk_complete=True, source_complete=True, began_ms=1, source_began_ms=2)
        decision = decide(local, None, entry, evidence, same=True)
        assert (decision.action, decision.count, decision.entry) == ("none", "unchanged", None)


def test_nothing_is_known_of_what_is_not_there_and_other_layouts_are_refused() -> None:
    assert not entry_state(ABSENT).settled
    assert not entry_state(ABSENT).ours
    with pytest.raises(ValueError, match="layout 9"):
        entry_state(b"\x09" + ABSENT[1:])


# -- pages -----------------------------------------------------------------------------------------------------------

TEXT = st.sampled_from(["", " ", "Golf", " Golf ", "2020-09-01", "é\u00a0"])
NUMBER = st.sampled_from([0, 17450, 17450.0, 85.3, -1, 2**63 - 1, 1e300])
OF_KIND: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "integer": NUMBER,
    "number": NUMBER,
    "boolean": st.booleans(),
    "texts": st.lists(TEXT, max_size=3),
    "features": st.lists(st.fixed_dictionaries({"name": TEXT}, optional={"category": st.none() | TEXT}), max_size=3),
    "images": st.lists(st.fixed_dictionaries({"url": TEXT, "position": st.integers(0, 9)}), max_size=3),
}
ODD = st.sampled_from([2**63, 2**70, "12", True, [], {}, [1], [{"feature": "x"}], [{}], "2027-02-11", 1.5, "bulk"])


def _values(odd: bool) -> st.SearchStrategy[dict[str, Any]]:
    def value(kind: str) -> st.SearchStrategy[Any]:
        usual = st.none() | OF_KIND[kind]
        return usual | ODD if odd else usual

    place = {name: value(FIELDS[name].kind) for name in PLACE}
    fields = {name: value(spec.kind) for name, spec in FIELDS.items() if name not in PLACE}
    more = {
        "location": st.none() | st.fixed_dictionaries({}, optional=place),
        "id": st.sampled_from(["one", "two"]) if not odd else st.sampled_from(["one", "", None, 5]),
        "externalProvider": st.none() | TEXT,
        "updatedAt": st.sampled_from(
            [None, "2027-02-11T06:12:30Z", "2027-02-11T06:12:30+01:00", "2027-02-11T06:12:30"]
        ),
        "dealer": st.none() | st.fixed_dictionaries({}, optional={"id": TEXT, "locationCode": TEXT, "name": TEXT}),
        "slug": TEXT,
    }
    return st.fixed_dictionaries({"id": more.pop("id")}, optional=fields | more)


def plain(rows: list[RemoteListing | KnownRow | None]) -> list[Any]:
    """Rows without the hash of their bytes, which `read_remote` does not see."""
    return [row and msgspec.structs.replace(row, raw=b"") for row in rows]


@given(st.lists(_values(odd=False), max_size=3))
def test_a_page_as_the_contract_tells_it_is_decoded_straight(rows: list[dict[str, Any]]) -> None:
    page = decode_rows(json.dumps({"data": rows, "pagination": {"page": 1}, "meta": {}}).encode())
    assert page is not None
    assert plain(page.data) == [read_remote(row) for row in rows]


@given(_values(odd=True))
def test_a_page_with_anything_else_is_the_same_or_left_to_the_slow_way(row: dict[str, Any]) -> None:
    page = decode_rows(json.dumps({"data": [row], "pagination": {}}).encode())
    assert page is not None
    assert plain(page.data) == [read_remote(row)]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":{},"pagination":{}}'])
def test_what_is_no_page_is_left_to_the_slow_way(body: bytes) -> None:
    assert decode_rows(body) is None


FULL = {"id": "1", "externalReference": "A", "location": dict.fromkeys(PLACE), "dealerProfileId": "d"} | {
    "dealer": {"id": "d", "locationCode": "GENT"}, **dict.fromkeys(name for name in COMPARED_FIELDS if name not in PLACE)
}  # fmt: skip


@pytest.mark.parametrize("name", [*COMPARED_FIELDS, "location"])
def test_what_a_row_does_not_contain_or_say_readably_is_unknown_and_null_is_empty(name: str) -> None:
    lacking, odd = json.loads(json.dumps(FULL)), json.loads(json.dumps(FULL))
    del (lacking["location"] if name in PLACE else lacking)[name]
    (odd["location"] if name in PLACE else odd)[name] = [{"odd": 1}]
    unknown = sum(1 << COMPARED_FIELDS.index(field) for field in (PLACE if name == "location" else (name,)))
    for raw, absent in ((FULL, 0), (lacking, unknown), (odd, unknown)):
        page = decode_rows(msgspec.json.encode({"data": [raw], "pagination": {}}))
        for found in [read_remote(raw), *(page.data if page is not None else [])]:
            assert found is not None
            assert found.absent == absent, raw


def test_times_beyond_the_calendar_are_no_times() -> None:
    row = {"id": "1", "updatedAt": "0001-01-01T00:00:00+01:00"}
    page = decode_rows(msgspec.json.encode({"data": [row], "pagination": {}}))
    assert page is not None
    (found,) = plain(page.data)
    assert found == read_remote(row)
    assert found is not None
    assert found.updated_at is None


# -- rows of the source ----------------------------------------------------------------------------------------------


def test_rows_are_known_under_the_same_version_only() -> None:
    first = RowCache(number=5)
    first.under(b"version1")
    first.note(raw_fingerprint(b"a"), b"contentA")
    first.note_same(raw_fingerprint(b"b"), b"key of B")
    kept = first.pack()
    assert kept is not None
    again = RowCache(kept)
    again.under(b"version1")
    assert again.contents == {raw_fingerprint(b"a"): b"contentA"}
    assert again.same == {raw_fingerprint(b"b"): b"key of B"}
    other = RowCache(kept)
    other.under(b"version2")
    assert (other.contents, other.same) == ({}, {})
    assert RowCache(kept).pack() is None, "a source that tells no version keeps nothing"
