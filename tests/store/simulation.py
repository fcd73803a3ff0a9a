"""A marketplace, a network and many workers in virtual time: what a limiter must survive, in seconds instead of hours.

The server here is written for these tests and shares nothing with the limiter: it refuses what its window forbids.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, Protocol

from okasie_tasks.ports import Feedback, Lane, Permit, RequestLog, Wait

Latency = Callable[[Random], float]


class AnyLimiter(Protocol):
    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait: ...
    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None: ...


class Window(Protocol):
    """``limit`` may be changed while it runs. ``left`` and ``reset`` (a moment) are what its headers would say."""

    limit: int

    def admits(self, now: float) -> bool: ...
    def left(self, now: float) -> int: ...
    def reset(self, now: float) -> float: ...


class Sliding:
    """At most ``limit`` in any ``seconds``, to the microsecond. Reset is when the oldest request leaves."""

    def __init__(self, limit: int, seconds: float = 60.0) -> None:
        self.limit, self._seconds = limit, seconds
        self.arrivals: list[float] = []

    def _used(self, now: float) -> int:
        return len(self.arrivals) - bisect_left(self.arrivals, now - self._seconds)

    def admits(self, now: float) -> bool:
        if self._used(now) >= self.limit:
            return False
        self.arrivals.append(now)
        return True

    def left(self, now: float) -> int:
        return max(0, self.limit - self._used(now))

    def reset(self, now: float) -> float:
        used = self._used(now)
        return (self.arrivals[-used] if used else now) + self._seconds


class Fixed:
    """At most ``limit`` in each minute of the server's own clock, which runs ``phase`` seconds off ours."""

    def __init__(self, limit: int, phase: float) -> None:
        self.limit, self._phase = limit, phase
        self._minute, self._used = -1, 0

    def _turn(self, now: float) -> None:
        minute = int((now + self._phase) // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0

    def admits(self, now: float) -> bool:
        self._turn(now)
        if self._used >= self.limit:
            return False
        self._used += 1
        return True

    def left(self, now: float) -> int:
        self._turn(now)
        return max(0, self.limit - self._used)

    def reset(self, now: float) -> float:
        return ((now + self._phase) // 60 + 1) * 60 - self._phase


class Counter:
    """Last minute's count, weighted by how much of it the last 60 s still cover, and this minute's: much used, inexact."""

    def __init__(self, limit: int, phase: float = 0.0) -> None:
        self.limit, self._phase = limit, phase
        self._minute, self._before, self._used = -1, 0, 0

    def _estimate(self, now: float) -> int:
        minute, into = divmod(now + self._phase, 60)
        if minute != self._minute:
            self._before = self._used if minute == self._minute + 1 else 0
            self._minute, self._used = int(minute), 0
        return math.floor(self._before * (1 - into / 60)) + self._used

    def admits(self, now: float) -> bool:
        if self._estimate(now) >= self.limit:
            return False
        self._used += 1
        return True

    def left(self, now: float) -> int:
        return max(0, self.limit - self._estimate(now))

    def reset(self, now: float) -> float:
        return ((now + self._phase) // 60 + 1) * 60 - self._phase


class Bucket:
    """Two tokens a second, five at most: the strictest reading of "120 a minute, burst of 5".

    It tells the tokens of a minute as ``limit`` and the missing ones of its five as used; Reset is when it is full.
    """

    def __init__(self, limit: int, burst: int = 5) -> None:
        self.limit, self._burst = limit, burst
        self._tokens, self._at = float(burst), 0.0

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.limit / 60)
        self._at = now

    def admits(self, now: float) -> bool:
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def left(self, now: float) -> int:
        self._fill(now)
        return max(0, self.limit - math.ceil(self._burst - self._tokens))

    def reset(self, now: float) -> float:
        self._fill(now)
        return now + (self._burst - self._tokens) * 60 / self.limit


class Simulation:
    """Saturated workers: each asks, sends, reports, and asks again. Times in seconds of virtual time.

    ``headers``: the server tells limit, remaining and reset. ``retry_after`` of a refusal; None until the reset.
    """

    def __init__(
        self,
        limiter: AnyLimiter,
        set_clock: Callable[[float], None],
        windows: list[Window],
        *,
        workers: int = 12,
        latency: Latency,
        answer: Latency = lambda rng: 0.05 + rng.random() * 0.2,
        reserve_seconds: float = 25.0,
        lost: float = 0.0,
        seed: int = 1,
        start: float = 1_000_000.0,
        headers: bool = False,
        retry_after: float | None = 1.0,
    ) -> None:
        self._limiter, self._set_clock, self._windows = limiter, set_clock, windows
        self._latency, self._answer, self._hold, self._lost = latency, answer, reserve_seconds, lost
        self._headers, self._retry_after = headers, retry_after
        self._rng = Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, str, Any]] = []
        self._start = self.now = start
        self.grants: list[tuple[float, float, Lane]] = []
        """(moment, seconds waited since first asked, lane)"""
        self.arrivals: list[float] = []
        self.refusals: list[float] = []
        """Moments at which one of ours was refused with a 429."""
        self.broken = False
        """While true the server answers 500 to everything, and counts it."""
        self.asked = 0
        self.clock_error = 0.0
        for worker in range(workers):
            self._at(self._rng.random(), "ask", (f"bulk-{worker}", 0, "bulk", None))

    @property
    def refused(self) -> int:
        return len(self.refusals)

    def _at(self, after: float, what: str, data: Any) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), what, data))

    def urgent(self, after: float, name: str) -> None:
        """One urgent request, first asked ``after`` seconds from the start."""
        heapq.heappush(self._events, (self._start + after, next(self._order), "ask", (name, 0, "urgent", None)))

    def later(self, after: float, action: Callable[[], object]) -> None:
        """Something happens to the world ``after`` seconds from the start."""
        heapq.heappush(self._events, (self._start + after, next(self._order), "happen", (action,)))

    def foreign(self, after: float, until: float, per_minute: float) -> None:
        """Somebody else sends on the same key, at uneven moments."""
        moment = after
        while (moment := moment + self._rng.expovariate(per_minute / 60)) < until:
            self.later(moment, lambda: [window.admits(self.now) for window in self._windows])

    def run(self, seconds: float) -> None:
        end = self._start + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, what, data = heapq.heappop(self._events)
            self._set_clock(self.now + self.clock_error)
            getattr(self, f"_{what}")(*data)

    def share(self, after: float, until: float, per_minute: float = 120) -> float:
        """How much of ``per_minute`` was sent and admitted between these seconds from the start."""
        first, last = self._start + after, self._start + until
        sent, no = (bisect_right(t, last) - bisect_right(t, first) for t in (self.arrivals, self.refusals))
        return (sent - no) * 60 / (until - after) / per_minute

    def _happen(self, action: Callable[[], object]) -> None:
        action()

    def _ask(self, worker: str, turn: int, lane: Lane, since: float | None) -> None:
        since = self.now if since is None else since
        self.asked += 1
        answer = self._limiter.acquire(f"{worker}:{turn}", lane, self._hold)
        if isinstance(answer, Wait):
            assert 0 < answer.seconds <= 12
            self._at(answer.seconds, "ask", (worker, turn, lane, since))
            return
        self.grants.append((self.now, self.now - since, lane))
        travel = answer.after_seconds + self._latency(self._rng)
        self._at(travel, "arrive", (worker, turn, lane, answer))

    def _arrive(self, worker: str, turn: int, lane: Lane, permit: Permit) -> None:
        self.arrivals.append(self.now)
        admitted = all(window.admits(self.now) for window in self._windows)
        if not admitted:
            self.refusals.append(self.now)
        feedback = self._say(500 if self.broken else 200 if admitted else 429)
        if self._rng.random() < self._lost:
            self._at(self._hold, "answered", (worker, turn, lane, permit, Feedback(0)))
        else:
            self._at(self._answer(self._rng), "answered", (worker, turn, lane, permit, feedback))

    def _say(self, status: int) -> Feedback:
        window = self._windows[0]
        retry_after = None
        if status == 429:
            until_reset = max(1.0, math.ceil(window.reset(self.now) - self.now))
            retry_after = until_reset if self._retry_after is None else self._retry_after
        if not self._headers:
            return Feedback(status, retry_after=retry_after)
        # Both headers are whole seconds: Date cut off, Reset as the sandbox and most servers round it.
        reset_in = math.ceil(window.reset(self.now)) - math.floor(self.now)
        return Feedback(status, window.limit, window.left(self.now), retry_after, float(reset_in))

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
