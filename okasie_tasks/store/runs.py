"""Run records, their stages and parts, and the account's cursor, in Redis.

Keys, all under the configured prefix::

    account:{a}                hash   cursor, generation, rows of the last complete read, full_day, ...
    account:{a}:active|:next   string the run at work (the account's lease) | the run that waits
    account:{a}:runs           zset   run id -> creation time, the newest 200
    account:{a}:metrics        hash   counters of requests and ended runs (see counters.py)
    account:{a}:paused         string see `okasie_tasks.store.controls`
    run:{r}                    hash   the record: account, mode, state, stage, times, counters ("n:..."), facts
    run:{r}:{stage}            hash   total, published, closed, failed parts
    run:{r}:{stage}:parts      hash   part -> claim, or D (done) or F (failed)
    run:{r}:{stage}:results    hash   part -> small msgpack result
    run:{r}:data:{collection}  hash or set: what the run keeps until it ends; run:{r}:collections names them
    run:{r}:data:blocks        hash   part of the load -> its block of the source (see blocks.py)

Every transition is one Lua step with Redis time; a claim carries a fencing token, so that a worker that lost its
part to another cannot change anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
import redis
from ulid import ULID

from okasie_tasks.settings import FeedSettings
from okasie_tasks.store.blocks import Blocks
from okasie_tasks.store.controls import Controls, paused_key
from okasie_tasks.store.failovers import Failovers, LostInterval
from okasie_tasks.store.parts import RunData, RunParts
from okasie_tasks.store.records import (
    FIRST_STAGE,
    KEEP_PARTS_SECONDS,
    KEEP_RUN_SECONDS,
    KEEP_RUNS,
    OPEN_STATES,
    Account,
    Run,
    RunKeys,
    read_run,
)
from okasie_tasks.store.redis_problems import is_passing
from okasie_tasks.store.scripts import Command, execute, redis_now_ms, script
from okasie_tasks.telemetry import tracing

_TRACES_KEPT: Final = 1_000
_HEAL_AGAIN_MS: Final = 15 * 60 * 1000


class Runs:
    """All accounts' runs. ``client`` must return bytes; ``feeds``: where the blocks of a source are."""

    def __init__(self, client: redis.Redis, *, prefix: str, feeds: FeedSettings | None = None) -> None:
        self.redis = client
        self._prefix, keys = prefix, RunKeys(prefix)
        self.key, self.account_key = keys.run, keys.account
        self.data = RunData(client, keys)
        self.parts = RunParts(client, keys, self.data)
        self.blocks = Blocks(client, keys, self.data, feeds or FeedSettings())
        self.controls = Controls(client, prefix=prefix)
        self.failovers = Failovers(client, prefix=prefix)
        self._traces: dict[str, str] = {}
        self._lua = {name: script(client, name) for name in ("run_request", "run_begin", "run_advance", "run_end")}

    # -- the life of a run -----------------------------------------------------------------------------------------

    def request(
        self, account: str, mode: str, *, plan_only: bool = False, approves: str = "", day: str = ""
    ) -> tuple[str, bool]:
        """Request a run; returns the id to follow, and whether it is new.

        The id is "" when a plan cannot be taken now, or when ``day`` has had its run.

        ``approves``: the run whose held plan an operator approved; this run sends the plan if it has not changed.
        ``day``: the local day (YYYY-MM-DD) whose scheduled full run this is; each day is claimed once.
        """
        plan = "1" if plan_only else ""
        run, new = self._lua["run_request"](
            keys=[*(self.account_key(account, name) for name in ("next", "active", "runs")), self.account_key(account)],
            args=[f"{self._prefix}run:", str(ULID()), account, mode, plan, KEEP_RUNS, approves, day],
        )
        if new and run and (context := tracing.traceparent()):
            self.note_once(run.decode(), "traceparent", context)
        return run.decode(), bool(new)

    def begin(self, account: str) -> str | None:
        """Let the waiting run begin, unless one is active or the account is paused; returns its id."""
        run = self._lua["run_begin"](
            keys=[
                self.account_key(account, "next"),
                self.account_key(account, "active"),
                self.account_key(account),
                paused_key(self._prefix, account),
            ],
            args=[f"{self._prefix}run:", FIRST_STAGE, KEEP_PARTS_SECONDS],
        )
        return run.decode() or None

    def end(self, run: Run, state: str, *, cursor: str = "", account_facts: Mapping[str, str] | None = None) -> str:
        """End a run once; with a cursor only when every part succeeded. Returns the id of a run that waits, or ""."""
        facts = [item for pair in (account_facts or {}).items() for item in pair]
        _, waiting = self._lua["run_end"](
            keys=[
                self.key(run.id),
                self.account_key(run.account),
                self.account_key(run.account, "active"),
                self.account_key(run.account, "next"),
                self.account_key(run.account, "metrics"),
                f"{self._prefix}alerts:ended",
            ],
            args=[run.id, state, cursor, run.facts.get("generation", "0"), KEEP_RUN_SECONDS, *facts],
        )
        return str(waiting.decode())

    def advance(
        self, run: str, stage: str, to: str, *, parts: int, facts: Mapping[str, str | int] | None = None
    ) -> bool:
        """Move a run from ``stage`` to the next, which has ``parts`` parts; True for the one caller that did it."""
        pairs = [item for pair in (facts or {}).items() for item in pair]
        moved = self._lua["run_advance"](
            keys=[self.key(run), self.key(run, to)], args=[stage, to, parts, KEEP_PARTS_SECONDS, *pairs]
        )
        return bool(moved)

    def now(self) -> float:
        """Redis time in seconds since the epoch: the only clock that is compared."""
        return redis_now_ms(self.redis) / 1000

    def now_ms(self) -> int:
        """Return Redis time in whole milliseconds, as the Lua scripts compute it."""
        return redis_now_ms(self.redis)

    @staticmethod
    def is_away(error: Exception) -> bool:
        """Return whether an error means an unreachable, full, loading or read-only server, not a bug."""
        return is_passing(error)

    def watch(self, token: str, *, seconds: float) -> bool:
        """Take the watchdog's lock for ``seconds``; False while another process holds it."""
        return bool(self.redis.set(f"{self._prefix}watchdog", token, nx=True, px=int(seconds * 1000)))

    # -- records ---------------------------------------------------------------------------------------------------

    def get(self, run: str) -> Run | None:
        raw = cast("dict[bytes, bytes]", self.redis.hgetall(self.key(run)))
        return read_run(run, raw.items()) if raw else None

    def state(self, run: str) -> str:
        return (cast("bytes | None", self.redis.hget(self.key(run), "state")) or b"").decode()

    def fact(self, run: str, name: str) -> str:
        """Return one fact of a run; "" if it has none of this name."""
        return (cast("bytes | None", self.redis.hget(self.key(run), name)) or b"").decode()

    def traceparent(self, run: str) -> str:
        """The trace context of the request that the run began with; "" while traces are off."""
        if tracing.on() and run not in self._traces:
            if len(self._traces) > _TRACES_KEPT:
                self._traces.clear()
            self._traces[run] = self.fact(run, "traceparent")
        return self._traces.get(run, "")

    def note(self, run: str, **facts: str | int) -> None:
        self.redis.hset(self.key(run), mapping=cast("dict[Any, Any]", facts))

    def note_once(self, run: str, name: str, value: str) -> None:
        """Store only the first value: of several errors, the first shows the cause."""
        self.redis.hsetnx(self.key(run), name, value)

    def count(self, run: str, name: str, by: int = 1) -> None:
        if by:
            self.redis.hincrby(self.key(run), f"n:{name}", by)

    def history(self, account: str, limit: int = 20) -> list[str]:
        """Run ids, newest first."""
        runs = cast("list[bytes]", self.redis.zrevrange(self.account_key(account, "runs"), 0, limit - 1))
        return [run.decode() for run in runs]

    def active(self, account: str) -> str | None:
        run = cast("bytes | None", self.redis.get(self.account_key(account, "active")))
        return run.decode() if run else None

    def waiting(self, account: str) -> str | None:
        run = cast("bytes | None", self.redis.get(self.account_key(account, "next")))
        return run.decode() if run else None

    def account(self, account: str) -> Account:
        names = [
            "cursor",
            "generation",
            "rows",
            "profiles",
            "take_over",
            "provider",
            "counted_ms",
            "miscounts",
            "lost_fields",
            "source",
        ]
        values = cast("list[bytes | None]", self.redis.hmget(self.account_key(account), names))
        cursor, generation, rows, profiles, take_over, provider, counted_ms, miscounts, lost_fields, source = values
        return Account(
            (cursor or b"").decode(),
            (generation or b"0").decode(),
            int(rows or 0),
            tuple(msgspec.json.decode(profiles or b"[]", type=list[str])),
            (take_over or b"").decode(),
            (provider or b"").decode(),
            int(counted_ms or 0),
            int(miscounts or 0),
            (lost_fields or b"").decode(),
            (source or b"").decode(),
        )

    def note_account(self, account: str, **facts: str | int) -> None:
        """Keep facts of an account that do not depend on a run's success."""
        self.redis.hset(self.account_key(account), mapping=cast("dict[Any, Any]", facts))

    def lost_writes(self, account: str, *, look: bool = True) -> LostInterval | None:
        """Return since when the account's ledger may lack writes, after a failover; None once a full run has read on.

        Without ``look``, by the failovers that workers have noticed.
        See `okasie_tasks.core.older_ledger`.
        """
        healed_ms = cast("bytes | None", self.redis.hget(self.account_key(account), "healed_ms"))
        return self.failovers.since(int(healed_ms or 0) + 1, look=look)

    def is_healing(self, account: str, lost: LostInterval) -> bool:
        """Return whether a full run for these lost writes is open, or was requested within the last 15 minutes."""
        names = ["healing_ms", "healing_run", "healing_asked_ms"]
        values = cast("list[bytes | None]", self.redis.hmget(self.account_key(account), names))
        healing_ms, run, asked_ms = int(values[0] or 0), (values[1] or b"").decode(), int(values[2] or 0)
        if healing_ms < lost.until_ms:
            return False
        return self.state(run) in OPEN_STATES or self.now_ms() - asked_ms < _HEAL_AGAIN_MS

    def note_accepted(self, account: str, now_ms: int) -> None:
        """Record that the marketplace has just accepted an upsert of this account."""
        execute(self.redis, [self.accepted_command(account, now_ms)])

    def accepted_command(self, account: str, now_ms: int) -> Command:
        """The command of `note_accepted`."""
        return ("HSET", self.account_key(account), "accepted_ms", now_ms)

    def accepted_since(self, account: str, since_ms: int) -> bool:
        """Return whether the marketplace has accepted an upsert since then, Redis time."""
        accepted_ms = cast("bytes | None", self.redis.hget(self.account_key(account), "accepted_ms"))
        return int(accepted_ms or 0) >= since_ms

    def note_refused_key(self, account: str, reason: str) -> None:
        """Record that the marketplace refused the account's key; the first refusal since it worked is kept."""
        key = self.account_key(account)
        if self.redis.hsetnx(key, "key_refused_ms", str(self.now_ms())):
            self.redis.hset(key, "key_refused", reason)

    def refused_key(self, account: str) -> tuple[int, str, int]:
        """Return since when the key is refused (ms, Redis time; 0: it is not), why, and when an upsert was accepted."""
        names = ["key_refused_ms", "key_refused", "accepted_ms"]
        since, reason, accepted = cast("list[bytes | None]", self.redis.hmget(self.account_key(account), names))
        return int(since or 0), (reason or b"").decode(), int(accepted or 0)

    def forget_refused_key(self, account: str) -> None:
        self.redis.hdel(self.account_key(account), "key_refused_ms", "key_refused")

    def bind(self, account: str, market: str) -> str:
        """Tie the account's ledger to a marketplace, once; returns the one it is tied to."""
        self.redis.hsetnx(self.account_key(account), "market", market)
        return (cast("bytes | None", self.redis.hget(self.account_key(account), "market")) or b"").decode()
