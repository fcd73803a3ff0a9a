"""Each metric moves when what it tells of happens: whole runs against a sandbox over HTTP, read as Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from okasie_tasks.core.metrics import FAMILIES
from okasie_tasks.errors import NoPermit
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from tests.exposition import Exposition, scrape
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

SPEC = {
    "okasie_requests_total": ("counter", {"account", "lane", "method", "status"}),
    "okasie_quota_used_ratio": ("gauge", {"account"}),
    "okasie_permit_wait_seconds": ("histogram", {"account", "lane"}),
    "okasie_run_seconds": ("gauge", {"account", "mode"}),
    "okasie_run_listings": ("gauge", {"account", "mode", "outcome"}),
    "okasie_last_success_timestamp_seconds": ("gauge", {"account", "mode"}),
    "okasie_rejected_listings": ("gauge", {"account"}),
    "okasie_held_runs": ("gauge", {"account"}),
    "okasie_drift_listings": ("gauge", {"account"}),
}
"""The names that are promised to whoever builds on them."""


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=7)) as found:
        yield found


def look(scenario: GuardedScenario) -> Exposition:
    return scrape(scenario.services)


def look_through(scenario: GuardedScenario, config: str) -> Exposition:
    """What an endpoint with this configuration tells."""
    path = scenario.folder / "other.toml"
    path.write_text(config, encoding="utf-8")
    services = Services(load_settings(path, environ={}))
    try:
        return scrape(services)
    finally:
        services.redis.close()


def scheduled(scenario: GuardedScenario) -> str:
    """The world's configuration, with the runs that Beat asks for when nothing else is said."""
    text = (scenario.folder / "okasie.toml").read_text(encoding="utf-8")
    return text.replace('incremental_every = "off"\n', "").replace('full_at = "off"\n', "")


def requests(scenario: GuardedScenario, lane: str, method: str, status: int = 200) -> float:
    name = f'okasie_requests_total{{account="dex",lane="{lane}",method="{method}",status="{status}"}}'
    return look(scenario).samples.get(name, 0)


def waits(scenario: GuardedScenario, lane: str) -> float:
    return look(scenario).samples.get(f'okasie_permit_wait_seconds_count{{account="dex",lane="{lane}"}}', 0)


def test_the_promised_names_are_there_with_their_types_and_labels(scenario: GuardedScenario) -> None:
    scenario.good_run()
    found = look_through(scenario, scheduled(scenario))
    assert {name: (found.types[name], found.labels[name]) for name in SPEC} == SPEC
    assert found.types == {family.name: family.kind for family in FAMILIES}
    assert {name: labels for name, labels in found.labels.items() if labels} == {
        family.name: set(family.labels) for family in FAMILIES if family.labels
    }


def test_before_anything_happened_zeros_are_told_where_an_alert_needs_them(scenario: GuardedScenario) -> None:
    found = look_through(scenario, scheduled(scenario))
    for mode, seconds in (("incremental", 900), ("full", 86_400)):
        assert found[f'okasie_last_success_timestamp_seconds{{account="dex",mode="{mode}"}}'] == 0
        assert found[f'okasie_schedule_interval_seconds{{account="dex",mode="{mode}"}}'] == seconds
    assert (found['okasie_held_runs{account="dex"}'], found["okasie_redis_up"]) == (0, 1)
    assert [n for n in look(scenario).samples if n.startswith("okasie_last_success")] == [], "nobody asks for runs here"


def test_a_run_counts_its_requests_waits_listings_and_time(scenario: GuardedScenario) -> None:
    before = time.time()
    document = scenario.good_run()
    found = look(scenario)
    assert requests(scenario, "bulk", "GET") == document["requests"]["list"] == 1
    assert requests(scenario, "bulk", "POST") == document["requests"]["bulk"] == 1
    assert waits(scenario, "bulk") == 2
    assert found['okasie_run_listings{account="dex",mode="full",outcome="created"}'] == 20
    assert found['okasie_run_seconds{account="dex",mode="full"}'] == document["seconds"] > 0
    assert before - 1 < found['okasie_last_success_timestamp_seconds{account="dex",mode="full"}'] < time.time() + 1
    assert 'okasie_last_success_timestamp_seconds{account="dex",mode="incremental"}' not in found.samples
    assert found['okasie_runs_total{account="dex",mode="full",state="done"}'] == 1
    assert found['okasie_quota_used_ratio{account="dex"}'] == pytest.approx(2 / 1_000_000)
    scenario.good_run("incremental")
    assert look(scenario)['okasie_run_listings{account="dex",mode="full",outcome="created"}'] == 20, "that run's own"
    assert requests(scenario, "bulk", "GET") == 2, "counters go on"


