"""What a person stops: one run (`cancel`), or all work of an account (`pause`) until he lets it go on (`resume`).

Keys, all under the configured prefix::

    account:{a}:paused   string   since when (ms, Redis time); set by a person, taken away by a person, never runs out
    account:{a}          hash     resumed_ms: when the last pause ended
    run:{r}              hash     cancel_ms: when it was asked to end; its parts under way are finished first

Nothing may begin while one of them stands: `run_begin`, `part_claim` and `inbox_lead` look in the very step in which
they hand work out, and `rests` is asked before parts are published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import redis

from okasie_tasks.adapters.lua_scripts import script

_KEEP_RUN_SECONDS: Final = 30 * 86_400


class Stops:
    """All accounts' pauses and the runs that are to end."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._cancel = script(client, "run_cancel")

    # -- an account ------------------------------------------------------------------------------------------------

    def pause(self, account: str) -> int:
        """Stop the account's work; returns since when it rests (ms): a second pause changes nothing."""
        self._redis.set(paused_key(self._prefix, account), self._now_ms(), nx=True)
        return self.paused_ms(account)

    def resume(self, account: str) -> int:
        """Let the account's work go on; returns since when it rested (ms), 0 if it did not."""
        since = cast("bytes | None", self._redis.getdel(paused_key(self._prefix, account)))
        if since:
            self._redis.hset(f"{self._prefix}account:{account}", "resumed_ms", str(self._now_ms()))
        return int(since or 0)

    def paused_ms(self, account: str) -> int:
        """Since when the account rests, in ms since the epoch; 0 when it works."""
        return int(cast("bytes | None", self._redis.get(paused_key(self._prefix, account))) or 0)

    def resumed_ms(self, account: str) -> int:
        """When the account's last pause ended, 0 when it never had one: until then nothing could be sent."""
        return int(cast("bytes | None", self._redis.hget(f"{self._prefix}account:{account}", "resumed_ms")) or 0)

    # -- a run -----------------------------------------------------------------------------------------------------

    def cancel(self, run: str, account: str) -> str:
        """Ask a run to end; returns the state it was in: a ``queued`` one has ended now, a ``running`` one will."""
        found = self._cancel(
            keys=[f"{self._prefix}run:{run}", f"{self._prefix}account:{account}:next"], args=[run, _KEEP_RUN_SECONDS]
        )
        return str(found.decode())

    def rests(self, run: str, account: str) -> bool:
        """Whether nothing of this run may be published now."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hexists(f"{self._prefix}run:{run}", "cancel_ms")
        pipe.exists(paused_key(self._prefix, account))
        return any(pipe.execute())

    def in_flight(self, run: str, stages: Sequence[str]) -> int:
        """How many parts of these stages somebody is working on at this moment, by their leases."""
        now_ms, found = self._now_ms(), 0
        for stage in stages:
            held = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._prefix}run:{run}:{stage}:parts"))
            claims = (value.split(b" ") for value in held.values() if value not in (b"D", b"F"))
            found += sum(int(claim[1]) > now_ms for claim in claims)
        return found

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return seconds * 1000 + micros // 1000


def paused_key(prefix: str, account: str) -> str:
    """The key whose presence means that the account rests."""
    return f"{prefix}account:{account}:paused"
