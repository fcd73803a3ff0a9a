"""The reason for everything, as a user asks for it: what somebody changed on the marketplace, what was refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from tests.support import Answer, faults, stored
from tests.system.conftest import Fleet
from tests.system.test_push import change, price

pytestmark = pytest.mark.system

CAR = "DG-00001"


def edit(fleet: Fleet, account: str, reference: str, **values: Any) -> None:
    """What somebody does in the marketplace's own back office."""
    body = {"key": account, "edits": [{"reference": reference, "set": values}]}
    requests.post(f"{fleet.sandbox.admin_url}/listings", json=body, timeout=60).raise_for_status()


def why(fleet: Fleet, account: str, reference: str = CAR) -> dict[str, Any]:
    answer = fleet.place.okasie("why", account, reference, "--json")
    assert answer.status == 0, answer.text
    return answer.document


def test_a_change_made_on_the_marketplace_is_told_with_both_versions(fleet: Fleet) -> None:
    _, created = fleet.place.sync("explained", "--full")
    fleet.place.sync("explained")  # reads back what it wrote
    ours = stored(fleet.sandbox, "explained")[CAR]["body"]["price"]
    edit(fleet, "explained", CAR, price=1)
    status, run = fleet.place.sync("explained")
    assert (status, run["listings"]["drifted"]) == (0, 1)
    found = why(fleet, "explained")
    assert [event["kind"] for event in found["events"]] == ["updated", "drift", "created"]
    assert [event["run"] for event in found["events"]] == [run["run"], run["run"], created["run"]]
    assert all(event["request_id"] for event in found["events"] if event["kind"] != "drift")
    told = {"field": "price", "ours": ours, "theirs": 1}
    assert found["events"][1]["changes"] == [told]
    assert (found["ledger"]["status"], found["ledger"]["owned"], found["reject"]) == ("active", True, None)
    (entry,) = fleet.place.okasie("status", "explained", "--json").document["accounts"]
    (conflict,) = entry["conflicts"]
    assert (conflict["reference"], conflict["run"], conflict["changes"]) == (CAR, run["run"], [told])
    line = f"drift {CAR}: changed on the marketplace, ours sent again (price: {ours} ours, 1 theirs)"
    assert line in fleet.place.okasie("status", "explained").stdout
    assert f"price: {ours} ours, 1 theirs" in (text := fleet.place.okasie("why", "explained", CAR).stdout)
    assert run["run"] in text
    assert "next      " in text
    advert = found["listing_url"]
    assert advert.startswith("https://www.okasie.invalid/")
    assert f"advert    {advert}\n" in text
    (pushed,) = fleet.place.okasie("push", "explained", CAR, "--json").document["listings"]
    assert (pushed["outcome"], pushed["listing_url"]) == ("updated", advert)


def test_what_was_refused_is_seen_with_its_reason_and_sent_again_when_asked_for(fleet: Fleet) -> None:
    fleet.place.sync("refused", "--full")
    faults(fleet.sandbox, {"kind": "400", "match": {"key": "refused", "path": "bulk"}, "times": 2})
    change(fleet.place, "refused", price(CAR, "4321"))
    assert fleet.place.sync("refused")[0] == 4
    reject = one_reject(fleet)
    assert (reject["reference"], reject["state"], reject["attempts"]) == (CAR, "refused", 1)
    assert re.fullmatch(r"[0-9a-f]{32}", reject["request_id"])
    assert why(fleet, "refused")["reject"] == reject
    assert CAR in fleet.place.okasie("rejects", "refused").stdout
    status, run = fleet.place.sync("refused")
    assert (status, run["requests"]["bulk"]) == (0, 0), "it is parked"
    again = retry(fleet, CAR, "DG-00002")
    assert (again.status, again.document["freed"], again.document["still_parked"]) == (4, [CAR], [CAR])
    assert again.document["not_parked"] == ["DG-00002"]
    assert (one_reject(fleet)["attempts"], one_reject(fleet)["first_seen"]) == (2, reject["first_seen"])
    done = retry(fleet)
    assert (done.status, done.document["freed"], done.document["still_parked"]) == (0, [CAR], [])
    assert done.document["listings"]["updated"] == 1
    assert stored(fleet.sandbox, "refused")[CAR]["body"]["price"] == 4321
    assert [event["kind"] for event in why(fleet, "refused")["events"]] == ["updated", "refused", "refused", "created"]
    assert fleet.place.okasie("rejects", "refused").stdout == "nothing is rejected\n"
    nothing = fleet.place.okasie("retry", "refused", CAR)
    assert (nothing.status, nothing.stdout) == (0, f"{CAR} is not rejected\nnothing to retry\n")


def retry(fleet: Fleet, *references: str) -> Answer:
    return fleet.place.okasie("retry", "refused", *references, "--json")


def one_reject(fleet: Fleet) -> dict[str, Any]:
    (found,) = fleet.place.okasie("rejects", "refused", "--json").document["rejects"]
    assert isinstance(found, dict)
    return found


def test_of_an_unknown_reference_nothing_is_known_and_an_unknown_account_is_refused(fleet: Fleet) -> None:
    found = why(fleet, "explained", "NOBODY")
    assert (found["ledger"], found["reject"], found["waiting"], found["events"]) == (None, None, None, [])
    assert "unknown reference" in fleet.place.okasie("why", "explained", "NOBODY").stdout
    for command in (("why", "nobody", CAR), ("rejects", "nobody"), ("retry", "nobody")):
        answer = fleet.place.okasie(*command)
        assert (answer.status, "no account 'nobody'" in answer.stderr) == (2, True), answer.text
    assert fleet.place.okasie("retry", "explained", "x" * 65).status == 2
