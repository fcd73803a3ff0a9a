"""Held plans: what waits for a person, at most one plan an account.

Key: ``{prefix}account:{a}:held`` (hash: run, plan as msgpack). A plan is known by the run that first held it and keeps
that name over later runs as long as what waits is the same.
"""

from __future__ import annotations

from typing import Literal, cast

import msgspec
import redis

from okasie_tasks.adapters.lua_scripts import script
from okasie_tasks.core.plan import HeldPlan

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
