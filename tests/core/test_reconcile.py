"""What holds for every decision, and how one decision leads to the next; the table is in `test_decision_table`."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.reconcile import Decision, ReadEvidence, decide
from okasie_tasks.core.records import Local, Remote
from tests.core.cases import FULL, INLINE_CONTENT, INVALID, LATER, OURS, base, listing, local, remote, resent


def settled(decision: Decision, entry: Entry | None) -> Entry:
    result = decision.entry or entry
    assert result is not None
    return result


def test_a_learned_rendering_costs_nothing_afterwards() -> None:
    first = decide(
        local(with_values=True), remote(with_values=True, powerKw=85.3), base(OURS | Flag.ECHO_DUE), FULL, same=False
    )
    entry = settled(first, None)
    assert not entry.has(Flag.ECHO_DUE)
    again = decide(local(), remote(powerKw=85.3), entry, FULL, same=False)
    assert (again.action, again.entry) == ("none", None)


def test_a_disputed_price_is_counted_every_time_but_sent_no_more() -> None:
    entry = resent(remote(price=1))
    for _ in range(3):
        decision = decide(local(with_values=True), remote(with_values=True, price=1), entry, FULL, same=False)
        assert (decision.action, decision.count) == ("none", "conflicts")
        entry = settled(decision, entry)


def test_their_version_is_recorded_once_and_then_stands() -> None:
    evidence = msgspec.structs.replace(FULL, policy="remote")
    first = decide(local(), remote(price=1), base(), evidence, same=False)
    assert (first.action, first.count) == ("none", "drifted")
    again = decide(local(), remote(price=1), settled(first, None), evidence, same=False)
    assert (again.action, again.count) == ("none", "unchanged")


def test_a_missing_read_is_forgotten_when_the_car_is_back() -> None:
    evidence = msgspec.structs.replace(FULL, missing_reads=3)
    away = decide(None, None, base(), evidence, same=True)
    assert settled(away, None).missed == 1
    back = decide(local(), None, settled(away, None), evidence, same=True)
    assert settled(back, None).missed == 0


def test_an_invalid_row_proves_that_the_car_is_there() -> None:
    evidence = msgspec.structs.replace(FULL, missing_reads=2)
    entry = settled(decide(INVALID, None, base(missed=1), evidence, same=True), None)
    assert entry.missed == 0
    assert entry.row == base().row  # what the row said when it was last valid


def test_a_push_is_not_undone_by_the_absence_it_came_after() -> None:
    """The row had vanished when the car was pushed: the next read, which lacks it too, sells nothing either."""
    pushed = base(INLINE_CONTENT, seen=2_500)
    entry = settled(decide(None, None, pushed, LATER, same=True), pushed)
    assert decide(None, None, entry, msgspec.structs.replace(LATER, source_began_ms=9_000), same=True).action == "none"


def test_a_row_older_than_a_push_that_read_the_source_is_not_taken_for_its_row() -> None:
    pushed = base(OURS | Flag.URGENT, price=3, seen=2_500)
    assert decide(local(price=2), None, pushed, LATER, same=True).entry is None


@pytest.mark.parametrize(
    "evidence",
    [msgspec.structs.replace(FULL, source_complete=False), msgspec.structs.replace(LATER, source_began_ms=1_500)],
    ids=["half a read", "a read from before the sell"],
)
@pytest.mark.parametrize("flags", [OURS | Flag.SOLD_BY_HAND, OURS], ids=["by hand", "by someone"])
def test_a_sold_car_is_not_revived_by_an_absence_that_proves_nothing(evidence: ReadEvidence, flags: Flag) -> None:
    sold = base(flags, row=listing(), status="sold", seen=1_800 if evidence.source_complete else 0)
    entry = settled(decide(None, None, sold, evidence, same=True), sold)
    assert (
        decide(local(), None, entry, msgspec.structs.replace(FULL, source_began_ms=9_000), same=True).action == "none"
    )


def test_sold_by_hand_ends_when_the_row_was_absent_once() -> None:
    sold = base(OURS | Flag.SOLD_BY_HAND, status="sold")
    absent = settled(decide(None, None, sold, FULL, same=True), sold)
    assert decide(local(), None, absent, FULL, same=True).action == "update"


@pytest.mark.parametrize(
    ("changed_at", "action"),
    [(100, "sell"), (929, "sell"), (941, "none"), (1_000, "none"), (1_001, "none")],
    ids=["as before the sell", "long before it", "just before it", "with it", "after it"],
)
def test_a_row_from_before_the_sell_shows_that_it_was_not_done(changed_at: int, action: str) -> None:
    evidence = msgspec.structs.replace(FULL, policy="remote")
    sold = base(Flag.OWNED, status="sold", sent=1_000_000).replace(changed_at=100)
    entry: Entry | None = sold
    for _ in range(2):  # it may fail, or be confirmed without being done, any number of times
        decision = decide(None, remote(changed_at=changed_at), sold, evidence, same=False)
        assert decision.action == action, decision.reason
        entry = settled(decision, entry)
        assert entry.has(Flag.SELL_IN_DOUBT) == (action == "sell")
        sold = sold.replace(set_flags=Flag.RESENT if action == "sell" else Flag(0))


entries = st.builds(
    base, flags=st.integers(0, 511).map(Flag), seen=st.sampled_from([0, 1_500, 2_500]), missed=st.integers(0, 3), price=st.integers(1, 3),
    status=st.sampled_from(["active", "pending", "draft", "sold"]),
)  # fmt: skip
worlds = st.builds(
    ReadEvidence, source_began_ms=st.sampled_from([0, 2_000]), full=st.booleans(), walk_complete=st.booleans(), source_complete=st.booleans(),
    policy=st.sampled_from(["local", "remote", "newest"]), missing_reads=st.integers(1, 3), sells=st.booleans(),
)  # fmt: skip
rows = st.none() | st.just(INVALID) | st.builds(local, with_values=st.booleans(), price=st.integers(1, 3))
theirs = st.none() | st.builds(remote, with_values=st.booleans(), price=st.integers(1, 3))


@given(rows, theirs, st.none() | entries, worlds, st.booleans())
def test_a_sell_always_has_its_proofs(
    row: Local | None, there: Remote | None, entry: Entry | None, evidence: ReadEvidence, same: bool
) -> None:
    decision = decide(row, there, entry, evidence, same=same)
    assert decision.reason
    if decision.action != "sell":
        return
    assert entry is not None
    assert entry.has(Flag.OWNED)
    assert evidence.sells
    if row is None:
        assert evidence.source_complete
        assert entry.has(Flag.IN_SOURCE)
        assert entry.missed + 1 >= evidence.missing_reads


@given(entries)
def test_an_entry_survives_packing(entry: Entry) -> None:
    assert Entry.unpack(entry.pack()) == entry
    assert len(entry.pack()) == 64


@pytest.mark.parametrize("data", [b"", b"\x09" + b"\0" * 62, b"\x02" + b"\xff" * 62])
def test_bytes_that_are_no_entry_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="ledger entry"):
        Entry.unpack(data)
