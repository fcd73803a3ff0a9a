"""The rate limiter as plain arithmetic: what the Lua steps do inside Redis, to read, to test and to use in one process.

A *held log*: each permit is stamped with the latest moment at which the server can have counted its request (the
answer's arrival, else the call's total time-out), and a new one is granted only when fewer than the limit lie within
60.05 s. What holds, for any delays of the network (I1 and so on are the names that the tests use):

I1   for any arrival times between grant and stamp, no interval of 60 s holds more requests than the limit in force;
I2   nor one of 1 s more than the burst, as long as a request reaches the server within 1 s;
I3   nothing is granted before the pause ends, and while probing one request in 10 s unless it was answered;
I4   an urgent request never waits for a bulk ticket, except in bulk's turn (after 9 urgent grants in a row);
I5   a free slot whose first ticket is late goes to the next that asks: a ticket reserves nothing;
I6   bulk gets about one grant in ten while both lanes queue;
I8   ``now`` never falls; I9 a lower limit holds at once, a higher one after three equal answers in a row;
I10  a cancelled permit leaves the log as it was.

All times are whole milliseconds. `store/lua/limiter_*.lua` are the same steps, and one property suite drives both:
whoever changes one changes both.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

WINDOW_MS: Final = 60_050
"""60 s, and 50 ms for inclusive boundaries and clocks that run at slightly different speeds."""
PHANTOM: Final = "~"
"""Begins the ids of log entries that stand for requests of somebody else."""

_BURST_WINDOW, _BURST_HOLD = 1_005, 1_000
_HORIZON, _LATE, _GONE, _LONGEST, _LEAD, _TURN = 20, 100, 5_000, 12_000, 0.9, 9
_PROBE, _SLOP = 10_000, 450
_CATCH_UP = 3
"""Slots that a stall may have cost and that are made up for at once: no kind of window refuses four in a row."""
_BULK = 2**40
_FOREIGN, _FAILURES, _MOST_SLOWER = 3, 5, 3
_FORGET, _HALF_LIFE = 10_000, 21_600_000

_FIELDS: Final[dict[str, Callable[[str], object]]] = {
    **dict.fromkeys(("now", "seq", "st", "sl", "lc", "lv", "pause", "pt", "cf", "co", "fxt", "hxt", "fo"), int),
    **dict.fromkeys(("tat", "lh", "fx", "hx"), float),
    **dict.fromkeys(("pr", "pp"), str),
    "ok": "1".__eq__,
}


class Limits(NamedTuple):
    """What the account is allowed. ``adapt``: follow the server to a higher limit, too."""

    per_minute: int = 120
    burst_per_second: int = 5
    adapt: bool = False


class Ask(NamedTuple):
    """Who wants a permit. ``lane``: 0 urgent, 1 bulk; ``hold_ms``: total time-out of the call it is for."""

    ticket: str
    permit: str
    lane: int
    hold_ms: int


class Answer(NamedTuple):
    """Granted: to be sent ``ms`` from now. Else: to ask again in ``ms``, for this reason."""

    granted: bool
    ms: int
    reason: str = ""
    waited_ms: int = 0
    """Of a grant: since the ticket first asked. The same command a second time no longer knows, and tells 0."""


class LimiterStatus(msgspec.Struct, frozen=True):
    """One bucket as operators see it. ``limit`` is what is in force, per minute, after any caution."""

    limit: int
    used_last_minute: int
    waiting_urgent: int
    waiting_bulk: int
    pause_seconds: float
    probing: bool
    remaining: int = 0
    learned_limit: int | None = None
    """What the server's headers said."""
    foreign: int = 0
    """Requests of somebody else on the same key, as far as the headers told; part of ``used_last_minute``."""
    caution: float = 0.0
    """Requests a minute held back after refusals that nothing explained; fades by itself."""
    pause_reason: str = ""
    """"429" or "breaker"; "" when not paused."""


