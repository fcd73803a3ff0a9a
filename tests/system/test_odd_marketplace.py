"""Real workers, and a marketplace whose list lacks a field, has an unknown status and announces pages without end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import stored
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system
CAR = "DG-00003"


@pytest.fixture
def odd(fleet: Fleet) -> Iterator[None]:
    edits = [
        {"path": "data.*.powerKw", "do": "remove"},
        {"path": "data.*.color", "do": "set", "value": None},
        {"path": "data.*.status", "do": "set", "value": "reserved", "references": [CAR]},
        {"path": "data.*.updatedAt", "do": "set", "value": "9999-12-31T23:59:59Z", "references": ["DG-00004"]},
        {"path": "data.*.price", "do": "text"},
        {"path": "pagination.totalPages", "do": "set", "value": 3000},
    ]
    rule = {"kind": "edit", "match": {"path": "list", "key": "odd"}, "edits": edits}
    requests.post(f"{fleet.sandbox.admin_url}/faults", json=rule, timeout=60).raise_for_status()
    yield
    requests.delete(f"{fleet.sandbox.admin_url}/faults", timeout=60).raise_for_status()


def test_an_odd_list_stops_nothing_and_changes_nothing(fleet: Fleet, request: pytest.FixtureRequest) -> None:
    rows = cars(CARS, seed=1)
    assert fleet.place.sync("odd", "--full")[0] == 0
    assert fleet.place.sync("odd", "--full")[0] == 0
    before = {reference: row["body"] for reference, row in stored(fleet.sandbox, "odd").items()}
    request.getfixturevalue("odd")
    for mode in ((), ("--full",)):
        status, document = fleet.place.sync("odd", *mode)
        assert (status, document["state"], document["error"]) == (0, "done", None), document
        assert (document["requests"]["bulk"], document["requests"]["list"]) == (0, 1)
    assert document["listings"]["warnings"] == 2
    assert any("powerKw" in note for note in document["notes"])
    rows[4]["price_eur"] = "4321"
    write_csv(feed(fleet.place, "odd"), rows)
    assert fleet.place.sync("odd")[1]["listings"]["updated"] == 1
    after = {reference: row["body"] for reference, row in stored(fleet.sandbox, "odd").items()}
    assert {reference for reference in before if before[reference] != after[reference]} == {rows[4]["stock_no"]}
    reasons = [event["reason"] for event in fleet.place.okasie("why", "odd", CAR, "--json").document["events"]]
    assert "unknown status reserved" in reasons
