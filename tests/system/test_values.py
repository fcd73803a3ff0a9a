"""Values that cannot be sent and prices that jump, with real workers: what the commands show, and what is sent."""

from __future__ import annotations

import pytest

from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import stored
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system


def test_an_invalid_value_costs_its_field_and_is_shown(fleet: Fleet) -> None:
    rows = cars(CARS, seed=1)
    rows[0] |= {"doors": "4/5", "photos": "geen foto"}
    rows[1]["price_eur"] = "0"
    write_csv(feed(fleet.place, "warned"), rows)
    status, document = fleet.place.sync("warned", "--full")
    counts = document["listings"]
    assert (status, counts["created"], counts["rejected"], counts["warnings"]) == (4, CARS - 1, 1, 2), document
    reference = rows[0]["stock_no"]
    shown = fleet.place.okasie("why", "warned", reference).stdout
    assert "2 warnings" in shown, shown
    assert "doors: left out: column doors: expected a number, got '4/5'" in shown, shown
    rejects = fleet.place.okasie("rejects", "warned").stdout
    assert "expected more than 0 when status is active, got 0" in rejects, rejects
    rows[0]["doors"] = "99"
    write_csv(feed(fleet.place, "warned"), rows)
    answer = fleet.place.okasie("push", "warned", reference, "--json")
    (pushed,) = answer.document["listings"]
    assert (answer.status, pushed["outcome"], len(pushed["warnings"])) == (0, "updated", 2), pushed
    assert "doors: left out: expected at least 1 and at most 10, got 99" in pushed["warnings"]
    assert "doors" not in stored(fleet.sandbox, "warned")[reference]["body"]


def test_a_price_that_jumps_waits_and_an_approval_sends_it(fleet: Fleet) -> None:
    rows = cars(CARS, seed=1)
    rows[0]["price_eur"], rows[1]["price_eur"] = "17000", "9000"
    write_csv(feed(fleet.place, "priced"), rows)
    assert fleet.place.sync("priced", "--full")[0] == 0
    rows[0]["price_eur"], rows[1]["price_eur"] = "17", "8900"
    write_csv(feed(fleet.place, "priced"), rows)
    status, held = fleet.place.sync("priced")
    assert (status, held["listings"]["held"], held["listings"]["updated"]) == (3, 1, 1), held
    reason = (
        f"1 price moves by more than max_price_change_percent = 50: {rows[0]['stock_no']} from 17000 to 17 (-99.9 %)"
    )
    assert [hold["reason"] for hold in held["held"]] == [reason]
    assert reason in " ".join(fleet.place.okasie("status", "priced").stdout.split())
    assert stored(fleet.sandbox, "priced")[rows[0]["stock_no"]]["body"]["price"] == 17000
    answer = fleet.place.okasie("approve", held["run"], "--json", seconds=400)
    assert (answer.status, answer.document["listings"]["updated"]) == (0, 1), answer.document
    assert stored(fleet.sandbox, "priced")[rows[0]["stock_no"]]["body"]["price"] == 17
