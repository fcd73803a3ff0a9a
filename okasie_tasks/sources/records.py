"""The formats whose records are read one by one, and how a record becomes a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from okasie_tasks.core.listing import Issue
from okasie_tasks.ports import Record, SourceRow
from okasie_tasks.sources.json_reader import read_json
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.sheet_reader import ERRORS, read_sheet
from okasie_tasks.sources.xml_reader import read_xml

Read = Callable[..., Iterator[Record]]
READERS: Final[Mapping[str, Read]] = {"json": read_json, "xml": read_xml, "xlsx": read_sheet}
"""Type -> its reader: of a file and the source's settings, with the feed's ``name`` for messages."""


def map_records(
    records: Iterator[Record], mapping_of: Callable[[Sequence[str] | None], RowMapping], *, columns: bool
) -> Iterator[SourceRow]:
    """Yield the row of each record. ``columns``: the first record names the columns of all, as of a sheet."""
    mapping: RowMapping | None = None
    for number, record in enumerate(records, start=1):
        if mapping is None:
            mapping = mapping_of([key for key in record.value or () if key != ERRORS] if columns else None)
        yield row_of(record, mapping, number)


def row_of(record: Record, mapping: RowMapping, number: int) -> SourceRow:
    """Map one record."""
    if record.error:
        issue = Issue("row", "not_an_object", record.error)
        return SourceRow(row=number, reference=None, listing=None, issues=(issue,), where=record.where)
    value: dict[str, Any] = record.value
    row = mapping.row(value, number, record.where)
    if errors := value.get(ERRORS):
        row = msgspec.structs.replace(row, warning="; ".join(filter(None, (row.warning, *errors))))
    return row
