"""A compact snapshot of the content last sent for a listing, so that the next write can record what it changed.

It keeps price, mileage and status by value, and a two-byte hash of every other filled field; never the content.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import msgspec

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, Encoded, field_form
from okasie_tasks.core.history import NOT_KEPT, Change, Value, brief, sort_changes
from okasie_tasks.core.ledger_entry import STATUSES

_ENCODER: Final = msgspec.msgpack.Encoder()
_BITMAP_BYTES: Final = 8
_HASH_BYTES: Final = 2
_BY_VALUE: Final = ("price", "mileage", "status")
_SHOWN: Final = frozenset(FIELDS) - {"externalReference"}
_HASHED: Final = _SHOWN - {*_BY_VALUE}
_PLACES: Final = {name: place for place, name in enumerate(FIELDS)}
_SPLIT: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_IN_PARTS: Final = (
    *COMPARED_FIELDS, "dealerProfileId", "dealerLocationCode", "condition", "customType", "images", "currency",
)  # fmt: skip
"""The fields of `Encoded`, in its order, and the one that it lacks."""
_HASHED_PARTS: Final = tuple((_IN_PARTS.index(name), 1 << place) for name, place in _PLACES.items() if name in _HASHED)
"""For each hashed field, in the order of `FIELDS`: where its value is encoded, and its bit."""
_HASHED_BITS: Final = sum(bit for _, bit in _HASHED_PARTS)
_VALUES_AT: Final = tuple(map(COMPARED_FIELDS.index, _BY_VALUE))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was last sent. Hashes have 16 bits, so about one change in 65,536 is missed."""

    price: Value = None
    mileage: Value = None
    status: Value = None
    hashes: Mapping[str, bytes] = {}
    """Filled field -> hash of its value."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot of a listing in write shape, as sent."""
        return cls._of({name: _form(name, value) for name, value in body.items() if name in _SHOWN})

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Snapshot:
        return cls(
            price=brief(values.get("price")),
            mileage=brief(values.get("mileage")),
            status=brief(values.get("status")),
            # Zero and False are values, unlike an empty text or list.
            hashes={
                name: hash_of(value) for name, value in values.items() if name in _HASHED and (value or value == 0)
            },
        )

    def pack(self) -> bytes:
        """Encode a bitmap of the fields, their hashes in order, and the three values: about 90 bytes, at most 130."""
        names = sorted(self.hashes, key=_PLACES.__getitem__)
        bits = sum([1 << _PLACES[name] for name in names])
        joined = b"".join([self.hashes[name] for name in names])
        return _packed(bits, joined, self.price, self.mileage, self.status)

    @classmethod
    def unpack(cls, data: bytes) -> Snapshot:
        """The reverse of `pack`. Raises `ValueError` for bytes that are no snapshot."""
        bits = int.from_bytes(data[:_BITMAP_BYTES], "little")
        names = [name for place, name in enumerate(FIELDS) if bits >> place & 1]
        end = _BITMAP_BYTES + _HASH_BYTES * len(names)
        try:
            price, mileage, status = msgspec.msgpack.decode(data[end:])
            places = range(_BITMAP_BYTES, end, _HASH_BYTES)
            hashes = {name: data[at : at + _HASH_BYTES] for name, at in zip(names, places, strict=True)}
            return cls(price=price, mileage=mileage, status=STATUSES[status] or None, hashes=hashes)
        except (msgspec.DecodeError, IndexError, TypeError) as error:
            raise ValueError("these bytes are no snapshot") from error


def packed(form: Encoded, filled: int, currency: str | None) -> bytes:
    """Return what `Snapshot.of` and `Snapshot.pack` make of the body of this listing, without its body.

    ``filled``: its `filled_fields`.
    """
    parts, bits = [*_SPLIT(form.compared), *_SPLIT(form.other), _encoded_text(currency)], filled & _HASHED_BITS
    hashes = [crc32(parts[index]) & 0xFFFF for index in _places_of(bits)]
    joined = struct.pack(f">{len(hashes)}H", *hashes)
    return _packed(bits, joined, *[brief(form.values[place]) for place in _VALUES_AT])


@lru_cache(maxsize=1_000)
def _places_of(bits: int) -> tuple[int, ...]:
    """Return where the values of these fields are encoded, in the order of `FIELDS`."""
    return tuple(index for index, bit in _HASHED_PARTS if bits & bit)


@lru_cache(maxsize=8)
def _encoded_text(text: str | None) -> bytes:
    return _ENCODER.encode(text)


def _packed(bits: int, hashes: bytes, price: Value, mileage: Value, status: Value) -> bytes:
    number = STATUSES.index(str(status)) if status in STATUSES else 0
    return bits.to_bytes(_BITMAP_BYTES, "little") + hashes + _ENCODER.encode((price, mileage, number))


def diff(
    before: Snapshot | None, body: Mapping[str, Any], *, after: Snapshot | None = None, status: str = ""
) -> tuple[Change, ...]:
    """Return what a listing in write shape changes of what was last sent; empty if no snapshot was kept.

    ``after``: the listing's own snapshot, if already made. ``status``: the ledger's status, if something other than a
    send has changed it since.
    """
    if before is None:
        return ()
    before = msgspec.structs.replace(before, status=status or before.status)
    return _against(before, after or Snapshot.of(body), body, _HASHED)


def theirs(ours: Snapshot | None, row: Compared) -> tuple[Change, ...]:
    """Return how the marketplace's row differs from what was last sent, if our own values are not available."""
    if ours is None:
        return ()
    values = dict(zip(COMPARED_FIELDS, row, strict=True))
    return _against(ours, Snapshot._of(values), values, _HASHED.intersection(values))


def fields_in(body: Mapping[str, Any]) -> dict[str, Value]:
    """Return the filled fields of a listing in write shape, shortened for display."""
    values = {name: _form(name, body[name]) for name in FIELDS if name in _SHOWN and name in body}
    return {name: brief(value) for name, value in values.items() if value not in _EMPTY}


def _against(before: Snapshot, after: Snapshot, values: Mapping[str, Any], names: frozenset[str]) -> tuple[Change, ...]:
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in _BY_VALUE)
    changes: list[Change] = [(name, old, new) for name, old, new in pairs if old != new]
    if before.hashes != after.hashes:
        changes += [
            (
                name,
                NOT_KEPT if name in before.hashes else None,
                brief(values[name]) if name in after.hashes else None,
            )
            for name in FIELDS
            if name in names and before.hashes.get(name) != after.hashes.get(name)
        ]
    return sort_changes(changes)


def _form(name: str, value: object) -> object:
    """Return the value of a field of the write shape, normalised as for comparing rows."""
    is_code = name == "dealerLocationCode" and isinstance(value, str)
    return str(value).casefold() if is_code else field_form(name, value)


_EMPTY: Final[tuple[object, ...]] = (None, "", [], ())


def hash_of(value: object) -> bytes:
    """Return the 16-bit hash of a field's value."""
    # Not for security. A chunk has some thousand values, and CRC-32 is the fastest hash that distributes well.
    return (crc32(_ENCODER.encode(value)) & 0xFFFF).to_bytes(_HASH_BYTES, "big")
