"""Reads the source: its rows go into the partitions of the run, slice by slice."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from okasie_tasks.core.fingerprint import (
    Compared,
    compared,
    compared_fingerprint,
    content_fingerprint,
    encode_compared,
    filled_fields,
    listing_dealer_fingerprint,
)
from okasie_tasks.core.ledger_entry import ABSENT, LOOK_AGAIN, Entry, Flag, is_as_read
from okasie_tasks.core.records import (
    Local,
    LocalBatch,
    hash8,
    partition_of_hash,
    same_row,
)
from okasie_tasks.core.row_cache import RowCache, RowOffset
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import CachingSource, SourceRow
from okasie_tasks.sync.context import LOAD_ROWS, AccountContext, Part

if TYPE_CHECKING:
    pass
from okasie_tasks.sync.fetch import _BATCH

# -- the local side ------------------------------------------------------------------------------------------------


def load_slice(ctx: AccountContext, part: Part, *, partitions: int) -> dict[str, int | str | list[str]]:
    """Read one slice of the source into the partitions; the result tells whether the source ended within it."""
    source = ctx.source()
    start = part.number * LOAD_ROWS
    rows = 0
    nameless: list[str] = []
    open_end = ""
    version = source.version()
    if not source.sliceable and part.number:
        return {"rows": 0, "ended": 1, "version": "", "nameless": 0, "where": []}  # the first part reads it all
    # One row more than the slice tells whether it is the last: else a part would be needed to find nothing.
    stop = start + LOAD_ROWS + 1 if source.sliceable else None
    sorter = _Sorter(ctx, part, partitions, ctx.ledger.row_offset(version, start) if source.sliceable else None)
    if isinstance(source, CachingSource):
        stream = source.rows(start, stop, known=sorter.known)
    else:
        stream = source.rows(start, stop)
    stream = iter(stream)
    own = islice(stream, LOAD_ROWS) if source.sliceable else stream
    while chunk := list(islice(own, _BATCH)):
        rows += len(chunk)
        open_end = chunk[-1].where if chunk[-1].unterminated else ""
        nameless += [row.where for row in chunk if row.reference is None]
        sorter.add([row for row in chunk if row.reference is not None])
    ended = rows < LOAD_ROWS or next(stream, None) is None
    if source.version() != version:
        raise SourceError("the source changed while it was being read; the next run reads it anew", code="changed")
    sorter.write()
    ctx.ledger.keep_row_offsets(version, sorter.known.passed)
    return {
        "rows": rows,
        "ended": int(ended),
        "version": version,
        "nameless": len(nameless),
        "where": nameless[:20],
        "open_end": open_end,
    }


class _Sorter:
    """Sorts the rows of one slice of the source into the partitions."""

    def __init__(self, ctx: AccountContext, part: Part, partitions: int, begin: RowOffset | None) -> None:
        self._ctx, self._part, self._partitions = ctx, part, partitions
        self._any_with_values = ctx.runs.data.has(part.run, "with_values")
        self._same: dict[int, list[bytes]] = defaultdict(list)
        self._rows: dict[int, list[Local]] = defaultdict(list)
        self.known = RowCache(ctx.ledger.known_rows(part.number), begin)

    def add(self, chunk: list[SourceRow]) -> None:
        """Rows that have a reference."""
        references = [row.reference or "" for row in chunk]
        keys = [hash8(reference) for reference in references]
        with_values = self._found_with_values(keys)
        for row, key, packed in zip(chunk, keys, self._ctx.ledger.packed(references, keys), strict=True):
            partition, whole = partition_of_hash(key, self._partitions), key in with_values
            if row.read is not None and not whole and is_as_read(packed, row.content):
                self.known.note(row.raw, row.content)
                self._same[partition].append(same_row(key, row.row))
                continue
            self._add_read(row if row.read is None else row.read(), partition, key, packed, whole=whole)

    def _add_read(self, row: SourceRow, partition: int, key: bytes, packed: bytes, *, whole: bool) -> None:
        values = compared(row.listing) if row.listing is not None else ()
        content = content_fingerprint(row.listing, values) if row.listing is not None else b""
        if row.raw and content:
            self.known.note(row.raw, content)
        base = None if packed == ABSENT else Entry.unpack(packed)
        record = local_record(row, base, whole=whole, content=content, values=values)
        if record is None:
            self._same[partition].append(same_row(key, row.row))
            return
        form = encode_compared(values) if whole and values else None
        self._rows[partition].append(record if form is None else msgspec.structs.replace(record, values=form))

    def _found_with_values(self, keys: list[bytes]) -> set[bytes]:
        """Which of these the marketplace's side has written with values: they are compared, or told, by value."""
        if not self._any_with_values:
            return set()
        found = self._ctx.runs.data.marked(self._part.run, "with_values", keys)
        return {key for key, member in zip(keys, found, strict=True) if member}

    def write(self) -> None:
        """Into the run, all at once; and what was learned of the rows."""
        batches: dict[str, object] = {
            f"local:{partition}": LocalBatch(b"".join(self._same[partition]), self._rows[partition])
            for partition in self._same.keys() | self._rows.keys()
        }
        self._ctx.runs.data.put_sorted(self._part.run, self._part.number, batches)
        if (packed := self.known.pack()) is not None:
            self._ctx.ledger.keep_rows(self._part.number, packed)


def local_record(
    row: SourceRow, base: Entry | None, *, whole: bool = False, content: bytes = b"", values: Compared = ()
) -> Local | None:
    """The record of one source row; None when it equals what the ledger holds of the source, unless ``whole``.

    ``content``, ``values``: its fingerprint and compared form, where they were made already. Quick twin: `is_as_read`.
    """
    reference = row.reference or ""
    if row.listing is None:
        return Local(reference=reference, row=row.row, issues=row.issues, where=row.where)
    content = content or content_fingerprint(row.listing)
    if (
        base is not None
        and not whole
        and base.row == content
        and base.flags & Flag.IN_SOURCE
        and not base.flags & LOOK_AGAIN
        and base.missed == 0
        and base.live
    ):
        return None
    return Local(
        reference=reference,
        row=row.row,
        content=content,
        rendering=compared_fingerprint(values or compared(row.listing)),
        dealer=listing_dealer_fingerprint(row.listing),
        filled=filled_fields(row.listing),
        images=len(row.listing.images),
        status=row.listing.status,
        version=row.version,
        where=row.where,
    )
