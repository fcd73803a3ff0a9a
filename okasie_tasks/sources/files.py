"""Feeds that are files, plain or compressed, streamed block by block.

A read either reaches the proven end of the feed or raises `SourceError`. The proof is the trailer of a ``.gz``, the
closing bracket of a document, or the closing quote and the complete last row of a csv. Invalid rows are reported one by
one; the other rows are still processed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.blocks import BlockSource
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.content import open_content
from okasie_tasks.sources.formats import READERS, format_of
from okasie_tasks.sources.transports.local import local_file

_PAGE: Final = (b"<!doctype html", b"<html", b"<head", b"<body")
_MARKUP: Final = (*_PAGE, b"<!doctype", b"<?xml")


class FileSource(BlockSource):
    """A feed in a local file, or in the newest one that a pattern matches when it is first looked at.

    ``name``: its name in messages; ``bounds``: of this read.
    """

    def __init__(
        self,
        account: AccountSettings,
        path: Path,
        *,
        name: str | None = None,
        current_year: int,
        bounds: Bounds | None = None,
    ) -> None:
        self._account = account
        self._pattern = path
        self._feed, self._name = name, name or path.name
        self._bounds = bounds or Bounds(account)
        self._format = format_of(account, current_year=current_year, bounds=self._bounds)

    @cached_property
    def _path(self) -> Path:
        return local_file(self._pattern)

    def version(self) -> str:
        """Return size, modification time and inode of the file, which change when it is replaced."""
        file = self._stat()
        return f"{file.st_size}-{file.st_mtime_ns}-{file.st_ino}"

    @property
    def settle_seconds(self) -> float:
        return self._account.source.settle_seconds

    def settles_in(self, before: str) -> float:
        """Return how long to wait until the file is old enough; see `okasie_tasks.ports.SettlingSource`."""
        file = self._stat()
        replaced = before and before.rpartition("-")[2] != str(file.st_ino)
        if replaced and file.st_ctime_ns > file.st_mtime_ns:
            return 0.0  # a change after the last write: the rename
        age = (_now_ns(self._path.parent) - file.st_mtime_ns) / 1e9
        return min(max(0.0, self.settle_seconds - age), self.settle_seconds)

    def _stat(self) -> os.stat_result:
        try:
            found = self._path.stat()
        except OSError as error:
            raise SourceError(
                f"cannot be read: {error.strerror}", where=str(self._path), code="source_missing"
            ) from error
        if not stat.S_ISREG(found.st_mode):
            raise SourceError("is not a regular file", where=str(self._path), code="source_missing")
        return found

    def blocks(self) -> Iterator[Block]:
        """Read the file once; see `okasie_tasks.ports.Source`."""
        try:
            with self._open() as file:
                yield from self._format.blocks(file, self._name)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or type(error).__name__}", where=self._name) from error

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        return self._format.decode(block, known=known, only=only)

    @contextmanager
    def _open(self) -> Iterator[BoundedFile]:
        source = self._account.source
        self._stat()
        name = self._feed or self._path.name
        with open_content(self._path, name, kind=source.type, member=source.member) as content:
            self._name = content.name
            head = content.stream.peek(512)[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()  # type: ignore[attr-defined]
            if head.startswith(_PAGE if source.type == "xml" else _MARKUP):
                raise SourceError(f"is a web page, expected {source.type}", where=self._name, code="markup")
            yield BoundedFile(content.stream, self._bounds, self._name, document=source.type in READERS)


def _now_ns(folder: Path) -> int:
    """Return the time of the folder's file system, as an unnamed file there shows it; else that of this machine."""
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except (OSError, AttributeError):  # not writable, or a system without unnamed files
        return time.time_ns()
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)
