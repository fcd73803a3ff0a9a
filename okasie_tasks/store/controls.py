"""What an operator stops: one run (`cancel`), or all work of an account (`pause`, until `resume`).

Keys, all under the configured prefix::

    account:{a}:paused   string   since when (ms, Redis time); set and removed by an operator, never expires
    account:{a}          hash     resumed_ms: when the last pause ended; paused_by: who paused it last
    run:{r}              hash     cancel_ms: when it was cancelled; its parts in progress are finished first

While one of them is set, no work starts: `run_begin`, `part_claim` and `urgent_lead` check in the same step that hands
out work, and `is_stopped` is checked before parts are published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

import msgspec
import redis

from okasie_tasks.core.guards import HeldPlan
from okasie_tasks.core.held_change import HeldChange
from okasie_tasks.store.scripts import redis_now_ms, script

_KEEP_RUN_SECONDS: Final = 30 * 86_400


class Controls:
    """The pauses of all accounts, and the cancellation of runs."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._cancel = script(client, "run_cancel")

    # -- an account ------------------------------------------------------------------------------------------------

    def pause(self, account: str, *, by: str = "") -> int:
        """Pause the account; returns since when it is paused (ms). A second pause changes nothing."""
        if self._redis.set(paused_key(self._prefix, account), redis_now_ms(self._redis), nx=True):
            self._redis.hset(f"{self._prefix}account:{account}", "paused_by", by)
        return self.paused_ms(account)

    def paused_by(self, account: str) -> str:
        """Return who paused the account last; "" if that is not known."""
        return (cast("bytes | None", self._redis.hget(f"{self._prefix}account:{account}", "paused_by")) or b"").decode()

    def resume(self, account: str) -> int:
        """Resume the account; returns since when it was paused (ms), 0 if it was not."""
        since = cast("bytes | None", self._redis.getdel(paused_key(self._prefix, account)))
        if since:
            self._redis.hset(f"{self._prefix}account:{account}", "resumed_ms", str(redis_now_ms(self._redis)))
        return int(since or 0)

    def paused_ms(self, account: str) -> int:
        """Return since when the account is paused, in ms since the epoch; 0 when it is not."""
        return int(cast("bytes | None", self._redis.get(paused_key(self._prefix, account))) or 0)

    def resumed_ms(self, account: str) -> int:
        """Return when the account's last pause ended (ms), 0 if it never had one. Nothing was sent until then."""
        return int(cast("bytes | None", self._redis.hget(f"{self._prefix}account:{account}", "resumed_ms")) or 0)

    # -- a run -----------------------------------------------------------------------------------------------------

    def cancel(self, run: str, account: str) -> str:
        """Cancel a run; returns the state it was in. A ``queued`` run ends now, a ``running`` one later."""
        state = self._cancel(
            keys=[f"{self._prefix}run:{run}", f"{self._prefix}account:{account}:next"], args=[run, _KEEP_RUN_SECONDS]
        )
        return str(state.decode())

    def is_stopped(self, run: str, account: str) -> bool:
        """Return whether the run is cancelled or its account paused, so that none of it may be published."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hexists(f"{self._prefix}run:{run}", "cancel_ms")
        pipe.exists(paused_key(self._prefix, account))
        return any(pipe.execute())

    def in_flight(self, run: str, stages: Sequence[str]) -> int:
        """Count the parts of these stages that are claimed under a live lease."""
        now_ms, count = redis_now_ms(self._redis), 0
        for stage in stages:
            held = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._prefix}run:{run}:{stage}:parts"))
            claims = (value.split(b" ") for value in held.values() if value not in (b"D", b"F"))
            count += sum(int(claim[1]) > now_ms for claim in claims)
        return count


def paused_key(prefix: str, account: str) -> str:
    """Return the key whose presence means that the account is paused."""
    return f"{prefix}account:{account}:paused"


Closing = Literal["done", "dropped", "expired"]


class HeldPlans:
    """All accounts' held plans. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._keep, self._close = script(client, "plan_keep"), script(client, "plan_close")

    def get(self, account: str, *, now_ms: int) -> HeldPlan | None:
        """Return the held plan; an expired one is closed as such."""
        raw = cast("bytes | None", self._redis.hget(self._key(account), "plan"))
        plan = None if raw is None else msgspec.msgpack.decode(raw, type=HeldPlan)
        if plan is not None and plan.expires_ms <= now_ms:
            self.close(account, plan.run, "expired")
            return None
        return plan

    def changes(self, account: str) -> list[HeldChange]:
        """Return what the held plan changes, at most the first `MOST_SHOWN`."""
        raw = cast("bytes | None", self._redis.hget(self._key(account), "changes"))
        return msgspec.msgpack.decode(raw, type=list[HeldChange]) if raw else []

    def keep(self, account: str, plan: HeldPlan, changes: Sequence[HeldChange] = ()) -> None:
        """Hold this plan. One held before is dropped, and its run's record names the run that replaced it."""
        encode = msgspec.msgpack.encode
        self._keep(keys=[self._key(account)], args=[f"{self._prefix}run:", plan.run, encode(plan), encode(changes)])

    def close(self, account: str, run: str, state: Closing, *, replaced_by: str = "") -> bool:
        """Close a plan; False when it is not the one held now. ``replaced_by``: the run that holds nothing any more."""
        keys = [self._key(account), f"{self._prefix}run:{run}"]
        return bool(self._close(keys=keys, args=[run, state, replaced_by]))

    def _key(self, account: str) -> str:
        return f"{self._prefix}account:{account}:held"
