"""The fields of the write shape in one table: kind, limits and allowed values.

Source: API docs, listings/upsert (table of fields) and the published OpenAPI file, revision of 8 June 2026. ``choices``
lists only what the contract types as an enum on write; fuel, gearbox and body type are free text there.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

import msgspec

CONTRACT: Final = "2026-06-08"
"""The contract revision of this table. Items refused under another revision are sent once more."""

Kind = Literal["text", "integer", "number", "boolean", "texts", "images", "features"]

FEATURE_CATEGORIES: Final = frozenset({"interior", "exterior", "safety", "comfort", "technology", "other"})
MAX_IMAGES: Final = 50
"""Images per listing (API docs, guides/image-handling)."""


class FieldSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the write shape. ``max_length`` is in characters, per item for ``texts``."""

    name: str
    attribute: str
    kind: Kind
    max_length: int | None = None
    max_items: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: frozenset[str] | None = None
    aliases: tuple[str, ...] = ()


def _text(name: str, attribute: str, length: int | None, *aliases: str, choices: str = "") -> FieldSpec:
    strict = frozenset(choices.split()) if choices else None
    return FieldSpec(name=name, attribute=attribute, kind="text", max_length=length, choices=strict, aliases=aliases)


def _whole(name: str, attribute: str, low: float = 0, high: float | None = None) -> FieldSpec:
    return FieldSpec(name=name, attribute=attribute, kind="integer", minimum=low, maximum=high)


def _number(name: str, attribute: str, low: float | None = 0, high: float | None = None) -> FieldSpec:
    return FieldSpec(name=name, attribute=attribute, kind="number", minimum=low, maximum=high)


def _flag(name: str, attribute: str) -> FieldSpec:
    return FieldSpec(name=name, attribute=attribute, kind="boolean")


_TABLE: Final = (
    # The order is the bit order of `filled_fields` in the ledger: append only.
    _text("externalReference", "external_reference", 64, "external_reference"),
    _text("dealerProfileId", "dealer_profile_id", 36),
    _text("dealerLocationCode", "dealer_location_code", None),
    _text("status", "status", None, choices="active pending sold draft"),
    _text("title", "title", 120),  # the contract has no limit: what it takes beyond this is not known
    _text("description", "description", 15_000),
    _number("price", "price"),
    _text("currency", "currency", 3, choices="EUR"),
    _text("brand", "brand", 120),
    _text("model", "model", 120),
    _text("variant", "variant", 120),
    _text("customType", "custom_type", 60),
    _whole("year", "year", 1900),
    _whole("mileage", "mileage"),
    _text("fuelType", "fuel_type", 60),
    _text("transmission", "transmission", 60),
    _text("bodyType", "body_type", 60),
    _text("engine", "engine", 60),
    _text("driveType", "drive_type", 60),
    _whole("gears", "gears", 1, 12),
    _text("color", "color", 60),
    _text("interiorColor", "interior_color", 60),
    _text("interiorMaterial", "interior_material", 60),
    _whole("doors", "doors", 1, 10),
    _whole("seats", "seats", 1, 10),
    _number("powerKw", "power_kw"),
    _whole("weight", "weight"),
    _text("paintType", "paint_type", 60),
    _text("vin", "vin", 32),
    _text("firstRegistration", "first_registration", 10),
    _whole("previousOwners", "previous_owners"),
    _flag("serviceHistory", "service_history"),
    _flag("warranty", "warranty"),
    _whole("warrantyMonths", "warranty_months"),
    FieldSpec(name="conditionTags", attribute="condition_tags", kind="texts", max_length=32, max_items=6),
    _text("vehicleType", "vehicle_type", 60, choices="margin btw"),
    _text("condition", "condition", 60, choices="new used demo oldtimer damaged"),
    _text("carPassUrl", "car_pass_url", 2048, "carPass", "car_pass_url", "carPassNumber"),
    _whole("co2Emission", "co2_emission"),
    _text("co2Type", "co2_type", 30, choices="WLTP NEDC"),
    _text("emissionClass", "emission_class", 30),
    _number("fuelConsumption", "fuel_consumption"),
    _text("postalCode", "postal_code", 32),
    _text("city", "city", 120),
    _text("province", "province", 120),
    _number("latitude", "latitude", -90, 90),
    _number("longitude", "longitude", -180, 180),
    FieldSpec(name="features", attribute="features", kind="features"),
    FieldSpec(name="images", attribute="images", kind="images", max_items=MAX_IMAGES),
)

FIELDS: Final = MappingProxyType({spec.name: spec for spec in _TABLE})
"""Wire name -> specification."""

STRICT: Final = frozenset({
    "externalReference", "title", "price", "status", "currency", "dealerProfileId", "dealerLocationCode", "condition",
    "vehicleType",
})  # fmt: skip
"""An invalid value in one of these rejects the listing. In any other field the value is left out."""

BY_INPUT_NAME: Final = MappingProxyType({name: spec for spec in _TABLE for name in (spec.name, *spec.aliases)})
"""Wire name or alias -> specification."""

PLACE: Final = ("postalCode", "city", "province", "latitude", "longitude")
"""Also accepted nested, as ``location``."""
