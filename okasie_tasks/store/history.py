"""The history in Redis: the newest events of every listing that was written, and a snapshot of its last sent content.

Keys: ``{prefix}history:{account}:{yyyymm}:{bucket}`` (hash, reference -> snapshot and events, see ``history_add.lua``;
NUL and reference -> link to the advert), by the buckets of the ledger, and ``{prefix}conflicts:{account}`` (list,
newest first). They expire: a listing not written for some months only keeps its ledger entry. Months are those of
Redis time, in UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, cast

import msgspec
import redis

from okasie_tasks.core.history import Event, stored, unpack
from okasie_tasks.core.records import bucket_of
from okasie_tasks.core.snapshot import Snapshot
from okasie_tasks.store.scripts import Call, script

KEEP_HISTORY_SECONDS: Final = 100 * 86_400
"""After the last write of a month's bucket: reads look at this month and the two before."""
EVENTS_PER_LISTING: Final = 5
CONFLICTS_KEPT: Final = 200
_MONTHS_READ: Final = 3
_PER_TRIP: Final = 300
"""References in one Lua step: about 1 ms of server time, and a chunk of 100 is read in one round trip."""

_LINK: Final = "\0"
"""Begins the field of a listing's link; no reference contains it."""

Row = tuple[str, Event, bytes]
"""A reference, an event, and the packed snapshot of what was sent; b"" for none."""


class History:
    """One account's history. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._redis = client
        self._hash = f"{prefix}history:{account}:"
        self._conflicts = f"{prefix}conflicts:{account}"
        self._add, self._read = script(client, "history_add"), script(client, "history_read")

    # -- writing ---------------------------------------------------------------------------------------------------

    def add(self, events: Iterable[tuple[str, Event]]) -> None:
        """Add ``(reference, event)``; the same event twice is one."""
        self._write((reference, event, b"") for reference, event in events)

    def sent(self, items: Iterable[Row]) -> None:
        """Add events with the snapshots of what was sent."""
        self._write(items)

    def link(self, links: Iterable[tuple[str, str]], *, now_ms: int) -> None:
        """Store ``(reference, link to the advert)``. ``now_ms``: Redis time."""
        buckets: dict[str, dict[str, str]] = defaultdict(dict)
        for reference, link in links:
            buckets[self._key(_month(now_ms), reference)][_LINK + reference] = link
        pipe = self._redis.pipeline(transaction=False)
        for key, mapping in buckets.items():
            pipe.hset(key, mapping=mapping)  # type: ignore[arg-type]  # its keys are texts
            pipe.expire(key, KEEP_HISTORY_SECONDS)
        pipe.execute()

    def _write(self, rows: Iterable[Row]) -> None:
        left = list(rows)
        for start in range(0, len(left), _PER_TRIP):
            keys, arguments = self.add_call(left[start : start + _PER_TRIP])
            self._add(keys=keys, args=arguments)

    def add_call(self, rows: Sequence[Row]) -> Call:
        """The call of the step ``history_add`` for these rows, some hundred at most."""
        arguments: list[str | bytes | int] = [KEEP_HISTORY_SECONDS, EVENTS_PER_LISTING]
        for reference, event, snapshot in rows:
            arguments += [reference, stored(event), snapshot]
        return [self._key(_month(event.at_ms), name) for name, event, _ in rows], arguments

    # -- reading ---------------------------------------------------------------------------------------------------

    def snapshots(self, references: Sequence[str], *, now_ms: int | None = None) -> dict[str, Snapshot]:
        """Return the snapshots of these listings, where still kept. ``now_ms``: Redis time; None reads it."""
        snapshots: dict[str, Snapshot] = {}
        for reference, values in self._held(references, now_ms).items():
            newest = next((snapshot for value in values if (snapshot := _split(value)[0])), b"")
            if newest:
                snapshots[reference] = Snapshot.unpack(newest)
        return snapshots

    def latest(self, references: Sequence[str], *, now_ms: int | None = None) -> dict[str, Event]:
        """Return the newest event of each of these listings that has one."""
        rows = self._held(references, now_ms).items()
        return {reference: unpack(_split(values[0])[1][0]) for reference, values in rows}

    def get(self, reference: str, *, now_ms: int | None = None) -> list[Event]:
        """The events of one listing, newest first."""
        values = self._held([reference], now_ms).get(reference, [])
        return [unpack(event) for value in values for event in _split(value)[1]][:EVENTS_PER_LISTING]

    def links(self, references: Sequence[str]) -> dict[str, str]:
        """Return the links to the adverts of these listings, where still kept."""
        values = self._held([_LINK + reference for reference in references], None)
        return {name.removeprefix(_LINK): links[0].decode() for name, links in values.items()}

    def _held(self, references: Sequence[str], now_ms: int | None) -> dict[str, list[bytes]]:
        """Return the values of each listing for the months read, newest first; some hundred per round trip."""
        if not references:
            return {}
        if now_ms is None:
            now_ms = self._redis.time()[0] * 1000
        pairs = [(month, reference) for reference in references for month in _months(now_ms)]
        rows: dict[str, list[bytes]] = defaultdict(list)
        for start in range(0, len(pairs), _PER_TRIP):
            batch = pairs[start : start + _PER_TRIP]
            values = self._read(keys=[self._key(*place) for place in batch], args=[name for _, name in batch])
            for (_, reference), value in zip(batch, values, strict=True):
                if value:
                    rows[reference].append(value)
        return dict(rows)

    def _key(self, month: int, reference: str) -> str:
        bucket = bucket_of(reference.removeprefix(_LINK))
        return f"{self._hash}{month // 12:04}{month % 12 + 1:02}:{bucket}"

    # -- conflicts -------------------------------------------------------------------------------------------------

    def conflict(self, entries: Iterable[tuple[str, Event]]) -> None:
        """Add drifts and conflicts to the account's log, of which the newest 200 are kept."""
        pipe = self._redis.pipeline(transaction=False)
        for reference, event in entries:
            value = msgspec.msgpack.encode((reference, stored(event)))
            pipe.lrem(self._conflicts, 0, value)  # type: ignore[arg-type]  # a client's retry is one entry
            pipe.lpush(self._conflicts, value)
        if len(pipe):
            pipe.ltrim(self._conflicts, 0, CONFLICTS_KEPT - 1)
            pipe.expire(self._conflicts, KEEP_HISTORY_SECONDS)
            pipe.execute()

    def conflicts(self, limit: int) -> list[tuple[str, Event]]:
        """The newest entries of the log, as ``(reference, event)``."""
        held = cast("list[bytes]", self._redis.lrange(self._conflicts, 0, limit - 1))
        return [(reference, unpack(event)) for reference, event in map(msgspec.msgpack.decode, held)]


def _split(value: bytes) -> tuple[bytes, list[bytes]]:
    """The snapshot and the events of a value as ``history_add.lua`` writes it."""
    at = 1 + value[0]
    snapshot, events = value[1:at], []
    while at < len(value):
        size = int.from_bytes(value[at : at + 2], "big")
        events.append(value[at + 2 : at + 2 + size])
        at += 2 + size
    return snapshot, events


@lru_cache(maxsize=10)
def _month(at_ms: int) -> int:
    """Return the month as a number; consecutive months differ by one."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.year * 12 + moment.month - 1


def _months(now_ms: int) -> range:
    """The months that are read, newest first."""
    newest = _month(now_ms)
    return range(newest, newest - _MONTHS_READ, -1)
