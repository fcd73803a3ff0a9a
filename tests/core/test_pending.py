"""The urgent lane's changes: which of two stands, what is dropped, what the ledger holds afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.ledger_entry import Entry, Flag, Version
from okasie_tasks.core.pending import PendingChange, is_superseded, merged, pushed, sold
from okasie_tasks.core.records import Outgoing


def item(**changes: Any) -> Outgoing:
    fields: dict[str, Any] = {
        "reference": "A-1", "action": "push", "reason": "pushed", "body": b"{}", "content": b"c" * 8,
        "rendering": b"r" * 8, "dealer": b"dea1", "filled": 3, "version": 0, "row": b"w" * 8,
    }  # fmt: skip
    return Outgoing(**fields | changes)


def pending_change(
    seen: int = 100, own: int = 0, *, sells: bool = False, waiters: tuple[str, ...] = ("p",), **more: Any
) -> PendingChange:
    return PendingChange("A-1", own, seen, waiters, None if sells else item(), "sold" if sells else "active", **more)


versions = st.builds(Version, own=st.sampled_from([0, 5, 9]), seen_ms=st.integers(0, 4))


@pytest.mark.parametrize(
    ("one", "other", "older"),
    [
        (Version(0, 1), Version(0, 2), True),
        (Version(0, 2), Version(0, 2), False),
        (Version(5, 9), Version(9, 1), True),
        (Version(9, 1), Version(5, 9), False),
        (Version(5, 1), Version(5, 2), True),
        (Version(9, 1), Version(0, 2), True),
    ],
)
def test_the_sources_own_version_decides_where_both_have_one(one: Version, other: Version, older: bool) -> None:
    assert one.older_than(other) is older


@given(versions, versions)
def test_of_two_versions_at_most_one_is_older(one: Version, other: Version) -> None:
    assert not (one.older_than(other) and other.older_than(one))
    assert not one.older_than(one)


def test_the_newer_wish_stands_and_both_callers_are_told() -> None:
    first, second = (
        pending_change(100, waiters=("p1",), tries=2, not_before_ms=9),
        pending_change(200, sells=True, waiters=("p2",)),
    )
    for held, new in ((first, second), (second, first)):
        stands = merged(held, new)
        assert (stands.kind, stands.seen_ms, stands.tries) == ("sell", 200, 0)
        assert set(stands.waiters) == {"p1", "p2"}


def test_the_same_push_delivered_twice_is_one() -> None:
    assert merged(pending_change(), pending_change()) == pending_change()


def test_of_two_at_the_same_moment_the_later_one_stands() -> None:
    assert merged(pending_change(100), pending_change(100, sells=True)).kind == "sell"


@pytest.mark.parametrize(
    ("mine", "entry", "late"),
    [
        (pending_change(100), None, False),
        (pending_change(100), Entry(seen_ms=100), False),
        (pending_change(100), Entry(seen_ms=101), True),
        (pending_change(100, own=9), Entry(seen_ms=101, version=5), False),
        (pending_change(100, own=5), Entry(seen_ms=99, version=9), True),
        (pending_change(100, sells=True), Entry(seen_ms=101), False),
        (pending_change(100, sells=True), Entry(seen_ms=101, flags=Flag.URGENT), True),
    ],
)
def test_what_is_older_than_the_ledger_is_dropped_but_a_run_does_not_undo_a_sell(
    mine: PendingChange, entry: Entry | None, late: bool
) -> None:
    assert is_superseded(mine, entry) is late


def test_a_content_that_was_handed_in_leaves_the_sources_row_as_it_was() -> None:
    before = Entry(row=b"o" * 8, flags=Flag.OWNED | Flag.IN_SOURCE | Flag.SOLD_BY_HAND | Flag.REJECTED, missed=1)
    after = pushed(pending_change(100, own=7, inline=True), item(), before, status="active", now_ms=150)
    assert (after.row, after.missed, after.stamp, after.sent_ms) == (b"o" * 8, 1, Version(7, 100), 150)
    assert after.flags == Flag.OWNED | Flag.IN_SOURCE | Flag.ECHO_DUE | Flag.URGENT | Flag.INLINE_CONTENT


def test_a_row_that_was_read_is_the_row_the_ledger_knows() -> None:
    after = pushed(pending_change(100), item(), None, status="active", now_ms=150)
    assert (after.row, after.flags) == (b"w" * 8, Flag.OWNED | Flag.IN_SOURCE | Flag.ECHO_DUE | Flag.URGENT)


def test_a_sell_forgets_the_version_of_what_stood_there() -> None:
    """So that a later push of a row that did not change since is newer, by the moment it was accepted."""
    after = sold(
        pending_change(100, sells=True),
        Entry(version=900, row=b"o" * 8, flags=Flag.OWNED | Flag.INLINE_CONTENT),
        now_ms=150,
    )
    assert (after.status, after.stamp, after.row) == ("sold", Version(0, 100), b"o" * 8)
    assert after.flags == Flag.OWNED | Flag.SOLD_BY_HAND | Flag.URGENT
    assert not is_superseded(pending_change(101, own=900), after)


def test_a_row_that_said_sold_is_not_revived_by_an_older_version() -> None:
    """A sell that came from a row has that row's version: what is handed in later with an older one is of the past."""
    entry = sold(pending_change(1, 200, sells=True), None, now_ms=5)
    assert is_superseded(pending_change(9, 100, inline=True), entry)
    assert not is_superseded(pending_change(9, 300, inline=True), entry)
