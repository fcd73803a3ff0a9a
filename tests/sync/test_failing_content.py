"""A marketplace that fails, refuses or answers oddly: what is about one listing costs that listing, the rest goes out.

Faults are those of ``/_sandbox/faults``, over real HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.core.records import Reject
from okasie_tasks.reports.listing import why_document
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

CARS = 100
"""One bulk call."""
HTML = {"content_type": "text/html", "body": "<h1>Blocked</h1>"}
IMAGES = {"body": {"error": {"code": "IMAGES_FAILED", "message": "check image URLs"}}}


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(CARS, seed=5)) as found:
        yield found


def answer(
    status: int, path: str = "bulk", *, reference: str = "", kind: str = "answer", **more: Any
) -> dict[str, Any]:
    match = {"path": path, **({"reference": reference} if reference else {})}
    return {"kind": kind, "status": status, "match": match, **more}


def calm(scenario: GuardedScenario) -> None:
    """End the faults, and the breaker's pause."""
    scenario.sandbox.faults.clear()
    for key in scenario.services.redis.scan_iter(f"{scenario.prefix}rl:*"):
        scenario.services.redis.delete(key)


def rejects(scenario: GuardedScenario) -> dict[str, Reject]:
    return {reject.reference: reject for reject in scenario.ctx.ledger.all_rejects()}


def check_all_sent(scenario: GuardedScenario, *, but: int = 0) -> None:
    """A run without faults leaves the feed and the marketplace equal, save for rejected listings."""
    calm(scenario)
    scenario.good_run()
    assert len(scenario.standing()) == CARS - but
    assert len(rejects(scenario)) == but


# -- refusals that are not about the data ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        answer(400, **HTML),
        answer(403, **HTML),
        answer(404, **HTML),
        answer(408, body=""),
        answer(409, body={"error": {"code": "CONFLICT"}}),
        answer(423, body={"error": {"code": "LOCKED"}}),
        answer(425, body={"error": {"code": "TOO_EARLY"}}),
        answer(403, body={"message": "Forbidden"}),
    ],
    ids=lambda fault: f"{fault['status']} {type(fault['body']).__name__}",
)
def test_a_refusal_that_may_pass_rejects_nothing(scenario: GuardedScenario, fault: dict[str, Any]) -> None:
    scenario.faults(fault)
    document = scenario.told("full")
    assert (document["state"], document["listings"]["rejected"]) == ("partial", 0), document
    assert f"HTTP {fault['status']}" in document["error"]["message"]
    assert scenario.requests().count("bulk") == 5, "three tries, and each half once"
    check_all_sent(scenario)


def test_a_403_of_a_profile_judges_its_items_and_a_missing_scope_the_run(scenario: GuardedScenario) -> None:
    bad = scenario.rows[3]["stock_no"]
    scenario.faults(answer(403, reference=bad, body={"error": {"code": "FORBIDDEN", "message": "no access"}}))
    assert scenario.told("full")["listings"]["created"] == CARS - 1
    assert {name: told.code for name, told in rejects(scenario).items()} == {bad: "FORBIDDEN"}
    scenario.rows[5]["price_eur"] = "1234"
    scenario.faults(answer(403, body={"error": {"code": "SCOPE_DENIED", "message": "no"}}))
    document = scenario.told()
    assert (document["state"], document["error"]["code"]) == ("failed", "scope")
    assert len(rejects(scenario)) == 1


def test_items_that_all_fail_alike_for_good_are_judged_without_halving(scenario: GuardedScenario) -> None:
    scenario.quirks(
        item_errors={row["stock_no"]: {"status": 422, "code": "VALIDATION_FAILED"} for row in scenario.rows}
    )
    assert scenario.told("full")["new_rejects"] == CARS
    assert scenario.requests().count("bulk") == 1


def test_a_call_that_is_too_large_is_halved(scenario: GuardedScenario) -> None:
    scenario.faults(answer(413, times=1, **HTML))
    assert scenario.told("full")["listings"]["created"] == CARS
    assert scenario.requests().count("bulk") == 3


@pytest.mark.parametrize("status", [403, 404, 409])
def test_a_refused_sell_that_is_not_about_the_car_is_sent_again(scenario: GuardedScenario, status: int) -> None:
    scenario.good_run()
    gone = scenario.remove(scenario.rows[:1])
    scenario.faults(answer(status, "delete", times=2, **HTML))
    assert scenario.told()["listings"]["sold"] == 1
    assert scenario.sold() == gone
    assert not rejects(scenario)


