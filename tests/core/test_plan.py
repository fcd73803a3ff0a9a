"""Each limit trips strictly above itself, and not before."""

from __future__ import annotations

import msgspec
import pytest

from okasie_tasks.core.plan import DealerTotals, Held, Limits, held_sells

LIMITS = Limits(max_sold_percent=10.0, max_sold_count=250, free_sold_count=5, max_source_shrink_percent=30.0)


def held(live: int, sells: int, *, rows: int = 1000, before: int = 1000, **limits: float) -> list[Held]:
    rules = msgspec.structs.replace(LIMITS, **limits)
    return held_sells({"gent": DealerTotals(live, sells)}, rows=rows, rows_before=before, limits=rules)


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
    assert bool(held(live, sells)) is trips


@pytest.mark.parametrize(("rows", "trips"), [(700, False), (699, True)])
def test_a_shrunken_source_holds_every_dealer(rows: int, trips: bool) -> None:
    found = held(10_000, 50, rows=rows)
    assert bool(found) is trips
    assert all(hold.dealer is None for hold in found)


def test_a_shrunken_source_is_held_also_when_each_dealer_loses_only_a_few() -> None:
    dealers = {f"dealer-{number}": DealerTotals(live=12, sells=5) for number in range(100)}
    (hold,) = held_sells(dealers, rows=700, rows_before=1200, limits=LIMITS)
    assert (hold.dealer, hold.count) == (None, 500)


def test_an_empty_source_holds_even_the_few() -> None:
    assert held(6, 1, rows=0)[0].reason == "the source is empty"


def test_one_dealer_does_not_hold_another() -> None:
    dealers = {"gent": DealerTotals(100, 90), "brugge": DealerTotals(1000, 10)}
    assert [hold.dealer for hold in held_sells(dealers, rows=1000, rows_before=1000, limits=LIMITS)] == ["gent"]
