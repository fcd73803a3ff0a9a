"""A cache of one block of the source: what is known of each raw row since it was last read.

A byte-identical row under the same mapping has the same content and need not be mapped and validated again. One that
also equalled its ledger entry is taken without being parsed, until the entry is written. It takes 16 bytes per row;
lost entries are recomputed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from xxhash import xxh3_64_digest

_WIDTH: Final = 8
_PAIR: Final = 2 * _WIDTH
_COUNT_BYTES: Final = 4
_HEAD: Final = 2 * _WIDTH + _COUNT_BYTES

Same = dict[bytes, bytes]
"""Fingerprint of a raw row -> key of its reference."""


class RowCache:
    """Raw row -> what is known of it, from the last read and from this one.

    ``kept``: the last result of `pack`, or b"". ``number``: that of the run that reads now. ``trust``: gets the rows
    that equalled their ledger entries, and the number of the run that noted them, and returns those that still do.
    """

    def __init__(
        self, kept: bytes = b"", *, number: int = 0, trust: Callable[[Same, int], Same] = lambda same, _: same
    ) -> None:
        self._kept, self._number, self._trust = kept, number, trust
        self._version = b""
        self._now: list[bytes] = []
        self._now_same: list[bytes] = []
        self.contents: dict[bytes, bytes] = {}
        """Fingerprint of a raw row -> fingerprint of its content; filled by `under`."""
        self.same: Same = {}
        """The rows that equal their ledger entries; filled by `under`."""
        self.taken: list[tuple[bytes, int]] = []
        """Key of its reference, and number, of each row that was `take`n."""

    def under(self, version: bytes) -> None:
        """Set the source's version, before its first row. Under one version, equal raw rows have equal content."""
        self._version = version
        kept = self._kept
        if kept[:_WIDTH] != version or len(kept) < _HEAD:
            return
        noted_by = int.from_bytes(kept[_WIDTH : 2 * _WIDTH], "big")
        middle = _HEAD + _PAIR * int.from_bytes(kept[2 * _WIDTH : _HEAD], "big")
        self.same = self._trust(_pairs(kept, _HEAD, middle), noted_by)
        self.contents = _pairs(kept, middle, len(kept))

    def take(self, raw: bytes, row: int) -> bool:
        """Take a raw row, if it is known to equal its ledger entry; it is then not parsed. ``row``: its number."""
        if (key := self.same.get(raw)) is None:
            return False
        self._now_same.append(raw + key)
        self.taken.append((key, row))
        return True

    def note(self, raw: bytes, content: bytes) -> None:
        """Record a row that was read, for the next read."""
        self._now.append(raw + content)

    def note_same(self, raw: bytes, key: bytes) -> None:
        """Record a row that equals its ledger entry. ``key``: of its reference."""
        self._now_same.append(raw + key)

    def pack(self) -> bytes | None:
        """Return the bytes to store; None if the source has no version."""
        if not self._version:
            return None
        head = self._number.to_bytes(_WIDTH, "big") + len(self._now_same).to_bytes(_COUNT_BYTES, "big")
        return b"".join((self._version, head, *self._now_same, *self._now))


def _pairs(data: bytes, begin: int, end: int) -> dict[bytes, bytes]:
    return {data[at : at + _WIDTH]: data[at + _WIDTH : at + _PAIR] for at in range(begin, end, _PAIR)}


def raw_fingerprint(row: Any) -> bytes:
    """Hash a raw row, as bytes or a buffer of them, into 8 bytes."""
    return xxh3_64_digest(row)
