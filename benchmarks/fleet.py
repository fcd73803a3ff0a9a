"""Shared by the benchmarks of the engine: Redis and worker processes, and the processor time and memory of each."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from okasie_tasks.client import Client
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.store.records import Run
from okasie_tasks.store.runs import Runs
from tests.support import Place, poll

ALL_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"
NO_LIMIT = "requests_per_minute = 1000000\nburst_per_second = 100000\n"
"""For the sandbox of a benchmark, which has no limit. A marketplace that allows 120 a minute would answer 429."""


class Fleet:
    """Redis, and workers like those of a deployment; ``accounts`` are added to ``place`` before `workers`."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.supervisor = Supervisor(lambda text: print(text, file=sys.stderr))
        self.server = EmbeddedRedis(folder)
        self.server.wait(self.supervisor.add(self.server.child()))
        self.place.env["OKASIE_REDIS__URL"] = self.server.url
        self.client = redis.Redis.from_url(self.server.url)
        self.runs = Runs(self.client, prefix="okasie:")
        self.stages: dict[str, float] = {}
        """The seconds of each stage of the last run, from its record."""

    def child(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        log = self.place.folder / "logs" / f"{name}.log"
        return self.supervisor.add(Child(name, [*argv], log=log, env=dict(env or self.place.env)))

    def ready(self, name: str, argv: Sequence[str], *, seconds: float = 600) -> dict[str, Any]:
        """Start a server that prints one line of JSON when it is ready; returns its document."""
        child = self.child(name, argv)
        poll(lambda: child.last_line().startswith("{") or not child.alive, seconds=seconds, what=name)
        document: dict[str, Any] = json.loads(child.last_line())
        return document

    def worker(self, name: str, *options: str, app: str = "okasie_tasks") -> Child:
        env = {**self.place.env, "OKASIE_CONFIG": str(self.place.config), "PYTHONPATH": str(Path(__file__).parents[1])}
        argv = [
            sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{name}@%h",
            "--without-mingle", "--without-gossip", "-l", "WARNING", *options,
        ]  # fmt: skip
        return self.child(name, argv, env)

    def nodes(self, count: int, *, threads: int = 4) -> list[Child]:
        """Start workers that consume all queues, and wait until they do."""
        nodes = [self.worker(f"w{n}", "-Q", ALL_QUEUES, "-P", "threads", "-c", str(threads)) for n in range(count)]
        poll(lambda: self.place.okasie("status").status == 0, seconds=120, what="a consumer everywhere")
        return nodes

    def sync(self, account: str, mode: str = "full", *, seconds: float = 600) -> tuple[Run, float]:
        """A run from its request to its end, and its wall time in seconds."""
        before = set(self.runs.history(account))
        began = time.perf_counter()
        Client(self.server.url).sync(account, mode)
        deadline = began + seconds
        while (now := time.perf_counter()) < deadline:
            new = [self.runs.get(name) for name in self.runs.history(account, 1) if name not in before]
            if new and new[0] is not None and not new[0].open:
                run = new[0]
                if run.state != "done":
                    raise RuntimeError(f"the run of {account} ended as {run.state}: {run.facts}")
                self.stages = stages(run)
                return run, now - began
            time.sleep(0.02)
        raise RuntimeError(f"the run of {account} did not end within {seconds:g} s")

    def ledger(self, account: str) -> Ledger:
        return Ledger(self.client, prefix="okasie:", account=account)

    def spent(self) -> dict[str, float]:
        """CPU seconds by child, its own children included."""
        return {
            child.name: sum(t.user + t.system for t in (p.cpu_times() for p in tree(child)))
            for child in self.supervisor.children
            if child.process is not None and child.alive
        }

    def memory(self) -> dict[str, int]:
        """Resident bytes by child, its own children included."""
        return {
            child.name: sum(process.memory_info().rss for process in tree(child))
            for child in self.supervisor.children
            if child.process is not None and child.alive
        }

    def redis_bytes(self) -> int:
        return int(self.client.info("memory")["used_memory"])  # type: ignore[index]


def stages(run: Run) -> dict[str, float]:
    """The seconds of each stage of an ended run, by Redis time."""
    begun = {"first": run.started_ms} | {
        name.removeprefix("at:"): int(at) for name, at in run.facts.items() if name.startswith("at:")
    }
    names = sorted(begun, key=begun.__getitem__)
    ends = [*(begun[name] for name in names[1:]), run.ended_ms]
    return {name: (end - begun[name]) / 1000 for name, end in zip(names, ends, strict=True)}


def tree(child: Child) -> list[psutil.Process]:
    assert child.process is not None
    root = psutil.Process(child.process.pid)
    return [root, *root.children(recursive=True)]


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    deployed = Fleet(folder)
    try:
        yield deployed
    finally:
        deployed.supervisor.stop(10)


def machine() -> str:
    """The machine, in one line."""
    model = (
        next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()},"
        f" Python {platform.python_version()}"
    )


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
