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

from okasie_tasks.core.entry import Entry, Flag
from okasie_tasks.core.fingerprint import (
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
    partition_of,
    partitions_for,
    same_row,
    split_hashes,
)
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Page, SourceRow
from okasie_tasks.sync.tools import LOAD_ROWS, Part, Tools

_BATCH = 1_000
"""Rows per question to the ledger."""
_UNKNOWN_SIZE_PARTITIONS = 16

_IDS_PER_PASS = 200_000
"""Ids of rows that are held in memory at once when a walk is proved."""

_LOOK_AGAIN = Flag.ECHO_DUE | Flag.PARKED | Flag.DISPUTED | Flag.RESENT | Flag.IMAGES | Flag.REVIVED


# -- the marketplace's side ----------------------------------------------------------------------------------------


def updated_since(cursor: str, overlap_seconds: float) -> datetime:
    """Where an incremental read begins: the cursor minus the overlap (the filter's sharpness is not documented)."""
    return datetime.fromisoformat(cursor).astimezone(UTC) - timedelta(seconds=overlap_seconds)


def next_cursor(page: Page) -> str:
    """The marketplace's own time at the first page of the walk, else the greatest ``updatedAt`` read; "" if neither."""
    times = [row.updated_at for row in page.rows if row.updated_at]
    moment = page.server_time or max(times, default=None)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else ""


def write_page(
    tools: Tools, run: str, page: Page, *, place: int, partitions: int, provider: str
) -> dict[str, int | dict[str, int]]:
    """Put a page's rows into the partitions; returns counts for the walk's proof.

    ``place``: the number of this read among all of the walk; a later one counts where two tell of the same listing.
    ``provider``: that of our own rows, once it is known: rows of another one are not ours, even under a reference of
    ours; only where the ledger owns the listing they stay, since nobody promised that the name never changes.
    """
    base = tools.ledger.get([row.reference for row in page.rows if row.reference])
    rows = [row for row in page.rows if row.reference and not _is_foreign(row, base.get(row.reference), provider)]
    batches: dict[int, RemoteBatch] = defaultdict(RemoteBatch)
    formed: list[bytes] = []
    for row in rows:
        reference = row.reference or ""
        batch = batches[partition_of(reference, partitions)]
        record = remote_record(row, base.get(reference), provider)
        if record is None:
            batch.same += hash8(reference)
        else:
            batch.rows.append(record)
            if record.form is not None:
                formed.append(hash8(reference))
    pipe = tools.runs.redis.pipeline(transaction=False)
    for partition, batch in batches.items():
        tools.runs.put_on(pipe, run, f"remote:{partition}", place, batch)
    tools.runs.put_on(pipe, run, "ids", place, b"".join(hash8(row.id) for row in page.rows))
    if formed:
        tools.runs.mark_on(pipe, run, "formed", formed)
    pipe.execute()
    ours = Counter(
        row.provider for row in rows if row.provider and (e := base.get(row.reference or "")) and e.having(Flag.OWNED)
    )
    return {
        "rows": len(page.rows),
        "nameless": len(page.rows) - len(rows) + page.unreadable,
        "unreadable": page.unreadable,
        "nameless_active": sum(row.status == "active" for row in page.rows)
        - sum(row.status == "active" for row in rows),
        "total": page.total_items,
        "providers": dict(ours),
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


def _is_foreign(row: RemoteListing, base: Entry | None, provider: str) -> bool:
    return bool(provider) and (row.provider or provider) != provider and not (base and base.having(Flag.OWNED))


def remote_record(row: RemoteListing, base: Entry | None, provider: str = "") -> Remote | None:
    """The record of one marketplace row; None when it equals the ledger's picture."""
    rendering = compared_fingerprint(row.compared)
    status = row.status or ""
    profile = dealer_fingerprint("profile", row.dealer_profile_id) if row.dealer_profile_id else b""
    code = dealer_fingerprint("code", row.dealer_location_code) if row.dealer_location_code else b""
    known = base is not None and base.rendering == rendering
    if (
        known
        and base is not None
        and base.status == status
        and base.dealer in (profile, code)
        and not base.flags & _LOOK_AGAIN
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
    batches: dict[int, LocalBatch] = defaultdict(LocalBatch)
    rows = 0
    nameless: list[str] = []
    open_end = ""
    version = source.version()
    if not source.sliceable and part.number:
        return {"rows": 0, "ended": 1, "version": "", "nameless": 0, "where": []}  # the first part reads it all
    stream = source.rows(start, start + LOAD_ROWS if source.sliceable else None)
    while chunk := list(islice(stream, _BATCH)):
        rows += len(chunk)
        open_end = chunk[-1].where if chunk[-1].unterminated else ""
        nameless += [row.where for row in chunk if row.reference is None]
        _sort(tools, part.run, [row for row in chunk if row.reference is not None], batches, partitions)
    if source.version() != version:
        raise SourceError("the source changed while it was being read; the next run reads it anew", code="changed")
    pipe = tools.runs.redis.pipeline(transaction=False)
    for partition, batch in batches.items():
        tools.runs.put_on(pipe, part.run, f"local:{partition}", part.number, batch)
    pipe.execute()
    return {
        "rows": rows,
        "ended": int(rows < LOAD_ROWS or not source.sliceable),
        "version": version,
        "nameless": len(nameless),
        "where": nameless[:20],
        "open_end": open_end,
    }


def _sort(tools: Tools, run: str, chunk: list[SourceRow], batches: dict[int, LocalBatch], partitions: int) -> None:
    base = tools.ledger.get([row.reference for row in chunk if row.reference])
    formed = _formed(tools, run, [row.reference or "" for row in chunk])
    for row in chunk:
        reference = row.reference or ""
        batch = batches[partition_of(reference, partitions)]
        record = local_record(row, base.get(reference), whole=reference in formed)
        if record is None:
            batch.same += same_row(reference, row.row)
            continue
        form = encode_compared(compared(row.listing)) if reference in formed and row.listing is not None else None
        batch.rows.append(record if form is None else msgspec.structs.replace(record, form=form))


def _formed(tools: Tools, run: str, references: list[str]) -> set[str]:
    """Which of these the marketplace's side has written with values: they are compared, or told, value by value."""
    if not tools.runs.has(run, "formed"):
        return set()
    found = tools.runs.marked(run, "formed", [hash8(reference) for reference in references])
    return {reference for reference, member in zip(references, found, strict=True) if member}


def local_record(row: SourceRow, base: Entry | None, *, whole: bool = False) -> Local | None:
    """The record of one source row; None when it equals what the ledger holds of the source, unless ``whole``."""
    reference = row.reference or ""
    if row.listing is None:
        return Local(reference=reference, row=row.row, issues=row.issues, where=row.where)
    content = content_fingerprint(row.listing)
    if (
        base is not None
        and not whole
        and base.row == content
        and base.flags & Flag.IN_SOURCE
        and not base.flags & _LOOK_AGAIN
        and base.missed == 0
        and base.live
    ):
        return None
    return Local(
        reference=reference,
        row=row.row,
        content=content,
        rendering=compared_fingerprint(compared(row.listing)),
        dealer=listing_dealer_fingerprint(row.listing),
        filled=filled_fields(row.listing),
        images=len(row.listing.images),
        status=row.listing.status,
        version=row.version,
        where=row.where,
    )
