"""The reference model of the rate limiter: what the Lua scripts do inside Redis, in plain Python.

One property suite drives both in lock step: a change to ``okasie_tasks/store/lua/limiter_*.lua`` is a change here.
The invariants are those of `okasie_tasks.core.quota`. All times are whole milliseconds. `MemoryLimiter` is the model
behind the limiter's port, for the threads of one process.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import count
from threading import Lock
from typing import ClassVar, Final, NamedTuple

from okasie_tasks.core.quota import PHANTOM, WINDOW_MS, BucketState, LimiterStatus, Limits, Quota
from okasie_tasks.ports import Feedback, Lane, Permit, RequestLog, Wait

_BURST_WINDOW, _BURST_HOLD = 1_005, 1_000
_HORIZON, _LATE, _GONE, _LONGEST, _LEAD, _TURN = 20, 100, 5_000, 12_000, 0.98, 9
_PROBE, _SLOP = 10_000, 450
_CATCH_UP = 3
"""Slots that a stall may have cost and that are made up for at once: no kind of window refuses four in a row."""
_BULK = 2**40
_FOREIGN, _FAILURES, _MOST_SLOWER = 3, 5, 3

_MORE_FIELDS: Final[dict[str, Callable[[str], object]]] = {
    **dict.fromkeys(("seq", "st", "lc", "lv", "pt", "cf", "co", "fo"), int),
    **dict.fromkeys(("tat", "lt"), float),
    **dict.fromkeys(("pp", "lp"), str),
}


class Ask(NamedTuple):
    """Who wants a permit. ``lane``: 0 urgent, 1 bulk; ``reserve_ms``: total time-out of the call it is for."""

    ticket: str
    permit: str
    lane: int
    reserve_ms: int


class Answer(NamedTuple):
    """Granted: to be sent ``ms`` from now. Else: to ask again in ``ms``, for this reason."""

    granted: bool
    ms: int
    reason: str = ""
    waited_ms: int = 0
    """Of a grant: since the ticket first asked. The same command a second time no longer knows, and tells 0."""


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


class HeldLog(BucketState):
    """One account's bucket. Attributes have the names of the Redis keys and fields (see `okasie_tasks.store.limiter`)."""

    fields: ClassVar = {**BucketState.fields, **_MORE_FIELDS}

    def __init__(self) -> None:
        super().__init__()
        self.log, self.second, self.queue, self.due = Scores(), Scores(), Scores(), Scores()
        self.asked: dict[str, int] = {}
        self.seq = self.st = 0
        self.lc, self.lv = 0, -1
        self.tat = self.lt = 0.0
        self.lp = ""
        self.pt, self.pp = 0, ""
        self.cf = self.co = 0
        self.fo = -WINDOW_MS

    # -- asking ------------------------------------------------------------------------------------------------------

    def acquire(self, now_ms: int, ask: Ask, limits: Limits) -> Answer:
        """A permit, or when to ask again with the same ticket."""
        now = max(self.now, now_ms)
        stamp = self.log.get(ask.permit)
        if stamp is not None:
            return Answer(True, max(0, stamp - ask.reserve_ms - now))
        self.now = now
        quota = self.quota(now, limits)
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
        self.log.add(ask.permit, self._latest(moment, ask.reserve_ms))
        self.second.add(ask.permit, moment + _BURST_HOLD)
        self.lp, self.lt = ask.permit, float(f"{self.tat:.3f}")
        self.tat = float(f"{min(max(self.tat, moment - _CATCH_UP * tau) + tau, moment + 4 * tau):.3f}")
        self.st = 0 if ask.lane == 1 else self.st + bulk_waits
        if not self.ok:
            self.pt, self.pp = moment, ask.permit

    def _latest(self, moment: int, reserve_ms: int) -> int:
        """The latest moment at which the server can count a request granted for ``moment``."""
        return moment + reserve_ms

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
        reserve_ms: int,
        limits: Limits,
        limit: int | None = None,
        remaining: int | None = None,
        retry_after_ms: int | None = None,
    ) -> bool:
        """What became of a permit; False when that was told before. ``reserve_ms`` as given when it was granted.

        ``status``: HTTP status, 0 no answer though bytes were written, -1 never connected.
        """
        now = max(self.now, now_ms)
        stamp = self.log.get(permit)
        if stamp is None or stamp <= now:
            return False
        self.now = now
        granted = stamp - reserve_ms
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
                self._be_careful(now, self.ceiling(limits))
            self._pause_until(now + (1_000 if retry_after_ms is None else retry_after_ms), "429")
            self.cf = 0
        elif granted < self.pause:
            pass  # sent before the pause: it says nothing of the time after it, neither good nor bad
        elif status >= 500 or status <= 0:
            self._fail(now, retry_after_ms)
        else:
            self.ok, self.pt, self.cf, self.co = True, 0, 0, 0
        return True

    def _restamp(self, now: int, permit: str, status: int, granted: int) -> None:
        if status == -1:
            self.log.remove(permit)
            self.second.remove(permit)
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
        foreign = limit - remaining - own - max(0, limit - self.ceiling(limits))
        if foreign < _FOREIGN:
            return False
        self.fo = now
        for number in range(1, min(foreign, 1_000) + 1):
            # Stamped now, not by the server's reset: on a sliding window that frees one request, not all of them.
            self.log.add(f"{PHANTOM}{permit}:{number}", now)
        return True

    def _be_careful(self, now: int, n: int) -> None:
        """Our books said that there was room: count on less for some minutes, and go slower for some hours."""
        self.fx, self.fxt = float(f"{min(self.fewer(now) + n * 0.05, n * 0.5):.3f}"), now
        # Somebody else on the key is a matter of minutes; a server that counts otherwise than we do, of hours.
        if now - self.fo >= WINDOW_MS:
            self.hx, self.hxt = float(f"{min(self.slower(now) + 1, _MOST_SLOWER):.3f}"), now

    def _fail(self, now: int, retry_after_ms: int | None) -> None:
        if retry_after_ms is not None:
            self._pause_until(now + retry_after_ms, "retry-after")
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
        if back and self.lp == permit:
            self.tat, self.lp = float(f"{min(self.tat, max(self.lt, float(self.pause))):.3f}"), ""
        return back

    def drop(self, ticket: str) -> None:
        """Leave the queue."""
        self.queue.remove(ticket)
        self.due.remove(ticket)
        self.asked.pop(ticket, None)

    def status(self, now_ms: int, limits: Limits) -> LimiterStatus:
        """A look that changes nothing."""
        urgent = self.queue.below(_BULK)
        return self.summary(now_ms, limits, self.log.items(), urgent=urgent, bulk=len(self.queue) - urgent)


