"""The dialect of an unknown csv: its encoding, its delimiter, the lines above its header, and whether it has one."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from okasie_tasks.errors import SourceError
from okasie_tasks.sources.detect.vocabulary import ROLE_NAMES, meaning_of, plain

_DELIMITERS: Final = (";", ",", "\t", "|")
_JUDGED_ROWS: Final = 200
"""How many rows are read to choose a delimiter."""
_MOST_TITLE_LINES: Final = 20
_SEPARATOR_LINE: Final = re.compile(r"\"?sep=(.)\"?\r?\n", re.IGNORECASE)
_DATA: Final = re.compile(r"[^\w]*\d[\d.,/ -]*\D{0,4}|https?://.*", re.IGNORECASE)
"""A cell that holds a number, a date or an address, and so is no name of a column."""


class CsvHead(NamedTuple):
    encoding: str
    delimiter: str
    header: bool
    skip_lines: int
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    ended: bool
    """Whether these are all rows of what was read."""


def read_csv(raw: bytes, name: str, *, most: int, whole: bool) -> CsvHead:
    """Return the dialect and the first rows. Raises `SourceError` for a quote that is not closed."""
    encoding = _encoding(raw, whole=whole)
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(raw).removeprefix("\ufeff")
    if not whole:
        text = text[: text.rfind("\n") + 1]
    if stated := _SEPARATOR_LINE.match(text):
        delimiter, text = stated[1], text[stated.end() :]
    else:
        delimiter = max(_DELIMITERS, key=lambda sign: _fitness(text, sign))
    skip_lines = _lines_above(text, delimiter)
    text = text if not skip_lines else "".join(text.splitlines(keepends=True)[skip_lines:])
    try:
        records = list(_records(text, delimiter, most + 1, whole=whole))
    except csv.Error as error:
        raise SourceError(f"bad quoting: {error}", where=name, code="quoting") from error
    header = not records or _is_header(records[0])
    columns, records = _columns(records, header=header), records[1:] if header else records
    rows = tuple(
        dict(zip(columns, cells, strict=False))
        for cells in records[:most]
        if len(cells) >= len(columns) and not any(cells[len(columns) :])
    )
    return CsvHead(encoding, delimiter, header, skip_lines, columns, rows, whole and len(records) <= most)


def _columns(records: Sequence[Sequence[str]], *, header: bool) -> tuple[str, ...]:
    if not records:
        return ()
    return tuple(cell.strip() if header else str(index) for index, cell in enumerate(records[0], start=1))


def _records(text: str, delimiter: str, most: int, *, whole: bool) -> Iterator[list[str]]:
    """Yield rows that are not blank; a row with misplaced quotes is left out. A cut text ends with an error."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield cells
                most -= 1
            if not most:
                return
    except csv.Error:
        if whole:
            raise


def _encoding(raw: bytes, *, whole: bool) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(raw, final=whole)
        except UnicodeDecodeError:
            continue
        return encoding
    return "iso-8859-1"


def _fitness(text: str, delimiter: str) -> tuple[float, int]:
    """Return how well a delimiter fits: the share of rows of the commonest width, then that width."""
    try:
        rows = list(_records(text, delimiter, _JUDGED_ROWS, whole=True))
    except csv.Error:
        return (0.0, 0)
    if not rows:
        return (0.0, 0)
    width, count = Counter(map(len, rows)).most_common(1)[0]
    return (count / len(rows), width) if width > 1 else (0.0, width)


def _lines_above(text: str, delimiter: str) -> int:
    """Return how many lines stand above the header: titles, of which most cells are empty."""
    lines = text.splitlines()[:_MOST_TITLE_LINES]
    filled = [_filled(line, delimiter) for line in lines]
    most = max(filled, default=0)
    first = next((index for index, count in enumerate(filled) if count and count * 2 > most), 0)
    # Blank lines alone are no rows in any case.
    return first if any(filled[:first]) else 0


def _filled(line: str, delimiter: str) -> int:
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        cells = line.split(delimiter)
    return sum(bool(cell.strip()) for cell in cells)


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether a first row holds names: one is known, or hardly any holds data."""
    if any(meaning_of(cell) is not None or plain(cell) in ROLE_NAMES for cell in cells):
        return True
    return sum(bool(_DATA.fullmatch(cell.strip())) for cell in cells) < 2


def header_of_sheet(lines: Sequence[Sequence[Any]]) -> tuple[int, bool]:
    """Return the lines above the header of a sheet, and whether it has one."""
    filled = [sum(cell is not None and str(cell).strip() != "" for cell in cells) for cells in lines]
    most = max(filled, default=0)
    first = next((index for index, count in enumerate(filled) if count and count * 2 > most), 0)
    skip_lines = first if any(filled[:first]) else 0
    cells = [str(cell) for cell in (lines[first] if lines else ()) if cell is not None]
    return skip_lines, not cells or _is_header(cells)
