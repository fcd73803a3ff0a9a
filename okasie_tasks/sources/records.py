"""Sources without lines, such as documents, databases and custom sources: their records are packed into blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from okasie_tasks.core.fields import BY_INPUT_NAME
from okasie_tasks.core.listing import Issue, Listing
from okasie_tasks.core.row_cache import RowCache, raw_fingerprint
from okasie_tasks.ports import Block, Record, SourceRow
from okasie_tasks.settings import AccountSettings, SourceSettings
from okasie_tasks.sources.blocks import BLOCK_BYTES, BLOCK_ROWS
from okasie_tasks.sources.bounds import BoundedFile
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.sheet_reader import ERRORS

_PLAIN: Final = frozenset({str, float, bool, type(None), bytes})
_BIG: Final = 2**63
"""Whole numbers from here on are packed as `Decimal`."""
_TYPES: Final[tuple[tuple[type, Callable[[Any], str], Callable[[str], Any]], ...]] = (
    (datetime, datetime.isoformat, datetime.fromisoformat),
    (date, date.isoformat, date.fromisoformat),
    (Decimal, str, Decimal),
    (UUID, str, UUID),
    (
        Listing,
        lambda value: msgspec.json.encode(value).decode(),
        lambda text: msgspec.json.decode(text, type=Listing),
    ),
)
"""What msgpack has no type for: the type, to text, and from text. Its index is the code of the extension type."""


Prepare = Callable[[Any], tuple[Any, Sequence[Issue]]]


class ReadRecords(Protocol):
    """Reads a feed as records, streamed. Raises `SourceError` unless the end is proven."""

    def __call__(self, file: BoundedFile, source: SourceSettings, /, *, name: str) -> Iterator[Record]: ...


class RecordFormat:
    """A format that ``read`` reads as records."""

    def __init__(self, read: ReadRecords, account: AccountSettings, *, current_year: int) -> None:
        self._read, self._account, self._year = read, account, current_year

    def blocks(self, file: BoundedFile, name: str) -> Iterator[Block]:
        """Cut the feed; see `okasie_tasks.ports.Source`."""
        records = self._read(file, self._account.source, name=name)
        if self._account.source.type != "xlsx":
            return cut_records(records)
        # The first row shows the columns, by which every row is mapped.
        first = next(records, None)
        if first is None:
            return iter(())
        columns = [column for column in first.value if column != ERRORS]
        self._mapping(columns).check_columns(name)
        return cut_records(chain((first,), records), head=msgspec.msgpack.encode(columns))

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        columns = msgspec.msgpack.decode(block.head, type=list[str]) if block.head else None
        mapping = self._mapping(columns, only)
        prepare = partial(_without_errors, mapping) if columns else None
        return decode_records(block, mapping, known, prepare=prepare)

    def _mapping(self, columns: list[str] | None, only: Collection[str] | None = None) -> RowMapping:
        return RowMapping(self._account, columns=columns, current_year=self._year, only=only)


class _Packed(msgspec.Struct, array_like=True):
    """A `Record` whose value is not decoded yet."""

    where: str
    value: msgspec.Raw
    error: str = ""


_RECORDS: Final = msgspec.msgpack.Decoder(list[_Packed])


def cut_records(records: Iterable[Record], *, head: bytes = b"") -> Iterator[Block]:
    """Pack records into blocks. A value that cannot be packed becomes a record with an error."""
    first, size, packed = 0, 0, list[bytes]()
    for record in records:
        data = _encode(record)
        packed.append(data)
        size += len(data)
        if len(packed) >= BLOCK_ROWS or size >= BLOCK_BYTES:
            yield _block(first, packed, head)
            first, size, packed = first + len(packed), 0, []
    if packed:
        yield _block(first, packed, head)


def decode_records(
    block: Block, mapping: RowMapping, known: RowCache | None, *, prepare: Prepare | None = None
) -> Iterator[SourceRow]:
    """Yield the rows of a block of records; see `okasie_tasks.ports.Source`.

    ``prepare``: makes of a record's value what ``mapping`` reads, with what it leaves out.
    """
    known = known or RowCache()
    known.under(mapping.version)
    records = _RECORDS.decode(block.data)
    for number, record in enumerate(records, start=block.first + 1):
        if record.error:
            # Records that cannot be read have no content to tell them apart by.
            raw = raw_fingerprint(f"{record.where} {record.error}".encode())
            yield unread_row(number, record.where, "unreadable", record.error, raw=raw)
            continue
        raw = raw_fingerprint(record.value)
        if known.take(raw, number):
            continue
        value = msgspec.msgpack.decode(record.value, ext_hook=_unpacked)
        value, warnings = prepare(value) if prepare else (value, [])
        read = partial(map_value, mapping, value, number, record.where, raw=raw, warnings=warnings)
        content = known.contents.get(raw)
        if content is None or (reference := _reference_of(mapping, value)) is None:
            yield read()
        else:
            yield SourceRow(number, reference, None, where=record.where, raw=raw, content=content, read=read)


def map_value(
    mapping: RowMapping, value: Any, number: int, where: str, *, raw: bytes, warnings: Sequence[Issue] = ()
) -> SourceRow:
    """Map and validate one value; a `Listing` is valid already. ``raw``: its fingerprint."""
    if isinstance(value, Listing):
        return SourceRow(number, value.external_reference, value, where=where, raw=raw)
    if not isinstance(value, dict):
        return unread_row(number, where, "not_an_object", f"expected an object, got {type(value).__name__}", raw=raw)
    row = mapping.row(value, number, where)
    return msgspec.structs.replace(row, raw=raw, warnings=(*row.warnings, *warnings))


def _without_errors(mapping: RowMapping, value: dict[str, Any]) -> tuple[dict[str, Any], list[Issue]]:
    """Return the row of a sheet, and its cells that are read but hold an error: they are empty."""
    errors = value.pop(ERRORS, None) or {}
    read = [place for column, place in errors.items() if column in mapping.needed or column in BY_INPUT_NAME]
    return value, [Issue("row", "cell_error", f"cell {place}, taken as empty") for place in read]


def unread_row(number: int, where: str, code: str, reason: str, *, raw: bytes) -> SourceRow:
    """Return a row whose record could not be read. ``raw``: its fingerprint."""
    return SourceRow(number, None, None, issues=(Issue("row", code, reason),), where=where, raw=raw)


def _reference_of(mapping: RowMapping, value: Any) -> str | None:
    return value.external_reference if isinstance(value, Listing) else mapping.reference.read(value)


# -- packing -------------------------------------------------------------------------------------------------------


def _block(first: int, packed: list[bytes], head: bytes) -> Block:
    # An array of msgpack: its marker, its length, its elements.
    data = b"\xdd" + len(packed).to_bytes(4, "big") + b"".join(packed)
    return Block(first, len(packed), 0, data, head)


def _encode(record: Record) -> bytes:
    try:
        return msgspec.msgpack.encode(Record(record.where, _pack(record.value), record.error))
    except (ValueError, TypeError, RecursionError) as error:
        return msgspec.msgpack.encode(Record(record.where, None, f"cannot be read: {error}"[:300]))


def _pack(value: Any) -> Any:
    """Return a value in types that msgpack has: any other value as an extension type, or as text."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int and -_BIG < value < _BIG:
        return value
    if isinstance(value, dict):
        return {key: inner if type(inner) in _PLAIN else _pack(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [inner if type(inner) in _PLAIN else _pack(inner) for inner in value]
    if isinstance(value, int):
        value = Decimal(value)
    for code, (known, to_text, _) in enumerate(_TYPES):
        if isinstance(value, known):
            return msgspec.msgpack.Ext(code, to_text(value).encode())
    return bytes(value) if isinstance(value, bytearray | memoryview) else str(value)


def _unpacked(code: int, data: memoryview) -> Any:
    return _TYPES[code][2](bytes(data).decode())
