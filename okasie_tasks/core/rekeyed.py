"""Finds re-keyed stock: cars that vanished from the source while the same cars appeared under new references.

Sent as it is, such a plan would list every car twice while its sells are held. Cars are compared by a few traits, of
which only hashes are kept, since the ledger does not have the content of what was sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple

from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared
from okasie_tasks.core.guards import Held
from okasie_tasks.core.snapshot import Snapshot, hash_of

_HASHED: Final = tuple((name, COMPARED_FIELDS.index(name)) for name in ("vin", "brand", "model"))
_MILEAGE: Final = COMPARED_FIELDS.index("mileage")
_NEW_CAR_KM: Final = 500
"""Below this mileage, cars of one model are alike: only the VIN distinguishes them."""


class Traits(NamedTuple):
    """What distinguishes one car from another: 16-bit hashes, empty if unknown, and the mileage in km."""

    vin: bytes = b""
    brand: bytes = b""
    model: bytes = b""
    mileage: int | None = None

    def keys(self, *, by_vin: bool) -> list[tuple[object, ...]]:
        """Return the keys by which the car is found. A hash alone is too short, so each key combines several traits."""
        model = (self.brand, self.model) if self.brand and self.model else None
        if by_vin:
            return [(self.vin, other) for other in (self.mileage, model) if self.vin and other is not None]
        return [(model, self.mileage)] if model and (self.mileage or 0) >= _NEW_CAR_KM else []


def traits_of(values: Compared) -> Traits:
    """Return the traits of a listing in its compared form."""
    hashes = {name: hash_of(value) if (value := values[at]) else b"" for name, at in _HASHED}
    return Traits(**hashes, mileage=_whole(values[_MILEAGE]))


def traits_sent(snapshot: Snapshot) -> Traits:
    """Return the traits of a listing as last sent."""
    return Traits(**{name: snapshot.hashes.get(name, b"") for name, _ in _HASHED}, mileage=_whole(snapshot.mileage))


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None


class Rekeyed(NamedTuple):
    """Re-keyed stock. ``unknown``: vanished and new references that may belong together, but cannot be compared."""

    pairs: Mapping[str, str] = {}
    """Vanished reference -> new reference."""
    unknown: frozenset[str] = frozenset()

    @property
    def references(self) -> frozenset[str]:
        return frozenset((*self.pairs, *self.pairs.values(), *self.unknown))

    def held(self) -> Held:
        """Return the hold, with the reason that an operator reads. At least one reference must be re-keyed."""
        reasons = []
        if count := len(self.pairs):
            old, new = next(iter(self.pairs.items()))
            reasons.append(
                f"re-keyed stock? {count} new references appear to be {count} listings that vanished,"
                f" e.g. {old} -> {new}"
            )
        if self.unknown:
            reasons.append(
                f"re-keyed stock? {len(self.unknown)} new references appeared beside vanished listings with which they"
                " cannot be compared: what was sent for those is not kept"
            )
        count = len(self.pairs) + len(self.unknown)
        return Held(guard="rekeyed", dealer=None, what="re-keyed", count=count, reason="; ".join(reasons))


def find(
    vanished: Mapping[str, Traits | None], new: Mapping[str, Traits], *, free: int, sells_held: bool
) -> Rekeyed | None:
    """Return the re-keyed stock among vanished and new references, None if there is none.

    More than ``free`` pairs are needed. Pairs without a VIN count only if they are at least half of what could be
    paired, since in large stocks some cars of one model have the same mileage. ``vanished``: None for a listing of
    which nothing is kept; if the sells are held anyway and such listings are about as many as the new references,
    those are held as well.
    """
    known = {name: traits for name, traits in vanished.items() if traits}
    by_vin = _pair(known, new, {}, by_vin=True)
    pairs = _pair(known, new, by_vin, by_vin=False)
    if 2 * len(pairs) < min(len(vanished), len(new)):
        pairs = by_vin
    if len(pairs) <= free:
        pairs = {}
    left = new.keys() - set(pairs.values())
    fewer, more = sorted((len(vanished) - len(known), len(left)))
    doubtful = sells_held and fewer > free and 2 * fewer >= more
    return Rekeyed(pairs, frozenset(left if doubtful else ())) if pairs or doubtful else None


def _pair(
    vanished: Mapping[str, Traits], new: Mapping[str, Traits], paired: Mapping[str, str], *, by_vin: bool
) -> dict[str, str]:
    """Return ``paired`` and the further pairs that the keys give: each reference is in one pair, in sorted order."""
    found: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name in sorted(new.keys() - set(paired.values())):
        for key in new[name].keys(by_vin=by_vin):
            found[key].append(name)
    pairs, taken = dict(paired), set(paired.values())
    for old in sorted(vanished.keys() - paired.keys()):
        names = (name for key in vanished[old].keys(by_vin=by_vin) for name in found[key])
        match = next((name for name in names if name not in taken and _may_be(vanished[old], new[name])), None)
        if match is not None:
            pairs[old] = match
            taken.add(match)
    return dict(sorted(pairs.items()))


def _may_be(one: Traits, other: Traits) -> bool:
    """Return whether the VINs do not contradict each other."""
    return not one.vin or not other.vin or one.vin == other.vin
