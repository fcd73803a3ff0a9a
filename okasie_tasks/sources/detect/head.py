"""The beginning of an unknown feed: its file format and its first rows."""

from __future__ import annotations

import codecs
import csv
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.settings import masked
from okasie_tasks.sources.transports.beginning import first_bytes

MOST_ROWS: Final = 100_000
_MOST_BYTES: Final = 32 * 1024 * 1024
_DELIMITERS: Final = (";", ",", "\t", "|")
_JUDGED_ROWS: Final = 200
"""How many rows are read to choose a delimiter."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A feed's first rows. ``whole``: these are all rows of the feed."""

    kind: str
    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    whole: bool
    encoding: str = "utf-8"
    delimiter: str = ","
    items: str = ""


def is_web(feed: str) -> bool:
    return "://" in feed


def read_head(feed: str) -> Head:
    """Read the first rows of a feed: a path or a URL of csv, JSON lines or JSON, also as ``.gz``.

    Raises `ConfigurationError` when there is no such file, `SourceError` when it has another format.
    """
    name, raw = masked(feed) if is_web(feed) else feed, _raw(feed)
    whole = len(raw) < _MOST_BYTES
    if raw.startswith(b"\x1f\x8b"):
        if not feed.partition("?")[0].endswith(".gz"):
            raise SourceError("is gzipped, but its name does not end in .gz", where=name)
        raw, whole = _unzipped(raw, name)
    data = raw.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    if not data:
        raise SourceError("is empty", where=name)
    if data.startswith(b"<"):
        raise SourceError("is a web page or XML, expected csv, JSON lines or JSON", where=name, code="markup")
    kind = _kind(data, feed)
    if kind == "csv":
        return _csv(raw, name, whole=whole)
    return _jsonl(data, name, whole=whole) if kind == "jsonl" else _json(data, name, whole=whole)


def _raw(feed: str) -> bytes:
    if is_web(feed):
        return first_bytes(feed, _MOST_BYTES)
    try:
        with Path(feed).open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=feed) from error


def _unzipped(raw: bytes, name: str) -> tuple[bytes, bool]:
    try:
        unzip = zlib.decompressobj(wbits=31)
        data = unzip.decompress(raw, _MOST_BYTES)
    except zlib.error as error:
        raise SourceError("is a corrupt gzip file", where=name) from error
    return data, unzip.eof


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


# -- csv -----------------------------------------------------------------------------------------------------------


def _csv(raw: bytes, name: str, *, whole: bool) -> Head:
    encoding = _encoding(raw, whole=whole)
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(raw).removeprefix("\ufeff")
    if not whole:
        text = text[: text.rfind("\n") + 1]
    delimiter = max(_DELIMITERS, key=lambda sign: _fitness(text, sign))
    try:
        records = list(_records(text, delimiter, MOST_ROWS + 1, whole=whole))
    except csv.Error as error:
        raise SourceError(f"bad quoting: {error}", where=name, code="quoting") from error
    columns = tuple(column.strip() for column in records[0]) if records else ()
    rows = tuple(dict(zip(columns, cells, strict=True)) for cells in records[1:] if len(cells) == len(columns))
    ended = whole and len(records) <= MOST_ROWS
    return Head(
        kind="csv", name=name, columns=columns, rows=rows, whole=ended, encoding=encoding, delimiter=delimiter
    )  # fmt: skip


def _records(text: str, delimiter: str, most: int, *, whole: bool) -> Iterator[list[str]]:
    """Yield rows that are not empty. Where the text is cut off, an error is taken as its end."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
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
    """Return how well a delimiter fits: the share of rows as wide as the header, then the width."""
    try:
        rows = list(_records(text, delimiter, _JUDGED_ROWS, whole=True))
    except csv.Error:
        return (0.0, 0)
    width = len(rows[0]) if rows else 0
    return (sum(len(row) == width for row in rows) / len(rows), width) if width > 1 else (0.0, width)


# -- JSON ----------------------------------------------------------------------------------------------------------


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _jsonl(data: bytes, name: str, *, whole: bool) -> Head:
    lines = data.splitlines()
    kept = lines if whole else lines[:-1]
    rows = [row for line in kept[:MOST_ROWS] if line.strip() and isinstance(row := _decoded(line), dict)]
    ended = whole and len(lines) <= MOST_ROWS
    return Head(kind="jsonl", name=name, columns=_columns(rows), rows=tuple(rows), whole=ended)


def _json(data: bytes, name: str, *, whole: bool) -> Head:
    if not whole:
        size = f"is larger than {_MOST_BYTES // 1024**2} MB, and a JSON document must be read whole"
        raise SourceError(f"{size}: write the configuration manually, or convert the feed to JSON lines", where=name)
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"is not a JSON document: {error}", where=name, code="not_json") from error
    lists = dict(_lists(document))
    if not lists:
        raise SourceError("holds no list of objects", where=name, code="no_list")
    items = max(lists, key=lambda path: len(lists[path]))
    rows = [row for row in lists[items][:MOST_ROWS] if isinstance(row, dict)]
    ended = len(lists[items]) <= MOST_ROWS
    return Head(kind="json", name=name, columns=_columns(rows), rows=tuple(rows), whole=ended, items=items)


def _lists(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    """Yield every list of objects with its path, as written in ``items``."""
    if isinstance(value, list) and any(isinstance(row, dict) for row in value):
        yield path, value
    elif isinstance(value, dict) and depth < 4:
        for key, inner in value.items():
            if key and "." not in key:
                yield from _lists(inner, f"{path}.{key}" if path else key, depth + 1)


def _columns(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row))
