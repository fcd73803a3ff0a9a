"""A person stops things and lets them go on: a run, an account, and what waits meanwhile; by the commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from okasie_tasks.reports.times import text
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import HANG_SECONDS, OKASIE, faults, held, poll, release, state, stored
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system


@contextmanager
def started(fleet: Fleet, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that waits, with its output in pipes."""
    with subprocess.Popen(
        [*OKASIE, *arguments], cwd=fleet.place.folder, env=fleet.place.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def account(fleet: Fleet, name: str) -> dict[str, Any]:
    (found,) = fleet.place.okasie("status", name, "--json").document["accounts"]
    assert isinstance(found, dict)
    return found


def document(fleet: Fleet, run: str) -> dict[str, Any]:
    return fleet.place.okasie("run", run, "--json").document


def test_a_paused_account_keeps_what_is_asked_of_it_and_does_it_when_it_goes_on(fleet: Fleet) -> None:
    place = fleet.place
    assert place.sync("paused", "--full")[0] == 0
    before = state(fleet.sandbox, "paused")["requests"]
    paused = place.okasie("pause", "paused", "--json")
    assert (paused.status, paused.document["was_paused"]) == (0, False), paused
    rows = cars(CARS, seed=1)
    rows[0]["price_eur"], rows[1]["price_eur"] = "4321", "4322"
    write_csv(feed(place, "paused"), rows)
    shown = place.okasie("status", "paused")
    since = text(paused.document["paused_since"], paused.document["timezone"])
    assert f"paused since {since} by {paused.document['paused_by']}; `okasie resume paused` resumes it" in shown.stdout
    again = place.okasie("pause", "paused")
    assert "already paused" in again.stdout
    assert since in again.stdout
    with started(fleet, "push", "paused", "DG-00001", "--json") as pushing, started(fleet, "sync", "paused") as syncing:
        poll(lambda: account(fleet, "paused")["pushes_waiting"] == 1, what="the push")
        run = poll(lambda: account(fleet, "paused")["waiting"], what="the run")
        ticks = [place.okasie("sync", "paused", "--no-wait", "--json") for _ in range(2)]
        assert [(tick.status, tick.document["run"]) for tick in ticks] == [(0, run)] * 2
        assert all("paused since" in tick.stderr for tick in ticks)
        assert (pushing.poll(), syncing.poll()) == (None, None)
        assert state(fleet.sandbox, "paused")["requests"] == before, "nothing was sent"
        resumed = place.okasie("resume", "paused", "--json")
        assert resumed.document["was_paused_since"] == paused.document["paused_since"]
        for process in (pushing, syncing):
            _, hint = process.communicate(timeout=300)
            assert (process.returncode, "okasie resume paused" in hint) == (0, True), hint
    prices = [stored(fleet.sandbox, "paused")[name]["body"]["price"] for name in ("DG-00001", "DG-00002")]
    assert prices == [4321, 4322]
    assert account(fleet, "paused")["paused_since"] is None
    assert "was not paused" in place.okasie("resume", "paused").stdout


def test_a_run_that_waits_is_cancelled_at_once_and_one_that_is_over_is_refused(fleet: Fleet) -> None:
    place = fleet.place
    place.okasie("pause", "cancelled")
    run = place.okasie("sync", "cancelled", "--full", "--no-wait", "--json").document["run"]
    answer = place.okasie("cancel", run, "--json")
    assert (answer.status, answer.document["run"], answer.document["state"]) == (0, run, "cancelled"), answer
    place.okasie("resume", "cancelled")
    assert account(fleet, "cancelled")["waiting"] is None
    assert state(fleet.sandbox, "cancelled")["requests"] == {}
    twice = place.okasie("cancel", run, "--json")
    assert (twice.status, twice.document["error"]["where"]) == (2, run)
    assert "cancelled" in twice.document["error"]["message"]
    status, document = place.sync("cancelled", "--full")
    over = place.okasie("cancel", document["run"])
    assert (status, over.status, "the run has ended: done" in over.stderr) == (0, 2, True), over
    for arguments in (["cancel", "nobody"], ["pause", "nobody"], ["resume", "nobody"]):
        assert place.okasie(*arguments).status == 2


def test_a_run_at_work_ends_after_its_requests_and_the_one_that_waits_begins(fleet: Fleet) -> None:
    """One bulk call is answered; the others wait until the run is cancelled. At most 20 of the 40 are sent by then."""
    place, more = fleet.place, 4_000
    assert place.sync("stopped", "--full")[0] == 0
    cursor = account(fleet, "stopped")["cursor"]
    write_csv(feed(place, "stopped"), cars(CARS + more, seed=1))
    faults(fleet.sandbox, held("bulk", "stopped", seconds=0, times=1), held("bulk", "stopped"))
    with started(fleet, "sync", "stopped", "--full", "--json") as syncing:
        run = poll(lambda: account(fleet, "stopped")["active"], what="the run")
        follow_up = place.okasie("sync", "stopped", "--no-wait", "--json").document["run"]
        assert follow_up != run
        poll(lambda: document(fleet, run)["stages"].get("upsert", {}).get("parts"), what="a bulk call")
        with started(fleet, "cancel", run, "--json") as cancelling:
            poll(lambda: any("cancelled" in note for note in document(fleet, run)["notes"]), what="the cancelling")
            assert document(fleet, run)["state"] == "running", "its requests are not answered yet"
            release(fleet.sandbox)
            told, hint = cancelling.communicate(timeout=HANG_SECONDS)
            assert cancelling.returncode == 0, hint
        ended = json.loads(told)
        assert (ended["state"], ended["cursor"]) == ("cancelled", cursor), ended
        _, hint = syncing.communicate(timeout=HANG_SECONDS)
        assert syncing.returncode == 1, hint
    done = poll(lambda: (d := document(fleet, follow_up))["state"] == "done" and d, what="the follow-up")
    sent = [one["listings"]["created"] for one in (ended, done)]
    assert (sum(sent), min(sent) > 0) == (more, True), sent
    assert len(stored(fleet.sandbox, "stopped")) == CARS + more
    assert (
        state(fleet.sandbox, "stopped")["requests"]["bulk:200"]
        == ended["requests"]["bulk"] + done["requests"]["bulk"] + 1
    )
