"""The formats of feeds that are files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, Protocol

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.csv_format import CsvFormat
from okasie_tasks.sources.json_reader import read_json
from okasie_tasks.sources.jsonl import JsonLinesFormat
from okasie_tasks.sources.records import ReadRecords, RecordFormat
from okasie_tasks.sources.sheet_reader import read_sheet
from okasie_tasks.sources.xml_reader import read_xml

READERS: Final[dict[str, ReadRecords]] = {"json": read_json, "xml": read_xml, "xlsx": read_sheet}
"""By type: what reads the formats that are read record by record."""


class Format(Protocol):
    """How a feed is cut into blocks, and how a block is decoded; see `okasie_tasks.ports.Source`."""

    def blocks(self, file: BoundedFile, name: str) -> Iterator[Block]:
        """Cut the feed. ``name``: the feed in messages."""
        ...

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]: ...


def format_of(account: AccountSettings, *, current_year: int, bounds: Bounds) -> Format:
    """Return the format of the account's feed, by the configured type."""
    kind = account.source.type
    if kind == "csv":
        return CsvFormat(account, current_year=current_year, bounds=bounds)
    if kind == "jsonl":
        return JsonLinesFormat(account, current_year=current_year)
    return RecordFormat(READERS[kind], account, current_year=current_year)
