"""One partition of a run: the records of the source, the marketplace and the ledger, joined by reference."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.ledger_entry import SHARED, Entry, EntryState, entry_state, shared
from okasie_tasks.core.listing import Issue
from okasie_tasks.core.records import (
    Local,
    LocalBatch,
    Remote,
    RemoteBatch,
    buckets_of,
    hash8,
    split_hashes,
    split_rows,
)


class Partition:
    """One partition of a run. ``base``: the ledger entries that need a decision, set by `take_settled`.

    ``packed``: its entries, without those that need no look; see `okasie_tasks.sync.seals`.
    """

    def __init__(
        self,
        number: int,
        partitions: int,
        packed: dict[str, bytes],
        local: Iterable[LocalBatch],
        remote: Iterable[RemoteBatch],
    ) -> None:
        self.number, self.buckets, self.packed = number, buckets_of(number, partitions), packed
        self.by_hash = {hash8(reference): reference for reference in self.packed}
        self.rows: dict[str, list[Local]] = defaultdict(list)
        self.same_rows: dict[str, int] = {}
        self.remote: dict[str, Remote] = {}
        self.remote_same: set[str] = set()
        self.titles: dict[str, Titled] = {}
        """New and changed listings, for the catalogue."""
        self.read = 0
        for batch in local:
            self._add_local(batch)
        for page in remote:
            self._add_remote(page)
        self.remote = {reference: row for reference, row in self.remote.items() if row.id}
        for reference in self.remote_same.intersection(self.remote):
            if self.remote[reference].provider:  # a listing of another provider that uses one of our references
                del self.remote[reference]
        self.base: dict[str, Entry] = {}

    def take_settled(self, *, full: bool) -> Counter[EntryState]:
        """Remove and count the entries that need no decision, both sides being unchanged; ``base`` gets the others.

        ``full``: the whole marketplace was read, so an unchanged listing must have appeared. In an incremental read, a
        listing that did not appear is unchanged.
        """
        settled: Counter[bytes] = Counter()
        remote_same, rows, same_rows = self.remote_same, self.rows, self.same_rows
        left: dict[str, bytes] = {}
        for reference, packed in self.packed.items():
            if (
                reference in same_rows
                and (reference in remote_same or not full)
                and reference not in rows
                and reference not in self.remote
                and entry_state(packed).settled
            ):
                settled[packed[SHARED]] += 1
            else:
                left[reference] = packed
        self.base = {reference: Entry.unpack(packed) for reference, packed in left.items()}
        return Counter({shared(key): count for key, count in settled.items()})

    def _add_local(self, batch: LocalBatch) -> None:
        for record in batch.rows:
            self.rows[record.reference].append(record)
        self.titles |= {reference: Titled(*row) for reference, row in batch.titles.items()}
        for key, row in split_rows(batch.same):
            if reference := self.by_hash.get(key):
                self.same_rows[reference] = row

    def _add_remote(self, page: RemoteBatch) -> None:
        self.remote_same.update(
            reference for key in split_hashes(page.same) if (reference := self.by_hash.get(key)) is not None
        )
        for record in page.rows:
            # A listing may be on two pages when the stock moves during the walk: the newest record counts.
            known = self.remote.get(record.reference)
            if known is None or _rank(record) >= _rank(known):
                self.remote[record.reference] = record

    @property
    def listed(self) -> Collection[str]:
        """The references in the ledger."""
        return self.packed.keys()

    def references(self) -> Iterator[str]:
        """Yield the references that need a decision. Call `take_settled` first."""
        yield from sorted({*self.base, *self.rows, *self.remote})

    def local(self, reference: str) -> Local | None:
        """Return the source row; several rows that differ become one invalid row."""
        rows = self.rows.get(reference, [])
        same = self.same_rows.get(reference)
        if same is not None:
            entry = self.base[reference]
            rows = [
                *rows,
                Local(
                    reference=reference,
                    row=same,
                    content=entry.row,
                    dealer=entry.dealer,
                    filled=entry.filled,
                    status=entry.status,
                    version=entry.version,
                ),
            ]
        if not rows:
            return None
        if len({row.content for row in rows}) > 1 or (len(rows) > 1 and rows[0].issues):
            numbers = ", ".join(str(row.row) for row in sorted(rows, key=lambda row: row.row)[:10])
            issue = Issue("externalReference", "duplicate_reference", f"rows {numbers} differ under one reference")
            return Local(reference=reference, row=rows[0].row, issues=(issue,), where=rows[0].where)
        return rows[0]


def _rank(record: Remote) -> tuple[bool, int]:
    """Rank two rows under one reference: our provider's row first, then the newer one."""
    return not record.provider, record.changed_at
