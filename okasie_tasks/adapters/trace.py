"""What a run's report shows of its requests: how many went when, the slowest, the first that failed.

Keys, all kept as long as the run's record and bounded by `request_trace.lua` (about 2 kB for a run of ten minutes)::

    run:{r}:trace           hash   counts by time
    run:{r}:trace:slowest   zset   the ten slowest requests
    run:{r}:trace:failed    list   the first ten that were refused or failed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from okasie_tasks.adapters.lua_scripts import script
from okasie_tasks.adapters.run_records import KEEP_RUN_SECONDS
from okasie_tasks.adapters.runs import Runs

if TYPE_CHECKING:
    from okasie_tasks.ports import RequestLog

_MOST: Final = 10
_LONGEST: Final = 160
_FINE_SECONDS, _SLOT, _WIDE_SLOT = 1200, 10, 300


class Sent(msgspec.Struct, frozen=True):
    """One request. ``at``: whole seconds after the run began; ``ms`` to its answer; ``waited_ms`` for its permit."""

    where: str
    status: int
    ms: int
    request_id: str
    items: int = 0
    waited_ms: int = 0
    at: int = 0


class Slot(msgspec.Struct, frozen=True):
    """Requests that were sent between ``at`` and ``at + seconds`` after the run began."""

    at: int
    seconds: int
    requests: int = 0
    refused: int = 0
    failed: int = 0


class Trace(msgspec.Struct, frozen=True):
    """All that is kept, slots without a gap. Empty for a run from before it was kept."""

    slots: Sequence[Slot] = ()
    slowest: Sequence[Sent] = ()
    failed: Sequence[Sent] = ()


class Traces:
    """All runs' traces."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._script = script(runs.redis, "request_trace")

    def note_on(self, pipe: Any, run: str, request: RequestLog) -> None:
        """Keep one request, along with what ``pipe`` writes already; raises `NoScriptError` there after a restart.

        By its hash: redis-py's own way would ask the server for the script each time, one round trip more.
        """
        pipe.evalsha(self._script.sha, 4, *self._keys(run), *_arguments(request))

    def note(self, run: str, request: RequestLog) -> None:
        """The same by itself; loads the script where the server does not know it."""
        self._script(keys=self._keys(run), args=_arguments(request))

    def read(self, run: str) -> Trace:
        """What was kept of a run's requests, the slowest first; one round trip."""
        counts, slowest, failed = self._keys(run)[1:]
        pipe = self._runs.redis.pipeline(transaction=False)
        pipe.hgetall(counts)
        pipe.zrevrange(slowest, 0, -1)
        pipe.lrange(failed, 0, -1)
        found: list[Any] = pipe.execute()
        told = {name.decode(): int(count) for name, count in cast("dict[bytes, bytes]", found[0]).items()}
        return Trace(list(_slots(told)), [_sent(one) for one in found[1]], [_sent(one) for one in found[2]])

    def _keys(self, run: str) -> list[str]:
        return [self._runs.key(run), *(self._runs.key(run, "trace", *rest) for rest in ((), ("slowest",), ("failed",)))]


def _arguments(request: RequestLog) -> list[Any]:
    told = Sent(
        where=request.where[:_LONGEST],
        status=request.status,
        ms=round(request.seconds * 1000),
        request_id=request.request_id,
        items=request.items,
        waited_ms=round(request.waited_seconds * 1000),
    )
    return [told.ms, told.status, msgspec.json.encode(told), KEEP_RUN_SECONDS, _MOST]


def _slots(told: dict[str, int]) -> Iterator[Slot]:
    last = max((int(name[2:]) for name in told), default=-1)
    at = 0
    while at <= last:
        seconds = _SLOT if at < _FINE_SECONDS else _WIDE_SLOT
        yield Slot(at, seconds, *(told.get(f"{kind}:{at}", 0) for kind in "nrf"))
        at += seconds


def _sent(raw: bytes) -> Sent:
    at, _, told = raw.partition(b" ")
    return msgspec.structs.replace(msgspec.json.decode(told, type=Sent), at=int(at))
