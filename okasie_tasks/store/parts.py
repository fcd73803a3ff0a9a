"""The stages of a run and their parts, in Redis: published, claimed under a lease, closed once.

A claim carries a fencing token, so that a worker that lost its part to another cannot change anything. For
the keys see `okasie_tasks.store.runs`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec
import redis

from okasie_tasks.store.records import KEEP_PARTS_SECONDS, Claim, Closed, RunKeys, Stage, read_run
from okasie_tasks.store.scripts import Call, Command, redis_now_ms, script

_PHASE: Final = {"spool": "apply", "upsert": "apply", "confirm": "apply", "sell": "apply"}
"""Four kinds of parts share the phase in which the plan is applied; elsewhere a phase has one kind of part."""
_CLOSED: Final = (b"D", b"F")
LEASE_SECONDS: Final = 8.0
"""How long a part stays claimed after its worker died; a live worker renews its lease."""
_RENEW_SECONDS: Final = 2.5
LONGEST_SECONDS: Final = 300.0
"""The longest time that a claim is renewed, so that a hanging part is released."""
MOST_CLAIMS: Final = 6
"""More than the counted tries of a part. A part claimed so often without a result seems to crash its workers."""


class Noted(NamedTuple):
    """A value for one field of a hash."""

    key: str
    field: str
    value: bytes


class Records(NamedTuple):
    """What a part leaves in the run's collections: its value in each of these, and ``beside`` them what else it noted.

    ``field``: the number of the part in all of them.
    """

    field: int
    values: Mapping[str, object]
    beside: Noted | None = None


class Done(NamedTuple):
    """What a part has done: its small result, and its records, which are stored in the step that closes it."""

    result: object
    records: Records


class RunData:
    """The data of a run until it ends: records by collection, in hashes and sets that expire."""

    def __init__(self, client: redis.Redis, keys: RunKeys) -> None:
        self._redis, self._key = client, keys.run

    def put(self, run: str, collection: str, field: str | int, value: object) -> None:
        """Store a value until the run is over. Idempotent per field."""
        self.put_all(run, field, {collection: value})

    def put_all(self, run: str, field: str | int, values: Mapping[str, object]) -> None:
        """Store one value in each of these collections, in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        for collection, value in values.items():
            pipe.hset(self._key(run, "data", collection), str(field), msgspec.msgpack.encode(value))
            self.keep_on(pipe, run, collection)
        pipe.execute()

    def put_commands(self, run: str, collection: str, field: int, value: object) -> list[Command]:
        """The commands of `put`."""
        key, names = self._key(run, "data", collection), self._key(run, "collections")
        return [
            ("HSET", key, field, msgspec.msgpack.encode(value)),
            ("EXPIRE", key, KEEP_PARTS_SECONDS),
            ("SADD", names, collection),
            ("EXPIRE", names, KEEP_PARTS_SECONDS),
        ]

    def mark(self, run: str, collection: str, members: Sequence[bytes]) -> None:
        """Add members to a set of the run."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.sadd(self._key(run, "data", collection), *members)
        self.keep_on(pipe, run, collection)
        pipe.execute()

    def marked(self, run: str, collection: str, members: Sequence[bytes]) -> list[bool]:
        """Which of these the set holds."""
        return [bool(member) for member in self._redis.smismember(self._key(run, "data", collection), list(members))]

    def has(self, run: str, collection: str) -> bool:
        """Whether the run keeps anything there."""
        return bool(self._redis.exists(self._key(run, "data", collection)))

    def keep_on(self, pipe: Any, run: str, collection: str) -> None:
        """Set the collection's expiry and register it for `clear`; commands on ``pipe``."""
        pipe.expire(self._key(run, "data", collection), KEEP_PARTS_SECONDS)
        pipe.sadd(self._key(run, "collections"), collection)
        pipe.expire(self._key(run, "collections"), KEEP_PARTS_SECONDS)

    def fetch(self, run: str, collection: str, kind: type[Any], *, first: int = 0) -> Iterator[Any]:
        """The values of a collection, by field number, from field ``first`` on."""
        rows = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(run, "data", collection)))
        return (
            msgspec.msgpack.decode(rows[field], type=kind) for field in sorted(rows, key=int) if int(field) >= first
        )

    def fetch_one(self, run: str, collection: str, field: str | int, kind: type[Any]) -> Any:
        value = cast("bytes | None", self._redis.hget(self._key(run, "data", collection), str(field)))
        return None if value is None else msgspec.msgpack.decode(value, type=kind)

    def drop(self, run: str, collection: str, field: str | int) -> None:
        self._redis.hdel(self._key(run, "data", collection), str(field))

    def clear(self, run: str, *, but: tuple[str, ...] = ()) -> None:
        """Delete the run's collections, except those whose names begin with one of ``but``."""
        collections = [
            collection.decode()
            for collection in cast("set[bytes]", self._redis.smembers(self._key(run, "collections")))
        ]
        gone = [collection for collection in collections if not collection.startswith(but)]
        for start in range(0, len(gone), 500):
            self._redis.unlink(*(self._key(run, "data", collection) for collection in gone[start : start + 500]))


