"""How much of the quota a limiter uses, and what it costs in refusals: ours beside those that most libraries offer.

Virtual time: an hour of a saturated account against a server that allows 120 in any 60 s and 5 in any second, over a
network that is now and then slow. ``share`` is of the 120 a minute that the server would take at the very best.

    python benchmarks/limiter.py [MINUTES]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import redis
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from okasie_tasks.adapters.embedded import EmbeddedRedis
from okasie_tasks.adapters.limiter import RedisLimiter
from okasie_tasks.adapters.supervisor import Supervisor
from okasie_tasks.ports import Feedback, Lane, Permit, Wait
from tests.adapters.simulation import AnyLimiter, Simulation, Sliding, busiest

Clock = Callable[[], float]


class SlidingLog:
    """120 permits in 60 s, counted from the moment they were given."""

    def __init__(self, now: Clock, seconds: float = 60.0) -> None:
        self._now, self._seconds = now, seconds
        self._log: deque[float] = deque()

    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait:
        now = self._now()
        while self._log and self._log[0] <= now - self._seconds:
            self._log.popleft()
        if len(self._log) >= 120:
            return Wait(min(max(0.01, self._log[0] + self._seconds - now), 12.0), "quota")
        self._log.append(now)
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback) -> None: ...


class FixedWindow:
    """120 permits in each minute of our own clock: Celery's and many others' idea of a rate."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._minute, self._used = -1, 0

    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait:
        now = self._now()
        if int(now // 60) != self._minute:
            self._minute, self._used = int(now // 60), 0
        if self._used >= 120:
            return Wait(min(max(0.01, 60 - now % 60), 12.0), "quota")
        self._used += 1
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback) -> None: ...


class FiveASecond:
    """Any of these, and no more than 5 permits in a second, counted when they are given."""

    def __init__(self, inner: AnyLimiter, now: Clock) -> None:
        self._inner, self._now = inner, now
        self._log: deque[float] = deque()

    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait:
        now = self._now()
        while self._log and self._log[0] <= now - 1.0:
            self._log.popleft()
        if len(self._log) >= 5:
            return Wait(max(0.001, self._log[0] + 1.0 - now), "burst")
        answer = self._inner.acquire(ticket, lane, hold_seconds)
        if isinstance(answer, Permit):
            self._log.append(now)
        return answer

    def report(self, permit: Permit, feedback: Feedback) -> None: ...


class Leaky:
    """One permit each half second, no memory of answers: smooth, and a little too fast for a jittery network."""

    def __init__(self, now: Clock, per_minute: float) -> None:
        self._now, self._step = now, 60 / per_minute
        self._next = 0.0

    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait:
        now = self._now()
        if now < self._next:
            return Wait(min(max(0.001, self._next - now), 12.0), "pace")
        self._next = max(self._next, now - self._step) + self._step
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback) -> None: ...


def network(chance: Random) -> float:
    """Seconds to the server: 35 ms, now and then one or three seconds."""
    roll = chance.random()
    return 3.0 if roll < 0.0005 else 1.0 if roll < 0.005 else chance.gauss(0.035, 0.01) % 0.2


@contextmanager
def server() -> Iterator[redis.Redis]:
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    embedded, supervisor = EmbeddedRedis(folder), Supervisor(print)
    try:
        embedded.wait(supervisor.add(embedded.child()))
        with redis.Redis.from_url(embedded.url) as client:
            yield client
    finally:
        supervisor.stop(5)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    moment = [0.0]
    table = Table("limiter", "sent / min", "share", "refused / h", "most in 60 s", "most in 1 s", "µs / permit")
    with server() as client:
        ours = RedisLimiter(client, prefix="b:", bucket="x", clock=lambda: round(moment[0] * 1000))
        now: Clock = lambda: moment[0]  # noqa: E731
        limiters: dict[str, AnyLimiter] = {
            "held log + pace (ours)": ours,
            "sliding log, stamped at grant": FiveASecond(SlidingLog(now), now),
            "sliding log of 60.6 s": FiveASecond(SlidingLog(now, 60.6), now),
            "fixed window": FiveASecond(FixedWindow(now), now),
            "leaky bucket, 120 a minute": FiveASecond(Leaky(now, 120), now),
            "leaky bucket, 117 a minute": FiveASecond(Leaky(now, 117), now),
        }
        for name, limiter in limiters.items():
            windows = [Sliding(120), Sliding(5, 1.0)]
            simulation = Simulation(limiter, lambda at: moment.__setitem__(0, at), windows, latency=network, seed=1)  # type: ignore[arg-type]
            began = time.perf_counter()
            simulation.run(60 * minutes)
            spent = time.perf_counter() - began
            sent, done = len(simulation.arrivals) / minutes, len(simulation.arrivals) - simulation.refused
            table.add_row(
                name,
                f"{sent:.2f}",
                f"{done / minutes / 120:.2%}",
                f"{simulation.refused * 60 / minutes:.0f}",
                str(busiest(simulation.arrivals, 60.0)),
                str(busiest(simulation.arrivals, 1.0)),
                f"{spent / len(simulation.arrivals) * 1e6:.0f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
