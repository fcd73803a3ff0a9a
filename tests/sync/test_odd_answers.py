"""Rows and answers with unknown words, impossible times and wrong counts: an odd row costs itself, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.runs import run_document
from okasie_tasks.store.records import Run
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

CAR, OTHER = "DG-00003", "DG-00004"


class OddScenario(GuardedScenario):
    def fault(self, path: str, *edits: dict[str, Any], **more: Any) -> None:
        self._post("faults", {"kind": "edit", "match": {"path": path}, "edits": list(edits), **more})

    def set(self, place: str, value: Any, *references: str, path: str = "list") -> None:
        """A value of the list's answers, or of the rows of some listings in it."""
        only = {"references": list(references)} if references else {}
        self.fault(path, {"path": place, "do": "set", "value": value, **only})

    def heal(self) -> None:
        requests.delete(f"{self.sandbox.admin_url}/faults", timeout=60).raise_for_status()

    def played(self, mode: str = "full") -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Play a run; its document, and what it wrote."""
        before = len(self.writes)
        run: Run = self.run(mode)
        return run_document(self.ctx.runs, run), [(w.reference, w.outcome) for w in self.writes[before:]]

    def quiet(self, mode: str = "full") -> dict[str, Any]:
        """Play a run that must succeed and write nothing."""
        document, written = self.played(mode)
        assert (document["state"], document["error"], written) == ("done", None, []), document
        return document

    def row(self, reference: str) -> dict[str, str]:
        return next(row for row in self.rows if row["stock_no"] == reference)

    def status_of(self, reference: str) -> str:
        return self.ctx.ledger.get([reference])[reference].status

    def warned(self, reference: str) -> list[str]:
        events = why_document(self.ctx, reference)["events"]
        return [event["reason"] for event in events if event["kind"] == "warning"]


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[OddScenario]:
    with OddScenario(tmp_path, redis_url, rows=varied(30, seed=1)) as found:
        found.good_run()
        found.good_run()
        yield found


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_row_of_unknown_status_costs_only_itself(scenario: OddScenario, mode: str) -> None:
    scenario.edit({"reference": CAR, "set": {}})
    scenario.set("data.*.status", "reserved", CAR)
    scenario.row(OTHER)["price_eur"] = "4321"
    for changed in ([(OTHER, "updated")], []):
        document, written = scenario.played(mode)
        assert (document["state"], written) == ("done", changed), document
    assert scenario.warned(CAR) == ["unknown status reserved"], "recorded once"
    assert scenario.status_of(CAR) == "active"
    assert scenario.quiet("full")["listings"]["warnings"] == 1
    scenario.heal()
    assert scenario.quiet("full")["listings"]["warnings"] == 0


def test_an_unknown_status_of_a_listing_that_the_ledger_does_not_have(scenario: OddScenario) -> None:
    scenario.lose_redis()
    scenario.set("data.*.status", "reserved", CAR)
    document, written = scenario.played()
    assert (document["state"], written, document["listings"]["warnings"]) == ("done", [], 1), document
    scenario.heal()
    scenario.quiet()
    assert scenario.status_of(CAR) == "active", "adopted once its status is known"


@pytest.mark.parametrize("word", ["published", "archived"])
def test_a_write_is_answered_with_an_unknown_status(scenario: OddScenario, word: str) -> None:
    scenario.set("data.results.*.status", word, path="bulk")
    scenario.row(CAR)["price_eur"] = "4321"
    document, written = scenario.played()
    assert (document["state"], written, document["listings"]["warnings"]) == ("done", [(CAR, "updated")], 1), document
    assert scenario.status_of(CAR) == "", "neither live nor sold"
    event = why_document(scenario.ctx, CAR)["events"][0]
    assert event["warnings"] == [f"answered with status {word}"], event
    scenario.heal()
    scenario.quiet()
    assert scenario.status_of(CAR) == "active"


@pytest.mark.parametrize("word", ["archived", "active"])
def test_a_sell_is_answered_with_another_status(scenario: OddScenario, word: str) -> None:
    scenario.set("data.status", word, path="delete")
    scenario.rows.remove(scenario.row(CAR))
    document, _ = scenario.played("incremental")
    assert (document["state"], document["listings"]["sold"], document["listings"]["warnings"]) == ("done", 0, 1)
    assert scenario.status_of(CAR) == "active", "not known to be sold"
    assert scenario.warned(CAR) == [f"DELETE left it {word}"]
    scenario.heal()
    scenario.quiet()
    assert scenario.status_of(CAR) == "sold"


def test_a_push_is_answered_with_an_unknown_status(scenario: OddScenario) -> None:
    scenario.set("data.status", "published", path="put")
    scenario.push(scenario.row(CAR), price=4321)
    assert scenario.status_of(CAR) == ""
    scenario.heal()
    scenario.quiet()
    assert scenario.status_of(CAR) == "active"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_no_car_was_changed_at(scenario: OddScenario, moment: str) -> None:
    before = scenario.ctx.ledger.get([CAR])[CAR]
    scenario.set("data.*.updatedAt", moment, CAR)
    scenario.edit({"reference": OTHER, "set": {"price": 1}})
    document, written = scenario.played()
    assert (document["state"], written, document["listings"]["warnings"]) == ("done", [(OTHER, "updated")], 1), document
    assert scenario.ctx.ledger.get([CAR])[CAR] == before
    assert scenario.warned(CAR) == ["impossible updatedAt"]


@pytest.mark.parametrize(
    "date",
    ["Fri, 31 Dec 9999 23:59:59 -1200", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +1200",
     "Tue, 19 Jan 2038 03:14:07 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_the_cursor_does_not_follow_a_mad_clock(scenario: OddScenario, date: str, mode: str) -> None:
    before = scenario.ctx.runs.account("dex").cursor
    later = {"path": "data.*.updatedAt", "do": "set", "value": "2090-01-01T00:00:00Z", "references": [CAR]}
    scenario.fault("list", later, headers={"Date": date})
    scenario.quiet(mode)
    assert before[:10] == scenario.ctx.runs.account("dex").cursor[:10]
    scenario.heal()
    scenario.edit({"reference": OTHER, "set": {"price": 1}})
    assert scenario.played("incremental")[1] == [(OTHER, "updated")], "no change is skipped"


def test_numbers_as_texts_are_numbers(scenario: OddScenario) -> None:
    places = ("data.*.price", "data.*.mileage", "data.*.powerKw", "data.*.year", "data.*.location.latitude",
              "pagination.totalItems", "pagination.totalPages", "pagination.page")  # fmt: skip
    scenario.fault("list", *({"path": place, "do": "text"} for place in places))
    assert scenario.quiet()["listings"]["unchanged"] == 30
    scenario.edit({"reference": CAR, "set": {"price": 1}})
    assert scenario.played()[1] == [(CAR, "updated")], "they are compared"


@pytest.mark.parametrize("value", ["12 000", "1e4", "0x10", True, [], {}, "twelve", 1e300, "9" * 400])
def test_a_value_that_cannot_be_read_is_unknown(scenario: OddScenario, value: Any) -> None:
    scenario.fault("list", *({"path": f"data.*.{name}", "do": "set", "value": value} for name in ("mileage", "seats")))
    if value == 1e300:  # a number, and not ours
        assert len(scenario.played()[1]) == 30
    else:
        scenario.quiet()


def test_pages_that_do_not_exist_are_not_requested(scenario: OddScenario) -> None:
    scenario.fault("list", {"path": "pagination.totalPages", "do": "set", "value": 3000})
    assert scenario.quiet()["requests"]["list"] == 1


def test_an_empty_page_ends_the_walk_and_proves_nothing(scenario: OddScenario) -> None:
    scenario.quirks(page_rows=10)
    scenario.fault("list", {"path": "pagination.totalPages", "do": "set", "value": 3000},
                   {"path": "pagination.totalItems", "do": "set", "value": 60000})  # fmt: skip
    document = scenario.quiet()
    assert document["requests"]["list"] <= 3 * (4 + 5), "each round ends at the empty page or in its window"
    assert any("list changed" in note for note in document["notes"])


@pytest.mark.parametrize(("items", "pages"), [(10, 1), (20, 2), (29, 3), (1, 1)])
def test_what_stands_behind_the_announced_end_is_not_missing(scenario: OddScenario, items: int, pages: int) -> None:
    scenario.quirks(page_rows=10)
    scenario.fault("list", {"path": "pagination.totalPages", "do": "set", "value": pages},
                   {"path": "pagination.totalItems", "do": "set", "value": items})  # fmt: skip
    assert scenario.quiet()["listings"]["unchanged"] == 30
    gone = scenario.rows.pop()["stock_no"]
    assert scenario.played()[1] == [(gone, "sold")]


def test_a_page_past_the_end_costs_a_request_only_when_a_listing_is_missing(scenario: OddScenario) -> None:
    assert scenario.quiet()["requests"]["list"] == 1
    total = {"path": "pagination.totalItems", "do": "set", "value": 29}
    scenario.fault("list", {"path": "data.4", "do": "remove"}, total)
    document, written = scenario.played()
    assert (document["requests"]["list"], [outcome for _, outcome in written]) == (2, ["updated"])


def test_references_in_another_case_or_with_spaces(scenario: OddScenario) -> None:
    scenario.set("data.*.externalReference", f" {CAR.lower()} ", CAR)
    assert scenario.quiet()["listings"]["warnings"] == 1
    assert scenario.warned(CAR) == [f"its reference is returned as ' {CAR.lower()} '"]
    scenario.edit({"reference": CAR, "set": {"price": 1}})
    assert scenario.played()[1] == [(CAR, "updated")], "it is compared"
    scenario.rows.remove(scenario.row(CAR))
    assert scenario.played()[1] == [(CAR, "sold")]


def test_all_references_in_another_case(scenario: OddScenario) -> None:
    path, names = "data.*.externalReference", [row["stock_no"] for row in scenario.rows]
    scenario.fault(
        "list", *({"path": path, "do": "set", "value": name.lower(), "references": [name]} for name in names)
    )
    document = scenario.quiet()
    assert (document["listings"]["warnings"], document["listings"]["foreign"]) == (30, 0)
    scenario.lose_redis()
    document, written = scenario.played()
    assert {outcome for _, outcome in written} <= {"updated"}, "none is made twice"
    assert document["state"] == "done", "none counts as pre-existing"


def test_a_reference_that_two_rows_may_mean_is_nobodys(scenario: OddScenario) -> None:
    path = "data.*.externalReference"
    scenario.fault("list", {"path": path, "do": "set", "value": CAR.lower(), "references": [CAR]},
                   {"path": path, "do": "set", "value": f"{CAR} ", "references": [OTHER]})  # fmt: skip
    document, written = scenario.played()
    assert sorted(written) == [(CAR, "updated"), (OTHER, "updated")], "both count as missing"
    assert (document["listings"]["warnings"], document["listings"]["foreign"]) == (0, 2)


@pytest.mark.parametrize("field", ["id", "externalReference", "externalProvider"])
@pytest.mark.parametrize("do", ["remove", "set"])
def test_rows_without_their_names_are_not_missing(scenario: OddScenario, field: str, do: str) -> None:
    scenario.fault("list", {"path": f"data.*.{field}", "do": do, **({"value": None} if do == "set" else {})})
    scenario.quiet()
    scenario.heal()
    assert scenario.quiet()["listings"]["unchanged"] == 30
