"""What the commands print on a terminal of 80 columns, in the time zone of the account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.actions import accounts, runs
from okasie_tasks.reports.times import text as local
from tests.support import Place
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

_COLUMNS = 80
_ZONE = "Pacific/Auckland"


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    rows = varied(30, seed=1)
    for row in rows:
        row["branch"] = "DEMO-GENT"
    account = f'timezone = "{_ZONE}"\n'
    with GuardedScenario(tmp_path, redis_url, rows=rows, guard="free_changed_count = 5", account=account) as found:
        found.good_run()
        yield found


def okasie(scenario: GuardedScenario, *words: str, status: int = 0, columns: int | None = _COLUMNS) -> str:
    """What a command prints; every line fits the terminal."""
    env = {"COLUMNS": str(columns or "")}
    answer = Place(scenario.folder).okasie(*words, env=env)
    assert answer.status == status, answer
    if columns:
        assert [line for line in answer.stdout.splitlines() if len(line) > columns] == []
    return answer.stdout


def flat(text: str) -> str:
    """The text without its line breaks and indents."""
    return " ".join(text.split())


def test_status_fits_and_shows_local_times(scenario: GuardedScenario) -> None:
    for row in scenario.rows[:20]:
        row["price_eur"] = "4321"
    held = scenario.told()["run"]
    paused = accounts.pause(scenario.services, ACCOUNT, by="console:anna")
    shown = flat(okasie(scenario, "status", status=5))
    expires = scenario.status()["held_plan"]["expires_at"]
    assert f"20 updates held until {local(expires, _ZONE)}: " in shown
    assert f"`okasie approve {held}` or `okasie reject {held}`" in shown
    assert (
        f"paused since {local(paused['paused_since'], _ZONE)} by console:anna; `okasie resume dex` resumes it" in shown
    )
    assert "cursor" not in shown
    assert "cursor" in okasie(scenario, "status", ACCOUNT, status=5)


def test_status_shows_what_a_queued_run_waits_for(scenario: GuardedScenario) -> None:
    working, _ = scenario.ctx.runs.request(ACCOUNT, "full")
    scenario.ctx.runs.begin(ACCOUNT)
    queued = runs.start(scenario.services, ACCOUNT, "incremental", by="x")
    shown = flat(okasie(scenario, "status", status=5))
    assert f"run {working}, full: reading the marketplace" in shown
    assert f"run {queued}, incremental: waiting for run {working}" in shown


def test_runs_tell_plans_from_syncs_and_when_they_were_requested(scenario: GuardedScenario) -> None:
    scenario.look()
    for row in scenario.rows[:20]:
        row["price_eur"] = "4321"
    held = scenario.ask()
    scenario.ask(approves=held.id)
    shown = okasie(scenario, "runs", ACCOUNT)
    lines = [line.split() for line in shown.splitlines() if line.startswith(" 01")]
    assert [words[1] for words in lines] == ["approved", "incremental", "plan", "full"]
    record = scenario.ctx.runs.get(held.id)
    assert record is not None
    newest = okasie(scenario, "runs", ACCOUNT, "--json", columns=None)
    assert f'"run": "{held.id}"' in newest
    assert lines[1][0] == held.id[:14]
    assert all(re.fullmatch(r"\d\d-\d\d", words[3]) and re.fullmatch(r"\d\d:\d\d", words[4]) for words in lines)
    wide = okasie(scenario, "runs", ACCOUNT, "--limit", "2", columns=None)
    assert held.id in wide, "in a file or pipe, ids are whole"


def test_a_run_is_shown_by_a_prefix_with_local_times_and_who_decided(scenario: GuardedScenario) -> None:
    run = runs.start(scenario.services, ACCOUNT, "full", by="console:anna")
    runs.cancel(scenario.services, run, by="console:ben")
    shown = okasie(scenario, "run", run[:18])
    assert f"run {run} of {ACCOUNT} (full): cancelled" in shown
    assert "requested by console:anna" in shown
    assert "cancelled by console:ben" in shown
    record = scenario.ctx.runs.get(run)
    assert record is not None
    assert f"ended {local(_iso(record.ended_ms), _ZONE)}" in shown
    assert "T" not in re.sub(r"[A-Za-z]{2,}", "", flat(shown).split("note", 1)[1]), "the note's time is local, too"
    followed = okasie(scenario, "sync", "--follow", run[:18], status=1)
    assert f"run {run} of {ACCOUNT} (full): cancelled" in followed
    assert okasie(scenario, "sync", "other", "--follow", run, status=2) == ""
    assert okasie(scenario, "sync", "--follow", run, "--full", status=2) == ""
    assert okasie(scenario, "sync", status=2) == ""
    assert okasie(scenario, "cancel", run[:11], status=2) == ""


def _iso(milliseconds: int) -> str:
    from okasie_tasks.reports.listing import iso

    found = iso(milliseconds)
    assert found is not None
    return found


def test_a_run_that_has_worked_fits(scenario: GuardedScenario) -> None:
    for row in scenario.rows[:20]:
        row["price_eur"] = "4321"
    run = scenario.told()["run"]
    shown = okasie(scenario, "run", run)
    assert "first page" in shown
    assert "GET /listings page 1" in shown
    assert "20 updates: " in flat(shown)
    scenario.look()
    assert "plan done" in flat(okasie(scenario, "status", status=5))


def test_rejects_are_wrapped(scenario: GuardedScenario) -> None:
    name = scenario.rows[0]["stock_no"]
    scenario.rows[0]["price_eur"] = (
        "on request, please call the garage at the number below during opening hours, thanks"
    )
    scenario.told()
    (reject,) = scenario.ctx.ledger.all_rejects()
    shown = okasie(scenario, "rejects", ACCOUNT)
    assert shown.splitlines()[0].startswith(f"{name}  invalid: price")
    assert reject.message in flat(shown)
    assert f"first {local(_iso(reject.first_seen * 1000), _ZONE)}" in flat(shown)
    assert shown.splitlines()[-1] == "1 rejected"
    assert reject.message in okasie(scenario, "rejects", ACCOUNT, columns=None), "in a pipe it is one line"


def test_listings_are_searched_and_filtered(scenario: GuardedScenario) -> None:
    name = scenario.rows[3]["stock_no"]
    shown = okasie(scenario, "listings", ACCOUNT, "--search", name.lower())
    assert shown.splitlines()[-1] == "1 of 1 listings"
    assert name in shown
    some = okasie(scenario, "listings", ACCOUNT, "--limit", "10").splitlines()
    assert some[-2] == "10 of 30 listings"
    assert some[-1].startswith("`--after ")
    after = some[-1].split()[1].rstrip("`")
    assert okasie(scenario, "listings", ACCOUNT, "--after", after).splitlines()[-1] == "20 of 30 listings"
    assert okasie(scenario, "listings", ACCOUNT, "--status", "sold") == "no listings found\n"
    assert '"next": null' in okasie(scenario, "listings", ACCOUNT, "--status", "live", "--json", columns=None)
    assert okasie(scenario, "listings", "nobody", status=2) == ""


def test_why_fits_and_shows_who_and_when(scenario: GuardedScenario) -> None:
    name = scenario.rows[0]["stock_no"]
    scenario.sell(name)
    shown = okasie(scenario, "why", ACCOUNT, name)
    event = scenario.ctx.history.latest([name])[name]
    assert f"  sold      {local(_iso(event.at_ms), _ZONE)}  sold manually" in shown
