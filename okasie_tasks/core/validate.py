"""Validation of one row against the contract, collecting every issue.

In the fields of `STRICT` an invalid value rejects the row. In any other field it is left out, and the row gets a
warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from okasie_tasks.core.fields import BY_INPUT_NAME, FEATURE_CATEGORIES, FIELDS, MAX_IMAGES, PLACE, STRICT, FieldSpec
from okasie_tasks.core.listing import Feature, InvalidListing, Issue, Listing, brief, parse_reference
from okasie_tasks.core.urls import encoded_url, is_web

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]).*)?")
_EXACT: Final = 2**53
"""From here on a float does not hold every whole number, and JSON readers differ."""
_CAR_PASS_HOSTS: Final = frozenset({"car-pass.be", "www.car-pass.be", "public.car-pass.be"})


class ParsedListing(NamedTuple):
    """A valid listing, and what was left out of it or cut."""

    listing: Listing
    warnings: tuple[Issue, ...]


class Validation:
    """Builds a `Listing` from one row."""

    def __init__(self, raw: Mapping[str, object], current_year: int, valid: Mapping[str, Any]) -> None:
        self._year = current_year
        self._issues: list[Issue] = []
        self._left_out: dict[str, Issue] = {}
        """Field -> why its value was left out."""
        self._changed: list[Issue] = []
        """What was cut, or left out of a list."""
        self._values: dict[str, Any] = dict(valid)
        self._value: object = None
        """The one that is read now."""
        for name, value in raw.items():
            self._take(name, value)

    def parsed(self) -> ParsedListing:
        """Return the listing with its warnings. Raises `InvalidListing` with every issue that rejects it."""
        self._across_fields()
        if self._issues:
            raise InvalidListing(self._values.get("external_reference"), tuple(self._issues))
        left_out = (Issue(one.field, one.code, f"left out: {one.message}") for one in self._left_out.values())
        return ParsedListing(Listing(**self._values), (*left_out, *self._changed))

    # -- one field at a time ---------------------------------------------------------------------------------------

    def _take(self, name: str, value: object) -> None:
        if not value and (value is None or isinstance(value, str | list | tuple)):
            return
        self._value = value
        if name == "location" and isinstance(value, Mapping):
            for inner, part in value.items():
                self._value = part
                if inner in PLACE:
                    self._take(inner, part)
                else:
                    self._wrong(f"location.{inner}", "unknown_field", "is not a field of a location")
            return
        spec = BY_INPUT_NAME.get(name)
        if spec is None:
            self._wrong(name, "unknown_field", "is not a field of a listing")
            return
        if spec.attribute in self._values:
            self._wrong(spec.name, "given_twice", f"is given twice, the second time as {name}")
            return
        parsed = _READ[spec.kind](self, spec, value)
        if parsed is not None:
            self._values[spec.attribute] = parsed

    def _wrong(self, field: str, code: str, message: str) -> None:
        self._issues.append(Issue(field, code, message, brief(self._value)))

    def _invalid(self, spec: FieldSpec, code: str, message: str) -> None:
        """Reject the row because of this value, or leave the value out."""
        if spec.name in STRICT:
            self._wrong(spec.name, code, message)
        else:
            self._left_out[spec.name] = Issue(spec.name, code, message, brief(self._value))

    def _warn(self, spec: FieldSpec, code: str, message: str) -> None:
        self._changed.append(Issue(spec.name, code, message))

    def _text(self, spec: FieldSpec, value: object) -> str | None:
        if not isinstance(value, str):
            self._invalid(spec, "not_text", f"expected text, got {_shown(value)}")
            return None
        text = value.strip()
        if not text:
            return None
        if spec.choices is not None and text not in spec.choices:
            self._invalid(spec, "not_allowed", f"expected {_or(spec.choices)}, got {_shown(text)}")
            return None
        check = _CHECKS.get(spec.name)
        if check is not None:
            return check(self, spec, text)
        if spec.max_length is not None and len(text) > spec.max_length:
            self._warn(spec, "too_long", f"cut to {spec.max_length} characters of {len(text)}")
            return text[: spec.max_length].rstrip()
        return text

    def _numeric(self, spec: FieldSpec, value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._invalid(spec, "not_a_number", f"expected a number, got {_shown(value)}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._invalid(spec, "not_a_number", f"expected a finite number, got {value}")
            return None
        if abs(value) >= _EXACT:
            self._invalid(spec, "out_of_range", f"expected a number below {_EXACT}")
            return None
        maximum = self._year + 1 if spec.name == "year" else spec.maximum
        if (spec.minimum is not None and value < spec.minimum) or (maximum is not None and value > maximum):
            between = f"at least {spec.minimum:g}" + (f" and at most {maximum:g}" if maximum is not None else "")
            self._invalid(spec, "out_of_range", f"expected {between}, got {_shown(value)}")
            return None
        return value

    def _integer(self, spec: FieldSpec, value: object) -> int | None:
        number = self._numeric(spec, value)
        if number is None:
            return None
        if number != int(number):
            self._invalid(spec, "not_an_integer", f"expected a whole number, got {number:g}")
            return None
        return int(number)

    def _number(self, spec: FieldSpec, value: object) -> float | None:
        number = self._numeric(spec, value)
        if number is None:
            return None
        if spec.name == "price":
            number = round(number, 2)
        # 17450.0 and 17450 are the same price: both are written and fingerprinted as an integer.
        return int(number) if number == int(number) else number

    def _boolean(self, spec: FieldSpec, value: object) -> bool | None:
        if isinstance(value, bool):
            return value
        self._invalid(spec, "not_a_boolean", f"expected true or false, got {_shown(value)}")
        return None

    def _texts(self, spec: FieldSpec, value: object) -> tuple[str, ...] | None:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            self._invalid(spec, "not_a_list", f"expected a list of texts, got {_shown(value)}")
            return None
        texts = list(dict.fromkeys(text.strip() for text in value if text.strip()))
        longest = spec.max_length or 0
        if too_long := sum(len(text) > longest for text in texts):
            self._warn(spec, "too_long", f"{too_long} of {len(texts)} cut to {longest} characters")
            texts = list(dict.fromkeys(text[:longest].rstrip() for text in texts))
        if spec.max_items is not None and len(texts) > spec.max_items:
            most = spec.max_items
            self._warn(spec, "too_many", f"{len(texts) - most} of {len(texts)} left out: at most {most}")
        return tuple(texts[: spec.max_items])

    def _images(self, spec: FieldSpec, value: object) -> tuple[str, ...] | None:
        if not isinstance(value, list | tuple):
            self._invalid(spec, "not_a_list", f"expected a list of URLs, got {_shown(value)}")
            return None
        placed: list[tuple[float, str]] = []
        wrong: list[str] = []
        for index, item in enumerate(value):
            with_place = not isinstance(item, str) and isinstance(item, Mapping)
            url = item.get("url", item.get("imageUrl")) if with_place else item
            if url is None or url == "":
                continue
            address = encoded_url(url) if isinstance(url, str) else None
            if address is None:
                wrong.append(f"image {index + 1}: expected an http(s) URL, got {_shown(url)}")
            else:
                placed.append((self._position(spec, item, index) if with_place else index, address))
        if wrong:
            self._warn(spec, "not_a_url", f"{len(wrong)} of {len(value)} left out: {wrong[0]}")
        # `position` orders the pictures; without one, the place in the list counts. Equal positions keep their order.
        placed.sort(key=lambda image: image[0])
        # More than 50 and repeats are not documented: the first 50 are sent, each once, in order.
        images = tuple(dict.fromkeys(url for _, url in placed))
        if len(images) > MAX_IMAGES:
            left_out = f"{len(images) - MAX_IMAGES} of {len(images)} left out"
            self._warn(spec, "too_many", f"{left_out}: at most {MAX_IMAGES}, each once")
        return images[:MAX_IMAGES]

    def _position(self, spec: FieldSpec, item: Mapping[str, Any], index: int) -> float:
        """Return the place of an image: its ``position``, else its place in the list."""
        position = item.get("position")
        if position is None:
            return index
        if isinstance(position, bool) or not isinstance(position, int | float) or not math.isfinite(position):
            self._warn(spec, "not_a_number", f"position of image {index + 1} ignored: got {_shown(position)}")
            return index
        return position

    def _features(self, spec: FieldSpec, value: object) -> tuple[Feature, ...] | None:
        if not isinstance(value, list | tuple):
            self._invalid(spec, "not_a_list", f"expected a list of features, got {_shown(value)}")
            return None
        features: dict[tuple[str, str | None], Feature] = {}
        wrong: list[str] = []
        for item in value:
            name = item.get("name", item.get("feature")) if isinstance(item, Mapping) else None
            category = item.get("category") if isinstance(item, Mapping) else None
            if not isinstance(name, str) or not name.strip():
                wrong.append(f"expected a category and a name, got {_shown(item)}")
            elif category is not None and category not in FEATURE_CATEGORIES:
                wrong.append(f"expected the category {_or(FEATURE_CATEGORIES)}, got {_shown(category)}")
            else:
                # The contract shows both members; a feed that only has names gets the neutral category.
                features[name.strip(), category] = Feature(name.strip(), category or "other")
        if wrong:
            self._warn(spec, "not_a_feature", f"{len(wrong)} of {len(value)} left out: {wrong[0]}")
        return tuple(features.values())

    # -- texts with a fixed format ---------------------------------------------------------------------------------

    def _reference(self, spec: FieldSpec, text: str) -> str | None:
        reference = parse_reference(text)
        if reference is None:
            self._invalid(spec, "bad_reference", f"expected 1 to 64 printable characters, got {_shown(text)}")
        return reference

    def _profile(self, spec: FieldSpec, text: str) -> str | None:
        try:
            return str(UUID(text))
        except ValueError:
            self._invalid(spec, "not_a_uuid", f"expected a UUID, got {_shown(text)}")
            return None

    def _vin(self, spec: FieldSpec, text: str) -> str | None:
        if len(text) <= (spec.max_length or 0):
            return text
        self._invalid(spec, "too_long", f"expected at most {spec.max_length} characters, got {len(text)}")
        return None

    def _registration(self, spec: FieldSpec, text: str) -> str | None:
        match = _MONTH.fullmatch(text)
        if match is None:
            self._invalid(spec, "bad_month", f"expected YYYY-MM, got {_shown(text)}")
            return None
        return f"{match[1]}-{match[2]}"

    def _car_pass(self, spec: FieldSpec, text: str) -> str | None:
        if re.fullmatch(r"\d{11}", text):
            return text
        if len(text) <= (spec.max_length or 0) and is_web(text) and urlsplit(text).hostname in _CAR_PASS_HOSTS:
            return text
        self._invalid(spec, "bad_car_pass", f"expected a car-pass.be link or 11 digits, got {_shown(text)}")
        return None

    # -- rules across fields ---------------------------------------------------------------------------------------

    def _across_fields(self) -> None:
        """Rules for the status that the listing will have (API docs, listings/upsert), and for its dealer."""
        values, status = self._values, self._values.get("status")
        self._value = None
        wrong = {issue.field for issue in self._issues}
        needed = ["externalReference", "title", "status"]
        if status in ("active", "pending"):
            needed.append("price")
        if status == "active":
            needed += ["postalCode", "city", "province"]
        for name in needed:
            if FIELDS[name].attribute in values or name in wrong:
                continue
            if invalid := self._left_out.pop(name, None):
                self._issues.append(invalid)
                continue
            why = f" when status is {status}" if name in ("price", *PLACE) else ""
            self._wrong(name, "required", f"is required{why}, but the row has none")
        if status == "active" and values.get("price") == 0:
            self._value = 0
            self._wrong("price", "out_of_range", "expected more than 0 when status is active, got 0")
        dealers = [name for name in ("dealerProfileId", "dealerLocationCode") if FIELDS[name].attribute in values]
        if len(dealers) == 2:
            self._wrong("dealerLocationCode", "given_twice", "expected dealerProfileId or dealerLocationCode, got both")
        elif not dealers and not wrong & {"dealerProfileId", "dealerLocationCode"}:
            self._wrong("dealerLocationCode", "required", "dealerLocationCode or dealerProfileId is required")


_READ: Final = {
    "text": Validation._text,
    "integer": Validation._integer,
    "number": Validation._number,
    "boolean": Validation._boolean,
    "texts": Validation._texts,
    "images": Validation._images,
    "features": Validation._features,
}
_CHECKS: Final = {
    "externalReference": Validation._reference,
    "dealerProfileId": Validation._profile,
    "vin": Validation._vin,
    "firstRegistration": Validation._registration,
    "carPassUrl": Validation._car_pass,
}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _or(choices: frozenset[str]) -> str:
    return " or ".join(sorted(choices))


def parse_listing(
    raw: Mapping[str, object], *, current_year: int, valid: Mapping[str, Any] = MappingProxyType({})
) -> ParsedListing:
    """Validate a row in write shape, with typed values, under field names or their aliases.

    ``valid``: attributes of the listing that were validated before; ``raw`` lacks their fields. Raises
    `InvalidListing` with everything that rejects it. None and "" count as absent.
    """
    return Validation(raw, current_year, valid).parsed()
