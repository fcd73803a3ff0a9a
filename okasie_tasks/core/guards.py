"""The plan as a whole: totals per dealer, the guards that make it wait for a person, and what exactly waits.

Guards never drop work: what is safe goes out, what trips is held with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

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
    "take_over",
]
_FIELD_NAMES: Final = tuple(FIELDS)


class DealerTotals(msgspec.Struct):
    """What a plan does to one dealer. ``live``: listings that are ours and live before the plan."""

    live: int = 0
    sells: int = 0
    changed: int = 0
    """Of the live ones, those whose row in the source changed."""
    filled: dict[str, int] = {}
    """Field -> live listings in which what we last sent had it filled."""
    lost: dict[str, int] = {}
    """Field -> those of them whose row has it no longer."""

    def add(self, other: DealerTotals) -> None:
        """Take in what another partition counted for the same dealer."""
        self.live += other.live
        self.sells += other.sells
        self.changed += other.changed
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


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that wait for a person. ``dealer``: None holds all dealers; else its fingerprint in hex."""

    guard: Guard
    dealer: str | None
    what: Literal["sells", "updates", "take-over"]
    count: int
    reason: str
    fields: tuple[str, ...] = ()
    """For a loss of fields: only listings that lose one of these are held."""

    def holds(self, change: Planned) -> bool:
        """Whether this change of the plan waits."""
        if self.dealer is not None and self.dealer != change.dealer.hex():
            return False
        if self.guard == "changed":
            return change.changed
        if self.guard == "field_loss":
            return bool(set(change.loses).intersection(self.fields))
        return self.what == "sells" and change.action == "sell"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the run read, as far as the guards ask. ``rows_before``: of the last complete read that was not held."""

    rows: int
    rows_before: int
    profiles_lost: tuple[str, ...] = ()
    """Dealer profiles that the key could reach at the last run, and no longer can."""

    def shrunk_percent(self) -> float:
        """How many rows fewer than before, in percent; below zero when there are more."""
        return 100.0 * (self.rows_before - self.rows) / self.rows_before if self.rows_before else 0.0


def judge(dealers: Mapping[str, DealerTotals], reading: Reading, limits: Limits) -> list[Held]:
    """Which changes of a plan must wait, and why. Every limit trips strictly above it.

    Up to ``free_sold_count`` sells are never held, unless the source is empty or the key lost profiles.
    """
    whole = _held_whole(sum(totals.sells for totals in dealers.values()), reading, limits)
    held = [whole] if whole else []
    for name, totals in sorted(dealers.items()):
        found = (None if whole else _sold(name, totals, limits), _changed(name, totals, limits))
        held += [hold for hold in (*found, _field_loss(name, totals, limits)) if hold is not None]
    return held


def _held_whole(sells: int, reading: Reading, limits: Limits) -> Held | None:
    """Sells of all dealers, since what was read is doubtful."""
    if lost := reading.profiles_lost:
        names = ", ".join(lost[:5]) + (" ..." if len(lost) > 5 else "")
        reason = f"the key no longer reaches {len(lost)} dealer profiles that it did: {names}"
        return Held(guard="scope_narrowed", dealer=None, what="sells", count=sells, reason=reason)
    if not sells:
        return None
    rows, before = reading.rows, reading.rows_before
    if rows == 0:
        return Held(guard="source_empty", dealer=None, what="sells", count=sells, reason="the source is empty")
    # Few for the account, not for each dealer: a third of the feed cut off can be a handful for each of many dealers.
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


@lru_cache(maxsize=4096)
def fields_of(filled: int) -> tuple[str, ...]:
    """The names behind a bitmap of `okasie_tasks.core.fingerprint.filled_fields`."""
    return tuple(name for index, name in enumerate(_FIELD_NAMES) if filled >> index & 1)


# -- what waits, exactly -------------------------------------------------------------------------------------------


class HeldPlan(msgspec.Struct, kw_only=True):
    """A plan that waits for a person, known by the run that first held it. Times in ms, Redis time."""

    run: str
    mode: str
    created_ms: int
    expires_ms: int
    holds: list[Held]
    items: list[str]
    """What exactly waits, sorted: see `item`."""

    @property
    def hash(self) -> str:
        """Stands for all that waits; a plan is approved by it."""
        return fingerprint(self.items).hex()

    @property
    def count(self) -> int:
        """Listings whose change waits."""
        return listings_in(self.items)

    def holds_reference(self, reference: str) -> bool:
        """Whether a change of this listing waits."""
        return any(reference_of(kept) == reference for kept in self.items if not kept.startswith("scope "))

    @property
    def takes_over(self) -> bool:
        return any(hold.what == "take-over" for hold in self.holds)


def item(reference: str, action: str, content: bytes = b"") -> str:
    """One thing that waits: a sell by its reference, an update by what would be sent."""
    return f"{action} {reference} {content.hex()}".rstrip()


def covers(
    plan: HeldPlan | None, items: Sequence[str], *, settled: Callable[[Collection[str]], Collection[str]]
) -> bool:
    """Whether what waits now is what ``plan`` holds, no more and no less.

    Less is allowed where our own writes settled it meanwhile (a push, a sell by hand, the part that a run which failed
    had sent): ``settled`` is asked for the items that no longer wait and returns those that are done.
    """
    if plan is None:
        return False
    known, now = set(plan.items), set(items)
    if not now or not now <= known:
        return False
    missing = known - now
    return not missing or missing == set(settled(missing))


def listings_in(items: Iterable[str]) -> int:
    """How many listings these items speak of; a profile that is out of reach is none."""
    return sum(not kept.startswith("scope ") for kept in items)


def reference_of(held_item: str) -> str:
    return held_item.split(" ")[1]


def held_items(holds: Iterable[Held], changes: Iterable[Planned]) -> list[str]:
    """The items of a plan that its holds make wait."""
    held = list(holds)
    return sorted({
        item(change.reference, change.action, b"" if change.action == "sell" else change.content)
        for change in changes
        if any(hold.holds(change) for hold in held)
    })  # fmt: skip
