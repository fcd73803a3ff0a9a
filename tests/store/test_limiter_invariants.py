"""The limiter's laws under random schedules: workers that die, lost and late answers, clocks that step, a flushed Redis.

The Redis steps and their twin in plain Python get the same schedule and must answer alike. A judge that knows neither
keeps its own books and checks what `okasie_tasks.core.quota` promises. Requests are not sent at chosen moments: a
request *may* arrive at any moment from its grant to the answer (or the end of its time-out), and the judge counts each
interval as if all that may lie in it did. So every choice of arrivals, the worst included, is covered by one schedule.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec
import pytest
import redis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from okasie_tasks.ports import Feedback, Lane, Permit
from okasie_tasks.store.limiter import RedisLimiter
from tests.limiter_model import Answer, Ask, HeldLog, Limits

START: Final = 1_000_000_000
BUCKET: Final = "okasie:rl:{dex}:"


class InvariantBroken(AssertionError):
    """The judge's verdict, to be told apart from mistakes in this file."""


@dataclass(frozen=True)
class Plan:
    """One schedule: the same plan is the same schedule, and fewer steps are the beginning of it."""

    seed: int
    steps: int
    limits: Limits
    reserve_ms: tuple[int, int]
    workers: int
    urgent: float
    """Chance that a worker is an urgent one."""
    faults: float
    """Chance of a fault at each step."""


def plans(most_steps: int) -> st.SearchStrategy[Plan]:
    holds = st.tuples(st.integers(500, 8_000), st.integers(0, 4_000)).map(lambda t: (t[0], min(8_000, t[0] + t[1])))
    return st.builds(
        Plan,
        seed=st.integers(0, 2**32),
        steps=st.integers(most_steps // 4, most_steps),
        limits=st.builds(Limits, st.integers(3, 20), st.integers(1, 5), st.booleans()),
        reserve_ms=holds,
        workers=st.integers(1, 10),
        urgent=st.sampled_from([0.0, 0.3, 1.0]),
        faults=st.sampled_from([0.0, 0.02, 0.1]),
    )


# -- the judge -----------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    granted: int
    latest: int
    true_granted: int
    true_latest: int
    probe: bool
    answered: bool = False


@dataclass
class Judge:
    """Books of its own, in the limiter's time: the highest that its clock showed when it looked."""

    limits: Limits
    now: int = 0
    pause: int = 0
    probing: bool = True
    stepped_forward: bool = False
    told: int | None = None
    higher: list[int] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)

    def n(self) -> int:
        told = self.limits.per_minute if self.told is None else self.told
        return told if self.limits.adapt else min(told, self.limits.per_minute)

    def grant(self, permit: str, moment: int, true: int, hold: int) -> None:
        earlier = self.entries.values()
        self._check(moment >= self.pause, "I3: granted while paused")
        self._check(
            not self.probing or not any(e.probe and not e.answered and e.granted > moment - 10_000 for e in earlier),
            "I3: a second probe",
        )
        minute = sum(entry.latest >= moment - 60_000 for entry in earlier)
        self._check(minute < self.n(), f"I1: {minute + 1} of {self.n()} in 60 s")
        second = sum(min(entry.latest, entry.granted + 1_000) >= moment - 1_000 for entry in earlier)
        self._check(second < self.limits.burst_per_second, f"I2: {second + 1} in 1 s")
        if not self.stepped_forward:
            # What a clock skips cannot be known; but a clock that went back must not have cost us anything.
            minute = sum(entry.true_latest >= true - 60_000 for entry in earlier)
            self._check(minute < self.n(), f"I1: {minute + 1} of {self.n()} in 60 s, clock set back")
        self.entries[permit] = Entry(moment, moment + hold, true, true + hold, self.probing)
        if len(self.entries) > 200:
            self.entries = {p: e for p, e in self.entries.items() if e.true_latest > true - 120_000}

    def answer(self, permit: str, clock: int, true: int, feedback: Feedback) -> None:
        entry = self.entries.get(permit)
        if entry is None or entry.answered or entry.latest <= max(self.now, clock):
            return
        self.now = max(self.now, clock)
        entry.answered = True
        if feedback.status == -1:
            del self.entries[permit]
        elif feedback.status > 0:
            entry.latest, entry.true_latest = self.now, min(true, entry.true_latest)
        if feedback.limit is not None:
            self._learn(feedback.limit)
        if feedback.status == 429:
            self.pause = max(self.pause, self.now + round((feedback.retry_after or 0) * 1000))
            if not self.probing:
                self.probing = True
                for other in self.entries.values():
                    other.probe = False
        elif 0 < feedback.status < 500 and entry.granted >= self.pause:
            self.probing = False

    def _learn(self, limit: int) -> None:
        if self.told is None or limit <= self.told:
            self.told, self.higher = limit, []
            return
        self.higher = [*self.higher, limit] if self.higher[-1:] == [limit] else [limit]
        if len(self.higher) == 3:
            self.told, self.higher = limit, []

    def _check(self, holds: bool, invariant: str) -> None:
        if not holds:
            raise InvariantBroken(invariant)


