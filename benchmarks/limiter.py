"""How much of the quota a limiter uses, and how many refusals it causes: ours beside those of most libraries.

In virtual time: an hour of a saturated account against a server that allows 120 in any 60 s and 5 in any second, over a
network that is sometimes slow. ``share`` is the share of the 120 a minute that the server accepts at best.

    python benchmarks/limiter.py [MINUTES]

Our limiter alone, for a day, against other kinds of servers, and with faults:

    python benchmarks/limiter.py --scenarios [--hours 24]
"""

from __future__ import annotations

import argparse
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

from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Supervisor
from okasie_tasks.ports import Feedback, Lane, Permit, RequestLog, Wait
from okasie_tasks.store.limiter import RedisLimiter
from tests.limiter_model import MemoryLimiter
from tests.store.simulation import AnyLimiter, Bucket, Counter, Fixed, Simulation, Sliding, Window, busiest

Clock = Callable[[], float]


class SlidingLog:
    """120 permits in 60 s, counted from the moment they were granted."""

    def __init__(self, now: Clock, seconds: float = 60.0) -> None:
        self._now, self._seconds = now, seconds
        self._log: deque[float] = deque()

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        now = self._now()
        while self._log and self._log[0] <= now - self._seconds:
            self._log.popleft()
        if len(self._log) >= 120:
            return Wait(min(max(0.01, self._log[0] + self._seconds - now), 12.0), "quota")
        self._log.append(now)
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None: ...


