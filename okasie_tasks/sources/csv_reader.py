"""Lines and rows of csv feeds."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Final

from okasie_tasks.sources.bounds import BoundedFile

_BLANK: Final = ("\n", "\r\n", "\r")
BUFFER_BYTES: Final = 256 * 1024
csv.field_size_limit(sys.maxsize)  # rows are bounded instead


class CsvReader:
    """A csv reader that parses a row only where it must.

    A line that follows a complete row is a row itself if it has no quotes, or only quotes around whole fields. Only
    other lines need the csv parser. Raises `LookupError` for an unknown encoding.
    """

    def __init__(self, file: BoundedFile, encoding: str, delimiter: str, *, line: int | None = None) -> None:
        """``line``: the lines before ``file``, if it is not a whole feed but a block of one, whose text is UTF-8."""
        self._file, self._delimiter = file, delimiter
        if line is None and encoding.lower() in ("utf-8", "utf8"):
            encoding = "utf-8-sig"
        self._text = io.TextIOWrapper(io.BufferedReader(file, BUFFER_BYTES), encoding=encoding, newline="")
        self.line_num = line or 0

    def header(self) -> list[str]:
        """Return the cells of the first line; empty when there is none."""
        line = next(self._text, "")
        self.line_num += 1
        return self._quoted(line) if line else []

    def cut(self, most_rows: int, most_characters: int) -> Iterator[tuple[int, int, str]]:
        """Cut the text at the ends of rows: yield the lines before a piece, its rows that are not blank, and its text.

        A piece ends with the row that reaches one of the limits.
        """
        before, rows, size, lines = self.line_num, 0, 0, list[str]()
        for line in self._text:
            self.line_num += 1
            lines.append(line)
            size += len(line)
            if '"' not in line or self._is_row(line):
                rows += line not in _BLANK
            else:
                at = len(lines)
                rows += bool(self._quoted(line, lines))
                size += sum(map(len, lines[at:]))
            if rows >= most_rows or size >= most_characters:
                yield before, rows, "".join(lines)
                before, rows, size, lines = self.line_num, 0, 0, []
        yield before, rows, "".join(lines)

    def read(self) -> Iterator[tuple[str, list[str] | None]]:
        """Yield rows that are not blank: the line, and its cells if the line had to be parsed."""
        for line in self._text:
            self.line_num += 1
            if '"' not in line or self._is_row(line):
                if line not in _BLANK:
                    yield line, None
            elif cells := self._quoted(line):
                yield line, cells

    def _more(self, size: int, passed: list[str] | None) -> Iterator[str]:
        for line in self._text:
            size += len(line)
            self._file.bounds.check_row(size, f"{self._file.where}:{self.line_num}")
            if passed is not None:
                passed.append(line)
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

    def _quoted(self, line: str, passed: list[str] | None = None) -> list[str]:
        """Parse the row that begins with ``line``; its other lines are added to ``passed``."""
        rows = csv.reader(chain((line,), self._more(len(line), passed)), delimiter=self._delimiter, strict=True)
        try:
            return next(rows)
        finally:
            self.line_num += rows.line_num - 1


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line that is a complete row."""
    return next(csv.reader((line,), delimiter=delimiter, strict=True))
