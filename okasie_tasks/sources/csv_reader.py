"""Lines and rows of csv feeds."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from okasie_tasks.core.row_cache import raw_fingerprint
from okasie_tasks.errors import SourceError
from okasie_tasks.sources.bounds import BoundedFile

_BLANK: Final = '"\x1a'
"""What a line that is no row may begin with, beside spaces and delimiters. The second one ended files of DOS."""
_SEPARATOR_LINE: Final = re.compile(r"\"?sep=(.)\"?[\r\n]*", re.IGNORECASE)
_BYTEWISE: Final = frozenset({"ascii", "cp1252", "cp1250", "iso8859-1", "iso8859-2", "iso8859-15"})
"""Encodings in which the bytes of line ends are line ends."""
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_MANY_COLUMNS: Final = 3
"""From so many columns on, a line within a quoted field hardly ever has exactly the delimiters of a row."""
BUFFER_BYTES: Final = 256 * 1024
csv.field_size_limit(sys.maxsize)  # rows are bounded instead


class CsvReader:
    """A csv reader that parses a row only where it must.

    A line that follows a complete row is a row itself if it has no quotes, or only quotes around whole fields. Only
    other lines need the csv parser. Lines of nothing but delimiters, spaces and quotes are no rows.

    ``skip_lines``: lines above the header. A line ``sep=;`` above it sets the delimiter. ``piece``: the lines before,
    and the text in UTF-8, if ``file`` is not a whole feed but a piece that `cut` yielded. Raises `LookupError` for an
    unknown encoding.
    """

    def __init__(
        self,
        file: BoundedFile,
        encoding: str,
        delimiter: str,
        *,
        skip_lines: int = 0,
        piece: tuple[int, bytes] | None = None,
    ) -> None:
        self._file, self.delimiter, self._skip_lines = file, delimiter, skip_lines
        self._encoding = "utf-8-sig" if piece is None and encoding.lower() in ("utf-8", "utf8") else encoding
        self._text: Iterator[str] = iter(())
        self._raw: Iterator[bytes] = iter(())
        """The lines in UTF-8 that were not looked at, instead of ``_text``."""
        self._line = b""
        """The last line that was read in UTF-8; empty if it was not."""
        if piece is not None:
            self._raw = _lines(io.BytesIO(piece[1]))
        elif codecs.lookup(encoding).name == "utf-8":
            raw = _lines(io.BufferedReader(file, BUFFER_BYTES))
            self._raw = chain((line.removeprefix(codecs.BOM_UTF8) for line in islice(raw, 1)), raw)
        elif codecs.lookup(encoding).name in _BYTEWISE:
            raw = _lines(io.BufferedReader(file, BUFFER_BYTES))
            self._text = (line.decode(encoding) for line in raw)
        else:
            self._text = io.TextIOWrapper(io.BufferedReader(file, BUFFER_BYTES), encoding=encoding, newline="")
        self._pending: deque[str] = deque()
        self._following: list[str] = []
        self._ended = False
        self.line_num = 0 if piece is None else piece[0]
        """Lines read so far."""
        self.row_line = 0
        """The line on which the last row begins."""
        self.ends_in_blank_row = False
        """Whether the last line is the beginning of a row of which only empty fields are left."""
        self._width = 0
        """The number of columns, once `header` has read them. Until then no quotes count as misplaced."""
        self._malformed = False
        """Whether quotes are misplaced in the last row, so that it was split at every delimiter."""

    def header(self, *, named: bool = True) -> list[str]:
        """Return the names of the columns; empty when there is no row.

        Not ``named``: the first row is a car, and the columns are called "1", "2" and so on.
        """
        line = self._first_line()
        cells = self._record(line) if line else []
        self._width = len(cells)
        if named:
            return [cell.strip() for cell in cells]
        self._put_back((line, *self._following))
        return [str(number) for number in range(1, self._width + 1)]

    def cut(self, most_rows: int, most_characters: int) -> Iterator[tuple[int, int, bytes]]:
        """Cut the text at the ends of rows: yield the lines before a piece, its rows that are not blank, and its text.

        The text is in UTF-8. A piece ends with the row that reaches one of the limits. Rows with misplaced quotes are
        written anew.
        """
        before, rows, size, lines = self.line_num, 0, 0, list[bytes]()
        while line := self._next():
            self._pass()
            lines.append(self._line or _encoded(line))
            if self._is_blank(line):
                self.ends_in_blank_row = self._may_be_cut(line)
            elif '"' not in line or self._is_row(line):
                rows += 1
            else:
                cells = self._record(line)
                if self._malformed:
                    lines[-1] = _encoded(quoted(cells, line, self.delimiter))
                lines += map(_encoded, self._following)
                size += sum(map(len, self._following))
                rows += not is_blank(cells)
            size += len(line)
            if rows >= most_rows or size >= most_characters:
                yield before, rows, b"".join(lines)
                before, rows, size, lines = self.line_num, 0, 0, []
        yield before, rows, b"".join(lines)

    def read(self, known: Container[bytes] = ()) -> Iterator[tuple[str, list[str] | None, bytes]]:
        """Yield rows: the line, its cells if the line had to be parsed, and the fingerprint of the row.

        ``known``: fingerprints of lines that are known to be rows.
        """
        while True:
            data = self._pending.popleft().encode() if self._pending else next(self._raw, b"")
            if not data:
                return
            self._pass()
            raw, line = raw_fingerprint(data), data.decode()
            if raw in known:
                yield line, None, raw
            elif self._is_blank(line):
                continue
            elif '"' not in line or self._is_row(line):
                yield line, None, raw
            elif not is_blank(cells := self._record(line)):
                yield line, cells, raw_fingerprint(msgspec.msgpack.encode(cells))

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

    def _next(self) -> str:
        """Return the next line; "" at the end."""
        if self._pending:
            self._line = b""
            return self._pending.popleft()
        self._line = next(self._raw, b"")
        return self._line.decode() or next(self._text, "")

    def _first_line(self) -> str:
        """Return the first line that can be a row."""
        while line := self._next():
            self._pass()
            if separator := _SEPARATOR_LINE.fullmatch(line):
                self.delimiter = separator[1]
            elif self.line_num > self._skip_lines and not self._is_blank(line):
                break
        return line

    def _pass(self) -> None:
        self.line_num += 1
        self.row_line = self.line_num

    def _is_blank(self, line: str) -> bool:
        """Return whether a line holds nothing but delimiters, spaces and empty quotes."""
        if not (line[0] == self.delimiter or line[0].isspace() or line[0] in _BLANK):
            return False
        if '"' in line:
            return self._is_row(line) and is_blank(cells_of(line, self.delimiter))
        return is_blank(line.split(self.delimiter))

    def _may_be_cut(self, line: str) -> bool:
        is_open = not line.endswith(("\n", "\r")) and line.strip("\x1a") != ""
        return is_open and line.count(self.delimiter) < self._width - 1

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
        self._following, self._ended, self._malformed = [], False, False
        cells: list[str] = []
        error: csv.Error | SourceError | None = None
        try:
            cells = next(csv.reader(chain((line,), self._more(len(line))), delimiter=self.delimiter, strict=True))
        except (csv.Error, SourceError) as found:
            error = found
        misplaced = isinstance(error, csv.Error) and not self._ended and self._width > 0
        if not misplaced and not (self._following and all(map(self._is_full, (line, *self._following)))):
            if error is not None:
                raise error
            return cells
        self._put_back(self._following)
        self._following, self._malformed = [], True
        return line.rstrip("\r\n").split(self.delimiter)

    def _more(self, size: int) -> Iterator[str]:
        while line := self._next():
            self.line_num += 1
            self._following.append(line)
            size += len(line)
            self._file.bounds.check_row(size, f"{self._file.where}:{self.row_line}")
            yield line
        self._ended = True

    def _put_back(self, lines: Sequence[str]) -> None:
        self._pending.extendleft(reversed(lines))
        self.line_num -= len(lines)

    def _is_full(self, line: str) -> bool:
        """Return whether a line would be a row of all columns, whatever its quotes mean."""
        return self._width >= _MANY_COLUMNS and line.count(self.delimiter) == self._width - 1


def _lines(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file with their ends: LF, CR or both."""
    for line in file:
        at = line.find(b"\r")
        if at < 0 or line[at:] == b"\r\n":
            yield line
        else:
            yield from line.splitlines(keepends=True)


def _encoded(line: str) -> bytes:
    return line.encode(errors="replace")


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


def quoted(cells: list[str], line: str, delimiter: str) -> str:
    """Return cells as a csv line with quotes around all of them, and the line end that ``line`` has."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="", quoting=csv.QUOTE_ALL).writerow(cells)
    return text.getvalue() + line[len(line.rstrip("\r\n")) :]
