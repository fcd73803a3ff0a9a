"""Real workers that hang, and what ``okasie health`` makes of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.health.fleet import HealthFleet
from tests.health.hangs import EXPECTED, hang_all
from tests.support import poll

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def fleet() -> Iterator[HealthFleet]:
    with HealthFleet() as fleet:
        yield fleet


def test_a_worker_that_ends_removes_its_file_and_one_that_is_killed_does_not(fleet: HealthFleet) -> None:
    def status(queue: str) -> int:
        return fleet.place.okasie("health", "--queue", queue).status

    poll(lambda: status("diff") == 0 and status("urgent") == 0, what="healthy workers")
    for name, ended, shown in (
        ("diff", signal.SIGTERM, "no worker of okasie.diff"),
        ("urgent", signal.SIGKILL, "the process ended without a shutdown"),
    ):
        child = fleet.children[name]
        assert child.process is not None
        with fleet._look:
            child.process.send_signal(ended)
            child.process.wait()
            child.restart_at = time.monotonic() + 1e9
        answer = fleet.place.okasie("health", "--queue", name)
        assert (answer.status, shown in answer.stdout) == (5, True), answer.text
        fleet.restart_all()
        poll(lambda queue=name: status(queue) == 0, what="its successor, healthy")
        assert fleet.place.okasie("health", "--queue", name).stdout.count("@") == 1, "the dead one is replaced"


def test_systemd_is_notified_of_the_start_the_life_and_the_end_of_a_worker(fleet: HealthFleet) -> None:
    seen: set[str] = set()

    def notified() -> bool:
        seen.update(line for sent in fleet.notifications() for line in sent.splitlines())
        return {"READY=1", "WATCHDOG=1", "STATUS=consuming"} <= seen

    poll(notified, what="the notifications of a worker that works")


def test_every_kind_of_hang_is_found_and_a_worker_that_works_stays_healthy(fleet: HealthFleet) -> None:
    found = hang_all(fleet)
    assert set(found) == set(EXPECTED)
    list(fleet.notifications())
    sent = poll(lambda: [text for text in fleet.notifications() if "does not ask" in text], what="a hanging worker's")
    assert not any("WATCHDOG=1" in text for text in sent), "systemd restarts what it does not hear from"
    document = fleet.place.okasie("health", "--json").document
    assert {worker["worker"].partition("@")[0] for worker in document["workers"] if worker["problems"]} == set(EXPECTED)
    assert fleet.place.okasie("health", "--queue", "diff").status == 0
    control = fleet.children["control"].process
    assert control is not None
    control.send_signal(signal.SIGCONT)
    poll(lambda: fleet.place.okasie("health", "--queue", "control").status == 0, what="a worker that goes on")
