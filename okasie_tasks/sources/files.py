"""Feeds that are files: csv, JSON lines and JSON, plain or compressed, streamed row by row.

A read either reaches the proven end of the feed or raises `SourceError`. The proof is the trailer of a ``.gz``, the
closing bracket of a document, or the closing quote and the complete last row of a csv. Invalid rows are reported one by
one; the other rows are still processed.
"""

from __future__ import annotations

import csv
import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from okasie_tasks.core.listing import Issue
from okasie_tasks.core.row_cache import RowCache, RowOffset, raw_fingerprint
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.content import open_content
from okasie_tasks.sources.csv_reader import BUFFER_BYTES, CsvReader, cells_of, fitted, full_lines, is_line_end
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.transports.local import local_file

_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")
_ENCODER: Final = msgspec.msgpack.Encoder()


class FileSource:
    """A feed in a local file, or in the newest one that a pattern matches when it is first looked at.

    ``name``: its name in messages; ``only``: the requested references; ``bounds``: of this read.
    """

    sliceable = True
    remembers = True

    def __init__(
        self,
        account: AccountSettings,
        path: Path,
        *,
        name: str | None = None,
        current_year: int,
        only: frozenset[str] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._account = account
        self._pattern = path
        self._feed, self._name = name, name or path.name
        self._year = current_year
        self._only = only
        self._bounds = bounds or Bounds(account)

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

    def rows(self, start: int = 0, stop: int | None = None, *, known: RowCache | None = None) -> Iterator[SourceRow]:
        """Yield rows ``start <= index < stop``; see `okasie_tasks.ports.CachingSource`."""
        read = {"csv": self._csv, "jsonl": self._jsonl, "json": self._json}[self._account.source.type]
        try:
            with self._open() as file:
                yield from read(file, start, stop, known or RowCache())
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or type(error).__name__}", where=self._name) from error

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows, and those whose reference cannot be read: the file is scanned."""
        wanted = frozenset((*references, None))
        scan = FileSource(
            self._account, self._path, name=self._feed, current_year=self._year, only=frozenset(references),
            bounds=self._bounds,
        )  # fmt: skip
        return (row for row in scan.rows() if row.reference in wanted)

    @contextmanager
    def _open(self) -> Iterator[BoundedFile]:
        source = self._account.source
        self._stat()
        name = self._feed or self._path.name
        with open_content(self._path, name, kind=source.type, member=source.member) as content:
            self._name = content.name
            head = content.stream.peek(512)[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()  # type: ignore[attr-defined]
            if head.startswith(_MARKUP):
                raise SourceError(f"is a web page, expected {source.type}", where=self._name, code="markup")
            yield BoundedFile(content.stream, self._bounds, self._name, document=source.type == "json")

    # -- csv -------------------------------------------------------------------------------------------------------

    def _csv(self, file: BoundedFile, start: int, stop: int | None, known: RowCache) -> Iterator[SourceRow]:
        source = self._account.source
        try:
            reader = CsvReader(file, source.encoding, source.delimiter, skip_lines=source.skip_lines)
        except LookupError as error:
            raise SourceError(f"encoding {source.encoding!r} is unknown", where=self._name) from error
        try:
            yield from self._csv_rows(reader, start, stop, known)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"byte {error.object[error.start]:#04x} is not {source.encoding}: expected a feed in that encoding",
                where=f"{self._name}:{reader.undecodable_line()}", code="encoding",
            ) from error  # fmt: skip
        except csv.Error as error:
            raise SourceError(
                "ends within a quoted field", where=f"{self._name}:{reader.row[1] + 1}", code="cut"
            ) from error

    def _csv_rows(self, reader: CsvReader, start: int, stop: int | None, known: RowCache) -> Iterator[SourceRow]:
        columns = reader.header(named=self._account.source.header)
        mapping = self._mapping(columns)
        known.under(mapping.version)
        # Of two columns with the same name the last one counts, as in dict(zip()) below.
        contents, of_reference = known.contents, len(columns) - 1 - columns[::-1].index(mapping.reference_column)
        width, delimiter = len(columns), reader.delimiter
        if known.begin is not None and known.begin.row == start and reader.go_to(known.begin):
            number = start
        elif (number := reader.skip(start)) < start:
            return
        before: SourceRow | None = None
        for line, quoted in islice(reader.read(), None if stop is None else stop - start):
            if before is not None:
                yield before
            if reader.counts:
                known.at(number, *reader.row)
            number += 1
            where = f"{self._name}:{reader.row[1] + 1}"
            raw = raw_fingerprint(line.encode() if quoted is None else _ENCODER.encode(quoted))
            if quoted is None and (content := contents.get(raw)) is not None:
                # An identical line was a valid row before.
                ahead = line.split(delimiter, of_reference + 1)
                if '"' in line and any('"' in cell for cell in ahead[: of_reference + 1]):
                    ahead = cells_of(line, delimiter)
                reference = ahead[of_reference].strip()
                read = partial(_read_line, mapping, columns, line, number, where, raw=raw, delimiter=delimiter)
                before = SourceRow(number, reference, None, where=where, raw=raw, content=content, read=read)
                continue
            cells = cells_of(line, delimiter) if quoted is None else quoted
            if len(cells) != width and len(cells := fitted(cells, columns)) != width:
                before = _unfitting(mapping, columns, cells, number, where, malformed=reader.malformed)
                continue
            again = partial(_read_cells, mapping, columns, cells, number, where, raw=raw)
            if (content := contents.get(raw)) is None:
                before = again()
            else:
                reference = cells[of_reference].strip()
                before = SourceRow(number, reference, None, where=where, raw=raw, content=content, read=again)
        ended = stop is None or number < stop
        if (
            before is not None
            and ended
            and before.issues
            and before.issues[0].code == "columns"
            and not reader.terminated
        ):
            raise SourceError("ends in the middle of a row", where=before.where, code="cut")
        if before is not None:
            yield msgspec.structs.replace(before, unterminated=True) if ended and not reader.terminated else before

    def _mapping(self, columns: Sequence[str] | None) -> RowMapping:
        mapping = RowMapping(self._account, columns=columns, current_year=self._year, only=self._only)
        if columns is not None:
            self._check_unique(mapping, columns)
            missing = sorted(mapping.needed.difference(columns))
            if missing:
                raise SourceError(
                    f"has no column {', '.join(missing)}; its columns are {', '.join(columns)[:300] or '(none)'}",
                    where=f"{self._name}:1", code="columns",
                )  # fmt: skip
        return mapping

    def _check_unique(self, mapping: RowMapping, columns: Sequence[str]) -> None:
        for name in sorted(mapping.used):
            places = [str(number) for number, column in enumerate(columns, start=1) if column == name]
            if len(places) > 1:
                raise SourceError(
                    f"has {len(places)} columns {name!r} (columns {', '.join(places)}), expected one: it is mapped",
                    where=f"{self._name}:1", code="columns",
                )  # fmt: skip

    # -- JSON ------------------------------------------------------------------------------------------------------

    def _jsonl(self, raw_file: BoundedFile, start: int, stop: int | None, known: RowCache) -> Iterator[SourceRow]:
        file = io.BufferedReader(raw_file, BUFFER_BYTES)
        mapping = self._mapping(None)
        known.under(mapping.version)
        begin, first = RowOffset(0, 0, 0), start
        if known.begin is not None and known.begin.row == start and is_line_end(file, known.begin.byte):
            begin, first = known.begin, 0
        file.seek(begin.byte)
        lines = full_lines(file, begin)
        rows = None if stop is None else stop - start
        for number, (place, text) in enumerate(islice(lines, first, rows and first + rows), start=start + 1):
            known.at(number - 1, *place)
            where = f"{self._name}:{place[1] + 1}"
            try:
                raw = msgspec.json.decode(text.lstrip(b"\xef\xbb\xbf"))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if not text.endswith(b"\n"):
                    raise SourceError("ends in the middle of a row", where=where, code="cut") from error
                raw = error
            yield self._line(mapping, raw, number, where, known, line=raw_fingerprint(text))

    def _line(
        self, mapping: RowMapping, raw: Any, number: int, where: str, known: RowCache, *, line: bytes
    ) -> SourceRow:
        """Return one row of JSON lines. Its reference must be read even where its content is cached."""

        def read() -> SourceRow:
            return msgspec.structs.replace(self._object(mapping, raw, number, where), raw=line)

        content = known.contents.get(line)
        if content is None or (reference := mapping.reference_of(raw)) is None:
            return read()
        return SourceRow(number, reference, None, where=where, raw=line, content=content, read=read)

    def _json(self, file: BoundedFile, start: int, stop: int | None, known: RowCache) -> Iterator[SourceRow]:  # noqa: ARG002
        # The whole document is read: only its end proves that it is complete.
        try:
            document = msgspec.json.decode(file.read().lstrip(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"is not a JSON document: {error}", where=self._name, code="not_json") from error
        items, place = document, "the document"
        for key in (self._account.source.items or "").split("."):
            if key:
                items = items.get(key) if isinstance(items, dict) else None
                place = self._account.source.items or ""
        if not isinstance(items, list):
            raise SourceError(
                f"expected a list at {place}, got {type(items).__name__}", where=self._name, code="no_list"
            )
        mapping = self._mapping(None)
        for number, raw in enumerate(items[start:stop], start=start + 1):
            yield self._object(mapping, raw, number, f"{self._name}:{place}[{number - 1}]")

    def _object(self, mapping: RowMapping, raw: Any, number: int, where: str) -> SourceRow:
        if isinstance(raw, dict):
            return mapping.row(raw, number, where)
        why = f"is not JSON: {raw}" if isinstance(raw, Exception) else f"expected an object, got {type(raw).__name__}"
        return SourceRow(
            row=number, reference=None, listing=None, issues=(Issue("row", "not_an_object", why),), where=where
        )


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


def _read_line(
    mapping: RowMapping, columns: list[str], line: str, number: int, where: str, *, raw: bytes, delimiter: str
) -> SourceRow:
    return _read_cells(mapping, columns, cells_of(line, delimiter), number, where, raw=raw)


def _unfitting(
    mapping: RowMapping, columns: list[str], cells: list[str], number: int, where: str, *, malformed: bool
) -> SourceRow:
    """Return a row with too many or too few cells. With misplaced quotes it is unknown which one is the reference."""
    what = f"expected {len(columns)} columns, got {len(cells)}{', and its quotes are misplaced' if malformed else ''}"
    named = {} if malformed else dict(zip(columns, cells, strict=False))
    return mapping.row(named, number, where, (Issue("row", "columns", what),))


def _read_cells(
    mapping: RowMapping, columns: list[str], cells: list[str], number: int, where: str, *, raw: bytes
) -> SourceRow:
    row = mapping.row(dict(zip(columns, cells, strict=True)), number, where)
    return msgspec.structs.replace(row, raw=raw)
