"""The quota arithmetic behind the rate limiter's status, and the limiter's invariants.

The limiter decides in Redis (``store/lua/limiter_*.lua``). It keeps a *held log*: each permit is stamped with the
latest moment at which the server can have counted its request (the answer's arrival, else the call's total time-out).
A permit is granted only when fewer than the limit lie within 60.05 s. These invariants hold for any network delays; the
tests name them, and drive a plain-Python reference model in lock step with Redis:

I1   for any arrival times between grant and stamp, no interval of 60 s holds more requests than the limit in force;
I2   nor one of 1 s more than the burst, as long as a request reaches the server within 1 s;
I3   nothing is granted before the pause ends, and while probing one request in 10 s unless it was answered;
I4   an urgent request never waits for a bulk ticket, except in bulk's turn (after 9 urgent grants in a row);
I5   a free slot whose first ticket is late goes to the next that asks: a ticket reserves nothing;
I6   bulk gets about one grant in ten while both lanes queue;
I8   ``now`` never falls; I9 a lower limit holds at once, a higher one after three equal answers in a row;
I10  a cancelled permit leaves the log as it was.

All times are whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, NamedTuple, Self

import msgspec

WINDOW_MS: Final = 60_050
"""60 s, and 50 ms for inclusive boundaries and clocks that run at slightly different speeds."""
PHANTOM: Final = "~"
"""Begins the ids of log entries that stand for requests of another client."""

_CATCH_UP: Final = 3
"""How many bulk requests that the pace missed are made up for at once, as in ``limiter_acquire.lua``."""
_FORGET_MS, _HALF_LIFE_MS = 10_000, 21_600_000


def _whole(stored: str) -> int:
    """Redis 7.2 stores a script's number 1000000000 as "1e+9"."""
    return int(float(stored))


_FIELDS: Final[dict[str, Callable[[str], object]]] = {
    **dict.fromkeys(("now", "sl", "pause", "fxt", "hxt"), _whole),
    **dict.fromkeys(("tat", "lh", "fx", "hx"), float),
    "pr": str,
    "ok": "1".__eq__,
}


class Limits(NamedTuple):
    """What the account is allowed. ``adapt``: follow the server to a higher limit, too."""

    per_minute: int = 120
    burst_per_second: int = 5
    adapt: bool = False


class Quota(NamedTuple):
    """What is in force at one moment."""

    n: int
    tau: float
    """Milliseconds from one bulk request to the next."""


class LimiterStatus(msgspec.Struct, frozen=True):
    """One bucket as shown to operators. ``limit`` is what is in force, per minute, after any caution."""

    limit: int
    used_last_minute: int
    waiting_urgent: int
    waiting_bulk: int
    pause_seconds: float
    probing: bool
    remaining: int = 0
    learned_limit: int | None = None
    """The limit announced by the server's headers."""
    foreign: int = 0
    """Requests of other clients on the same key, according to the headers; part of ``used_last_minute``."""
    caution: float = 0.0
    """Requests per minute held back after unexplained refusals; decays over time."""
    pause_reason: str = ""
    """"429", "breaker" or "retry-after"; "" when not paused."""
    pace_seconds: float = 0.5
    """From one bulk request to the next."""
    next_bulk_seconds: float = 0.0
    """Until the pace allows the next bulk request. Negative by the requests that are made up for at once."""


class BucketState:
    """What one account's bucket has learned. Attributes have the names of the fields of its hash in Redis.

    `okasie_tasks.store.limiter` lists them.
    """

    fields: ClassVar[Mapping[str, Callable[[str], object]]] = _FIELDS

    def __init__(self) -> None:
        self.now = 0
        self.sl: int | None = None
        self.tat = self.lh = 0.0
        self.pause, self.pr = 0, ""
        self.ok = False
        self.fx = self.hx = 0.0
        self.fxt = self.hxt = 0

    @classmethod
    def read(cls, stored: Mapping[str, str]) -> Self:
        """From the fields of the hash; those that it lacks have the value of an empty bucket."""
        state = cls()
        for name, convert in cls.fields.items():
            if name in stored:
                setattr(state, name, convert(stored[name]))
        return state

    def ceiling(self, limits: Limits) -> int:
        """Requests a minute before any caution."""
        announced = limits.per_minute if self.sl is None else self.sl
        return announced if limits.adapt else min(limits.per_minute, announced)

    def fewer(self, now: int) -> float:
        """Requests a minute held back after refusals that nothing explained; fades in minutes."""
        return max(0.0, self.fx - (now - self.fxt) / _FORGET_MS) if self.fx else 0.0

    def slower(self, now: int) -> float:
        """Requests a minute by which bulk is paced slower after such refusals; fades in hours."""
        return self.hx * 0.5 ** ((now - self.hxt) / _HALF_LIFE_MS) if self.hx else 0.0

    def quota(self, now: int, limits: Limits) -> Quota:
        """What is in force at ``now``."""
        n = max(self.ceiling(limits) - math.ceil(self.fewer(now)), 1)
        headroom = min(0.65, n * 0.1)
        return Quota(n, (WINDOW_MS + self.lh) / max(n - headroom - self.slower(now), n * 0.5))

    def summary(
        self, now_ms: int, limits: Limits, log: Sequence[tuple[str, int]], *, urgent: int, bulk: int
    ) -> LimiterStatus:
        """The bucket as operators see it. ``log``: permits and their stamps; ``urgent``, ``bulk``: tickets waiting."""
        now = max(self.now, now_ms)
        in_force, tau = self.quota(now, limits)
        used = [permit for permit, stamp in log if stamp > now - WINDOW_MS]
        paused = max(0, self.pause - now)
        return LimiterStatus(
            limit=in_force,
            used_last_minute=len(used),
            waiting_urgent=urgent,
            waiting_bulk=bulk,
            pause_seconds=paused / 1000,
            probing=not self.ok,
            remaining=max(0, in_force - len(used)),
            learned_limit=self.sl,
            foreign=sum(permit.startswith(PHANTOM) for permit in used),
            caution=self.fewer(now) + self.slower(now),
            pause_reason=self.pr if paused else "",
            pace_seconds=tau / 1000,
            next_bulk_seconds=(max(self.tat, now - _CATCH_UP * tau) - now) / 1000,
        )