# -- the world -----------------------------------------------------------------------------------------------------


class Scenario:
    """Drives the twin, and Redis in lock step where there is one."""

    def __init__(self, plan: Plan, client: redis.Redis | None, model: type[HeldLog] = HeldLog) -> None:
        self.plan, self.client, self._kind = plan, client, model
        self.rng = Random(plan.seed)
        self.true, self.offset = START, 0
        self.model = model()
        self.judge = Judge(plan.limits)
        self.redis: RedisLimiter | None = None
        if client is not None:
            client.flushall()
            per_minute, burst, adapt = plan.limits
            self.redis = RedisLimiter(
                client,
                prefix="okasie:",
                bucket="dex",
                per_minute=per_minute,
                burst_per_second=burst,
                adapt_limit=adapt,
                clock=self.clock,
            )
        self.server_limit = plan.limits.per_minute
        self.flying: list[tuple[str, str]] = []
        self.grants = 0
        self._events: list[tuple[int, int, str, Any]] = []
        self._order = 0
        for number in range(plan.workers):
            lane: Lane = "urgent" if self.rng.random() < plan.urgent else "bulk"
            self._at(self.rng.randrange(3_000), "ask", (f"w{number}", lane, 0))

    def clock(self) -> int:
        return self.true + self.offset

    def _at(self, after: int, what: str, data: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.true + after, self._order, what, data))

    def run(self) -> None:
        for step in range(self.plan.steps):
            if not self._events:
                break
            moment, _, what, data = heapq.heappop(self._events)
            self.true = max(self.true, moment)
            before = self.model.now
            getattr(self, f"_{what}")(*data)
            if self.model.now < before:
                raise InvariantBroken("I8: the clock fell")
            if self.rng.random() < self.plan.faults:
                self._fault()
            if step % 16 == 0:
                self._compare()
        self._compare()

    def _compare(self) -> None:
        if self.redis is None or self.client is None:
            return
        assert self.redis.status() == self.model.status(self.clock(), self.plan.limits)
        for key, mine in (
            ("l", self.model.log),
            ("s", self.model.second),
            ("q", self.model.queue),
            ("d", self.model.due),
        ):
            found: Any = self.client.zrange(BUCKET + key, 0, -1, withscores=True)
            assert [(name.decode(), int(score)) for name, score in found] == mine.items(), key
        asked: Any = self.client.hgetall(BUCKET + "w")
        assert {name.decode(): int(moment) for name, moment in asked.items()} == self.model.asked
        state: Any = self.client.hgetall(BUCKET + "h")
        other = HeldLog.read({name.decode(): value.decode() for name, value in state.items()})
        apart = ("log", "second", "queue", "due", "asked")
        fields = [{k: v for k, v in vars(one).items() if k not in apart} for one in (other, self.model)]
        assert fields[0] == fields[1]

    def _ask(self, worker: str, lane: Lane, turn: int) -> None:
        hold = self.rng.randint(*self.plan.reserve_ms)
        self.judge.now = max(self.judge.now, self.clock())
        ticket, permit = f"{worker}:{turn}", f"{worker}:{turn}/{self._order}.{hold}"
        theirs = None
        if self.redis is not None:
            theirs = self.redis.acquire(ticket, lane, hold / 1000)
            # Redis makes up its own ids; ours is the same one then.
            permit = theirs.id if isinstance(theirs, Permit) else permit
        paused = self.model.status(self.clock(), self.plan.limits).pause_seconds > 0.02
        ask = Ask(ticket, permit, int(lane == "bulk"), hold)
        answer = self.model.acquire(self.clock(), ask, self.plan.limits)
        if theirs is not None:
            assert answer == self._as_answer(theirs), (answer, theirs)
        if not answer.granted:
            # Mostly they come when they said; some come early, some late, some never.
            late = self.rng.choice([0, 0, 0, 0, -3, 40, 700, 9_000])
            if self.rng.random() < 0.98:
                self._at(max(1, answer.ms + late), "ask", (worker, lane, turn))
            else:
                self._at(20_000, "ask", (worker, lane, turn + 1))
            return
        if paused:
            raise InvariantBroken("I3: granted while the status says paused")
        self.grants += 1
        if self._kind is HeldLog:
            again = self.model.acquire(self.clock(), ask, self.plan.limits)
            assert again == answer._replace(waited_ms=0), "the same command again"
        self.judge.grant(permit, self.judge.now + answer.ms, self.true + answer.ms, hold)
        self.flying.append((permit, worker))
        fate = self.rng.choice(["quick", "quick", "quick", "slow", "slow", "late", "cancel", "dead"])
        if fate == "cancel":
            self._at(self.rng.choice([0, 0, 30]), "cancel", (permit,))
        elif fate != "dead":
            after = {"quick": 150, "slow": hold - 1, "late": hold + 2_000}[fate]
            self._at(answer.ms + self.rng.randint(after // 2, after), "answer", (permit,))
        self._at(self.rng.choice([1, 1, 1, 300, 5_000]), "ask", (worker, lane, turn + 1))

    def _as_answer(self, theirs: Any) -> Answer:
        if isinstance(theirs, Permit):
            waited_ms = round(theirs.waited_seconds * 1000)
            return Answer(True, round(theirs.after_seconds * 1000), waited_ms=waited_ms)
        return Answer(False, round(theirs.seconds * 1000), theirs.reason)

    def _feedback(self) -> Feedback:
        status = self.rng.choice([200] * 30 + [404, 429, 500, 503, 0, -1])
        waits = status == 429 or (status >= 500 and self.rng.random() < 0.5)
        feedback = Feedback(status, retry_after=self.rng.uniform(0.2, 40) if waits else None)
        if status <= 0 or self.rng.random() < 0.5:
            return feedback
        used = self.model.status(self.clock(), self.plan.limits).used_last_minute
        foreign = self.rng.choice([0, 0, 0, 2, 4])
        remaining = max(0, self.server_limit - used - foreign)
        return msgspec.structs.replace(feedback, limit=self.server_limit, remaining=remaining)

    def _answer(self, permit: str) -> None:
        feedback = self._feedback()
        if self.redis is not None:
            self.redis.report(Permit(permit), feedback)
        self.model.report(
            self.clock(),
            permit,
            feedback.status,
            reserve_ms=int(permit.rsplit(".", 1)[1]),
            limits=self.plan.limits,
            limit=feedback.limit,
            remaining=feedback.remaining,
            retry_after_ms=None if feedback.retry_after is None else math.ceil(feedback.retry_after * 1000),
        )
        self.judge.answer(permit, self.clock(), self.true, feedback)

    def _cancel(self, permit: str) -> None:
        log, second = self.model.log.items(), self.model.second.items()
        self.model.cancel(permit)
        if [e for e in log if e[0] != permit] != self.model.log.items():
            raise InvariantBroken("I10: the log is not as it was")
        if [e for e in second if e[0] != permit] != self.model.second.items():
            raise InvariantBroken("I10: the burst log is not as it was")
        if self.redis is not None:
            self.redis.cancel(Permit(permit))
        self.judge.entries.pop(permit, None)

    def _fault(self) -> None:
        fault = self.rng.choice(["back", "forth", "flush", "limit", "limit", "drop", "night"])
        if fault == "back":
            self.offset -= self.rng.choice([1, 500, 7_000, 30_000])
        elif fault == "forth":
            self.offset += self.rng.choice([1, 500, 7_000, 30_000])
            self.judge.stepped_forward = True
        elif fault == "flush":
            if self.client is not None:
                self.client.flushall()
            self.model = self._kind()
            self.judge = Judge(self.plan.limits, stepped_forward=self.judge.stepped_forward)
        elif fault == "limit":
            self.server_limit = self.rng.choice([2, 3, 6, 12, 20, 30])
        elif fault == "drop":
            ticket = f"w{self.rng.randrange(self.plan.workers)}:{self.rng.randrange(20)}"
            self.model.drop(ticket)
            if self.redis is not None:
                self.redis.drop(ticket)
        else:
            self.true += self.rng.choice([59_950, 60_049, 60_051, 200_000])


# -- the laws ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [300, pytest.param(3_000, marks=pytest.mark.slow)])
def test_no_schedule_breaks_an_invariant(examples: int) -> None:
    @settings(max_examples=examples)
    @given(plan=plans(300))
    def kept(plan: Plan) -> None:
        Scenario(plan, None).run()

    kept()


@pytest.mark.parametrize("examples", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_redis_and_its_twin_answer_alike_and_keep_the_laws(client: redis.Redis, examples: int) -> None:
    @settings(max_examples=examples)
    @given(plan=plans(160))
    def kept(plan: Plan) -> None:
        Scenario(plan, client).run()

    kept()


# -- the judge itself is judged ------------------------------------------------------------------------------------


class StampedAtGrant(HeldLog):
    def _latest(self, moment: int, reserve_ms: int) -> int:
        return moment + 1


class NeverPaused(HeldLog):
    def _pause_until(self, moment: int, reason: str) -> None:
        self.ok = False


class NeverProbing(HeldLog):
    def __init__(self) -> None:
        super().__init__()
        self.ok = True


class CancelForgetsTheBurst(HeldLog):
    def cancel(self, permit: str) -> bool:
        return self.log.remove(permit)


@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [(StampedAtGrant, "I1"), (NeverPaused, "I3"), (NeverProbing, "I3"), (CancelForgetsTheBurst, "I10")],
)
def test_the_judge_catches_a_limiter_that_breaks_an_invariant(mutant: type[HeldLog], invariant: str) -> None:
    @settings(max_examples=300, phases=[Phase.generate], report_multiple_bugs=False)
    @given(plan=plans(300))
    def judged(plan: Plan) -> None:
        Scenario(plan, None, mutant).run()

    with pytest.raises(InvariantBroken, match=invariant):
        judged()
