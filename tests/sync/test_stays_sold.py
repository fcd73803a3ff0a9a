"""A car that is sold here, and that is live on the marketplace: listed again by somebody, or never sold there."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.sync.http_scenario import HttpScenario, varied
from tests.sync.test_odd_answers import OddScenario

GONE = "DG-00001"


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_a_row_that_says_sold_is_sold_again(tmp_path: Path, redis_url: str, client: redis.Redis, mode: str) -> None:
    """Where a run plans a sell, it sells: the status is never the marketplace's to decide."""
    rows = varied(10, seed=1)
    for row in rows:
        row["status"] = "active"
    with HttpScenario(tmp_path, redis_url, rows=rows) as scenario:
        scenario.good_run()
        scenario.rows[0]["status"] = "sold"
        reference = scenario.rows[0]["stock_no"]
        for _ in range(2):
            scenario.good_run(mode)
        assert reference not in scenario.standing()
        scenario.edit({"reference": reference, "status": "active"})
        before = len(scenario.writes)
        scenario.good_run(mode)
        assert [(write.reference, write.outcome) for write in scenario.writes[before:]] == [(reference, "sold")]
        for _ in range(2):
            scenario.good_run(mode)
        assert len(scenario.writes) == before + 1, "once"


@pytest.mark.parametrize("policy", ["local", "remote", "newest"])
@pytest.mark.parametrize("echo_read", [True, False])
def test_a_sell_that_was_confirmed_and_not_done_is_repeated(
    tmp_path: Path, redis_url: str, client: redis.Redis, policy: str, echo_read: bool
) -> None:
    """Nobody has listed it again: its row is older than the sell. Every full run sells it until it is sold."""
    with OddScenario(tmp_path, redis_url, rows=varied(10, seed=1), account=f'conflict = "{policy}"\n') as scenario:
        for _ in range(2 if echo_read else 1):
            scenario.good_run()
        scenario.rows = [row for row in scenario.rows if row["stock_no"] != GONE]
        scenario.fault("delete", kind="answer", status=204, body="")
        for _ in range(3):
            scenario.good_run()
            assert (scenario.status_of(GONE), GONE in scenario.standing()) == ("sold", True)
        scenario.heal()
        scenario.quiet("incremental")  # it does not read the row
        document, written = scenario.played()
        assert (document["state"], written) == ("done", [(GONE, "sold")]), document
        scenario.quiet()


def test_a_repeated_sell_that_fails_is_repeated_by_an_incremental_run(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    with OddScenario(tmp_path, redis_url, rows=varied(10, seed=1), account='conflict = "remote"\n') as scenario:
        scenario.good_run()
        scenario.rows = [row for row in scenario.rows if row["stock_no"] != GONE]
        scenario.fault("delete", kind="answer", status=204, body="")
        scenario.good_run()
        scenario.heal()
        scenario.fault("delete", kind="answer", status=503, body="")
        scenario.played()
        scenario.heal()
        assert scenario.played("incremental")[1] == [(GONE, "sold")]


@pytest.mark.parametrize("policy", ["remote", "newest"])
def test_a_car_that_somebody_lists_again_after_its_sell_stays_listed(
    tmp_path: Path, redis_url: str, client: redis.Redis, policy: str
) -> None:
    with OddScenario(tmp_path, redis_url, rows=varied(10, seed=1), account=f'conflict = "{policy}"\n') as scenario:
        scenario.good_run()
        scenario.rows = [row for row in scenario.rows if row["stock_no"] != GONE]
        scenario.good_run()
        scenario.edit({"reference": GONE, "status": "active"})
        assert scenario.quiet()["listings"]["drifted"] == 1
        scenario.quiet()


def test_rows_of_cars_that_are_sold_are_counted(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    """Sold before it was ever listed, and sold since: neither needs anything, and the summary accounts for each row."""
    rows = varied(10, seed=1)
    for row in rows:
        row["status"] = "active"
    rows[0]["status"] = "sold"
    with HttpScenario(tmp_path, redis_url, rows=rows) as scenario:
        counts = [scenario.good_run()["listings"]]
        scenario.rows[1]["status"] = "sold"
        counts += [scenario.good_run()["listings"] for _ in range(2)]
    names = ("local", "created", "unchanged", "sold", "already_sold")
    assert [[found[name] for name in names] for found in counts] == [
        [10, 9, 0, 0, 1], [10, 0, 8, 1, 1], [10, 0, 8, 0, 2],
    ]  # fmt: skip
