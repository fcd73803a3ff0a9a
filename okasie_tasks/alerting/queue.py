"""Alerts that wait to be sent, in Redis: any number of senders, each alert once, no more than people can read.

Keys, under ``{prefix}alerts:``: ``ended`` (list: runs that ended in a way that people should know, written by
``run_end.lua``), ``due`` (zset: slot -> ms), ``waits`` (hash: slot -> key, alert, count, tries), ``last`` (hash: slot
-> when the last one went out, and its key), ``hour`` (zset: messages of the last hour), ``since`` (hash: account ->
when it was first looked at), ``look:...`` (string: who looks now). A slot is ``"channel kind account"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec
import redis

from okasie_tasks.alerting.rules import Alert
from okasie_tasks.settings import AlertSettings
from okasie_tasks.store.scripts import script

_LEASE_MS: Final = 60_000
"""Longer than any channel may take to send."""


class Taken(NamedTuple):
    """An alert to be sent now. ``stands_for``: so many alerts; ``tries``: how often it was tried before."""

    slot: str
    key: str
    alert: Alert
    stands_for: int
    tries: int

    @property
    def channel(self) -> str:
        return self.slot.split(" ", 1)[0]


class AlertQueue:
    """All accounts' alerts."""

    def __init__(self, client: redis.Redis, *, prefix: str, settings: AlertSettings) -> None:
        self._redis = client
        self._base = f"{prefix}alerts:"
        self._every_ms, self._most = int(settings.every.total_seconds() * 1000), settings.max_per_hour
        self._raise, self._take, self._done = (script(client, f"alert_{name}") for name in ("raise", "take", "done"))

    def looks(self, what: str, token: str, *, seconds: float) -> bool:
        """Become the one of the fleet who looks for ``what`` for so long; False while somebody else is."""
        return bool(self._redis.set(f"{self._base}look:{what}", token, nx=True, px=max(1, int(seconds * 1000))))

    def ended(self, most: int = 50) -> list[str]:
        """Runs that ended and were not looked at yet, oldest first."""
        found = cast("list[bytes]", self._redis.lrange(f"{self._base}ended", 0, most - 1))
        return [run.decode() for run in found]

    def seen(self, run: str) -> None:
        """Its alert is raised, or there is none."""
        self._redis.lrem(f"{self._base}ended", 0, run)

    def first_looked_ms(self, account: str, now_ms: int) -> int:
        """Since when the account is looked at: before that nothing is known to be late."""
        key = f"{self._base}since"
        self._redis.hsetnx(key, account, str(now_ms))
        return int(cast("bytes | None", self._redis.hget(key, account)) or now_ms)

    def put(self, alert: Alert, channels: Sequence[str]) -> bool:
        """Have it sent by these channels; False when it is known in all of them."""
        raw = msgspec.json.encode(alert)
        news = [
            self._raise(
                keys=[self._base + name for name in ("due", "waits", "last")],
                args=[f"{channel} {alert.kind} {alert.account}", alert.key, raw, self._every_ms],
            )
            for channel in channels
        ]
        return any(news)

    def take(self) -> Taken | None:
        """The next one that is due, for a minute; tell `over` or `again`."""
        keys = [self._base + name for name in ("due", "waits", "hour")]
        found = self._take(keys=keys, args=[self._most, _LEASE_MS])
        if found is None:
            return None
        slot, key, raw, count, tries = found
        alert = msgspec.json.decode(raw, type=Alert)
        return Taken(slot.decode(), key.decode(), alert, int(count), int(tries))

    def over(self, taken: Taken) -> None:
        """It was sent, or given up."""
        self._tell(taken, "over")

    def again(self, taken: Taken, *, seconds: float) -> None:
        """It is to be tried again after so long."""
        self._tell(taken, str(int(seconds * 1000)))

    def waiting(self) -> list[tuple[str, int, int, int]]:
        """What waits: ``(slot, due in ms since the epoch, alerts it stands for, tries)``, next first."""
        due = cast("list[tuple[bytes, float]]", self._redis.zrange(f"{self._base}due", 0, -1, withscores=True))
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._base}waits"))
        found = [(slot, int(ms), msgspec.json.decode(raw[slot])) for slot, ms in due if slot in raw]
        return [(slot.decode(), ms, int(waits["count"]), int(waits["tries"])) for slot, ms, waits in found]

    def _tell(self, taken: Taken, what: str) -> None:
        keys = [self._base + name for name in ("due", "waits", "last")]
        self._done(keys=keys, args=[taken.slot, taken.key, taken.stands_for, what, self._every_ms])
