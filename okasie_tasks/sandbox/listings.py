"""The data that the sandbox stores: dealers, and listings as they were written."""

from __future__ import annotations

from typing import Any

import msgspec


class Dealer(msgspec.Struct):
    id: str
    code: str
    name: str
    parent: str | None = None


class Listing(msgspec.Struct):
    """One stored listing: the body as written, and the fields that the marketplace adds."""

    id: str
    partner: str
    reference: str | None
    provider: str
    dealer: str
    status: str
    body: dict[str, Any]
    created_at: float
    updated_at: float
    sold_at: float | None = None
    skipped: list[str] = []
    """Images of the body that could not be fetched when it was written."""

    @property
    def mirrored(self) -> list[str]:
        """The source URLs of the images that are shown."""
        return [url for url in image_urls(self.body) if url not in self.skipped]


def image_urls(body: dict[str, Any]) -> list[str]:
    """The source URLs of a stored body, ordered by ``position``; without one, the place in the array counts."""
    items: list[Any] = body.get("images") or []
    placed = [(item.get("position", index), item.get("url", item.get("imageUrl", ""))) if isinstance(item, dict)
              else (index, item) for index, item in enumerate(items)]  # fmt: skip
    return [str(url) for _, url in sorted(placed, key=lambda image: image[0])]
