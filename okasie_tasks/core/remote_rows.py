"""The marketplace's rows in read shape, and its list decoded straight to what is compared.

`Rows` decodes a page whose values are of the kinds that the contract names, and skips what is not used. A page with
anything else on it is refused there as a whole and read value by value by `read_remote`, which makes the same of the
same row. Reading back is tolerant: it never raises.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from okasie_tasks.core.fields import FIELDS, PLACE
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, compared_row, normalise

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


def _struct(name: str, fields: tuple[str, ...], **more: Any) -> Any:
    """A struct of these fields of the contract, each None where it is absent."""
    kinds = [(field, _KIND[FIELDS[field].kind], None) for field in fields]
    return msgspec.defstruct(name, [*kinds, *((field, kind, None) for field, kind in more.items())], gc=False)


_OUTSIDE: Final = tuple(field for field in COMPARED_FIELDS if field not in PLACE)
_PLACE_AT: Final = COMPARED_FIELDS.index(PLACE[0])
_MONTH: Final = COMPARED_FIELDS.index("firstRegistration")
_Place: Final = _struct("_Place", PLACE)
_Row: Final = _struct(
    "_Row",
    _OUTSIDE,
    # What is not compared stands behind, so that the compared values are the first of the tuple.
    location=_Place | None,
    id=_Id | None,
    externalReference=str | None,
    externalProvider=str | None,
    updatedAt=datetime | None,
    dealerProfileId=str | None,
    dealer=_Dealer | None,
    images=list[_Unread] | None,
)
_STATUS: Final = _OUTSIDE.index("status")
_NO_PLACE: Final = (None,) * len(PLACE)
_PLAIN: Final = frozenset({int, bool})


# A row's values stand in the order in which they are compared, but for the place, which is nested.
assert (*_OUTSIDE[:_PLACE_AT], *PLACE, *_OUTSIDE[_PLACE_AT:]) == COMPARED_FIELDS  # noqa: S101 - one table, one order


class Rows(msgspec.Struct):
    """The body of a page of the list; ``data`` as `remote_listing` takes its rows."""

    data: list[_Row]  # type: ignore[valid-type]
    pagination: dict[str, Any]
    meta: Any = None


_DECODER: Final = msgspec.json.Decoder(Rows)


def decode_rows(body: bytes) -> Rows | None:
    """None for a body that is not of that shape, or not throughout."""
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def remote_listing(row: Any) -> RemoteListing | None:
    """What `okasie_tasks.core.listing.read_remote` makes of the same row."""
    outside = msgspec.structs.astuple(row)
    place, identity, reference, provider, updated, profile, dealer, images = outside[len(_OUTSIDE) :]
    if identity is None:
        return None
    inside = _NO_PLACE if place is None else msgspec.structs.astuple(place)
    values = outside[:_PLACE_AT] + inside + outside[_PLACE_AT : len(_OUTSIDE)]
    return RemoteListing(
        id=identity,
        reference=reference or None,
        provider=provider or None,
        status=values[_STATUS] or None,
        updated_at=_utc(updated),
        dealer_profile_id=profile or (dealer.id if dealer is not None else None) or None,
        dealer_location_code=(dealer.locationCode if dealer is not None else None) or None,
        image_count=len(images) if images is not None else 0,
        compared=_compared(values),
    )


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
    if moment is None or moment.tzinfo is UTC:
        return moment
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return None


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
    compared: Compared


def read_remote(raw: object) -> RemoteListing | None:
    """Read a row of ``data[]``; None when it is no object or has no ``id``. Odd values count as absent."""
    if not isinstance(raw, dict):
        return None
    identity = raw.get("id")
    if not isinstance(identity, str) or not identity:
        return None
    dealer = raw.get("dealer")
    code = dealer.get("locationCode") if isinstance(dealer, dict) else None
    images = raw.get("images")
    return RemoteListing(
        id=identity,
        reference=_text(raw.get("externalReference")),
        provider=_text(raw.get("externalProvider")),
        status=_text(raw.get("status")),
        updated_at=read_time(raw.get("updatedAt")),
        dealer_profile_id=_text(raw.get("dealerProfileId"))
        or (_text(dealer.get("id")) if isinstance(dealer, dict) else None),
        dealer_location_code=_text(code),
        image_count=len(images) if isinstance(images, list) else 0,
        compared=compared_row(raw),
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
