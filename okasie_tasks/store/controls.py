"""What a person stops: one run (`cancel`), or all work of an account (`pause`) until he lets it go on (`resume`).

Keys, all under the configured prefix::

    account:{a}:paused   string   since when (ms, Redis time); set by a person, taken away by a person, never runs out
    account:{a}          hash     resumed_ms: when the last pause ended
    run:{r}              hash     cancel_ms: when it was asked to end; its parts under way are finished first

Nothing may begin while one of them stands: `run_begin`, `part_claim` and `urgent_lead` look in the very step in which
they hand work out, and `rests` is asked before parts are published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

import msgspec
import redis

from okasie_tasks.core.guards import HeldPlan
from okasie_tasks.store.scripts import redis_now_ms, script

_KEEP_RUN_SECONDS: Final = 30 * 86_400


class Controls:
    """All accounts' pauses and the runs that are to end."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._cancel = script(client, "run_cancel")

    # -- an account ------------------------------------------------------------------------------------------------

    def pause(self, account: str) -> int:
        """Stop the account's work; returns since when it rests (ms): a second pause changes nothing."""
        self._redis.set(paused_key(self._prefix, account), redis_now_ms(self._redis), nx=True)
        return self.paused_ms(account)

    def resume(self, account: str) -> int:
        """Let the account's work go on; returns since when it rested (ms), 0 if it did not."""
        since = cast("bytes | None", self._redis.getdel(paused_key(self._prefix, account)))
        if since:
            self._redis.hset(f"{self._prefix}account:{account}", "resumed_ms", str(redis_now_ms(self._redis)))
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

    def is_stopped(self, run: str, account: str) -> bool:
        """Whether nothing of this run may be published now."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hexists(f"{self._prefix}run:{run}", "cancel_ms")
        pipe.exists(paused_key(self._prefix, account))
        return any(pipe.execute())

    def in_flight(self, run: str, stages: Sequence[str]) -> int:
        """How many parts of these stages somebody is working on at this moment, by their leases."""
        now_ms, found = redis_now_ms(self._redis), 0
        for stage in stages:
            held = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._prefix}run:{run}:{stage}:parts"))
            claims = (value.split(b" ") for value in held.values() if value not in (b"D", b"F"))
            found += sum(int(claim[1]) > now_ms for claim in claims)
        return found


def paused_key(prefix: str, account: str) -> str:
    """The key whose presence means that the account rests."""
    return f"{prefix}account:{account}:paused"


Closing = Literal["done", "dropped", "expired"]


class HeldPlans:
    """All accounts' held plans. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._close = script(client, "plan_close")

    def get(self, account: str, *, now_ms: int) -> HeldPlan | None:
        """The plan that waits; one whose time is over is closed as expired."""
        raw = cast("bytes | None", self._redis.hget(self._key(account), "plan"))
        plan = None if raw is None else msgspec.msgpack.decode(raw, type=HeldPlan)
        if plan is not None and plan.expires_ms <= now_ms:
            self.close(account, plan.run, "expired")
            return None
        return plan

    def keep(self, account: str, plan: HeldPlan) -> None:
        """Hold this plan; one that was held before is outdated by it."""
        fields = {"run": plan.run, "plan": msgspec.msgpack.encode(plan)}
        self._redis.hset(self._key(account), mapping=fields)  # type: ignore[arg-type]

    def close(self, account: str, run: str, state: Closing) -> bool:
        """End a plan; False when it is not the one that waits."""
        keys = [self._key(account), f"{self._prefix}run:{run}"]
        return bool(self._close(keys=keys, args=[run, state]))

    def forget(self, account: str) -> None:
        """Nothing waits any more: the world moved on."""
        self._redis.delete(self._key(account))

    def _key(self, account: str) -> str:
        return f"{self._prefix}account:{account}:held"
