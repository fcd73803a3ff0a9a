"""The endpoint as such: what a count and a scrape cost, how it fails, what it never tells, and its command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from okasie_tasks.cli import cli
from okasie_tasks.cli.exposition import documents, registry
from okasie_tasks.core.metrics import FAMILIES, WAIT_BOUNDS
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.ports import Feedback, Permit, RequestLog
from okasie_tasks.services import current_run
from tests.exposition import parse, scrape
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, SECRET, varied
from tests.sync.test_metrics import look, look_through


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=7)) as found:
        yield found


# -- what it costs and how it fails ----------------------------------------------------------------------------------


class Heard:
    """Round trips that a client makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trips: list[list[str]] = []
        execute, command = redis.client.Pipeline.execute, redis.Redis.execute_command

        def pipelined(pipe: Any, *args: Any, **options: Any) -> Any:
            self.trips.append([str(found[0][0]) for found in pipe.command_stack])
            return execute(pipe, *args, **options)

        def single(client: Any, *args: Any, **options: Any) -> Any:
            if not isinstance(client, redis.client.Pipeline):
                self.trips.append([str(args[0])])
            return command(client, *args, **options)

        monkeypatch.setattr(redis.client.Pipeline, "execute", pipelined)
        monkeypatch.setattr(redis.Redis, "execute_command", single)


def sent(waited: float = 0.3) -> RequestLog:
    return RequestLog(ACCOUNT, "bulk", "list", "GET", 200, 0.1, "id", waited_seconds=waited)


def requests_counted(scenario: GuardedScenario) -> float:
    return sum(value for name, value in look(scenario).samples.items() if name.startswith("okasie_requests_total"))


def test_the_count_of_a_request_costs_no_round_trip(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, run = scenario.services.limiter(ACCOUNT), scenario.good_run()["run"]
    permit = limiter.acquire("ticket", "bulk", 20)
    assert isinstance(permit, Permit)
    before = requests_counted(scenario)
    heard, token = Heard(monkeypatch), current_run.set(run)
    limiter.report(permit, Feedback(200), sent())
    current_run.reset(token)
    assert heard.trips == [["EVALSHA"]], "the report, counters, and what the report of its run draws"
    monkeypatch.undo()
    assert requests_counted(scenario) == before + 1


def test_a_scrape_costs_as_much_whatever_the_account_holds(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(scenario)
    heard = Heard(monkeypatch)
    look(scenario)
    empty = [list(trip) for trip in heard.trips]
    monkeypatch.undo()
    for number in range(3):
        scenario.rows[number]["price_eur"] = "geen"
        scenario.ask("full")
    scenario.remove(scenario.rows[:12])
    scenario.ask("full")
    heard = Heard(monkeypatch)
    look(scenario)
    assert heard.trips == empty
    assert len([command for trip in empty for command in trip]) == 16 + 6, "as docs/metrics.md tells"


def test_a_redis_that_is_away_gives_no_half_picture(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.client.Pipeline, "execute", broken)
    monkeypatch.setattr(redis.Redis, "execute_command", broken)
    found = scrape(scenario.services)
    assert found.samples == {"okasie_redis_up": 0}, "half a picture would look like a whole one"


def test_no_secret_and_no_reference_is_told(scenario: GuardedScenario) -> None:
    scenario.rows[3]["price_eur"] = "op aanvraag"
    scenario.ask("full")
    scenario.faults({"kind": "401", "match": {"path": "bulk"}, "times": 1})
    scenario.rows[0]["price_eur"] = "778"
    scenario.ask("full")
    shown = registry(scenario.services)
    text = json.dumps(documents(shown)) + str(look(scenario).samples)
    assert 'status="401"' in text
    assert SECRET not in text
    assert [row["stock_no"] for row in scenario.rows if row["stock_no"] in text] == []


# -- the command -----------------------------------------------------------------------------------------------------


def test_once_prints_what_the_parser_takes(scenario: GuardedScenario) -> None:
    scenario.good_run()
    config = ["--config", str(scenario.folder / "okasie.toml")]
    shown = CliRunner().invoke(cli, ["metrics", "--once", *config])
    assert shown.exit_code == 0, shown.output
    assert parse(shown.stdout)['okasie_run_listings{account="dex",mode="full",outcome="created"}'] == 20
    assert SECRET not in shown.output
    as_json = CliRunner().invoke(cli, ["metrics", "--once", "--json", *config])
    found = {family["name"]: family for family in json.loads(as_json.stdout)["metrics"]}
    assert found["okasie_rejected_listings"] == {
        "name": "okasie_rejected_listings",
        "type": "gauge",
        "help": "Rejected listings: refused, or invalid; rows without a readable reference too.",
        "samples": [{"name": "okasie_rejected_listings", "labels": {"account": "dex"}, "value": 0}],
    }


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    shown = CliRunner().invoke(cli, ["metrics", "--once"])
    assert isinstance(shown.exception, ConfigurationError)
    assert "pip install 'okasie-tasks[metrics]'" in str(shown.exception)


def test_prometheus_may_ask_for_openmetrics(scenario: GuardedScenario) -> None:
    """It does by default, and the format is the stricter one."""
    scenario.good_run()
    text = as_openmetrics(registry(scenario.services)).decode()
    families = {family.name: family for family in read_openmetrics(text)}
    assert set(families) == {family.name.removesuffix("_total") for family in FAMILIES}
    bounds = [s.labels["le"] for s in families["okasie_permit_wait_seconds"].samples if "le" in s.labels]
    assert bounds == [*(str(float(bound)) for bound in WAIT_BOUNDS), "+Inf"]


def test_two_accounts_are_told_apart(scenario: GuardedScenario) -> None:
    scenario.good_run()
    text = (scenario.folder / "okasie.toml").read_text(encoding="utf-8")
    accounts = text[text.index("[accounts.dex]") :]
    other = accounts.replace("accounts.dex", "accounts.two").replace(SECRET, "another-secret")
    found = look_through(scenario, text + "\n" + other)
    assert found['okasie_runs_total{account="dex",mode="full",state="done"}'] == 1
    assert 'okasie_runs_total{account="two",mode="full",state="done"}' not in found.samples
    assert found['okasie_rejected_listings{account="two"}'] == 0


def test_the_registry_holds_nothing_of_this_process(scenario: GuardedScenario) -> None:
    found: CollectorRegistry = registry(scenario.services)
    assert {family.name.split("_")[0] for family in found.collect()} == {"okasie"}
    assert WAIT_BOUNDS[0] < 0.5 < WAIT_BOUNDS[-1]
