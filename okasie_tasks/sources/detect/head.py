"""The beginning of an unknown feed: its file format and its first rows."""

from __future__ import annotations

import codecs
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.settings import AccountSettings, masked
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.content import open_content
from okasie_tasks.sources.detect.csv_head import header_of_sheet, read_csv
from okasie_tasks.sources.detect.flat import flatten
from okasie_tasks.sources.detect.json_lists import lists_in
from okasie_tasks.sources.sheet_reader import ERRORS, read_sheet, sheet_rows
from okasie_tasks.sources.transports.beginning import first_bytes
from okasie_tasks.sources.xml_reader import likely_elements, read_xml

MOST_ROWS: Final = 100_000
_MOST_NESTED_ROWS: Final = 5_000
_MOST_BYTES: Final = 32 * 1024 * 1024
_TITLE_ROWS: Final = 20
_PAGE: Final = (b"<!doctype html", b"<html", b"<head", b"<body")
_FEEDS: Final = (".csv", ".txt", ".tsv", ".json", ".jsonl", ".ndjson", ".xml")
"""Names of the files in an archive that may be the feed."""
_NO_ZIP: Final = (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError)
"""What zipfile raises for a damaged archive."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A feed's first rows. ``whole``: these are all rows of the feed."""

    kind: str
    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    """By column; of a nested feed, by path."""
    whole: bool
    nested: tuple[dict[str, Any], ...] = ()
    """The rows of a nested feed, as they are read."""
    encoding: str = "utf-8"
    delimiter: str = ","
    header: bool = True
    skip_lines: int = 0
    items: str = ""

    @property
    def raw(self) -> tuple[dict[str, Any], ...]:
        """The rows as the source reads them."""
        return self.nested or self.rows

    @property
    def has_columns(self) -> bool:
        """Whether the feed's columns are names, and not paths."""
        return self.kind in ("csv", "xlsx")


def cells(head: Head, column: str) -> Iterator[Any]:
    """Yield the cells of a column that are not empty."""
    for row in head.rows:
        cell = row.get(column)
        if cell is not None and cell not in ("", []):
            yield cell


def is_web(feed: str) -> bool:
    return "://" in feed


def read_head(feed: str) -> Head:
    """Read the first rows of a feed of any format, also gzipped or in a zip: a path or a URL.

    Raises `ConfigurationError` when there is no such file, `SourceError` when no vehicles can be found in it.
    """
    if not is_web(feed):
        return _of_file(Path(feed), feed)
    with tempfile.NamedTemporaryFile(suffix=Path(feed.partition("?")[0]).suffix) as file:
        file.write(first_bytes(feed, _MOST_BYTES))
        file.flush()
        return _of_file(Path(file.name), masked(feed), named=feed.partition("?")[0])


def _of_file(path: Path, name: str, *, named: str = "") -> Head:
    named = named or name
    try:
        if _is_workbook(path):
            return _sheet(path, name)
        member = _member(path, name)
        with open_content(path, name, kind="", member=member) as content:
            raw = _beginning(content.stream)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=name) from error
    whole = len(raw) < _MOST_BYTES
    data = raw.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    if not data:
        raise SourceError("is empty", where=name)
    if data[:20].lower().startswith(_PAGE):
        raise SourceError("is a web page, expected a feed", where=name, code="markup")
    kind = "xml" if _is_xml(data) else _kind(data, member or named)
    if kind == "csv":
        found = read_csv(raw, name, most=MOST_ROWS, whole=whole)
        return Head(
            kind="csv", name=name, columns=found.columns, rows=found.rows, whole=found.ended, encoding=found.encoding,
            delimiter=found.delimiter, header=found.header, skip_lines=found.skip_lines,
        )  # fmt: skip
    if kind == "xml":
        return _xml(raw, name, whole=whole)
    return _jsonl(data, name, whole=whole) if kind == "jsonl" else _json(data, name, whole=whole)


def _beginning(stream: Any) -> bytes:
    pieces, size = [], 0
    try:
        while size < _MOST_BYTES and (piece := stream.read(min(1 << 20, _MOST_BYTES - size))):
            pieces.append(piece)
            size += len(piece)
    except (EOFError, zlib.error):
        if not pieces:  # else a download that was cut at its limit
            raise
    return b"".join(pieces)


