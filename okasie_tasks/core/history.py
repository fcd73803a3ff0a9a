"""The events of a listing, compact enough to be kept for every listing that was written.

An `Event` records one change or finding, with its reason and both versions of what differed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, differing

Value = str | int | float | bool | None
Change = tuple[str, Value, Value]
"""Field, value before (ours), value after (theirs); None for empty."""

NOT_KEPT: Final = "\0"
"""In a `Change`: there was a value, but only its fingerprint was kept."""

EVENT_BYTES: Final = 400
_WARNINGS: Final = 4
TEXT_CHARACTERS: Final = 40
KINDS: Final = (
    # Stored by position: append only.
    "created", "updated", "sold", "pushed", "refused", "drift", "conflict", "held", "invalid", "failed", "warning",
)  # fmt: skip
_REASONS: Final = (
    # The commonest reasons, stored by position: append only. Others are stored as text.
    "new in the source", "changed in the source", "gone from the source", "sold in the source",
    "on the marketplace, but different", "changed on the marketplace, ours sent again", "refused by the marketplace",
)  # fmt: skip
_NAMES: Final = tuple(FIELDS)
_FIRST: Final = ("price", "status", "mileage")
"""Listed first, so that they are the last to be dropped for space."""


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One event of one listing. ``at_ms``: Redis time, ms since the epoch.

    In a ``drift`` or ``conflict`` a change is (field, ours, theirs).
    """

    at_ms: int
    kind: str
    reason: str
    run: str = ""
    """The run that did it; empty for the urgent lane."""
    request_id: str = ""
    changes: tuple[Change, ...] = ()
    left_out: int = 0
    """The number of changes dropped for space."""
    code: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()
    by: str = ""
    """Who pushed, sold or approved it; empty for what a run decides by itself."""

    def same_as(self, other: Event | None) -> bool:
        """Return whether the other event is the same, apart from its time and run."""
        mine = (self.kind, self.reason, self.changes, self.warnings)
        return other is not None and mine == (other.kind, other.reason, other.changes, other.warnings)


# -- packing -------------------------------------------------------------------------------------------------------

_LIMITS: Final = (("reason", 80), ("run", 36), ("request_id", 80), ("code", 40), ("message", 120), ("by", 64))
"""In bytes; together with the framing they stay well below `EVENT_BYTES`."""


def fit(event: Event) -> Event:
    """Return the event as stored: texts cut, and changes dropped until `pack` needs at most `EVENT_BYTES`."""
    cut = {name: _clip(getattr(event, name), most) for name, most in _LIMITS}
    warnings = tuple([_clip(text, 64) for text in event.warnings[:_WARNINGS]])
    event = msgspec.structs.replace(event, **cut, warnings=warnings)
    if len(pack(event)) <= EVENT_BYTES:
        return event
    if len(event.warnings) > 2:
        event = msgspec.structs.replace(event, warnings=event.warnings[:2])
    while event.changes and len(pack(event)) > EVENT_BYTES:
        event = msgspec.structs.replace(event, changes=event.changes[:-1], left_out=event.left_out + 1)
    if len(pack(event)) > EVENT_BYTES:
        event = msgspec.structs.replace(event, warnings=())
    if len(pack(event)) > EVENT_BYTES:
        event = msgspec.structs.replace(event, message=_clip(event.message, 56))
    return event


def stored(event: Event) -> bytes:
    """Cut the event to what is stored, and encode it."""
    # The events of a first sync differ only between chunks. Equal changes may be of different types: 1, 1.0 and True.
    return pack(fit(event)) if event.changes else _stored_alike(event)


@lru_cache(maxsize=100)
def _stored_alike(event: Event) -> bytes:
    return pack(fit(event))


def pack(event: Event) -> bytes:
    """Encode an event made by `fit` as a msgpack array without trailing empty values."""
    values: list[Any] = [
        event.at_ms,
        KINDS.index(event.kind) if event.kind in KINDS else event.kind,
        _REASONS.index(event.reason) if event.reason in _REASONS else event.reason,
        _ulid_bytes(event.run),
        bytes.fromhex(event.request_id) if _HEX.fullmatch(event.request_id) else event.request_id,
        [(_NAMES.index(name) if name in FIELDS else name, old, new) for name, old, new in event.changes],
        event.left_out,
        event.code,
        event.message,
        event.warnings,
        event.by,
    ]
    while not values[-1] and len(values) > 3:
        values.pop()
    return msgspec.msgpack.encode(values)


