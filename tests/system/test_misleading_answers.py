"""Answers that are not about the data, that are about one listing, or that have no body, with real workers."""

from __future__ import annotations

from typing import Any

import pytest

from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import faults, stored
from tests.system.conftest import CARS, Fleet, feed
from tests.system.test_hostile_input import good_run, live

pytestmark = pytest.mark.system

MANY = 120
"""Two bulk calls."""
FIREWALL_SECONDS = 12


def sent(fleet: Fleet, name: str, kind: str) -> list[int]:
    """The statuses of the requests of this kind, in order."""
    return [int(request["status"]) for request in list(fleet.sandbox.meters[name].requests) if request["kind"] == kind]


def rejects(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.place.okasie("rejects", name, "--json").document["rejects"]
    return found


def test_a_firewall_of_twelve_seconds_costs_few_requests_and_no_car(fleet: Fleet) -> None:
    write_csv(feed(fleet.place, "firewall"), cars(MANY, seed=1))
    page = {"status": 403, "content_type": "text/html", "body": "<h1>Blocked</h1>"}
    match = {"key": "firewall", "path": "bulk"}
    faults(fleet.sandbox, {"kind": "answer", "match": match, "for_seconds": FIREWALL_SECONDS, **page})
    status, document = fleet.place.sync("firewall", "--full")
    if document["state"] == "partial":
        assert "HTTP 403" in document["error"]["message"]
        document = good_run(fleet, "firewall", "--full")
    assert (document["state"], rejects(fleet, "firewall")) == ("done", []), (status, document)
    assert len(live(fleet.sandbox, "firewall")) == MANY
    assert sent(fleet, "firewall", "bulk").count(403) <= 12


def test_a_listing_that_makes_a_call_fail_is_rejected_and_the_others_go_out(fleet: Fleet) -> None:
    bad = "DG-00005"
    body = {"error": {"code": "IMAGES_FAILED", "message": "check image URLs"}}
    match = {"key": "culprit", "path": "bulk", "reference": bad}
    faults(fleet.sandbox, {"kind": "answer", "match": match, "status": 500, "body": body})
    status, document = fleet.place.sync("culprit", "--full")
    assert (status, document["state"], document["error"]) == (4, "done", None), document
    assert (document["listings"]["created"], document["new_rejects"]) == (CARS - 1, 1)
    (reject,) = rejects(fleet, "culprit")
    assert (reject["reference"], reject["code"], len(reject["request_id"])) == (bad, "IMAGES_FAILED", 32)
    assert "check image URLs" in reject["message"]
    assert "IMAGES_FAILED" in fleet.place.okasie("why", "culprit", bad).text
    count = len(sent(fleet, "culprit", "bulk"))
    assert count <= 20
    good_run(fleet, "culprit")
    assert len(sent(fleet, "culprit", "bulk")) == count, "it costs nothing from then on"


def test_successes_without_a_body_are_successes(fleet: Fleet) -> None:
    for path in ("delete", "put"):
        match = {"key": "bodiless", "path": path}
        faults(fleet.sandbox, {"kind": "answer_after", "match": match, "status": 204, "body": ""})
    good_run(fleet, "bodiless", "--full")
    rows = cars(CARS, seed=1)
    gone = rows.pop()["stock_no"]
    rows[0]["price_eur"] = "4321"
    write_csv(feed(fleet.place, "bodiless"), rows)
    pushed = fleet.place.okasie("push", "bodiless", rows[0]["stock_no"], "--json")
    assert [told["outcome"] for told in pushed.document["listings"]] == ["updated"]
    assert good_run(fleet, "bodiless")["listings"]["sold"] == 1
    assert stored(fleet.sandbox, "bodiless")[gone]["status"] == "sold"
    assert (sent(fleet, "bodiless", "put"), sent(fleet, "bodiless", "delete")) == ([204], [204])