class Scores:
    """A Redis sorted set with whole numbers for scores."""

    def __init__(self) -> None:
        self._scores: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, member: str) -> bool:
        return member in self._scores

    def __getitem__(self, rank: int) -> int:
        return self._order[rank][0]

    def get(self, member: str) -> int | None:
        return self._scores.get(member)

    def add(self, member: str, score: int) -> None:
        self.remove(member)
        self._scores[member] = score
        insort(self._order, (score, member))

    def remove(self, member: str) -> bool:
        score = self._scores.pop(member, None)
        if score is None:
            return False
        del self._order[bisect_left(self._order, (score, member))]
        return True

    def below(self, score: int) -> int:
        """How many lie below ``score``."""
        return bisect_left(self._order, (score, ""))

    def members(self, start: int, stop: int) -> list[str]:
        return [member for _, member in self._order[start:stop]]

    def items(self) -> list[tuple[str, int]]:
        return [(member, score) for score, member in self._order]

    def forget(self, score: int) -> None:
        """Remove all up to and including ``score``."""
        for member in self.members(0, self.below(score + 1)):
            self.remove(member)


class Quota(NamedTuple):
    """What is in force at one moment."""

    n: int
    tau: float
    """Milliseconds from one bulk request to the next."""


class HeldLog:
    """One account's bucket. Attributes bear the names that the Redis keys and fields have (see adapters.limiter)."""

    def __init__(self) -> None:
        self.log, self.second, self.queue, self.due = Scores(), Scores(), Scores(), Scores()
        self.asked: dict[str, int] = {}
        self.now = self.seq = self.st = 0
        self.sl: int | None = None
        self.lc, self.lv = 0, -1
        self.tat = self.lh = 0.0
        self.pause, self.pr = 0, ""
        self.ok, self.pt, self.pp = False, 0, ""
        self.cf = self.co = 0
        self.fx = self.hx = 0.0
        self.fxt = self.hxt = 0
        self.fo = -WINDOW_MS

    # -- asking ------------------------------------------------------------------------------------------------------

    def acquire(self, now_ms: int, ask: Ask, limits: Limits) -> Answer:
        """A permit, or when to ask again with the same ticket."""
        now = max(self.now, now_ms)
        stamp = self.log.get(ask.permit)
        if stamp is not None:
            return Answer(True, max(0, stamp - ask.hold_ms - now))
        self.now = now
        quota = self._quota(now, limits)
        self._clean(now)
        place = self.queue.get(ask.ticket)
        if place is None:
            self.seq += 1
            place = ask.lane * _BULK + self.seq
            self.queue.add(ask.ticket, place)
        bulk_turn = self.st >= _TURN and self._bulk_waits()
        room, why = self._room(now, quota.n, limits.burst_per_second)
        moment = max(room, self.tat) if ask.lane == 1 and not bulk_turn else room
        free = moment <= now + _HORIZON
        blocked = free and self._blocked(now, quota.tau, place, ask.lane, bulk_turn)
        if free and not blocked:
            moment, asked = math.ceil(moment), self.asked.get(ask.ticket, now)
            self._grant(moment, ask, quota.tau)
            return Answer(True, moment - now, waited_ms=moment - asked)
        wait = self._wait(now, ask.lane, place, quota, moment=moment, blocked=blocked)
        self.due.add(ask.ticket, now + wait)
        self.asked.setdefault(ask.ticket, now)
        return Answer(False, wait, "queue" if blocked else why)

    def _ceiling(self, limits: Limits) -> int:
        told = limits.per_minute if self.sl is None else self.sl
        return told if limits.adapt else min(limits.per_minute, told)

    def _fewer(self, now: int) -> float:
        return max(0.0, self.fx - (now - self.fxt) / _FORGET) if self.fx else 0.0

    def _slower(self, now: int) -> float:
        return self.hx * 0.5 ** ((now - self.hxt) / _HALF_LIFE) if self.hx else 0.0

    def _quota(self, now: int, limits: Limits) -> Quota:
        n = max(self._ceiling(limits) - math.ceil(self._fewer(now)), 1)
        headroom = min(0.65, n * 0.1)
        return Quota(n, (WINDOW_MS + self.lh) / max(n - headroom - self._slower(now), n * 0.5))

    def _clean(self, now: int) -> None:
        self.log.forget(now - WINDOW_MS - 5_000)
        self.second.forget(now - _BURST_WINDOW)
        for ticket in self.due.members(0, min(self.due.below(now - _GONE + 1), 64)):
            self.drop(ticket)

    def _bulk_waits(self) -> bool:
        return self.queue.below(_BULK) < len(self.queue)

    def _used(self, now: int) -> int:
        return len(self.log) - self.log.below(now - WINDOW_MS + 1)

    def _room(self, now: int, n: int, burst: int) -> tuple[int, str]:
        """When pause, log, probe and burst log let a request through, and which of them is the last."""
        moment, why = now, "pace"
        if self.pause > moment:
            moment, why = self.pause, "pause"
        used = self._used(now)
        if used >= n:
            stamp = self.log[len(self.log) - n]
            free = now + 200 if stamp > now else stamp + WINDOW_MS + 1
            if free > moment:
                moment, why = free, "quota"
        if not self.ok and self.pt > 0 and now - self.pt < _PROBE and now + 100 > moment:
            moment, why = now + 100, "probe"
        if len(self.second) >= burst:
            stamp = self.second[len(self.second) - burst]
            free = now + 60 if stamp > now else stamp + _BURST_WINDOW + 1
            if free > moment:
                moment, why = free, "burst"
        return moment, why

    def _blocked(self, now: int, tau: float, place: int, lane: int, bulk_turn: bool) -> bool:
        """Whether the free slot belongs to someone who came earlier and is due about now."""
        bulk = self.queue.below(_BULK)
        if not bulk_turn:
            before = self.queue.members(0, min(self.queue.below(place), 8))
        elif lane == 1:
            before = self.queue.members(bulk, min(self.queue.below(place), bulk + 8))
        else:
            before = self.queue.members(bulk, bulk + 1)
        late, slop = min(_LATE, tau * 0.2 + 1), min(_SLOP, tau * _LEAD)
        for other in before:
            promised, bulky = self.due.get(other), self.queue.get(other) or 0
            # Among bulk whoever is here takes the slot, so that the tickets of a dead worker hold up nobody.
            reserved = min(slop, _LATE) if lane == 1 and bulky >= _BULK else slop
            if promised is not None and now - late <= promised <= now + reserved:
                return True
        return False

    def _grant(self, moment: int, ask: Ask, tau: float) -> None:
        bulk_waits = self._bulk_waits()
        self.drop(ask.ticket)
        self.log.add(ask.permit, self._latest(moment, ask.hold_ms))
        self.second.add(ask.permit, moment + _BURST_HOLD)
        self.tat = float(f"{min(max(self.tat, moment - _CATCH_UP * tau) + tau, moment + 4 * tau):.3f}")
        self.st = 0 if ask.lane == 1 else self.st + bulk_waits
        if not self.ok:
            self.pt, self.pp = moment, ask.permit

    def _latest(self, moment: int, hold_ms: int) -> int:
        """The latest moment at which the server can count a request granted for ``moment``."""
        return moment + hold_ms

    def _wait(self, now: int, lane: int, place: int, quota: Quota, *, moment: float, blocked: bool) -> int:
        """When a slot is likely to be there, with those ahead served: early rather than late, 12 s at the most."""
        ahead = self.queue.below(place)
        if lane == 1:
            bulk_ahead = max(0, ahead - self.queue.below(_BULK))
            ahead = min(ahead, bulk_ahead * (_TURN + 1) + max(_TURN - self.st, 0))
        step = min(250, quota.tau) if lane == 0 and self._used(now) < quota.n else quota.tau
        first = quota.tau if blocked and ahead == 0 else 0
        wait = max(moment - now, first) + ahead * step * _LEAD
        return math.ceil(min(max(wait, 5), _LONGEST))

    # -- telling -----------------------------------------------------------------------------------------------------

    def report(
        self,
        now_ms: int,
        permit: str,
        status: int,
        *,
        hold_ms: int,
        limits: Limits,
        limit: int | None = None,
        remaining: int | None = None,
        retry_after_ms: int | None = None,
    ) -> bool:
        """What became of a permit; False when that was told before. ``hold_ms`` as given when it was granted.

        ``status``: HTTP status, 0 no answer though bytes were written, -1 never connected.
        """
        now = max(self.now, now_ms)
        stamp = self.log.get(permit)
        if stamp is None or stamp <= now:
            return False
        self.now = now
        granted = stamp - hold_ms
        self._restamp(now, permit, status, granted)
        explained = False
        if limit is not None and limit >= 1:
            explained = self._learn(limit, limits)
            if remaining is not None and status > 0:
                explained |= self._find_foreign(now, permit, granted, limits, limit=limit, remaining=remaining)
        if self.pp == permit:
            self.pt = 0
        if status == 429:
            if self.ok and not explained:
                self._be_careful(now, self._ceiling(limits))
            self._pause_until(now + (1_000 if retry_after_ms is None else retry_after_ms), "429")
            self.cf = 0
        elif granted < self.pause:
            pass  # sent before the pause: it says nothing of the time after it, neither good nor bad
        elif status >= 500 or status <= 0:
            self._fail(now)
        else:
            self.ok, self.pt, self.cf, self.co = True, 0, 0, 0
        return True

    def _restamp(self, now: int, permit: str, status: int, granted: int) -> None:
        if status == -1:
            self.cancel(permit)
        elif status > 0:
            self.log.add(permit, now)
            if (self.second.get(permit) or 0) > now:
                self.second.add(permit, now)
            self.lh = float(f"{self.lh + 0.05 * (min(now - granted, 5_000) - self.lh):.1f}")

    def _learn(self, limit: int, limits: Limits) -> bool:
        """Follow the limit that the server tells: down at once, up at the third time. Whether it went down."""
        before = self.sl
        if before is None or limit < before:
            self.sl, self.lc = limit, 0
            return before is not None or limit < limits.per_minute
        if limit == before:
            self.lc = 0
            return False
        self.lv, self.lc = limit, self.lc + 1 if limit == self.lv else 1
        if self.lc >= 3:
            self.sl, self.lc = limit, 0
        return False

    def _find_foreign(self, now: int, permit: str, granted: int, limits: Limits, *, limit: int, remaining: int) -> bool:
        """Count what the server counted and we did not: somebody else on this key, or what a lost Redis forgot."""
        own = len(self.log) - self.log.below(granted - WINDOW_MS)
        foreign = limit - remaining - own - max(0, limit - self._ceiling(limits))
        if foreign < _FOREIGN:
            return False
        self.fo = now
        for number in range(1, min(foreign, 1_000) + 1):
            # Stamped now, not by the server's reset: on a sliding window that frees one request, not all of them.
            self.log.add(f"{PHANTOM}{permit}:{number}", now)
        return True

    def _be_careful(self, now: int, n: int) -> None:
        """Our books said that there was room: count on less for some minutes, and go slower for some hours."""
        self.fx, self.fxt = float(f"{min(self._fewer(now) + n * 0.05, n * 0.5):.3f}"), now
        # Somebody else on the key is a matter of minutes; a server that counts otherwise than we do, of hours.
        if now - self.fo >= WINDOW_MS:
            self.hx, self.hxt = float(f"{min(self._slower(now) + 1, _MOST_SLOWER):.3f}"), now

    def _fail(self, now: int) -> None:
        self.cf += 1
        # Five in a row open the breaker; after that, until one succeeds, each probe that fails opens it again.
        if self.cf >= _FAILURES or self.co:
            self._pause_until(now + min(5_000 * 2**self.co, 300_000), "breaker")
            self.cf, self.co = 0, self.co + 1

    def _pause_until(self, moment: int, reason: str) -> None:
        if moment > self.pause:
            self.pause, self.pr = moment, reason
        self.tat = max(self.tat, float(moment))  # a pause is not made up for
        self.ok = False

    # -- leaving and looking -----------------------------------------------------------------------------------------

    def cancel(self, permit: str) -> bool:
        """Give back a permit of which no byte was sent."""
        self.second.remove(permit)
        back = self.log.remove(permit)
        if back and self.pp == permit:
            self.pt = 0
        return back

    def drop(self, ticket: str) -> None:
        """Leave the queue."""
        self.queue.remove(ticket)
        self.due.remove(ticket)
        self.asked.pop(ticket, None)

    def load(self, state: Mapping[str, str]) -> None:
        """Take over the fields of the Redis hash; those that it lacks keep the value of an empty bucket."""
        for name, read in _FIELDS.items():
            if name in state:
                setattr(self, name, read(state[name]))

    def status(self, now_ms: int, limits: Limits) -> LimiterStatus:
        """A look that changes nothing."""
        now = max(self.now, now_ms)
        in_force, used = self._quota(now, limits).n, self._used(now)
        seen = self.log.members(len(self.log) - used, len(self.log))
        paused = max(0, self.pause - now)
        return LimiterStatus(
            limit=in_force,
            used_last_minute=used,
            waiting_urgent=self.queue.below(_BULK),
            waiting_bulk=len(self.queue) - self.queue.below(_BULK),
            pause_seconds=paused / 1000,
            probing=not self.ok,
            remaining=max(0, in_force - used),
            learned_limit=self.sl,
            foreign=sum(member.startswith(PHANTOM) for member in seen),
            caution=self._fewer(now) + self._slower(now),
            pause_reason=self.pr if paused else "",
        )
