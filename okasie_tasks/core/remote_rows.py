"""The marketplace's rows in read shape, and its list decoded straight to what is compared.

A row that is known, byte for byte, is not decoded: only its id and reference are. Of the others, one whose values are
of the kinds that the contract names is decoded at once, and what is not used is skipped; any other row is read value by
value by `read_remote`, which makes the same of the same row. Reading back is tolerant: it never raises.

A field that a row does not contain, or whose value cannot be read, is unknown, which is not the same as empty: its bit
in `RemoteListing.absent` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from xxhash import xxh3_64_digest

from okasie_tasks.core.fields import FIELDS, PLACE
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, DEALER_UNREAD, Compared, normalise, read_row
from okasie_tasks.core.ledger_entry import STATUSES

_Id = Annotated[str, msgspec.Meta(min_length=1)]
_Whole = Annotated[int, msgspec.Meta(ge=1 - 2**63, le=2**63 - 1)]
_Unread = msgspec.Raw


class _Feature(msgspec.Struct):
    name: str
    category: str | None = None


class _Dealer(msgspec.Struct):
    id: str | None = None
    locationCode: str | None = None


_KIND: Final[dict[str, Any]] = {
    "text": str | None,
    "integer": _Whole | float | None,
    "number": _Whole | float | None,
    "boolean": bool | None,
    "texts": list[str] | None,
    "features": list[_Feature] | None,
}


_IDENTITY: Final[dict[str, Any]] = {
    "id": _Id | None,
    "externalReference": str | None,
    "externalProvider": str | None,
    "updatedAt": datetime | None,
    "dealerProfileId": str | None,
    "dealer": _Dealer | None,
    "images": list[_Unread] | None,
    "listingUrl": str | None,
}
_OUTSIDE: Final = tuple(field for field in COMPARED_FIELDS if field not in PLACE)
_PLACE_AT: Final = COMPARED_FIELDS.index(PLACE[0])
_MONTH: Final = COMPARED_FIELDS.index("firstRegistration")


def _row(name: str, *default: Any) -> Any:
    """A row as a struct. ``default``: of each compared field; without it, a row must contain them all."""

    def kinds(fields: tuple[str, ...]) -> list[Any]:
        return [(field, _KIND[FIELDS[field].kind], *default) for field in fields]

    place = msgspec.defstruct(f"{name}Place", kinds(PLACE), gc=False)
    # What is not compared stands behind, so that the compared values are the first of the tuple.
    identity = [(field, kind, None) for field, kind in _IDENTITY.items()]
    return msgspec.defstruct(name, [*kinds(_OUTSIDE), ("location", place | None, *default), *identity], gc=False)


_CompleteRow: Final = _row("_CompleteRow")
_Row: Final = _row("_Row", msgspec.UNSET)
_STATUS: Final = COMPARED_FIELDS.index("status")
_PLACES: Final[dict[Any, tuple[Any, ...]]] = {empty: (empty,) * len(PLACE) for empty in (None, msgspec.UNSET)}
_WORDS: Final = frozenset(STATUSES[1:])
_LAST_YEAR: Final = 2105
"""The ledger holds times as 32 bits."""
_PLAIN: Final = frozenset({int, bool})


# A row's values stand in the order in which they are compared, but for the place, which is nested.
assert (*_OUTSIDE[:_PLACE_AT], *PLACE, *_OUTSIDE[_PLACE_AT:]) == COMPARED_FIELDS  # noqa: S101 - one table, one order


class _Body(msgspec.Struct):
    data: list[msgspec.Raw]
    pagination: dict[str, Any]
    meta: Any = None


class _Keys(msgspec.Struct):
    id: _Id | None = None
    externalReference: str | None = None


_BODY: Final = msgspec.json.Decoder(_Body)
_KEYS: Final = msgspec.json.Decoder(_Keys)
_DECODERS: Final = (msgspec.json.Decoder(_CompleteRow), msgspec.json.Decoder(_Row))


class Rows(msgspec.Struct):
    """The body of a page of the list. ``data``: its rows; None for one that cannot be read at all."""

    data: list[RemoteListing | KnownRow | None]
    pagination: dict[str, Any]
    meta: Any = None


def decode_rows(body: bytes, *, known: Collection[bytes] = ()) -> Rows | None:
    """Decode a page; None for a body that is no JSON of that shape. ``known``: the hashes of rows that are known."""
    try:
        page = _BODY.decode(body)
        return Rows([_decoded(raw, known) for raw in page.data], page.pagination, page.meta)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(raw: msgspec.Raw, known: Collection[bytes]) -> RemoteListing | KnownRow | None:
    digest = xxh3_64_digest(raw)
    if digest in known:
        try:
            keys = _KEYS.decode(raw)
        except msgspec.ValidationError:
            keys = _Keys()
        if keys.id and keys.externalReference:
            return KnownRow(keys.id, keys.externalReference, digest, partial(_read, raw, digest))
    return _read(raw, digest)


def _read(raw: msgspec.Raw, digest: bytes) -> RemoteListing | None:
    """Decode one row. Raises as msgspec does for one that is no JSON."""
    for decoder in _DECODERS:
        try:
            row = decoder.decode(raw)
        except msgspec.ValidationError:
            continue
        return remote_listing(row, digest)
    found = read_remote(msgspec.json.decode(raw))
    return None if found is None else msgspec.structs.replace(found, raw=digest)


def remote_listing(row: Any, digest: bytes = b"") -> RemoteListing | None:
    """What `read_remote` makes of the same row. ``digest``: the hash of its bytes."""
    values = msgspec.structs.astuple(row)
    place, identity, reference, provider, updated, profile, dealer, images, link = values[len(_OUTSIDE) :]
    inside = _PLACES[place] if place is None or place is msgspec.UNSET else msgspec.structs.astuple(place)
    values = values[:_PLACE_AT] + inside + values[_PLACE_AT : len(_OUTSIDE)]
    absent = 0
    if row.__class__ is not _CompleteRow:
        absent = sum(1 << index for index, value in enumerate(values) if value is msgspec.UNSET)
    return _listing(
        identity=identity,
        reference=reference or None,
        provider=provider or None,
        compared=_compared(values),
        absent=absent,
        updated=_utc(updated),
        # A time that the calendar does not hold is odd, no time is not.
        timeless=updated is None,
        profile=profile or (dealer.id if dealer is not None else None) or None,
        code=(dealer.locationCode if dealer is not None else None) or None,
        images=len(images) if images is not None else -1,
        link=link or "",
        raw=digest,
    )


def _listing(
    *, identity: str | None, reference: str | None, provider: str | None, compared: Compared, absent: int,
    updated: datetime | None, timeless: bool, profile: str | None, code: str | None, images: int,
    link: str, raw: bytes = b"",
) -> RemoteListing | None:  # fmt: skip
    status, odd = compared[_STATUS], ""
    if status not in _WORDS and status is not None:
        odd = f"unknown status {_quoted(status)}"
        compared = (*compared[:_STATUS], None, *compared[_STATUS + 1 :])
        absent |= 1 << _STATUS
    elif updated is None and not timeless:
        odd = "impossible updatedAt"
    if not (profile and code):
        absent |= DEALER_UNREAD
    # Without an id the reference identifies the row.
    if not (identity or reference):
        return None
    return RemoteListing(
        id=identity or reference or "",
        reference=reference,
        provider=provider,
        status=None if odd and absent >> _STATUS & 1 else status,  # type: ignore[arg-type]
        updated_at=updated,
        dealer_profile_id=profile,
        dealer_location_code=code,
        image_count=images,
        compared=compared,
        absent=absent,
        odd=odd,
        link=link,
        raw=raw,
    )


def _quoted(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))[:40]


def _compared(values: tuple[Any, ...]) -> Compared:
    found = [
        value
        if value is None or (kind := value.__class__) in _PLAIN
        else (value.strip() or None)
        if kind is str
        else normalise(value)
        for value in values
    ]
    month = found[_MONTH]
    if isinstance(month, str):
        found[_MONTH] = month[:7]
    return tuple(found)


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is not UTC:
        try:
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except OverflowError:
            return None
    return moment if 1970 <= moment.year <= _LAST_YEAR else None


# -- reading -------------------------------------------------------------------------------------------------------


class RemoteListing(msgspec.Struct, frozen=True):
    """One row of the marketplace's list, as far as we compare it."""

    id: str
    reference: str | None
    provider: str | None
    status: str | None
    updated_at: datetime | None
    dealer_profile_id: str | None
    dealer_location_code: str | None
    image_count: int
    """-1 for unknown."""
    compared: Compared
    absent: int = 0
    """Bit ``i``: the row does not contain a readable value of the ``i``-th of `COMPARED_FIELDS`; `DEALER_UNREAD`."""
    odd: str = ""
    """What is wrong with the row, for a warning."""
    link: str = ""
    """``listingUrl``, not validated."""
    raw: bytes = b""
    """The hash of the row's bytes; empty where it was not read from bytes."""


