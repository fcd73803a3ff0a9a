"""Creates that the marketplace does and never answers: their cars are ours when they are found there later."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from okasie_tasks.store.write_locks import HeldLocks
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied
from tests.sync.test_failing_content import answer, calm
from tests.sync.test_failing_pushes import push, send

_NEW = 3


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=5)) as found:
        found.good_run()
        yield found


def created_without_an_answer(scenario: GuardedScenario) -> list[str]:
    """Add cars whose creates are done; return their references."""
    new = varied(_NEW, seed=6, first=100)
    scenario.rows += new
    scenario.faults(answer(204, kind="answer_after", body="", times=3))
    assert scenario.told()["state"] == "partial"
    calm(scenario)
    names = [row["stock_no"] for row in new]
    assert set(names) <= scenario.standing().keys()
    assert not scenario.ctx.ledger.get(names)
    return names


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_they_are_sold_once_their_rows_have_left_the_source(scenario: GuardedScenario, mode: str) -> None:
    names = created_without_an_answer(scenario)
    scenario.rows = scenario.rows[:-_NEW]
    assert scenario.told(mode)["listings"]["sold"] == _NEW
    assert scenario.sold() == set(names)


def test_they_are_adopted_while_their_rows_are_in_the_source(scenario: GuardedScenario) -> None:
    created_without_an_answer(scenario)
    before = len(scenario.writes)
    assert scenario.good_run()["listings"]["created"] == 0
    assert len(scenario.writes) == before
    scenario.rows = scenario.rows[:-_NEW]
    assert scenario.told()["listings"]["sold"] == _NEW


def test_more_than_the_guard_allows_wait_for_approval(scenario: GuardedScenario) -> None:
    scenario.rows += varied(30, seed=7, first=200)
    created_without_an_answer(scenario)
    scenario.rows = scenario.rows[:20]
    run = scenario.ask("full")
    assert run.state == "held", run
    assert scenario.sold() == set()


def test_a_dry_run_claims_nothing(scenario: GuardedScenario) -> None:
    names = created_without_an_answer(scenario)
    scenario.rows = scenario.rows[:-_NEW]
    assert [change["action"] for change in scenario.look("full")["changes"]] == ["sell"] * _NEW
    assert not scenario.ctx.ledger.get(names)
    assert scenario.told("full")["listings"]["sold"] == _NEW


def test_a_create_that_is_answered_leaves_no_note(scenario: GuardedScenario) -> None:
    new = varied(_NEW, seed=6, first=100)
    refused = new[0]["stock_no"]
    scenario.rows += new
    scenario.faults(answer(422, reference=refused, body={"error": {"code": "VALIDATION_ERROR"}}, times=1))
    scenario.told()
    assert scenario.ctx.ledger.noted_creates([row["stock_no"] for row in new]) == []


def test_a_listing_of_somebody_else_is_never_claimed(scenario: GuardedScenario) -> None:
    created_without_an_answer(scenario)
    scenario.edit({"reference": "FOREIGN-1", "create": {"title": "Theirs", "price": 5}})
    scenario.rows = scenario.rows[:-_NEW]
    document = scenario.told("full")
    assert (document["listings"]["sold"], document["listings"]["foreign"]) == (_NEW, 1)
    assert "FOREIGN-1" not in scenario.sold()


# -- pushes --------------------------------------------------------------------------------------------------------


def pushed_without_an_answer(scenario: GuardedScenario) -> list[str]:
    """Push cars whose creates are done but never answered, until the pushes are given up; return their references."""
    new = varied(_NEW, seed=6, first=100)
    scenario.rows += new
    names = [row["stock_no"] for row in new]
    scenario.faults(answer(204, kind="answer_after", body="", times=1))
    push(scenario, *names)
    send(scenario, rounds=1)
    calm(scenario)
    scenario.ctx.urgent_queue.take(scenario.ctx.urgent_queue.first(100))
    assert set(names) <= scenario.standing().keys()
    assert not scenario.ctx.ledger.get(names)
    return names


def test_pushed_cars_are_sold_once_their_rows_have_left_the_source(scenario: GuardedScenario) -> None:
    names = pushed_without_an_answer(scenario)
    scenario.rows = scenario.rows[:-_NEW]
    assert scenario.told("full")["listings"]["sold"] == _NEW
    assert scenario.sold() == set(names)


def test_a_push_that_is_answered_leaves_no_note(scenario: GuardedScenario) -> None:
    new = varied(_NEW, seed=6, first=100)
    scenario.rows += new
    names = [row["stock_no"] for row in new]
    push(scenario, *names)
    send(scenario, rounds=1)
    assert set(names) <= scenario.standing().keys()
    assert scenario.ctx.ledger.noted_creates(names) == []


# -- senders that stand still ----------------------------------------------------------------------------------------


@pytest.fixture
def noted(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What each attempt to note creates gives: before the first, another sender has taken and released the locks."""
    ledger, attempts = scenario.ctx.ledger, list[bool]()
    note = ledger.note_creates

    def late(references: Collection[str], locks: HeldLocks) -> bool:
        if references and not attempts:
            scenario.ctx.runs.redis.hset(locks.key, next(iter(references)), "1000 another")
        noted = note(references, locks)
        if references:
            attempts.append(noted)
            assert noted or ledger.noted_creates(list(references)) == []
        return noted

    monkeypatch.setattr(ledger, "note_creates", late)
    return attempts


def test_a_chunk_that_lost_its_locks_notes_and_sends_nothing(scenario: GuardedScenario, noted: list[bool]) -> None:
    scenario.rows += varied(_NEW, seed=6, first=100)
    assert scenario.told()["listings"]["created"] == _NEW
    assert noted == [False, True]


def test_a_push_that_lost_its_locks_notes_and_sends_nothing(scenario: GuardedScenario, noted: list[bool]) -> None:
    new = varied(_NEW, seed=6, first=100)
    scenario.rows += new
    names = [row["stock_no"] for row in new]
    push(scenario, *names)
    send(scenario, rounds=1)
    assert (noted, scenario.standing().keys() & names) == ([False, True], set(names))
