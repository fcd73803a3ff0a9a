"""Run records, their stages and parts, and the account's cursor, in Redis.

Keys, all under the configured prefix::

    account:{a}                hash   cursor, generation, rows of the last complete read, ...
    account:{a}:active|:next   string the run at work (the account's lease) | the run that waits
    account:{a}:runs           zset   run id -> creation time, the newest 200
    account:{a}:metrics        hash   counters of requests and ended runs (see counters.py)
    account:{a}:paused         string see `okasie_tasks.adapters.stops`
    run:{r}                    hash   the record: account, mode, state, stage, times, counters ("n:..."), facts
    run:{r}:{stage}            hash   total, published, closed, failed parts
    run:{r}:{stage}:parts      hash   part -> claim, or D (done) or F (failed)
    run:{r}:{stage}:results    hash   part -> small msgpack result
    run:{r}:data:{place}       hash   or set: what the run keeps of its own until its end; run:{r}:places names them

Every transition is one Lua step with Redis time; a claim carries a fencing token, so that a late finisher of a part
that was given to somebody else changes nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
import redis
from ulid import ULID

from okasie_tasks.adapters.lua_scripts import script
from okasie_tasks.adapters.run_records import (
    FIRST_STAGE,
    KEEP_PARTS_SECONDS,
    KEEP_RUN_SECONDS,
    KEEP_RUNS,
    Account,
    Claim,
    Closed,
    Run,
    Stage,
)
from okasie_tasks.adapters.run_spool import RunSpool
from okasie_tasks.adapters.stops import Stops, paused_key

_PHASE: Final = {"spool": "apply", "upsert": "apply", "sell": "apply"}
"""Three kinds of parts share the phase in which the plan is applied; elsewhere a phase has one kind of part."""
LEASE_SECONDS: Final = 8.0
"""How long a part stays closed to others when its holder is gone; a holder that lives renews it."""
_RENEW_SECONDS: Final = 2.5
LONGEST_SECONDS: Final = 300.0
"""No part may take longer: one that hangs is not kept for ever."""
_AWAY: Final = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError, redis.ReadOnlyError)
_REFUSES: Final = ("OOM ", "MISCONF ", "MASTERDOWN ", "NOREPLICAS ", "BUSY ")
MOST_CLAIMS: Final = 6
"""More than the tries that a part may tell of: one begun so often without a word ends whoever works on it."""


class Runs(RunSpool):
    """All accounts' runs. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        super().__init__(client, prefix=prefix)
        self.stops = Stops(client, prefix=prefix)
        self._held: dict[tuple[str, str, int, str], float] = {}
        """Parts that this process is at -> when to stop renewing their claims, by the monotonic clock."""
        self._keeper: threading.Thread | None = None
        self._keeper_lock = threading.Lock()
        names = ("run_request", "run_begin", "run_advance", "run_end", "stage_publish", "stage_extend", "stage_add")
        self._lua = {
            name: script(client, name)
            for name in (*names, "part_claim", "part_take", "part_close", "part_release", "part_keep")
        }

    # -- keys ------------------------------------------------------------------------------------------------------

    def account_key(self, account: str, *rest: str) -> str:
        return ":".join((f"{self._prefix}account:{account}", *rest))

    # -- the life of a run -----------------------------------------------------------------------------------------

    def request(self, account: str, mode: str, *, plan_only: bool = False, approves: str = "") -> tuple[str, bool]:
        """Ask for a run; returns the id to follow, and whether it is new. "" when a plan cannot be taken now.

        ``approves``: the run whose held plan a person released; this run sends it if it still is what waits.
        """
        run, new = self._lua["run_request"](
            keys=[self.account_key(account, name) for name in ("next", "active", "runs")],
            args=[f"{self._prefix}run:", str(ULID()), account, mode, "1" if plan_only else "", KEEP_RUNS, approves],
        )
        return run.decode(), bool(new)

    def begin(self, account: str) -> str | None:
        """Let the waiting run begin, unless one is at work or the account rests; returns its id."""
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

    def prepare(self, run: str, stage: str, parts: int) -> None:
        """Open a stage before the phase it belongs to begins; the first number stands."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.hsetnx(self.key(run, stage), "total", str(parts))
        pipe.expire(self.key(run, stage), KEEP_PARTS_SECONDS)
        pipe.execute()

    # -- stages and parts ------------------------------------------------------------------------------------------

    def window(self, run: str, stage: str, *, size: int, when_open: int) -> range:
        """The parts to publish now: the next window once at most ``when_open`` of the published are still open."""
        bounds = self._lua["stage_publish"](keys=[self.key(run, stage)], args=[size, when_open])
        return range(*bounds) if bounds else range(0)

    def extend(self, run: str, stage: str, token: str, parts: int, *, fact: tuple[str, str] = ("", "")) -> int:
        """Add parts to a stage; returns the number of the first. The same token adds once.

        ``fact``: what is noted in the run at the same moment, by name; ``{first}`` in it stands for that number.
        """
        return int(self._lua["stage_extend"](keys=[self.key(run, stage), self.key(run)], args=[token, parts, *fact]))

    def add(self, run: str, stage: str, token: str, place: str, values: Sequence[object]) -> int:
        """Add a part for each of these, which it finds at ``place`` under its number; returns that of the first.

        Both at the same moment: a part that can be taken before its work is there would find nothing to do.
        """
        for number, value in enumerate(values):
            self.put(run, place, f"{token}:{number}", value)
        keys = [self.key(run, stage), self.key(run, "data", place)]
        return int(self._lua["stage_add"](keys=keys, args=[token, len(values)]))

    def claim(self, run: str, stage: str, part: int, token: str, *, lease_seconds: float = LEASE_SECONDS) -> Claim:
        """Take a part for at most so long, and for at most `LEASE_SECONDS` at a time; see `keeping`."""
        lease_ms = int(min(lease_seconds, LEASE_SECONDS) * 1000)
        state, attempts = self._lua["part_claim"](
            keys=[self.key(run), self.key(run, stage, "parts")],
            args=[
                _PHASE.get(stage, stage), part, token, lease_ms, KEEP_PARTS_SECONDS, MOST_CLAIMS, self.account_key(""),
            ],
        )  # fmt: skip
        return Claim(state.decode(), int(attempts))

    def take(self, run: str, stage: str, token: str, *, most_open: int) -> tuple[int, Claim]:
        """Take the next part of a stage and claim it, in one step; -1 and why where there is none to be had.

        ``most_open``: parts of the stage that may be published and not closed, this one included.
        """
        state, number = self._lua["part_take"](
            keys=[self.key(run), self.key(run, stage), self.key(run, stage, "parts")],
            args=[
                _PHASE.get(stage, stage), token, int(LEASE_SECONDS * 1000), KEEP_PARTS_SECONDS, most_open,
                self.account_key(""),
            ],
        )  # fmt: skip
        return number, Claim(state.decode(), int(number >= 0))

    @contextlib.contextmanager
    def keeping(self, run: str, stage: str, part: int, token: str) -> Iterator[None]:
        """Within the block the claim is renewed if there is one: parts may take longer than a lease."""
        held = (run, stage, part, token)
        self._held[held] = time.monotonic() + LONGEST_SECONDS
        with self._keeper_lock:
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = threading.Thread(target=self._keep_held, name="part-keeper", daemon=True)
                self._keeper.start()
        try:
            yield
        finally:
            self._held.pop(held, None)

    def holds(self, run: str, stage: str, part: int, token: str) -> bool:
        """Whether a claim is still the holder's, who keeps it for a whole lease more then.

        Asked before what nobody else stops: who stood still may have been given up long ago.
        """
        args: list[str | int] = [part, token, int(LEASE_SECONDS * 1000)]
        return bool(self._lua["part_keep"](keys=[self.key(run, stage, "parts")], args=args))

    @staticmethod
    def is_away(error: Exception) -> bool:
        """Whether an error tells of a server that is away, full, loading or read-only, not of a defect of ours."""
        return isinstance(error, _AWAY) or (isinstance(error, redis.ResponseError) and str(error).startswith(_REFUSES))

    def _keep_held(self) -> None:
        """One thread renews the claims of all parts that this process is at: one each would cost more than a page."""
        while True:
            time.sleep(_RENEW_SECONDS)
            for (run, stage, part, token), until in list(self._held.items()):
                if time.monotonic() < until:
                    with contextlib.suppress(redis.RedisError):
                        self.holds(run, stage, part, token)

    def close(
        self,
        run: str,
        stage: str,
        part: int,
        token: str,
        result: object,
        *,
        failed: bool = False,
        when_open: int | None = None,
    ) -> Closed:
        """Close a claimed part; `Closed.NOT` when somebody else has it by now.

        ``when_open``: the next window is due when so many published parts are still open; None: who knows.
        """
        closed = self._lua["part_close"](
            keys=[self.key(run), self.key(run, stage), self.key(run, stage, "parts"), self.key(run, stage, "results")],
            args=[
                part, token, "F" if failed else "D", msgspec.msgpack.encode(result), KEEP_PARTS_SECONDS,
                "" if when_open is None else when_open,
            ],
        )  # fmt: skip
        return Closed(closed)

    def release(self, run: str, stage: str, part: int, token: str, *, counted: bool) -> int:
        """Give a claim back; returns the attempts that count so far."""
        arguments: list[str | int] = [part, token, "" if counted else "1"]
        return int(self._lua["part_release"](keys=[self.key(run, stage, "parts")], args=arguments))

    def stage(self, run: str, stage: str) -> Stage:
        values = cast(
            "list[bytes | None]", self.redis.hmget(self.key(run, stage), ["total", "published", "closed", "failed"])
        )
        return Stage(*(int(value or 0) for value in values))

    def results(self, run: str, stage: str) -> list[Any]:
        """The results of the closed parts, by part number."""
        found = cast("dict[bytes, bytes]", self.redis.hgetall(self.key(run, stage, "results")))
        return [msgspec.msgpack.decode(found[part]) for part in sorted(found, key=int)]

    def open_parts(self, run: str, stage: str) -> list[int]:
        """Published parts that are neither closed nor held under a lease."""
        return [part for part, _, _ in self._idle(run, stage)]

    def held_for(self, run: str, stage: str, message: str) -> list[int]:
        """Open parts that were claimed last by deliveries of this message, in order."""
        held = cast("dict[bytes, bytes]", self.redis.hgetall(self.key(run, stage, "parts")))
        mine = b" %s/" % message.encode()
        return sorted(int(part) for part, value in held.items() if mine in value)

    def set_spent_aside(self, run: str, stage: str) -> list[int]:
        """Close as failed what was begun too often without a word of its end; returns these parts."""
        spent = [(part, token) for part, attempts, token in self._idle(run, stage) if attempts >= MOST_CLAIMS]
        return [part for part, token in spent if self.close(run, stage, part, token, {}, failed=True)]

    def _idle(self, run: str, stage: str) -> Iterator[tuple[int, int, str]]:
        """Published parts that are open and held by nobody, as ``(part, attempts, last token)``."""
        now = self.now_ms()
        held = cast("dict[bytes, bytes]", self.redis.hgetall(self.key(run, stage, "parts")))
        for part in range(self.stage(run, stage).published):
            value = held.get(b"%d" % part, b"0 0 ")
            if value not in (b"D", b"F"):
                attempts, until_ms, token = value.split(b" ", 2)
                if int(until_ms) <= now:
                    yield part, int(attempts), token.decode()

    def watch(self, token: str, *, seconds: float) -> bool:
        """Become the one who looks after all accounts for so long; False while somebody else is."""
        return bool(self.redis.set(f"{self._prefix}watchdog", token, nx=True, px=int(seconds * 1000)))

    # -- records ---------------------------------------------------------------------------------------------------

    def get(self, run: str) -> Run | None:
        raw = cast("dict[bytes, bytes]", self.redis.hgetall(self.key(run)))
        if not raw:
            return None
        fields = {name.decode(): value.decode() for name, value in raw.items()}
        counts = {name[2:]: int(fields.pop(name)) for name in list(fields) if name.startswith("n:")}
        own: dict[str, Any] = {name: fields.pop(name, "") for name in ("account", "mode", "state", "stage")}
        own |= {name: int(fields.pop(name, 0)) for name in ("created_ms", "started_ms", "ended_ms", "progress_ms")}
        return Run(id=run, plan_only=fields.pop("plan_only", "") == "1", counts=counts, facts=fields, **own)

    def state(self, run: str) -> str:
        return (cast("bytes | None", self.redis.hget(self.key(run), "state")) or b"").decode()

    def note(self, run: str, **facts: str | int) -> None:
        self.redis.hset(self.key(run), mapping=cast("dict[Any, Any]", facts))

    def note_once(self, run: str, name: str, value: str) -> None:
        """Keep the first value: of several errors the first tells the cause."""
        self.redis.hsetnx(self.key(run), name, value)

    def count(self, run: str, name: str, by: int = 1) -> None:
        if by:
            self.count_on(self.redis, run, name, by)

    def count_on(self, pipe: Any, run: str, name: str, by: int = 1) -> None:
        pipe.hincrby(self.key(run), f"n:{name}", by)

    def history(self, account: str, limit: int = 20) -> list[str]:
        """Run ids, newest first."""
        found = cast("list[bytes]", self.redis.zrevrange(self.account_key(account, "runs"), 0, limit - 1))
        return [run.decode() for run in found]

    def active(self, account: str) -> str | None:
        run = cast("bytes | None", self.redis.get(self.account_key(account, "active")))
        return run.decode() if run else None

    def waiting(self, account: str) -> str | None:
        run = cast("bytes | None", self.redis.get(self.account_key(account, "next")))
        return run.decode() if run else None

    def account(self, account: str) -> Account:
        names = ["cursor", "generation", "rows", "profiles", "take_over", "provider", "counted_ms", "miscounts"]
        found = cast("list[bytes | None]", self.redis.hmget(self.account_key(account), names))
        cursor, generation, rows, profiles, take_over, provider, counted_ms, miscounts = found
        return Account(
            (cursor or b"").decode(),
            (generation or b"0").decode(),
            int(rows or 0),
            tuple(msgspec.json.decode(profiles or b"[]", type=list[str])),
            (take_over or b"").decode(),
            (provider or b"").decode(),
            int(counted_ms or 0),
            int(miscounts or 0),
        )

    def note_account(self, account: str, **facts: str | int) -> None:
        """Keep facts of an account that do not depend on a run's success."""
        self.redis.hset(self.account_key(account), mapping=cast("dict[Any, Any]", facts))

    def bind(self, account: str, market: str) -> str:
        """Tie the account's ledger to a marketplace, once; returns the one it is tied to."""
        self.redis.hsetnx(self.account_key(account), "market", market)
        return (cast("bytes | None", self.redis.hget(self.account_key(account), "market")) or b"").decode()

    def now(self) -> float:
        """Redis time in seconds since the epoch: the only clock that is compared."""
        seconds, micros = self.redis.time()
        return seconds + micros / 1e6

    def now_ms(self) -> int:
        """The same in whole milliseconds, as the Lua steps reckon it."""
        seconds, micros = self.redis.time()
        return seconds * 1000 + micros // 1000
