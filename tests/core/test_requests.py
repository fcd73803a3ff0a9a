"""The state of a request, from its record."""

from __future__ import annotations

import json

import pytest

from okasie_tasks.core.requests import Outcome, state_of

MADE = {"task": "okasie.push", "account": "dex", "by": "dms", "made": "1000"}
BOTH = {**MADE, "at": "1005", "expects": '["A", "B"]'}


def outcome(name: str, **rest: object) -> str:
    return json.dumps({"outcome": name, "at_ms": 1, **rest})


@pytest.mark.parametrize(
    ("record", "run_state", "state"),
    [
        (MADE, "", "waiting"),
        ({**MADE, "at": "1005"}, "", "waiting"),
        ({**BOTH, "=A": outcome("updated")}, "", "waiting"),
        ({**BOTH, "=A": outcome("updated"), "=B": outcome("waiting")}, "", "waiting"),
        ({**BOTH, "=A": outcome("updated"), "=B": outcome("rejected")}, "", "done"),
        ({**MADE, "at": "1005", "=A": outcome("updated")}, "", "waiting"),
        ({**MADE, "error": "the source cannot be read"}, "", "done"),
        ({**MADE, "withdrawn": "1"}, "", "done"),
        ({**MADE, "task": "okasie.sync", "run": "R"}, "queued", "waiting"),
        ({**MADE, "task": "okasie.sync", "run": "R"}, "running", "waiting"),
        ({**MADE, "task": "okasie.sync", "run": "R"}, "held", "done"),
        ({**MADE, "task": "okasie.sync", "run": "R"}, "", "done"),
    ],
)
def test_a_request_is_done_once_each_reference_has_a_final_outcome(
    record: dict[str, str], run_state: str, state: str
) -> None:
    assert state_of("id", record, run_state=run_state).state == state


def test_outcomes_have_their_reason() -> None:
    refused = outcome("rejected", message="price: expected a number", fields=["price"])
    cut = outcome("updated", warnings=["title: cut"])
    found = state_of("id", {**BOTH, "=A": refused, "=B": cut})
    assert (found.kind, found.account, found.by, found.accepted_ms) == ("push", "dex", "dms", 1000)
    assert found.outcomes == {
        "A": Outcome("rejected", "price: expected a number", ("price",)),
        "B": Outcome("updated", warnings=("title: cut",)),
    }


def test_a_request_of_another_producer_has_only_what_the_workers_recorded() -> None:
    found = state_of("id", {"at": "1005", "expects": '["A"]', "=A": outcome("sold")})
    assert (found.kind, found.account, found.by, found.accepted_ms, found.state) == ("", "", "", 1005, "done")


def test_a_request_that_was_not_executed_says_why() -> None:
    assert state_of("id", {**MADE, "error": "it expired"}).error == "it expired"
    assert "withdrawn" in (state_of("id", {**MADE, "withdrawn": "1"}).error or "")
