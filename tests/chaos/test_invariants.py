"""What the rounds rely on, each alone and to the point: a law that is broken here breaks some round."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis
import requests

from okasie_tasks.client import Client
from okasie_tasks.errors import RetryLater
from okasie_tasks.sandbox.sample import cars
from okasie_tasks.store.outbox import Outbox
from okasie_tasks.store.parts import LEASE_SECONDS, MOST_CLAIMS
from okasie_tasks.store.runs import Runs
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import Part
from okasie_tasks.sync.executor import perform
from okasie_tasks.sync.watchdog import USUAL
from tests.support import poll
from tests.sync.driver import finish
from tests.sync.http_scenario import ACCOUNT, HttpScenario


@pytest.fixture
def runs(client: redis.Redis) -> Runs:
    return Runs(client, prefix="okasie:")


@pytest.fixture
def run(runs: Runs) -> str:
    """A run whose first part is published."""
    runs.request("dex", "full")
    begun = runs.begin("dex")
    assert begun is not None
    runs.parts.window(begun, "first", size=1, when_open=0)
    return begun


def claim(runs: Runs, run: str, token: str) -> str:
    return runs.parts.claim(run, "first", 0, token, lease_seconds=60).state


def held_ms(runs: Runs, run: str) -> int:
    """How long the claim still lasts."""
    held = runs.redis.hget(runs.key(run, "first", "parts"), "0")
    assert held is not None
    return int(held.split(b" ")[1]) - runs.now_ms()  # type: ignore[union-attr]


# -- claims --------------------------------------------------------------------------------------------------------


def test_a_message_delivered_again_takes_its_part_over_and_fences_the_delivery_before_it(runs: Runs, run: str) -> None:
    assert claim(runs, run, "message/1") == "claimed"
    assert claim(runs, run, "another/1") == "busy"
    assert runs.parts.claim(run, "first", 0, "message/2", lease_seconds=60)[:2] == ("claimed", 2)
    assert not runs.parts.close(run, "first", 0, "message/1", {"late": 1}), "it stood still and finishes late"
    assert runs.parts.close(run, "first", 0, "message/2", {})
    assert runs.parts.results(run, "first") == [{}]


def test_a_part_that_was_given_up_cannot_be_given_back_by_its_late_holder(runs: Runs, run: str) -> None:
    claim(runs, run, "message/1")
    claim(runs, run, "message/2")
    runs.parts.release(run, "first", 0, "message/1", counted=True)
    assert claim(runs, run, "another/1") == "busy"


def test_a_dead_holders_part_is_soon_open_again(runs: Runs, run: str) -> None:
    claim(runs, run, "dead/1")
    assert 0 < held_ms(runs, run) <= LEASE_SECONDS * 1000, "however long the part may take"


def test_a_living_holder_keeps_its_part_and_a_closed_one_is_left_alone(
    runs: Runs, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("okasie_tasks.store.parts._RENEW_SECONDS", 0.01)
    runs.parts.claim(run, "first", 0, "slow/1", lease_seconds=0.05)
    with runs.parts.renewing_claim(run, "first", 0, "slow/1"):
        poll(lambda: held_ms(runs, run) > 1000, what="a renewal")
        assert claim(runs, run, "other/1") == "busy"
        assert runs.parts.close(run, "first", 0, "slow/1", {})
    assert not runs.parts.owns_claim(run, "first", 0, "slow/1")
    assert runs.redis.hget(runs.key(run, "first", "parts"), "0") == b"D"


def test_a_part_that_kills_whoever_works_on_it_is_set_aside(runs: Runs, run: str) -> None:
    for delivery in range(MOST_CLAIMS):
        assert claim(runs, run, f"poison/{delivery}") == "claimed"
        assert runs.parts.quarantine_exhausted(run, "first") == [], "somebody is at it"
    assert claim(runs, run, "poison/last") == "spent"
    assert runs.parts.quarantine_exhausted(run, "first") == [0]
    assert runs.parts.stage(run, "first")[2:] == (1, 1)
    assert runs.parts.quarantine_exhausted(run, "first") == []


def test_a_delivery_that_claims_again_goes_on_with_its_attempt(runs: Runs, run: str) -> None:
    for _ in range(2 * MOST_CLAIMS):
        assert runs.parts.claim(run, "first", 0, "message/1", lease_seconds=0)[:2] == ("claimed", 1), "nobody took it"
    assert runs.parts.claim(run, "first", 0, "another/1", lease_seconds=60)[:2] == ("claimed", 2)
    assert claim(runs, run, "message/1") == "busy"


@pytest.mark.parametrize("away", [redis.ConnectionError("away"), redis.ResponseError("MISCONF the disk is full")])
def test_redis_being_away_is_no_attempt_of_the_part(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch, away: redis.RedisError
) -> None:
    part = Part(begun(scenario), "first", 0, "me/1")
    with monkeypatch.context() as patched:
        patched.setattr(scenario.ctx.runs, "note", raising(away))
        for _ in range(2 * MOST_CLAIMS):
            with pytest.raises(type(away)):
                perform(scenario.ctx, part, rng=Random(0))
    assert perform(scenario.ctx, part, rng=Random(0)) == "last"
    assert scenario.ctx.runs.parts.stage(part.run, "first").failed == 0


def test_a_defect_that_redis_tells_of_is_an_attempt(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part(begun(scenario), "first", 0, "me/1")
    monkeypatch.setattr(scenario.ctx.runs, "note", raising(redis.ResponseError("ERR unknown command")))
    with pytest.raises(RetryLater):
        perform(scenario.ctx, part, rng=Random(0))


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


class Killed(BaseException):
    """What no code of ours catches."""


def test_who_dies_between_sending_a_chunk_and_closing_its_part_leaves_the_chunk_to_the_next(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, held = scenario.ctx.runs, []
    close = runs.parts.close

    def dies(run: str, stage: str, part: int, token: str, *rest: object, **more: Any) -> bool:
        if stage == "upsert":
            held.append(Part(run, stage, part, token))
            raise Killed
        return close(run, stage, part, token, *rest, **more)

    monkeypatch.setattr(runs.parts, "close", dies)
    with pytest.raises(Killed):
        scenario.run("full")
    monkeypatch.undo()
    (part,) = held
    perform(scenario.ctx, part._replace(token=f"{part.token}/again"), rng=Random(0))
    ended = finish(scenario.ctx, part.run)
    assert json.loads(ended.facts["listings"])["created"] == len(scenario.rows)
    assert not runs.data.has(part.run, "chunks"), "what is done need not be kept"


# -- one run at a time, and its cursor -----------------------------------------------------------------------------


def test_a_second_run_waits_until_the_first_has_ended(runs: Runs, run: str) -> None:
    runs.request("dex", "full")
    assert runs.begin("dex") is None


def test_the_cursor_stays_where_somebody_else_has_moved_it(runs: Runs, run: str, client: redis.Redis) -> None:
    client.hset(runs.account_key("dex"), mapping={"cursor": "newer", "generation": "1"})
    record = runs.get(run)
    assert record is not None
    runs.end(record, "done", cursor="older")
    assert runs.account("dex").cursor == "newer"
    assert runs.state(run) == "done"


def test_a_run_that_could_not_send_everything_is_partial_and_leaves_the_cursor(scenario: HttpScenario) -> None:
    requests.post(
        f"{scenario.sandbox.admin_url}/faults", json={"kind": "500", "match": {"path": "bulk"}, "times": 5}, timeout=60
    ).raise_for_status()
    run = scenario.run("full")
    assert (run.state, scenario.ctx.runs.account(ACCOUNT).cursor) == ("partial", "")
    assert scenario.run("incremental").state == "done"
    assert scenario.ctx.runs.account(ACCOUNT).generation == "1"


# -- the watchdog --------------------------------------------------------------------------------------------------


def test_one_looks_at_a_time(runs: Runs) -> None:
    assert runs.watch("me", seconds=60)
    assert not runs.watch("you", seconds=60)


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=cars(5, seed=1)) as found:
        found._write_feed()
        yield found


def begun(scenario: HttpScenario) -> str:
    """A run that has published its first part."""
    scenario.ctx.runs.request(ACCOUNT, "full")
    run = scenario.ctx.runs.begin(ACCOUNT)
    assert run is not None
    phases.windows(scenario.ctx, run, "first")
    return run


def looked(scenario: HttpScenario, *, waiting: bool = False) -> list[watchdog.Parts]:
    return list(watchdog.look(scenario.ctx, ACCOUNT, waiting=lambda _: waiting))


def ago(scenario: HttpScenario, run: str, seconds: float, *, name: str = "progress_ms") -> None:
    scenario.ctx.runs.note(run, **{name: scenario.ctx.runs.now_ms() - int(seconds * 1000)})


def test_a_lost_message_is_sent_again_once_in_its_time(scenario: HttpScenario) -> None:
    run = begun(scenario)
    assert looked(scenario) == []
    ago(scenario, run, USUAL.stalled)
    assert looked(scenario) == [(run, "first", [0])]
    assert looked(scenario) == []


def test_a_message_that_waits_in_its_queue_is_late_and_not_lost(scenario: HttpScenario) -> None:
    run = begun(scenario)
    ago(scenario, run, USUAL.stalled)
    assert looked(scenario, waiting=True) == []
    ago(scenario, run, 5 * USUAL.stalled)
    ago(scenario, run, USUAL.stalled, name="republished_ms")
    assert looked(scenario, waiting=True) == [(run, "first", [0])], "it may hang behind others for ever"


def test_a_finished_phase_goes_on_without_the_message_that_should_have_moved_it(scenario: HttpScenario) -> None:
    run = begun(scenario)
    perform(scenario.ctx, Part(run, "first", 0, "me/1"), rng=Random(0))
    assert looked(scenario) == []
    ago(scenario, run, USUAL.unmoved)
    assert [(stage, list(parts)) for _, stage, parts in looked(scenario)] == [("load", [0])]


def test_a_run_past_its_deadline_ends_and_leaves_the_cursor(scenario: HttpScenario) -> None:
    run = begun(scenario)
    ago(scenario, run, USUAL.deadline + 1, name="started_ms")
    assert looked(scenario) == []
    record = scenario.ctx.runs.get(run)
    assert record is not None
    assert (record.state, scenario.ctx.runs.account(ACCOUNT).cursor) == ("failed", "")
    assert '"deadline"' in record.facts["error"]


def test_a_poisonous_part_ends_its_run_with_the_reason(scenario: HttpScenario) -> None:
    run = begun(scenario)
    for delivery in range(MOST_CLAIMS + 1):
        scenario.ctx.runs.parts.claim(run, "first", 0, f"poison/{delivery}", lease_seconds=60)
    assert looked(scenario) == []
    record = scenario.ctx.runs.get(run)
    assert record is not None
    assert record.state == "failed"
    assert '"poison"' in record.facts["error"]


# -- requests of other applications --------------------------------------------------------------------------------


@pytest.fixture
def outbox(client: redis.Redis) -> Outbox:
    return Outbox(client, prefix="okasie:")


def test_a_request_whose_message_was_lost_is_found_until_somebody_takes_it_up(
    redis_url: str, client: redis.Redis, runs: Runs, outbox: Outbox
) -> None:
    task_id = Client(redis_url).push("dex", ["DEX-1"])
    client.delete("okasie.urgent")
    now_ms = runs.now_ms()
    assert list(outbox.lost(now_ms, after_seconds=20)) == [], "its message may only be late"
    (found, ask), = outbox.lost(now_ms + 20_000, after_seconds=20)  # fmt: skip
    assert (found, ask.task, ask.kwargs) == (task_id, "okasie.push", {"account": "dex", "references": ["DEX-1"]})
    assert list(outbox.lost(now_ms + 20_000, after_seconds=20)) == [], "it was sent again just now"
    assert not outbox.was_taken(task_id)
    outbox.taken(task_id)
    assert outbox.was_taken(task_id), "its message may come again"
    assert list(outbox.lost(now_ms + 90_000, after_seconds=20)) == []
    assert client.exists("okasie:outbox", "okasie:outbox:sent") == 0


def test_a_request_that_nobody_wants_any_more_is_crossed_out(
    redis_url: str, client: redis.Redis, runs: Runs, outbox: Outbox
) -> None:
    Client(redis_url, expires_seconds=60, key_prefix="okasie:").sync("dex")
    client.hset("okasie:outbox", "wrong", '{"task": "os.system", "kwargs": {}, "at_ms": 0, "expires_ms": 9e15}')
    client.zadd("okasie:outbox:sent", {"wrong": 0, "gone": 0})
    assert list(outbox.lost(runs.now_ms() + 61_000, after_seconds=20)) == []
    assert client.exists("okasie:outbox", "okasie:outbox:sent") == 0
