"""Images that the marketplace skipped: the listing is not in step until they are there or were given up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import redis

from okasie_tasks.core.ledger_entry import Flag
from okasie_tasks.reports.listing import why_document
from okasie_tasks.sync import skipped_images
from okasie_tasks.urgent import accept
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

BAD = "DG-00003"
"""Of this car the marketplace cannot fetch one photo."""


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=1)) as found:
        found.quirks(skip_images_with=f"{BAD}/0.jpg")
        document = found.good_run()
        assert document["skipped_images"] == 1
        yield found


def time_comes(scenario: GuardedScenario) -> None:
    """As if the next try were due: Redis keeps the time, and no test waits for it."""
    (record,) = scenario.ctx.ledger.skipped([BAD]).values()
    scenario.ctx.ledger.keep_skipped([msgspec.structs.replace(record, next_try=0)])


def waits(scenario: GuardedScenario) -> bool:
    return scenario.ctx.ledger.get([BAD])[BAD].has(Flag.IMAGES)


def test_they_are_tried_again_slowly_and_then_given_up(scenario: GuardedScenario) -> None:
    for tries, seconds in enumerate(skipped_images.WAITS_SECONDS, start=1):
        (record,) = scenario.ctx.ledger.skipped([BAD]).values()
        now = int(scenario.ctx.runs.now())
        assert (record.tries, record.images[0][1], record.given_up) == (tries, "mirror_failed", False)
        assert 0 <= now + seconds - record.next_try < 60
        for mode in ("incremental", "full"):
            assert scenario.good_run(mode)["requests"]["bulk"] == 0, "not yet"
        time_comes(scenario)
        assert scenario.good_run("incremental" if tries % 2 else "full")["listings"]["updated"] == 1
    (record,) = scenario.ctx.ledger.skipped([BAD]).values()
    assert (record.given_up, waits(scenario)) == (True, False)
    time_comes(scenario)
    for mode in ("incremental", "full"):
        assert scenario.good_run(mode)["requests"]["bulk"] == 0, "given up"
    assert scenario.status()["skipped_images"] == 1


def test_more_than_fifty_are_a_warning(scenario: GuardedScenario) -> None:
    row = scenario.rows[5]
    row["photos"] = "|".join(f"https://x.test/{number}.jpg" for number in range(53))
    document = scenario.good_run("incremental")
    assert (document["listings"]["updated"], document["listings"]["warnings"]) == (1, 1)
    events = why_document(scenario.ctx, row["stock_no"])["events"]
    assert "images: 3 of 53 left out: at most 50, each once" in [event["reason"] for event in events]


def test_once_they_are_there_it_is_in_step(scenario: GuardedScenario) -> None:
    assert waits(scenario)
    scenario.quirks(skip_images_with="")
    time_comes(scenario)
    plan = scenario.look()
    assert [(c["reference"], c["reason"]) for c in plan["changes"]] == [(BAD, "images were skipped, tried again")]
    assert scenario.good_run("incremental")["listings"]["updated"] == 1
    assert (waits(scenario), scenario.ctx.ledger.skipped([BAD]), scenario.status()["skipped_images"]) == (False, {}, 0)
    time_comes_never = scenario.good_run("full")
    assert time_comes_never["requests"]["bulk"] == 0


def test_a_new_content_begins_anew(scenario: GuardedScenario) -> None:
    time_comes(scenario)
    scenario.good_run("incremental")
    assert scenario.ctx.ledger.skipped([BAD])[BAD].tries == 2
    next(row for row in scenario.rows if row["stock_no"] == BAD)["price_eur"] = "4321"
    assert scenario.good_run("incremental")["listings"]["updated"] == 1
    assert scenario.ctx.ledger.skipped([BAD])[BAD].tries == 1


@pytest.mark.parametrize("inline", [False, True])
def test_more_than_fifty_are_a_warning_in_the_outcome_of_a_push(scenario: GuardedScenario, inline: bool) -> None:
    row, name = scenario.rows[5], uuid4().hex
    row["photos"] = "|".join(f"https://x.test/{number}.jpg" for number in range(53))
    listing = scenario.wanted()[row["stock_no"]] | {"externalReference": row["stock_no"]}
    listing["images"] = row["photos"].split("|")
    asked = {"listings": [listing]} if inline else {"references": [row["stock_no"]]}
    accept.accept_push(scenario.ctx, name, **asked)
    scenario._send()
    outcome = scenario.ctx.pushes.get(name).outcomes[row["stock_no"]]
    assert outcome.outcome == "updated"
    [warning] = outcome.warnings
    assert "3 of 53" in warning
    events = why_document(scenario.ctx, row["stock_no"])["events"]
    assert any(warning in event["reason"] for event in events)
