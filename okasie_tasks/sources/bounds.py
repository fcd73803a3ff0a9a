"""Bounds of a read of the source: its time, its bytes, and the length of a row.

A source is written by others. One that drips, never ends, or is small only until it is decompressed must not take a
worker's thread, disk or memory.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, TypeVar

from okasie_tasks.errors import SourceError
from okasie_tasks.settings import AccountSettings

KB: Final = 1_000
MB: Final = 1_000_000
T = TypeVar("T")


class Bounds:
    """The bounds of one read, whose time begins now. ``push``: of a read for a push.

    A violated bound is a `SourceError` that names the place, the bound and its setting.
    """

    def __init__(self, account: AccountSettings, *, push: bool = False) -> None:
        source = account.source
        self._account = account.name
        self._setting = "push_read_seconds" if push else "read_seconds"
        self.seconds = source.push_read_seconds if push else source.read_seconds
        self._until = time.monotonic() + self.seconds
        self.max_bytes, self.max_row_bytes = source.max_mb * MB, source.max_row_kb * KB
        self.max_document_bytes = min(source.max_document_mb * MB, self.max_bytes)

    @property
    def left_seconds(self) -> float:
        """How much of the time is left; never negative."""
        return max(0.0, self._until - time.monotonic())

    def check_time(self, where: str) -> None:
        if not self.left_seconds:
            raise self._violated(f"was not read within {self.seconds:g} s", self._setting, where, "too_slow")

    def check_size(self, size: int, where: str, *, document: bool = False) -> None:
        """Check the bytes read so far. ``document``: they are held in memory."""
        if size > (self.max_document_bytes if document else self.max_bytes):
            name = "max_document_mb" if document and self.max_document_bytes < self.max_bytes else "max_mb"
            most = (self.max_document_bytes if document else self.max_bytes) / MB
            raise self._violated(f"is larger than {most:g} MB", name, where, "too_large")

    def check_row(self, size: int, where: str) -> None:
        """Check the bytes of a row so far."""
        if size > self.max_row_bytes:
            text = f"has a row of more than {self.max_row_bytes / KB:g} kB"
            raise self._violated(text, "max_row_kb", where, "long_row")

    def timed(self, items: Iterable[T], where: str) -> Iterator[T]:
        """Yield the items while there is time."""
        for item in items:
            self.check_time(where)
            yield item

    def _violated(self, text: str, setting: str, where: str, code: str) -> SourceError:
        return SourceError(f"{text} (accounts.{self._account}.source.{setting})", where=where, code=code)


class BoundedFile(io.RawIOBase):
    """Passes the bytes of a feed through, decompressed, and checks its bounds.

    ``document``: it has no lines, and its reader checks the length of its records. ``last``: the last byte, which
    shows whether the last row is complete.
    """

    def __init__(self, inner: IO[bytes], bounds: Bounds, where: str, *, document: bool = False) -> None:
        self._inner, self.bounds, self.where, self._document = inner, bounds, where, document
        self._at = self._row_began = 0
        self.last = b"\n"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = self._row_began = self._inner.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._inner.tell()

    def begins_with(self, head: bytes) -> bool:
        """Return whether the file starts with these bytes. Call it before anything is read."""
        return bytes(self._inner.peek(len(head))[: len(head)]) == head  # type: ignore[attr-defined]

    def readinto(self, buffer: Any) -> int:
        self.bounds.check_time(self.where)
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        if data:
            self.last = data[-1:]
            self._check(data)
        return len(data)

    def _check(self, data: bytes) -> None:
        line_end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        if line_end >= 0:
            self._row_began = self._at + line_end + 1
        self._at += len(data)
        self.bounds.check_size(self._at, self.where)
        if not self._document:
            self.bounds.check_row(self._at - self._row_began, f"{self.where}, byte {self._row_began}")
