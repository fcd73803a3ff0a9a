"""Control totals: the marketplace's own counts against ours, once a day; two differences in a row ask for a full run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.sync import control_totals
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=1)) as found:
        found.good_run()
        yield found


def a_day_later(scenario: GuardedScenario) -> None:
    """As if the last count were a day old: Redis keeps the time, and no test waits for it."""
    counted_ms = scenario.ctx.runs.account(ACCOUNT).counted_ms
    scenario.ctx.runs.note_account(ACCOUNT, counted_ms=counted_ms - control_totals.EVERY_MS)


def counts(scenario: GuardedScenario) -> int:
    return scenario.requests().count("locations")


def test_it_costs_one_request_a_day_in_a_full_run(scenario: GuardedScenario) -> None:
    for mode in ("full", "incremental"):
        scenario.good_run(mode)
    assert counts(scenario) == 0, "the first day"
    a_day_later(scenario)
    scenario.good_run("incremental")
    assert counts(scenario) == 0
    for _ in range(2):
        scenario.good_run("full")
        assert counts(scenario) == 1


def test_what_we_believe_is_what_they_count(scenario: GuardedScenario) -> None:
    scenario.edit({"reference": "OTHER", "create": {"title": "Theirs", "price": 5}})
    scenario.edit({"create": {"title": "Nameless", "price": 5}})
    scenario.sell(scenario.rows[0]["stock_no"])
    scenario.remove(scenario.rows[1:3])
    scenario.rows += varied(2, seed=1, first=90)
    a_day_later(scenario)
    document = scenario.good_run("full")
    assert document["control"] == {"ours": 21, "theirs": 21}, document
    assert document["notes"] == []


def test_two_differences_in_a_row_ask_for_a_full_run(scenario: GuardedScenario) -> None:
    scenario.quirks(count_error=1)
    a_day_later(scenario)
    document = scenario.good_run("full")
    assert (document["control"]["theirs"] - document["control"]["ours"]) > 0
    assert "the marketplace counts" in document["notes"][0]
    assert scenario.ctx.runs.waiting(ACCOUNT) is None, "one may be a push that came between"
    a_day_later(scenario)
    scenario.good_run("full")
    waiting = scenario.ctx.runs.waiting(ACCOUNT)
    assert waiting is not None
    run = scenario.ctx.runs.get(waiting)
    assert run is not None
    assert run.mode == "full"


def test_a_count_that_is_right_again_forgets_the_difference(scenario: GuardedScenario) -> None:
    for error in (1, 0, 1):
        scenario.quirks(count_error=error)
        a_day_later(scenario)
        scenario.good_run("full")
    assert scenario.ctx.runs.waiting(ACCOUNT) is None


def test_a_key_that_may_not_read_locations_is_no_fault(scenario: GuardedScenario) -> None:
    scenario.lose_scope("read:locations")
    a_day_later(scenario)
    document = scenario.good_run("full")
    assert (document["control"], counts(scenario)) == (None, 1)
