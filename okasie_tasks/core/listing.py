"""The listing in write shape, and its JSON bodies.

`okasie_tasks.core.validate.parse_listing` is the only way to a `Listing`, so a `Listing` is always something that the
contract allows, and what is known to be bad costs no request.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.errors import ItemRejected

_LONGEST_REFERENCE: Final = 64
_RESERVED: Final = frozenset({"bulk-upsert", ".", ".."})
"""References that would be read as a route or a path segment of their own."""


class Issue(msgspec.Struct, frozen=True, array_like=True):
    """One thing wrong with a row: the field, a stable code, and what was expected and found.

    ``value``: what the row has, shortened, for people who read no ``message``; "" for nothing.
    """

    field: str
    code: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidListing(ItemRejected):
    """A row that the contract does not allow. ``found`` lists everything wrong with it, not only the first."""

    def __init__(self, reference: str | None, found: tuple[Issue, ...]) -> None:
        super().__init__(
            "; ".join(map(str, found)),
            where=reference,
            code=found[0].code,
            issues=tuple((issue.field, issue.message) for issue in found),
        )
        self.reference = reference
        self.found = found


def brief(value: object) -> str:
    """Return a value as people read it, at most 60 characters; "" for none."""
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Feature(msgspec.Struct, frozen=True):
    name: str
    category: str = "other"


class Listing(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One vehicle as it is sent; absent fields are None. Units: EUR, km, kg, kW, l/100 km, g/km, months.

    ``images`` are source URLs in order, the cover first, unique, at most 50.
    """

    external_reference: str
    status: str
    title: str
    dealer_profile_id: str | None = None
    dealer_location_code: str | None = None
    description: str | None = None
    price: float | None = None
    currency: str | None = None
    brand: str | None = None
    model: str | None = None
    variant: str | None = None
    custom_type: str | None = None
    year: int | None = None
    mileage: int | None = None
    fuel_type: str | None = None
    transmission: str | None = None
    body_type: str | None = None
    engine: str | None = None
    drive_type: str | None = None
    gears: int | None = None
    color: str | None = None
    interior_color: str | None = None
    interior_material: str | None = None
    doors: int | None = None
    seats: int | None = None
    power_kw: float | None = None
    weight: int | None = None
    paint_type: str | None = None
    vin: str | None = None
    first_registration: str | None = None
    previous_owners: int | None = None
    service_history: bool | None = None
    warranty: bool | None = None
    warranty_months: int | None = None
    condition_tags: tuple[str, ...] = ()
    vehicle_type: str | None = None
    condition: str | None = None
    car_pass_url: str | None = None
    co2_emission: int | None = None
    co2_type: str | None = None
    emission_class: str | None = None
    fuel_consumption: float | None = None
    postal_code: str | None = None
    city: str | None = None
    province: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    features: tuple[Feature, ...] = ()
    images: tuple[str, ...] = ()


def parse_reference(value: object) -> str | None:
    """A reference without the spaces around it: 1 to 64 printable characters; None for anything else.

    Paths carry it percent-encoded. A reference that is a special path segment or a route is refused.
    """
    text = value.strip() if isinstance(value, str) else ""
    fits = 0 < len(text) <= _LONGEST_REFERENCE and text.isprintable() and text not in _RESERVED
    return text if fits else None


# -- writing -------------------------------------------------------------------------------------------------------

_ENCODER: Final = msgspec.json.Encoder()


def _body(listing: Listing) -> dict[str, Any]:
    # omit_defaults leaves out what is None or empty: that is how a field is cleared. Images are always sent, because
    # what a missing array means is not documented.
    body: dict[str, Any] = msgspec.to_builtins(listing)
    body["images"] = list(listing.images)
    return body


def bulk_item(listing: Listing) -> bytes:
    """The listing as one item of a bulk call: JSON, every present field, status and images always, no null."""
    return _ENCODER.encode(_body(listing))


def write_body(listing: Listing) -> bytes:
    """The listing as the body of a PUT: as `bulk_item`, with the reference left to the path."""
    body = _body(listing)
    del body["externalReference"]
    return _ENCODER.encode(body)


assert {spec.attribute for spec in FIELDS.values()} == set(Listing.__struct_fields__)  # noqa: S101 - one table, one shape
