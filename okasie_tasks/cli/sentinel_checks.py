"""``okasie doctor`` behind sentinels: whether a failover can happen, and what it may lose."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import redis

from okasie_tasks.cli.check import Check
from okasie_tasks.core.sentinel_url import SentinelUrl, parse_sentinel_url
from okasie_tasks.store.connections import sentinels
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.store.runs import Runs

_FEWEST: Final = 3


def check_sentinels(url: str) -> Iterator[Check]:
    """Ask every sentinel for the master. ``url``: ``redis.url``."""
    address = parse_sentinel_url(url)
    named: dict[str, str] = {}
    quorum = ""
    for (host, port), sentinel in zip(address.hosts, sentinels(address).sentinels, strict=True):
        try:
            found = sentinel.sentinel_get_master_addr_by_name(address.master)
            named[f"{host}:{port}"] = f"{found[0].decode()}:{found[1]}" if found else ""
            quorum = quorum or _quorum(sentinel, address)
        except redis.RedisError as error:
            detail = f"{host}:{port}: {redis_problem(error).message}"
            yield Check("redis sentinels", False, detail, "start it, or correct redis.url")
    yield from _agreement(address, named)
    if quorum:
        yield Check("redis quorum", False, quorum, "start the missing sentinels: without a majority nothing fails over")


def _quorum(sentinel: Any, address: SentinelUrl) -> str:
    """Return what is wrong with the quorum, "" if a failover can be decided."""
    try:
        sentinel.sentinel_ckquorum(address.master)
    except redis.ResponseError as error:
        return str(error)
    return ""


def _agreement(address: SentinelUrl, named: dict[str, str]) -> Iterator[Check]:
    if not named:
        return
    masters = set(named.values())
    if "" in masters:
        unknowing = ", ".join(place for place, master in named.items() if not master)
        fix = "correct `master` in redis.url, or `sentinel monitor`"
        yield Check("redis master", False, f"{unknowing}: no master {address.master!r}", fix)
    elif len(masters) > 1:
        seen = ", ".join(f"{place}: {master}" for place, master in named.items())
        yield Check("redis master", False, f"the sentinels disagree: {seen}", "wait, if a failover is under way")
    else:
        detail = f"{masters.pop()}, named by {len(named)} of {len(address.hosts)} sentinels"
        few = len(address.hosts) < _FEWEST
        yield Check("redis master", True, detail, "name at least three sentinels in redis.url", warning=few)


def check_ledger(runs: Runs, account: str) -> Iterator[Check]:
    """Check whether the account's ledger has been compared since the last failover."""
    with contextlib.suppress(redis.RedisError):
        if lost := runs.lost_writes(account):
            at = datetime.fromtimestamp(lost.from_ms / 1000, UTC)
            detail = f"may lack writes since {at:%Y-%m-%d %H:%M:%S} UTC, when Redis failed over"
            fix = f"none if workers run: they have requested a full run; or `okasie sync {account} --full`"
            yield Check(f"{account}: ledger", True, detail, fix, warning=True)


def check_replicas(info: dict[str, Any], least: str | None) -> Iterator[Check]:
    """Check the master's replicas. ``least``: ``min-replicas-to-write``, None if it cannot be read."""
    online = [info[f"slave{n}"] for n in range(int(info.get("connected_slaves", 0))) if f"slave{n}" in info]
    count = sum(replica.get("state") == "online" for replica in online)
    yield Check("redis replicas", count > 0, f"{count} in step", "start a replica: without one nothing can fail over")
    if least == "0":
        yield Check(
            "redis min-replicas",
            True,
            "min-replicas-to-write is 0: a master cut off from its replicas accepts writes that are lost later",
            "set `min-replicas-to-write 1` and `min-replicas-max-lag 10` on every server",
            warning=True,
        )
