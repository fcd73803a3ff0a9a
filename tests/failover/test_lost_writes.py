"""A master dies with the last writes of the ledger: real servers, a real marketplace, one failover."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from okasie_tasks.sync import failover
from tests.failover.group import SentinelGroup
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

pytestmark = [pytest.mark.system]


@pytest.fixture
def scenario(tmp_path: Path, group: SentinelGroup) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, group.url, rows=varied(60, seed=3)) as found:
        found.good_run()
        yield found


def prices(scenario: GuardedScenario) -> dict[str, float]:
    return {row["externalReference"]: row["body"]["price"] for row in scenario.stored()}


def test_an_older_ledger_undoes_no_push_and_sells_nothing(scenario: GuardedScenario, group: SentinelGroup) -> None:
    ctx, rows = scenario.ctx, {row["stock_no"]: row for row in scenario.rows}
    inline, relisted, sold, referenced, gone = list(rows)[:5]
    scenario.remove([rows[relisted]])
    scenario.good_run()
    assert scenario.sold() == {relisted}
    assert ctx.runs.lost_writes(ACCOUNT) is None
    scenario.services.redis.wait(2, 5000)

    old = group.master()
    group.cut_off_replicas()
    scenario.push(rows[inline], price=12_340)
    scenario.push(rows[relisted], price=4_560)
    scenario.sell(sold)
    rows[referenced]["price_eur"] = "7890"
    scenario.push_reference(referenced)
    written = len(scenario.writes)
    group.signal(old, signal.SIGKILL)
    group.failed_over(old)
    group.reconnect_replicas()

    # What the ledger lacks is known before anything is decided with it.
    assert scenario.services.redis.hget(f"{scenario.prefix}account:{ACCOUNT}", "market")
    lost = ctx.runs.lost_writes(ACCOUNT)
    assert lost is not None
    rows[sold]["price_eur"] = "5555"
    scenario.remove([rows[gone]])
    assert scenario.ask("incremental").state == "done"
    assert scenario.sold() == {sold}, "the ledger proves no sell before a full run"

    failover.request_healing(ctx)
    assert (ctx.runs.waiting(ACCOUNT), ctx.runs.lost_writes(ACCOUNT)) != (None, None)
    document = scenario.good_run()
    assert document["mode"] == "full"
    assert ctx.runs.lost_writes(ACCOUNT) is None
    assert scenario.sold() == {sold, gone}
    for _ in range(2):
        assert prices(scenario)[inline] == 12_340
        assert prices(scenario)[relisted] == 4_560
        assert prices(scenario)[referenced] == 7_890
        assert {write.reference for write in scenario.writes[written:]} == {gone}
        scenario.good_run()
    group.restart(old)
