"""The plan as a whole: totals per dealer, and the guards that make it wait for a person.

Guards never drop work: what is safe goes out, what trips is held with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class DealerTotals(msgspec.Struct):
    """What a plan does to one dealer. ``live``: listings that are ours and live before the plan."""

    live: int = 0
    sells: int = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The account's guard settings that judge a whole plan."""

    max_sold_percent: float
    max_sold_count: int
    free_sold_count: int
    max_source_shrink_percent: float


class Held(msgspec.Struct, frozen=True):
    """Sells that wait for a person. ``dealer``: None holds all dealers."""

    dealer: str | None
    count: int
    reason: str


def held_sells(dealers: Mapping[str, DealerTotals], *, rows: int, rows_before: int, limits: Limits) -> list[Held]:
    """Which sells of a plan must wait, and why. ``rows``: rows of this read; ``rows_before``: of the last complete one.

    Either limit trips strictly above it, and then all sells of that dealer are held, none in part. Up to
    ``free_sold_count`` are never held, unless the source is empty.
    """
    sells = sum(totals.sells for totals in dealers.values())
    if not sells:
        return []
    if rows == 0:
        return [Held(None, sells, "the source is empty")]
    # Few for the account, not for each dealer: a third of the feed cut off can be a handful for each of many dealers.
    free = sells <= limits.free_sold_count
    lost = 100.0 * (rows_before - rows) / rows_before if rows_before else 0.0
    if lost > limits.max_source_shrink_percent and not free:
        return [
            Held(
                None,
                sells,
                f"the source shrank from {rows_before} to {rows} rows"
                f" ({lost:.1f} %, allowed {limits.max_source_shrink_percent:g} %)",
            )
        ]
    return [held for name, totals in sorted(dealers.items()) if (held := _held_dealer(name, totals, limits))]


def _held_dealer(name: str, totals: DealerTotals, limits: Limits) -> Held | None:
    if totals.sells <= limits.free_sold_count:
        return None
    percent = 100.0 * totals.sells / totals.live if totals.live else 100.0
    if totals.sells > limits.max_sold_count:
        return Held(name, totals.sells, f"{totals.sells} sells are more than max_sold_count = {limits.max_sold_count}")
    if percent > limits.max_sold_percent:
        return Held(
            name,
            totals.sells,
            f"{totals.sells} of {totals.live} live listings ({percent:.1f} %) are more than"
            f" max_sold_percent = {limits.max_sold_percent:g}",
        )
    return None