def _is_workbook(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return file.seek(0) == 0 and file.read(4) == b"\xd0\xcf\x11\xe0"
    try:
        with zipfile.ZipFile(path) as archive:
            return "[Content_Types].xml" in archive.namelist()
    except _NO_ZIP:
        return False


def _member(path: Path, name: str) -> str | None:
    """Return the file of an archive that may be the feed; None if the file is no archive."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info.filename for info in archive.infolist() if not info.is_dir()]
    except _NO_ZIP as error:
        raise SourceError(f"is a damaged or incomplete zip file: {error}", where=name, code="damaged") from error
    feeds = [file for file in files if file.lower().endswith(_FEEDS) and not file.startswith("__MACOSX/")] or files
    if len(feeds) != 1:
        raise SourceError(
            f"holds several files that may be the feed: {', '.join(feeds)[:300]}; unpack it, and draft the"
            " configuration from one of them, with member = its name",
            where=name, code="member",
        )  # fmt: skip
    return feeds[0]


def _is_xml(data: bytes) -> bool:
    return data.startswith((b"<", b"\xff\xfe<", b"\xfe\xff\x00<"))


def _kind(data: bytes, feed: str) -> str:
    """Return the format by content. A single object may be JSON or JSON lines; then the name decides."""
    if data.startswith(b"["):
        return "json"
    if not data.startswith(b"{"):
        return "csv"
    first, _, rest = data.partition(b"\n")
    if not isinstance(_decoded(first), dict):
        return "json"
    named = feed.partition("?")[0].removesuffix(".gz")
    return "jsonl" if rest.strip() or named.endswith((".jsonl", ".ndjson")) else "json"


# -- XML and XLSX --------------------------------------------------------------------------------------------------


def _account(kind: str, **source: Any) -> AccountSettings:
    settings = {"name": "draft", "api_key": "env:NONE", "source": {"type": kind, **source}}
    return AccountSettings.model_validate(settings)


def _xml(raw: bytes, name: str, *, whole: bool) -> Head:
    account = _account("xml")
    shapes = likely_elements(_bounded(raw, account, name), account.source, name=name)
    if not shapes:
        raise SourceError("holds no element with others in it", where=name, code="no_list")
    account = _account("xml", items=shapes[0].path)
    found: list[dict[str, Any]] = []
    try:
        for record in islice(read_xml(_bounded(raw, account, name), account.source, name=name), _MOST_NESTED_ROWS + 1):
            found.append(record.value)
    except SourceError as error:
        if whole or error.code != "cut":
            raise
    return _nested("xml", name, found, items=shapes[0].path, whole=whole)


def _bounded(raw: bytes, account: AccountSettings, name: str) -> BoundedFile:
    return BoundedFile(io.BytesIO(raw), Bounds(account), name, document=True)


def _sheet(path: Path, name: str) -> Head:
    account = _account("xlsx")
    with path.open("rb") as file:
        bounded = BoundedFile(file, Bounds(account), name, document=True)
        lines = list(islice(sheet_rows(bounded, account.source, name=name), _TITLE_ROWS)) if _is_zip(path) else []
        skip_lines, header = header_of_sheet([cells for _, _, cells in lines])
        account = _account("xlsx", skip_lines=skip_lines, header=header)
        file.seek(0)
        bounded = BoundedFile(file, Bounds(account), name, document=True)
        records = islice(read_sheet(bounded, account.source, name=name), MOST_ROWS + 1)
        rows = tuple({key: value for key, value in record.value.items() if key != ERRORS} for record in records)
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Head(
        kind="xlsx", name=name, columns=columns, rows=rows[:MOST_ROWS], whole=len(rows) <= MOST_ROWS, header=header,
        skip_lines=skip_lines,
    )  # fmt: skip


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


# -- JSON ----------------------------------------------------------------------------------------------------------


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _jsonl(data: bytes, name: str, *, whole: bool) -> Head:
    lines = data.splitlines()
    kept = lines if whole else lines[:-1]
    rows = [row for line in kept[: MOST_ROWS + 1] if line.strip() and isinstance(row := _decoded(line), dict)]
    return _nested("jsonl", name, rows, items="", whole=whole)


def _json(data: bytes, name: str, *, whole: bool) -> Head:
    if not whole:
        size = f"is larger than {_MOST_BYTES // 1024**2} MB, and a JSON document must be read whole"
        raise SourceError(f"{size}: draft the configuration from a smaller one of the same kind", where=name)
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"is not a JSON document: {error}", where=name, code="not_json") from error
    lists = dict(lists_in(document))
    if not lists:
        raise SourceError("holds no list of objects", where=name, code="no_list")
    # A vehicle has more different members than a price, a photo or a dealer.
    items = max(lists, key=lambda path: (len({key for row in lists[path] for key in row}), len(lists[path])))
    return _nested("json", name, lists[items], items=items, whole=True)


def _nested(kind: str, name: str, rows: list[dict[str, Any]], *, items: str, whole: bool) -> Head:
    most = (
        _MOST_NESTED_ROWS if any(isinstance(cell, dict | list) for row in rows for cell in row.values()) else MOST_ROWS
    )
    nested, ended = tuple(rows[:most]), whole and len(rows) <= most
    columns, flat = flatten(nested, "/" if kind == "xml" else ".")
    return Head(kind=kind, name=name, columns=columns, rows=flat, whole=ended, nested=nested, items=items)
