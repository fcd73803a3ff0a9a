"""What a run keeps of its own until it is over: records by place, in hashes and sets that end by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import redis

from okasie_tasks.adapters.lua_scripts import script
from okasie_tasks.adapters.run_records import KEEP_PARTS_SECONDS


class RunSpool:
    """Of all runs. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self.redis = client
        self._prefix = prefix
        self._spool = script(client, "run_spool")

    def key(self, run: str, *rest: str) -> str:
        return ":".join((f"{self._prefix}run:{run}", *rest))

    def put(self, run: str, place: str, field: str | int, value: object) -> None:
        """Keep something of the run's own until it is over; writing the same field twice is one write."""
        self.put_all(run, field, {place: value})

    def put_all(self, run: str, field: str | int, values: Mapping[str, object]) -> None:
        """The same for a value in each of these places, in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        for place, value in values.items():
            pipe.hset(self.key(run, "data", place), str(field), msgspec.msgpack.encode(value))
            self._keep(pipe, run, place)
        pipe.execute()

    def put_sorted(self, run: str, field: str | int, found: Mapping[str, object]) -> None:
        """Keep what one part has found in each of these places, in one step."""
        pairs = [item for place, value in found.items() for item in (place, msgspec.msgpack.encode(value))]
        args: list[Any] = [field, KEEP_PARTS_SECONDS, *pairs]
        self._spool(keys=[self.key(run, "data", ""), self.key(run, "places")], args=args)

    def mark(self, run: str, place: str, members: Sequence[bytes]) -> None:
        """Add members to a set of the run's own."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.sadd(self.key(run, "data", place), *members)
        self._keep(pipe, run, place)
        pipe.execute()

    def marked(self, run: str, place: str, members: Sequence[bytes]) -> list[bool]:
        """Which of these the set holds."""
        return [bool(found) for found in self.redis.smismember(self.key(run, "data", place), list(members))]

    def has(self, run: str, place: str) -> bool:
        """Whether the run keeps anything there."""
        return bool(self.redis.exists(self.key(run, "data", place)))

    def _keep(self, pipe: Any, run: str, place: str) -> None:
        pipe.expire(self.key(run, "data", place), KEEP_PARTS_SECONDS)
        pipe.sadd(self.key(run, "places"), place)
        pipe.expire(self.key(run, "places"), KEEP_PARTS_SECONDS)

    def fetch(self, run: str, place: str, kind: type[Any]) -> Iterator[Any]:
        """All values of a place, by field number."""
        found = cast("dict[bytes, bytes]", self.redis.hgetall(self.key(run, "data", place)))
        return (msgspec.msgpack.decode(found[field], type=kind) for field in sorted(found, key=int))

    def fetch_one(self, run: str, place: str, field: str | int, kind: type[Any]) -> Any:
        value = cast("bytes | None", self.redis.hget(self.key(run, "data", place), str(field)))
        return None if value is None else msgspec.msgpack.decode(value, type=kind)

    def drop(self, run: str, place: str, field: str | int) -> None:
        self.redis.hdel(self.key(run, "data", place), str(field))

    def clear(self, run: str, *, but: tuple[str, ...] = ()) -> None:
        """Forget what the run kept of its own, except places whose names begin with one of ``but``."""
        places = [place.decode() for place in cast("set[bytes]", self.redis.smembers(self.key(run, "places")))]
        gone = [place for place in places if not place.startswith(but)]
        for start in range(0, len(gone), 500):
            self.redis.unlink(*(self.key(run, "data", place) for place in gone[start : start + 500]))
