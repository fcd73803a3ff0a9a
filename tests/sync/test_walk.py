"""Pages that move while they are read: rows missed and met twice, rows that come in between, a ledger that is lost.

Whatever a walk makes one believe: no car of the feed is sold, none is made twice, nothing of others is touched, and
one quiet run puts everything right. A round is a seed: ``WALK_ROUNDS=200 pytest tests/sync/test_walk.py`` plays two
hundred, ``WALK_SEED=17`` plays one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from okasie_tasks.reports.runs import run_document
from tests.sync.http_scenario import ACCOUNT, HttpScenario, Row, varied

_ROUNDS = int(os.environ.get("WALK_ROUNDS", "20"))
_ONE = os.environ.get("WALK_SEED")
_BLOCK = 10
_PAGE = 20
"""Rows a page: a walk of a few pages is enough for rows to be missed."""


class Round:
    """One dealer's days: the feed changes, the marketplace's pages move, sometimes the ledger is lost."""

    def __init__(self, scenario: HttpScenario, seed: int) -> None:
        self.scenario, self.rng = scenario, Random(seed)
        self.gone: list[Row] = []
        self._next = len(scenario.rows) + 1

    def play(self) -> None:
        self._foreign(self.rng.randint(0, 8))
        self._theirs = self._others()
        if self.rng.random() < 0.7:
            self.scenario.good_run()
        for _ in range(self.rng.randint(1, 4)):
            self._day()
            self._moving_pages()
            self._run(self.rng.choice(("full", "full", "incremental")))
        self.scenario.quirks()
        self._run("full")

    # -- what happens ----------------------------------------------------------------------------------------------

    def _foreign(self, count: int) -> None:
        made = {"title": "Of somebody else", "price": 5, "status": "active"}
        names = [f"THEIRS-{number}" if number % 2 else None for number in range(count)]
        self.scenario.edit(*({"create": made, "reference": name} for name in names))

    def _day(self) -> None:
        rows, rng = self.scenario.rows, self.rng
        leave = rng.random() < 0.25
        if not leave and self.gone and rng.random() < 0.5:
            rows.append(self.gone.pop(rng.randrange(len(self.gone))))
        for row in rng.sample(rows, rng.randint(0, 6)):
            row["price_eur"] = str(int(row["price_eur"]) + 50)
        left = rng.sample(rows, rng.randint(0, 6))
        self.gone += left
        rows[:] = [row for row in rows if row not in left]
        fresh = rng.randint(0, 6)
        rows += varied(fresh, seed=1, first=self._next)
        self._next += fresh
        if leave:
            self.scenario.lose_redis()
            # Cars that are sold come back to a lost ledger as sold by someone: a person must look, by design.
            self.gone.clear()

    def _moving_pages(self) -> None:
        self.scenario.quirks(
            shuffle_pages=self.rng.random() < 0.8, walk_seed=self.rng.randrange(1000), page_rows=_PAGE,
            insert_during_walk=self.rng.choice((0, 0, 1, 3)),
        )  # fmt: skip

    def _run(self, mode: str) -> None:
        before, here = len(self.scenario.writes), {row["stock_no"] for row in self.scenario.rows}
        run = self.scenario.run(mode)
        document = run_document(self.scenario.ctx.runs, run)
        moving = (
            self.scenario.sandbox.store.quirks.shuffle_pages or self.scenario.sandbox.store.quirks.insert_during_walk
        )
        # Without a ledger, what a walk did not read may stand there all the same: it waits, and the run says so.
        waits = moving and (document["error"] or {}).get("code") == "walk_incomplete"
        assert run.state == ("partial" if waits else "done"), document
        sold = {write.reference for write in self.scenario.writes[before:] if write.kind == "delete"}
        assert not sold & here, f"cars of the feed were sold: {sold & here}, {document}"
        refused = [write for write in self.scenario.writes[before:] if write.outcome == "refused"]
        assert not refused, (refused, document)

    # -- what must hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        made = Counter(write.reference for write in self.scenario.writes if write.outcome == "created")
        assert not [name for name, count in made.items() if count > 1], made
        assert self._others() == self._theirs, "somebody else's were touched"
        assert not [write for write in self.scenario.writes if write.reference.startswith("THEIRS")]
        stands, wanted = self.scenario.standing(), self.scenario.wanted()
        assert set(stands) == set(wanted)
        differ = {name for name, body in wanted.items() if stands[name] != body}
        assert not differ, [(stands[name], wanted[name]) for name in differ][:3]
        before = len(self.scenario.writes)
        self._run("full")
        assert self.scenario.writes[before:] == [], "the quiet run left nothing to do"

    def _others(self) -> list[dict[str, Any]]:
        """Rows of somebody else's as they were made: those put in during a walk come after."""
        made = [row for row in self.scenario.stored() if row["externalProvider"] == "somebody-else"]
        return sorted((row for row in made if "Inserted" not in row["body"]["title"]), key=lambda row: row["id"])


_SEEDS = [range(int(_ONE), int(_ONE) + 1)] if _ONE else [range(n, n + _BLOCK) for n in range(0, _ROUNDS, _BLOCK)]
_USUAL = 1
_BLOCKS = [*_SEEDS[:_USUAL], *(pytest.param(seeds, marks=pytest.mark.slow) for seeds in _SEEDS[_USUAL:])]
"""The first ones are played each time, the others with `make test-all`."""


@pytest.mark.parametrize("seeds", _BLOCKS, ids=str)
def test_moving_pages_sell_nothing_and_make_nothing_twice(
    tmp_path: Path, redis_url: str, client: redis.Redis, seeds: Sequence[int]
) -> None:
    for seed in seeds:
        with HttpScenario(tmp_path, redis_url, rows=varied(40 + seed % 50, seed=1)) as scenario:
            try:
                played = Round(scenario, seed)
                played.play()
                played.check()
            except BaseException as error:
                error.add_note(f"the seed is {seed}: WALK_SEED={seed}; account {ACCOUNT}")
                raise


@pytest.mark.parametrize("between", ["nothing", "incremental", "full"])
def test_cars_that_left_while_a_walk_missed_them_are_sold_all_the_same(
    tmp_path: Path, redis_url: str, client: redis.Redis, between: str
) -> None:
    """A walk that counts as many rows as it was told may have met some twice: that proves nobody's absence."""
    moving = {"page_rows": _PAGE, "shuffle_pages": True, "walk_seed": 3}
    with HttpScenario(tmp_path, redis_url, rows=varied(100, seed=1)) as scenario:
        for _ in range(2):
            scenario.good_run()
        del scenario.rows[:10]
        scenario.quirks(**moving)
        scenario.good_run()
        if between != "nothing":
            scenario.good_run(between)
        scenario.quirks()
        scenario.good_run()
        assert scenario.standing() == scenario.wanted()


def test_pages_that_move_are_no_reason_to_write(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    with HttpScenario(tmp_path, redis_url, rows=varied(100, seed=1)) as scenario:
        for _ in range(2):
            scenario.good_run()
        before = len(scenario.writes)
        for seed in range(3):
            scenario.quirks(page_rows=_PAGE, shuffle_pages=True, walk_seed=seed)
            scenario.good_run()
        assert len(scenario.writes) - before == 0, "nothing changed anywhere"
