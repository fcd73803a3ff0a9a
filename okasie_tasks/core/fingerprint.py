"""The compared form of a listing, the comparison of two of them, and fingerprints.

The compared form holds the normalised values that reads return: place flattened, features and tags as sets, numbers as
numbers, text trimmed. It omits images (reads return CDN URLs), ``condition`` and ``customType`` (not returned) and the
dealer (returned in two forms); see API docs, listings/list, and guides/image-handling.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from okasie_tasks.core.fields import FIELDS, PLACE
from okasie_tasks.core.listing import Listing

Compared = tuple[object, ...]
"""Values in the order of `COMPARED_FIELDS`, None for empty."""

_LEFT_OUT: Final = frozenset(
    {"externalReference", "dealerProfileId", "dealerLocationCode", "currency", "customType", "condition", "images"}
)
_SPECS: Final = tuple(spec for spec in FIELDS.values() if spec.name not in _LEFT_OUT)
COMPARED_FIELDS: Final = tuple(spec.name for spec in _SPECS)
DEALER_UNREAD: Final = 1 << len(COMPARED_FIELDS)
"""In a bitmap of unknown fields: the dealer is not named in both forms, by profile and by location code."""

_TOLERANCE: Final[Mapping[str, float]] = {
    "powerKw": 0.75,  # once described as stored in horsepower: 85 may come back as 85.3
    "latitude": 1e-4,
    "longitude": 1e-4,
    "fuelConsumption": 0.051,
    "price": 0.001,
}
_VIN_READ: Final = 17
"""``vin`` is 32 characters on write and 17 on read."""

never_learned: Final = frozenset({"price", "status", "mileage"})
"""Fields whose marketplace rendering is never accepted as an echo of our write."""


# -- normalising ---------------------------------------------------------------------------------------------------


# Each returns None for an empty value, and `UNSET` for one that cannot be read.
_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


def _text(value: object) -> object:
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else UNSET


def _number(value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        if not _PLAIN_NUMBER.fullmatch(text):
            return UNSET if text else None
        value = float(text) if "." in text else int(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNSET
    if isinstance(value, float):
        if not isfinite(value):
            return UNSET
        whole = int(value)
        # msgpack holds 64-bit integers; nothing a car has is larger.
        return whole if value == whole and abs(whole) < 2**63 else value
    return value if abs(value) < 2**63 else UNSET


def _boolean(value: object) -> object:
    return value if isinstance(value, bool) else UNSET


def _texts(value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        return UNSET
    return sorted({text.strip() for text in value if text.strip()}) or None


def _features(value: object) -> object:
    if not isinstance(value, list | tuple):
        return UNSET
    features = set()
    for item in value:
        if isinstance(item, Mapping):
            name, category = item.get("name", item.get("feature")), item.get("category")
        else:
            name, category = getattr(item, "name", None), getattr(item, "category", None)
        if not isinstance(name, str) or not isinstance(category, str | None):
            return UNSET
        if name.strip():
            features.add(f"{category or ''}\x1f{name.strip()}")
    return sorted(features) or None


def normalise(value: object) -> object:
    """Return the compared form of a float or a list; texts, integers and booleans do not need it."""
    if not isinstance(value, list | tuple):
        form = _number(value)
    else:
        form = _texts(value) if value and isinstance(value[0], str) else _features(value)
    return None if form is UNSET else form


_NORMALISE: Final[Mapping[str, Callable[[object], object]]] = {
    "text": _text,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "texts": _texts,
    "features": _features,
}
_values_of: Final = attrgetter(*(spec.attribute for spec in _SPECS))
_EMPTY_PLACE: Final[Mapping[str, Any]] = dict.fromkeys(PLACE)
_THEIRS: Final = tuple((spec.name, _NORMALISE[spec.kind], spec.name in PLACE) for spec in _SPECS)
_MONTH_AT: Final = COMPARED_FIELDS.index("firstRegistration")
_FORMS: Final = {name: normal for name, normal, _ in _THEIRS}
_TEXTS: Final = frozenset(name for name, normal in _FORMS.items() if normal is _text) - {"firstRegistration"}


def compared(listing: Listing) -> Compared:
    """Return the compared form of a listing that we send."""
    # What `_NORMALISE` makes of typed values, without a call for most of them: each run does this for what is new.
    return tuple([
        value
        if value is None or (kind := value.__class__) is bool
        else (value.strip() or None)
        if kind is str
        else normalise(value)
        for value in _values_of(listing)
    ])  # fmt: skip


def compared_row(raw: Mapping[str, Any]) -> Compared:
    """Return the compared form of a row from the marketplace. Never raises: malformed values count as empty."""
    return read_row(raw)[0]


def read_row(raw: Mapping[str, Any]) -> tuple[Compared, int]:
    """Return the compared form of a row from the marketplace, and a bitmap of the fields that are unknown.

    A field is unknown if the row does not contain it or its value cannot be read; its value is then None. Never raises.
    """
    place = raw.get("location", {})
    nested = place if isinstance(place, Mapping) else {} if place is not None else _EMPTY_PLACE
    values: list[object] = []
    absent = 0
    for index, (name, normal, placed) in enumerate(_THEIRS):
        value = (nested if placed else raw).get(name, UNSET)
        form = value if value is None or value is UNSET else normal(value)
        if form is UNSET:
            absent |= 1 << index
        values.append(None if form is UNSET else form)
    month = values[_MONTH_AT]
    if isinstance(month, str):
        values[_MONTH_AT] = month[:7]
    return tuple(values), absent


def field_form(name: str, value: object) -> object:
    """Return the compared form of one field; a field that is not compared stays as it is."""
    if value.__class__ is str and name in _TEXTS:  # most values: each listing that is sent asks for some twenty
        return value.strip() or None
    normal = _FORMS.get(name)
    if value is None or normal is None:
        return value
    form = normal(value)
    if name == "firstRegistration" and isinstance(form, str):
        return form[:7]
    return None if form is UNSET else form


# -- comparing -----------------------------------------------------------------------------------------------------


def differing(ours: Compared, theirs: Compared) -> tuple[str, ...]:
    """Return the names of the fields that differ beyond normalisation and tolerance."""
    return tuple(
        name
        for name, mine, other in zip(COMPARED_FIELDS, ours, theirs, strict=True)
        if mine != other and not _within(name, mine, other)
    )


def _within(name: str, mine: object, other: object) -> bool:
    if name == "vin" and isinstance(mine, str) and isinstance(other, str):
        return mine[:_VIN_READ].upper() == other[:_VIN_READ].upper()
    tolerance = _TOLERANCE.get(name)
    if tolerance is None or not isinstance(mine, int | float) or not isinstance(other, int | float):
        return False
    return abs(mine - other) <= tolerance


def echo_learnable(ours: Compared, theirs: Compared, *, only: str = "") -> bool:
    """Return whether every difference may be the marketplace's rendering of what we sent.

    Order, trimming and rounding are never differences. The spelling of free text is learned: the same letters and
    digits, regardless of case, accents, spaces and punctuation. Never price, status or mileage. ``only``: look at this
    field alone.
    """
    for name in (only,) if only else differing(ours, theirs):
        if name in never_learned or name not in COMPARED_FIELDS:
            return False
        mine, other = ours[COMPARED_FIELDS.index(name)], theirs[COMPARED_FIELDS.index(name)]
        if _letters(mine) is None or _letters(mine) != _letters(other):
            return False
    return True


def _letters(value: object) -> str | None:
    if isinstance(value, list | tuple):
        parts = sorted(_letters(item) or "" for item in value)
        return "\x1f".join(parts)
    if not isinstance(value, str):
        return None
    plain = unicodedata.normalize("NFKD", value)
    return re.sub(r"[\W_]+", "", "".join(c for c in plain if not unicodedata.combining(c))).casefold()


# -- fingerprints --------------------------------------------------------------------------------------------------

_ENCODER: Final = msgspec.msgpack.Encoder()


def fingerprint(value: object) -> bytes:
    """Hash a value made of texts, numbers, None, lists and tuples into 8 bytes. Stable across releases."""
    return blake2b(_ENCODER.encode(value), digest_size=8).digest()


class Encoded(NamedTuple):
    """A listing that we send, encoded once for all that is made of it."""

    values: Compared
    compared: bytes
    """``values`` in msgpack."""
    other: bytes
    """What is sent and not compared, in msgpack: the dealer in both forms, condition, custom type and images."""

    @property
    def rendering(self) -> bytes:
        """`compared_fingerprint` of the values."""
        return blake2b(self.compared, digest_size=8).digest()

    @property
    def content(self) -> bytes:
        """Fingerprint of everything we would send."""
        # As of one list of six: the compared values, and the five others.
        return blake2b(b"\x96" + self.compared + self.other[1:], digest_size=8).digest()


def encoded_form(listing: Listing) -> Encoded:
    values, code = compared(listing), listing.dealer_location_code
    other = (
        listing.dealer_profile_id, code and code.casefold(), listing.condition, listing.custom_type, listing.images
    )  # fmt: skip
    return Encoded(values, _ENCODER.encode(values), _ENCODER.encode(other))


def compared_fingerprint(values: Compared) -> bytes:
    return fingerprint(values)


def content_fingerprint(listing: Listing) -> bytes:
    """Fingerprint everything we would send: compared values, dealer, images, condition and custom type."""
    return encoded_form(listing).content


@lru_cache(maxsize=10_000)
def dealer_fingerprint(kind: Literal["profile", "code"], value: str) -> bytes:
    """Hash a dealer, as received, into 4 bytes. Location codes are case-insensitive (API docs, listings/list)."""
    return blake2b(f"{kind}:{value.casefold()}".encode(), digest_size=4).digest()


def listing_dealer_fingerprint(listing: Listing) -> bytes:
    if listing.dealer_profile_id:
        return dealer_fingerprint("profile", listing.dealer_profile_id)
    return dealer_fingerprint("code", listing.dealer_location_code or "")


_BIT_OF: Final = {spec.attribute: 1 << index for index, spec in enumerate(FIELDS.values())}
_BITS: Final = tuple(_BIT_OF[attribute] for attribute in Listing.__struct_fields__)
_ALL: Final = sum(_BITS)


def filled_fields(listing: Listing) -> int:
    """Return a bitmap of the filled fields; bit ``i`` is the ``i``-th of `FIELDS`."""
    empty = [bit for bit, value in zip(_BITS, astuple(listing), strict=True) if value is None or value == ()]
    return _ALL - sum(empty)


_BIT_OF_COMPARED: Final = tuple(1 << tuple(FIELDS).index(name) for name in COMPARED_FIELDS)


def emptied_fields(values: Compared, filled: int) -> int:
    """Return the fields of the bitmap ``filled`` (see `filled_fields`) that are empty here, as such a bitmap."""
    return sum(bit for bit, value in zip(_BIT_OF_COMPARED, values, strict=True) if value is None and filled & bit)


def encode_compared(values: Compared) -> bytes:
    return _ENCODER.encode(values)


def decode_compared(data: bytes) -> Compared:
    return tuple(msgspec.msgpack.decode(data))


@lru_cache(maxsize=2_000)
def reference_key(reference: str) -> bytes:
    """Hash a reference into 8 bytes, which select its bucket and partition. Stable across releases."""
    # A chunk asks for each of its references several times.
    return blake2b(reference.encode(), digest_size=8).digest()
