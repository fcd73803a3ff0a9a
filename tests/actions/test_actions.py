"""What an operator or a program asks for, on a real Redis, with runs that a driver plays against the sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.actions import accounts, plans, requests, runs
from okasie_tasks.errors import ConfigurationError, ConnectionFailed, OkasieError, PlanOutdated
from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.run_record import run_document
from okasie_tasks.services import Services
from okasie_tasks.urgent import accept
from tests.sync.driver import finish
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

CARS = 60
ANNA = "console:anna"


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    rows = varied(CARS, seed=1)
    for row in rows:
        row["branch"] = "DEMO-GENT"
    with GuardedScenario(tmp_path, redis_url, rows=rows, guard="free_changed_count = 5\nfree_sold_count = 2") as found:
        found.good_run()
        yield found


def outbox(scenario: GuardedScenario) -> dict[str, dict[str, Any]]:
    """The requests that no worker has taken up, by id."""
    stored: Any = scenario.services.redis.hgetall(f"{scenario.prefix}outbox")
    return {name.decode(): json.loads(value) for name, value in stored.items()}


def messages(scenario: GuardedScenario, queue: str) -> list[str]:
    """The ids of the messages in a queue."""
    stored: Any = scenario.services.redis.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in stored]


def document(scenario: GuardedScenario, run: str) -> dict[str, Any]:
    record = scenario.ctx.runs.get(run)
    assert record is not None
    return run_document(scenario.ctx.runs, record)


def events(scenario: GuardedScenario, reference: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = why_document(scenario.ctx, reference)["events"]
    return found


def hold(scenario: GuardedScenario, count: int = 40) -> str:
    """Hold a plan of so many changed prices; returns the run that holds it."""
    for row in scenario.rows[:count]:
        row["price_eur"] = "4321"
    held = scenario.told()
    assert (held["state"], held["listings"]["held"]) == ("held", count), held
    return str(held["run"])


def play(scenario: GuardedScenario, run: str) -> None:
    """Do what workers do with a run that was requested."""
    assert scenario.ctx.runs.begin(ACCOUNT) == run
    finish(scenario.ctx, run)


# -- requests ------------------------------------------------------------------------------------------------------


def test_a_request_is_stored_with_who_made_it_and_published_once(scenario: GuardedScenario) -> None:
    services = scenario.services
    pushed = requests.push(services, ACCOUNT, references=["A", "B", "A"], by="token:dms", request_id="key-1")
    assert pushed == "key-1"
    assert outbox(scenario)["key-1"]["kwargs"] == {"account": ACCOUNT, "references": ["A", "B"]}
    assert requests.push(services, ACCOUNT, references=["A"], by="token:dms", request_id="key-1") == "key-1"
    assert set(messages(scenario, "okasie.urgent")) == {"key-1"}, "a copy of its message, which a worker ends at once"
    sold = requests.sell(services, ACCOUNT, ["A"], by=f"token:{'x' * 80}\x1b")
    synced = requests.sync(services, ACCOUNT, "full", by="client")
    shown = requests.preview(services, ACCOUNT, "A", by="client")
    assert set(outbox(scenario)) == {"key-1", sold, synced, shown}
    assert messages(scenario, "okasie.control") == [synced]
    assert services.pushes.by("key-1") == "token:dms"
    assert services.pushes.by(sold) == f"token:{'x' * 58}", "64 characters at most"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: requests.push(s, "nobody", references=["A"], by="x"), "no account"),
        (lambda s: requests.push(s, ACCOUNT, by="x"), "one of them"),
        (lambda s: requests.push(s, ACCOUNT, references=[], by="x"), "1 to 1000"),
        (lambda s: requests.push(s, ACCOUNT, references="A", by="x"), "expected a list"),
        (lambda s: requests.push(s, ACCOUNT, references=["a\nb"], by="x"), "printable"),
        (lambda s: requests.push(s, ACCOUNT, listings=["A"], by="x"), "objects"),
        (lambda s: requests.push(s, ACCOUNT, listings=[{}], version=-1, by="x"), "version"),
        (lambda s: requests.sell(s, ACCOUNT, ["A"] * 1_001, by="x"), "got 1001"),
        (lambda s: requests.sync(s, ACCOUNT, "half", by="x"), "half"),
        (lambda s: requests.preview(s, ACCOUNT, "", by="x"), "references"),
        (lambda s: accounts.pause(s, "nobody", by="x"), "no account"),
        (lambda s: accounts.retry(s, ACCOUNT, ["\n"], by="x"), "printable"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_stored(scenario: GuardedScenario, ask: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ask(scenario.services)
    assert outbox(scenario) == {}
    assert messages(scenario, "okasie.urgent") == []


def test_a_broker_that_is_away_is_an_error_with_its_cause(scenario: GuardedScenario) -> None:
    settings = scenario.services.settings
    away = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})})
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match="did not accept"):
        requests.push(Services(away), ACCOUNT, references=["A"], by="x")
    assert time.monotonic() - began < 60, "a bound on a hang; how soon it is depends on the machine"
    with pytest.raises(ConnectionFailed):
        accounts.pause(Services(away), ACCOUNT, by="x")


def test_who_pushed_and_sold_a_listing_stands_in_its_history(scenario: GuardedScenario) -> None:
    pushed, sold = (row["stock_no"] for row in scenario.rows[:2])
    scenario.rows[0]["price_eur"] = "7654"
    scenario._write_feed()
    push = requests.push(scenario.services, ACCOUNT, references=[pushed], by="token:dms")
    accept.accept_push(scenario.ctx, push, references=[pushed])
    sell = requests.sell(scenario.services, ACCOUNT, [sold], by=ANNA)
    accept.accept_sell(scenario.ctx, sell, references=[sold])
    scenario._send()
    newest = [events(scenario, name)[0] for name in (pushed, sold)]
    assert [(event["kind"], event["by"]) for event in newest] == [("pushed", "token:dms"), ("sold", ANNA)]
    assert events(scenario, sold)[-1]["by"] is None, "a run created it"


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_the_beginning_of_its_id(scenario: GuardedScenario) -> None:
    services = scenario.services
    first, second = (runs.start(services, ACCOUNT, "incremental", by="x") for _ in range(2))
    assert first == second, "the second request is merged into the run that waits"
    assert document(scenario, first)["requested_by"] == "x"
    assert runs.find_run(services, first.lower()).id == first
    assert runs.find_run(services, first[:20]).id == first
    with pytest.raises(ConfigurationError, match="2 runs begin with"):
        runs.find_run(services, "0")
    with pytest.raises(ConfigurationError, match="at least 12 characters"):
        runs.find_run(services, _unique(scenario, first)[:11], least=12)
    for wrong in ("", "ZZZ", f"{first}0", "*"):
        with pytest.raises(ConfigurationError, match="no run"):
            runs.find_run(services, wrong)


def _unique(scenario: GuardedScenario, run: str) -> str:
    """Give the other runs another beginning, so that a short one is unique."""
    key = f"{scenario.prefix}account:{ACCOUNT}:runs"
    for name in scenario.ctx.runs.history(ACCOUNT):
        if name != run:
            scenario.services.redis.zrem(key, name)
            scenario.services.redis.zadd(key, {f"1{name[1:]}": 1})
    return run


def test_a_queued_run_is_cancelled_at_once_and_once(scenario: GuardedScenario) -> None:
    run = runs.start(scenario.services, ACCOUNT, "full", by="x")
    assert runs.cancel(scenario.services, run, by=ANNA).state == "cancelled"
    assert document(scenario, run)["cancelled_by"] == ANNA
    assert scenario.ctx.runs.waiting(ACCOUNT) is None
    with pytest.raises(ConfigurationError, match="the run has ended: cancelled"):
        runs.cancel(scenario.services, run, by="x")


def test_a_plan_only_run_is_refused_while_another_run_is_queued(scenario: GuardedScenario) -> None:
    runs.start(scenario.services, ACCOUNT, "full", by="x")
    with pytest.raises(OkasieError) as refused:
        runs.start(scenario.services, ACCOUNT, "full", by="x", plan_only=True)
    assert refused.value.code == "busy"


# -- held plans ----------------------------------------------------------------------------------------------------


def test_an_approved_plan_is_sent_and_shows_who_approved_it(scenario: GuardedScenario) -> None:
    run = hold(scenario)
    new = varied(1, seed=9, first=900)
    scenario.rows += new
    scenario._write_feed()
    sending = plans.approve(scenario.services, run[:14], by=ANNA)
    assert plans.approve(scenario.services, run, by="console:ben") == sending, "two decisions are one"
    play(scenario, sending)
    sent, held = document(scenario, sending), document(scenario, run)
    assert (sent["approved"], sent["approved_by"], sent["listings"]["updated"]) == (run, "console:ben", 40)
    assert (held["state"], held["approved_by"]) == ("done", "console:ben")
    assert events(scenario, scenario.rows[0]["stock_no"])[0]["by"] == "console:ben"
    assert [e["by"] for e in events(scenario, new[0]["stock_no"])] == [None], "it was not part of the plan"
    with pytest.raises(ConfigurationError, match="it holds no plan"):
        plans.approve(scenario.services, run, by=ANNA)


def test_approved_sells_show_who_approved_them(scenario: GuardedScenario) -> None:
    gone = scenario.remove(scenario.rows[:20])
    states = [scenario.told()["state"] for _ in range(3)]
    assert states[-1] == "held", states
    run = scenario.status()["held_plan"]["run"]
    play(scenario, plans.approve(scenario.services, run, by=ANNA))
    assert scenario.sold() == gone
    assert {events(scenario, name)[0]["by"] for name in gone} == {ANNA}


def test_an_outdated_plan_is_refused_before_anything_is_sent(scenario: GuardedScenario) -> None:
    run = hold(scenario)
    scenario.rows[0]["price_eur"] = "5555"
    newer = scenario.told()["run"]
    with pytest.raises(PlanOutdated) as refused:
        plans.approve(scenario.services, run, by=ANNA)
    assert refused.value.run == newer
    assert outbox(scenario) == {}


def test_a_rejected_plan_is_dropped_once_and_shows_by_whom(scenario: GuardedScenario) -> None:
    run = hold(scenario)
    assert plans.reject(scenario.services, run, by=ANNA).state == "dropped"
    assert document(scenario, run)["dropped_by"] == ANNA
    with pytest.raises(ConfigurationError, match="the run is dropped"):
        plans.reject(scenario.services, run, by="x")


# -- accounts ------------------------------------------------------------------------------------------------------


def test_a_pause_shows_who_paused_and_a_second_one_changes_nothing(scenario: GuardedScenario) -> None:
    first = accounts.pause(scenario.services, ACCOUNT, by=ANNA)
    again = accounts.pause(scenario.services, ACCOUNT, by="x")
    assert (first["was_paused"], again["was_paused"], again["paused_by"]) == (False, True, ANNA)
    assert again["paused_since"] == first["paused_since"]
    assert scenario.status()["paused_by"] == ANNA
    resumed = accounts.resume(scenario.services, ACCOUNT, by=ANNA)
    assert (resumed["was_paused_since"], resumed["published"]) == (first["paused_since"], True)
    assert len(messages(scenario, "okasie.control")) == 1
    assert accounts.resume(scenario.services, ACCOUNT, by=ANNA)["was_paused_since"] is None
    assert len(messages(scenario, "okasie.control")) == 1, "there was nothing to resume"
    assert (scenario.status()["paused_since"], scenario.status()["paused_by"]) == (None, None)


def test_a_retry_frees_what_was_refused_and_requests_one_run(scenario: GuardedScenario) -> None:
    name = scenario.rows[0]["stock_no"]
    nothing = accounts.retry(scenario.services, ACCOUNT, [name], by=ANNA)
    assert (nothing["run"], nothing["not_parked"]) == (None, [name])
    scenario.rows[0]["price_eur"] = "none"
    scenario.told()
    asked = accounts.retry(scenario.services, ACCOUNT, [], by=ANNA)
    assert (asked["invalid"], asked["freed"]) == ([name], [])
    assert document(scenario, asked["run"])["requested_by"] == ANNA


# -- imports -------------------------------------------------------------------------------------------------------


def test_the_actions_need_neither_the_tasks_nor_the_workers_app() -> None:
    check = (
        "import sys, okasie_tasks.actions.accounts, okasie_tasks.actions.plans, okasie_tasks.actions.requests;"
        "print(sorted({'celery', 'okasie_tasks.celery', 'okasie_tasks.tasks', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
