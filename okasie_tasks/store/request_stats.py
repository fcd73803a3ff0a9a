"""Counters of an account in Redis, written by all workers: one round trip a request, and what a run's end adds.

Key: ``{prefix}account:{a}:metrics`` (hash; fields ``requests:{lane}:{method}:{status}``, ``wait:{lane}:{bound}``,
``wait_ms:{lane}``; and by ``run_end.lua``, with the end itself, ``runs:{mode}:{state}``, ``run_ms:{mode}``,
``listings:{mode}``, ``success_ms:{mode}``, ``last_mode``). Some tens of fields, never cut: counters only rise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from okasie_tasks.core.metrics import Recorded, read_recorded, request_field, wait_fields
from okasie_tasks.store.records import KEEP_RUN_SECONDS
from okasie_tasks.store.scripts import Call

if TYPE_CHECKING:
    from okasie_tasks.ports import RequestLog
    from okasie_tasks.store.runs import Runs


class Counters:
    """All accounts' counters, beside the runs that they count."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def count(self, request: RequestLog, run: str = "") -> Call:
        """Return what ``request_count.lua`` counts one request with, also for the run that sent it."""
        keys = [self._runs.account_key(request.account, "metrics"), *(_trace_keys(self._runs, run) if run else ())]
        waits = wait_fields(request.lane, round(request.waited_seconds * 1000)).items()
        args = [*_arguments(request), request_field(request.lane, request.method, request.status), 1, *chain(*waits)]
        return keys, args

    def read(self, account: str) -> Recorded:
        """What was counted so far; one command."""
        found = cast("dict[bytes, bytes]", self._runs.redis.hgetall(self._runs.account_key(account, "metrics")))
        return read_recorded({field.decode(): value.decode() for field, value in found.items()})


_MOST: Final = 10
_FINE_SECONDS, _SLOT, _WIDE_SLOT = 1200, 10, 300
_LONGEST: Final = 160


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
    """The stored trace of a run, slots without gaps. Empty for a run older than this feature."""

    slots: Sequence[Slot] = ()
    slowest: Sequence[Sent] = ()
    failed: Sequence[Sent] = ()


class Traces:
    """All runs' traces."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def read(self, run: str) -> Trace:
        """Return the trace of a run's requests, slowest first; one round trip."""
        counts, slowest, failed = _trace_keys(self._runs, run)[1:]
        pipe = self._runs.redis.pipeline(transaction=False)
        pipe.hgetall(counts)
        pipe.zrevrange(slowest, 0, -1)
        pipe.lrange(failed, 0, -1)
        replies: list[Any] = pipe.execute()
        counted = {name.decode(): int(count) for name, count in cast("dict[bytes, bytes]", replies[0]).items()}
        return Trace(list(_slots(counted)), [_sent(one) for one in replies[1]], [_sent(one) for one in replies[2]])


def _trace_keys(runs: Runs, run: str) -> list[str]:
    return [runs.key(run), *(runs.key(run, "trace", *rest) for rest in ((), ("slowest",), ("failed",)))]


def _arguments(request: RequestLog) -> list[Any]:
    sent = Sent(
        where=request.where[:_LONGEST],
        status=request.status,
        ms=round(request.seconds * 1000),
        request_id=request.request_id,
        items=request.items,
        waited_ms=round(request.waited_seconds * 1000),
    )
    kind = f"n:requests.{request.kind}"
    return [sent.ms, sent.status, msgspec.json.encode(sent), KEEP_RUN_SECONDS, _MOST, kind]


def _slots(counted: dict[str, int]) -> Iterator[Slot]:
    last = max((int(name[2:]) for name in counted), default=-1)
    at = 0
    while at <= last:
        seconds = _SLOT if at < _FINE_SECONDS else _WIDE_SLOT
        yield Slot(at, seconds, *(counted.get(f"{kind}:{at}", 0) for kind in "nrf"))
        at += seconds


def _sent(raw: bytes) -> Sent:
    at, _, document = raw.partition(b" ")
    return msgspec.structs.replace(msgspec.json.decode(document, type=Sent), at=int(at))
