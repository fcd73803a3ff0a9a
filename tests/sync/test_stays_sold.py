"""A car that our side says is sold, and that somebody lists again on the marketplace."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.sync.http_world import HttpWorld, varied


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_a_row_that_says_sold_is_sold_again(tmp_path: Path, redis_url: str, client: redis.Redis, mode: str) -> None:
    """Where a run plans a sell, it sells: the status is never the marketplace's to decide."""
    rows = varied(10, seed=1)
    for row in rows:
        row["status"] = "active"
    with HttpWorld(tmp_path, redis_url, rows=rows) as world:
        world.good_run()
        world.rows[0]["status"] = "sold"
        reference = world.rows[0]["stock_no"]
        for _ in range(2):
            world.good_run(mode)
        assert reference not in world.standing()
        world.edit({"reference": reference, "status": "active"})
        before = len(world.writes)
        world.good_run(mode)
        assert [(write.reference, write.outcome) for write in world.writes[before:]] == [(reference, "sold")]
        for _ in range(2):
            world.good_run(mode)
        assert len(world.writes) == before + 1, "once"
