"""The ledger in Redis: one packed `Entry` per reference, in 1,024 hashes per account; and the rejects.

Keys: ``{prefix}ledger:{account}:{bucket}`` (hash, reference -> 64 bytes), ``{prefix}rejects:{account}`` and
``{prefix}images:{account}`` (hashes, reference -> JSON); ``{prefix}unreadable:{account}`` (hash: ``count``, ``rows``,
``waiting``; see `okasie_tasks.core.unreadable`); ``{prefix}creates:{account}`` (set, references of creates without an
answer; see `okasie_tasks.sync.doubtful`). Writes are compare-and-set, so that an urgent write between read and write is
never undone, and mark the entry as touched, so that no known row is trusted; see `okasie_tasks.store.known_rows`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec
import redis

from okasie_tasks.core.fingerprint import reference_key
from okasie_tasks.core.ledger_entry import ABSENT, PACKED_BYTES, Entry
from okasie_tasks.core.records import BUCKETS, Reject, SkippedImages, bucket_of_hash
from okasie_tasks.core.unreadable import UnreadableRows, WaitingSells
from okasie_tasks.store.catalog import Catalog
from okasie_tasks.store.known_rows import KnownRows
from okasie_tasks.store.scripts import Call, Command, execute, script
from okasie_tasks.store.write_locks import HeldLocks

_PER_STEP: Final = 500
"""Entries in one step of Redis: enough to hide the trip, few enough not to block others on the same server."""
_KEEP_CREATES_SECONDS: Final = 90 * 24 * 3600

Change = tuple[str, Entry | None, Entry]
"""A reference, its entry as read or None, and its new entry."""
_Kept = TypeVar("_Kept", Reject, SkippedImages)
_Item = TypeVar("_Item")


class Ledger:
    """One account's ledger. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._redis = client
        self._hash = f"{prefix}ledger:{account}:"
        self._rejects = f"{prefix}rejects:{account}"
        self._skipped = f"{prefix}images:{account}"
        self._unreadable = f"{prefix}unreadable:{account}"
        self._creates = f"{prefix}creates:{account}"
        self._account = f"{prefix}account:{account}"
        self.catalog = Catalog(client, prefix=prefix, account=account)
        self.known = KnownRows(client, prefix=prefix, account=account)
        self._swap = script(client, "ledger_swap")
        self._read, self._count = script(client, "ledger_read"), script(client, "ledger_count")
        self._note = script(client, "creates_note")

    def get(self, references: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these references, without unknown ones."""
        entries: dict[str, Entry] = {}
        for batch in _batches(references):
            entries |= self.unpacked(batch, self._joined(batch, [reference_key(name) for name in batch]))
        return entries

    def packed(self, references: Sequence[str], hashes: Sequence[bytes]) -> list[bytes]:
        """The packed entries of these references, `core.ledger_entry.ABSENT` for an unknown one; one step in Redis.

        ``hashes``: `core.records.hash8` of each. Raises `ValueError` for an entry of another length.
        """
        return _split(self._joined(references, hashes)) if references else []

    def _joined(self, references: Sequence[str], hashes: Sequence[bytes]) -> bytes:
        keys, args = self.read_call(references, hashes)
        try:
            return cast("bytes", self._read(keys=keys, args=args))
        except redis.ResponseError as error:
            if "a ledger entry has" not in str(error):
                raise
            raise ValueError(str(error)) from error

    def read_call(self, references: Sequence[str], hashes: Sequence[bytes]) -> Call:
        """The call of the step ``ledger_read`` for these references, for `unpacked`."""
        buckets = [bucket_of_hash(key) for key in hashes]
        return [self._hash], [PACKED_BYTES, msgspec.msgpack.encode((buckets, references))]

    @staticmethod
    def unpacked(references: Sequence[str], joined: bytes) -> dict[str, Entry]:
        """Return the entries in the reply of ``ledger_read``, without unknown ones."""
        entries = zip(references, _split(joined), strict=True)
        return {name: Entry.unpack(value) for name, value in entries if value != ABSENT}

    def buckets(self, buckets: Iterable[int]) -> dict[str, Entry]:
        """Every entry of these buckets."""
        return {name: Entry.unpack(value) for name, value in self.packed_buckets(buckets).items()}

    def packed_buckets(self, buckets: Iterable[int]) -> dict[str, bytes]:
        """Every entry of these buckets, packed."""
        pipe = self._redis.pipeline(transaction=False)
        for bucket in buckets:
            pipe.hgetall(f"{self._hash}{bucket}")
        packed: dict[bytes, bytes] = {}
        for entries in pipe.execute():
            packed |= entries
        return {name.decode(): value for name, value in packed.items()}

    def swap(self, changes: Iterable[Change]) -> list[str]:
        """Write new entries; returns the references changed by others since they were read."""
        lost: list[str] = []
        for batch in _batches(list(changes)):
            keys, arguments = self.swap_call(batch)
            lost += [name.decode() for name in self._swap(keys=keys, args=arguments)]
        return lost

    def swap_call(self, changes: Sequence[Change]) -> Call:
        """The call of the step ``ledger_swap`` for these changes."""
        keys, arguments = [self.known.touched_key, self._account], list[str | bytes]()
        for reference, old, new in changes:
            key = reference_key(reference)
            keys.append(f"{self._hash}{bucket_of_hash(key)}")
            arguments += [reference, key, old.pack() if old else b"", new.pack()]
        return keys, arguments

    def count(self) -> int:
        """Entries in the ledger, sold ones included."""
        return int(self._count(keys=[self._hash], args=[BUCKETS]))

    # -- creates without an answer -----------------------------------------------------------------------------------

    def note_creates(self, references: Collection[str], locks: HeldLocks) -> bool:
        """Note listings that are about to be created; see `okasie_tasks.sync.doubtful`.

        Returns False, and notes none, if one of their write locks was lost.
        """
        args: list[str | int] = [locks.token, _KEEP_CREATES_SECONDS, *references]
        return not references or bool(self._note(keys=[locks.key, self._creates], args=args))

    def noted_creates(self, references: Sequence[str]) -> list[str]:
        """Return which of these listings were noted."""
        if not references:
            return []
        noted = self._redis.smismember(self._creates, list(references))
        return [reference for reference, found in zip(references, noted, strict=True) if found]

    def forget_creates(self, references: Collection[str]) -> None:
        execute(self._redis, self.forget_creates_commands(references))

    def forget_creates_commands(self, references: Collection[str]) -> list[Command]:
        return [("SREM", self._creates, *references)] if references else []

    # -- rejects ---------------------------------------------------------------------------------------------------

    def rejects(self, references: Sequence[str]) -> dict[str, Reject]:
        return self._kept(self._rejects, references, Reject)

    def put_rejects(self, rejects: Sequence[Reject]) -> None:
        self._keep(self._rejects, rejects)

    def remove_rejects(self, references: Sequence[str]) -> None:
        execute(self._redis, self.remove_rejects_commands(references))

    def remove_rejects_commands(self, references: Sequence[str]) -> list[Command]:
        return [("HDEL", self._rejects, *references)] if references else []

    def all_rejects(self) -> Iterator[Reject]:
        """Yield the rejects that have a reference."""
        for _, value in self._redis.hscan_iter(self._rejects, count=500):
            yield msgspec.json.decode(value, type=Reject)

    def rejected_references(self) -> frozenset[str]:
        """The references of all rejects."""
        return frozenset(name.decode() for name in cast("list[bytes]", self._redis.hkeys(self._rejects)))

    def reject_count(self) -> int:
        """Rejected listings, and rows without a readable reference."""
        count = cast("bytes | None", self._redis.hget(self._unreadable, "count"))
        return self._redis.hlen(self._rejects) + int(count or 0)

    # -- rows without a readable reference -------------------------------------------------------------------------

    def unreadable_rows(self) -> UnreadableRows:
        count, rows = cast("list[bytes | None]", self._redis.hmget(self._unreadable, ["count", "rows"]))
        return UnreadableRows(int(count or 0), msgspec.json.decode(rows or b"[]", type=list[Reject]))

    def put_unreadable_rows(self, rows: UnreadableRows) -> None:
        """Replace them all."""
        mapping: Any = {"count": rows.count, "rows": msgspec.json.encode(rows.rejects)}
        self._redis.hset(self._unreadable, mapping=mapping)

    def waiting_sells(self) -> tuple[int, WaitingSells]:
        """Return how many rows have no readable reference, and the sells that wait."""
        count, waiting = cast("list[bytes | None]", self._redis.hmget(self._unreadable, ["count", "waiting"]))
        return int(count or 0), msgspec.json.decode(waiting or b"{}", type=WaitingSells)

    def put_waiting_sells(self, waiting: WaitingSells) -> None:
        self._redis.hset(self._unreadable, "waiting", cast("Any", msgspec.json.encode(waiting)))

    # -- skipped images --------------------------------------------------------------------------------------------

    def skipped(self, references: Sequence[str]) -> dict[str, SkippedImages]:
        """Return the skipped images of these listings, without listings that have none."""
        return self._kept(self._skipped, references, SkippedImages)

    def skipped_command(self, references: Sequence[str]) -> Command:
        """The command that reads the skipped images of these listings, for `read_skipped`."""
        return ("HMGET", self._skipped, *references)

    @staticmethod
    def read_skipped(references: Sequence[str], values: Sequence[bytes | None]) -> dict[str, SkippedImages]:
        return _read(references, values, SkippedImages)

    def keep_skipped(self, rows: Sequence[SkippedImages]) -> None:
        self._keep(self._skipped, rows)

    def forget_skipped(self, references: Sequence[str]) -> None:
        if references:
            self._redis.hdel(self._skipped, *references)

    def skipped_count(self) -> int:
        """Listings that lack images."""
        return self._redis.hlen(self._skipped)

    # -- records kept as JSON ---------------------------------------------------------------------------------------

    def _kept(self, key: str, references: Sequence[str], kind: type[_Kept]) -> dict[str, _Kept]:
        if not references:
            return {}
        return _read(references, cast("list[bytes | None]", self._redis.hmget(key, list(references))), kind)

    def _keep(self, key: str, rows: Sequence[Reject | SkippedImages]) -> None:
        if rows:
            mapping: Any = {row.reference: msgspec.json.encode(row) for row in rows}
            self._redis.hset(key, mapping=mapping)


def _read(references: Sequence[str], values: Sequence[bytes | None], kind: type[_Kept]) -> dict[str, _Kept]:
    pairs = zip(references, values, strict=True)
    return {name: msgspec.json.decode(value, type=kind) for name, value in pairs if value is not None}


def _split(joined: bytes) -> list[bytes]:
    return [joined[place : place + PACKED_BYTES] for place in range(0, len(joined), PACKED_BYTES)]


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _PER_STEP] for start in range(0, len(items), _PER_STEP))
