"""Reads the marketplace: makes a small record of each listing into the partitions of the run.

For a listing that equals its ledger entry, only the hash of its reference is written. Values are written only for rows
whose rendering is not in the ledger. A row that equalled its entry in an earlier full run, byte for byte, is not
decoded and its entry not read, unless the entry was written since.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from okasie_tasks.core.estimates import ROWS_PER_PAGE
from okasie_tasks.core.fingerprint import (
    compared_fingerprint,
    dealer_fingerprint,
    emptied_fields,
    encode_compared,
)
from okasie_tasks.core.guards import fields_of
from okasie_tasks.core.ledger_entry import ABSENT, LOOK_AGAIN, Entry, entry_state, is_as_rendered
from okasie_tasks.core.links import web_link
from okasie_tasks.core.records import (
    Remote,
    RemoteBatch,
    hash8,
    hashes_as_numbers,
    merge_counts,
    partition_of_hash,
    partitions_for,
)
from okasie_tasks.core.remote_rows import RemoteListing
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Page
from okasie_tasks.store.parts import Done, Records
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.known_rows import KnownPage
    from okasie_tasks.store.records import Run


log = get_logger(__name__)

MOST_SKEW: Final = timedelta(days=1)
"""Between the marketplace's clock and that of Redis."""
BATCH_ROWS: Final = 1_000
"""Rows per read of the ledger."""
_UNKNOWN_SIZE_PARTITIONS = 16

_IDS_PER_PASS = 200_000
"""Row ids in memory at a time while the completeness of a walk is checked."""


# -- the marketplace's side ----------------------------------------------------------------------------------------


def updated_since(cursor: str, overlap_seconds: float) -> datetime:
    """Return where an incremental read begins: the cursor minus the overlap.

    The precision of the filter is not documented.
    """
    return datetime.fromisoformat(cursor).astimezone(UTC) - timedelta(seconds=overlap_seconds)


def next_cursor(page: Page, now: datetime) -> str:
    """Return the marketplace's time at the walk's first page, else the latest ``updatedAt`` on it; "" if neither.

    Times more than a day from ``now``, Redis time, are not believed: the cursor would skip changes, or repeat all.
    """
    latest = sorted((row.updated_at for row in page.rows if row.updated_at), reverse=True)
    moments = [page.server_time, *latest] if page.server_time else latest
    moment = next((moment for moment in moments if abs(moment - now) <= MOST_SKEW), None)
    if moments and moment != moments[0]:
        log.warning("the marketplace's time is not plausible", time=moments[0].isoformat(), ours=now.isoformat())
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else ""


def sort_page(
    ctx: AccountContext, run: Run, page: Page, *, read_number: int, partitions: int, provider: str, known: KnownPage
) -> Done:
    """Sort the rows of a page into the partitions; the result is the counts that prove the walk complete.

    ``read_number``: the number of this page read within the walk; of two records of one listing, the later counts.
    ``known``: what `OkasieApi.list_page` was given. ``provider``: our provider name, once it is known. Rows of another
    provider are not ours, even with one of our references. They stay where the ledger owns the listing, because the API
    docs do not promise that the name is constant.
    """
    providers: Counter[str] = Counter()
    same: dict[int, list[bytes]] = defaultdict(list)
    noted, decoded = _take_known(ctx, page, known, partitions, same)
    if noted and provider:
        providers[provider] += len(noted)
    named = [row for row in decoded if row.reference]
    references = [row.reference or "" for row in named]
    keys = [hash8(reference) for reference in references]
    batches: dict[int, RemoteBatch] = defaultdict(RemoteBatch)
    with_values: list[bytes] = []
    lost: Counter[int] = Counter()
    links: list[tuple[str, str]] = []
    rows, active, unowned = len(noted), 0, 0
    entries = ctx.ledger.packed(references, keys)
    for row, key, packed in zip(named, keys, entries, strict=True):
        owned = entry_state(packed).owned
        if not owned and provider and row.provider and row.provider != provider:
            continue
        rows += 1
        unowned += packed == ABSENT
        active += row.status == "active"
        if owned and row.provider:
            providers[row.provider] += 1
        partition = partition_of_hash(key, partitions)
        rendering = compared_fingerprint(row.compared)
        if is_as_rendered(packed, rendering, row.status or "", _dealers(row)) and not row.odd:
            same[partition].append(key)
            if owned and row.raw and row.provider in (provider, None):
                noted.append(row.raw)
            continue
        record = remote_record(row, None if packed == ABSENT else Entry.unpack(packed), provider)
        assert record is not None  # noqa: S101 - `is_as_rendered` agrees
        batches[partition].rows.append(record)
        if owned and (link := web_link(row.link)):
            links.append((record.reference, link))
        if record.values is not None:
            with_values.append(key)
            lost[emptied_fields(row.compared, entry_state(packed).filled) if entry_state(packed).ours else 0] += 1
    if links:
        ctx.history.link(links, now_ms=ctx.runs.now_ms())
    for partition, same_keys in same.items():
        batches[partition].same = b"".join(same_keys)
    collections: dict[str, object] = {f"remote:{partition}": batch for partition, batch in batches.items()}
    if with_values:
        # Before the rows: a reader of the rows must already find them marked.
        ctx.runs.data.mark(run.id, "with_values", with_values)
    ids = b"".join((*(hash8(row.id) for row in page.rows), *(hash8(row.id) for row in page.known)))
    known_page = ctx.ledger.known.noted_page(page.page, run.fact("number"), noted, provider=provider)
    beside = known_page if run.fact("walked_all") else None
    counts = {
        "rows": page.count,
        "nameless": page.count - rows + page.unreadable,
        "unreadable": page.unreadable,
        "nameless_active": sum(row.status == "active" for row in decoded) - active,
        "total": page.total_items,
        "providers": dict(providers),
        "unowned": unowned,
        **_unnamed(page, provider),
        **_lost(lost, entries),
    }
    return Done(counts, Records(read_number, collections | {"ids": ids}, beside))


