"""The documents that CLI, API and console share, of a real run against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from okasie_tasks.core.held_change import HeldChange
from okasie_tasks.errors import NoPermit
from okasie_tasks.reports import fleet, runs, times
from okasie_tasks.reports.attention import KINDS, attention_document
from okasie_tasks.reports.held import held_plan_document, kind_of
from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.preview import preview_document
from okasie_tasks.reports.rejects import rejects_page
from okasie_tasks.sync import phases
from okasie_tasks.sync.context import Part
from okasie_tasks.sync.executor import perform
from okasie_tasks.sync.plan_review import drop
from okasie_tasks.urgent.preview import read_both_sides
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, SECRET, varied

CARS = 40


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    rows = varied(CARS, seed=1)
    for number, row in enumerate(rows):
        row["branch"] = "DEMO-GENT" if number % 2 else "DEMO-AALST"
    guard, more = "free_changed_count = 5\nfree_sold_count = 2", '[alerts]\nstale_after = "1h"\n'
    with GuardedScenario(tmp_path, redis_url, rows=rows, guard=guard, more=more) as found:
        found.good_run()
        yield found


def attention(scenario: GuardedScenario) -> list[dict[str, Any]]:
    return attention_document(scenario.services, [ACCOUNT])


# -- a held plan ---------------------------------------------------------------------------------------------------


def test_a_held_plan_shows_old_and_new_values_pictures_and_totals_by_dealer(scenario: GuardedScenario) -> None:
    assert held_plan_document(scenario.ctx) is None
    old = {row["stock_no"]: float(row["price_eur"]) for row in scenario.rows}
    for row in scenario.rows[:30]:
        row["price_eur"] = "4321"
    run = scenario.ask()
    plan = held_plan_document(scenario.ctx)
    assert plan is not None
    assert (plan["run"], plan["count"], plan["items_left_out"], plan["account"]) == (run.id, 30, 0, ACCOUNT)
    assert plan["created_at"] < plan["expires_at"]
    assert {hold["guard"] for hold in plan["holds"]} == {"changed"}
    sources = scenario.wanted()
    for item in plan["items"]:
        reference = item["reference"]
        assert item["changes"]["price"] == {"old": old[reference], "new": 4321}
        assert (item["action"], item["kind"], item["title"]) == ("update", "price", sources[reference]["title"])
        assert item["image"] == sources[reference]["images"][0]
        assert item["dealer_name"] in ("DEMO-GENT", "DEMO-AALST")
        assert item["listing_url"]
    by_dealer = {group["dealer_name"]: group for group in plan["groups"]}
    assert set(by_dealer) == {"DEMO-GENT", "DEMO-AALST"}
    ghent = [row["stock_no"] for row in scenario.rows[:30] if row["branch"] == "DEMO-GENT"]
    assert by_dealer["DEMO-GENT"]["count"] == len(ghent)
    assert by_dealer["DEMO-GENT"]["price_old"] == pytest.approx(sum(old[name] for name in ghent))
    assert by_dealer["DEMO-GENT"]["price_new"] == 4321 * len(ghent)
    assert (plan["forecast"]["upserts"], plan["forecast"]["sells"], plan["forecast"]["requests"]) == (30, 0, 2)
    assert [(one["kind"], one["count"], one["run"]) for one in attention(scenario)] == [("held", 30, run.id)]
    drop(scenario.ctx, run.id)
    assert (held_plan_document(scenario.ctx), attention(scenario)) == (None, [])


def test_held_sells_have_titles_although_their_rows_are_gone(scenario: GuardedScenario) -> None:
    known = {reference: body["title"] for reference, body in scenario.wanted().items()}
    gone = [scenario.rows.pop()["stock_no"] for _ in range(12)]
    assert scenario.ask("full").state == "held"
    plan = held_plan_document(scenario.ctx)
    assert plan is not None
    assert {item["reference"]: item["title"] for item in plan["items"]} == {name: known[name] for name in gone}
    assert {item["kind"] for item in plan["items"]} == {"gone"}
    assert plan["forecast"]["sells"] == 12
    why = why_document(scenario.ctx, gone[0])
    assert (why["state"], why["title"], why["held_run"]) == ("held", known[gone[0]], plan["run"])


def test_the_old_title_of_a_held_change_is_known_also_when_the_plan_is_made_again(scenario: GuardedScenario) -> None:
    before = {reference: body["title"] for reference, body in scenario.wanted().items()}
    for row in scenario.rows[:30]:
        row["make"] = "Zastava"
        row["colour"] = "purple"
    first = scenario.ask()

    def titles() -> dict[str, dict[str, Any]]:
        plan = held_plan_document(scenario.ctx)
        assert plan is not None
        return {item["reference"]: item["changes"] for item in plan["items"]}

    shown = titles()
    assert {name: changes["title"]["old"] for name, changes in shown.items()} == {name: before[name] for name in shown}
    assert all(changes["title"]["new"].startswith("Zastava") for changes in shown.values())
    colours = [changes["color"] for changes in shown.values() if "color" in changes]
    assert colours
    assert all(colour.get("old_known") is False for colour in colours if colour["old"] is None)
    pushed = scenario.rows[0]["stock_no"]
    scenario.push_reference(pushed)
    for row in scenario.rows[30:32]:
        row["make"] = "Zastava"
    scenario.rows[0]["make"] = "Trabant"
    assert scenario.ask().id != first.id
    again = titles()
    assert len(again) == 32
    assert {name: again[name]["title"]["old"] for name in again if name != pushed} == {
        name: before[name] for name in again if name != pushed
    }
    assert again[pushed]["title"]["old"].startswith("Zastava")
    scenario.push_reference(pushed)
    scenario.services.redis.delete(f"{scenario.prefix}catalog:{ACCOUNT}")
    scenario.rows[0]["make"] = "Wartburg"
    scenario.ask()
    third = titles()
    assert {name: third[name]["title"]["old"] for name in third if name != pushed} == {
        name: again[name]["title"]["old"] for name in again if name != pushed
    }
    assert third[pushed]["title"]["old_known"] is False, "the plan's old title is no longer what was sent"


@pytest.mark.parametrize(
    ("action", "fields", "kind"),
    [
        ("create", ["price"], "new"), ("sell", ["status"], "gone"), ("take-over", ["status"], "gone"),
        ("update", ["color", "price", "status"], "price"), ("update", ["status", "color"], "status"),
        ("update", ["color"], "fields"), ("invalid", [], "fields"),
    ],
)  # fmt: skip
def test_the_kind_of_a_change(action: str, fields: list[str], kind: str) -> None:
    assert kind_of(HeldChange("A", action, "r", "", tuple((field, 1, 2) for field in fields))) == kind


# -- what waits for a person ---------------------------------------------------------------------------------------


def test_what_needs_a_person_comes_in_the_order_of_urgency(scenario: GuardedScenario) -> None:
    scenario.rows[0]["price_eur"] = "no price"
    for row in scenario.rows[1:33]:
        row["price_eur"] = "4321"
    scenario.ask()
    scenario.services.runs.controls.pause(ACCOUNT)
    scenario.services.discarded.add("expired", task="okasie.push", task_id="x", account=ACCOUNT, reason="too late")
    found = attention(scenario)
    assert [one["kind"] for one in found] == ["held", "paused", "rejected", "discarded"]
    assert [one["account"] for one in found] == [ACCOUNT, ACCOUNT, ACCOUNT, None]
    both = attention_document(scenario.services, [ACCOUNT, ACCOUNT])
    assert [one["kind"] for one in both] == sorted((one["kind"] for one in both), key=KINDS.index)
    assert all(one["since"] for one in found if one["kind"] != "rejected")


def test_a_refused_key_is_the_most_urgent_and_a_success_ends_it(scenario: GuardedScenario) -> None:
    scenario.faults({"kind": "401", "match": {"path": "list"}, "times": 9})
    scenario.rows[0]["price_eur"] = "no price"
    run = scenario.ask()
    assert run.state == "failed"
    first = attention(scenario)[0]
    assert (first["kind"], first["run"]) == ("key_refused", run.id)
    assert "401" in first["text"]
    scenario.sandbox.faults.clear()
    scenario.ask()
    assert [one["kind"] for one in attention(scenario)] == ["rejected"]


def test_an_account_without_a_success_for_long_is_stale(scenario: GuardedScenario) -> None:
    key = scenario.services.runs.account_key(ACCOUNT, "metrics")
    long_ago = scenario.services.runs.now_ms() - 30 * 3600 * 1000
    for field in scenario.services.redis.hkeys(key):
        if field.startswith(b"success_ms"):
            scenario.services.redis.hset(key, field, long_ago)
    (stale,) = attention(scenario)
    assert (stale["kind"], stale["text"]) == ("stale", "no run has succeeded for 30 h")


def test_an_account_whose_runs_all_failed_is_stale_since_the_first(tmp_path: Path, redis_url: str) -> None:
    more = '[alerts]\nstale_after = "1h"\n'
    with GuardedScenario(tmp_path, redis_url, rows=varied(2, seed=1), more=more) as scenario:
        assert attention(scenario) == []
        scenario.faults({"kind": "401", "match": {"path": "list"}, "times": 9})
        first, last = scenario.ask(), scenario.ask()
        assert [(one["kind"], one["run"]) for one in attention(scenario)] == [("key_refused", last.id)]
        scenario.services.runs.note(first.id, created_ms=first.created_ms - 2 * 3600 * 1000)
        assert [one["kind"] for one in attention(scenario)] == ["key_refused", "stale"]
        assert attention(scenario)[1]["text"] == "no run has succeeded for 2 h; none ever did"


def test_of_the_runs_that_held_changes_back_only_those_of_the_plan_wait_for_approval(scenario: GuardedScenario) -> None:
    def shown(*keys: str) -> list[Any]:
        page = runs.runs_document(scenario.services, ACCOUNT, limit=3)["runs"]
        for one in page:
            record = scenario.ctx.runs.get(one["run"])
            assert record is not None
            assert runs.run_details(scenario.services, record)["waits_for_approval"] is one["waits_for_approval"]
        return [tuple(one[key] for key in ("state", "waits_for_approval", *keys)) for one in page]

    for row in scenario.rows[:30]:
        row["price_eur"] = "4321"
    scenario.ask()
    scenario.ask()
    assert shown()[:2] == [("held", True), ("held", True)], "both found the same changes"
    scenario.rows[30]["price_eur"] = "4321"
    last = scenario.ask()
    assert shown("replaced_by") == [("held", True, None), ("held", False, None), ("dropped", False, last.id)]
    drop(scenario.ctx, last.id)
    assert [waits for _, waits in shown()] == [False] * 3


# -- rejects -------------------------------------------------------------------------------------------------------


def test_rejects_of_one_reason_are_one_group(scenario: GuardedScenario) -> None:
    for row in scenario.rows[:3]:
        row["price_eur"] = "no price"
    scenario.rows[3]["branch"] = ""
    scenario.ask()
    page = rejects_page(scenario.ctx)
    assert len(page["rejects"]) == 4
    groups = {tuple(group["fields"]): group for group in page["groups"]}
    assert page["groups"][0]["count"] == 3
    assert sorted(groups["price",]["references"]) == sorted(row["stock_no"] for row in scenario.rows[:3])
    assert (page["sells_waiting"], page["rows_without_reference"]) == (0, 0)


# -- runs ----------------------------------------------------------------------------------------------------------


def test_progress_is_counted_in_cars_in_every_stage(scenario: GuardedScenario) -> None:
    for row in scenario.rows[:4]:
        row["km"] = "123"
    scenario._write_feed()
    ctx = scenario.ctx
    run, _ = ctx.runs.request(ACCOUNT, "full")
    seen: dict[str, dict[str, Any]] = {}

    def look() -> dict[str, Any]:
        record = ctx.runs.get(run)
        assert record is not None
        document = runs.progress_document(ctx, record)
        seen[document["stage"]] = document
        return document

    assert look()["stage"] == "queued"
    other = ctx.runs.begin(ACCOUNT)
    assert other == run
    number = 0
    while (record := ctx.runs.get(run)) is not None and record.open:
        look()
        for stage, parts in phases.windows(ctx, run, record.stage):
            for part in parts:
                number += 1
                perform(ctx, Part(run, stage, part, f"look-{number}"), rng=None)  # type: ignore[arg-type]
                look()
        phases.advance(ctx, run)
    assert {"queued", "first", "load", "diff", "apply"} <= set(seen)
    assert (seen["load"]["cars_done"], seen["load"]["cars_total"], seen["load"]["percent"]) == (CARS, CARS, 100)
    assert (seen["apply"]["cars_done"], seen["apply"]["cars_total"]) == (4, 4)
    assert "sending: 4 of 4 cars" in seen["apply"]["text"]
    ended = look()
    assert (ended["state"], ended["cars_total"], ended["seconds_left"], ended["waits_for"]) == (
        "done",
        None,
        None,
        None,
    )


def test_a_queued_run_names_the_run_that_goes_first_or_the_pause(scenario: GuardedScenario) -> None:
    ctx = scenario.ctx
    first, _ = ctx.runs.request(ACCOUNT, "full")
    ctx.runs.begin(ACCOUNT)
    second, _ = ctx.runs.request(ACCOUNT, "full")
    record = ctx.runs.get(second)
    assert record is not None
    document = runs.progress_document(ctx, record)
    assert (document["waits_for"], f"for run {first}" in document["text"]) == (first, True)
    ctx.runs.controls.pause(ACCOUNT)
    assert runs.progress_document(ctx, record)["waits_for"] == "resume"


def test_runs_are_paged_and_dry_runs_are_distinguished(scenario: GuardedScenario) -> None:
    scenario.ask(plan_only=True)
    scenario.ask()
    page = runs.runs_document(scenario.services, ACCOUNT, limit=2)
    assert [run["purpose"] for run in page["runs"]] == ["incremental", "plan"]
    rest = runs.runs_document(scenario.services, ACCOUNT, limit=2, after=page["next"])
    assert ([run["purpose"] for run in rest["runs"]], rest["next"]) == (["full"], None)
    record = scenario.ctx.runs.get(rest["runs"][0]["run"])
    assert record is not None
    details = runs.run_details(scenario.services, record)
    assert {"stages", "timeline", "rejects", "failed_requests", "requested_by", "approved_by"} <= set(details)


def test_the_status_of_the_fleet(scenario: GuardedScenario) -> None:
    document = fleet.status_document(scenario.services, [ACCOUNT], {"okasie.api": 1, "okasie.diff": None})
    assert document["queues"]["okasie.diff"] == {"waiting": 0, "consumers": None}
    assert document["accounts"][0]["account"] == ACCOUNT
    assert (document["missing"], document["redis_problem"]) == ([], None)


def test_times_are_those_of_the_account() -> None:
    assert times.text("2026-11-28T15:05:12.345Z", "Europe/Brussels") == "2026-11-28 16:05:12"
    assert times.text("2026-07-28T15:05:12Z", "Europe/Brussels") == "2026-07-28 17:05:12"
    assert times.local("2026-07-28T15:05:12", "UTC").hour == 15
    assert times.text(None, "UTC") == ""


# -- both sides of a listing ---------------------------------------------------------------------------------------


def preview(scenario: GuardedScenario, reference: str) -> dict[str, Any]:
    reads = scenario.services.source_reads(ACCOUNT)
    while True:
        try:
            return read_both_sides(scenario.ctx, uuid4().hex, reference, reads)
        except NoPermit:
            continue


def test_a_preview_shows_both_sides_and_what_differs(scenario: GuardedScenario) -> None:
    scenario.good_run()
    row = scenario.rows[0]
    same = preview(scenario, row["stock_no"])
    assert (same["source_problem"], same["marketplace_problem"], same["differs"]) == (None, None, [])
    assert same["source"]["title"] == same["marketplace"]["title"]
    assert same["images"] == scenario.wanted()[row["stock_no"]]["images"]
    scenario.edit({"reference": row["stock_no"], "set": {"price": 111}})
    row["price_eur"] = "4444"
    scenario._write_feed()
    since = len(scenario.requests())
    found = preview(scenario, row["stock_no"])
    assert (found["source"]["price"], found["marketplace"]["price"], found["differs"]) == (4444, 111, ["price"])
    assert scenario.requests(since) == ["list"], "one request"


def test_a_preview_says_why_a_side_is_not_known(scenario: GuardedScenario) -> None:
    scenario.rows[0]["price_eur"] = "no price"
    scenario.rows += varied(1, seed=5, first=900)
    scenario._write_feed()
    invalid = preview(scenario, scenario.rows[0]["stock_no"])
    assert "price" in invalid["source_problem"]
    assert invalid["source_issues"] == [{"field": "price", "code": "unreadable", "value": "no price"}]
    assert (invalid["source"]["price"], invalid["differs"]) == ("no price", [])
    assert "externalReference" not in invalid["source"]
    assert (invalid["source"]["title"], invalid["source"]["mileage"]) == (
        invalid["marketplace"]["title"],
        str(invalid["marketplace"]["mileage"]),
    )
    new = preview(scenario, scenario.rows[-1]["stock_no"])
    assert (new["source"] is not None, new["marketplace"]) == (True, None)
    assert "no run has seen it" in new["marketplace_problem"]
    assert preview(scenario, "NOBODY")["source_problem"] == "the source does not have it"
    scenario.services.runs.controls.pause(ACCOUNT)
    since = len(scenario.requests())
    assert "paused" in preview(scenario, scenario.rows[1]["stock_no"])["marketplace_problem"]
    assert scenario.requests(since) == []


def test_a_preview_is_kept_for_ten_minutes(scenario: GuardedScenario) -> None:
    assert preview_document(scenario.services, "p") is None
    scenario.services.previews.put("p", {"reference": "A", "source": None})
    assert preview_document(scenario.services, "p") == {"reference": "A", "source": None}
    assert 590 < scenario.services.redis.ttl(f"{scenario.prefix}preview:p") <= 600


def test_no_document_has_the_key(scenario: GuardedScenario) -> None:
    scenario.ask()
    record = scenario.ctx.runs.get(scenario.ctx.runs.history(ACCOUNT)[0])
    assert record is not None
    documents = [attention(scenario), rejects_page(scenario.ctx), runs.run_details(scenario.services, record)]
    documents.append(fleet.status_document(scenario.services, [ACCOUNT], {}))
    assert SECRET not in repr(documents)
