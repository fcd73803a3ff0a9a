"""Lines and rows of feed files, each with its offset: the rows, bytes and lines before it."""

from __future__ import annotations

import csv
import io
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any, Final

from okasie_tasks.core.row_cache import RowOffset
from okasie_tasks.sources.bounds import BoundedFile

_BLANK: Final = ("\n", "\r\n", "\r")
BUFFER_BYTES: Final = 256 * 1024
csv.field_size_limit(sys.maxsize)  # rows are bounded instead


class CsvReader:
    """A csv reader that parses a row only where it must.

    A line that follows a complete row is a row itself if it has no quotes, or only quotes around whole fields. Only
    other lines need the csv parser. Raises `LookupError` for an unknown encoding.
    """

    def __init__(self, file: BoundedFile, encoding: str, delimiter: str) -> None:
        self._file, self._delimiter = file, delimiter
        self.counts = encoding.lower() in ("utf-8", "utf8")
        """Whether bytes are counted. Text decoded from UTF-8 has the same number of bytes when encoded again."""
        self._text = self._open("utf-8-sig" if self.counts else encoding)
        self._byte = len(BOM_UTF8) if self.counts and file.begins_with(BOM_UTF8) else 0
        self.line_num = 0
        self.row = (0, 0)
        """Bytes and lines before the last row read."""

    def header(self) -> list[str]:
        """Return the cells of the first line; empty when there is none."""
        line = next(self._text, "")
        self.line_num += 1
        self._count(line)
        return self._quoted(line) if line else []

    def go_to(self, place: RowOffset) -> bool:
        """Continue with the row that starts there. Return False, and change nothing, if no row can start there."""
        if not self.counts:
            return False
        at = self._file.tell()
        if not is_line_end(self._file, place.byte):
            self._file.seek(at)
            return False
        # Detached, so that garbage collection does not close the file.
        self._text.detach()
        self._buffer.detach()
        self._file.seek(place.byte)
        self._text = self._open("utf-8")
        self._byte, self.line_num = place.byte, place.line
        return True

    def skip(self, count: int) -> int:
        """Skip up to ``count`` rows that are not blank; return how many were skipped."""
        done, lines = 0, 0
        while done < count and (line := next(self._text, "")):
            lines += 1
            self._count(line)
            if '"' in line and not self._is_row(line):
                done += bool(self._quoted(line))
            elif line not in _BLANK:
                done += 1
        self.line_num += lines
        return done

    def read(self) -> Iterator[tuple[str, list[str] | None]]:
        """Yield rows that are not blank: the line, and its cells if the line had to be parsed."""
        for line in self._text:
            self.row = (self._byte, self.line_num)
            self.line_num += 1
            self._count(line)
            if '"' not in line or self._is_row(line):
                if line not in _BLANK:
                    yield line, None
            elif cells := self._quoted(line):
                yield line, cells

    def _open(self, encoding: str) -> io.TextIOWrapper:
        self._buffer = io.BufferedReader(self._file, BUFFER_BYTES)
        return io.TextIOWrapper(self._buffer, encoding=encoding, newline="")

    def _count(self, line: str) -> None:
        self._byte += len(line) if line.isascii() else len(line.encode())

    def _more(self, size: int) -> Iterator[str]:
        for line in self._text:
            self._count(line)
            size += len(line)
            self._file.bounds.check_row(size, f"{self._file.where}:{self.line_num}")
            yield line

    def _is_row(self, line: str) -> bool:
        """Return whether each quote opens or closes a field or is doubled within one, and all fields are closed."""
        at = line.find('"')
        while at >= 0:
            if at and line[at - 1] != self._delimiter:
                return False
            end = line.find('"', at + 1)
            while end >= 0 and line[end + 1 : end + 2] == '"':
                end = line.find('"', end + 2)
            if end < 0 or line[end + 1 : end + 2] not in (self._delimiter, "\r", "\n", ""):
                return False
            at = line.find('"', end + 1)
        return True

    def _quoted(self, line: str) -> list[str]:
        rows = csv.reader(chain((line,), self._more(len(line))), delimiter=self._delimiter, strict=True)
        try:
            return next(rows)
        finally:
            self.line_num += rows.line_num - 1


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line that is a complete row."""
    return next(csv.reader((line,), delimiter=delimiter, strict=True))


def full_lines(file: IO[bytes], begin: RowOffset) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield lines that are not blank, each with the bytes and lines before it."""
    byte, number = begin.byte, begin.line
    for text in file:
        if text.strip(b" \t\r\n\xef\xbb\xbf"):
            yield (byte, number), text
        byte, number = byte + len(text), number + 1


def is_line_end(file: Any, byte: int) -> bool:
    """Return whether a line ends just before that byte. If not, the feed is not the one the offset belongs to."""
    if byte == 0:
        return True
    file.seek(byte - 1)
    return file.read(1) in (b"\n", b"\r")
