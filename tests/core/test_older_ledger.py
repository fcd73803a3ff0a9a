"""Decisions while the ledger may lack writes that the marketplace has, after a failover of Redis."""

from __future__ import annotations

import msgspec
import pytest

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.reconcile import Decision, decide
from okasie_tasks.core.records import Local, Remote
from tests.core.cases import FULL, LATER, OURS, base, local, remote

LOST = msgspec.structs.replace(FULL, lost_from_ms=1_000_000_000, lost_until_ms=1_000_010_000)
DURING, BEFORE = 1_000_005, 999_900
"""Seconds, on the marketplace's clock; it may differ by a minute."""


def after(decision: Decision) -> Entry:
    assert decision.entry is not None
    return decision.entry


def pushed(price: int = 1, changed_at: int = DURING, status: str = "active") -> Remote:
    return remote(with_values=True, price=price, changed_at=changed_at, status=status)


def test_a_push_that_the_ledger_lost_is_no_drift_and_stands_afterwards() -> None:
    assert decide(local(True), pushed(), base(), FULL, same=False).action == "update"
    decision = decide(local(True), pushed(), base(), LOST, same=False)
    assert (decision.action, decision.count, decision.fields) == ("none", "conflicts", ("price",))
    assert not decision.yields
    # As an entry of the push itself would: its row does not end it, a change of the row does.
    again = decide(local(True), pushed(), after(decision), FULL, same=False)
    assert (again.action, again.count) == ("none", "unchanged")
    assert decide(local(True, price=2), pushed(), after(decision), FULL, same=False).action == "update"


@pytest.mark.parametrize(
    ("known", "row"),
    [
        (base(), pushed(changed_at=BEFORE)),
        (base(sent=LOST.lost_until_ms + 1), pushed()),
    ],
    ids=["changed before the first lost write", "written after the failover"],
)
def test_other_drifts_are_decided_as_ever(known: Entry, row: Remote) -> None:
    assert decide(local(True), row, known, LOST, same=False).action == "update"


def test_a_row_without_a_readable_time_may_show_a_lost_push() -> None:
    assert decide(local(True), pushed(changed_at=0), base(), LOST, same=False).action == "none"


def test_a_car_that_a_lost_push_listed_again_is_not_sold() -> None:
    sold = base(Flag.OWNED, status="sold")
    assert decide(None, pushed(), sold, FULL, same=False).action == "sell"
    decision = decide(None, pushed(), sold, LOST, same=False)
    assert (decision.action, decision.count) == ("none", "conflicts")
    assert decide(None, pushed(), after(decision), FULL, same=False).action == "none"
    assert decide(None, None, after(decision), FULL, same=True).action == "none"


def test_a_car_that_left_the_source_stays_if_it_was_changed() -> None:
    """It may have been pushed with content of its own after its row had gone."""
    assert decide(None, pushed(), base(), FULL, same=False).action == "sell"
    decision = decide(None, pushed(), base(), LOST, same=False)
    assert (decision.action, decision.count) == ("none", "conflicts")
    assert decide(None, pushed(), after(decision), FULL, same=False).action == "none"
    assert decide(None, remote(with_values=True, changed_at=DURING), base(), LOST, same=False).action == "sell"


def test_a_car_that_a_lost_sell_sold_stays_sold_when_its_row_changes() -> None:
    row = local(True, price=2)
    assert decide(row, pushed(17450, status="sold"), base(), FULL, same=False).action == "update"
    decision = decide(row, pushed(17450, status="sold"), base(), LOST, same=False)
    assert (decision.action, decision.count) == ("none", "conflicts")
    later = decide(local(True, price=3), pushed(17450, status="sold"), after(decision), FULL, same=False)
    assert (later.action, later.count) == ("none", "settled")


@pytest.mark.parametrize("known", [base(), None], ids=["known", "unknown"])
def test_what_equals_its_row_is_adopted_without_a_request(known: Entry | None) -> None:
    row = local(True, price=1)
    decision = decide(row, pushed(), known, LOST, same=False)
    assert (decision.action, decision.count) == ("none", "unchanged")
    again = decide(row, pushed(), after(decision), LATER, same=False)
    assert (again.action, again.entry) == ("none", None)


def test_a_row_that_has_changed_is_sent() -> None:
    assert decide(local(True, price=2), pushed(), base(), LOST, same=False).action == "update"


def test_a_listing_that_a_lost_push_created_stands_over_a_row_unknown_so_far() -> None:
    decision = decide(local(True), pushed(), None, LOST, same=False)
    assert (decision.action, decision.count) == ("none", "conflicts")


def test_the_echo_of_our_own_write_is_learned_as_ever() -> None:
    spelled = remote(with_values=True, powerKw=85.3, changed_at=DURING)
    echo: tuple[Local, Entry] = local(True), base(OURS | Flag.ECHO_DUE)
    decision = decide(echo[0], spelled, echo[1], LOST, same=False)
    assert (decision.action, decision.count) == ("none", "unchanged")
    assert not after(decision).has(Flag.INLINE_CONTENT)
