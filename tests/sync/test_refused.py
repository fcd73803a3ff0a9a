"""Listings that are refused for good: each is sent once at most, costs nothing from then on, and is told with its reason.

Half of them break the contract and are never sent; the others are valid by it, and refused by the marketplace all the
same. ``REFUSED_CARS=5000 pytest tests/sync/test_refused.py`` is the full size.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis

from okasie_tasks.core.records import Reject
from tests.sync.http_scenario import HttpScenario, Row, varied

CARS: Final = int(os.environ.get("REFUSED_CARS", "600"))
WORD: Final = "TAXI"
_EVERY: Final = 20
"""One car in so many is refused: 5 %."""
_BREAKS: Final[tuple[tuple[str, str, str], ...]] = (
    # column, what it holds, the field that the reject must name
    ("price_eur", "op aanvraag", "price"),
    ("price_eur", "", "price"),
    ("price_eur", "0", "price"),
    ("price_eur", "$ 9000", "price"),
    ("vat", "luxe", "vehicleType"),
)


class Refused:
    """A feed in which 5 % are invalid for ever, and what each of them must be told with."""

    def __init__(self, scenario: HttpScenario) -> None:
        self.scenario = scenario
        self.by_api: dict[str, Row] = {}
        self.by_contract: dict[str, tuple[Row, str]] = {}
        for number, row in enumerate(scenario.rows[::_EVERY]):
            if number % 2:
                row["version"] = f"{row['version']} {WORD}"
                self.by_api[row["stock_no"]] = row
            else:
                column, value, field = _BREAKS[number // 2 % len(_BREAKS)]
                row[column] = value
                self.by_contract[row["stock_no"]] = (row, field)

    def __len__(self) -> int:
        return len(self.by_api) + len(self.by_contract)

    def sent(self) -> Counter[str]:
        """How often each of them was sent."""
        return Counter(
            w.reference for w in self.scenario.writes if w.reference in self.by_api or w.reference in self.by_contract
        )

    def rejects(self) -> dict[str, Reject]:
        return {reject.reference: reject for reject in self.scenario.ctx.ledger.all_rejects()}


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=varied(CARS, seed=11), quirks={"refuse_word": WORD}) as found:
        yield found


def test_what_is_refused_for_good_is_sent_once_and_told(scenario: HttpScenario) -> None:
    refused = Refused(scenario)
    first = scenario.good_run()
    assert first["listings"]["created"] == CARS - len(refused)
    assert (first["listings"]["rejected"], first["new_rejects"]) == (len(refused), len(refused))
    _check_sent_once(refused)
    _check_told(refused)
    for mode in ("incremental", "full", "incremental", "full"):
        before = len(scenario.writes)
        document = scenario.good_run(mode)
        assert scenario.writes[before:] == [], f"{mode}: {document}"
        assert (document["listings"]["rejected"], document["new_rejects"]) == (len(refused), 0)
        _check_told(refused)
    _check_fixing(refused)


def _check_sent_once(refused: Refused) -> None:
    assert refused.sent() == Counter(dict.fromkeys(refused.by_api, 1))


def _check_told(refused: Refused) -> None:
    rejects = refused.rejects()
    assert set(rejects) == {*refused.by_api, *refused.by_contract}
    for name in refused.by_api:
        told = rejects[name]
        assert (told.fields, told.code, WORD in told.message) == (["title"], "VALIDATION_FAILED", True), told
    for name, (_, field) in refused.by_contract.items():
        told = rejects[name]
        assert told.fields == [field], told
        assert told.message.startswith(f"{field}: "), told
        assert "feed.csv:" in told.where, told


def _check_fixing(refused: Refused) -> None:
    """Each one that is put right in the feed is sent, and nothing but it; one that is made wrong otherwise is not."""
    scenario = refused.scenario
    for mode in ("incremental", "full"):
        by_api, row = refused.by_api.popitem()
        row["version"] = "Style"
        _only(refused, mode, by_api, "created")
        by_contract, (row, _) = refused.by_contract.popitem()
        row.update(price_eur="9500", vat="btw")
        _only(refused, mode, by_contract, "created")
    by_api, row = refused.by_api.popitem()
    row["price_eur"] = "1"
    _only(refused, "incremental", by_api, "refused")
    refused.by_api[by_api] = row
    before = len(scenario.writes)
    for mode in ("incremental", "full"):
        scenario.good_run(mode)
    assert scenario.writes[before:] == [], "what changed and was refused again is parked again"


def _only(refused: Refused, mode: str, reference: str, outcome: str) -> None:
    before = len(refused.scenario.writes)
    refused.scenario.good_run(mode)
    assert [(write.reference, write.outcome) for write in refused.scenario.writes[before:]] == [(reference, outcome)]
    assert (reference in refused.rejects()) is (outcome == "refused")


def test_a_listing_that_stands_and_is_then_refused_keeps_its_old_content(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    with HttpScenario(tmp_path, redis_url, rows=varied(60, seed=11), quirks={"refuse_word": WORD}) as scenario:
        scenario.good_run()
        row = scenario.rows[7]
        was = scenario.standing()[row["stock_no"]]
        row["version"] = f"{row['version']} {WORD}"
        before = len(scenario.writes)
        for mode in ("incremental", "full", "incremental", "full"):
            scenario.good_run(mode)
        assert [(write.reference, write.outcome) for write in scenario.writes[before:]] == [
            (row["stock_no"], "refused")
        ]
        assert scenario.standing()[row["stock_no"]] == was
        row["version"] = "Style"
        scenario.good_run("incremental")
        assert scenario.standing() == scenario.wanted()
        assert not list(scenario.ctx.ledger.all_rejects())
