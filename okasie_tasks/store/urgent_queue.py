"""The urgent lane's queue: changes to send now, at most one per reference.

Keys, all under the configured prefix::

    urgent:{a}:changes   hash    reference -> packed `PendingChange`
    urgent:{a}:order    zset    reference -> when it was first accepted
    urgent:{a}:sender   string  token of the account's sender; it expires
    urgent:{a}:pushed   zset    reference -> when its last push by reference was requested, of the last two hours
    account:{a}:paused  string  see `okasie_tasks.store.controls`

A change is removed only after its response is in the ledger, and only if it has not been replaced. So a killed sender
loses nothing, and a change that arrives during the request is sent next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

import msgspec
import redis

from okasie_tasks.core.pending import PendingChange, merged
from okasie_tasks.store.controls import paused_key
from okasie_tasks.store.scripts import Command, script

SENDER_SECONDS: Final = 30.0
_KEEP_PUSHED_SECONDS: Final = 2 * 3600.0
"""Longer than a request may wait for a worker."""
_PER_TRIP: Final = 250


class UrgentQueue:
    """One account's urgent queue."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._redis = client
        base = f"{prefix}urgent:{account}:"
        self._changes, self._order, self._sender = f"{base}changes", f"{base}order", f"{base}sender"
        self._pushed = f"{base}pushed"
        self._paused = paused_key(prefix, account)
        self._swap, self._leave = script(client, "urgent_swap"), script(client, "urgent_leave")
        self._lead = script(client, "urgent_lead")

    # -- pending changes -------------------------------------------------------------------------------------------

    def put(self, pending: Iterable[PendingChange]) -> None:
        """Add changes; the newest per reference is kept."""
        left = {change.reference: change for change in pending}
        while left:
            held = self._raw(list(left))
            changes = [(held.get(name, b""), merged(_unpack(held.get(name)), change)) for name, change in left.items()]
            lost = set(self.swap(changes))
            left = {name: change for name, change in left.items() if name in lost}

    def swap(self, changes: Iterable[tuple[bytes, PendingChange]]) -> list[str]:
        """Write each change if the queue still holds the bytes as read; returns the references not written."""
        return self._write(
            (change.reference, old, msgspec.msgpack.encode(change), change.seen_ms) for old, change in changes
        )

    def take(self, done: Iterable[tuple[bytes, PendingChange]]) -> list[str]:
        """Remove finished changes; returns the references that have a newer change by now."""
        return self._write((change.reference, old, b"", 0) for old, change in done)

    def _write(self, changes: Iterable[tuple[str, bytes, bytes, int]]) -> list[str]:
        rows = list(changes)
        lost: list[str] = []
        for start in range(0, len(rows), _PER_TRIP):
            arguments = [value for row in rows[start : start + _PER_TRIP] for value in row]
            lost += [name.decode() for name in self._swap(keys=[self._changes, self._order], args=arguments)]
        return lost

    def row_gone(self, change: PendingChange) -> None:
        """Record that a source read older than this change lacked its row. A change that replaced it is newer."""
        # Compared as stored: another release may have written it with more fields, or with fewer.
        while (raw := self._raw([change.reference]).get(change.reference)) is not None:
            held = _unpack(raw)
            if held is None or held.row_gone or not self.swap([(raw, msgspec.structs.replace(held, row_gone=True))]):
                return

    def first(self, count: int) -> list[tuple[bytes, PendingChange]]:
        """Return the oldest changes, as ``(bytes as stored, change)``."""
        names = cast("list[bytes]", self._redis.zrange(self._order, 0, count - 1))
        held = self._raw([name.decode() for name in names])
        return [(raw, change) for raw in held.values() if (change := _unpack(raw)) is not None]

    def waiting(self, references: Sequence[str]) -> dict[str, PendingChange]:
        """Return the pending changes of these references."""
        held = self._raw(references)
        return self.unpacked(list(held), list(held.values()))

    def read_command(self, references: Sequence[str]) -> Command:
        """The command that reads the pending changes of these references, for `unpacked`."""
        return ("HMGET", self._changes, *references)

    @staticmethod
    def unpacked(references: Sequence[str], values: Sequence[bytes | None]) -> dict[str, PendingChange]:
        """Return the pending changes in a reply to that command."""
        pairs = zip(references, values, strict=True)
        return {name: change for name, raw in pairs if (change := _unpack(raw)) is not None}

    def count(self) -> int:
        return self._redis.zcard(self._order)

    def references(self) -> frozenset[str]:
        """The references that have a pending change."""
        return frozenset(name.decode() for name in cast("list[bytes]", self._redis.zrange(self._order, 0, -1)))

    def _raw(self, references: Sequence[str]) -> dict[str, bytes]:
        if not references:
            return {}
        values = cast("list[bytes | None]", self._redis.hmget(self._changes, list(references)))
        return {name: raw for name, raw in zip(references, values, strict=True) if raw is not None}

    # -- pushes by reference that were sent ------------------------------------------------------------------------

    def note_pushed(self, asked: Mapping[str, int], now_ms: int) -> None:
        """Note when these pushes were requested, for sells that were requested about then: see `core.pending`."""
        if asked:
            pipe = self._redis.pipeline()
            pipe.zadd(self._pushed, dict(asked), gt=True)
            pipe.zremrangebyscore(self._pushed, "-inf", now_ms - int(_KEEP_PUSHED_SECONDS * 1000))
            pipe.expire(self._pushed, int(_KEEP_PUSHED_SECONDS))
            pipe.execute()

    def pushed_ms(self, reference: str) -> int:
        """Return when the push by reference that was sent last was requested; 0 if none is known."""
        return int(self._redis.zscore(self._pushed, reference) or 0)

    # -- the sender ------------------------------------------------------------------------------------------------

    def lead(self, token: str) -> bool:
        """Become or stay the account's sender; False while another worker is, or while the account is paused."""
        return bool(self._lead(keys=[self._sender, self._paused], args=[token, int(SENDER_SECONDS * 1000)]))

    def leave(self, token: str, *, if_empty: bool) -> bool:
        """Stop being the sender; with ``if_empty`` only when nothing waits: False means that something does."""
        return bool(self._leave(keys=[self._sender, self._order], args=[token, "empty" if if_empty else ""]))

    def end_lead(self) -> None:
        """Let another caller become the sender. The present one notices it before its next request."""
        self._redis.delete(self._sender)

    def unattended(self, now_ms: int) -> bool:
        """Return whether a change is due without a sender, because the message that starts one was lost."""
        if self._redis.exists(self._sender, self._paused):
            return False
        return any(change.not_before_ms <= now_ms for _, change in self.first(_PER_TRIP))


def _unpack(raw: bytes | None) -> PendingChange | None:
    return None if raw is None else msgspec.msgpack.decode(raw, type=PendingChange)
