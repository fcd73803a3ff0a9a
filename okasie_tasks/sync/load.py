"""Decodes the blocks of the source, and writes their rows into the partitions of the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from okasie_tasks.core.catalog import Titled, titled
from okasie_tasks.core.fingerprint import Encoded, encoded_form, filled_fields, listing_dealer_fingerprint
from okasie_tasks.core.ledger_entry import ABSENT, LOOK_AGAIN, Entry, Flag, is_as_read
from okasie_tasks.core.listing import Listing
from okasie_tasks.core.records import (
    Local,
    LocalBatch,
    Outgoing,
    encoded,
    hash8,
    partition_of_hash,
    same_row,
)
from okasie_tasks.core.rekeyed import traits_of
from okasie_tasks.core.row_cache import RowCache, Same
from okasie_tasks.core.unreadable import MOST_NAMED, UnreadableRow
from okasie_tasks.ports import Block, Source, SourceRow
from okasie_tasks.store.blocks import BODIES
from okasie_tasks.store.parts import Done, Records
from okasie_tasks.sync import unreadable_rows
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.fetch import BATCH_ROWS
from okasie_tasks.sync.reading import first_block, lost_block

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

_FIRSTS: Final = "firsts"
"""A collection of the run: the index of the first row of each block."""


class BlockResult(msgspec.Struct):
    """The result of one decoded block. ``first``: index of its first row."""

    first: int = 0
    rows: int = 0
    nameless: int = 0
    skipped: int = 0
    blank: int = 0
    unreadable: list[UnreadableRow] = []
    """The first of the ``nameless`` rows."""
    open_end: str = ""
    """Where the source ends without a line end."""

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


def load_block(ctx: AccountContext, part: Part, run: Run, *, partitions: int) -> BlockResult | Done:
    """Decode one block of the source, and sort its rows into the partitions. One that no longer counts is left out."""
    block = ctx.runs.blocks.get(part.run, part.number)
    if block is None:
        now = ctx.runs.get(part.run)
        if now is not None and now.open and part.number >= first_block(now):
            raise lost_block()
        return BlockResult()
    sorter = _Sorter(ctx, part, run, partitions)
    result = _decode(ctx.source(), block, sorter)
    return Done(result, sorter.records())


def keep_firsts(ctx: AccountContext, run: Run, blocks: Sequence[BlockResult]) -> None:
    """Store the index of the first row of each block, for `firsts_of`."""
    ctx.runs.data.put(run.id, _FIRSTS, 0, [block.first for block in blocks])


def firsts_of(ctx: AccountContext, run: str) -> list[int]:
    """Return the index of the first row of each block of the source."""
    return ctx.runs.data.fetch_one(run, _FIRSTS, 0, list[int]) or [0]


def _decode(source: Source, block: Block, sorter: _Sorter) -> BlockResult:
    result, rows = BlockResult(first=block.first), source.decode(block, known=sorter.known)
    while chunk := list(islice(rows, BATCH_ROWS)):
        sorter.add(result.add(chunk))
    result.rows += sorter.add_taken()
    return result


class _Marks:
    """Which rows must be read although they are known."""

    def __init__(self, ctx: AccountContext, run: str) -> None:
        self._ctx, self._run = ctx, run
        self._any_with_values = ctx.runs.data.has(run, "with_values")

    def trusted(self, same: Same, noted_by: int) -> Same:
        """Return the rows whose entries were not written since, and which are not compared by value."""
        keys = list(same.values())
        changed = self._ctx.ledger.known.written_since(noted_by, keys) | self.with_values(keys)
        return {raw: key for raw, key in same.items() if key not in changed}

    def with_values(self, keys: list[bytes]) -> set[bytes]:
        """Return the keys whose marketplace rows were written with values. They are compared and reported by value."""
        if not self._any_with_values or not keys:
            return set()
        marked = self._ctx.runs.data.marked(self._run, "with_values", keys)
        return {key for key, is_marked in zip(keys, marked, strict=True) if is_marked}


class _Sorter:
    """Sorts the rows of one block of the source into the partitions."""

    def __init__(self, ctx: AccountContext, part: Part, run: Run, partitions: int) -> None:
        self._ctx, self._part, self._partitions = ctx, part, partitions
        self._number = part.number - first_block(run)
        self._marks = _Marks(ctx, part.run)
        self._same: dict[int, list[bytes]] = defaultdict(list)
        self._rows: dict[int, list[Local]] = defaultdict(list)
        self._titles: dict[int, dict[str, Titled]] = defaultdict(dict)
        self._bodies: list[Outgoing] | None = None if run.plan_only else []
        self._dealers: dict[bytes, str] | None = None if run.plan_only else {}
        self._all_titles = not run.plan_only and not ctx.ledger.catalog.is_whole
        """The ledger is older than the catalogue: every row is decoded once, and not only new and changed ones."""
        kept = b"" if self._all_titles else ctx.ledger.known.block(self._number)
        # Not a method of this object: a cycle would keep the block in memory until the collector finds it.
        self.known = RowCache(kept, number=run.fact("number"), trust=self._marks.trusted)

    def add(self, chunk: list[SourceRow]) -> None:
        """Sort rows, all of which have a reference."""
        references = [row.reference or "" for row in chunk]
        keys = [hash8(reference) for reference in references]
        with_values = self._marks.with_values(keys)
        for row, key, packed in zip(chunk, keys, self._ctx.ledger.packed(references, keys), strict=True):
            partition, whole = partition_of_hash(key, self._partitions), key in with_values
            if row.read is not None and not whole and is_as_read(packed, row.content):
                self._add_same(row, partition, key)
                continue
            self._add_read(row if row.read is None else row.read(), partition, key, packed, whole=whole)

    def add_taken(self) -> int:
        """Sort the rows that were taken without being parsed; returns their number."""
        for key, number in self.known.taken:
            self._same[partition_of_hash(key, self._partitions)].append(same_row(key, number))
        return len(self.known.taken)

    def _add_same(self, row: SourceRow, partition: int, key: bytes) -> None:
        if row.raw:
            self.known.note_same(row.raw, key)
        self._same[partition].append(same_row(key, row.row))

    def _add_read(self, row: SourceRow, partition: int, key: bytes, packed: bytes, *, whole: bool) -> None:
        form = None if row.listing is None else encoded_form(row.listing)
        base = None if packed == ABSENT else Entry.unpack(packed)
        record = local_record(row, form, base, whole=whole)
        if row.listing is not None and (record is not None or self._all_titles):
            self._note(row.listing, partition)
        elif title := row.values.get("title"):  # an invalid row: people look for it by its name
            self._titles[partition][row.reference or ""] = titled(str(title), str(row.values.get("vin") or ""))
        if record is None:
            self._add_same(row, partition, key)
            return
        self._rows[partition].append(record)
        if row.listing is None or form is None:
            return
        if row.raw:
            self.known.note(row.raw, record.content)
        if self._bodies is not None and (base is None or base.row != record.content):
            self._bodies.append(encoded(row.listing, form, record))

    def _note(self, listing: Listing, partition: int) -> None:
        """Note the title for the catalogue, and the code of the dealer."""
        self._titles[partition][listing.external_reference] = titled(listing.title, listing.vin)
        if self._dealers is not None:
            name = listing.dealer_profile_id or listing.dealer_location_code
            self._dealers[listing_dealer_fingerprint(listing)] = name or ""

    def records(self) -> Records:
        """Return what the run keeps of the rows, and store the row cache."""
        batches: dict[str, object] = {
            f"local:{partition}": LocalBatch(
                b"".join(self._same[partition]), self._rows[partition], dict(self._titles[partition])
            )
            for partition in self._same.keys() | self._rows.keys()
        }
        if bodies := self._ctx.runs.blocks.packed_bodies(self._number, self._bodies or []):
            batches[BODIES] = bodies
        self._ctx.ledger.catalog.note_dealers(self._dealers or {})
        if (packed := self.known.pack()) is not None:
            self._ctx.ledger.known.keep_block(self._number, packed)
        return Records(self._part.number, batches)


def local_record(row: SourceRow, form: Encoded | None, base: Entry | None, *, whole: bool = False) -> Local | None:
    """Return the record of one source row; None when it equals its ledger entry, unless ``whole``.

    ``form``: of its listing, if it has one. `is_as_read` is the fast version of this comparison.
    """
    reference = row.reference or ""
    if row.listing is None or form is None:
        return Local(reference=reference, row=row.row, issues=row.issues, where=row.where)
    content = form.content
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
        rendering=form.rendering,
        dealer=listing_dealer_fingerprint(row.listing),
        filled=filled_fields(row.listing),
        images=len(row.listing.images),
        status=row.listing.status,
        version=row.version,
        values=form.compared if whole else None,
        where=row.where,
        traits=traits_of(form.values) if base is None else None,
        warnings=tuple(map(str, row.warnings)),
        price=row.listing.price,
    )
