"""What is known of a slice of the source: which content each of its raw rows came to, the last time it was read.

A row that is the same to the byte, under the same mapping, has the same content: it need not be mapped and validated
again. 16 bytes a row; whatever is lost of it is worked out anew.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

_WIDTH = 8
PLACE_ROWS: Final = 5_000
"""The beginning of every row whose number this divides is remembered: all parts of a load or a spool begin at one."""


class RowOffset(NamedTuple):
    """Where a row of a file begins: so many rows, bytes and lines stand before it."""

    row: int
    byte: int
    line: int


class RowCache:
    """Raw row -> content, as it was and as it is now read. ``kept``: what `pack` gave the last time, or b"".

    ``begin``: where the first row that is asked for begins in this very version of the source, if that is known.
    ``every``: so many rows apart are the places that are noted.
    """

    def __init__(self, kept: bytes = b"", begin: RowOffset | None = None, *, every: int = PLACE_ROWS) -> None:
        self._kept = kept
        self.begin, self._every = begin, every
        self.passed: list[RowOffset] = []
        """Places that the reader came by, for the next time."""
        self._version = b""
        self._now: list[bytes] = []
        self.contents: dict[bytes, bytes] = {}
        """Fingerprint of a raw row -> fingerprint of its content; filled by `under`."""

    def under(self, version: bytes) -> None:
        """Told by the source before its first row: under the same version a raw row comes to the same content."""
        self._version = version
        kept = self._kept
        if kept[:_WIDTH] == version:
            middle = _WIDTH * 2
            self.contents = {
                kept[place : place + _WIDTH]: kept[place + _WIDTH : place + middle]
                for place in range(_WIDTH, len(kept), middle)
            }

    def note(self, raw: bytes, content: bytes) -> None:
        """A row that was read: it counts the next time."""
        self._now.append(raw + content)

    def at(self, row: int, byte: int, line: int) -> None:
        """Told by the source at each row, before it: how many stand before it."""
        if row % self._every == 0:
            self.passed.append(RowOffset(row, byte, line))

    def pack(self) -> bytes | None:
        """What is to be kept now; None when it is kept already, or the source told no version."""
        packed = self._version + b"".join(self._now)
        return None if packed == self._kept or not self._version else packed


def raw_fingerprint(row: bytes) -> bytes:
    """8 bytes that stand for a raw row."""
    return blake2b(row, digest_size=_WIDTH).digest()
