"""The review of a whole plan: totals per dealer, the guards, and the changes that are held for approval.

Guards never drop work: safe changes are sent, and changes that trip a guard are held with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, TypeGuard

import msgspec

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import fingerprint
from okasie_tasks.core.records import Planned

Guard = Literal[
    "source_empty",
    "source_shrunk",
    "scope_narrowed",
    "sold_count",
    "sold_percent",
    "changed",
    "field_loss",
    "price_change",
    "take_over",
    "rekeyed",
]
TAKE_OVER: Final = "take-over"
_FIELD_NAMES: Final = tuple(FIELDS)
EXAMPLES: Final = 3
"""Listings that the reason of a hold names."""
_WITHOUT_CONTENT: Final = frozenset({"sell", "invalid", "scope", TAKE_OVER})
"""Actions whose item is not followed by the content to send."""


class DealerTotals(msgspec.Struct):
    """What a plan does to one dealer. ``live``: owned listings that are live before the plan."""

    live: int = 0
    sells: int = 0
    changed: int = 0
    """Live listings whose source row changed."""
    filled: dict[str, int] = {}
    """Field -> live listings whose last sent content had it filled."""
    lost: dict[str, int] = {}
    """Field -> those of them whose row no longer fills it."""
    price_moves: int = 0
    """Listings whose price moves by more than is allowed."""
    price_examples: list[str] = []
    """A few of them, with both prices."""

    def add(self, other: DealerTotals) -> None:
        """Add another partition's totals for the same dealer."""
        self.live += other.live
        self.sells += other.sells
        self.changed += other.changed
        self.price_moves += other.price_moves
        self.price_examples = [*self.price_examples, *other.price_examples][:EXAMPLES]
        for mine, theirs in ((self.filled, other.filled), (self.lost, other.lost)):
            for field, count in theirs.items():
                mine[field] = mine.get(field, 0) + count


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The account's guard settings that judge a whole plan; see ``[accounts.NAME.guard]`` for what each means."""

    max_sold_percent: float
    max_sold_count: int
    free_sold_count: int
    max_source_shrink_percent: float
    max_changed_percent: float
    free_changed_count: int
    max_field_loss_percent: float
    free_field_loss_count: int
    max_price_change_percent: float | None = None
    """None: prices are not judged."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that need an operator's approval. ``dealer``: its fingerprint in hex; None holds all dealers."""

    guard: Guard
    dealer: str | None
    what: Literal["sells", "updates", "take-over", "re-keyed"]
    count: int
    reason: str
    fields: tuple[str, ...] = ()
    """For ``field_loss``: only listings that lose one of these are held."""

    def holds(self, change: Planned) -> bool:
        """Return whether this change of the plan is held. Re-keyed listings are known by reference: see `is_held`."""
        if self.dealer is not None and self.dealer != change.dealer.hex():
            return False
        if self.guard == "changed":
            return change.changed
        if self.guard == "field_loss":
            return bool(set(change.loses).intersection(self.fields))
        if self.guard == "price_change":
            return change.price_move is not None
        return self.what == "sells" and change.action == "sell"


