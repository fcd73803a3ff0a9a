"""The rows of a sheet of an XLSX workbook, streamed.

A workbook is a zip of XML files. Their uncompressed sizes are checked before any of them is opened; zipfile does not
read beyond the size that is stated there.
"""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final, cast

from okasie_tasks.core.fields import BY_INPUT_NAME
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Record
from okasie_tasks.settings import SourceSettings
from okasie_tasks.sources.bounds import BoundedFile
from okasie_tasks.sources.columns import needed_columns
from okasie_tasks.sources.xml_reader import refuse_document_type

if TYPE_CHECKING:
    from openpyxl import Workbook

ERRORS: Final = "@errors"
"""The member with the cells that hold an error instead of a value, by column, as ``F17: #N/A``."""
_ERROR_VALUES: Final = frozenset(
    {"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#SPILL!", "#CALC!", "#GETTING_DATA"}
)
_OLE: Final = b"\xd0\xcf\x11\xe0"
"""The head of the format before XLSX, and of an encrypted workbook."""
_MOST_ROWS: Final = 1_048_576
_MOST_FILES: Final = 10_000
_ROWS_PER_STEP: Final = 500
Cells = Sequence[Any]


def read_sheet(file: BoundedFile, source: SourceSettings, *, name: str) -> Iterator[Record]:
    """Yield the rows of ``sheet``, else of the first visible one, as objects with all columns of the header.

    Rows without any value are left out. A formula counts as the value that the workbook stores for it. Raises
    `SourceError` for a file that is not a workbook, or not a whole one.
    """
    with _failing_as_source(name):
        yield from _records(file, source, name)


@contextlib.contextmanager
def _failing_as_source(name: str) -> Iterator[None]:
    """Raise `SourceError` for any error of a damaged workbook: openpyxl and zipfile raise many kinds."""
    try:
        yield
    except (SourceError, OSError):
        raise
    except Exception as error:
        raise SourceError(
            f"is not a workbook that can be read: {type(error).__name__} ({error})"[:300], where=name, code="not_xlsx"
        ) from error


def sheet_rows(file: BoundedFile, source: SourceSettings, *, name: str) -> Iterator[tuple[str, int, Cells]]:
    """Yield the sheet's name, the number and the cells of each row, from the first on, with or without values.

    Raises `SourceError`, as `read_sheet` does.
    """
    import openpyxl  # noqa: PLC0415 - takes a third of a second

    with _failing_as_source(name):
        _check(file, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions that hold no values
            book = openpyxl.load_workbook(cast("IO[bytes]", file), read_only=True, data_only=True)
        try:
            yield from _rows(book, source.sheet, file, name)
        finally:
            book.close()


def _rows(book: Workbook, wanted: str | None, file: BoundedFile, name: str) -> Iterator[tuple[str, int, Cells]]:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    shown = (sheet for sheet in sheets.values() if sheet.sheet_state == "visible")
    sheet = sheets.get(wanted) if wanted else next(shown, None)
    if sheet is None:
        raise SourceError(
            f"has no sheet {wanted or ''}; its sheets are {', '.join(sheets) or '(none)'}", where=name, code="no_list"
        )
    sheet.reset_dimensions()  # programs write wrong ones
    rows, number = sheet.iter_rows(values_only=True), 0
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = list(islice(rows, _ROWS_PER_STEP))
        if not step:
            return
        for cells in step:
            number += 1
            yield sheet.title, number, cells
        file.bounds.check_time(name)
        if number > _MOST_ROWS:
            raise SourceError(f"has more than {_MOST_ROWS} rows", where=f"{name}:{sheet.title}", code="too_large")


def _records(file: BoundedFile, source: SourceSettings, name: str) -> Iterator[Record]:
    columns: tuple[str, ...] | None = None
    for sheet, number, cells in sheet_rows(file, source, name=name):
        if number <= source.skip_lines or not any(map(_filled, cells)):
            continue
        where = f"{name}:{sheet}!{number}"
        if source.header and columns is None:
            columns = tuple("" if cell is None else str(plain(cell)).strip() for cell in cells)
            _check_doubled(columns, source, where)
            continue
        yield _record(columns, cells, number, where)


def _check_doubled(columns: Sequence[str], source: SourceSettings, where: str) -> None:
    """Raise if a column that is read has another of its name beside it."""
    read = {source.reference, source.updated_at, *BY_INPUT_NAME}
    read.update(name for target in source.fields.values() for name in needed_columns(target))
    for column in sorted(set(columns) & read):
        places = [_letters(index) for index, name in enumerate(columns) if name == column]
        if len(places) > 1:
            raise SourceError(
                f"has two columns {column} ({' and '.join(places)}), and one is read", where=where, code="columns"
            )


def _record(columns: tuple[str, ...] | None, cells: Cells, number: int, where: str) -> Record:
    if columns is None:
        names: Sequence[str] = [str(index) for index in range(1, len(cells) + 1)]
    else:
        names = columns
        cells = (*cells, *(None,) * (len(columns) - len(cells)))
    value: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for index, (column, cell) in enumerate(zip(names, cells, strict=False)):
        if isinstance(cell, str) and cell in _ERROR_VALUES:
            errors[column] = f"{_letters(index)}{number}: {cell}"
            cell = None  # noqa: PLW2901
        if column:
            value[column] = plain(cell)
    if errors:
        value[ERRORS] = errors
    return Record(where, value)


def plain(cell: Any) -> Any:
    """Return a cell as a value: a whole number is whole, a date without a time is a date."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date()
    if isinstance(cell, time | timedelta):
        return str(cell)
    return cell if isinstance(cell, str | int | float | date | None) else str(cell)


def _filled(cell: Any) -> bool:
    return cell is not None and not (isinstance(cell, str) and (not cell or cell.isspace()))


def _letters(index: int) -> str:
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _check(file: BoundedFile, name: str) -> None:
    """Raise for what is no workbook, or holds more than may be read."""
    head = file.read(len(_OLE))
    file.seek(0)
    if head == _OLE:
        raise SourceError(
            "is an .xls workbook, or one with a password; expected .xlsx without a password", where=name,
            code="not_xlsx",
        )  # fmt: skip
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", file))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        cut = head[:2] == b"PK"
        reason = "a whole workbook: its directory at the end is missing or damaged" if cut else "a workbook (.xlsx)"
        raise SourceError(f"is not {reason}", where=name, code="cut" if cut else "not_xlsx") from error
    with archive:
        files = archive.infolist()
        if len(files) > _MOST_FILES:
            raise SourceError(f"is a workbook of more than {_MOST_FILES} files", where=name, code="too_large")
        texts = [part for part in files if part.filename.endswith((".xml", ".rels"))]
        held = sum(part.file_size for part in texts if not part.filename.startswith("xl/worksheets/"))
        file.bounds.check_size(sum(part.file_size for part in files), f"{name}, uncompressed")
        file.bounds.check_size(held, f"{name}, its texts", document=True)
        for part in texts:
            with archive.open(part) as opened:
                refuse_document_type(opened, f"{name}, {part.filename}")
    file.seek(0)