class KnownRow(msgspec.Struct, frozen=True):
    """A row whose bytes are known. ``raw``: their hash. ``read`` decodes it."""

    id: str
    reference: str
    raw: bytes
    read: Callable[[], RemoteListing | None]


def read_remote(raw: object) -> RemoteListing | None:
    """Read a row of ``data[]``; None when it is no object or has neither ``id`` nor reference."""
    if not isinstance(raw, dict):
        return None
    compared, absent = read_row(raw)
    dealer = raw.get("dealer")
    code = dealer.get("locationCode") if isinstance(dealer, dict) else None
    images = raw.get("images")
    reference = raw.get("externalReference")
    updated = raw.get("updatedAt")
    return _listing(
        identity=_text(raw.get("id")),
        reference=str(reference) if type(reference) is int else _text(reference),
        provider=_text(raw.get("externalProvider")),
        compared=compared,
        absent=absent,
        updated=_utc(read_time(updated)),
        timeless=updated is None,
        profile=_text(raw.get("dealerProfileId")) or (_text(dealer.get("id")) if isinstance(dealer, dict) else None),
        code=_text(code),
        images=len(images) if isinstance(images, list) else -1,
        link=_text(raw.get("listingUrl")) or "",
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def read_time(value: object) -> datetime | None:
    """An ISO 8601 time as aware UTC; a time without an offset is taken as UTC. None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
