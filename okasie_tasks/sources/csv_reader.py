"""Lines and rows of feed files, each with its offset: the rows, bytes and lines before it."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any, Final

from okasie_tasks.core.row_cache import RowOffset
from okasie_tasks.errors import SourceError
from okasie_tasks.sources.bounds import BoundedFile

_BLANK: Final = '"\x1a'
"""What a line that is no row may begin with, beside spaces and delimiters. The second one ended files of DOS."""
_SEPARATOR_LINE: Final = re.compile(r"\"?sep=(.)\"?[\r\n]*", re.IGNORECASE)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_MANY_COLUMNS: Final = 3
"""From so many columns on, a line within a quoted field hardly ever has exactly the delimiters of a row."""
BUFFER_BYTES: Final = 256 * 1024
csv.field_size_limit(sys.maxsize)  # rows are bounded instead


class CsvReader:
    """A csv reader that parses a row only where it must.

    A line that follows a complete row is a row itself if it has no quotes, or only quotes around whole fields. Only
    other lines need the csv parser. Lines of nothing but delimiters, spaces and quotes are no rows.

    ``skip_lines``: lines above the header. A line ``sep=;`` above it sets the delimiter. Raises `LookupError` for an
    unknown encoding.
    """

    def __init__(self, file: BoundedFile, encoding: str, delimiter: str, *, skip_lines: int = 0) -> None:
        self._file, self.delimiter, self._skip_lines = file, delimiter, skip_lines
        self.counts = encoding.lower() in ("utf-8", "utf8")
        """Whether bytes are counted. Text decoded from UTF-8 has the same number of bytes when encoded again."""
        self._encoding = "utf-8-sig" if self.counts else encoding
        self._open(self._encoding)
        self._pending: deque[str] = deque()
        self._following: list[str] = []
        self._ended = False
        self._byte = len(BOM_UTF8) if self.counts and file.begins_with(BOM_UTF8) else 0
        self.line_num = 0
        """Lines read so far."""
        self.row = (0, 0)
        """Bytes and lines before the last row read."""
        self.width = 0
        """The number of columns, once `header` has read them."""
        self.malformed = False
        """Whether quotes are misplaced in the last row, so that it was split at every delimiter."""
        self.terminated = True
        """Whether the last line read has a line end."""

    def header(self, *, named: bool = True) -> list[str]:
        """Return the names of the columns; empty when there is no row.

        Not ``named``: the first row is a car, and the columns are called "1", "2" and so on.
        """
        line = self._first_line()
        cells = self._record(line) if line else []
        self.width = len(cells)
        if named:
            return [cell.strip() for cell in cells]
        self._pending.extendleft(reversed((line, *self._following)))
        self._byte, self.line_num = self.row
        return [str(number) for number in range(1, self.width + 1)]

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
        self._open("utf-8")
        self._byte, self.line_num = place.byte, place.line
        return True

    def skip(self, count: int) -> int:
        """Skip up to ``count`` rows; return how many were skipped."""
        done = 0
        while done < count and (line := self._next()):
            self._pass(line)
            if self._is_blank(line):
                continue
            parsed = '"' in line and not self._is_row(line)
            done += not (parsed and is_blank(self._record(line)))
        return done

    def read(self) -> Iterator[tuple[str, list[str] | None]]:
        """Yield rows: the line, and its cells if the line had to be parsed."""
        while line := self._next():
            self._pass(line)
            if self._is_blank(line):
                continue
            if '"' not in line or self._is_row(line):
                self.malformed = False
                yield line, None
            elif not is_blank(cells := self._record(line)):
                yield line, cells

    def undecodable_line(self) -> int:
        """Return the number of the line in which the first byte stands that is not of the encoding."""
        self._file.seek(0)
        decoder = codecs.getincrementaldecoder(self._encoding)()
        line, held = 1, ""
        while data := self._file.read(BUFFER_BYTES):
            try:
                text = held + decoder.decode(data)
            except UnicodeDecodeError as error:
                text = held + error.object[: error.start].decode(error.encoding, "ignore")
                return line + len(_LINE_END.findall(text))
            held = "\r" if text.endswith("\r") else ""  # it may be half of a line end
            line += len(_LINE_END.findall(text.removesuffix("\r")))
        return line

    def _open(self, encoding: str) -> None:
        self._buffer = io.BufferedReader(self._file, BUFFER_BYTES)
        self._text = io.TextIOWrapper(self._buffer, encoding=encoding, newline="")

    def _next(self) -> str:
        """Return the next line; "" at the end."""
        return self._pending.popleft() if self._pending else next(self._text, "")

    def _first_line(self) -> str:
        """Return the first line that can be a row."""
        while line := self._next():
            self._pass(line)
            if separator := _SEPARATOR_LINE.fullmatch(line):
                self.delimiter = separator[1]
            elif self.line_num > self._skip_lines and not self._is_blank(line):
                break
        return line

    def _pass(self, line: str) -> None:
        self.row = (self._byte, self.line_num)
        self.line_num += 1
        self._byte += len(line) if line.isascii() else len(line.encode())
        self.terminated = line.endswith(("\n", "\r"))

    def _is_blank(self, line: str) -> bool:
        """Return whether a line holds nothing but delimiters, spaces and empty quotes."""
        if not (line[0] == self.delimiter or line[0].isspace() or line[0] in _BLANK):
            return False
        if '"' in line:
            return self._is_row(line) and is_blank(cells_of(line, self.delimiter))
        return is_blank(line.split(self.delimiter))

    def _is_row(self, line: str) -> bool:
        """Return whether each quote opens or closes a field or is doubled within one, and all fields are closed."""
        at = line.find('"')
        while at >= 0:
            if at and line[at - 1] != self.delimiter:
                return False
            end = line.find('"', at + 1)
            while end >= 0 and line[end + 1 : end + 2] == '"':
                end = line.find('"', end + 2)
            if end < 0 or line[end + 1 : end + 2] not in (self.delimiter, "\r", "\n", ""):
                return False
            at = line.find('"', end + 1)
        return True

    # -- rows with line breaks, and misplaced quotes -----------------------------------------------------------------

    def _record(self, line: str) -> list[str]:
        """Return the cells of the row that begins with this line.

        A quote that is never closed must not take the rows below into its field: lines that are rows on their own are
        read as such, and this line is split at every delimiter. Raises `csv.Error` if the feed ends within quotes, and
        `SourceError` for a row that is too long.
        """
        begin, self._following, self._ended = (self._byte, self.line_num), [], False
        self.malformed = False
        cells: list[str] = []
        error: csv.Error | SourceError | None = None
        try:
            cells = next(csv.reader(chain((line,), self._more(len(line))), delimiter=self.delimiter, strict=True))
        except (csv.Error, SourceError) as found:
            error = found
        misplaced = isinstance(error, csv.Error) and not self._ended and self.width > 0
        if not misplaced and not (self._following and all(map(self._is_full, (line, *self._following)))):
            if error is not None:
                raise error
            return cells
        self._pending.extendleft(reversed(self._following))
        self._byte, self.line_num = begin
        self.malformed = True
        return line.rstrip("\r\n").split(self.delimiter)

    def _more(self, size: int) -> Iterator[str]:
        while line := self._next():
            row = self.row
            self._pass(line)
            self.row = row
            self._following.append(line)
            size += len(line)
            self._file.bounds.check_row(size, f"{self._file.where}:{self.row[1] + 1}")
            yield line
        self._ended = True

    def _is_full(self, line: str) -> bool:
        """Return whether a line would be a row of all columns, whatever its quotes mean."""
        return self.width >= _MANY_COLUMNS and line.count(self.delimiter) == self.width - 1


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line that is a complete row."""
    return next(csv.reader((line,), delimiter=delimiter, strict=True))


def is_blank(cells: list[str]) -> bool:
    return not any(cell.strip().strip("\x1a") for cell in cells)


def fitted(cells: list[str], columns: list[str]) -> list[str]:
    """Return the cells of a row without empty ones beyond the columns, or with those of nameless columns at the end."""
    width = len(columns)
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    if len(cells) < width and not any(columns[len(cells) :]):
        return cells + [""] * (width - len(cells))
    return cells


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