def test_a_plan_is_no_run(scenario: GuardedScenario) -> None:
    scenario.look("full")
    found = look(scenario)
    assert [name for name in found.samples if name.startswith(("okasie_runs_total", "okasie_run_"))] == []
    assert requests(scenario, "bulk", "GET") == 1, "but its requests are requests"


def test_pushes_and_sells_are_the_urgent_lane(scenario: GuardedScenario) -> None:
    scenario.good_run()
    scenario.push(scenario.rows[0], price=4321)
    scenario.sell(scenario.rows[1]["stock_no"])
    assert requests(scenario, "urgent", "PUT") == 1
    assert requests(scenario, "urgent", "DELETE") == 1
    assert waits(scenario, "urgent") == 2


def test_refusals_and_lost_answers_are_told_by_status(scenario: GuardedScenario) -> None:
    scenario.good_run()
    scenario.faults({"kind": "500", "match": {"path": "bulk"}, "times": 1})
    scenario.rows[0]["price_eur"] = "777"
    scenario.ask()
    assert requests(scenario, "bulk", "POST", 500) == 1
    scenario.faults({"kind": "drop_after", "match": {"path": "bulk"}, "times": 1})
    scenario.rows[0]["price_eur"] = "778"
    scenario.ask()
    assert requests(scenario, "bulk", "POST", 0) == 1


def test_a_failed_run_is_counted_and_leaves_the_last_success_and_its_counts(scenario: GuardedScenario) -> None:
    scenario.good_run()
    before = look(scenario)
    scenario.feed_is("<html>")
    scenario.ask("full")
    after = look(scenario)
    assert after['okasie_runs_total{account="dex",mode="full",state="failed"}'] == 1
    kept = ("okasie_last_success", "okasie_run_listings", "okasie_run_seconds")
    assert {n: v for n, v in after.samples.items() if n.startswith(kept)} == {
        n: v for n, v in before.samples.items() if n.startswith(kept)
    }


def test_rejects_are_counted_and_forgotten(scenario: GuardedScenario) -> None:
    scenario.rows[3]["price_eur"] = "op aanvraag"
    scenario.ask("full")
    assert look(scenario)['okasie_rejected_listings{account="dex"}'] == 1
    scenario.rows[3]["price_eur"] = "9000"
    scenario.good_run()
    assert look(scenario)['okasie_rejected_listings{account="dex"}'] == 0


def test_a_plan_that_waits_is_told_until_it_is_released(scenario: GuardedScenario) -> None:
    scenario.good_run()
    kept = list(scenario.rows)
    scenario.remove(scenario.rows[:12])
    held = scenario.told()
    assert held["state"] == "held"
    found = look(scenario)
    assert found['okasie_held_runs{account="dex"}'] == 1
    assert found['okasie_held_listings{account="dex"}'] == 12
    assert found['okasie_runs_total{account="dex",mode="incremental",state="held"}'] == 1
    scenario.ask(approves=held["held_run"])
    found = look(scenario)
    assert (found['okasie_held_runs{account="dex"}'], found['okasie_held_listings{account="dex"}']) == (0, 0)
    assert len(kept) == 20


def test_drift_is_that_of_the_last_run(scenario: GuardedScenario) -> None:
    scenario.good_run()
    scenario.edit({"reference": scenario.rows[0]["stock_no"], "set": {"price": 1}})
    assert scenario.good_run("incremental")["listings"]["drifted"] == 1
    assert look(scenario)['okasie_drift_listings{account="dex"}'] == 1
    scenario.good_run("full")
    assert look(scenario)['okasie_drift_listings{account="dex"}'] == 0


def test_skipped_images_are_told(scenario: GuardedScenario) -> None:
    scenario.faults({"kind": "skip_images", "times": 1, "match": {"path": "bulk"}})
    scenario.ask("full")
    assert look(scenario)['okasie_skipped_image_listings{account="dex"}'] == 20


