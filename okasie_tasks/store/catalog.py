"""The catalogue in Redis: title and VIN of each listing that was decoded, for searching and for display.

Keys: ``{prefix}catalog:{account}`` (hash: shelf -> packed titles, see `okasie_tasks.core.catalog`; ``whole``: the rows
from before the catalogue have been decoded once; ``new:{shelf}``: see `okasie_tasks.sync.titles`), and
``{prefix}dealers:{account}`` (hash: a dealer's fingerprint -> its code). Nothing of it is needed to send a listing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha1
from typing import Any, Final, cast

import redis

from okasie_tasks.core.catalog import Titled, pack_shelf, shelf_of, shelf_text, unpack_shelf
from okasie_tasks.store.scripts import script

_WHOLE: Final = "whole"
_NEW: Final = "new:"
_PER_TRIP: Final = 16
"""Shelves read in one round trip."""


class Catalog:
    """One account's catalogue. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._redis = client
        self._hash, self._dealers = f"{prefix}catalog:{account}", f"{prefix}dealers:{account}"
        self._swap = script(client, "catalog_swap")

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, rows: Mapping[str, Titled | None]) -> None:
        """Write titles, or remove them for None. A shelf without a change is not written."""
        by_shelf: dict[int, dict[str, Titled | None]] = defaultdict(dict)
        for reference, row in rows.items():
            by_shelf[shelf_of(reference)][reference] = row
        while by_shelf:
            some = dict(list(by_shelf.items())[:_PER_TRIP])
            held = dict(zip(some, self._read(list(some)), strict=True))
            changes = []
            for shelf, new in some.items():
                known = unpack_shelf(held[shelf])
                if any(known.get(name) != row for name, row in new.items()):
                    left = {name: row for name, row in (known | new).items() if row is not None}
                    changes.append((shelf, held[shelf], pack_shelf(left)))
            lost = set(self._write(changes))
            by_shelf = {shelf: new for shelf, new in by_shelf.items() if shelf in lost or shelf not in some}

    def _write(self, changes: Sequence[tuple[int, bytes, bytes]]) -> list[int]:
        """Write ``(shelf, value as read, new value)``; returns the shelves that another process changed since."""
        pipe = self._redis.pipeline(transaction=False)
        for shelf, old, new in changes:
            digest = sha1(old, usedforsecurity=False).hexdigest() if old else ""
            self._swap(keys=[self._hash], args=[shelf, digest, new], client=pipe)
        return [shelf for (shelf, _, _), written in zip(changes, pipe.execute(), strict=True) if not written]

    def note_dealers(self, codes: Mapping[bytes, str]) -> None:
        """Keep the code of each dealer: fingerprint -> code or profile."""
        if codes:
            self._redis.hset(self._dealers, mapping=cast("dict[Any, Any]", codes))

    @property
    def is_whole(self) -> bool:
        """Whether a run has decoded every row of the source since there is a catalogue."""
        return bool(self._redis.hexists(self._hash, _WHOLE))

    def mark_whole(self) -> None:
        self._redis.hset(self._hash, _WHOLE, "1")

    # -- names without a ledger entry --------------------------------------------------------------------------------

    def mark_new(self, shelves: Iterable[int]) -> None:
        """Mark shelves that got a name without a ledger entry: it may vanish from the source before it is sent."""
        if marks := {f"{_NEW}{shelf}": "1" for shelf in shelves}:
            self._redis.hset(self._hash, mapping=cast("dict[Any, Any]", marks))

    def unmark_new(self, shelves: Collection[int]) -> None:
        if shelves:
            self._redis.hdel(self._hash, *(f"{_NEW}{shelf}" for shelf in shelves))

    def marked_new(self, shelves: Sequence[int]) -> list[int]:
        """Return which of these shelves are marked."""
        marks = cast("list[bytes | None]", self._redis.hmget(self._hash, [f"{_NEW}{shelf}" for shelf in shelves]))
        return [shelf for shelf, mark in zip(shelves, marks, strict=True) if mark]

    def shelves(self, shelves: Sequence[int]) -> Iterator[tuple[int, dict[str, Titled]]]:
        """Yield these shelves with their titles."""
        for start in range(0, len(shelves), _PER_TRIP):
            some = shelves[start : start + _PER_TRIP]
            yield from zip(some, map(unpack_shelf, self._read(some)), strict=True)

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, references: Sequence[str]) -> dict[str, Titled]:
        """Return the titles of these references, without unknown ones."""
        wanted: dict[int, list[str]] = defaultdict(list)
        for reference in references:
            wanted[shelf_of(reference)].append(reference)
        found: dict[str, Titled] = {}
        for shelf, rows in self.shelves(list(wanted)):
            found |= {name: rows[name] for name in wanted[shelf] if name in rows}
        return found

    def texts(self, shelves: range) -> list[str]:
        """Return the lines of these shelves, as `core.catalog.shelf_text` returns them."""
        return [shelf_text(value) for value in self._read(shelves)]

    def dealers(self) -> dict[bytes, str]:
        """Return the code of each dealer by its fingerprint."""
        held = cast("dict[bytes, bytes]", self._redis.hgetall(self._dealers))
        return {key: code.decode() for key, code in held.items()}

    def _read(self, shelves: Iterable[int]) -> list[bytes]:
        values = cast("list[bytes | None]", self._redis.hmget(self._hash, [str(shelf) for shelf in shelves]))
        return [value or b"" for value in values]