class FixedWindow:
    """120 permits in each minute of the local clock, as Celery and many others define a rate."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._minute, self._used = -1, 0

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        now = self._now()
        if int(now // 60) != self._minute:
            self._minute, self._used = int(now // 60), 0
        if self._used >= 120:
            return Wait(min(max(0.01, 60 - now % 60), 12.0), "quota")
        self._used += 1
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None: ...


class FiveASecond:
    """Any of these, with at most 5 permits in a second, counted when they are granted."""

    def __init__(self, inner: AnyLimiter, now: Clock) -> None:
        self._inner, self._now = inner, now
        self._log: deque[float] = deque()

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        now = self._now()
        while self._log and self._log[0] <= now - 1.0:
            self._log.popleft()
        if len(self._log) >= 5:
            return Wait(max(0.001, self._log[0] + 1.0 - now), "burst")
        answer = self._inner.acquire(ticket, lane, reserve_seconds)
        if isinstance(answer, Permit):
            self._log.append(now)
        return answer

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None: ...


class Leaky:
    """One permit each half second, without regard to responses: smooth, but slightly too fast for a jittery network."""

    def __init__(self, now: Clock, per_minute: float) -> None:
        self._now, self._step = now, 60 / per_minute
        self._next = 0.0

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        now = self._now()
        if now < self._next:
            return Wait(min(max(0.001, self._next - now), 12.0), "pace")
        self._next = max(self._next, now - self._step) + self._step
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None: ...


def network(rng: Random) -> float:
    """Seconds to the server: 35 ms, sometimes one or three seconds."""
    roll = rng.random()
    return 3.0 if roll < 0.0005 else 1.0 if roll < 0.005 else rng.gauss(0.035, 0.01) % 0.2


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


def compare(minutes: int) -> Table:
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
    return table


# -- scenarios -----------------------------------------------------------------------------------------------------


class Scenario:
    """A server, and the reference model of the limiter: as exact as Redis (test_limiter_laws.py), but faster."""

    def __init__(self, *windows: Window, adapt: bool = False, burst: int = 5, seed: int = 1, workers: int = 6) -> None:
        self._time = 0.0
        self.limiter = MemoryLimiter(burst_per_second=burst, adapt_limit=adapt, clock=lambda: self._time)
        self.window = windows[0]
        self.simulation = Simulation(
            self.limiter,
            self._set_clock,
            list(windows),
            workers=workers,
            latency=network,
            seed=seed,
            headers=True,
            retry_after=None,
        )

    def _set_clock(self, now: float) -> None:
        self._time = now

    def urgent(self, until: float, per_second: float) -> None:
        rng, moment = Random(7), 60.0
        while (moment := moment + rng.expovariate(per_second)) < until:
            self.simulation.urgent(moment, f"urgent-{moment}")

    def run(self, seconds: float) -> Simulation:
        self.simulation.run(seconds)
        return self.simulation


SERVERS: dict[str, Callable[[], Window]] = {
    "fixed, phase 0": lambda: Fixed(120, 0.0),
    "fixed, phase 17": lambda: Fixed(120, 17.3),
    "fixed, phase 31": lambda: Fixed(120, 31.9),
    "fixed, phase 47": lambda: Fixed(120, 47.5),
    "sliding": lambda: Sliding(120),
    "sliding counter": lambda: Counter(120),
    "token bucket of 120": lambda: Bucket(120, 120),
    "token bucket of 5": lambda: Bucket(120),
}


def steady(hours: float) -> Table:
    """B1: an ordinary day."""
    scenario = Scenario(Sliding(120), Sliding(5, 1.0))
    scenario.urgent(hours * 3600, 0.05)
    done = scenario.run(hours * 3600)
    waits = sorted(waited for _, waited, lane in done.grants if lane == "urgent")
    table = Table("B1 hours", "used", "refused", "most in 60 s", "urgent p50", "urgent p99", "acquires / permit")
    table.add_row(
        f"{hours:g}",
        f"{done.share(60, hours * 3600):.2%}",
        str(done.refused),
        str(busiest(done.arrivals, 60.0)),
        f"{waits[len(waits) // 2] * 1000:.0f} ms",
        f"{waits[len(waits) * 99 // 100] * 1000:.0f} ms",
        f"{done.asked / len(done.grants):.2f}",
    )
    return table


def servers(hours: float) -> Table:
    """B2: each kind of window that the server may use."""
    table = Table(f"B2 server, {hours:g} h", "used", "refused", "most in 60 s")
    for name, window in SERVERS.items():
        done = Scenario(window()).run(hours * 3600)
        share = done.share(60, hours * 3600)
        table.add_row(name, f"{share:.2%}", str(done.refused), str(busiest(done.arrivals, 60.0)))
    return table


def overload() -> Table:
    """B5: more urgent requests than the whole quota, for 20 minutes."""
    scenario = Scenario(Sliding(120), Sliding(5, 1.0))
    scenario.urgent(1200, 3.0)
    done = scenario.run(1200)
    lanes = [lane for moment, _, lane in done.grants if moment > 1_000_120]
    table = Table("B5 urgent 3/s", "bulk share", "used", "refused", "most in 60 s")
    table.add_row(
        "",
        f"{lanes.count('bulk') / len(lanes):.1%}",
        f"{done.share(120, 1200):.2%}",
        str(done.refused),
        str(busiest(done.arrivals, 60.0)),
    )
    return table


def _flush(scenario: Scenario) -> float:
    scenario.simulation.later(1200, scenario.limiter.forget)
    return 1200


def _step(scenario: Scenario, seconds: float) -> float:
    scenario.simulation.later(1200, lambda: setattr(scenario.simulation, "clock_error", seconds))
    return 1200


def _limits(scenario: Scenario) -> float:
    scenario.simulation.later(1200, lambda: setattr(scenario.window, "limit", 60))
    scenario.simulation.later(2400, lambda: setattr(scenario.window, "limit", 300))
    return 2400


def _foreign(scenario: Scenario) -> float:
    scenario.simulation.foreign(1200, 2400, 30)
    return 2400


def _broken(scenario: Scenario) -> float:
    scenario.simulation.later(1200, lambda: setattr(scenario.simulation, "broken", True))
    scenario.simulation.later(1320, lambda: setattr(scenario.simulation, "broken", False))
    return 1320


FAULTS: dict[str, Callable[[Scenario], float]] = {
    "Redis flushed": _flush,
    "clock +30 s": lambda scenario: _step(scenario, 30.0),
    "clock -30 s": lambda scenario: _step(scenario, -30.0),
    "limit 60, then 300": _limits,
    "30 / min of others": _foreign,
    "2 minutes of 500": _broken,
}
"""The event at 20 minutes, and when it ends."""


def faults() -> Table:
    """B6: an event at 20 minutes; how much of the quota is used before it, during it, and from 3 minutes after it."""
    table = Table("B6", "server", "refused", "before", "during", "after", "most in 60 s", "caution after")
    for fault, happen in FAULTS.items():
        for name in ("fixed, phase 17", "sliding", "sliding counter", "token bucket of 5"):
            lasting = fault.startswith("limit")
            scenario = Scenario(SERVERS[name](), adapt=lasting, burst=10 if lasting else 5, workers=12)
            over = max(happen(scenario), 1260)
            done = scenario.run(over + 1200)
            table.add_row(
                fault,
                name,
                str(done.refused),
                f"{done.share(120, 1200):.1%}",
                f"{done.share(1200, over, 60 if lasting else 120):.1%}",
                f"{done.share(over + 180, over + 1200, 300 if lasting else 120):.1%}",
                str(busiest(done.arrivals, 60.0)),
                f"{scenario.limiter.status().caution:.1f}",
            )
    return table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("minutes", nargs="?", type=int, default=60, help="of the comparison")
    options.add_argument("--scenarios", action="store_true", help="days, servers and faults instead of the comparison")
    options.add_argument("--hours", type=float, default=24, help="of the steady day; a sixth of it for each server")
    chosen = options.parse_args()
    console = Console(width=120)
    if not chosen.scenarios:
        console.print(compare(chosen.minutes))
        return
    for table in (lambda: steady(chosen.hours), lambda: servers(chosen.hours / 6), overload, faults):
        console.print(table())


if __name__ == "__main__":
    main()
