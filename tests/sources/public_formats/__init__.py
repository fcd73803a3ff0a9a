"""Public formats of vehicle feeds: each with invented data in its documented structure, and its configuration.

The name of each is that of its row in docs/feed-formats.md, where the documents are cited.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.sources.public_formats import documents, tables


class Feed(NamedTuple):
    """``car``: what is read: reference, title, price, mileage and images."""

    file: str
    content: str
    source: str
    car: tuple[str, str, float, int | None, int]
    encoding: str = "utf-8"


FEEDS = {name: Feed(*feed) for name, feed in {**tables.FEEDS, **documents.FEEDS}.items()}
