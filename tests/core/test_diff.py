"""The decision table, one row a test; then what holds for every row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.decision import Decision, World
from okasie_tasks.core.diff import decide
from okasie_tasks.core.entry import Entry, Flag
from okasie_tasks.core.fingerprint import compared, compared_fingerprint, content_fingerprint, encode_compared
from okasie_tasks.core.listing import Issue, Listing, parse_listing
from okasie_tasks.core.records import Local, Remote

DEALER, OTHER = b"dea1", b"dea2"
FULL = World(full=True, walk_complete=True, source_complete=True)
LATER = msgspec.structs.replace(FULL, began_ms=1_000, source_began_ms=2_000)
"""A run that began to read the marketplace at 1,000 ms and the source at 2,000 ms."""
OURS = Flag.OWNED | Flag.IN_SOURCE


def listing(**changes: Any) -> Listing:
    raw = {
        "externalReference": "A-1", "status": "active", "title": "Skoda Octavia", "price": 17450, "mileage": 88200,
        "powerKw": 85, "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
    }  # fmt: skip
    return parse_listing(raw | changes, current_year=2026)


def local(form: bool = False, version: int = 0, **changes: Any) -> Local:
    car = listing(**changes)
    return Local(
        reference="A-1", row=1, content=content_fingerprint(car), rendering=compared_fingerprint(compared(car)),
        dealer=DEALER, status=car.status, version=version, form=encode_compared(compared(car)) if form else None,
    )  # fmt: skip


def remote(
    form: bool = False, dealer: bytes = DEALER, changed_at: int = 100, images: int = 0, **changes: Any
) -> Remote:
    car = listing(**changes)
    return Remote(
        id="id-1", reference="A-1", status=car.status, changed_at=changed_at, dealer_code=dealer, images=images,
        rendering=compared_fingerprint(compared(car)), form=encode_compared(compared(car)) if form else None,
    )  # fmt: skip


def base(
    flags: Flag = OURS, row: Listing | None = None, version: int = 0, missed: int = 0, seen: int = 0, sent: int = 0,
    **changes: Any,
) -> Entry:  # fmt: skip
    car = listing(**changes)
    return Entry(
        content=content_fingerprint(car), row=content_fingerprint(row or car), dealer=DEALER, status=car.status,
        rendering=compared_fingerprint(compared(car)), flags=flags, version=version, missed=missed,
        seen_ms=seen, sent_ms=sent,
    )  # fmt: skip


GIVEN = OURS | Flag.URGENT | Flag.GIVEN

INVALID = Local(reference="A-1", row=1, issues=(Issue("price", "not_a_number", "expected a number, got 'N/A'"),))

# local, marketplace's row, same as the ledger's picture, ledger, world -> action, words of the reason
TABLE: dict[str, tuple[Local | None, Remote | None, bool, Entry | None, World, str, str]] = {
    "same, same": (local(), None, True, base(), FULL, "none", "equal"),
    "changed, same": (local(price=17000), None, True, base(), FULL, "update", "changed in the source"),
    "same, changed: ours again": (local(), remote(price=1), False, base(), FULL, "update", "ours sent again"),
    "same, changed: policy remote": (
        local(), remote(price=1), False, base(), msgspec.structs.replace(FULL, policy="remote"), "none", "theirs stands",
    ),
    "both changed: ours": (local(price=2), remote(price=1), False, base(), FULL, "update", "changed on both sides, ours"),
    "both changed: theirs": (
        local(price=2), remote(price=1), False, base(), msgspec.structs.replace(FULL, policy="remote"), "none",
        "changed on both sides, theirs",
    ),
    "both changed: newest is ours": (
        local(price=2, version=200_000), remote(price=1), False, base(),
        msgspec.structs.replace(FULL, policy="newest"), "update", "changed on both sides, ours",
    ),
    "both changed: newest is theirs": (
        local(price=2, version=50_000), remote(price=1), False, base(),
        msgspec.structs.replace(FULL, policy="newest"), "none", "changed on both sides, theirs",
    ),
    "new, absent": (local(), None, False, None, FULL, "create", "new"),
    "new, no base, present and equal": (local(), remote(), False, None, FULL, "none", "adopted"),
    "new, no base, present, different": (
        local(form=True), remote(form=True, price=1), False, None, FULL, "update", "different",
    ),
    "new, no base, equal within tolerance": (
        local(form=True), remote(form=True, powerKw=85.3), False, None, FULL, "none", "adopted",
    ),
    "new, no base, other number of images": (local(), remote(images=3), False, None, FULL, "update", "different"),
    "new, no base, other dealer": (local(), remote(dealer=OTHER), False, None, FULL, "update", "different"),
    "gone, live and owned": (None, None, True, base(), FULL, "sell", "gone"),
    "gone, live, never ours": (None, remote(), False, None, FULL, "none", "never ours"),
    "gone, in the ledger but not owned": (None, None, True, base(Flag.IN_SOURCE), FULL, "none", "not owned"),
    "gone, sold": (None, remote(status="sold"), False, base(), FULL, "none", "sold on both sides"),
    "gone, sold long ago": (None, None, True, base(Flag.OWNED, status="sold"), FULL, "none", "sold on both sides"),
    "gone on both sides": (None, None, False, base(), FULL, "none", "gone on both sides"),
    "present, sold by someone": (local(), remote(status="sold"), False, base(), FULL, "none", "sold on the marketplace"),
    "present, sold by someone, then changed here": (
        local(price=2), remote(status="sold"), False, base(), FULL, "update", "after it was sold",
    ),
    "present, no base, sold by someone": (local(), remote(status="sold"), False, None, FULL, "none", "sold on the market"),
    "back in the source after we sold it": (local(), None, True, base(Flag.OWNED, status="sold"), FULL, "update", "back"),
    "sold by hand, the row still stands": (
        local(), None, True, base(OURS | Flag.SOLD_BY_HAND, status="sold"), FULL, "none", "by hand",
    ),
    "sold in the source": (local(status="sold"), None, True, base(), FULL, "sell", "sold in the source"),
    "sold in the source, never listed": (local(status="sold"), None, False, None, FULL, "none", "before it was ever"),
    "invalid": (INVALID, None, True, base(), FULL, "none", "invalid"),
    "invalid and new": (INVALID, None, False, None, FULL, "none", "invalid"),
    "older than what was pushed": (
        local(price=2, version=5), None, True, base(version=9), FULL, "none", "older than what was pushed",
    ),
    "pushed price, the source row unchanged": (
        local(), None, True, base(row=listing(), price=15000), FULL, "none", "equal",
    ),
    "pushed car that the source never had": (None, None, True, base(Flag.OWNED), FULL, "none", "not from the source"),
    "gone, but the source was not read to its end": (
        None, None, True, base(), msgspec.structs.replace(FULL, source_complete=False), "none", "not read completely",
    ),
    "gone, but one more read is asked for": (
        None, None, True, base(), msgspec.structs.replace(FULL, missing_reads=2), "none", "waiting for another",
    ),
    "gone for the second time of two": (
        None, None, True, base(missed=1), msgspec.structs.replace(FULL, missing_reads=2), "sell", "gone",
    ),
    "gone, but this account never sells": (
        None, None, True, base(), msgspec.structs.replace(FULL, sells=False), "none", "never sells",
    ),
    "missing on the marketplace": (local(), None, False, base(), FULL, "create", "missing on the marketplace"),
    "missing, but the walk was not complete": (
        local(), None, False, base(), msgspec.structs.replace(FULL, walk_complete=False), "none", "equal",
    ),
    "echo as expected": (local(form=True), remote(), False, base(OURS | Flag.ECHO_DUE), FULL, "none", "equal"),
    "echo rounded: learned": (
        local(form=True), remote(form=True, powerKw=85.3), False, base(OURS | Flag.ECHO_DUE), FULL, "none", "learned",
    ),
    "echo with another price: never learned": (
        local(form=True), remote(form=True, price=1), False, base(OURS | Flag.ECHO_DUE), FULL, "update", "ours sent again",
    ),
    "the same price came back after we sent ours again": (
        local(form=True), remote(form=True, price=1), False, base(OURS | Flag.ECHO_DUE | Flag.RESENT), FULL, "none",
        "keeps its own value",
    ),
    "another text came back after we sent ours again": (
        local(form=True), remote(form=True, title="OCTAVIA!"), False, base(OURS | Flag.ECHO_DUE | Flag.RESENT), FULL,
        "none", "learned",
    ),
    "moved to another dealer there": (local(), remote(dealer=OTHER), False, base(), FULL, "update", "ours sent again"),
    # -- beside the urgent lane
    "changed in the source before the push": (
        local(price=2), None, True, base(GIVEN, row=listing(), price=1, seen=2_500), LATER, "none", "older than what was",
    ),
    "changed in the source after the push": (
        local(price=2), None, True, base(GIVEN, row=listing(), price=1, seen=1_500), LATER, "update", "changed in the",
    ),
    "changed before the push, but newer by the source's own version": (
        local(price=2, version=9), None, True, base(GIVEN, row=listing(), price=1, seen=2_500, version=5), LATER,
        "update", "changed in the source",
    ),
    "gone before the push": (None, None, True, base(GIVEN, seen=2_500), LATER, "none", "pushed after the source"),
    "gone after the push": (None, None, True, base(GIVEN, seen=1_500), LATER, "sell", "gone from the source"),
    "the page was read before the push was sent": (
        local(), remote(price=1), False, base(sent=1_500), LATER, "none", "equal",
    ),
    "pushed, its row unchanged, its echo rendered": (
        local(form=True), remote(form=True, price=15000.5), False,
        base(GIVEN | Flag.ECHO_DUE, row=listing(), price=15000), FULL, "none", "its row stands",
    ),
    "pushed, its row unchanged, then edited there": (
        local(form=True), remote(form=True, price=1), False, base(GIVEN, row=listing(), price=15000), FULL, "none",
        "theirs stands",
    ),
    "pushed although its row says sold": (
        local(status="sold"), None, True, base(GIVEN, row=listing(status="sold")), FULL, "none", "its row stands",
    ),
    "pushed, then sold there by someone": (
        local(), remote(status="sold"), False, base(GIVEN, row=listing()), FULL, "none", "sold on the marketplace",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_decision(name: str) -> None:
    row, there, same, entry, world, action, reason = TABLE[name]
    decision = decide(row, there, entry, world, same=same)
    assert (decision.action, reason in decision.reason) == (action, True), decision


def settled(decision: Decision, entry: Entry | None) -> Entry:
    result = decision.entry or entry
    assert result is not None
    return result


def test_a_learned_rendering_costs_nothing_afterwards() -> None:
    first = decide(local(form=True), remote(form=True, powerKw=85.3), base(OURS | Flag.ECHO_DUE), FULL, same=False)
    entry = settled(first, None)
    assert not entry.having(Flag.ECHO_DUE)
    again = decide(local(), remote(powerKw=85.3), entry, FULL, same=False)
    assert (again.action, again.entry) == ("none", None)


def test_a_disputed_price_is_counted_every_time_but_sent_no_more() -> None:
    entry = base(OURS | Flag.ECHO_DUE | Flag.RESENT)
    for _ in range(3):
        decision = decide(local(form=True), remote(form=True, price=1), entry, FULL, same=False)
        assert (decision.action, decision.count) == ("none", "conflicts")
        entry = settled(decision, entry)


def test_their_version_is_recorded_once_and_then_stands() -> None:
    world = msgspec.structs.replace(FULL, policy="remote")
    first = decide(local(), remote(price=1), base(), world, same=False)
    assert (first.action, first.count) == ("none", "drifted")
    again = decide(local(), remote(price=1), settled(first, None), world, same=False)
    assert (again.action, again.count) == ("none", "unchanged")


def test_a_missing_read_is_forgotten_when_the_car_is_back() -> None:
    world = msgspec.structs.replace(FULL, missing_reads=3)
    away = decide(None, None, base(), world, same=True)
    assert settled(away, None).missed == 1
    back = decide(local(), None, settled(away, None), world, same=True)
    assert settled(back, None).missed == 0


def test_an_invalid_row_proves_that_the_car_is_there() -> None:
    world = msgspec.structs.replace(FULL, missing_reads=2)
    entry = settled(decide(INVALID, None, base(missed=1), world, same=True), None)
    assert entry.missed == 0
    assert entry.row == base().row  # what the row said when it was last valid


def test_a_push_is_not_undone_by_the_absence_it_came_after() -> None:
    """The row had vanished when the car was pushed: the next read, which lacks it too, sells nothing either."""
    pushed = base(GIVEN, seen=2_500)
    entry = settled(decide(None, None, pushed, LATER, same=True), pushed)
    assert decide(None, None, entry, msgspec.structs.replace(LATER, source_began_ms=9_000), same=True).action == "none"


def test_a_row_older_than_a_push_that_read_the_source_is_not_taken_for_its_row() -> None:
    pushed = base(OURS | Flag.URGENT, price=3, seen=2_500)
    assert decide(local(price=2), None, pushed, LATER, same=True).entry is None


@pytest.mark.parametrize(
    "world",
    [msgspec.structs.replace(FULL, source_complete=False), msgspec.structs.replace(LATER, source_began_ms=1_500)],
    ids=["half a read", "a read from before the sell"],
)
@pytest.mark.parametrize("flags", [OURS | Flag.SOLD_BY_HAND, OURS], ids=["by hand", "by someone"])
def test_a_sold_car_is_not_revived_by_an_absence_that_proves_nothing(world: World, flags: Flag) -> None:
    sold = base(flags, row=listing(), status="sold", seen=1_800 if world.source_complete else 0)
    entry = settled(decide(None, None, sold, world, same=True), sold)
    assert (
        decide(local(), None, entry, msgspec.structs.replace(FULL, source_began_ms=9_000), same=True).action == "none"
    )


def test_sold_by_hand_ends_when_the_row_was_absent_once() -> None:
    sold = base(OURS | Flag.SOLD_BY_HAND, status="sold")
    absent = settled(decide(None, None, sold, FULL, same=True), sold)
    assert decide(local(), None, absent, FULL, same=True).action == "update"


entries = st.builds(
    base, flags=st.integers(0, 511).map(Flag), seen=st.sampled_from([0, 1_500, 2_500]), missed=st.integers(0, 3), price=st.integers(1, 3),
    status=st.sampled_from(["active", "pending", "draft", "sold"]),
)  # fmt: skip
worlds = st.builds(
    World, source_began_ms=st.sampled_from([0, 2_000]), full=st.booleans(), walk_complete=st.booleans(), source_complete=st.booleans(),
    policy=st.sampled_from(["local", "remote", "newest"]), missing_reads=st.integers(1, 3), sells=st.booleans(),
)  # fmt: skip
rows = st.none() | st.just(INVALID) | st.builds(local, form=st.booleans(), price=st.integers(1, 3))
theirs = st.none() | st.builds(remote, form=st.booleans(), price=st.integers(1, 3))


@given(rows, theirs, st.none() | entries, worlds, st.booleans())
def test_a_sell_always_has_its_proofs(
    row: Local | None, there: Remote | None, entry: Entry | None, world: World, same: bool
) -> None:
    decision = decide(row, there, entry, world, same=same)
    assert decision.reason
    if decision.action != "sell":
        return
    assert entry is not None
    assert entry.having(Flag.OWNED)
    assert world.sells
    if row is None:
        assert world.source_complete
        assert entry.having(Flag.IN_SOURCE)
        assert entry.missed + 1 >= world.missing_reads


@given(entries)
def test_an_entry_survives_packing(entry: Entry) -> None:
    assert Entry.unpack(entry.pack()) == entry
    assert len(entry.pack()) == 63


@pytest.mark.parametrize("data", [b"", b"\x09" + b"\0" * 62, b"\x02" + b"\xff" * 62])
def test_bytes_that_are_no_entry_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="ledger entry"):
        Entry.unpack(data)
