"""Gather: both sides write small records into the partitions of the run.

What equals the ledger's picture is written as the hash of its reference only; values travel only for rows whose
rendering the ledger does not know.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

import msgspec

from okasie_tasks.core.entry import ABSENT, LOOK_AGAIN, Entry, Flag, is_as_read, is_as_rendered, standing
from okasie_tasks.core.fingerprint import (
    Compared,
    compared,
    compared_fingerprint,
    content_fingerprint,
    dealer_fingerprint,
    encode_compared,
    filled_fields,
    listing_dealer_fingerprint,
)
from okasie_tasks.core.listing import RemoteListing
from okasie_tasks.core.records import (
    Local,
    LocalBatch,
    Remote,
    RemoteBatch,
    hash8,
    partition_of_hash,
    partitions_for,
    same_row,
    split_hashes,
)
from okasie_tasks.core.rows import KnownRows, Place
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Page, RemembersRows, SourceRow
from okasie_tasks.sync.tools import LOAD_ROWS, Part, Tools

_BATCH = 1_000
"""Rows per question to the ledger."""
_UNKNOWN_SIZE_PARTITIONS = 16

_IDS_PER_PASS = 200_000
"""Ids of rows that are held in memory at once when a walk is proved."""


# -- the marketplace's side ----------------------------------------------------------------------------------------


def updated_since(cursor: str, overlap_seconds: float) -> datetime:
    """Where an incremental read begins: the cursor minus the overlap (the filter's sharpness is not documented)."""
    return datetime.fromisoformat(cursor).astimezone(UTC) - timedelta(seconds=overlap_seconds)


def next_cursor(page: Page) -> str:
    """The marketplace's own time at the first page of the walk, else the greatest ``updatedAt`` read; "" if neither."""
    moment = page.server_time or max((row.updated_at for row in page.rows if row.updated_at), default=None)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else ""


def write_page(
    tools: Tools, run: str, page: Page, *, place: int, partitions: int, provider: str
) -> dict[str, int | dict[str, int]]:
    """Put a page's rows into the partitions; returns counts for the walk's proof.

    ``place``: the number of this read among all of the walk; a later one counts where two tell of the same listing.
    ``provider``: that of our own rows, once it is known: rows of another one are not ours, even under a reference of
    ours; only where the ledger owns the listing they stay, since nobody promised that the name never changes.
    """
    named = [row for row in page.rows if row.reference]
    references = [row.reference or "" for row in named]
    keys = [hash8(reference) for reference in references]
    same: dict[int, list[bytes]] = defaultdict(list)
    batches: dict[int, RemoteBatch] = defaultdict(RemoteBatch)
    formed: list[bytes] = []
    providers: Counter[str] = Counter()
    rows = active = 0
    for row, key, packed in zip(named, keys, tools.ledger.packed(references, keys), strict=True):
        owned = standing(packed).owned
        if not owned and provider and row.provider and row.provider != provider:
            continue
        rows += 1
        active += row.status == "active"
        if owned and row.provider:
            providers[row.provider] += 1
        partition = partition_of_hash(key, partitions)
        rendering = compared_fingerprint(row.compared)
        if is_as_rendered(packed, rendering, row.status or "", _dealers(row)):
            same[partition].append(key)
            continue
        record = remote_record(row, None if packed == ABSENT else Entry.unpack(packed), provider)
        assert record is not None  # noqa: S101 - the quick question has the same answer
        batches[partition].rows.append(record)
        if record.form is not None:
            formed.append(key)
    for partition, found in same.items():
        batches[partition].same = b"".join(found)
    places: dict[str, object] = {f"remote:{partition}": batch for partition, batch in batches.items()}
    if formed:
        # Before the rows: whoever meets them must find their values wanted.
        tools.runs.data.mark(run, "formed", formed)
    tools.runs.data.put_sorted(run, place, places | {"ids": b"".join(hash8(row.id) for row in page.rows)})
    return {
        "rows": len(page.rows),
        "nameless": len(page.rows) - rows + page.unreadable,
        "unreadable": page.unreadable,
        "nameless_active": sum(row.status == "active" for row in page.rows) - active,
        "total": page.total_items,
        "providers": dict(providers),
    }


def distinct_rows(pages: Callable[[], Iterable[bytes]], *, rows: int) -> int:
    """How many different listings the pages of a walk showed: the same one may stand on two when stock moves.

    ``pages`` gives the ids of each page, 8 bytes each, as often as it is asked; ``rows`` is about how many there are.
    """
    passes = max(1, -(-rows // _IDS_PER_PASS))
    found = 0
    for turn in range(passes):
        found += len({key for page in pages() for key in split_hashes(page) if key[0] % passes == turn})
    return found


def _dealers(row: RemoteListing) -> tuple[bytes, bytes]:
    """The row's dealer in both of the forms in which ours may be told; empty where it is not told."""
    return (
        dealer_fingerprint("profile", row.dealer_profile_id) if row.dealer_profile_id else b"",
        dealer_fingerprint("code", row.dealer_location_code) if row.dealer_location_code else b"",
    )


def remote_record(row: RemoteListing, base: Entry | None, provider: str = "") -> Remote | None:
    """The record of one marketplace row; None when it equals the ledger's picture (`core.entry.is_as_rendered`)."""
    rendering = compared_fingerprint(row.compared)
    status = row.status or ""
    profile, code = _dealers(row)
    known = base is not None and base.rendering == rendering
    if (
        known
        and base is not None
        and base.status == status
        and base.dealer in (profile, code)
        and not base.flags & LOOK_AGAIN
    ):
        return None
    return Remote(
        id=row.id,
        reference=row.reference or "",
        status=status,
        changed_at=int(row.updated_at.timestamp()) if row.updated_at else 0,
        rendering=rendering,
        dealer_profile=profile,
        dealer_code=code,
        images=row.image_count,
        form=None if known else encode_compared(row.compared),
        provider=(row.provider or "") if base is None or row.provider != provider else "",
    )


def partitions_of(page: Page, *, full: bool, rows_before: int) -> int:
    """How many partitions this run is cut into, from what is known at its first page."""
    known = max(rows_before, page.total_items if full else 0)
    return max(partitions_for(known), 1 if rows_before else _UNKNOWN_SIZE_PARTITIONS)


# -- the local side ------------------------------------------------------------------------------------------------


def load_slice(tools: Tools, part: Part, *, partitions: int) -> dict[str, int | str | list[str]]:
    """Read one slice of the source into the partitions; the result tells whether the source ended within it."""
    source = tools.source()
    start = part.number * LOAD_ROWS
    rows = 0
    nameless: list[str] = []
    open_end = ""
    version = source.version()
    if not source.sliceable and part.number:
        return {"rows": 0, "ended": 1, "version": "", "nameless": 0, "where": []}  # the first part reads it all
    # One row more than the slice tells whether it is the last: else a part would be needed to find nothing.
    stop = start + LOAD_ROWS + 1 if source.sliceable else None
    sorter = _Sorter(tools, part, partitions, tools.ledger.place(version, start) if source.sliceable else None)
    if isinstance(source, RemembersRows):
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
    tools.ledger.keep_places(version, sorter.known.passed)
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

    def __init__(self, tools: Tools, part: Part, partitions: int, begin: Place | None) -> None:
        self._tools, self._part, self._partitions = tools, part, partitions
        self._formed = tools.runs.data.has(part.run, "formed")
        self._same: dict[int, list[bytes]] = defaultdict(list)
        self._rows: dict[int, list[Local]] = defaultdict(list)
        self.known = KnownRows(tools.ledger.known_rows(part.number), begin)

    def add(self, chunk: list[SourceRow]) -> None:
        """Rows that have a reference."""
        references = [row.reference or "" for row in chunk]
        keys = [hash8(reference) for reference in references]
        formed = self._found_formed(keys)
        for row, key, packed in zip(chunk, keys, self._tools.ledger.packed(references, keys), strict=True):
            partition, whole = partition_of_hash(key, self._partitions), key in formed
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
        self._rows[partition].append(record if form is None else msgspec.structs.replace(record, form=form))

    def _found_formed(self, keys: list[bytes]) -> set[bytes]:
        """Which of these the marketplace's side has written with values: they are compared, or told, by value."""
        if not self._formed:
            return set()
        found = self._tools.runs.data.marked(self._part.run, "formed", keys)
        return {key for key, member in zip(keys, found, strict=True) if member}

    def write(self) -> None:
        """Into the run, all at once; and what was learned of the rows."""
        batches: dict[str, object] = {
            f"local:{partition}": LocalBatch(b"".join(self._same[partition]), self._rows[partition])
            for partition in self._same.keys() | self._rows.keys()
        }
        self._tools.runs.data.put_sorted(self._part.run, self._part.number, batches)
        if (packed := self.known.pack()) is not None:
            self._tools.ledger.keep_rows(self._part.number, packed)


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
