"""Validation of one row against the contract, collecting every issue."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID

from okasie_tasks.core.fields import BY_INPUT_NAME, FEATURE_CATEGORIES, FIELDS, MAX_IMAGES, PLACE, FieldSpec
from okasie_tasks.core.listing import Feature, InvalidListing, Issue, Listing, parse_reference

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]).*)?")
_CAR_PASS_HOSTS: Final = frozenset({"car-pass.be", "www.car-pass.be", "public.car-pass.be"})
_PLAIN_URL: Final = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?(?:[/?#][!-~]*)?")
"""Matches nearly all URLs; the others are checked with `urlsplit`."""
_URL_SIGNS: Final = "%/:=&?~#+!$,;'@()*[]"
"""The signs that have a meaning in a URL, and those of an encoding that was done already."""


class Validation:
    """Builds a `Listing` from one row."""

    def __init__(self, raw: Mapping[str, object], current_year: int) -> None:
        self._year = current_year
        self._issues: list[Issue] = []
        self._values: dict[str, Any] = {}
        for name, value in raw.items():
            self._take(name, value)

    def listing(self) -> Listing:
        """Return the listing. Raises `InvalidListing` with every issue."""
        self._across_fields()
        if self._issues:
            raise InvalidListing(self._values.get("external_reference"), tuple(self._issues))
        return Listing(**self._values)

    # -- one field at a time ---------------------------------------------------------------------------------------

    def _take(self, name: str, value: object) -> None:
        if not value and (value is None or isinstance(value, str | list | tuple)):
            return
        if name == "location" and isinstance(value, Mapping):
            for inner, part in value.items():
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
        self._issues.append(Issue(field, code, message))

    def _text(self, spec: FieldSpec, value: object) -> str | None:
        if not isinstance(value, str):
            self._wrong(spec.name, "not_text", f"expected text, got {_shown(value)}")
            return None
        text = value.strip()
        if not text:
            return None
        if spec.choices is not None and text not in spec.choices:
            self._wrong(spec.name, "not_allowed", f"expected {_or(spec.choices)}, got {_shown(text)}")
            return None
        check = _CHECKS.get(spec.name)
        if check is not None:
            return check(self, spec, text)
        if spec.max_length is not None and len(text) > spec.max_length:
            self._wrong(spec.name, "too_long", f"expected at most {spec.max_length} characters, got {len(text)}")
            return None
        return text

    def _numeric(self, spec: FieldSpec, value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(spec.name, "not_a_number", f"expected a number, got {_shown(value)}")
            return None
        if not math.isfinite(value):
            self._wrong(spec.name, "not_a_number", f"expected a finite number, got {value}")
            return None
        maximum = self._year + 1 if spec.name == "year" else spec.maximum
        if (spec.minimum is not None and value < spec.minimum) or (maximum is not None and value > maximum):
            between = f"at least {spec.minimum:g}" + (f" and at most {maximum:g}" if maximum is not None else "")
            self._wrong(spec.name, "out_of_range", f"expected {between}, got {value:g}")
            return None
        return value

    def _integer(self, spec: FieldSpec, value: object) -> int | None:
        number = self._numeric(spec, value)
        if number is None:
            return None
        if number != int(number):
            self._wrong(spec.name, "not_an_integer", f"expected a whole number, got {number:g}")
            return None
        return int(number)

    def _number(self, spec: FieldSpec, value: object) -> float | None:
        number = self._numeric(spec, value)
        if number is None:
            return None
        if spec.name == "price":
            number = round(number, 2)
        # 17450.0 and 17450 are the same price: both are written and fingerprinted as an integer.
        return int(number) if number == int(number) and abs(number) < 2**53 else number

    def _boolean(self, spec: FieldSpec, value: object) -> bool | None:
        if isinstance(value, bool):
            return value
        self._wrong(spec.name, "not_a_boolean", f"expected true or false, got {_shown(value)}")
        return None

    def _texts(self, spec: FieldSpec, value: object) -> tuple[str, ...] | None:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            self._wrong(spec.name, "not_a_list", f"expected a list of texts, got {_shown(value)}")
            return None
        texts = tuple(dict.fromkeys(text.strip() for text in value if text.strip()))
        if spec.max_items is not None and len(texts) > spec.max_items:
            self._wrong(spec.name, "too_many", f"expected at most {spec.max_items}, got {len(texts)}")
        elif any(len(text) > (spec.max_length or len(text)) for text in texts):
            self._wrong(spec.name, "too_long", f"expected at most {spec.max_length} characters each")
        else:
            return texts
        return None

    def _images(self, spec: FieldSpec, value: object) -> tuple[str, ...] | None:
        if not isinstance(value, list | tuple):
            self._wrong(spec.name, "not_a_list", f"expected a list of URLs, got {_shown(value)}")
            return None
        placed: list[tuple[float, str]] = []
        for index, item in enumerate(value):
            position = item.get("position") if isinstance(item, Mapping) else None
            if position is None:
                position = index
            if isinstance(position, bool) or not isinstance(position, int | float) or not math.isfinite(position):
                self._wrong(f"images.{index}.position", "not_a_number", f"expected a number, got {_shown(position)}")
                return None
            url = item.get("url", item.get("imageUrl")) if isinstance(item, Mapping) else item
            address = encoded_url(url) if isinstance(url, str) else None
            if address is None:
                self._wrong(f"images.{index}", "not_a_url", f"expected an http(s) URL, got {_shown(url)}")
                return None
            placed.append((position, address))
        # `position` orders the pictures; without one, the place in the list counts. Equal positions keep their order.
        placed.sort(key=lambda image: image[0])
        # More than 50 and repeats are not documented: the first 50 are sent, each once, in order.
        return tuple(dict.fromkeys(url for _, url in placed))[:MAX_IMAGES]

    def _features(self, spec: FieldSpec, value: object) -> tuple[Feature, ...] | None:
        if not isinstance(value, list | tuple):
            self._wrong(spec.name, "not_a_list", f"expected a list of features, got {_shown(value)}")
            return None
        features: dict[tuple[str, str | None], Feature] = {}
        for index, item in enumerate(value):
            name = item.get("name", item.get("feature")) if isinstance(item, Mapping) else None
            category = item.get("category") if isinstance(item, Mapping) else None
            if not isinstance(name, str) or not name.strip():
                self._wrong(f"features.{index}", "not_a_feature", f"expected a category and a name, got {_shown(item)}")
                return None
            if category is not None and category not in FEATURE_CATEGORIES:
                self._wrong(
                    f"features.{index}.category",
                    "not_allowed",
                    f"expected {_or(FEATURE_CATEGORIES)}, got {_shown(category)}",
                )
                return None
            # The contract shows both members; a feed that only has names gets the neutral category.
            features[name.strip(), category] = Feature(name.strip(), category or "other")
        return tuple(features.values())

    # -- texts with a fixed format ---------------------------------------------------------------------------------

    def _reference(self, spec: FieldSpec, text: str) -> str | None:
        reference = parse_reference(text)
        if reference is None:
            self._wrong(spec.name, "bad_reference", f"expected 1 to 64 printable characters, got {_shown(text)}")
        return reference

    def _profile(self, spec: FieldSpec, text: str) -> str | None:
        try:
            return str(UUID(text))
        except ValueError:
            self._wrong(spec.name, "not_a_uuid", f"expected a UUID, got {_shown(text)}")
            return None

    def _registration(self, spec: FieldSpec, text: str) -> str | None:
        match = _MONTH.fullmatch(text)
        if match is None:
            self._wrong(spec.name, "bad_month", f"expected YYYY-MM, got {_shown(text)}")
            return None
        return f"{match[1]}-{match[2]}"

    def _car_pass(self, spec: FieldSpec, text: str) -> str | None:
        if re.fullmatch(r"\d{11}", text):
            return text
        if len(text) <= (spec.max_length or 0) and _is_web(text) and urlsplit(text).hostname in _CAR_PASS_HOSTS:
            return text
        self._wrong(spec.name, "bad_car_pass", f"expected a car-pass.be link or 11 digits, got {_shown(text)}")
        return None

    # -- rules across fields ---------------------------------------------------------------------------------------

    def _across_fields(self) -> None:
        """Required-when rules (API docs, listings/upsert), for the status that the listing will have."""
        values, status = self._values, self._values.get("status")
        wrong = {issue.field for issue in self._issues}
        needed = ["externalReference", "title", "status"]
        if status in ("active", "pending"):
            needed.append("price")
        if status == "active":
            needed += ["postalCode", "city", "province"]
        for name in needed:
            if FIELDS[name].attribute not in values and name not in wrong:
                why = f" when status is {status}" if name in ("price", *PLACE) else ""
                self._wrong(name, "required", f"is required{why}, but the row has none")
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
    "firstRegistration": Validation._registration,
    "carPassUrl": Validation._car_pass,
}


def encoded_url(text: str) -> str | None:
    """Return an http(s) URL as it is sent, spaces and other characters percent-encoded; None for anything else.

    An address without a scheme (``//host/...``) is one of https.
    """
    url = text.strip()
    if _PLAIN_URL.fullmatch(url):
        return url
    url = f"https:{url}" if url.startswith("//") else url
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or parts.username is not None:
        return None
    port = "" if parts.port is None else f":{parts.port}"
    rest = (quote(part, safe=_URL_SIGNS) for part in (parts.path, parts.query, parts.fragment))
    return urlunsplit((parts.scheme, host + port, *rest))


def _is_web(url: str) -> bool:
    if _PLAIN_URL.fullmatch(url):
        return True
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _or(choices: frozenset[str]) -> str:
    return " or ".join(sorted(choices))


def images_left_out(images: object, listing: Listing) -> str:
    """Return a warning when a row has more images than a listing may have; "" otherwise."""
    count = len(images) - len(listing.images) if isinstance(images, list | tuple) else 0
    too_many = count > 0 and len(listing.images) == MAX_IMAGES
    return (
        f"{count} of {len(listing.images) + count} images left out: at most {MAX_IMAGES}, each once" if too_many else ""
    )


def parse_listing(raw: Mapping[str, object], *, current_year: int) -> Listing:
    """Validate a row in write shape, with typed values, under field names or their aliases.

    Raises `InvalidListing` with everything that is wrong. None and "" count as absent.
    """

    return Validation(raw, current_year).listing()
