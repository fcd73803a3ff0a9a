"""Requests of applications and commands, stored before their messages are sent, so that a lost message is detected.

Keys, both under the configured prefix::

    outbox       hash   task id -> JSON: task, kwargs, at_ms, expires_ms, perhaps traceparent
    outbox:sent  zset   task id -> when its message was last sent, or is to come back (ms, Redis time)
    outbox:taken:{task id}  string  it was picked up; kept for half a day, as its message may come again

The worker that picks a message up removes its entry. The watchdog sends the remaining ones again, under the same id.
`okasie_tasks.client.send_request` writes the entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import msgspec
import redis

TASKS: Final = frozenset({"okasie.sync", "okasie.push", "okasie.sell", "okasie.preview"})
_PER_LOOK: Final = 200
_KEEP_SECONDS: Final = 12 * 3600


class OutboxEntry(msgspec.Struct, frozen=True):
    """One request; times in ms since the epoch, Redis time. Not sent again after ``expires_ms``."""

    task: str
    kwargs: dict[str, Any]
    at_ms: int
    expires_ms: int
    traceparent: str = ""
    """The context of its trace; see `okasie_tasks.telemetry.tracing`."""


class Outbox:
    """All requests that no worker has picked up yet."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._entries, self._sent, self._taken = f"{prefix}outbox", f"{prefix}outbox:sent", f"{prefix}outbox:taken:"

    def taken(self, task_id: str) -> None:
        """Remove a request, because its work is recorded elsewhere or it was refused."""
        pipe = self._redis.pipeline()
        pipe.hdel(self._entries, task_id)
        pipe.zrem(self._sent, task_id)
        pipe.set(self._taken + task_id, "1", ex=_KEEP_SECONDS)
        pipe.execute()

    def waits(self, task_id: str, until_ms: int) -> None:
        """Record that a worker has the request, and that its message comes back then: until then it is not lost."""
        self._redis.zadd(self._sent, {task_id: until_ms}, xx=True, gt=True)

    def was_taken(self, task_id: str) -> bool:
        """Return whether this request was picked up before, so that it is done only once."""
        return bool(self._redis.exists(self._taken + task_id))

    def get(self, task_id: str) -> OutboxEntry | None:
        """Return a request that no worker has picked up, None if there is none."""
        return _read(cast("bytes | None", self._redis.hget(self._entries, task_id)))

    def lost(
        self,
        now_ms: int,
        *,
        after_seconds: float,
        discard: Callable[[str, OutboxEntry | None], object] = lambda *_: None,
    ) -> Iterator[tuple[str, OutboxEntry]]:
        """Yield ``(task id, request)`` of messages sent longer ago than this; they count as sent again now.

        A request that has expired, or that cannot be read (None), is removed and passed to ``discard``.
        """
        before = now_ms - int(after_seconds * 1000)
        names = cast("list[bytes]", self._redis.zrangebyscore(self._sent, "-inf", before, start=0, num=_PER_LOOK))
        for task_id in (name.decode() for name in names):
            entry = self.get(task_id)
            if entry is None or entry.expires_ms <= now_ms:
                self.taken(task_id)
                discard(task_id, entry)
                continue
            # Not if it was taken up in between.
            self._redis.zadd(self._sent, {task_id: now_ms}, xx=True)
            yield task_id, entry


def _read(raw: bytes | None) -> OutboxEntry | None:
    """Decode a request; None for one that no client of this project wrote."""
    try:
        entry = msgspec.json.decode(raw or b"", type=OutboxEntry)
    except msgspec.MsgspecError:
        return None
    return entry if entry.task in TASKS else None
