"""What other applications asked for: written down before its message is sent, so that a lost message is found.

Keys, both under the configured prefix::

    outbox       hash   task id -> JSON: task, kwargs, at_ms, expires_ms
    outbox:sent  zset   task id -> when its message was last sent (ms, Redis time)
    outbox:taken:{task id}  string  it was taken up, kept for half a day: its message may come again

Whoever takes the message up crosses it out; what stays is sent again by the watchdog, under the same task id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec
import redis

TASKS: Final = frozenset({"okasie.sync", "okasie.push", "okasie.sell"})
_PER_LOOK: Final = 200
_KEEP_SECONDS: Final = 12 * 3600


class OutboxEntry(msgspec.Struct, frozen=True):
    """One request; times in ms since the epoch, Redis time. After ``expires_ms`` nobody wants it any more."""

    task: str
    kwargs: dict[str, Any]
    at_ms: int
    expires_ms: int


class Outbox:
    """All applications' requests that no worker has taken up yet."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._entries, self._sent, self._taken = f"{prefix}outbox", f"{prefix}outbox:sent", f"{prefix}outbox:taken:"

    def taken(self, task_id: str) -> None:
        """Cross a request out: what it asks for is written down elsewhere by now, or was refused."""
        pipe = self._redis.pipeline()
        pipe.hdel(self._entries, task_id)
        pipe.zrem(self._sent, task_id)
        pipe.set(self._taken + task_id, "1", ex=_KEEP_SECONDS)
        pipe.execute()

    def was_taken(self, task_id: str) -> bool:
        """Whether this very request was taken up before: what is asked for once is done once."""
        return bool(self._redis.exists(self._taken + task_id))

    def lost(self, now_ms: int, *, after_seconds: float) -> Iterator[tuple[str, OutboxEntry]]:
        """Requests whose message was sent so long ago, as ``(task id, request)``; they count as sent again now."""
        before = now_ms - int(after_seconds * 1000)
        found = cast("list[bytes]", self._redis.zrangebyscore(self._sent, "-inf", before, start=0, num=_PER_LOOK))
        for task_id in (name.decode() for name in found):
            entry = _read(cast("bytes | None", self._redis.hget(self._entries, task_id)))
            if entry is None or entry.expires_ms <= now_ms:
                self.taken(task_id)
                continue
            # Not if it was taken up in between.
            self._redis.zadd(self._sent, {task_id: now_ms}, xx=True)
            yield task_id, entry


def _read(raw: bytes | None) -> OutboxEntry | None:
    """What cannot be read was not written by a client of ours; nobody can be told."""
    try:
        entry = msgspec.json.decode(raw or b"", type=OutboxEntry)
    except msgspec.MsgspecError:
        return None
    return entry if entry.task in TASKS else None
