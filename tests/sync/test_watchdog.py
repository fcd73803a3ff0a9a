"""The watchdog: what died with a worker is published again, and nothing else is."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import redis

from okasie_tasks.store.runs import Runs
from okasie_tasks.sync import watchdog
from okasie_tasks.sync.context import AccountContext
from tests.sync.small import account_policy


def walking(client: redis.Redis, *, parts: int, done: set[int]) -> tuple[AccountContext, str]:
    """A run whose first 40 pages are published, those of ``done`` closed."""
    runs = Runs(client, prefix="okasie:")
    runs.request("dex", "full")
    run = runs.begin("dex")
    assert run is not None
    runs.advance(run, "first", "walk", parts=parts)
    runs.parts.window(run, "walk", size=40, when_open=0)
    for part in done:
        runs.parts.claim(run, "walk", part, "a", lease_seconds=60)
        runs.parts.close(run, "walk", part, "a", {})
    nothing: dict[str, Any] = dict.fromkeys(AccountContext._fields)
    return cast(
        "AccountContext", AccountContext(**{**nothing, "policy": account_policy("local", 1), "runs": runs})
    ), run


def test_a_part_left_behind_is_published_again_once(client: redis.Redis) -> None:
    ctx, run = walking(client, parts=100, done=set(range(35)) - {3, 4})
    ctx.runs.parts.claim(run, "walk", 4, "slow", lease_seconds=60)
    assert list(watchdog.look(ctx, "dex")) == [(run, "walk", [3])], "4 is being worked on, 35 to 39 wait their turn"
    assert list(watchdog.look(ctx, "dex")) == []


def test_with_a_larger_quota_more_may_be_under_way(client: redis.Redis) -> None:
    ctx, _ = walking(client, parts=100, done=set(range(35)) - {3})
    ample = ctx._replace(policy=msgspec.structs.replace(ctx.policy, per_minute=1200))
    assert list(watchdog.look(ample, "dex")) == []


def test_a_run_that_goes_on_is_left_alone(client: redis.Redis) -> None:
    ctx, _ = walking(client, parts=100, done=set(range(20)))
    assert list(watchdog.look(ctx, "dex")) == []
