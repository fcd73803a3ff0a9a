"""Validates the write shape as a real server would (API docs, listings/upsert).

It deliberately shares no code with the client side: otherwise one misreading of the contract could hide in both.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

STRINGS: Final = {
    "description": 15000, "brand": 120, "model": 120, "variant": 120, "customType": 60, "fuelType": 60,
    "transmission": 60, "bodyType": 60, "engine": 60, "driveType": 60, "color": 60, "interiorColor": 60,
    "interiorMaterial": 60, "paintType": 60, "vin": 32, "firstRegistration": 10, "emissionClass": 30, "postalCode": 32,
    "city": 120, "province": 120,
}  # fmt: skip
INTEGERS: Final = {
    "year": (1900, None), "mileage": (0, None), "weight": (0, None), "previousOwners": (0, None),
    "warrantyMonths": (0, None), "co2Emission": (0, None), "gears": (1, 12), "doors": (1, 10), "seats": (1, 10),
}  # fmt: skip
NUMBERS: Final = {"price": 0, "powerKw": 0, "fuelConsumption": 0, "latitude": None, "longitude": None}
BOOLEANS: Final = ("serviceHistory", "warranty")
ENUMS: Final = {
    "status": ("active", "pending", "sold", "draft"), "co2Type": ("WLTP", "NEDC"), "vehicleType": ("margin", "btw"),
    "condition": ("new", "used", "demo", "oldtimer", "damaged"), "currency": ("EUR",),
}  # fmt: skip
CATEGORIES: Final = ("interior", "exterior", "safety", "comfort", "technology", "other")
ALIASES: Final = {
    "carPass": "carPassUrl", "car_pass_url": "carPassUrl", "carPassNumber": "carPassUrl",
    "external_reference": "externalReference",
}  # fmt: skip
_LONGEST_REFERENCE: Final = 64
_CAR_PASS: Final = re.compile(r"https?://(www\.|public\.)?car-pass\.be/\S*|\d{11}")
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")

MOST: Final = 2**53
"""The largest number: what JSON readers hold exactly."""

Issue = dict[str, str]


def is_reference(text: str) -> bool:
    """Whether a path or an item may name a listing by this text."""
    return 0 < len(text) <= _LONGEST_REFERENCE and text.isprintable() and text not in (".", "..", "bulk-upsert")


def canonical(body: dict[str, Any]) -> dict[str, Any]:
    """The body with aliases replaced by the main names, and a nested location flattened."""
    location = body.get("location")
    nested = isinstance(location, dict)
    flat = {ALIASES.get(name, name): value for name, value in body.items() if not (nested and name == "location")}
    if isinstance(location, dict):
        for name in ("postalCode", "city", "province", "latitude", "longitude"):
            if name in location:
                flat.setdefault(name, location[name])
    return flat


def issues_of(body: dict[str, Any]) -> list[Issue]:
    """All issues of a canonical body; an empty list if it may be stored."""
    issues: list[Issue] = []

    def wrong(path: str, message: str, code: str = "invalid_type") -> None:
        issues.append({"path": path, "message": message, "code": code})

    for name, value in body.items():
        if value is None:
            if name != "carPassUrl":
                wrong(name, "Expected a value, received null")
            continue
        _check(name, value, wrong)
    _required(body, wrong)
    return issues


def _check(name: str, value: Any, wrong: Any) -> None:  # noqa: PLR0912 - one branch a kind of field
    if name in STRINGS or name in ("title", "dealerLocationCode", "dealerProfileId", "carPassUrl"):
        if not isinstance(value, str):
            wrong(name, "Expected string")
        elif name == "title" and not value:
            wrong(name, "String must contain at least 1 character(s)", "too_small")
        elif len(value) > STRINGS.get(name, 2048):
            wrong(name, f"String must contain at most {STRINGS.get(name, 2048)} character(s)", "too_big")
        elif name == "firstRegistration" and not _MONTH.fullmatch(value):
            wrong(name, "Expected YYYY-MM", "invalid_string")
        elif name == "carPassUrl" and not _CAR_PASS.fullmatch(value):
            wrong(name, "Expected a Car-Pass link or certificate number", "invalid_string")
    elif name in INTEGERS:
        low, high = INTEGERS[name]
        high = datetime.now(UTC).year + 1 if name == "year" else high
        if not _is_integer(value):
            wrong(name, "Expected integer")
        elif value < low or value > (high or MOST):
            wrong(name, f"Number must be at least {low}" + (f" and at most {high}" if high else ""), "out_of_range")
    elif name in NUMBERS:
        low_number = NUMBERS[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            wrong(name, "Expected number")
        elif low_number is not None and value < low_number:
            wrong(name, "Number must be greater than or equal to 0", "too_small")
        elif abs(value) > MOST:
            wrong(name, "Number is too large", "too_big")
    elif name in BOOLEANS:
        if not isinstance(value, bool):
            wrong(name, "Expected boolean")
    elif name == "location":
        wrong(name, "Expected object")
    elif name in ENUMS:
        if value not in ENUMS[name]:
            wrong(name, f"Invalid enum value. Expected {' | '.join(ENUMS[name])}", "invalid_enum_value")
    else:
        _check_list(name, value, wrong)


def _is_integer(value: object) -> bool:
    """Whether JSON Schema calls the value an integer: 5.0 is one."""
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))


def _check_list(name: str, value: Any, wrong: Any) -> None:
    if name == "conditionTags":
        if not isinstance(value, list) or not all(isinstance(tag, str) and len(tag) <= 32 for tag in value):
            wrong(name, "Expected an array of strings of at most 32 characters")
        elif len(value) > 6:
            wrong(name, "Array must contain at most 6 element(s)", "too_big")
    elif name == "features":
        for index, item in enumerate(value if isinstance(value, list) else [None]):
            named = isinstance(item, dict) and isinstance(item.get("name", item.get("feature")), str)
            if not named or item.get("category", "other") not in CATEGORIES:
                wrong(f"features.{index}", "Expected a feature with category and name")
    elif name == "images":
        for index, item in enumerate(value if isinstance(value, list) else [None]):
            url = item.get("url", item.get("imageUrl")) if isinstance(item, dict) else item
            if not isinstance(url, str) or not url.startswith(("http://", "https://")):
                wrong(f"images.{index}", "Expected an image URL", "invalid_string")
            position = item.get("position", 0) if isinstance(item, dict) else 0
            if not _is_integer(position) or not 0 <= position <= MOST:
                wrong(f"images.{index}.position", "Expected an integer from 0")


def _required(body: dict[str, Any], wrong: Any) -> None:
    status = body.get("status", "draft")
    if body.get("title") is None:
        wrong("title", "Required")
    if status in ("active", "pending") and body.get("price") is None:
        wrong("price", "Required when status is active or pending")
    if status == "active":
        for name in ("postalCode", "city", "province"):
            if not body.get(name):
                wrong(name, "Required when status is active")
    if not body.get("dealerProfileId") and not body.get("dealerLocationCode"):
        wrong("dealerProfileId", "dealerProfileId or dealerLocationCode is required", "missing_dealer")
