"""Requests that the workers discarded: counted by cause, the newest kept for `okasie status`.

Keys, both under the configured prefix::

    discarded        list  JSON of `DiscardedRequest`, the newest 100, newest first; removed a week after the last one
    discarded:total  hash  cause -> how many were ever discarded
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, cast

import msgspec
import redis

from okasie_tasks.masking import clean, mask
from okasie_tasks.store.scripts import redis_now_ms

KEEP_REQUESTS: Final = 100
_KEEP_SECONDS: Final = 7 * 24 * 3600
_REASON_CHARACTERS: Final = 300
_ACCOUNT_CHARACTERS: Final = 60

Cause = Literal["expired", "unreadable", "unknown_account"]
CAUSES: Final[tuple[Cause, ...]] = ("expired", "unreadable", "unknown_account")
"""No worker took it up in time; its entry in the outbox cannot be read; a worker's configuration lacks the account."""


class DiscardedRequest(msgspec.Struct, frozen=True):
    """One request. ``at_ms``: when it was discarded, Redis time. ``task`` and ``account``: "" if unknown."""

    cause: Cause
    task: str
    task_id: str
    account: str
    at_ms: int
    reason: str


class DiscardedSummary(NamedTuple):
    """``totals``: how many were ever discarded, by cause. ``last``: the newest, newest first."""

    totals: dict[str, int]
    last: list[DiscardedRequest]


class DiscardedRequests:
    """The fleet's discarded requests. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._requests, self._totals = f"{prefix}discarded", f"{prefix}discarded:total"

    def add(self, cause: Cause, *, task: str, task_id: str, account: str, reason: str) -> None:
        """Count a request that is not executed, and keep it with its reason. Texts are cleaned, masked and cut."""
        entry = DiscardedRequest(
            cause=cause,
            task=task,
            task_id=clean(task_id)[:_ACCOUNT_CHARACTERS],
            account=clean(mask(account))[:_ACCOUNT_CHARACTERS],
            at_ms=redis_now_ms(self._redis),
            reason=clean(mask(reason))[:_REASON_CHARACTERS],
        )
        pipe = self._redis.pipeline()
        pipe.lpush(self._requests, msgspec.json.encode(entry))
        pipe.ltrim(self._requests, 0, KEEP_REQUESTS - 1)
        pipe.expire(self._requests, _KEEP_SECONDS)
        pipe.hincrby(self._totals, cause, 1)
        pipe.execute()

    def totals(self) -> dict[str, int]:
        """Return how many were ever discarded, by cause, all of `CAUSES`."""
        counts = cast("dict[bytes, bytes]", self._redis.hgetall(self._totals))
        return {cause: int(counts.get(cause.encode(), 0)) for cause in CAUSES}

    def summary(self, limit: int) -> DiscardedSummary:
        """Return the counts, and the last ``limit`` requests."""
        raws = cast("list[bytes]", self._redis.lrange(self._requests, 0, limit - 1))
        return DiscardedSummary(self.totals(), [msgspec.json.decode(raw, type=DiscardedRequest) for raw in raws])
