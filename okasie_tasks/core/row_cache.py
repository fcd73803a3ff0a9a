"""A cache of one block of the source: the content fingerprint of each raw row when it was last read.

A byte-identical row under the same mapping has the same content and need not be mapped and validated again. It takes
16 bytes per row; lost entries are recomputed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

_WIDTH = 8


class RowCache:
    """Raw row -> content, from the last read and from this one. ``kept``: the last result of `pack`, or b""."""

    def __init__(self, kept: bytes = b"") -> None:
        self._kept = kept
        self._version = b""
        self._now: list[bytes] = []
        self.contents: dict[bytes, bytes] = {}
        """Fingerprint of a raw row -> fingerprint of its content; filled by `under`."""

    def under(self, version: bytes) -> None:
        """Set the source's version, before its first row. Under one version, equal raw rows have equal content."""
        self._version = version
        kept = self._kept
        if kept[:_WIDTH] == version:
            middle = _WIDTH * 2
            self.contents = {
                kept[place : place + _WIDTH]: kept[place + _WIDTH : place + middle]
                for place in range(_WIDTH, len(kept), middle)
            }

    def note(self, raw: bytes, content: bytes) -> None:
        """Record a row that was read, for the next read."""
        self._now.append(raw + content)

    def pack(self) -> bytes | None:
        """Return the bytes to store; None if they are already stored, or the source has no version."""
        packed = self._version + b"".join(self._now)
        return None if packed == self._kept or not self._version else packed


def raw_fingerprint(row: Any) -> bytes:
    """Hash a raw row, as bytes or a buffer of them, into 8 bytes."""
    return blake2b(row, digest_size=_WIDTH).digest()
