"""The urgent lane, when the marketplace fails or refuses for reasons that are not the listing's, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import redis

from okasie_tasks.core.ledger_entry import Flag
from okasie_tasks.core.pending import PushOutcome
from okasie_tasks.errors import RetryLater
from okasie_tasks.reports.listing import why_document
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

HTML = {"content_type": "text/html", "body": "<h1>Blocked</h1>"}
IMAGES = {"status": 500, "body": {"error": {"code": "IMAGES_FAILED", "message": "check image URLs"}}}


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(6, seed=5)) as found:
        found.good_run()
        yield found


def push(scenario: GuardedScenario, *references: str) -> str:
    """Accept one push of these listings as the feed has them."""
    scenario._write_feed()
    name = uuid4().hex
    accept.accept_push(scenario.ctx, name, references=list(references))
    return name


def send(scenario: GuardedScenario, *, rounds: int) -> None:
    """Let the sender work; after each round, those that are to be tried next become due."""
    queue = scenario.ctx.urgent_queue
    for _ in range(rounds):
        with suppress(RetryLater):
            Sender(scenario.ctx, "sender", rng=Random(0), sleep=lambda _: None).run()
        waiting = queue.first(100)
        next_ms = min((change.not_before_ms for _, change in waiting), default=0) + 1_500
        due = [(raw, change) for raw, change in waiting if change.not_before_ms <= next_ms]
        queue.swap((raw, msgspec.structs.replace(change, not_before_ms=0)) for raw, change in due)


def outcomes(scenario: GuardedScenario, name: str) -> dict[str, PushOutcome]:
    return scenario.ctx.pushes.get(name).outcomes


def changed(scenario: GuardedScenario, *numbers: int) -> list[str]:
    """Change the prices of these rows; their references."""
    for number in numbers:
        scenario.rows[number]["price_eur"] = "4321"
    return [scenario.rows[number]["stock_no"] for number in numbers]


def fail(scenario: GuardedScenario, reference: str, **fault: Any) -> None:
    rule = {"kind": "answer", **fault}
    scenario.faults(*({**rule, "match": {"path": path, "reference": reference}} for path in ("put", "bulk", "delete")))


def test_the_push_that_makes_a_call_fail_is_rejected_and_the_others_go_out(scenario: GuardedScenario) -> None:
    bad, *good = changed(scenario, 0, 1, 2)
    fail(scenario, bad, **IMAGES)
    name = push(scenario, bad, *good)
    send(scenario, rounds=8)
    found = outcomes(scenario, name)
    assert {reference: told.outcome for reference, told in found.items()} == {
        bad: "rejected", good[0]: "updated", good[1]: "updated",
    }  # fmt: skip
    assert "IMAGES_FAILED" in (found[bad].message or "")
    (reject,) = scenario.ctx.ledger.all_rejects()
    assert (reject.reference, reject.code, bool(reject.request_id)) == (bad, "IMAGES_FAILED", True)
    assert scenario.requests().count("put") + scenario.requests().count("bulk") <= 8


def test_an_item_that_fails_inside_an_answer_is_rejected_after_its_tries(scenario: GuardedScenario) -> None:
    bad, good = changed(scenario, 0, 1)
    scenario.quirks(item_errors={bad: {"status": 500, "code": "IMAGES_FAILED"}})
    name = push(scenario, bad, good)
    send(scenario, rounds=1)
    assert outcomes(scenario, name)[good].outcome == "updated"
    send(scenario, rounds=4)
    assert outcomes(scenario, name)[bad].outcome == "rejected"
    assert [reject.code for reject in scenario.ctx.ledger.all_rejects()] == ["IMAGES_FAILED"]


def test_a_push_that_fails_while_nothing_else_is_accepted_waits(scenario: GuardedScenario) -> None:
    (bad,) = changed(scenario, 0)
    fail(scenario, bad, **IMAGES)
    name = push(scenario, bad)
    send(scenario, rounds=4)
    assert outcomes(scenario, name)[bad].outcome == "waiting"
    assert "IMAGES_FAILED" in (outcomes(scenario, name)[bad].message or "")
    assert not list(scenario.ctx.ledger.all_rejects())


@pytest.mark.parametrize("status", [400, 403, 404, 409])
def test_a_refusal_that_may_pass_rejects_no_push(scenario: GuardedScenario, status: int) -> None:
    (reference,) = changed(scenario, 0)
    fail(scenario, reference, status=status, times=1, **HTML)
    name = push(scenario, reference)
    send(scenario, rounds=1)
    assert not outcomes(scenario, name)
    send(scenario, rounds=2)
    assert outcomes(scenario, name)[reference].outcome == "updated"
    assert not list(scenario.ctx.ledger.all_rejects())


@pytest.mark.parametrize("status", [403, 404, 409])
def test_a_refusal_that_may_pass_settles_no_sell(scenario: GuardedScenario, status: int) -> None:
    reference = scenario.rows[0]["stock_no"]
    fail(scenario, reference, status=status, times=1, **HTML)
    name = uuid4().hex
    accept.accept_sell(scenario.ctx, name, references=[reference])
    send(scenario, rounds=1)
    assert not outcomes(scenario, name)
    assert not scenario.sold()
    send(scenario, rounds=2)
    assert outcomes(scenario, name)[reference].outcome == "sold"
    assert scenario.sold() == {reference}


@pytest.mark.parametrize("status", [200, 204])
def test_a_success_without_a_body_settles_a_push_and_a_sell(scenario: GuardedScenario, status: int) -> None:
    reference, other = changed(scenario, 0)[0], scenario.rows[1]["stock_no"]
    for path in ("put", "delete"):
        scenario.faults({"kind": "answer_after", "status": status, "body": "", "match": {"path": path}})
    pushed, sold = push(scenario, reference), uuid4().hex
    send(scenario, rounds=1)
    accept.accept_sell(scenario.ctx, sold, references=[other])
    send(scenario, rounds=1)
    assert outcomes(scenario, pushed)[reference].outcome == "updated"
    assert outcomes(scenario, sold)[other].outcome == "sold"
    assert (scenario.requests().count("put"), scenario.requests().count("delete")) == (1, 1)
    scenario.sandbox.faults.clear()
    scenario.remove([scenario.rows[1]])
    assert scenario.told("full")["listings"]["unchanged"] == 5


@pytest.mark.parametrize("word", ["archived", "active"])
def test_a_sell_that_leaves_the_listing_in_another_status_is_tried_again(scenario: GuardedScenario, word: str) -> None:
    reference, name = scenario.rows[0]["stock_no"], uuid4().hex
    mangled = {"path": "data.status", "do": "set", "value": word}
    scenario.faults({"kind": "edit", "match": {"path": "delete"}, "edits": [mangled]})
    accept.accept_sell(scenario.ctx, name, references=[reference])
    send(scenario, rounds=4)
    found = outcomes(scenario, name)[reference]
    assert (found.outcome, f"DELETE left it {word}" in (found.message or "")) == ("waiting", True)
    entry = scenario.ctx.ledger.get([reference])[reference]
    assert (entry.status, entry.has(Flag.SELL_IN_DOUBT)) == ("active", True)
    assert f"DELETE left it {word}" in [event["reason"] for event in why_document(scenario.ctx, reference)["events"]]
    scenario.sandbox.faults.clear()
    send(scenario, rounds=2)
    assert outcomes(scenario, name)[reference].outcome == "sold"
    entry = scenario.ctx.ledger.get([reference])[reference]
    assert (entry.status, entry.has(Flag.SELL_IN_DOUBT)) == ("sold", False)


def test_a_sell_without_an_answer_is_in_doubt(scenario: GuardedScenario) -> None:
    reference = scenario.rows[0]["stock_no"]
    scenario.faults({"kind": "answer_after", "status": 507, "body": "", "match": {"path": "delete"}})
    accept.accept_sell(scenario.ctx, uuid4().hex, references=[reference])
    send(scenario, rounds=1)
    assert scenario.ctx.ledger.get([reference])[reference].has(Flag.SELL_IN_DOUBT)
