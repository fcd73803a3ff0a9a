"""Previews in Redis: both sides of one listing as they were read for an operator, for some minutes.

Key: ``{prefix}preview:{id}`` (string, JSON), by the id of the message that requested it.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
import redis

KEEP_PREVIEW_SECONDS: Final = 600


class Previews:
    """All previews. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis, self._key = client, f"{prefix}preview:"

    def put(self, preview: str, document: dict[str, Any]) -> None:
        self._redis.set(f"{self._key}{preview}", msgspec.json.encode(document), ex=KEEP_PREVIEW_SECONDS)

    def get(self, preview: str) -> dict[str, Any] | None:
        """Return the document; None while it is not there yet, or no longer."""
        raw = cast("bytes | None", self._redis.get(f"{self._key}{preview}"))
        return None if raw is None else msgspec.json.decode(raw, type=dict[str, Any])
