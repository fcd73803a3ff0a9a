"""What a run that Redis failed over under still does: nothing that a lost push may contradict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.cli.sentinel_checks import check_ledger
from okasie_tasks.cli.status import print_status
from okasie_tasks.reports.attention import attention_document
from okasie_tasks.sync import failover, phases, writes
from okasie_tasks.sync.context import AccountContext
from tests.sync import driver
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied
from tests.sync.scenario import Scenario
from tests.sync.test_beside_a_run import about_to_sell, claimed, known


def fail_over(ctx: AccountContext, *, lost_ms: int = 2_000) -> None:
    """As `okasie_tasks.store.failovers` records it; `tests.failover` has the real thing."""
    now = ctx.runs.now_ms()
    ctx.runs.redis.zadd(ctx.runs.failovers._keys[1], {f"{now - lost_ms} {now}": now})


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(30, seed=2)) as found:
        found.good_run()
        yield found


def test_a_sell_planned_before_it_waits_for_the_next_run(client: redis.Redis) -> None:
    scenario = Scenario(client, 0)
    part = about_to_sell(scenario.plain, known())
    fail_over(scenario.plain)
    claim = claimed(scenario.plain, part)
    assert writes.mark_sold(scenario.plain, part, claim, scenario.market) == {"unconfirmed": 1}
    assert scenario.market.writes == []


def test_a_drift_found_before_it_is_not_overwritten(scenario: GuardedScenario) -> None:
    """The drift may be a push whose entry is lost."""
    ctx, reference = scenario.ctx, scenario.rows[0]["stock_no"]
    written = len(scenario.writes)
    scenario.edit({"reference": reference, "set": {"price": 4_321}})
    run, _ = ctx.runs.request(ACCOUNT, "full")
    ctx.runs.begin(ACCOUNT)

    def before() -> None:
        planned = ctx.runs.get(run)
        if planned is not None and planned.stage == "apply" and not ctx.runs.failovers.look():
            fail_over(ctx)

    driver.finish(ctx, run, before=before)
    assert ctx.runs.failovers.look()
    assert scenario.writes[written:] == []
    assert scenario.standing()[reference]["price"] == 4_321


def test_one_full_run_is_requested_and_heals_the_ledger(scenario: GuardedScenario) -> None:
    ctx = scenario.ctx
    fail_over(ctx)
    failover.request_healing(ctx)
    healing = ctx.runs.waiting(ACCOUNT)
    assert healing is not None
    assert scenario.run("full").id == healing
    assert ctx.runs.lost_writes(ACCOUNT) is None
    failover.request_healing(ctx)
    assert ctx.runs.waiting(ACCOUNT) is None


def test_neither_an_incremental_run_nor_one_from_before_heals_it(scenario: GuardedScenario) -> None:
    ctx = scenario.ctx
    run, _ = ctx.runs.request(ACCOUNT, "full")
    ctx.runs.begin(ACCOUNT)
    fail_over(ctx)
    begun = ctx.runs.get(run)
    assert begun is not None
    driver.finish(ctx, run)
    scenario.run("incremental")
    assert ctx.runs.lost_writes(ACCOUNT) is not None
    assert not phases.evidence_of(ctx, begun).source_complete


def test_doctor_status_and_the_console_show_it_until_then(
    scenario: GuardedScenario, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> tuple[bool, bool]:
        document = scenario.status()
        print_status({"accounts": [{**document, "timezone": "UTC"}], "queues": {}, "missing": []})
        kinds = [one["kind"] for one in attention_document(scenario.services, [ACCOUNT])]
        return "may lack writes since" in capsys.readouterr().out, "ledger_behind" in kinds

    assert list(check_ledger(scenario.ctx.runs, ACCOUNT)) == []
    assert shown() == (False, False)
    fail_over(scenario.ctx)
    assert shown() == (True, True)
    (check,) = check_ledger(scenario.ctx.runs, ACCOUNT)
    assert check.warning
    assert "may lack writes since" in check.detail
    scenario.good_run()
    assert list(check_ledger(scenario.ctx.runs, ACCOUNT)) == []
    assert shown() == (False, False)


def test_a_sender_that_may_have_left_gives_way(scenario: GuardedScenario) -> None:
    assert scenario.ctx.urgent_queue.lead("a sender whose leave is lost")
    assert not scenario.ctx.urgent_queue.lead("another")
    fail_over(scenario.ctx)
    failover.request_healing(scenario.ctx)
    assert scenario.ctx.urgent_queue.lead("another")


def test_the_watchdog_hurries_after_it(scenario: GuardedScenario) -> None:
    assert not failover.is_recent(scenario.ctx.runs)
    fail_over(scenario.ctx)
    assert failover.is_recent(scenario.ctx.runs)
