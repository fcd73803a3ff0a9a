"""Feeds that are one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import msgspec

from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Record
from okasie_tasks.settings import SourceSettings


def read_document(file: IO[bytes], settings: SourceSettings, *, name: str) -> Iterator[Record]:
    """Yield the elements of the list at ``items``. The whole document is read: only its end proves it complete."""
    try:
        document = msgspec.json.decode(file.read().lstrip(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"is not a JSON document: {error}", where=name, code="not_json") from error
    items, place = document, "the document"
    for key in (settings.items or "").split("."):
        if key:
            items = items.get(key) if isinstance(items, dict) else None
            place = settings.items or ""
    if not isinstance(items, list):
        raise SourceError(f"expected a list at {place}, got {type(items).__name__}", where=name, code="no_list")
    for index, value in enumerate(items):
        yield Record(f"{name}:{place}[{index}]", value)
