"""Supervises child processes: starts them, restarts them with backoff, and ends them in order.

Each child has a separate process group, so that Ctrl-C reaches only the supervisor. On Linux the kernel ends the
children when the supervisor is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import psutil

from okasie_tasks.local import die_with_parent as child_script
from okasie_tasks.local.storage import naming

GRACE_SECONDS: Final = 20.0
_BACKOFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_SECONDS: Final = 60.0
"""A child that ran this long starts its backoff again."""


class Child:
    """One program. ``stop_last``: the others need it until they have ended (Redis).

    ``stop_seconds``: how long it may take to end after SIGTERM.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        stop_last: bool = False,
        stop_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.name, self.argv, self.log, self.env = name, list(argv), log, env
        self.death_signal, self.stop_last, self.stop_seconds = death_signal, stop_last, stop_seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restart_at: float | None = None
        self.failures = 0
        self.renew_by: float | None = None
        """Until when it may take to end, before it is killed and started again; None: it is to keep running."""

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; its output goes to the log. Raises `StorageFailed` if that cannot be opened."""
        with naming(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        wrapper = [sys.executable, "-S", "-E", str(child_script.__file__), str(os.getpid())]
        with log:
            self.process = self._spawn([*wrapper, str(int(self.death_signal)), *self.argv], log)
        self.started_at, self.restart_at = time.monotonic(), None

    def _spawn(self, argv: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env and dict(self.env), process_group=0
        )

    def last_line(self) -> str:
        """The last line of its log that is not empty, for messages."""
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
            return lines[-1][-300:] if lines else ""
        return ""


class Supervisor:
    """Starts children and keeps them running until `stop`. ``say`` is called with one line per event."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.children: list[Child] = []
        self.hurry = threading.Event()
        """Set by a second request to stop: what still runs is killed."""
        self._say = say

    def add(self, child: Child) -> Child:
        """Start a child and supervise it."""
        self.children.append(child)
        child.start()
        return child

    def restart_ended(self) -> None:
        """Restart children that have ended. To be called about every second."""
        now = time.monotonic()
        for child in self.children:
            if child.renew_by is not None:
                self._renewed(child, now)
            elif child.alive:
                continue
            elif child.restart_at is None:
                if now - child.started_at > _STEADY_SECONDS:
                    child.failures = 0
                wait = _BACKOFF_SECONDS[min(child.failures, len(_BACKOFF_SECONDS) - 1)]
                child.failures += 1
                child.restart_at = now + wait
                code = child.process.returncode if child.process else None
                self._say(f"{child.name} ended (status {code}); restarting it in {wait:g} s; see {child.log}")
            elif now >= child.restart_at:
                child.start()

    def renew(self, children: Sequence[Child]) -> None:
        """Ask these children to end; `restart_ended` starts each again, and kills what does not end in time."""
        for child in children:
            if child.process is not None and child.alive:
                child.process.terminate()
            child.renew_by = time.monotonic() + child.stop_seconds

    def _renewed(self, child: Child, now: float) -> None:
        assert child.renew_by is not None  # noqa: S101 - the caller checked it
        if not child.alive:
            child.renew_by, child.failures = None, 0
            child.start()
        elif now > child.renew_by:
            for process in _tree(child):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def stop(self, grace_seconds: float | None = None) -> None:
        """End all children, those with ``stop_last`` last. Kills what does not end in time, with its children.

        ``grace_seconds``: instead of each child's own time.
        """
        for wave in (False, True):
            children = [child for child in self.children if child.stop_last is wave and child.process is not None]
            trees = [process for child in children for process in _tree(child)]
            for child in children:
                if child.alive and child.process is not None:
                    child.process.terminate()
            began = time.monotonic()
            for child in children:
                seconds = child.stop_seconds if grace_seconds is None else grace_seconds
                self._wait(child, began + seconds)
            for process in trees:
                with contextlib.suppress(psutil.Error):
                    if process.is_running():
                        process.kill()
            for child in children:
                if child.process is not None:
                    child.process.wait()
        self.children.clear()

    def _wait(self, child: Child, until: float) -> None:
        while child.alive and time.monotonic() < until and not self.hurry.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert child.process is not None  # noqa: S101 - it is alive
                child.process.wait(0.2)


def _tree(child: Child) -> list[psutil.Process]:
    assert child.process is not None  # noqa: S101 - the caller checked it
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(child.process.pid)
        return [*root.children(recursive=True), root]
    return []
