"""A marketplace, a network and many workers in virtual time: what a limiter must survive, in seconds instead of hours.

The server here is written for these tests and shares nothing with the limiter: it refuses what its window forbids.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, Protocol

from okasie_tasks.ports import Feedback, Lane, Permit, Wait

Latency = Callable[[Random], float]


class AnyLimiter(Protocol):
    def acquire(self, ticket: str, lane: Lane, hold_seconds: float) -> Permit | Wait: ...
    def report(self, permit: Permit, feedback: Feedback) -> None: ...


class Window(Protocol):
    def admits(self, now: float) -> bool: ...


class Sliding:
    """At most ``limit`` in any ``seconds``, to the microsecond."""

    def __init__(self, limit: int, seconds: float = 60.0) -> None:
        self._limit, self._seconds = limit, seconds
        self.arrivals: list[float] = []

    def admits(self, now: float) -> bool:
        if len(self.arrivals) - bisect_left(self.arrivals, now - self._seconds) >= self._limit:
            return False
        self.arrivals.append(now)
        return True


class Fixed:
    """At most ``limit`` in each minute of the server's own clock, which runs ``phase`` seconds off ours."""

    def __init__(self, limit: int, phase: float) -> None:
        self._limit, self._phase = limit, phase
        self._minute, self._used = -1, 0

    def admits(self, now: float) -> bool:
        minute = int((now + self._phase) // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if self._used >= self._limit:
            return False
        self._used += 1
        return True


class Bucket:
    """Two tokens a second, five at most: the strictest reading of "120 a minute, burst of 5"."""

    def __init__(self, limit: int, burst: int = 5) -> None:
        self._rate, self._burst = limit / 60, burst
        self._tokens, self._at = float(burst), 0.0

    def admits(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Simulation:
    """Saturated workers: each asks, sends, reports, and asks again. Times in seconds of virtual time."""

    def __init__(
        self,
        limiter: AnyLimiter,
        set_clock: Callable[[float], None],
        windows: list[Window],
        *,
        workers: int = 12,
        latency: Latency,
        answer: Latency = lambda chance: 0.05 + chance.random() * 0.2,
        hold_seconds: float = 25.0,
        lost: float = 0.0,
        seed: int = 1,
        start: float = 1_000_000.0,
    ) -> None:
        self._limiter, self._set_clock, self._windows = limiter, set_clock, windows
        self._latency, self._answer, self._hold, self._lost = latency, answer, hold_seconds, lost
        self._chance = Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, str, Any]] = []
        self._start = self.now = start
        self.grants: list[tuple[float, float, Lane]] = []
        """(moment, seconds waited since first asked, lane)"""
        self.arrivals: list[float] = []
        self.refused = 0
        for worker in range(workers):
            self._at(self._chance.random(), "ask", (f"bulk-{worker}", 0, "bulk", None))

    def _at(self, after: float, what: str, data: Any) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), what, data))

    def urgent(self, after: float, name: str) -> None:
        """One urgent request, first asked ``after`` seconds from the start."""
        heapq.heappush(self._events, (self._start + after, next(self._order), "ask", (name, 0, "urgent", None)))

    def run(self, seconds: float) -> None:
        end = self._start + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, what, data = heapq.heappop(self._events)
            self._set_clock(self.now)
            getattr(self, f"_{what}")(*data)

    def _ask(self, worker: str, turn: int, lane: Lane, since: float | None) -> None:
        since = self.now if since is None else since
        answer = self._limiter.acquire(f"{worker}:{turn}", lane, self._hold)
        if isinstance(answer, Wait):
            assert 0 < answer.seconds <= 12
            self._at(answer.seconds, "ask", (worker, turn, lane, since))
            return
        self.grants.append((self.now, self.now - since, lane))
        travel = answer.after_seconds + self._latency(self._chance)
        self._at(travel, "arrive", (worker, turn, lane, answer))

    def _arrive(self, worker: str, turn: int, lane: Lane, permit: Permit) -> None:
        self.arrivals.append(self.now)
        admitted = all(window.admits(self.now) for window in self._windows)
        self.refused += not admitted
        if self._chance.random() < self._lost:
            self._at(self._hold, "answered", (worker, turn, lane, permit, Feedback(0)))
        else:
            feedback = Feedback(200) if admitted else Feedback(429, retry_after=1.0)
            self._at(self._answer(self._chance), "answered", (worker, turn, lane, permit, feedback))

    def _answered(self, worker: str, turn: int, lane: Lane, permit: Permit, feedback: Feedback) -> None:
        self._limiter.report(permit, feedback)
        if lane == "bulk":
            self._at(0.001, "ask", (worker, turn + 1, lane, None))


def busiest(arrivals: list[float], seconds: float) -> int:
    """The most arrivals in any interval of this length."""
    found = sorted(arrivals)
    first = most = 0
    for last, moment in enumerate(found):
        while found[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
