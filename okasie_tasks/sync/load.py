"""Reads the source, slice by slice, and writes its rows into the partitions of the run."""

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
from okasie_tasks.core.rekeyed import traits_of
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.core.unreadable import MOST_NAMED, UnreadableRow
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import CachingSource, Source, SourceRow
from okasie_tasks.sync import settling, unreadable_rows
from okasie_tasks.sync.context import LOAD_ROWS, AccountContext, Part
from okasie_tasks.sync.fetch import BATCH_ROWS

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run


class SliceResult(msgspec.Struct):
    """The result of one part of the load."""

    rows: int = 0
    ended: bool = False
    """Whether the source ended within the slice."""
    version: str = ""
    nameless: int = 0
    skipped: int = 0
    blank: int = 0
    unreadable: list[UnreadableRow] = []
    """The first of the ``nameless`` rows."""
    open_end: str = ""
    """Where the source ends without a line end."""
    changed: bool = False
    """The source changed during the read, so nothing of it counts."""
    unsettled: bool = False
    """The source was being written, for longer than a run waits."""

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that Flower shows."""
        return {"rows": self.rows, "nameless": self.nameless, "skipped": self.skipped}

    def add(self, chunk: list[SourceRow]) -> list[SourceRow]:
        """Count rows; return those that have a reference."""
        self.rows += len(chunk)
        self.open_end = chunk[-1].where if chunk[-1].unterminated else ""
        nameless = [row for row in chunk if row.reference is None]
        self.nameless += len(nameless)
        self.unreadable += map(unreadable_rows.record_of, nameless[: MOST_NAMED - len(self.unreadable)])
        self.skipped += sum(row.left_out == "skipped" for row in chunk)
        self.blank += sum(row.left_out == "blank" for row in chunk)
        return [row for row in chunk if row.reference]


def load_slice(ctx: AccountContext, part: Part, run: Run, *, partitions: int) -> SliceResult:
    """Read one slice of the source into the partitions. Raises `SourceUnsettled` while the source is being written."""
    source = ctx.source()
    number = part.number - first_part(run)
    version = source.version()
    if not source.sliceable and number:
        return SliceResult(ended=True)  # the first part reads it all
    settled = settling.is_settled(ctx, run, "load", source, version)
    sorter = _Sorter(ctx, part, number, partitions, version if source.sliceable else None)
    try:
        result = _read(source, number, sorter)
    except SourceError:
        if source.version() == version:
            raise
    if source.version() != version:
        return SliceResult(changed=True)
    sorter.write()
    ctx.ledger.keep_row_offsets(version, sorter.known.passed)
    result.version, result.unsettled = version, not settled
    return result


def first_part(run: Run) -> int:
    """Return the first part of the load that counts: the source is read again when it changed during a read."""
    return run.fact("load_first")


def _read(source: Source, number: int, sorter: _Sorter) -> SliceResult:
    result = SliceResult()
    start = number * LOAD_ROWS
    # One row more than the slice shows whether it is the last one, without another part.
    stop = start + LOAD_ROWS + 1 if source.sliceable else None
    if isinstance(source, CachingSource):
        stream = source.rows(start, stop, known=sorter.known)
    else:
        stream = source.rows(start, stop)
    stream = iter(stream)
    own = islice(stream, LOAD_ROWS) if source.sliceable else stream
    while chunk := list(islice(own, BATCH_ROWS)):
        sorter.add(result.add(chunk))
    result.ended = result.rows < LOAD_ROWS or next(stream, None) is None
    return result


class _Sorter:
    """Sorts the rows of one slice of the source into the partitions.

    ``number``: of the slice; ``version``: of a source whose row offsets are stored.
    """

    def __init__(self, ctx: AccountContext, part: Part, number: int, partitions: int, version: str | None) -> None:
        self._ctx, self._part, self._number, self._partitions = ctx, part, number, partitions
        self._any_with_values = ctx.runs.data.has(part.run, "with_values")
        self._same: dict[int, list[bytes]] = defaultdict(list)
        self._rows: dict[int, list[Local]] = defaultdict(list)
        begin = None if version is None else ctx.ledger.row_offset(version, number * LOAD_ROWS)
        self.known = RowCache(ctx.ledger.known_rows(number), begin)

    def add(self, chunk: list[SourceRow]) -> None:
        """Sort rows, all of which have a reference."""
        references = [row.reference or "" for row in chunk]
        keys = [hash8(reference) for reference in references]
        with_values = self._marked_with_values(keys)
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
        if values and base is None:
            record = msgspec.structs.replace(record, traits=traits_of(values))
        if whole and values:
            record = msgspec.structs.replace(record, values=encode_compared(values))
        self._rows[partition].append(record)

    def _marked_with_values(self, keys: list[bytes]) -> set[bytes]:
        """Return the keys whose marketplace rows were written with values. They are compared and reported by value."""
        if not self._any_with_values:
            return set()
        marked = self._ctx.runs.data.marked(self._part.run, "with_values", keys)
        return {key for key, is_marked in zip(keys, marked, strict=True) if is_marked}

    def write(self) -> None:
        """Write the rows into the run, all together, and store the row cache."""
        batches: dict[str, object] = {
            f"local:{partition}": LocalBatch(b"".join(self._same[partition]), self._rows[partition])
            for partition in self._same.keys() | self._rows.keys()
        }
        self._ctx.runs.data.put_sorted(self._part.run, self._part.number, batches)
        if (packed := self.known.pack()) is not None:
            self._ctx.ledger.keep_rows(self._number, packed)


def local_record(
    row: SourceRow, base: Entry | None, *, whole: bool = False, content: bytes = b"", values: Compared = ()
) -> Local | None:
    """Return the record of one source row; None when it equals its ledger entry, unless ``whole``.

    ``content``, ``values``: its fingerprint and compared form, if they exist already. `is_as_read` is the fast version
    of this comparison.
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
        warnings=tuple(map(str, row.warnings)),
        price=row.listing.price,
    )