def is_held(change: Planned, holds: Iterable[Held], rekeyed: Collection[str]) -> bool:
    """Return whether a change is held, by one of the holds or as part of re-keyed stock."""
    return change.reference in rekeyed or any(hold.holds(change) for hold in holds)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the run read, for the guards. ``rows_before``: rows of the last complete read that was not held."""

    rows: int
    rows_before: int
    profiles_lost: tuple[str, ...] = ()
    """Dealer profiles that the key could reach during the last run but no longer can."""

    def shrunk_percent(self) -> float:
        """Return the percentage by which the row count fell; negative when it grew."""
        return 100.0 * (self.rows_before - self.rows) / self.rows_before if self.rows_before else 0.0


def judge(dealers: Mapping[str, DealerTotals], reading: Reading, limits: Limits) -> list[Held]:
    """Return which changes of a plan are held, and why. A limit trips strictly above its value.

    Up to ``free_sold_count`` sells are never held, unless the source is empty or the key lost profiles.
    """
    whole = _held_whole(sum(totals.sells for totals in dealers.values()), reading, limits)
    held = [whole] if whole else []
    for name, totals in sorted(dealers.items()):
        counted = (None if whole else _sold(name, totals, limits), _changed(name, totals, limits))
        held += [
            hold
            for hold in (*counted, _field_loss(name, totals, limits), _price_change(name, totals, limits))
            if hold is not None
        ]
    return held


def _held_whole(sells: int, reading: Reading, limits: Limits) -> Held | None:
    """Hold the sells of all dealers when the read itself is doubtful."""
    if lost := reading.profiles_lost:
        names = ", ".join(lost[:5]) + (" ..." if len(lost) > 5 else "")
        reason = f"the key no longer reaches {len(lost)} dealer profiles that it did: {names}"
        return Held(guard="scope_narrowed", dealer=None, what="sells", count=sells, reason=reason)
    if not sells:
        return None
    rows, before = reading.rows, reading.rows_before
    if rows == 0:
        return Held(guard="source_empty", dealer=None, what="sells", count=sells, reason="the source is empty")
    # The free count is per account: a feed cut by a third may lose only a handful of listings per dealer.
    lost_percent = reading.shrunk_percent()
    if lost_percent > limits.max_source_shrink_percent and sells > limits.free_sold_count:
        reason = (
            f"the source shrank from {before} to {rows} rows"
            f" ({lost_percent:.1f} %, allowed {limits.max_source_shrink_percent:g} %)"
        )
        return Held(guard="source_shrunk", dealer=None, what="sells", count=sells, reason=reason)
    return None


def _sold(name: str, totals: DealerTotals, limits: Limits) -> Held | None:
    sells = totals.sells
    if sells <= limits.free_sold_count:
        return None
    percent = 100.0 * sells / totals.live if totals.live else 100.0
    if sells > limits.max_sold_count:
        reason = f"{sells} sells are more than max_sold_count = {limits.max_sold_count}"
        return Held(guard="sold_count", dealer=name, what="sells", count=sells, reason=reason)
    if percent > limits.max_sold_percent:
        reason = (
            f"{sells} of {totals.live} live listings ({percent:.1f} %) are more than"
            f" max_sold_percent = {limits.max_sold_percent:g}"
        )
        return Held(guard="sold_percent", dealer=name, what="sells", count=sells, reason=reason)
    return None


def _changed(name: str, totals: DealerTotals, limits: Limits) -> Held | None:
    percent = 100.0 * totals.changed / totals.live if totals.live else 0.0
    if totals.changed <= limits.free_changed_count or percent <= limits.max_changed_percent:
        return None
    reason = (
        f"{totals.changed} of {totals.live} live listings changed at once ({percent:.1f} %, more than"
        f" max_changed_percent = {limits.max_changed_percent:g}): a mapping or a feed that changed?"
    )
    return Held(guard="changed", dealer=name, what="updates", count=totals.changed, reason=reason)


def _field_loss(name: str, totals: DealerTotals, limits: Limits) -> Held | None:
    tripped: dict[str, str] = {}
    for field, lost in sorted(totals.lost.items()):
        filled = max(lost, totals.filled.get(field, 0))
        percent = 100.0 * lost / filled
        if lost > limits.free_field_loss_count and percent > limits.max_field_loss_percent:
            tripped[field] = f"{field} became empty in {lost} of {filled} listings ({percent:.1f} %)"
    if not tripped:
        return None
    reason = "; ".join(tripped.values()) + f", more than max_field_loss_percent = {limits.max_field_loss_percent:g}"
    count = max(totals.lost[field] for field in tripped)
    return Held(
        guard="field_loss", dealer=name, what="updates", count=count, reason=reason, fields=tuple(tripped)
    )  # fmt: skip


def is_price_move(old: object, new: float, limit: float) -> TypeGuard[float]:
    """Return whether a price moves by more than ``limit`` percent of the old one, which must be known and not 0."""
    return isinstance(old, int | float) and old > 0 and 100.0 * abs(new - old) > limit * old


def _price_change(name: str, totals: DealerTotals, limits: Limits) -> Held | None:
    count = totals.price_moves
    if not count:
        return None
    prices = "1 price moves" if count == 1 else f"{count} prices move"
    reason = f"{prices} by more than max_price_change_percent = {limits.max_price_change_percent:g}: "
    reason += ", ".join(totals.price_examples) + (", ..." if count > len(totals.price_examples) else "")
    return Held(guard="price_change", dealer=name, what="updates", count=count, reason=reason)


@lru_cache(maxsize=4096)
def fields_of(filled: int) -> tuple[str, ...]:
    """Return the field names of a bitmap made by `okasie_tasks.core.fingerprint.filled_fields`."""
    return tuple(name for index, name in enumerate(_FIELD_NAMES) if filled >> index & 1)


# -- held plans ----------------------------------------------------------------------------------------------------


class HeldPlan(msgspec.Struct, kw_only=True):
    """A plan that needs approval, identified by the run that first held it. Times in ms, Redis time."""

    run: str
    mode: str
    created_ms: int
    expires_ms: int
    holds: list[Held]
    items: list[str]
    """The held changes, sorted; see `item`."""

    @property
    def hash(self) -> str:
        """The hash of all held changes; an operator approves a plan by it."""
        return fingerprint(self.items).hex()

    @property
    def count(self) -> int:
        """The number of listings whose change is held."""
        return listings_in(self.items)

    def holds_reference(self, reference: str) -> bool:
        """Return whether a change of this listing is held."""
        return any(reference_of(kept) == reference for kept in self.items if not kept.startswith("scope "))

    @property
    def takes_over(self) -> bool:
        return any(hold.what == "take-over" for hold in self.holds)


def item(reference: str, action: str, content: bytes = b"") -> str:
    """Identify one held change: a sell by its reference, an update by the content to send."""
    return f"{action} {reference} {content.hex()}".rstrip()


def covers(
    plan: HeldPlan | None, items: Sequence[str], *, settled: Callable[[Collection[str]], Collection[str]]
) -> bool:
    """Return whether ``items`` are exactly what ``plan`` holds.

    Items may be missing if our own writes have settled them since: a push, a manual sell, or a part sent by a failed
    run. ``settled`` receives the missing items and returns those that are done.
    """
    if plan is None:
        return False
    known, now = set(plan.items), set(items)
    if not now or not now <= known:
        return False
    missing = known - now
    return not missing or missing == set(settled(missing))


def listings_in(items: Iterable[str]) -> int:
    """Count the listings among these items; an unreachable profile does not count."""
    return sum(not kept.startswith("scope ") for kept in items)


def action_of(held_item: str) -> str:
    return held_item.split(" ", 1)[0]


def reference_of(held_item: str) -> str:
    """Return the reference of an item; it may contain spaces."""
    action, rest = held_item.split(" ", 1)
    return rest if action in _WITHOUT_CONTENT else rest.rpartition(" ")[0]


def held_items(holds: Iterable[Held], changes: Iterable[Planned], rekeyed: Collection[str] = ()) -> list[str]:
    """Return the items of a plan that its holds cover."""
    held = list(holds)
    return sorted({
        item(change.reference, change.action, b"" if change.action == "sell" else change.content)
        for change in changes
        if is_held(change, held, rekeyed)
    })  # fmt: skip
