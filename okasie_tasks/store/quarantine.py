"""Malformed messages, taken out of the queues and kept for inspection.

Keys, both under the configured prefix::

    quarantine        list    JSON of `QuarantinedMessage`, the newest 1,000, newest first
    quarantine:total  string  how many were ever moved here
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

import msgspec
import redis

from okasie_tasks.masking import mask
from okasie_tasks.store.scripts import redis_now_ms

KEEP_MESSAGES: Final = 1_000
KEEP_CHARACTERS: Final = 4_096
_REASON_CHARACTERS: Final = 300


class QuarantinedMessage(msgspec.Struct, frozen=True):
    """One message: the queue it came from, when (ms, Redis time), what is wrong, its size, and its beginning.

    ``reason`` and ``message`` are masked ASCII; other characters and line breaks are written as escapes.
    """

    queue: str
    at_ms: int
    reason: str
    bytes: int
    message: str


class QuarantineSummary(NamedTuple):
    """``total``: how many were ever quarantined. ``last``: the newest, newest first."""

    total: int
    last: list[QuarantinedMessage]


class Quarantine:
    """The fleet's quarantine. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._messages, self._total = f"{prefix}quarantine", f"{prefix}quarantine:total"

    def add(self, queue: str, raw: bytes, reason: str) -> QuarantinedMessage:
        """Store a message and its reason, drop the oldest beyond `KEEP_MESSAGES`, and return what is stored."""
        now_ms, why = redis_now_ms(self._redis), _clean(reason, _REASON_CHARACTERS)
        entry = QuarantinedMessage(queue, now_ms, why, len(raw), _beginning(raw))
        pipe = self._redis.pipeline()
        pipe.lpush(self._messages, msgspec.json.encode(entry))
        pipe.ltrim(self._messages, 0, KEEP_MESSAGES - 1)
        pipe.incr(self._total)
        pipe.execute()
        return entry

    def total(self) -> int:
        return int(cast("bytes | None", self._redis.get(self._total)) or 0)

    def summary(self, limit: int) -> QuarantineSummary:
        """Return the count, and the last ``limit`` messages."""
        raws = cast("list[bytes]", self._redis.lrange(self._messages, 0, limit - 1))
        return QuarantineSummary(self.total(), [msgspec.json.decode(raw, type=QuarantinedMessage) for raw in raws])


def _beginning(raw: bytes) -> str:
    return _clean(raw[: 2 * KEEP_CHARACTERS].decode("utf-8", "backslashreplace"), KEEP_CHARACTERS)


def _clean(text: str, longest: int) -> str:
    """Return the beginning of a text as masked ASCII. Masked before it is cut: half a secret is not recognised."""
    return ascii(mask(text))[1:-1][:longest]
