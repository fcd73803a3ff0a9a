"""How the supervisor ends its children: each has the time of its longest operation, unless a second signal hurries it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from okasie_tasks.local.fleet import WORKERS
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.worker.settings import STOP_SECONDS
from tests.support import poll

_IGNORES = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(9999)"
)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(print)
    yield supervisor
    supervisor.stop(0)


def stubborn(supervisor: Supervisor, folder: Path, seconds: float) -> Child:
    child = Child("stubborn", [sys.executable, "-c", _IGNORES], log=folder / "log", stop_seconds=seconds)
    supervisor.add(child)
    poll(lambda: child.last_line() == "ready")
    return child


def test_what_does_not_end_in_its_time_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    child = stubborn(supervisor, tmp_path, 0.1)
    supervisor.stop()
    assert child.process is not None
    assert child.process.returncode == -9


def test_a_second_signal_ends_the_waiting(supervisor: Supervisor, tmp_path: Path) -> None:
    child = stubborn(supervisor, tmp_path, 9_999)
    stopping = threading.Thread(target=supervisor.stop)
    stopping.start()
    assert child.alive
    supervisor.hurry.set()
    stopping.join(120)
    assert child.process is not None
    assert child.process.returncode == -9


def test_every_kind_of_worker_has_its_time() -> None:
    assert set(STOP_SECONDS) == {name.rstrip("0123456789") for name in WORKERS}
