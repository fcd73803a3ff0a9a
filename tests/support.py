"""What system tests share: a deployment of real processes, driven through the commands that users have."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import requests

from okasie_tasks.local.fleet import WORKERS
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox import Sandbox
from okasie_tasks.sandbox.sample import config_text
from tests.forks import Forks

HANG_SECONDS = 300.0
"""A deadline bounds a hang and decides nothing else: longer than any step takes on a busy machine."""
OKASIE = [sys.executable, "-m", "okasie_tasks"]


def poll(question: Callable[[], Any], *, seconds: float = 120.0, what: str = "it") -> Any:
    """Ask until the answer is true; fails with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


@cache
def forks() -> Forks:
    """This process's one, from the first command on."""
    found = Forks()
    atexit.register(found.close)
    return found


class Answer(NamedTuple):
    """What a command said and how it ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


class Place:
    """A folder with an ``okasie.toml``, and the commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "okasie.toml"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("OKASIE_")}
        self.env["PYTHONUNBUFFERED"] = "1"
        self.said: list[Answer] = []

    def account(self, name: str, *, feed: str, base_url: str, key: str, extra: str = "") -> None:
        """Add an account that reads a sample dealer's csv."""
        text = config_text(feed=feed, base_url=base_url, key=key, account=name, extra=extra)
        self.config.write_text(self.config.read_text() + text if self.config.exists() else text)

    def okasie(self, *arguments: str, env: Mapping[str, str] | None = None, seconds: float = HANG_SECONDS) -> Answer:
        """Run a command to its end, which must come within ``seconds``."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            status = forks().run(
                arguments, cwd=self.folder, env={**self.env, **(env or {})}, stdout=stdout, stderr=stderr,
                seconds=seconds,
            )  # fmt: skip
            texts = []
            for stream in (stdout, stderr):
                stream.seek(0)
                texts.append(stream.read().decode())
        answer = Answer(status, *texts)
        self.said.append(answer)
        return answer

    def sync(self, account: str, *options: str, seconds: float = HANG_SECONDS) -> tuple[int, dict[str, Any]]:
        """``okasie sync ACCOUNT --json``; the exit status and the document."""
        answer = self.okasie("sync", account, "--json", *options, seconds=seconds)
        assert answer.stdout, answer.stderr
        return answer.status, answer.document


class Up:
    """``okasie up`` as a process. Use as a context manager."""

    def __init__(self, place: Place, *options: str, program: Sequence[str] = tuple(OKASIE)) -> None:
        self.place, self._argv = place, [*program, "up", *options]
        self.log = place.folder / "up.log"

    def __enter__(self) -> Up:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._argv, cwd=self.place.folder, env=self.place.env, stdout=log, stderr=log
            )
        try:
            poll(
                lambda: "ready:" in self.said() or self.process.poll() is not None,
                seconds=HANG_SECONDS,
                what="okasie up",
            )
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.__exit__()
            raise
        return self

    def said(self) -> str:
        return self.log.read_text()

    @property
    def flower_url(self) -> str:
        (found,) = re.findall(r"Flower at (http://127\.0\.0\.1:\d+)", self.said())
        return str(found)

    def wait_for_flower(self) -> None:
        """Until Flower has heard of each worker: it never knows a task that ran before."""

        def hears_all() -> bool:
            with contextlib.suppress(requests.ConnectionError):
                answer = requests.get(f"{self.flower_url}/workers", params={"json": "1"}, timeout=60)
                return len(answer.json()["data"]) == len(WORKERS)
            return False

        poll(hears_all, what="Flower that hears of all workers")

    def tree(self) -> list[psutil.Process]:
        """Every process of the group."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Workers:
    """Worker processes as a deployment starts them: ``celery -A okasie_tasks worker``, each on the given queues.

    ``envs``: further variables of each.
    """

    def __init__(self, place: Place, queues: Sequence[str], envs: Sequence[Mapping[str, str]] = ()) -> None:
        self._place, self._queues, self._envs = place, queues, envs
        self._supervisor = Supervisor(print)

    def __enter__(self) -> Workers:
        for number, names in enumerate(self._queues):
            argv = [
                sys.executable, "-m", "celery", "-A", "okasie_tasks", "worker", "-Q", names, "-P", "threads", "-c", "8",
                "-n", f"w{number}@%h", "--without-mingle", "--without-gossip", "-l", "INFO",
            ]  # fmt: skip
            env = {**self._place.env, "OKASIE_CONFIG": str(self._place.config)}
            env |= self._envs[number] if self._envs else {}
            self._supervisor.add(Child(f"w{number}", argv, log=self._place.folder / f"w{number}.log", env=env))
        try:
            poll(lambda: self._place.okasie("status").status == 0, what="a consumer everywhere")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop(20)

    def signal(self, number: int, signum: int) -> None:
        """Send one of them a signal; with threads it is one process."""
        process = self._supervisor.children[number].process
        assert process is not None
        process.send_signal(signum)

    def alive(self, number: int) -> bool:
        return self._supervisor.children[number].alive

    def log(self, number: int) -> str:
        return self._supervisor.children[number].log.read_text(encoding="utf-8", errors="replace")


def state(sandbox: Sandbox, key: str) -> dict[str, Any]:
    """What the sandbox counted for a key."""
    found: dict[str, Any] = requests.get(f"{sandbox.admin_url}/state", timeout=60).json()[key]
    return found


def stored(sandbox: Sandbox, key: str) -> dict[str, dict[str, Any]]:
    """The sandbox's listings by reference."""
    answer = requests.get(f"{sandbox.admin_url}/listings", params={"key": key}, timeout=60)
    return {row["externalReference"]: row for row in map(json.loads, answer.iter_lines())}


def faults(sandbox: Sandbox, *plans: dict[str, Any]) -> None:
    requests.post(f"{sandbox.admin_url}/faults", json=list(plans), timeout=60).raise_for_status()


def held(path: str, key: str, **more: Any) -> dict[str, Any]:
    """A fault for `faults`: these requests are not answered until `release`, and the state that they leave lasts."""
    return {"kind": "slow", "seconds": HANG_SECONDS, "match": {"path": path, "key": key}, **more}


def release(sandbox: Sandbox) -> None:
    """Remove all faults, and answer the requests that wait."""
    requests.delete(f"{sandbox.admin_url}/faults", timeout=60).raise_for_status()
