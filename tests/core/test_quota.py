"""The limiter's arithmetic: small tables, and what no schedule shows well. Its laws: tests/store/test_limiter_invariants.py."""

from __future__ import annotations

import pytest

from tests.limiter_model import WINDOW_MS, Answer, Ask, HeldLog, Limits, Scores

LIMITS = Limits()


def ask(log: HeldLog, now: int, name: str, *, lane: int = 0, limits: Limits = LIMITS, hold: int = 10_000) -> Answer:
    return log.acquire(now, Ask(name, f"{name}/p", lane, hold), limits)


def answer(log: HeldLog, now: int, name: str, status: int = 200, **told: int) -> None:
    log.report(now, f"{name}/p", status, reserve_ms=10_000, limits=LIMITS, **told)


def warm(now: int = 1_000_000) -> HeldLog:
    """A bucket that is no longer probing."""
    log = HeldLog()
    assert ask(log, now, "first").granted
    answer(log, now + 50, "first")
    return log


def test_scores_behave_like_a_sorted_set() -> None:
    scores = Scores()
    for member, score in (("b", 2), ("a", 2), ("c", 1), ("c", 3)):
        scores.add(member, score)
    assert scores.items() == [("a", 2), ("b", 2), ("c", 3)]
    assert [scores.below(score) for score in (1, 2, 3, 4)] == [0, 0, 2, 3]
    scores.forget(2)
    assert (scores.items(), scores.remove("c"), scores.remove("c"), len(scores)) == ([("c", 3)], True, False, 0)


def test_an_urgent_request_does_not_wait_for_bulk_tickets() -> None:
    log = warm()
    now = 1_002_000
    waiting = 0
    for number in range(7):
        waiting += not ask(log, now, f"bulk{number}", lane=1).granted
    assert waiting == 3, "after a silence four go at once"
    assert ask(log, now, "urgent").granted


def test_bulk_has_its_turn_after_nine_urgent_ones() -> None:
    log = warm()
    now, lanes = 1_002_000, []
    names = {"u": 0, "b": 0}
    due = {"u": now, "b": now}
    while len(lanes) < 60:
        kind = min(due, key=lambda k: due[k])
        now = max(now, due[kind])
        found = ask(log, now, f"{kind}{names[kind]}", lane=int(kind == "b"))
        due[kind] = now + found.ms + found.granted
        if found.granted:
            answer(log, now + 1, f"{kind}{names[kind]}")
            names[kind] += 1
            lanes.append(kind)
    assert 4 <= lanes.count("b") <= 10, "about one in ten"
    assert "u" * 20 not in "".join(lanes)


def test_a_dead_ticket_holds_nobody_up() -> None:
    log = warm()
    limits = Limits(per_minute=120, burst_per_second=1)
    now = 1_002_000
    assert ask(log, now, "a", limits=limits).granted
    dead, alive = ask(log, now + 1, "dead", limits=limits), ask(log, now + 2, "alive", limits=limits)
    assert not dead.granted
    assert not alive.granted
    moment = now + 2_500
    assert ask(log, moment, "alive", limits=limits).granted, "it is late, so the slot is the next one's"
    assert log.status(moment, limits).waiting_urgent == 1
    ask(log, now + 30_000, "other", limits=limits)
    assert log.status(now + 30_000, limits).waiting_urgent == 0, "and in the end it is forgotten"


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_small_limits_are_used_and_kept(n: int) -> None:
    log, limits = warm(), Limits(per_minute=n)
    now, sent = 1_100_000, []
    for number in range(4 * n):
        while not (found := ask(log, now, f"t{number}", lane=1, limits=limits)).granted:
            now += found.ms
        sent.append(now + found.ms)
        answer(log, now + found.ms, f"t{number}")
    assert all(later - earlier > 60_000 for earlier, later in zip(sent, sent[n:], strict=False))
    assert sent[-1] - sent[0] < 4 * WINDOW_MS * 1.15


def test_caution_never_takes_the_last_request() -> None:
    log, limits = HeldLog(), Limits(per_minute=3)
    log.ok, log.fx, log.fxt, log.hx = True, 50.0, 1_000_000, 3.0
    assert log.status(1_000_000, limits).limit == 1
    assert ask(log, 1_000_000, "a", limits=limits).granted
    assert not ask(log, 1_000_001, "b", limits=limits).granted


def test_the_next_bulk_request_is_due_at_its_pace_and_missed_ones_are_made_up_for() -> None:
    log, moment = HeldLog(), 1_000_000
    pace = log.status(moment, LIMITS).pace_seconds
    assert log.status(moment, LIMITS).next_bulk_seconds == pytest.approx(-3 * pace), "nothing was sent for long"
    log.tat = moment + 800.0
    assert log.status(moment, LIMITS).next_bulk_seconds == pytest.approx(0.8)
    assert log.status(moment + 1_000, LIMITS).next_bulk_seconds == pytest.approx(-0.2)


def test_the_state_in_redis_is_read_back() -> None:
    log = HeldLog.read({"now": "7", "tat": "12.500", "ok": "1", "pr": "429", "sl": "60", "unknown": "x"})
    assert (log.now, log.tat, log.ok, log.pr, log.sl, log.hx) == (7, 12.5, True, "429", 60, 0.0)
