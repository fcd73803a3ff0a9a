"""The rows of both sides that equalled their ledger entries when they were last read, so that they need no decoding.

Keys, under the configured prefix::

    pages:{account}    hash  page of the list -> version, number of the run that noted it, 8 bytes a row; ``from``
    rows:{account}     hash  block of the source -> see `okasie_tasks.core.row_cache`; ``from``
    seals:{account}    hash  partition -> `Seal`; ``from``
    touched:{account}  hash  key of a reference (`core.records.hash8`) -> number of the run that had begun last when its
                             ledger entry was last written; see ``ledger_swap.lua``
    account:{account}  hash  ``entries``: how many entries the ledger has got

A known row is trusted only while its entry has not been touched since the run that noted the row began, and a seal
while none of its partition's has. What older runs than the one in ``from`` noted is not trusted at all, since what was
touched before it is forgotten. All of it is a cache: without it, rows are decoded and compared. Entries are never
deleted, so it is worth nothing once the ledger has fewer than it got.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast

import msgspec
import redis

from okasie_tasks import __version__
from okasie_tasks.core.records import partition_of_hash
from okasie_tasks.store.parts import Noted
from okasie_tasks.store.scripts import script

_WIDTH: Final = 8
_HEAD: Final = 2 * _WIDTH
"""Version and number of the run, before the rows of a page; a block begins in the same way."""
_FROM: Final = "from"
_ENTRIES: Final = "entries"
"""Counted by ``ledger_swap.lua`` from when it is set."""
_MOST_TOUCHED_PERCENT: Final = 25
"""If a run leaves more of the ledger's entries touched, the next one decodes everything instead."""
_FEW: Final = 1_000
_MOST_UNDER_SEALS: Final = 20_000
"""Each partition of some 10,000 rows reads all that was touched."""
_PER_TRIP: Final = 2_000
_PAGES_PER_TRIP: Final = 16
"""About 25 KB. Two workers share the pages of a walk, so each uses half of them."""


class KnownPage(NamedTuple):
    """The rows of some pages. ``number``: of the oldest run that noted them. ``rows``: hashes of their bytes."""

    number: int = 0
    rows: frozenset[bytes] = frozenset()


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """What a full run found of the ledger entries of one partition; see `okasie_tasks.sync.seals`.

    ``number``: of that run. ``partitions``: into how many it divided the references. ``keys``: the number of settled
    entries, and the sum of their keys, see `okasie_tasks.core.records.sum_of`. ``settled``: how many of them have which
    bytes (`okasie_tasks.core.ledger_entry.SHARED`). ``others``: the references of the other entries.
    """

    number: int
    partitions: int
    keys: tuple[int, int]
    settled: list[tuple[bytes, int]]
    others: list[str]


