"""Each limit trips strictly above itself, and not before; what is held is told exactly."""

from __future__ import annotations

import msgspec
import pytest

from okasie_tasks.core.guards import (
    DealerTotals,
    Held,
    HeldPlan,
    Limits,
    Reading,
    covers,
    held_items,
    is_price_move,
    item,
    judge,
)
from okasie_tasks.core.records import Planned

LIMITS = Limits(
    max_sold_percent=10.0, max_sold_count=250, free_sold_count=5, max_source_shrink_percent=30.0,
    max_changed_percent=60.0, free_changed_count=50, max_field_loss_percent=20.0, free_field_loss_count=5,
    max_price_change_percent=50.0,
)  # fmt: skip
GENT, BRUGGE = b"gent".hex(), b"brug".hex()


def held(totals: DealerTotals, *, rows: int = 1000, before: int = 1000, lost: tuple[str, ...] = ()) -> list[Held]:
    return judge({GENT: totals}, Reading(rows=rows, rows_before=before, profiles_lost=lost), LIMITS)


@pytest.mark.parametrize(
    ("live", "sells", "trips"),
    [
        (1000, 100, False),  # just 10 %
        (1000, 101, True),
        (5000, 250, False),
        (5000, 251, True),
        (6, 5, False),  # few enough, whatever the share
        (6, 6, True),
        (1000, 0, False),
    ],
)
def test_count_and_percent(live: int, sells: int, trips: bool) -> None:
    assert bool(held(DealerTotals(live, sells))) is trips


@pytest.mark.parametrize(("rows", "trips"), [(700, False), (699, True)])
def test_a_shrunken_source_holds_every_dealer(rows: int, trips: bool) -> None:
    found = held(DealerTotals(10_000, 50), rows=rows)
    assert bool(found) is trips
    assert all(hold.dealer is None for hold in found)


def test_a_shrunken_source_is_held_also_when_each_dealer_loses_only_a_few() -> None:
    dealers = {f"{number:08x}": DealerTotals(live=12, sells=5) for number in range(100)}
    (hold,) = judge(dealers, Reading(rows=700, rows_before=1200), LIMITS)
    assert (hold.dealer, hold.count) == (None, 500)


def test_an_empty_source_holds_even_the_few() -> None:
    assert held(DealerTotals(6, 1), rows=0)[0].reason == "the source is empty"


def test_one_dealer_does_not_hold_another() -> None:
    dealers = {GENT: DealerTotals(100, 90), BRUGGE: DealerTotals(1000, 10)}
    assert [hold.dealer for hold in judge(dealers, Reading(rows=1000, rows_before=1000), LIMITS)] == [GENT]


@pytest.mark.parametrize(
    ("live", "changed", "trips"), [(100, 60, False), (100, 61, True), (50, 50, False), (51, 51, True), (0, 0, False)]
)
def test_many_changes_at_once(live: int, changed: int, trips: bool) -> None:
    assert bool(held(DealerTotals(live, changed=changed))) is trips


@pytest.mark.parametrize(
    ("filled", "lost", "trips"), [(100, 20, False), (100, 21, True), (5, 5, False), (6, 6, True), (30, 6, False)]
)
def test_a_field_that_becomes_empty(filled: int, lost: int, trips: bool) -> None:
    found = held(DealerTotals(1000, filled={"price": filled, "title": 1000}, lost={"price": lost, "title": 1}))
    assert bool(found) is trips
    assert [hold.fields for hold in found] == [("price",)] * trips


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [
        (100, 50, False), (100, 49.99, True), (100, 150, False), (100, 150.01, True), (17000, 17, True), (17, 17000, True),
        (100, 100, False), (0, 100, False), (None, 100, False), ("100", 1, False), (100, 0, True), (0.01, 0.02, True),
    ],
)  # fmt: skip
def test_a_price_that_moves(old: object, new: float, moves: bool) -> None:
    assert is_price_move(old, new, 50.0) is moves


