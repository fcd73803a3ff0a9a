"""The sandbox's rate limiter: three kinds of window, and the burst rule, per key.

The marketplace documents 120 requests a minute and bursts of up to 5 a second, but not how it counts them
(API docs, rate-limiting). So a client can be tested with each kind.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, NamedTuple

Window = Literal["fixed", "sliding", "bucket"]
SECONDS: Final = 60.0


class QuotaDecision(NamedTuple):
    """Whether a request is allowed. ``retry_after`` in seconds, > 0 if not; ``reset``: Unix time in seconds."""

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class Quota:
    """One key's quota. ``limit`` 0 is unlimited. Refused requests are not counted; a 401 is sent before the quota."""

    def __init__(self, limit: int, window: Window, burst_per_second: int) -> None:
        self.limit = limit
        self.window = window
        self.burst_per_second = burst_per_second
        self._log: deque[float] = deque()
        self._second: deque[float] = deque()
        self._opened = 0.0
        self._used = 0
        self._tokens = float(limit)
        self._filled_at: float | None = None

    def take(self, now: float) -> QuotaDecision:
        """Count one request at Unix time ``now``, or refuse it."""
        while self._second and self._second[0] <= now - 1.0:
            self._second.popleft()
        if self.limit and len(self._second) >= self.burst_per_second:
            remaining, reset = self._state(now)
            return QuotaDecision(False, remaining, reset, self._second[0] + 1.0 - now)
        wait = self._wait(now)
        if wait > 0:
            return QuotaDecision(False, 0, now + wait, wait)
        self._second.append(now)
        self._count(now)
        remaining, reset = self._state(now)
        return QuotaDecision(True, remaining, reset, 0.0)

    def look(self, now: float) -> QuotaDecision:
        """The quota's state, without a request."""
        return QuotaDecision(True, *self._state(now), 0.0)

    def change(self, limit: int) -> None:
        """Set another limit. Requests that were counted stay counted."""
        self.limit = limit
        self._tokens = min(self._tokens, float(limit))

    def _wait(self, now: float) -> float:
        if not self.limit:
            return 0.0
        if self.window == "fixed":
            if now >= self._opened + SECONDS:
                self._opened, self._used = now, 0
            return self._opened + SECONDS - now if self._used >= self.limit else 0.0
        if self.window == "bucket":
            self._fill(now)
            return (1.0 - self._tokens) * SECONDS / self.limit if self._tokens < 1.0 else 0.0
        while self._log and self._log[0] < now - SECONDS:
            self._log.popleft()
        excess = len(self._log) - self.limit
        # Inclusive: a request exactly 60 s old still counts.
        return self._log[excess] + SECONDS - now + 1e-6 if excess >= 0 else 0.0

    def _count(self, now: float) -> None:
        self._used += 1
        self._tokens -= 1.0
        if self.window == "sliding" and self.limit:
            self._log.append(now)

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(float(self.limit), self._tokens + (now - self._filled_at) * self.limit / SECONDS)
        self._filled_at = now

    def _state(self, now: float) -> tuple[int, float]:
        if not self.limit:
            return 1_000_000, now + SECONDS
        if self.window == "fixed":
            return max(0, self.limit - self._used), self._opened + SECONDS
        if self.window == "bucket":
            return max(0, int(self._tokens)), now + (self.limit - self._tokens) * SECONDS / self.limit
        return max(0, self.limit - len(self._log)), (self._log[0] if self._log else now) + SECONDS


class Meter:
    """The requests of one key, by kind and status, and its busiest minute and second."""

    def __init__(self, keep: int = 200_000) -> None:
        self.requests: deque[dict[str, object]] = deque(maxlen=keep)
        self.by_kind: dict[str, int] = {}
        self.refused = 0
        self.busiest_minute = 0
        self.busiest_second = 0
        self._minute: deque[float] = deque()
        self._second: deque[float] = deque()

    def note(self, now: float, kind: str, status: int, items: int) -> None:
        """Count one authenticated request that arrived at ``now``."""
        self.requests.append({"at": now, "kind": kind, "status": status, "items": items})
        self.by_kind[f"{kind}:{status}"] = self.by_kind.get(f"{kind}:{status}", 0) + 1
        if status == 429:
            self.refused += 1
            return
        self.busiest_minute = max(self.busiest_minute, _slide(self._minute, now, SECONDS))
        self.busiest_second = max(self.busiest_second, _slide(self._second, now, 1.0))


def _slide(log: deque[float], now: float, seconds: float) -> int:
    log.append(now)
    while log[0] <= now - seconds:
        log.popleft()
    return len(log)
