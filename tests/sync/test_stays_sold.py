"""A car that our side says is sold, and that somebody lists again on the marketplace."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.sync.http_scenario import HttpScenario, varied


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
