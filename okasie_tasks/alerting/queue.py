"""The queue of alerts in Redis: any number of senders, each alert sent once, and a limited number of messages.

Keys, under ``{prefix}alerts:``: ``ended`` (list: runs whose end may cause an alert, from ``run_end.lua``), ``due``
(zset: slot -> ms), ``waits`` (hash: slot -> key, alert, count, tries), ``last`` (hash: slot -> when the last one was
sent, and its key), ``hour`` (zset: messages of the last hour), ``since`` (hash: account -> when it was first checked),
``look:...`` (string: the worker that detects alerts). A slot is ``"channel kind account"``.
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
"""Longer than any channel can take to send."""


class ClaimedAlert(NamedTuple):
    """An alert to be sent now. ``merged``: how many alerts it replaces, itself included; ``tries``: earlier tries."""

    slot: str
    key: str
    alert: Alert
    merged: int
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

    def claim_detection(self, what: str, token: str, *, seconds: float) -> bool:
        """Claim detecting ``what`` for this many seconds; False while another worker has claimed it."""
        return bool(self._redis.set(f"{self._base}look:{what}", token, nx=True, px=max(1, int(seconds * 1000))))

    def ended(self, most: int = 50) -> list[str]:
        """Ended runs that were not checked yet, oldest first."""
        runs = cast("list[bytes]", self._redis.lrange(f"{self._base}ended", 0, most - 1))
        return [run.decode() for run in runs]

    def remove_ended(self, run: str) -> None:
        """Remove a run from the ended ones, once its alert is queued or it needs none."""
        self._redis.lrem(f"{self._base}ended", 0, run)

    def watched_since_ms(self, account: str, now_ms: int) -> int:
        """When the account was first checked: it cannot count as stale for the time before."""
        key = f"{self._base}since"
        self._redis.hsetnx(key, account, str(now_ms))
        return int(cast("bytes | None", self._redis.hget(key, account)) or now_ms)

    def put(self, alert: Alert, channels: Sequence[str]) -> bool:
        """Queue an alert for these channels; False when all of them have it already."""
        raw = msgspec.json.encode(alert)
        added = [
            self._raise(
                keys=[self._base + name for name in ("due", "waits", "last")],
                args=[f"{channel} {alert.kind} {alert.account}", alert.key, raw, self._every_ms],
            )
            for channel in channels
        ]
        return any(added)

    def claim_next(self) -> ClaimedAlert | None:
        """Claim the next due alert for a minute. Call `finish` or `retry_later` afterwards."""
        keys = [self._base + name for name in ("due", "waits", "hour")]
        reply = self._take(keys=keys, args=[self._most, _LEASE_MS])
        if reply is None:
            return None
        slot, key, raw, count, tries = reply
        alert = msgspec.json.decode(raw, type=Alert)
        return ClaimedAlert(slot.decode(), key.decode(), alert, int(count), int(tries))

    def finish(self, claimed: ClaimedAlert) -> None:
        """Remove an alert that was sent or given up."""
        self._settle(claimed, "over")

    def retry_later(self, claimed: ClaimedAlert, *, seconds: float) -> None:
        """Make the alert due again after ``seconds``."""
        self._settle(claimed, str(int(seconds * 1000)))

    def waiting(self) -> list[tuple[str, int, int, int]]:
        """The pending alerts, next first: ``(slot, due in ms since the epoch, merged alerts, tries)``."""
        due = cast("list[tuple[bytes, float]]", self._redis.zrange(f"{self._base}due", 0, -1, withscores=True))
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._base}waits"))
        entries = [(slot, int(ms), msgspec.json.decode(raw[slot])) for slot, ms in due if slot in raw]
        return [(slot.decode(), ms, int(entry["count"]), int(entry["tries"])) for slot, ms, entry in entries]

    def _settle(self, claimed: ClaimedAlert, what: str) -> None:
        keys = [self._base + name for name in ("due", "waits", "last")]
        self._done(keys=keys, args=[claimed.slot, claimed.key, claimed.merged, what, self._every_ms])
