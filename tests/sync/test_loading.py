"""A run reads its source once, in blocks that any worker decodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from okasie_tasks.sources import csv_format
from tests.sync.http_scenario import HttpScenario, varied

_BLOCK = 5


@pytest.mark.parametrize(("rows", "parts"), [(0, 0), (4, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_the_load_has_a_part_that_reads_and_one_for_each_block(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, rows: int, parts: int
) -> None:
    monkeypatch.setattr(csv_format, "BLOCK_ROWS", _BLOCK)
    with HttpScenario(tmp_path, redis_url, rows=varied(rows, seed=1)) as scenario:
        scenario.good_run()
        run = scenario.run()
        assert (run.state, run.fact("rows")) == ("done", rows)
        assert scenario.ctx.runs.parts.stage(run.id, "load").total == 1 + parts
        assert len(scenario.stored()) == rows


def test_a_last_row_without_a_line_end_is_seen_at_the_end_of_a_full_block(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that was cut just there: fewer rows than before, and the last one may be half of itself."""
    monkeypatch.setattr(csv_format, "BLOCK_ROWS", _BLOCK)
    with HttpScenario(tmp_path, redis_url, rows=varied(20, seed=1), guarded=True) as scenario:
        scenario.good_run()
        feed = tmp_path / "feed.csv"
        lines = feed.read_text(encoding="utf-8").splitlines(keepends=True)
        monkeypatch.setattr(scenario, "_write_feed", lambda: None)
        feed.write_text("".join(lines[: 2 * _BLOCK + 1]).rstrip("\r\n"), encoding="utf-8")
        run = scenario.run()
        assert (run.state, json.loads(run.facts["error"])["code"]) == ("failed", "cut")
