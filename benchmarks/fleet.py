"""Shared by the benchmarks of the engine: Redis and worker processes, and the processor time and memory of each."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock
from okasie_tasks.client import Client
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.redis_url import read_record
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.store.records import Run
from okasie_tasks.store.runs import Runs
from tests.support import Place, Up, poll

ALL_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"
_IDLE_SECONDS = 0.04
"""Of CPU in half a second, of a deployment that idles."""
NO_LIMIT = "requests_per_minute = 1000000\nburst_per_second = 100000\n"
"""For the sandbox of a benchmark, which has no limit. A marketplace that allows 120 a minute would answer 429."""


class Deployed:
    """A deployment that is measured: its runs, and what its processes use. Servers beside it are not part of it."""

    client: redis.Redis
    runs: Runs

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.supervisor, self._servers = Supervisor(_say), Supervisor(_say)
        self.stages: dict[str, float] = {}
        """The seconds of each stage of the last run, from its record."""

    def connect(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.runs = Runs(self.client, prefix="okasie:")

    def ready(self, name: str, argv: Sequence[str], *, seconds: float = 600) -> dict[str, Any]:
        """Start a server that prints one line of JSON when it is ready; returns its document."""
        log = self.place.folder / "logs" / f"{name}.log"
        child = self._servers.add(Child(name, [*argv], log=log, env=self.place.env))
        poll(lambda: child.last_line().startswith("{") or not child.alive, seconds=seconds, what=name)
        document: dict[str, Any] = json.loads(child.last_line())
        return document

    def pages(self, rows: int, *options: str) -> str:
        """Start the marketplace of `pages`; returns its address."""
        script = str(Path(__file__).with_name("pages.py"))
        argv = [sys.executable, script, str(rows), str(self.place.folder), *options]
        address: str = self.ready("pages", argv)["base_url"]
        return address

    def account(self, name: str, *, feed: str, base_url: str, key: str, extra: str = NO_LIMIT) -> None:
        """Add an account that reads a feed of `stock`; before the deployment starts."""
        with self.place.config.open("a") as file:
            file.write(stock.account_text(name, feed, base_url, key, extra))

    def sync(self, account: str, mode: str = "full", *, seconds: float = 1_800) -> tuple[Run, float]:
        """A run from its request to its end, and its wall time in seconds."""
        before = set(self.runs.history(account))
        began = time.perf_counter()
        Client(self.url).sync(account, mode)
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

    def stop(self) -> None:
        self.supervisor.stop(10)
        self._servers.stop(10)

    def ledger(self, account: str) -> Ledger:
        return Ledger(self.client, prefix="okasie:", account=account)

    def redis_bytes(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Its processes by the name of the child that started them."""
        raise NotImplementedError

    def spent(self) -> dict[str, float]:
        """CPU seconds by child: its own, those of its children, and of children that have ended."""
        return {name: sum(map(_spent, found)) for name, found in self.processes().items()}

    def served(self) -> float:
        """CPU seconds of the servers beside it."""
        return sum(_spent(psutil.Process(child.process.pid)) for child in self._servers.children if child.process)

    def memory(self, of: Callable[[Iterable[int]], int] = sum) -> dict[str, int]:
        """Resident bytes by child, its own children included; with ``max``, those of the largest process of each."""
        return {name: of([process.memory_info().rss for process in found]) for name, found in self.processes().items()}

    def copy_account(self, name: str, others: Iterable[str]) -> None:
        """Give other accounts the ledger of this one, and what else it keeps."""
        keys = [key.decode().split(":") for key in self.client.scan_iter(match=f"okasie:*:{name}*", count=1000)]
        pipe = self.client.pipeline(transaction=False)
        for parts in keys:
            if name in parts and parts[-1] not in ("runs", "metrics") and self.client.ttl(":".join(parts)) < 0:
                for other in others:
                    pipe.copy(":".join(parts), ":".join(other if part == name else part for part in parts))
        pipe.execute()

    def kept(self) -> dict[str, int]:
        """Bytes of the keys in Redis that do not expire, by the kind of key."""
        found: Counter[str] = Counter()
        for key in self.client.scan_iter(match="okasie:*", count=1000):
            if self.client.ttl(key) < 0:
                found[key.split(b":")[1].decode()] += self.client.memory_usage(key, samples=0) or 0
        return dict(found)

    def settle(self) -> None:
        """Wait until it idles: nothing of what ended or started before is counted as part of what comes."""
        before = sum(self.spent().values())
        for _ in range(240):
            time.sleep(0.5)
            now = sum(self.spent().values())
            if now - before < _IDLE_SECONDS:
                return
            before = now


class Fleet(Deployed):
    """Redis, and workers of a benchmark's own choice; accounts are added to ``place`` before the workers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = EmbeddedRedis(folder)
        self.server.wait(self.supervisor.add(self.server.child()))
        self.place.env["OKASIE_REDIS__URL"] = self.server.url
        self.connect(self.server.url)

    def child(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        log = self.place.folder / "logs" / f"{name}.log"
        return self.supervisor.add(Child(name, [*argv], log=log, env=dict(env or self.place.env)))

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

    def processes(self) -> dict[str, list[psutil.Process]]:
        return {
            child.name: tree(child.process.pid)
            for child in self.supervisor.children
            if child.process is not None and child.alive
        }


class Default(Deployed):
    """What a user gets: ``okasie up``, with every process that it starts. Accounts are added to ``place`` before."""

    def __enter__(self) -> Default:
        try:
            self._up = Up(self.place).__enter__()
        except BaseException:
            self.stop()
            raise
        record = read_record(load_settings(self.place.config).redis.state_dir)
        assert record is not None
        self.connect(record.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._up.__exit__()
        self.stop()

    def processes(self) -> dict[str, list[psutil.Process]]:
        root = self._up.process.pid
        found = {"up": [psutil.Process(root)]}
        for child in psutil.Process(root).children():
            with suppress(psutil.NoSuchProcess):
                found[_name(child.cmdline())] = tree(child.pid)
        return found

    def reload(self) -> None:
        """Restart its workers and Beat with the configuration as it is now."""

        def workers() -> set[int]:
            return {found[0].pid for name, found in self.processes().items() if name not in ("up", "redis", "flower")}

        before = workers()
        self._up.process.send_signal(signal.SIGHUP)
        poll(lambda: len(workers()) == len(before) and not workers() & before, what="restarted workers")
        poll(lambda: self.place.okasie("status").status == 0, what="a consumer everywhere")
        self.settle()


def _name(argv: Sequence[str]) -> str:
    """Of a process of `okasie up`: that of the worker, else of the program."""
    if "-n" in argv:
        return argv[argv.index("-n") + 1].partition("@")[0]
    return next((name for name in ("beat", "flower", "web") if name in argv), "redis")


def _spent(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def stages(run: Run) -> dict[str, float]:
    """The seconds of each stage of an ended run, by Redis time."""
    begun = {"first": run.started_ms} | {
        name.removeprefix("at:"): int(at) for name, at in run.facts.items() if name.startswith("at:")
    }
    names = sorted(begun, key=begun.__getitem__)
    ends = [*(begun[name] for name in names[1:]), run.ended_ms]
    return {name: (end - begun[name]) / 1000 for name, end in zip(names, ends, strict=True)}


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    deployed = Fleet(folder)
    try:
        yield deployed
    finally:
        deployed.stop()


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder; ``OB_KEEP`` in the environment keeps it. SIGTERM ends the benchmark in order."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        yield folder
    finally:
        if "OB_KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)


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