def test_price_moves_are_held_per_dealer_and_named() -> None:
    gent = DealerTotals(live=9, price_moves=5, price_examples=["A from 2 to 1", "B from 4 to 1"])
    gent.add(DealerTotals(price_moves=2, price_examples=["C from 6 to 1", "D from 8 to 1"]))
    (hold,) = held(gent)
    assert (hold.guard, hold.dealer, hold.what, hold.count) == ("price_change", GENT, "updates", 7)
    named = "A from 2 to 1, B from 4 to 1, C from 6 to 1, ..."
    assert hold.reason == f"7 prices move by more than max_price_change_percent = 50: {named}"


def test_a_key_that_reaches_less_holds_every_sell_even_none() -> None:
    for sells in (0, 1):
        (hold,) = held(DealerTotals(100, sells), lost=("profile-7",))
        assert (hold.guard, hold.count, hold.dealer) == ("scope_narrowed", sells, None)
        assert "profile-7" in hold.reason


# -- what exactly waits --------------------------------------------------------------------------------------------


def planned(
    reference: str, action: str, dealer: str = GENT, *, changed: bool = False, loses: tuple[str, ...] = (),
    price_move: tuple[float, float] | None = None,
) -> Planned:  # fmt: skip
    content = b"" if action == "sell" else reference.encode()
    return Planned(
        reference, action, "why", 1, content, bytes.fromhex(dealer), changed=changed, loses=loses, price_move=price_move
    )


PLAN = [
    planned("S1", "sell"), planned("S2", "sell", BRUGGE), planned("C1", "create"), planned("U1", "update", changed=True),
    planned("L1", "update", changed=True, loses=("price",)), planned("D1", "update"),
    planned("P1", "update", price_move=(2, 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("guard", "dealer", "what", "fields", "waits"),
    [
        ("sold_count", GENT, "sells", (), ["S1"]),
        ("source_empty", None, "sells", (), ["S1", "S2"]),
        ("changed", GENT, "updates", (), ["L1", "U1"]),
        ("field_loss", GENT, "updates", ("price",), ["L1"]),
        ("field_loss", BRUGGE, "updates", ("price",), []),
        ("price_change", GENT, "updates", (), ["P1"]),
        ("price_change", BRUGGE, "updates", (), []),
        ("take_over", None, "take-over", (), []),
    ],
)
def test_a_hold_makes_just_its_own_changes_wait(
    guard: str, dealer: str | None, what: str, fields: tuple[str, ...], waits: list[str]
) -> None:
    raw = {"guard": guard, "dealer": dealer, "what": what, "count": 1, "reason": "", "fields": fields}
    hold = msgspec.convert(raw, Held)
    assert [change.reference for change in PLAN if hold.holds(change)] in (waits, waits[::-1])
    assert len(held_items([hold], PLAN)) == len(waits)


def a_plan(*items: str) -> HeldPlan:
    return HeldPlan(run="R", mode="full", created_ms=1, expires_ms=2, holds=[], items=sorted(items))


SELLS = [item("A", "sell"), item("B", "sell")]


@pytest.mark.parametrize(
    ("now", "written", "same"),
    [
        (SELLS, set(), True),
        ([*SELLS, item("C", "sell")], set(), False),  # more than was approved
        (SELLS[:1], set(), False),  # B is back in the source: the world moved on
        (SELLS[:1], {"sell B"}, True),  # B was sold by hand: our own write
        (SELLS[1:], {"sell B"}, False),
        ([], {"sell A", "sell B"}, False),
        ([SELLS[0], item("B", "update", b"x")], set(), False),
    ],
)
def test_an_approval_is_for_what_was_shown(now: list[str], written: set[str], same: bool) -> None:
    assert covers(a_plan(*SELLS), now, settled=written.intersection) is same


def test_a_changed_content_is_another_plan() -> None:
    one, two = a_plan(item("A", "update", b"1")), a_plan(item("A", "update", b"2"))
    assert one.hash != two.hash
    assert not covers(one, two.items, settled=lambda _: set())