def _take_known(
    ctx: AccountContext, page: Page, known: KnownPage, partitions: int, same: dict[int, list[bytes]]
) -> tuple[list[bytes], list[RemoteListing]]:
    """Sort the known rows whose entries were not written since into ``same``; return their hashes, and the other rows.

    The entry of a known row equals it, so the listing is ours and live in the ledger as on the marketplace.
    """
    keys = [hash8(row.reference) for row in page.known]
    noted, decoded = list[bytes](), list(page.rows)
    written = ctx.ledger.known.written_since(known.number, keys)
    for row, key in zip(page.known, keys, strict=True):
        if key not in written:
            same[partition_of_hash(key, partitions)].append(key)
            noted.append(row.raw)
        elif (listing := row.read()) is not None:
            decoded.append(listing)
    return noted, decoded


def _unnamed(page: Page, provider: str) -> dict[str, int]:
    """Count the rows without a reference that name our provider, and those that name none."""
    providers = Counter(row.provider or "" for row in page.rows if not row.reference)
    return {"unnamed": providers[provider] if provider else 0, "anonymous": providers[""]}


def _lost(lost: Counter[int], entries: Iterable[bytes]) -> dict[str, dict[str, int]]:
    """Return how many rows lost which field, and how many of all should have it; nothing if none lost any."""
    counts = fields_in(lost)
    if not counts:
        return {}
    states = [state for packed in entries if (state := entry_state(packed)).ours]
    return {"lost": counts, "filled": fields_in(Counter(state.filled for state in states))}


def fields_in(bitmaps: Counter[int]) -> dict[str, int]:
    """Return field -> number, for bitmaps as made by `okasie_tasks.core.fingerprint.filled_fields`."""
    return merge_counts(dict.fromkeys(fields_of(bitmap), count) for bitmap, count in bitmaps.items())