def test_a_proxys_404_never_settles_a_sell(scenario: GuardedScenario) -> None:
    scenario.good_run()
    gone = scenario.remove(scenario.rows[:1])
    scenario.faults(answer(404, "delete", **HTML))
    document = scenario.told()
    assert (document["state"], document["listings"]["sold"]) == ("partial", 0), document
    assert "HTTP 404" in document["error"]["message"]
    (name,) = gone
    events = why_document(scenario.ctx, name)["events"]
    assert any(event["kind"] == "failed" and "HTTP 404" in event["message"] for event in events), events
    calm(scenario)
    assert scenario.told()["listings"]["sold"] == 1
    assert scenario.sold() == gone


# -- failures that are about the data --------------------------------------------------------------------------------


FAILURES = {
    "IMAGES_FAILED": answer(500, **IMAGES),
    "FEATURES_FAILED": answer(500, body={"error": {"code": "FEATURES_FAILED"}}),
    "http_503": answer(503, **HTML),
}


@pytest.mark.parametrize(
    ("code", "places"),
    [("IMAGES_FAILED", [*places]) for places in ([0], [25], [50], [99], [0, 99], [17, 18], [3, 30, 60])]
    + [("FEATURES_FAILED", [41]), ("http_503", [41])],
)
def test_the_listing_that_makes_a_call_fail_is_rejected_and_the_others_go_out(
    scenario: GuardedScenario, code: str, places: list[int]
) -> None:
    fault = FAILURES[code]
    bad = {scenario.rows[place]["stock_no"] for place in places}
    scenario.faults(*({**fault, "match": {**fault["match"], "reference": name}} for name in bad))
    document = scenario.told("full")
    assert (document["state"], document["error"]) == ("done", None), document
    assert (document["listings"]["created"], document["new_rejects"]) == (CARS - len(bad), len(bad))
    assert scenario.requests().count("bulk") <= 5 + 20 * len(bad)
    assert set(rejects(scenario)) == bad
    for name, told in rejects(scenario).items():
        assert (told.code, bool(told.request_id)) == (code, True)
        assert "failed 3 times while other listings were accepted" in told.message
        assert any(event["code"] == code for event in why_document(scenario.ctx, name)["events"])
    sent = scenario.requests().count("bulk")
    scenario.good_run("incremental")
    assert scenario.requests().count("bulk") == sent, "it costs nothing from then on"


def test_a_marketplace_that_is_down_rejects_nothing(scenario: GuardedScenario) -> None:
    scenario.faults(answer(500, **IMAGES))
    document = scenario.told("full")
    assert (document["state"], document["listings"]["rejected"]) == ("partial", 0), document
    assert "IMAGES_FAILED" in document["error"]["message"]
    assert scenario.requests().count("bulk") == 5, "three tries, and each half once"
    check_all_sent(scenario)


def test_a_marketplace_that_fails_in_the_middle_of_a_search_rejects_nothing(scenario: GuardedScenario) -> None:
    bad = scenario.rows[60]["stock_no"]
    scenario.faults(answer(500, reference=bad, times=4, **IMAGES))
    scenario.faults({**answer(500, **IMAGES), "match": {"path": "bulk", "reference": scenario.rows[99]["stock_no"]}})
    document = scenario.told("full")
    assert document["listings"]["rejected"] == 1, "the one that still fails when the others do not"


def test_items_that_fail_inside_an_answer_are_rejected_with_their_text(scenario: GuardedScenario) -> None:
    bad = [row["stock_no"] for row in scenario.rows[10:13]]
    scenario.quirks(item_errors={name: {"status": 500, "code": "IMAGES_FAILED"} for name in bad})
    document = scenario.told("full")
    assert (document["state"], document["listings"]["created"], document["new_rejects"]) == ("done", CARS - 3, 3)
    assert scenario.requests().count("bulk") == 3
    assert {told.code for told in rejects(scenario).values()} == {"IMAGES_FAILED"}
    assert all(told.request_id for told in rejects(scenario).values())


