"""A cache of one slice of the source: the content fingerprint of each raw row when it was last read.

A byte-identical row under the same mapping has the same content and need not be mapped and validated again. It takes
16 bytes per row; lost entries are recomputed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple

_WIDTH = 8
PLACE_ROWS: Final = 5_000
"""The offset of every row whose number this divides is stored; all parts of a load or a spool begin at one."""


class RowOffset(NamedTuple):
    """Where a row of a file begins: the number of rows, bytes and lines before it."""

    row: int
    byte: int
    line: int


class RowCache:
    """Raw row -> content, from the last read and from this one. ``kept``: the last result of `pack`, or b"".

    ``begin``: the offset of the first requested row in this version of the source, if known. ``every``: the number of
    rows between stored offsets.
    """

    def __init__(self, kept: bytes = b"", begin: RowOffset | None = None, *, every: int = PLACE_ROWS) -> None:
        self._kept = kept
        self.begin, self._every = begin, every
        self.passed: list[RowOffset] = []
        """Offsets that the reader passed, for the next read."""
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

    def at(self, row: int, byte: int, line: int) -> None:
        """Record the offset of a row; the source calls this before each row."""
        if row % self._every == 0:
            self.passed.append(RowOffset(row, byte, line))

    def pack(self) -> bytes | None:
        """Return the bytes to store; None if they are already stored, or the source has no version."""
        packed = self._version + b"".join(self._now)
        return None if packed == self._kept or not self._version else packed


def raw_fingerprint(row: Any) -> bytes:
    """Hash a raw row, as bytes or a buffer of them, into 8 bytes."""
    return blake2b(row, digest_size=_WIDTH).digest()