class MemoryLimiter:
    """One account's bucket, for the threads of one process. ``clock`` gives seconds; only its differences count."""

    def __init__(
        self,
        *,
        per_minute: int = 120,
        burst_per_second: int = 5,
        adapt_limit: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = Limits(per_minute, burst_per_second, adapt_limit)
        self._clock = clock
        self._log = HeldLog()
        self._ids = count()
        self._one_at_a_time = Lock()

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        hold = round(reserve_seconds * 1000)
        with self._one_at_a_time:
            permit = f"{ticket}/{next(self._ids)}.{hold}"
            answer = self._log.acquire(self._now(), Ask(ticket, permit, int(lane == "bulk"), hold), self._limits)
        if answer.granted:
            return Permit(permit, after_seconds=answer.ms / 1000, waited_seconds=answer.waited_ms / 1000)
        return Wait(answer.ms / 1000, answer.reason)

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None:
        with self._one_at_a_time:
            self._log.report(
                self._now(),
                permit.id,
                503 if feedback.failed else feedback.status,
                reserve_ms=int(permit.id.rsplit(".", 1)[1]),
                limits=self._limits,
                limit=feedback.limit,
                remaining=feedback.remaining,
                retry_after_ms=None if feedback.retry_after is None else math.ceil(feedback.retry_after * 1000),
            )

    def cancel(self, permit: Permit) -> None:
        with self._one_at_a_time:
            self._log.cancel(permit.id)

    def drop(self, ticket: str) -> None:
        with self._one_at_a_time:
            self._log.drop(ticket)

    def forget(self) -> None:
        """Lose everything, as a Redis does that is flushed."""
        with self._one_at_a_time:
            self._log = HeldLog()

    def status(self) -> LimiterStatus:
        with self._one_at_a_time:
            return self._log.status(self._now(), self._limits)

    def _now(self) -> int:
        return round(self._clock() * 1000)
