"""Pairing vanished with new references by what tells one car from another."""

from __future__ import annotations

import pytest

from okasie_tasks.core.rekeyed import Rekeyed, Traits, find

VIN, OTHER_VIN, BRAND, MODEL = b"v1", b"v2", b"b1", b"m1"


def find_ten(old: Traits | None, new: Traits, *, sells_held: bool = True, others: int = 0) -> Rekeyed | None:
    """Ten vanished and ten new cars with these traits, each with its own mileage if it has one."""

    def ten(prefix: str, traits: Traits | None) -> dict[str, Traits | None]:
        return {
            f"{prefix}{n}": traits and traits._replace(mileage=traits.mileage and traits.mileage + n) for n in range(10)
        }

    vanished, fresh = ten("OLD", old), ten("NEW", new)
    vanished |= {f"GONE{n}": Traits(bytes((1, n)), b"xx", b"xx", 90_000) for n in range(others)}
    fresh |= {f"CAR{n}": Traits(bytes((2, n)), b"yy", b"yy", 80_000) for n in range(others)}
    return find(vanished, {name: traits for name, traits in fresh.items() if traits}, free=5, sells_held=sells_held)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Traits(VIN, BRAND, MODEL, 1000), Traits(VIN, b"b2", b"m2", 1000)),
        (Traits(VIN, BRAND, MODEL), Traits(VIN, BRAND, MODEL, 7)),
        (Traits(b"", BRAND, MODEL, 1000), Traits(VIN, BRAND, MODEL, 1000)),
        (Traits(b"", BRAND, MODEL, 1000), Traits(b"", BRAND, MODEL, 1000)),
    ],
)
def test_the_same_car_is_found_by_vin_or_by_make_model_and_mileage(old: Traits, new: Traits) -> None:
    found = find_ten(old, new)
    assert found is not None
    assert len(found.pairs) == 10
    assert len(found.references) == 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Traits(VIN, BRAND, MODEL, 1000), Traits(OTHER_VIN, BRAND, MODEL, 1000)),
        (Traits(VIN, BRAND, MODEL, 1000), Traits(VIN, b"b2", b"m2", 5000)),
        (Traits(b"", BRAND, MODEL, 10), Traits(b"", BRAND, MODEL, 10)),
        (Traits(b"", BRAND, MODEL), Traits(b"", BRAND, MODEL)),
        (Traits(), Traits()),
    ],
)
def test_cars_that_differ_or_cannot_be_told_apart_are_no_pair(old: Traits, new: Traits) -> None:
    assert find_ten(old, new) is None


def test_pairs_without_a_vin_among_many_others_are_a_coincidence() -> None:
    plain = Traits(b"", BRAND, MODEL, 1000)
    assert find_ten(plain, plain, others=30) is None
    with_vin = plain._replace(vin=VIN)
    found = find_ten(with_vin, with_vin, others=30)
    assert found is not None
    assert len(found.pairs) == 10


@pytest.mark.parametrize(("sells_held", "count"), [(True, 10), (False, 0)])
def test_vanished_listings_of_which_nothing_is_kept(sells_held: bool, count: int) -> None:
    found = find_ten(None, Traits(VIN, BRAND, MODEL, 1000), sells_held=sells_held)
    assert len(found.unknown if found else ()) == count


def test_a_handful_is_free() -> None:
    traits = Traits(VIN, BRAND, MODEL, 1000)
    assert (
        find({f"OLD{n}": traits for n in range(5)}, {f"NEW{n}": traits for n in range(5)}, free=5, sells_held=True)
        is None
    )
