"""A held plan in the hands of a person: told by status, released or dropped by name, refused once the world moved on."""

from __future__ import annotations

from typing import Any

import pytest

from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import state, stored
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system


def hold_sells(fleet: Fleet, name: str, *, gone: int) -> dict[str, Any]:
    """In step first; then this many cars are gone from the feed. Returns the held run's document."""
    assert fleet.place.sync(name, "--full")[0] == 0
    write_csv(feed(fleet.place, name), cars(CARS, seed=1)[gone:])
    status, document = fleet.place.sync(name)
    assert (status, document["state"], document["held_run"]) == (3, "held", document["run"]), document
    return document


def test_approve_sends_just_the_plan_and_waits_for_the_end(fleet: Fleet) -> None:
    held = hold_sells(fleet, "approved", gone=6)
    shown = fleet.place.okasie("status", "approved")
    assert shown.status == 0
    assert f"okasie approve {held['run']}" in shown.stdout
    (account,) = fleet.place.okasie("status", "approved", "--json").document["accounts"]
    assert (account["held_plan"]["run"], account["held_plan"]["count"]) == (held["run"], 6)
    status, again = fleet.place.sync("approved")
    assert (status, again["held_run"]) == (3, held["run"]), "the same plan under the same name"
    answer = fleet.place.okasie("approve", held["run"], "--json")
    assert (answer.status, answer.document["state"], answer.document["approved"]) == (0, "done", held["run"]), answer
    gone = {row["stock_no"] for row in cars(CARS, seed=1)[:6]}
    assert {ref for ref, row in stored(fleet.sandbox, "approved").items() if row["status"] == "sold"} == gone
    record = fleet.place.okasie("run", held["run"], "--json").document
    assert (record["state"], record["notes"]) == (
        "done", [f"approved by an operator, sent with run {answer.document['run']}"],
    )  # fmt: skip
    twice = fleet.place.okasie("approve", held["run"], "--json")
    assert (twice.status, twice.document["error"]["code"]) == (2, "configuration"), twice
    assert fleet.place.okasie("approve", "nobody").status == 2


def test_an_outdated_plan_is_refused_with_the_new_runs_id(fleet: Fleet) -> None:
    held = hold_sells(fleet, "outdated", gone=6)
    write_csv(feed(fleet.place, "outdated"), cars(CARS, seed=1)[7:])
    answer = fleet.place.okasie("approve", held["run"], "--json")
    error = answer.document["error"]
    assert (answer.status, error["code"], error["where"]) == (3, "outdated", held["run"]), answer
    assert state(fleet.sandbox, "outdated")["listings"]["sold"] == 0
    again = fleet.place.okasie("approve", held["run"], "--json")
    assert (again.status, again.document["error"]["run"]) == (3, error["run"]), "without another run"
    answer = fleet.place.okasie("approve", error["run"])
    assert (answer.status, state(fleet.sandbox, "outdated")["listings"]["sold"]) == (0, 7), answer


def test_an_outdated_plan_of_updates_sends_nothing_and_is_dropped(fleet: Fleet) -> None:
    name, rows = "outdated_updates", cars(220, seed=3)

    def write(price: str, *, gone: int = 0) -> None:
        changed = [{**row, "price_eur": price} for row in rows[gone:200]]
        write_csv(feed(fleet.place, name), [*changed, *rows[200:]])

    write_csv(feed(fleet.place, name), rows)
    assert fleet.place.sync(name, "--full")[0] == 0
    write("17001")
    status, held = fleet.place.sync(name)
    assert (status, held["listings"]["held"]) == (3, 200), held
    shown = fleet.place.okasie("run", held["run"], "--json").document
    assert len(shown["items"]) == 200
    assert all(one["changes"].keys() == {"price"} for one in shown["items"]), shown["items"][0]
    assert all(one["changes"]["price"]["new"] == 17001 for one in shown["items"])
    old = {row["stock_no"]: float(row["price_eur"]) for row in rows}
    assert {one["reference"]: one["changes"]["price"]["old"] for one in shown["items"]} == dict(list(old.items())[:200])
    plan = fleet.place.okasie("plan", name, "--json")
    assert (plan.status, plan.document["items"]) == (3, shown["items"])
    assert "price: " in fleet.place.okasie("plan", name).stdout
    assert " -> 17001" in fleet.place.okasie("run", held["run"]).stdout
    write("17002", gone=2)
    before = len(fleet.sandbox.api.writes[name])
    answer = fleet.place.okasie("approve", held["run"], "--json")
    error = answer.document["error"]
    assert (answer.status, error["code"]) == (3, "outdated"), answer
    assert "nothing was sent" in error["message"]
    assert list(fleet.sandbox.api.writes[name])[before:] == []
    assert state(fleet.sandbox, name)["listings"]["sold"] == 0
    record = fleet.place.okasie("run", held["run"], "--json").document
    assert (record["state"], record["replaced_by"]) == ("dropped", error["run"]), record
    runs = fleet.place.okasie("runs", name, "--json").document["runs"]
    assert [run["replaced_by"] for run in runs if run["run"] == held["run"]] == [error["run"]]
    assert f"replaced by {error['run']}" in fleet.place.okasie("runs", name).stdout
    again = fleet.place.okasie("approve", held["run"], "--json")
    assert (again.status, again.document["error"]["run"]) == (3, error["run"])
    answer = fleet.place.okasie("approve", error["run"], "--json")
    assert (answer.status, answer.document["listings"]["updated"], answer.document["listings"]["sold"]) == (0, 198, 2)


def test_reject_drops_the_plan_and_later_runs_plan_anew(fleet: Fleet) -> None:
    held = hold_sells(fleet, "dropped", gone=6)
    answer = fleet.place.okasie("reject", held["run"], "--json")
    assert (answer.status, answer.document["state"]) == (0, "dropped"), answer
    (account,) = fleet.place.okasie("status", "dropped", "--json").document["accounts"]
    assert (account["held_plan"], account["held"]) == (None, [])
    assert fleet.place.okasie("approve", held["run"]).status == 2
    write_csv(feed(fleet.place, "dropped"), cars(CARS, seed=1))
    assert fleet.place.sync("dropped")[0] == 0
    assert state(fleet.sandbox, "dropped")["listings"]["sold"] == 0