class KnownRows:
    """One account's known rows. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._redis = client
        self._pages, self._rows = f"{prefix}pages:{account}", f"{prefix}rows:{account}"
        self._seals, self._account = f"{prefix}seals:{account}", f"{prefix}account:{account}"
        self.touched_key = f"{prefix}touched:{account}"
        self._written = script(client, "known_written")
        self._nearby: tuple[tuple[str, int], dict[int, bytes]] = (("", 0), {})
        """Run and number of the pages that were looked up last, and their notes. Threads replace both at once."""

    # -- entries that were written -----------------------------------------------------------------------------------

    def written_since(self, number: int, keys: Collection[bytes]) -> set[bytes]:
        """Return those of the keys, and maybe others, whose entries were written since run ``number`` began."""
        if not keys:
            return set()
        if (touched := self._touched(len(keys))) is not None:
            return {key for key, value in touched.items() if int(value) >= number}
        names = list(keys)
        values = cast("list[bytes | None]", self._redis.hmget(self.touched_key, cast("Any", names)))
        return {key for key, value in zip(names, values, strict=True) if value is not None and int(value) >= number}

    def _touched(self, most: int) -> dict[bytes, bytes] | None:
        """Return all that was touched, key -> number, or None if that is more than ``most``."""
        found = cast("list[bytes] | None", self._written(keys=[self.touched_key], args=[most]))
        return None if found is None else dict(zip(found[::2], found[1::2], strict=True))

    def prune(self, number: int, *, entries: int) -> None:
        """Forget what only matters to notes from before run ``number``, after a run that noted everything anew.

        ``entries``: of the ledger.
        """
        if self._redis.hlen(self.touched_key) > max(_FEW, entries * _MOST_TOUCHED_PERCENT // 100):
            self.forget()
            return
        for key in (self._pages, self._rows, self._seals):
            self._redis.hset(key, _FROM, number)
        gone: list[bytes] = []
        for key, value in cast("Any", self._redis.hscan_iter(self.touched_key, count=_PER_TRIP)):
            if int(value) < number:
                gone.append(key)
        for start in range(0, len(gone), _PER_TRIP):
            self._redis.hdel(self.touched_key, *cast("Any", gone[start : start + _PER_TRIP]))

    def check(self, count: Callable[[], int]) -> None:
        """Forget all if the ledger has fewer entries than it got: some of them were lost. ``count`` counts them."""
        # First, since others may write new entries meanwhile.
        got = cast("bytes | None", self._redis.hget(self._account, _ENTRIES))
        entries = count()
        if got is None or entries < int(got):
            self.forget()
        if got is None or entries != int(got):
            self._redis.hset(self._account, _ENTRIES, entries)

    def forget(self) -> None:
        """Forget all known rows and seals, then what was touched."""
        self._redis.unlink(self._pages, self._rows, self._seals)
        self._redis.unlink(self.touched_key)

    # -- partitions in which nothing changed -------------------------------------------------------------------------

    def seal(self, partition: int, partitions: int) -> Seal | None:
        """Return the seal of a partition, or None if it has none for so many partitions. See `holds`."""
        first, value = cast("list[bytes | None]", self._redis.hmget(self._seals, [_FROM, str(partition)]))
        if value is None:
            return None
        seal = msgspec.msgpack.decode(value, type=Seal)
        return seal if seal.number >= int(first or 0) and seal.partitions == partitions else None

    def holds(self, seal: Seal, partition: int, *, but: frozenset[bytes] = frozenset()) -> bool:
        """Return whether no entry of the partition was written since it was sealed. ``but``: keys that may have been.

        False if so much was written that a look costs more than it saves.
        """
        touched = self._touched(_MOST_UNDER_SEALS)
        if touched is None:
            return False
        written = (key for key, number in touched.items() if int(number) >= seal.number and key not in but)
        return not any(partition_of_hash(key, seal.partitions) == partition for key in written)

    def keep_seal(self, partition: int, seal: Seal) -> None:
        self._redis.hset(self._seals, str(partition), cast("Any", msgspec.msgpack.encode(seal)))

    # -- the marketplace's pages -------------------------------------------------------------------------------------

    def page(self, page: int, *, provider: str, run: str) -> KnownPage:
        """Return the known rows of a page and of those beside it: rows move when listings come and go.

        ``run``: that reads them. What it has noted itself may be left out.
        """
        nearby, head = self._pages_near(page, run), _version(provider)
        values = [nearby.get(number, b"") for number in (page - 1, page, page + 1)]
        kept = [(_number(value), value) for value in values if value.startswith(head)]
        if not kept:
            return KnownPage()
        rows = frozenset(value[at : at + _WIDTH] for _, value in kept for at in range(_HEAD, len(value), _WIDTH))
        return KnownPage(min(number for number, _ in kept), rows)

    def _pages_near(self, page: int, run: str) -> dict[int, bytes]:
        """Return the notes of some pages, of this one and those beside it among them: one trip to Redis for all."""
        shelf = (run, page // _PAGES_PER_TRIP)
        found, notes = self._nearby
        if found != shelf:
            begin = shelf[1] * _PAGES_PER_TRIP
            numbers = range(begin - 1, begin + _PAGES_PER_TRIP + 1)
            first, *values = cast("list[bytes | None]", self._redis.hmget(self._pages, [_FROM, *map(str, numbers)]))
            known = {number: value for number, value in zip(numbers, values, strict=True) if value is not None}
            notes = {number: value for number, value in known.items() if _number(value) >= int(first or 0)}
            self._nearby = (shelf, notes)
        return notes

    def noted_page(self, page: int, number: int, rows: Sequence[bytes], *, provider: str) -> Noted:
        """Return what to store of the rows of a page. ``number``: of the run that read it."""
        return Noted(self._pages, str(page), _version(provider) + number.to_bytes(_WIDTH, "big") + b"".join(rows))

    # -- the source's blocks -----------------------------------------------------------------------------------------

    def block(self, number: int) -> bytes:
        """Return the cached rows of one block of the source; see `okasie_tasks.core.row_cache`."""
        first, value = cast("list[bytes | None]", self._redis.hmget(self._rows, [_FROM, str(number)]))
        return value if value is not None and _number(value) >= int(first or 0) else b""

    def keep_block(self, number: int, packed: bytes) -> None:
        self._redis.hset(self._rows, str(number), cast("Any", packed))

    def forget_blocks(self, beyond: int) -> None:
        """Forget the blocks after the first ``beyond``: the source has become shorter."""
        names = cast("list[bytes]", self._redis.hkeys(self._rows))
        gone = [name for name in names if name != _FROM.encode() and int(name) >= beyond]
        if gone:
            self._redis.hdel(self._rows, *cast("Any", gone))


def _number(value: bytes) -> int:
    """Return the number of the run that noted a page or a block."""
    return int.from_bytes(value[_WIDTH:_HEAD], "big")


def _version(provider: str) -> bytes:
    """Return what the comparison of a row with its entry depends on, beside the two."""
    return blake2b(f"{__version__} {provider}".encode(), digest_size=_WIDTH).digest()
