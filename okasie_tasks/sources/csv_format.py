"""Feeds in csv: cut at the ends of rows without parsing them, and decoded line by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from functools import partial
from typing import Final

import msgspec

from okasie_tasks.core.listing import Issue
from okasie_tasks.core.row_cache import RowCache, raw_fingerprint
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.blocks import BLOCK_BYTES, BLOCK_ROWS
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.csv_reader import CsvReader, cells_of, fitted
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.records import unread_row


class _Head(msgspec.Struct, array_like=True):
    """What the blocks of one feed share."""

    columns: list[str]
    delimiter: str


_HEAD: Final = msgspec.msgpack.Decoder(_Head)


class CsvFormat:
    """The format ``csv``. The data of a block is the text of its rows in UTF-8."""

    def __init__(self, account: AccountSettings, *, current_year: int, bounds: Bounds) -> None:
        self._account, self._year, self._bounds = account, current_year, bounds

    def blocks(self, file: BoundedFile, name: str) -> Iterator[Block]:
        """Cut the feed; see `okasie_tasks.ports.Source`."""
        source = self._account.source
        try:
            reader = CsvReader(file, source.encoding, source.delimiter, skip_lines=source.skip_lines)
        except LookupError as error:
            raise SourceError(f"encoding {source.encoding!r} is unknown", where=name) from error
        try:
            yield from self._cut(reader, name)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"byte {error.object[error.start]:#04x} is not {source.encoding}: expected a feed in that encoding",
                where=f"{name}:{reader.undecodable_line()}", code="encoding",
            ) from error  # fmt: skip
        except csv.Error as error:
            raise SourceError("ends within a quoted field", where=f"{name}:{reader.row_line}", code="cut") from error

    def _cut(self, reader: CsvReader, name: str) -> Iterator[Block]:
        columns = reader.header(named=self._account.source.header)
        head = _Head(columns, reader.delimiter)
        self._mapping(head).check_columns(f"{name}:1")
        first, packed = 0, msgspec.msgpack.encode(head)
        for line, rows, data in reader.cut(BLOCK_ROWS, BLOCK_BYTES):
            if rows:
                open_end = not data.endswith((b"\n", b"\r"))
                block = Block(first, rows, line, data, packed, open_end, name)
                if open_end:
                    self._check_end(block, head)
                yield block
                first += rows
        if reader.ends_in_blank_row:
            raise SourceError("ends in the middle of a row", where=f"{name}:{reader.row_line}", code="cut")

    def _check_end(self, block: Block, head: _Head) -> None:
        """Raise `SourceError` if the last row of the feed is incomplete."""
        reader = self._reader(block, head)
        *_, (line, cells, _) = reader.read()
        cells = cells_of(line, head.delimiter) if cells is None else cells
        if len(fitted(cells, head.columns)) != len(head.columns):
            raise SourceError("ends in the middle of a row", where=f"{block.name}:{reader.row_line}", code="cut")

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        head, known = _HEAD.decode(block.head), known or RowCache()
        mapping = self._mapping(head, only)
        known.under(raw_fingerprint(mapping.version + head.delimiter.encode()))
        reader, last = self._reader(block, head), block.first + block.rows if block.open_end else 0
        for number, (line, cells, raw) in enumerate(reader.read(known.same), start=block.first + 1):
            if number != last and known.take(raw, number):
                continue
            where, content = f"{block.name}:{reader.row_line}", known.contents.get(raw)
            if content is None:
                row = _read_row(mapping, head, number, where, line=line, cells=cells, raw=raw)
            else:
                # An identical row was valid before.
                read = partial(_read_row, mapping, head, number, where, line=line, cells=cells, raw=raw)
                if cells is None:
                    reference = mapping.reference.of_line(line, head.delimiter)
                else:
                    reference = mapping.reference.of_cells(cells)
                row = SourceRow(number, reference, None, where=where, raw=raw, content=content, read=read)
            yield msgspec.structs.replace(row, unterminated=True) if number == last else row

    def _reader(self, block: Block, head: _Head) -> CsvReader:
        file = BoundedFile(io.BytesIO(block.data), self._bounds, block.name)
        return CsvReader(file, "utf-8", head.delimiter, piece=(block.line, block.data))

    def _mapping(self, head: _Head, only: Collection[str] | None = None) -> RowMapping:
        return RowMapping(self._account, columns=head.columns, current_year=self._year, only=only)


def _read_row(
    mapping: RowMapping, head: _Head, number: int, where: str, *, line: str, cells: list[str] | None, raw: bytes
) -> SourceRow:
    """Map and validate one row. ``cells`` None: ``line`` must be parsed."""
    if cells is None:
        cells = cells_of(line, head.delimiter)
    width = len(head.columns)
    if len(cells) != width:
        what = f"expected {width} columns, got {len(cells)}"
        if any(cell.startswith('"') for cell in cells):
            # Which column a cell belongs to is unknown, so the reference is, too.
            return unread_row(number, where, "columns", f"{what}, and its quotes are misplaced", raw=raw)
        if len(cells := fitted(cells, head.columns)) != width:
            found = dict(zip(head.columns, cells, strict=False))
            return mapping.row(found, number, where, (Issue("row", "columns", what),))
    row = mapping.row(dict(zip(head.columns, cells, strict=True)), number, where)
    return msgspec.structs.replace(row, raw=raw)