class RunParts:
    """The parts of all runs: published, claimed under a lease, closed once."""

    def __init__(self, client: redis.Redis, keys: RunKeys, data: RunData) -> None:
        self._redis, self._keys, self._key, self._data = client, keys, keys.run, data
        self._held: dict[tuple[str, str, int, str], float] = {}
        """Parts in progress in this process -> when to stop renewing their claims, by the monotonic clock."""
        self._keeper: threading.Thread | None = None
        self._keeper_lock = threading.Lock()
        names = ("stage_publish", "stage_extend", "stage_add", "stage_cut")
        claims = ("part_claim", "part_take", "part_close", "part_release", "part_keep")
        self._steps = {name: script(client, name) for name in (*names, *claims)}

    def prepare(self, run: str, stage: str, parts: int) -> None:
        """Open a stage before its phase begins; the first number of parts is kept."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hsetnx(self._key(run, stage), "total", str(parts))
        pipe.expire(self._key(run, stage), KEEP_PARTS_SECONDS)
        pipe.execute()

    def window(self, run: str, stage: str, *, size: int, when_open: int) -> range:
        """The parts to publish now: the next window once at most ``when_open`` of the published are still open."""
        bounds = self._steps["stage_publish"](keys=[self._key(run, stage)], args=[size, when_open])
        return range(*bounds) if bounds else range(0)

    def extend(self, run: str, stage: str, token: str, parts: int, *, fact: tuple[str, str] = ("", "")) -> int:
        """Add parts to a stage; returns the number of the first. The same token adds once.

        ``fact``: name and value stored in the run in the same step; ``{first}`` in the value becomes that number.
        """
        return int(
            self._steps["stage_extend"](keys=[self._key(run, stage), self._key(run)], args=[token, parts, *fact])
        )

    def cut(self, run: str, stage: str) -> None:
        """Remove the parts of a stage that are not published yet."""
        self._steps["stage_cut"](keys=[self._key(run, stage)])

    def add(
        self,
        run: str,
        stage: str,
        token: str,
        collection: str,
        values: Sequence[object],
        *,
        rest: tuple[str, int, object] | None = None,
    ) -> int:
        """Add a part for each value, stored in ``collection`` under the part's number; returns the first number.

        Atomic, because a part that is claimed before its work is stored would find nothing to do. ``rest``: collection,
        field and value of the remainder, stored in the same step so that it matches the added parts.
        """
        where, field, left = rest or ("", 0, None)
        keys = [self._key(run, stage), self._key(run, "data", ""), self._key(run, "collections")]
        args: list[Any] = [
            token,
            KEEP_PARTS_SECONDS,
            collection,
            where,
            field,
            msgspec.msgpack.encode(left),
            *map(msgspec.msgpack.encode, values),
        ]
        return int(self._steps["stage_add"](keys=keys, args=args))

    def is_open(self, run: str, stage: str, part: int, token: str) -> bool:
        """Return whether a claim may succeed: the run is active, the part is not closed, and no other message holds it.

        A cheap look before a permit is requested for the part. ``token`` as in `claim`.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(self._key(run), "state")
        pipe.hget(self._key(run, stage, "parts"), str(part))
        state, held = cast("list[bytes | None]", pipe.execute())
        if state != b"running":
            return False
        if held is None or held in _CLOSED:
            return held is None
        _, until_ms, holder = held.split(b" ", 2)
        is_mine = holder.split(b"/")[0] == token.encode().split(b"/")[0]
        return is_mine or int(until_ms) <= redis_now_ms(self._redis)

    def claim(
        self, run: str, stage: str, part: int, token: str, *, lease_seconds: float = LEASE_SECONDS, work: str = ""
    ) -> Claim:
        """Claim a part for ``lease_seconds``, at most `LEASE_SECONDS` at a time; see `renewing_claim`.

        ``work``: the collection that has the part's work, which is read in the same step.
        """
        lease_ms = int(min(lease_seconds, LEASE_SECONDS) * 1000)
        state, attempts, *found = self._steps["part_claim"](
            keys=[self._key(run), self._key(run, stage, "parts"), *self._work_key(run, work)],
            args=[
                _PHASE.get(stage, stage), part, token, lease_ms, KEEP_PARTS_SECONDS, MOST_CLAIMS,
                self._keys.account(""),
            ],
        )  # fmt: skip
        return _claim(run, state, int(attempts), found)

    def _work_key(self, run: str, work: str) -> list[str]:
        return [self._key(run, "data", work)] if work else []

    def claim_next(self, run: str, stage: str, token: str, *, most_open: int, work: str = "") -> tuple[int, Claim]:
        """Publish and claim the next part of a stage, atomically; -1 and the reason if there is none.

        ``most_open``: how many parts of the stage may be published and not closed, including this one. ``work`` as in
        `claim`.
        """
        state, number, *found = self._steps["part_take"](
            keys=[self._key(run), self._key(run, stage), self._key(run, stage, "parts"), *self._work_key(run, work)],
            args=[
                _PHASE.get(stage, stage), token, int(LEASE_SECONDS * 1000), KEEP_PARTS_SECONDS, most_open,
                self._keys.account(""),
            ],
        )  # fmt: skip
        return number, _claim(run, state, int(number >= 0), found)

    @contextlib.contextmanager
    def renewing_claim(self, run: str, stage: str, part: int, token: str) -> Iterator[None]:
        """Renew a claim within the block, because parts may take longer than a lease."""
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

    def owns_claim(self, run: str, stage: str, part: int, token: str) -> int:
        """Return the time in ms, by Redis, if the claim is still held, and renew it for a whole lease; 0 if not.

        Checked before an irreversible step: a stalled worker may have lost its claim.
        """
        keys, args = self.keep_call(run, stage, part, token)
        return int(self._steps["part_keep"](keys=keys, args=args))

    def keep_call(self, run: str, stage: str, part: int, token: str) -> Call:
        """The call of the step ``part_keep`` for a claim."""
        return [self._key(run, stage, "parts")], [part, token, int(LEASE_SECONDS * 1000)]

    def _keep_held(self) -> None:
        """Renew the claims of all parts of this process in one thread; a thread per part would cost too much."""
        while True:
            time.sleep(_RENEW_SECONDS)
            for (run, stage, part, token), until in list(self._held.items()):
                if time.monotonic() < until:
                    with contextlib.suppress(redis.RedisError):
                        self.owns_claim(run, stage, part, token)

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
        records: Records | None = None,
        work: str = "",
    ) -> Closed:
        """Close a claimed part and store its ``records``, atomically; `Closed.NOT` if another worker holds it now.

        ``when_open``: the next window is due when so many published parts are still open; None: unknown. ``work``: the
        collection from which the part's work is deleted. Before that, a retry of the part still needs it.
        """
        field, values, beside = records or Records(0, {})
        keys = [self._key(run), *(self._key(run, stage, *kind) for kind in ((), ("parts",), ("results",)))]
        keys += [self._key(run, "data", ""), self._key(run, "collections"), *([beside.key] if beside else ())]
        args: list[Any] = [
            part, token, "F" if failed else "D", msgspec.msgpack.encode(result), KEEP_PARTS_SECONDS,
            "" if when_open is None else when_open, work, field, *(beside[1:] if beside else ("", "")),
        ]  # fmt: skip
        for collection, value in values.items():
            args += [collection, msgspec.msgpack.encode(value)]
        return Closed(self._steps["part_close"](keys=keys, args=args))

    def release(self, run: str, stage: str, part: int, token: str, *, counted: bool) -> int:
        """Give a claim back; returns the attempts that count so far."""
        arguments: list[str | int] = [part, token, "" if counted else "1"]
        return int(self._steps["part_release"](keys=[self._key(run, stage, "parts")], args=arguments))

    def stage(self, run: str, stage: str) -> Stage:
        values = cast(
            "list[bytes | None]", self._redis.hmget(self._key(run, stage), ["total", "published", "closed", "failed"])
        )
        return Stage(*(int(value or 0) for value in values))

    def unclaimed(self, run: str, stage: str) -> int:
        """Return how many published parts were never claimed: they wait for a permit."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(self._key(run, stage), "published")
        pipe.hlen(self._key(run, stage, "parts"))
        published, claimed = cast("Any", pipe.execute())
        return max(0, int(published or 0) - int(claimed))

    def results(self, run: str, stage: str) -> list[Any]:
        """The results of the closed parts, by part number."""
        rows = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(run, stage, "results")))
        return [msgspec.msgpack.decode(rows[part]) for part in sorted(rows, key=int)]

    def open_parts(self, run: str, stage: str) -> list[int]:
        """Published parts that are neither closed nor held under a lease."""
        return [part for part, _, _ in self._idle(run, stage)]

    def claimed_by(self, run: str, stage: str, message: str) -> list[int]:
        """Return the open parts last claimed by deliveries of this message, in order."""
        held = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(run, stage, "parts")))
        mine = b" %s/" % message.encode()
        return sorted(int(part) for part, value in held.items() if mine in value)

    def quarantine_exhausted(self, run: str, stage: str) -> list[int]:
        """Close as failed the parts that used up their claims without a result; returns them."""
        exhausted = [(part, token) for part, attempts, token in self._idle(run, stage) if attempts >= MOST_CLAIMS]
        return [part for part, token in exhausted if self.close(run, stage, part, token, {}, failed=True)]

    def _idle(self, run: str, stage: str) -> Iterator[tuple[int, int, str]]:
        """Published, open parts without a live claim, as ``(part, attempts, last token)``."""
        now = redis_now_ms(self._redis)
        held = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(run, stage, "parts")))
        for part in range(self.stage(run, stage).published):
            value = held.get(b"%d" % part, b"0 0 ")
            if value not in _CLOSED:
                attempts, until_ms, token = value.split(b" ", 2)
                if int(until_ms) <= now:
                    yield part, int(attempts), token.decode()


def _claim(run: str, state: bytes, attempts: int, found: list[Any]) -> Claim:
    """``found``: fields and values of the run in turn, and the part's work, if it was claimed and asked for."""
    record = read_run(run, zip(found[0][::2], found[0][1::2], strict=True)) if found else None
    return Claim(state.decode(), attempts, record, found[1] if len(found) > 1 else None)