def test_a_probe_that_fails_inside_an_answer_is_replaced_by_another(scenario: GuardedScenario) -> None:
    whole, inside = scenario.rows[41]["stock_no"], scenario.rows[CARS // 2]["stock_no"]
    scenario.faults(answer(500, reference=whole, **IMAGES))
    scenario.quirks(item_errors={inside: {"status": 500, "code": "UPSERT_FAILED"}})
    document = scenario.told("full")
    assert (document["state"], document["listings"]["created"]) == ("done", CARS - 2), document
    assert {name: told.code for name, told in rejects(scenario).items()} == {
        whole: "IMAGES_FAILED", inside: "UPSERT_FAILED",
    }  # fmt: skip


def test_a_probe_that_is_refused_is_replaced_by_another(scenario: GuardedScenario) -> None:
    whole, refused = scenario.rows[41]["stock_no"], scenario.rows[CARS // 2]["stock_no"]
    scenario.faults(answer(500, reference=whole, **IMAGES))
    scenario.quirks(item_errors={refused: {"status": 422, "code": "VALIDATION_FAILED"}})
    document = scenario.told("full")
    assert (document["state"], document["listings"]["created"]) == ("done", CARS - 2), document
    assert set(rejects(scenario)) == {whole, refused}


def test_a_listing_that_is_sent_again_as_a_probe_is_counted_once(scenario: GuardedScenario) -> None:
    bad = scenario.rows[41]["stock_no"]
    scenario.faults(answer(500, reference=bad, **IMAGES))
    document = scenario.told("full")
    assert document["new_rejects"] == 1
    again = [write.reference for write in scenario.writes if write.reference != bad]
    assert len(again) - len(set(again)) <= 7, "at most once for each halving"
    assert document["listings"]["created"] == CARS - 1


def test_items_that_all_fail_inside_the_answers_are_reported_and_not_rejected(scenario: GuardedScenario) -> None:
    scenario.quirks(item_errors={row["stock_no"]: {"status": 500, "code": "UPSERT_FAILED"} for row in scenario.rows})
    document = scenario.told("full")
    assert (document["state"], document["listings"]["rejected"]) == ("partial", 0), document
    assert "HTTP 500 UPSERT_FAILED" in document["error"]["message"]
    scenario.quirks()
    check_all_sent(scenario)


def test_a_single_listing_that_fails_while_nothing_else_is_sent_is_kept(scenario: GuardedScenario) -> None:
    scenario.good_run()
    bad = scenario.rows[0]
    bad["price_eur"] = "1234"
    scenario.faults(answer(500, reference=bad["stock_no"], body={"error": {"code": "UPSERT_FAILED"}}))
    document = scenario.told()
    assert (document["state"], document["listings"]["rejected"]) == ("partial", 0), "is it the listing or all of them?"
    assert "UPSERT_FAILED" in document["error"]["message"]
    scenario.rows[1]["price_eur"] = "4321"
    assert scenario.told()["new_rejects"] == 1, "another listing was accepted meanwhile"


def test_a_single_listing_whose_images_fail_is_rejected_and_sent_once_more(scenario: GuardedScenario) -> None:
    scenario.good_run()
    bad = scenario.rows[0]
    bad["price_eur"] = "1234"
    scenario.faults(answer(500, reference=bad["stock_no"], **IMAGES))
    for message, calls in (("the next run sends it again", 3), ("IMAGES_FAILED", 3), ("IMAGES_FAILED", 0)):
        before = len(scenario.requests())
        document = scenario.told()
        assert (document["state"], document["new_rejects"]) == ("done", int(calls > 0)), document
        (told,) = rejects(scenario).values()
        assert (told.code, message in told.message, "accepted" in told.message) == ("IMAGES_FAILED", True, False), told
        assert scenario.requests(before).count("bulk") == calls


def test_a_single_listing_whose_images_failed_for_a_while_goes_out(scenario: GuardedScenario) -> None:
    scenario.good_run()
    scenario.rows[0]["price_eur"] = "1234"
    scenario.faults(answer(500, times=3, **IMAGES))
    assert scenario.told()["new_rejects"] == 1
    assert scenario.told()["listings"]["updated"] == 1
    assert not rejects(scenario)


def test_a_sell_that_fails_for_ever_is_reported_and_rejects_nothing(scenario: GuardedScenario) -> None:
    scenario.good_run()
    gone = [row["stock_no"] for row in scenario.rows[:2]]
    scenario.remove(scenario.rows[:2])
    scenario.faults(answer(500, "delete", reference=gone[0], body={"error": {"code": "SERVER_ERROR"}}))
    document = scenario.told()
    assert (document["state"], document["listings"]["sold"], document["listings"]["rejected"]) == ("partial", 1, 0)
    assert "HTTP 500 SERVER_ERROR" in document["error"]["message"]
    assert scenario.sold() == {gone[1]}
    calm(scenario)
    assert scenario.told()["listings"]["sold"] == 1


# -- answers without a body, and with odd items ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_car_that_returns_after_a_sell_in_doubt_is_listed_again(scenario: GuardedScenario, mode: str) -> None:
    scenario.good_run()
    (row,) = scenario.rows[3:4]
    scenario.remove([row])
    scenario.faults(answer(507, "delete", kind="answer_after", body=""))
    assert scenario.told("incremental")["state"] == "partial"
    assert scenario.sold() == {row["stock_no"]}, "done, although it was never confirmed"
    calm(scenario)
    scenario.rows.append(row)
    document = scenario.good_run(mode)
    assert (document["listings"]["updated"], document["listings"]["conflicts"]) == (1, 0), document
    assert scenario.sold() == set()


def test_a_sell_that_was_not_done_leaves_no_doubt(scenario: GuardedScenario) -> None:
    scenario.good_run()
    (row,) = scenario.rows[3:4]
    scenario.remove([row])
    scenario.faults(answer(507, "delete", body=""))
    assert scenario.told("incremental")["state"] == "partial"
    calm(scenario)
    scenario.rows.append(row)
    scenario.good_run()
    scenario.edit({"reference": row["stock_no"], "status": "sold"})
    document = scenario.good_run()
    assert (document["listings"]["updated"], document["listings"]["conflicts"]) == (0, 1), "sold by someone there"
    assert scenario.sold() == {row["stock_no"]}


@pytest.mark.parametrize("status", [200, 204])
def test_a_sell_that_is_answered_without_a_body_is_done(scenario: GuardedScenario, status: int) -> None:
    scenario.good_run()
    gone = scenario.remove(scenario.rows[:1])
    scenario.faults(answer(status, "delete", kind="answer_after", body=""))
    assert scenario.told()["listings"]["sold"] == 1
    assert scenario.sold() == gone
    assert scenario.requests().count("delete") == 1


def test_a_bulk_answer_without_a_body_settles_nothing_and_is_bounded(scenario: GuardedScenario) -> None:
    scenario.faults(answer(204, kind="answer_after", body="", times=3))
    document = scenario.told("full")
    assert (document["state"], scenario.requests().count("bulk")) == ("partial", 3), document
    assert "got nothing" in document["error"]["message"]
    check_all_sent(scenario)


@pytest.mark.parametrize(
    ("edits", "calls"),
    [
        ([{"path": "data.results.7", "do": "remove"}], 2),
        ([{"path": "data.results.7", "do": "repeat"}], 1),
        ([{"path": "data.results", "do": "repeat"}], 1),
        ([{"path": "data.results.7.externalReference", "do": "set", "value": "FOREIGN"}], 2),
        ([{"path": "data.results.7.index", "do": "set", "value": 5000}], 2),
        ([{"path": "data.results.*.listingId", "do": "remove"}], 1),
    ],
)
def test_items_that_an_answer_lacks_doubles_or_invents(
    scenario: GuardedScenario, edits: list[dict[str, Any]], calls: int
) -> None:
    scenario.faults({"kind": "edit", "match": {"path": "bulk"}, "times": 1, "edits": edits})
    scenario.good_run()
    assert scenario.requests().count("bulk") == calls
    sent = [write.reference for write in scenario.writes]
    assert len(sent) == CARS + (calls - 1), "only what is unknown is sent again"
    assert scenario.standing() == scenario.wanted()


def test_items_that_no_answer_names_are_reported_after_three_tries(scenario: GuardedScenario) -> None:
    edit = {"path": "data.results.*.index", "do": "remove", "references": [scenario.rows[7]["stock_no"]]}
    scenario.faults({"kind": "edit", "match": {"path": "bulk"}, "edits": [edit]})
    document = scenario.told("full")
    assert (document["state"], document["listings"]["created"]) == ("partial", CARS - 1), document
    assert scenario.requests().count("bulk") == 3
    assert "does not name it" in document["error"]["message"]
    assert scenario.rows[7]["stock_no"] in document["error"]["where"]
    assert scenario.ctx.runs.account(ACCOUNT).cursor == ""
    check_all_sent(scenario)
