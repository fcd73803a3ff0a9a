"""An edit on the marketplace under each policy: who wins, what is told of it, and what the source is offered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.reports.listing import why_document
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

CAR = "DG-00003"
Make = Callable[[str], Any]


@pytest.fixture
def make(tmp_path: Path, redis_url: str, client: redis.Redis) -> Make:
    @contextmanager
    def scenario(policy: str) -> Iterator[GuardedScenario]:
        extra = f'conflict = "{policy}"\n'
        feed = '[accounts.dex.source.write_back]\nfile = "changes.jsonl"\n'
        with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=1), account=extra, more=feed) as found:
            found.good_run()
            yield found

    return scenario


def edit(scenario: GuardedScenario, price: int) -> None:
    """Somebody sets a price on the marketplace, after all that we sent."""
    scenario.clock.ahead += 3600
    scenario.edit({"reference": CAR, "set": {"price": price}})


def row(scenario: GuardedScenario) -> dict[str, str]:
    return next(row for row in scenario.rows if row["stock_no"] == CAR)


def price(scenario: GuardedScenario) -> int:
    return int(scenario.standing()[CAR]["price"])


def offers(scenario: GuardedScenario) -> list[dict[str, Any]]:
    file = scenario.folder / "changes.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize(("policy", "ours_stands"), [("local", True), ("remote", False), ("newest", False)])
@pytest.mark.parametrize("mode", ["incremental", "full"])
@pytest.mark.parametrize("echo_read", [True, False])
def test_an_edit_there_while_our_row_stands(
    make: Make, policy: str, ours_stands: bool, mode: str, echo_read: bool
) -> None:
    with make(policy) as scenario:
        ours = price(scenario)
        if echo_read:
            scenario.good_run()
        edit(scenario, 1111)
        document = scenario.good_run(mode, step=False)
        assert document["listings"]["drifted"] == 1, document
        assert price(scenario) == (ours if ours_stands else 1111)
        events = why_document(scenario.ctx, CAR)["events"]
        assert [{"field": "price", "ours": ours, "theirs": 1111}] in [event["changes"] for event in events], events
        seen = scenario.status()["conflicts"][0]
        assert (seen["reference"], seen["changes"]) == (CAR, [{"field": "price", "ours": ours, "theirs": 1111}]), seen
        told = [] if ours_stands else [(CAR, {"price": {"ours": ours, "theirs": 1111}})]
        assert [(line["reference"], line["changes"]) for line in offers(scenario)] == told
        for again in ("full", "incremental", "full"):
            document = scenario.good_run(again)
            assert document["requests"]["bulk"] == 0, "decided once"
        assert len(offers(scenario)) == len(told), "offered once"


@pytest.mark.parametrize(
    ("policy", "hours", "stands"),
    [("local", -2, 2222), ("remote", -2, 1111), ("newest", -2, 2222), ("newest", 2, 1111), ("local", 2, 2222)],
)
def test_an_edit_on_both_sides(make: Make, policy: str, hours: int, stands: int) -> None:
    """Without a version of its own a row is as new as its reading: before or after their edit."""
    with make(policy) as scenario:
        scenario.good_run()  # reads the echo
        scenario.clock.ahead += hours * 3600
        scenario.edit({"reference": CAR, "set": {"price": 1111}})
        row(scenario)["price_eur"] = "2222"
        document = scenario.good_run("full", step=False)
        assert document["listings"]["conflicts"] == 1, document
        assert price(scenario) == stands
        assert len(offers(scenario)) == (stands == 1111)


def test_what_the_source_takes_over_ends_the_difference(make: Make) -> None:
    with make("remote") as scenario:
        edit(scenario, 1111)
        scenario.good_run(step=False)
        row(scenario)["price_eur"] = "1111"
        scenario.good_run()
        assert price(scenario) == 1111
        assert scenario.good_run()["requests"]["bulk"] == 0
        row(scenario)["price_eur"] = "3333"
        assert scenario.good_run("incremental")["listings"]["updated"] == 1
        assert price(scenario) == 3333


def test_an_offer_that_cannot_be_made_is_made_again(make: Make) -> None:
    with make("remote") as scenario:
        edit(scenario, 1111)
        target = scenario.folder / "changes.jsonl"
        target.mkdir()
        document = scenario.good_run(step=False)
        assert "could not be offered" in document["notes"][0]
        target.rmdir()
        assert scenario.good_run()["notes"] == []
        assert [line["reference"] for line in offers(scenario)] == [CAR]


def test_a_push_that_was_confirmed_and_not_done_is_not_an_edit_there(make: Make) -> None:
    """The old row is no edit: ours is sent again, and the source is offered nothing."""
    with make("remote") as scenario:
        scenario.good_run()
        row(scenario)["price_eur"] = "2222"
        scenario.faults({"kind": "answer", "match": {"path": "put"}, "status": 204, "body": "", "times": 1})
        scenario.push_reference(CAR)
        assert price(scenario) != 2222
        scenario.good_run()
        assert (price(scenario), offers(scenario)) == (2222, [])
