"""Counters of an account in Redis, written by all workers: one round trip a request, and what a run's end adds.

Key: ``{prefix}account:{a}:metrics`` (hash; fields ``requests:{lane}:{method}:{status}``, ``wait:{lane}:{bound}``,
``wait_ms:{lane}``; and by ``run_end.lua``, with the end itself, ``runs:{mode}:{state}``, ``run_ms:{mode}``,
``listings:{mode}``, ``success_ms:{mode}``, ``last_mode``). Some tens of fields, never cut: counters only rise.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import redis

from okasie_tasks.adapters.trace import Traces
from okasie_tasks.core.metrics import Recorded, read_recorded, request_field, wait_fields

if TYPE_CHECKING:
    from okasie_tasks.adapters.runs import Runs
    from okasie_tasks.ports import RequestLog


class Counters:
    """All accounts' counters, beside the runs that they count."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._traces = Traces(runs)

    def sent(self, request: RequestLog, run: str = "") -> None:
        """Count one request, also for the run that sent it. A Redis that is away costs the count, not the answer."""
        key = self._runs.account_key(request.account, "metrics")
        pipe = self._runs.redis.pipeline(transaction=False)
        if run:
            self._runs.count_on(pipe, run, f"requests.{request.kind}")
        pipe.hincrby(key, request_field(request.lane, request.method, request.status), 1)
        for field, count in wait_fields(request.lane, round(request.waited_seconds * 1000)).items():
            pipe.hincrby(key, field, count)
        if run:
            self._traces.note_on(pipe, run, request)
        with contextlib.suppress(redis.RedisError):
            answers = pipe.execute(raise_on_error=False)
            if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
                self._traces.note(run, request)

    def read(self, account: str) -> Recorded:
        """What was counted so far; one command."""
        found = cast("dict[bytes, bytes]", self._runs.redis.hgetall(self._runs.account_key(account, "metrics")))
        return read_recorded({field.decode(): value.decode() for field, value in found.items()})
