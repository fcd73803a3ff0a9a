"""The workers that are running, by their heartbeats.

Key, under the configured prefix::

    workers  hash  the worker's name -> JSON of `WorkerRecord`; removed when it stops, or by a reader after an hour
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import msgspec
import redis

from okasie_tasks.store.scripts import redis_now_ms

HEARTBEAT_SECONDS: Final = 5.0
_LIVE_MS: Final = 20_000
"""Three heartbeats may be late."""
_VANISHED_MS: Final = 60_000
_FORGET_MS: Final = 3_600_000


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker's heartbeat. ``configuration``: the hash of what it loaded. ``at_ms``: Redis time.

    ``problem``: what it found wrong with itself, such as a stuck slot; "" if nothing. Releases before 0.2 write neither
    this nor ``version``.
    """

    name: str
    queues: tuple[str, ...]
    configuration: str
    at_ms: int
    version: str = ""
    problem: str = ""


class Workers:
    """The heartbeats of the fleet. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis, self._key = client, f"{prefix}workers"

    def beat(
        self, name: str, queues: Sequence[str], configuration: str, *, version: str = "", problem: str = ""
    ) -> None:
        record = WorkerRecord(name, tuple(queues), configuration, redis_now_ms(self._redis), version, problem)
        self._redis.hset(self._key, name, msgspec.json.encode(record).decode())

    def stopped(self, name: str) -> None:
        self._redis.hdel(self._key, name)

    def live(self) -> list[WorkerRecord]:
        """Return the workers with a recent heartbeat, by name."""
        now_ms = redis_now_ms(self._redis)
        raws = cast("dict[bytes, bytes]", self._redis.hgetall(self._key))
        records = sorted(
            (msgspec.json.decode(raw, type=WorkerRecord) for raw in raws.values()), key=lambda record: record.name
        )
        for record in records:
            if now_ms - record.at_ms > _FORGET_MS:
                self.stopped(record.name)
        return [record for record in records if now_ms - record.at_ms <= _LIVE_MS]

    def vanished(self) -> list[WorkerRecord]:
        """Return the workers whose heartbeats stopped more than a minute ago, without a shutdown, by name.

        A supervisor has started a worker again by then, under the same name. They are forgotten after an hour.
        """
        now_ms = redis_now_ms(self._redis)
        raws = cast("dict[bytes, bytes]", self._redis.hgetall(self._key))
        records = (msgspec.json.decode(raw, type=WorkerRecord) for raw in raws.values())
        gone = (record for record in records if _VANISHED_MS < now_ms - record.at_ms <= _FORGET_MS)
        return sorted(gone, key=lambda record: record.name)