def test_the_breaker_and_its_pause_are_told(scenario: GuardedScenario) -> None:
    scenario.good_run()
    scenario.faults({"kind": "500", "match": {"path": "list"}, "times": 5})
    limiter = scenario.services.limiter(ACCOUNT)
    for _ in range(5):
        with pytest.raises(Exception, match="HTTP 500"), scenario.ctx.market.permit(ticket="t") as call:
            call.list_page(1)
    assert limiter.status().pause_reason == "breaker"
    found = look(scenario)
    assert found['okasie_breaker_open{account="dex"}'] == 1
    assert 0 < found['okasie_pause_seconds{account="dex"}'] <= 5
    with pytest.raises(NoPermit), scenario.ctx.market.permit(ticket="urgent", lane="urgent"):
        pass
    found = look(scenario)
    assert found['okasie_waiting_tickets{account="dex",lane="urgent"}'] == 1
    assert found['okasie_waiting_permits{account="dex",lane="urgent"}'] == 0, "no worker can get one during the pause"


def test_a_wait_over_several_calls_is_one_wait(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second in a slot is the most; the wait goes on in the next call, perhaps of another worker."""
    scenario.good_run()
    limiter, began = scenario.services.limiter(ACCOUNT), scenario.ctx.runs.now_ms()
    clock = [began]
    monkeypatch.setattr(limiter, "_clock", lambda: clock[0])
    pause = {"pause": began + 1_200, "pr": "429"}
    scenario.services.redis.hset(f"{scenario.prefix}rl:{{dex}}:h", mapping=pause)
    for waited_ms in (0, 600):
        clock[0] = began + waited_ms
        with pytest.raises(NoPermit), scenario.ctx.market.permit(ticket="slow", lane="urgent"):
            pass
    clock[0] = began + 1_200
    with scenario.ctx.market.permit(ticket="slow", lane="urgent") as call:
        call.list_page(1)
    assert limiter.status().waiting_urgent == 0
    found = look(scenario)
    assert found['okasie_permit_wait_seconds_sum{account="dex",lane="urgent"}'] == pytest.approx(1.2)
    assert found['okasie_permit_wait_seconds_bucket{account="dex",lane="urgent",le="0.5"}'] == 0
    assert found['okasie_permit_wait_seconds_bucket{account="dex",lane="urgent",le="+Inf"}'] == 1


def test_pushes_and_messages_that_wait_are_told(scenario: GuardedScenario) -> None:
    scenario.good_run()
    before = look(scenario)
    from okasie_tasks.urgent import accept

    accept.accept_sell(scenario.ctx, "somebody", references=[scenario.rows[0]["stock_no"]])
    scenario.services.redis.lpush("okasie.urgent", b"a message")
    try:
        after = look(scenario)
    finally:
        scenario.services.redis.delete("okasie.urgent")
    for name in ('okasie_waiting_pushes{account="dex"}', 'okasie_queue_messages{queue="okasie.urgent"}'):
        assert after[name] == before[name] + 1


def test_all_that_an_account_learns_of_the_quota_is_told(scenario: GuardedScenario) -> None:
    assert look(scenario)['okasie_quota_limit_requests{account="dex"}'] == 1_000_000
    client = scenario.services.redis
    scenario.good_run()
    now = round(time.time() * 1000)
    client.zadd(f"{scenario.prefix}rl:{{dex}}:l", {"~somebody:1": now, "~somebody:2": now})
    client.hset(f"{scenario.prefix}rl:{{dex}}:h", "sl", 8)
    found = look(scenario)
    assert found['okasie_quota_foreign_requests{account="dex"}'] == 2
    assert found['okasie_quota_limit_requests{account="dex"}'] == 8
    assert found['okasie_quota_used_ratio{account="dex"}'] == 0.5


def test_waiting_permits_are_those_that_a_worker_could_get(scenario: GuardedScenario) -> None:
    limiter, controls = scenario.services.limiter(ACCOUNT), scenario.services.runs.controls
    for number in range(8):  # more than may be sent in one second
        limiter.acquire(f"ticket-{number}", "bulk", 1)
    waiting, name = limiter.status().waiting_bulk, 'okasie_waiting_permits{account="dex",lane="bulk"}'
    assert waiting > 0
    assert look(scenario)[name] == waiting
    controls.pause(ACCOUNT)
    assert look(scenario)[name] == 0
    controls.resume(ACCOUNT)
    assert look(scenario)[name] == waiting


def test_an_account_that_a_person_paused_is_told(scenario: GuardedScenario) -> None:
    assert look(scenario)['okasie_paused{account="dex"}'] == 0
    scenario.services.runs.controls.pause(ACCOUNT)
    assert look(scenario)['okasie_paused{account="dex"}'] == 1
    scenario.services.runs.controls.resume(ACCOUNT)
    assert look(scenario)['okasie_paused{account="dex"}'] == 0
