"""Failovers of Redis: when another server took over, and since when it may lack writes that the old one confirmed.

Replication is asynchronous: a replica that becomes the master may lack the last writes, of the ledger too. Each worker
notes the master's process, its replication id and the time every few seconds. If another process is the master, or the
same one after it was a replica, the noted time is from before the first lost write.

Keys: ``{prefix}master`` (hash: ``id``, ``run``, ``at_ms``) and ``{prefix}failovers`` (zset: interval -> its end).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import redis
from redis.sentinel import SentinelConnectionPool

from okasie_tasks.store.scripts import redis_now_ms, script

_KEEP: Final = 20


class LostInterval(NamedTuple):
    """Writes between these moments (ms, Redis time) may be missing from the ledger."""

    from_ms: int
    until_ms: int


class Failovers:
    """The failovers of the server behind ``client``."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._keys = [f"{prefix}master", f"{prefix}failovers"]
        self._behind_sentinels = isinstance(client.connection_pool, SentinelConnectionPool)
        self._seen = script(client, "master_seen")

    def look(self) -> list[LostInterval]:
        """Note the master, and return the last failovers, oldest first."""
        sentinels = "1" if self._behind_sentinels else ""
        found = self._seen(keys=self._keys, args=[redis_now_ms(self._redis), sentinels, _KEEP])
        return _intervals(found)

    def noticed(self) -> list[LostInterval]:
        """Return the failovers that workers have noticed; only reads, also on a full server."""
        return _intervals(self._redis.zrange(self._keys[1], 0, -1))

    def since(self, since_ms: int, *, look: bool = True) -> LostInterval | None:
        """Return one interval from the first loss to the last of the failovers noticed since then; None without any."""
        recent = [lost for lost in (self.look() if look else self.noticed()) if lost.until_ms >= since_ms]
        if not recent:
            return None
        return LostInterval(min(lost.from_ms for lost in recent), recent[-1].until_ms)


def _intervals(members: Any) -> list[LostInterval]:
    return [LostInterval(*map(int, member.split())) for member in cast("list[bytes]", members)]
