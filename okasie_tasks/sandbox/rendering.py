"""How the marketplace returns a stored listing: the read shape, and the quirks of its rendering."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from okasie_tasks.sandbox.codes import ErrorCodes, ImageError
from okasie_tasks.sandbox.listings import Dealer, Listing
from okasie_tasks.sandbox.validation import BOOLEANS, ENUMS, INTEGERS, NUMBERS, STRINGS

WRITE_ONLY: Final = frozenset({"condition", "customType", "dealerProfileId", "dealerLocationCode", "images", "features",
                               "postalCode", "city", "province", "latitude", "longitude"})  # fmt: skip
_READ: Final = [
    name
    for name in (
        "title",
        "description",
        *STRINGS,
        *INTEGERS,
        *NUMBERS,
        *BOOLEANS,
        *ENUMS,
        "conditionTags",
        "carPassUrl",
    )
    if name not in WRITE_ONLY and name not in ("currency", "status")
]

_PLACE: Final = ("postalCode", "city", "province", "latitude", "longitude")
FREE_TEXT: Final = (
    "brand", "model", "variant", "engine", "fuelType", "transmission", "bodyType", "driveType", "color",
    "interiorColor", "interiorMaterial", "paintType", "city", "province",
)  # fmt: skip
"""The fields whose spelling `Quirks.respell` changes, besides the names of features."""


def stamp(moment: float) -> str:
    """ISO 8601 in UTC with a precision of a second, as the marketplace returns times."""
    return datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")


class ItemError(msgspec.Struct, forbid_unknown_fields=True):
    """The refusal of every write of one listing."""

    status: int
    code: str = "UPSERT_FAILED"
    message: str = "Refused on request"


class Quirks(msgspec.Struct, forbid_unknown_fields=True):
    """How this marketplace renders, orders and validates, by default as documented. See docs/sandbox.md."""

    round_power: bool = False
    trim_text: bool = False
    respell: bool = False
    reorder_features: bool = False
    shuffle_pages: bool = False
    walk_seed: int = 0
    insert_during_walk: int = 0
    page_rows: Annotated[int, msgspec.Meta(ge=0, le=200)] = 0
    refuse_word: str = ""
    skip_images_with: str = ""
    count_error: int = 0
    error_codes: ErrorCodes = "examples"
    image_error: ImageError = ""
    item_errors: dict[str, ItemError] = {}


def profile(dealer: Dealer, parent: Dealer | None) -> dict[str, Any]:
    """A dealer as listings and locations show it. The sandbox knows no more than its name and its code."""
    unknown = ("email", "phone", "address", "postalCode", "city", "province", "logoUrl", "metadata")
    return {
        **_identity(dealer), "parentId": dealer.parent, **dict.fromkeys(unknown),
        "parent": _identity(parent) if parent else None,
    }  # fmt: skip


def _identity(dealer: Dealer) -> dict[str, Any]:
    names = dict.fromkeys(("companyName", "fullName", "displayName"), dealer.name)
    return {"id": dealer.id, "locationCode": dealer.code, **names}


def read_shape(row: Listing, dealer: Dealer, parent: Dealer | None, quirks: Quirks) -> dict[str, Any]:
    """One row of ``data[]`` (API docs, listings/list)."""
    shown = _shown(row.body, quirks)
    features = _features(row.body, quirks)
    images = [
        {"url": f"https://cdn.invalid/listings/{row.id}/{_hash(url)}.webp", "position": index}
        for index, url in enumerate(row.mirrored)
    ]
    return {
        "id": row.id,
        "dealerProfileId": row.dealer,
        "externalReference": row.reference,
        "externalProvider": row.provider,
        "slug": f"listing-{row.id[:8]}",
        "listingUrl": f"https://www.okasie.invalid/{row.id}",
        "status": row.status,
        "currency": "EUR",
        **{name: shown[name] for name in _READ},
        "location": {name: shown[name] for name in _PLACE},
        "features": features[::-1] if quirks.reorder_features else features,
        "images": images,
        "mainImageUrl": images[0]["url"] if images else None,
        "dealer": profile(dealer, parent),
        "createdAt": stamp(row.created_at),
        "updatedAt": stamp(row.updated_at),
        "soldAt": stamp(row.sold_at) if row.sold_at else None,
    }


def _shown(body: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    shown: dict[str, Any] = {name: body.get(name) for name in (*_READ, *_PLACE)}
    if shown["vin"]:
        shown["vin"] = shown["vin"][:17]
    if quirks.round_power and isinstance(shown["powerKw"], int | float):
        shown["powerKw"] = round(round(float(shown["powerKw"]) / 0.73549875) * 0.73549875, 1)
    if quirks.trim_text:
        shown = {k: " ".join(v.split()) if isinstance(v, str) else v for k, v in shown.items()}
    if quirks.respell:
        shown |= {name: respelled(shown[name]) for name in FREE_TEXT if shown[name]}
    return shown


def _features(body: dict[str, Any], quirks: Quirks) -> list[dict[str, str]]:
    features = []
    for feature in body.get("features") or []:
        name = feature.get("name", feature.get("feature"))
        features.append({
            "category": feature.get("category", "other"), "name": respelled(name) if quirks.respell else name,
        })  # fmt: skip
    return features


def respelled(text: str) -> str:
    """The same text in a different spelling: capitals, and a space for a hyphen or a full stop."""
    return " ".join(word[:1].upper() + word[1:] for word in text.replace("-", " ").replace(".", " ").split())


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
