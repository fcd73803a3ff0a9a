"""Feeds in JSON lines: one object a line."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any, Final

import msgspec

from okasie_tasks.core.row_cache import RowCache, raw_fingerprint
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.blocks import BLOCK_BYTES, BLOCK_ROWS
from okasie_tasks.sources.bounds import BoundedFile
from okasie_tasks.sources.csv_reader import BUFFER_BYTES
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.records import map_value, unread_row

_BLANK: Final = b" \t\r\n\xef\xbb\xbf"
_BOM: Final = b"\xef\xbb\xbf"


class JsonLinesFormat:
    """The format ``jsonl``. The data of a block are its lines."""

    def __init__(self, account: AccountSettings, *, current_year: int) -> None:
        self._account, self._year = account, current_year

    def blocks(self, file: BoundedFile, name: str) -> Iterator[Block]:
        """Cut the feed; see `okasie_tasks.ports.Source`."""
        first, rows, size, line, lines, text = 0, 0, 0, 0, list[bytes](), b"\n"
        for text in io.BufferedReader(file, BUFFER_BYTES):
            lines.append(text)
            size += len(text)
            rows += bool(text.strip(_BLANK))
            if rows >= BLOCK_ROWS or size >= BLOCK_BYTES:
                yield Block(first, rows, line, b"".join(lines), name=name)
                first, line = first + rows, line + len(lines)
                rows, size, lines = 0, 0, []
        if not text.endswith(b"\n") and text.strip(_BLANK):
            try:
                msgspec.json.decode(text.lstrip(_BOM))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                where = f"{name}:{line + len(lines)}"
                raise SourceError("ends in the middle of a row", where=where, code="cut") from error
        if rows:
            yield Block(first, rows, line, b"".join(lines), name=name)

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        known, number = known or RowCache(), block.first
        mapping = RowMapping(self._account, columns=None, current_year=self._year, only=only)
        known.under(mapping.version)
        for line, text in enumerate(io.BytesIO(block.data), start=block.line + 1):
            if not text.strip(_BLANK):
                continue
            number += 1
            raw = raw_fingerprint(text)
            if not known.take(raw, number):
                yield _row(mapping, text, number, f"{block.name}:{line}", raw=raw, contents=known.contents)


def _row(
    mapping: RowMapping, text: bytes, number: int, where: str, *, raw: bytes, contents: dict[bytes, bytes]
) -> SourceRow:
    try:
        value: Any = msgspec.json.decode(text.lstrip(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return unread_row(number, where, "not_an_object", f"is not JSON: {error}", raw=raw)
    read = partial(map_value, mapping, value, number, where, raw=raw)
    content = contents.get(raw)
    if content is None or (reference := mapping.reference.read(value)) is None:
        return read()
    return SourceRow(number, reference, None, where=where, raw=raw, content=content, read=read)