def distinct_rows(pages: Callable[[], Iterable[bytes]], *, rows: int) -> int:
    """Count the distinct listings on the pages of a walk: a listing may be on two pages when the stock moves.

    ``pages`` returns the ids of each page, 8 bytes each, and is called once per pass. ``rows``: their approximate
    number.
    """
    passes = max(1, -(-rows // _IDS_PER_PASS))
    count = 0
    for number in range(passes):
        ids = chain.from_iterable(map(hashes_as_numbers, pages()))
        count += len(set(ids) if passes == 1 else {key for key in ids if key % passes == number})
    return count


def _dealers(row: RemoteListing) -> tuple[bytes, bytes]:
    """Return the row's dealer by profile and by code, the two forms that the ledger may have; empty if not reported."""
    return (
        dealer_fingerprint("profile", row.dealer_profile_id) if row.dealer_profile_id else b"",
        dealer_fingerprint("code", row.dealer_location_code) if row.dealer_location_code else b"",
    )


def remote_record(row: RemoteListing, base: Entry | None, provider: str = "") -> Remote | None:
    """Return the record of one marketplace row; None when it equals its ledger entry (see `is_as_rendered`)."""
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
        and not row.odd
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
        values=None if known else encode_compared(row.compared),
        provider=(row.provider or "") if base is None or row.provider != provider else "",
        absent=row.absent,
        warning=row.odd,
    )


def partitions_of(page: Page, *, full: bool, rows_before: int) -> int:
    """Return the number of partitions of this run, from what is known at its first page."""
    known = max(rows_before, page.total_items if full else 0)
    return max(partitions_for(known), 1 if rows_before else _UNKNOWN_SIZE_PARTITIONS)


MOST_ROUNDS: Final = 3
_MOST_PAGES_PAST_END: Final = 64
FIRST_READ: Final = 0
"""The read number of the run's first page; part ``n`` of the walk has ``n + 1``."""


class WalkRound(NamedTuple):
    """One pass over the pages. It begins with part ``part``, which reads page ``page``."""

    part: int
    page: int


def rounds_of(run: Run) -> list[WalkRound]:
    """Return the rounds of a run's walk. The first begins at page 2: page 1 was read to count the pages."""
    return [WalkRound(*pair) for pair in json.loads(run.facts.get("walk_rounds", "[[0, 2]]"))]


def page_of(run: Run, part: int) -> int:
    """Return the page that a part of the walk reads."""
    last = [walk_round for walk_round in rounds_of(run) if walk_round.part <= part][-1]
    return last.page + part - last.part


def is_complete(ctx: AccountContext, run: Run) -> bool:
    """Return whether the last round read every page, the total was constant, and that many rows were seen."""
    pages = last_round(ctx, run)
    totals: set[int] = {page.get("total", -1) for page in pages}
    if len(totals) != 1 or -1 in totals:  # a page that could not be read has no total
        return False
    (total,) = totals
    unreadable: int = sum(page.get("unreadable", 0) for page in pages)
    read: int = sum(page.get("rows", 0) for page in pages) + unreadable
    if len(pages) == 1 or read < total:  # an announced total has no bound, what was read has one
        return read >= total
    seen = distinct_rows(lambda: ctx.runs.data.fetch(run.id, "ids", bytes), rows=total)
    return seen + unreadable >= total


def last_round(ctx: AccountContext, run: Run) -> list[dict[str, Any]]:
    """Return the results of the pages of the last round."""
    rounds = rounds_of(run)
    pages: list[dict[str, Any]] = ctx.runs.parts.results(run.id, "walk")[rounds[-1].part :]
    return [*ctx.runs.parts.results(run.id, "first"), *pages] if len(rounds) == 1 else pages


def repeat(ctx: AccountContext, run: Run) -> bool:
    """Begin another round over all pages; returns False after `MOST_ROUNDS`. The phase ``first`` must be over."""
    rounds = rounds_of(run)
    if len(rounds) >= MOST_ROUNDS:
        return False
    most = max((page.get("total", 0) for page in last_round(ctx, run)), default=0)
    pages = max(run.fact("pages", 1), -(-most // ROWS_PER_PAGE))
    pages = min(pages, run.fact("empty_page", pages))
    # The script puts the number of the first new part in place of {first}.
    value = json.dumps([*rounds, ("{first}", 1)]).replace('"{first}"', "{first}")
    ctx.runs.parts.extend(run.id, "walk", f"round:{len(rounds)}", pages, fact=("walk_rounds", value))
    return True


def end_walk(ctx: AccountContext, run: Run, page: int) -> None:
    """Drop the pages behind an empty one: the answer may announce thousands that do not exist."""
    ctx.runs.note(run.id, empty_page=page)
    ctx.runs.parts.cut(run.id, "walk")


def read_on(ctx: AccountContext, run: Run) -> bool:
    """Read past the announced end, first one page, then more while they have rows; False once an empty page is read."""
    pages, done = last_round(ctx, run), run.fact("read_on")
    if done and (not pages[-1].get("rows") or done > _MOST_PAGES_PAST_END):
        return False
    token = f"on:{len(rounds_of(run))}:{len(pages)}"
    ctx.runs.parts.extend(run.id, "walk", token, max(1, done), fact=("read_on", str(2 * max(1, done))))
    return True
