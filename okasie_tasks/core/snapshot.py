"""What stands for the content that was last sent of a listing, so that the next write can tell what it changed.

Contents are never kept: price, mileage and status are, of every other field that is filled a hash of two bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from okasie_tasks.core.entry import STATUSES
from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, compared_row, fingerprint
from okasie_tasks.core.history import NOT_KEPT, Change, Value, brief, sort_changes

_BITMAP_BYTES: Final = 8
_HASH_BYTES: Final = 2
_BY_VALUE: Final = ("price", "mileage", "status")
_HASHED: Final = tuple(name for name in FIELDS if name not in (*_BY_VALUE, "externalReference"))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was last sent. A changed field is overlooked once in 65,536 times: it has 16 bits."""

    price: Value = None
    mileage: Value = None
    status: Value = None
    hashes: Mapping[str, bytes] = {}
    """Field -> what stands for its value, of those that are filled."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Snapshot:
        """Of a listing in write shape, as it is sent."""
        values = _values(body)
        return cls(
            price=brief(values["price"]),
            mileage=brief(values["mileage"]),
            status=brief(values["status"]),
            hashes={name: _hash(values[name]) for name in _HASHED if _filled(values[name])},
        )

    def pack(self) -> bytes:
        """A bitmap of the fields, their hashes in that order, and the three values: about 90 bytes, at most 130."""
        bits = sum(1 << place for place, name in enumerate(FIELDS) if name in self.hashes)
        joined = b"".join(self.hashes[name] for name in FIELDS if name in self.hashes)
        status = STATUSES.index(str(self.status)) if self.status in STATUSES else 0
        values = msgspec.msgpack.encode((self.price, self.mileage, status))
        return bits.to_bytes(_BITMAP_BYTES, "little") + joined + values

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


def diff(before: Snapshot | None, body: Mapping[str, Any], *, status: str = "") -> tuple[Change, ...]:
    """What a listing in write shape changes of what was last sent; nothing can be told when that was not kept.

    ``status``: as the ledger has it, when something else than a send has changed it since.
    """
    if before is None:
        return ()
    return _against(msgspec.structs.replace(before, status=status or before.status), _values(body))


def theirs(ours: Snapshot | None, row: Compared) -> tuple[Change, ...]:
    """What the marketplace's row has otherwise than what was last sent, where our own values are not at hand."""
    return () if ours is None else _against(ours, dict(zip(COMPARED_FIELDS, row, strict=True)))


def _against(before: Snapshot, values: Mapping[str, Any]) -> tuple[Change, ...]:
    changes: list[Change] = []
    for name in _BY_VALUE:
        old, new = getattr(before, name), brief(values[name])
        if old != new:
            changes.append((name, old, new))
    for name in _HASHED:
        if name in values:
            old_hash, new = before.hashes.get(name), values[name]
            if old_hash != (_hash(new) if _filled(new) else None):
                changes.append((name, None if old_hash is None else NOT_KEPT, brief(new) if _filled(new) else None))
    return sort_changes(changes)


def _values(body: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the write shape, normalised as rows are for comparing."""
    plain = {name: body.get(name) for name in FIELDS}
    if isinstance(code := plain["dealerLocationCode"], str):
        plain["dealerLocationCode"] = code.casefold()
    return plain | dict(zip(COMPARED_FIELDS, compared_row({**body, "location": body}), strict=True))


def _filled(value: object) -> bool:
    return value not in (None, "", [], ())


def _hash(value: object) -> bytes:
    return fingerprint(value)[:_HASH_BYTES]