def unpack(data: bytes) -> Event:
    """The reverse of `pack`. Raises `ValueError` for bytes that are not an event."""
    try:
        values: list[Any] = msgspec.msgpack.decode(data)
        at_ms, kind, reason = values[:3]
        # Values appended by a newer release are ignored.
        rest = (values[3:11] + _EMPTY[len(values) - 3 :])[:8]
        run, request, changes, left_out, code, message, warnings, by = rest
        return Event(
            at_ms=at_ms,
            kind=_named(KINDS, kind),
            reason=_named(_REASONS, reason),
            run=_ulid_text(run) if isinstance(run, bytes) else run,
            request_id=request.hex() if isinstance(request, bytes) else request,
            changes=tuple((_named(_NAMES, name), old, new) for name, old, new in changes),
            left_out=left_out,
            code=code,
            message=message,
            warnings=tuple(warnings),
            by=by,
        )
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ValueError("these bytes are no event") from error


_EMPTY: Final[list[Any]] = ["", "", (), 0, "", "", (), ""]


def _named(table: Sequence[str], value: Any) -> str:
    """Return a text stored by position. An unknown position, from a newer release, is shown as its number."""
    if not isinstance(value, int):
        return str(value)
    return table[value] if 0 <= value < len(table) else f"#{value}"


_HEX: Final = re.compile(r"[0-9a-f]{32}")
_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID: Final = re.compile(rf"[0-7][{_BASE32}]{{25}}")


@lru_cache(maxsize=1_000)
def _ulid_bytes(text: str) -> bytes | str:
    """Encode a run id (ULID) as 16 bytes; return any other text unchanged."""
    if not _ULID.fullmatch(text):
        return text
    number = 0
    for character in text:
        number = number * 32 + _BASE32.index(character)
    return number.to_bytes(16, "big")


def _ulid_text(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


def _clip(text: str, most: int) -> str:
    """Cut to ``most`` bytes of UTF-8. Unencodable characters (lone surrogates) become question marks."""
    if len(text) <= most and text.isascii():
        return text
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "…"


# -- what differs --------------------------------------------------------------------------------------------------


def both_versions(ours: Compared, theirs: Compared) -> tuple[Change, ...]:
    """Return the differences between two compared forms, with both values shortened to where they differ."""
    pairs = dict(zip(COMPARED_FIELDS, zip(ours, theirs, strict=True), strict=True))
    return sort_changes((name, *_both(*pairs[name])) for name in differing(ours, theirs))


def sort_changes(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Sort changes with price, status and mileage first."""
    return tuple(sorted(changes, key=lambda change: _FIRST.index(change[0]) if change[0] in _FIRST else len(_FIRST)))


def _both(one: object, other: object) -> tuple[Value, Value]:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return _only(one, other), _only(other, one)
    if isinstance(one, str) and isinstance(other, str) and max(len(one), len(other)) > TEXT_CHARACTERS:
        same = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
        if start := max(0, same - 10):
            return f"…{_short(one[start:], 1)}", f"…{_short(other[start:], 1)}"
    return brief(one), brief(other)


def _only(one: Sequence[object], other: Sequence[object]) -> str:
    """Return the items of ``one`` that ``other`` lacks, which are the only ones that matter to a reader."""
    extra = [item for item in one if item not in other]
    return brief(extra) if extra else f"{len(one)} in all"  # type: ignore[return-value]


def brief(value: object) -> Value:
    """Shorten a value for display: texts to 40 characters, a list to its length and beginning."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else _short(str(value))
    if isinstance(value, list | tuple):
        shown = ", ".join(_item(item) for item in value[:TEXT_CHARACTERS])
        return _short(f"{len(value)}: {shown}") if value else None
    return _short(str(value))


def _item(item: object) -> str:
    named = item.get("name", "") if isinstance(item, Mapping) else item
    return str(named).rsplit("\x1f", maxsplit=1)[-1]


def _short(text: str, taken: int = 0) -> str:
    most = TEXT_CHARACTERS - taken
    text = text.replace(NOT_KEPT, " ").encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"
