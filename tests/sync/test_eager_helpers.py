"""Another worker looks for work at every moment: what it can take it must find whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from okasie_tasks.errors import NoPermit
from okasie_tasks.sandbox.sample import cars
from okasie_tasks.sync import fetch, phases
from okasie_tasks.sync.context import Part
from okasie_tasks.sync.executor import perform
from tests.sync.http_scenario import ACCOUNT, HttpScenario

_ROWS = 350
"""Four bulk calls."""


class Helper:
    """Takes and does whatever can be taken whenever the run's own worker has told Redis something."""

    def __init__(self, scenario: HttpScenario, patch: pytest.MonkeyPatch) -> None:
        self._ctx, self._at_work = scenario.ctx, False
        self.done: list[str] = []
        runs = scenario.ctx.runs
        for store, name in ((runs.data, "put"), (runs.parts, "extend"), (runs, "note"), (runs.parts, "add")):
            patch.setattr(store, name, self._then_look(getattr(store, name)))

    def _then_look(self, step: Any) -> Any:
        def then_look(*args: Any, **kwargs: Any) -> Any:
            found = step(*args, **kwargs)
            if not self._at_work:
                self._at_work = True
                self._look()
                self._at_work = False
            return found

        return then_look

    def _look(self) -> None:
        runs = self._ctx.runs
        run = runs.get(runs.active(ACCOUNT) or "")
        if run is None or run.state != "running":
            return
        for stage, parts in phases.windows(self._ctx, run.id, run.stage):
            for part in parts:
                self.done.append(stage)
                try:
                    perform(self._ctx, Part(run.id, stage, part, f"helper{len(self.done)}/1"), rng=Random(0))
                except NoPermit:
                    pytest.fail("the helper is to be at work at once")


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=cars(_ROWS, seed=1)) as found:
        yield found


def test_a_chunk_can_be_taken_only_once_it_is_there(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = Helper(scenario, monkeypatch)
    document = scenario.good_run("full")
    assert "upsert" in helper.done, "else nothing was shown"
    assert document["listings"]["created"] == _ROWS
    assert document["requests"]["bulk"] == document["requests"]["minimum"] - document["requests"]["list"] == 4


def test_a_round_of_the_walk_can_be_taken_only_once_its_pages_are_known(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, seen = scenario.ctx, list[int]()
    ctx.runs.request(ACCOUNT, "full")
    run = ctx.runs.begin(ACCOUNT) or ""
    ctx.runs.note(run, pages=3)
    ctx.runs.advance(run, "first", "walk", parts=2)
    extend = ctx.runs.parts.extend

    def then_look(*args: Any, **kwargs: Any) -> int:
        first: int = extend(*args, **kwargs)
        record = ctx.runs.get(run)
        assert record is not None
        seen.extend(fetch.page_of(record, part) for part in range(ctx.runs.parts.stage(run, "walk").total))
        return first

    monkeypatch.setattr(ctx.runs.parts, "extend", then_look)
    record = ctx.runs.get(run)
    assert record is not None
    assert fetch.repeat(ctx, record)
    assert seen == [2, 3, 1, 2, 3]
