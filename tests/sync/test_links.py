"""The link to a listing's advert: taken from the list's row of what was written, kept with its history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.reports.listing import why_document
from tests.sync.http_scenario import varied
from tests.sync.test_odd_answers import CAR, OTHER, OddScenario

PLACE = "data.*.listingUrl"


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[OddScenario]:
    with OddScenario(tmp_path, redis_url, rows=varied(30, seed=1)) as found:
        found.good_run()
        yield found


def link(scenario: OddScenario, reference: str = CAR) -> str | None:
    found: str | None = why_document(scenario.ctx, reference)["listing_url"]
    return found


def test_a_written_listing_has_its_link_once_it_was_read_back(scenario: OddScenario, client: redis.Redis) -> None:
    assert link(scenario) is None
    scenario.good_run("incremental")
    ids = {row["externalReference"]: row["id"] for row in scenario.stored()}
    assert (link(scenario), link(scenario, OTHER)) == tuple(
        f"https://www.okasie.invalid/{ids[name]}" for name in (CAR, OTHER)
    )
    assert link(scenario, "unknown") is None
    expiries = [client.ttl(key) for key in client.scan_iter(f"{scenario.prefix}history:*")]
    assert expiries, "links are kept as long as events"
    assert min(expiries) > 0


def test_an_unchanged_listing_adds_nothing_and_a_changed_one_has_its_new_link(scenario: OddScenario) -> None:
    scenario.good_run("incremental")
    before = link(scenario, OTHER)
    scenario.set(PLACE, "https://www.okasie.be/new", CAR, OTHER)
    scenario.row(CAR)["price_eur"] = "4321"
    assert scenario.good_run("incremental")["listings"]["updated"] == 1
    scenario.good_run("incremental")
    assert (link(scenario), link(scenario, OTHER)) == ("https://www.okasie.be/new", before)


@pytest.mark.parametrize(
    "odd", ["javascript:alert(1)", "https://okasie.be/\x1b[2J\n", "https://a:b@okasie.be/", 7, None]
)
def test_what_is_no_link_of_the_web_is_not_shown(scenario: OddScenario, odd: Any) -> None:
    scenario.set(PLACE, odd, CAR)
    scenario.quiet("incremental")
    assert link(scenario) is None
    assert link(scenario, OTHER)
