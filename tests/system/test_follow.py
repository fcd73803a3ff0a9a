"""A run is followed on a terminal, in cars; another one waits for it, and says so; who requested them is recorded."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import OKASIE, faults, held, poll, release
from tests.system.conftest import CARS, Fleet

pytestmark = pytest.mark.system
_ACCOUNT = "followed"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OnTerminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, fleet: Fleet, *arguments: str) -> None:
        self._said = b""
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        env = {**fleet.place.env, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*OKASIE, *arguments], cwd=fleet.place.folder, env=env, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def text(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while more := os.read(self._master, 65_536):
                self._said += more
        return _ESCAPES.sub("", self._said.decode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def held_run(fleet: Fleet) -> Iterator[str]:
    """A run whose bulk call waits for its answer."""
    faults(fleet.sandbox, held("bulk", _ACCOUNT))
    try:
        yield fleet.place.okasie("sync", _ACCOUNT, "--full", "--no-wait", "--json").document["run"]
    finally:
        release(fleet.sandbox)


def test_a_run_is_followed_in_cars_and_a_second_one_waits_for_it(fleet: Fleet, held_run: str) -> None:
    following, watching = (
        OnTerminal(fleet, "sync", "--follow", held_run[:20]),
        OnTerminal(fleet, "status", _ACCOUNT, "--watch"),
    )
    with contextlib.closing(following), contextlib.closing(watching):
        poll(lambda: f"sending: 0 of {CARS} cars" in following.text(), what="the progress in cars")
        waiting = subprocess.Popen(
            [*OKASIE, "sync", _ACCOUNT, "--json"], cwd=fleet.place.folder, env=fleet.place.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stderr is not None
        assert f"waits for run {held_run} of this account" in waiting.stderr.readline()
        poll(lambda: f"waiting for run {held_run}" in " ".join(watching.text().split()), what="the run that waits")
        assert f"sending: 0 of {CARS} cars" in watching.text()
        release(fleet.sandbox)
        answered, hints = waiting.communicate(timeout=300)
        assert hints == "", "it is said once"
        poll(lambda: following.process.poll() is not None, what="the end of the run")
        assert (following.process.returncode, f"{CARS} created" in following.text()) == (0, True), following.text()
        shown = " ".join(watching.text().split())
        poll(lambda: f"{_ACCOUNT} incremental done" in " ".join(watching.text().split()), what=shown)
    by = json.loads(answered)["requested_by"]
    assert re.fullmatch(r"cli:.+@.+", by)
    asked = fleet.place.okasie("push", _ACCOUNT, "DG-00001", "--json")
    assert asked.status == 0
    events = fleet.place.okasie("why", _ACCOUNT, "DG-00001", "--json").document["events"]
    assert [event["by"] for event in events] == [by, None], "a push, and the run that created it"
    shown = fleet.place.okasie("why", _ACCOUNT, "DG-00001").stdout
    assert f"updated by a push, from the source, by {by}" in shown
