"""What changes, as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import redis
from starlette.concurrency import run_in_threadpool

from okasie_tasks.masking import cleaned
from okasie_tasks.reports.progress import progress_document
from okasie_tasks.services import Services
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.sync import plan_review

_POLL_SECONDS: Final = 1.0
_HEARTBEAT_SECONDS: Final = 15.0
_LONGEST_SECONDS: Final = 600.0
"""After that a client reconnects, so that its access is checked again."""
_MOST: Final = 20
"""Streams of one token in this process. Each reads Redis once a second."""


class Streams:
    """Counts the open streams of this process by the name of the token."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def opened(self, name: str) -> bool:
        """Count a stream; returns False if the token has as many as it may. `closed` must follow."""
        if self._open[name] >= _MOST:
            return False
        self._open[name] += 1
        return True

    def closed(self, name: str) -> None:
        self._open[name] -= 1


async def stream(services: Services, accounts: Sequence[str]) -> AsyncIterator[str]:
    """Yield the events of these accounts as text: first how things are, then what changes.

    Ends with the client, or after 10 min.
    """
    seen: dict[tuple[str, str], str] = {}
    number, begun = 0, time.monotonic()
    last = begun
    yield "retry: 2000\n\n"
    while time.monotonic() - begun < _LONGEST_SECONDS:
        try:
            found = await run_in_threadpool(lambda: list(_now(services, accounts)))
        except redis.RedisError as error:
            found = [("error", "", {"message": redis_problem(error).message})]
        for kind, account, document in found:
            data = json.dumps(cleaned(document), ensure_ascii=False)
            if seen.get((kind, account)) != data:
                seen[kind, account] = data
                number, last = number + 1, time.monotonic()
                yield f"id: {number}\nevent: {kind}\ndata: {data}\n\n"
        if time.monotonic() - last >= _HEARTBEAT_SECONDS:
            last = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(_POLL_SECONDS)


def _now(services: Services, accounts: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for account in accounts:
        ctx = services.context(account)
        run = ctx.runs.active(account) or ctx.runs.waiting(account) or next(iter(ctx.runs.history(account, 1)), None)
        if run is not None and (record := ctx.runs.get(run)) is not None:
            yield "progress", account, progress_document(ctx, record)
        plan = plan_review.held_plan(ctx)
        held = {"run": plan.run, "count": plan.count} if plan is not None else {"run": None, "count": 0}
        yield "held", account, {"account": account, **held}
        yield "rejects", account, {"account": account, "count": ctx.ledger.reject_count()}
