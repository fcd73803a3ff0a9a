"""A deployment to be broken: Redis, workers and Beat of its own as ``okasie up`` starts them, and a sandbox that counts.

One fleet plays many rounds, each with an account of its own, so that what a round leaves behind meets the next one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil
import redis

from okasie_tasks.client import Client
from okasie_tasks.local import fleet as local
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.limits import Quota, QuotaDecision
from okasie_tasks.settings import load_settings
from okasie_tasks.store.connections import connect
from okasie_tasks.store.outbox import Outbox
from okasie_tasks.store.records import Run
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.urgent_queue import UrgentQueue
from tests.support import Place, poll

PER_MINUTE = 600
"""High enough for a round of seconds, low enough that it is reached."""
PER_SECOND = 20
RESTART_SECONDS = (0.5, 2.0)
WORKERS = ("control", "urgent", "api", "api2", "diff")
_QUEUES = ("okasie.control", "okasie.urgent", "okasie.api", "okasie.diff")

QUICK = """\
from okasie_tasks.store import write_locks
from okasie_tasks.worker.settings import SETTINGS

broker_transport_options = {**SETTINGS["broker_transport_options"], "visibility_timeout": 4, "unacked_restore_interval": 1}
okasie_watchdog_seconds = 1.0
okasie_stalled_seconds = 4.0
write_locks.LEASE_SECONDS, write_locks._RENEW_SECONDS = 8.0, 2.5
"""
"""The same machinery with shorter waits, for a sample that must not take long."""
USUAL = """\
from okasie_tasks.worker.settings import SETTINGS

broker_transport_options = {**SETTINGS["broker_transport_options"], "visibility_timeout": 30}
"""


class Counting(Quota):
    """A quota that tells its own refusals from those that a fault makes up."""

    asked = 0
    overrun = 0

    def take(self, now: float) -> QuotaDecision:
        verdict = super().take(now)
        self.asked += 1
        self.overrun += not verdict.allowed
        return verdict


class Process(Child):
    """A child that starts in a folder of its own and can tell whether it has come up since it was started."""

    def __init__(self, name: str, argv: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> None:
        # Beat gives its lock up on SIGTERM only, as `okasie up` starts it.
        death = signal.SIGTERM if name == "beat" else signal.SIGKILL
        super().__init__(name, argv, log=folder / f"{name}.log", env=env, death_signal=death)
        self._folder, self._from = folder, 0

    def start(self) -> None:
        self._from = self.log.stat().st_size if self.log.exists() else 0
        super().start()

    def _spawn(self, argv: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, process_group=0, cwd=self._folder
        )

    @property
    def ready(self) -> bool:
        with self.log.open("rb") as file:
            file.seek(self._from)
            return self.alive and (b" ready." in file.read() or self.name == "beat")


class Fleet:
    """``quick``: with the settings of `QUICK`; ``more``: lines after them. Use as a context manager.

    ``limits``: requests per minute and per second of each account; ``extra``: more lines of its configuration.
    """

    def __init__(
        self,
        accounts: Sequence[str],
        *,
        quick: bool,
        more: str = "",
        say: Any = lambda _: None,
        limits: tuple[int, int] = (PER_MINUTE, PER_SECOND),
        extra: str = "",
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.quick, self._more = quick, more
        self._per_minute, self._per_second = limits
        self._extra = extra
        self.place = Place(self.folder)
        self.supervisor = Supervisor(say)
        self.children: dict[str, Child] = {}
        self._accounts = accounts
        self._exit = contextlib.ExitStack()
        self._look = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Fleet:
        with contextlib.ExitStack() as starting:
            keys = [Key(f"key-{name}", name) for name in self._accounts]
            self.sandbox = starting.enter_context(
                Sandbox(keys, limit=self._per_minute, burst_per_second=self._per_second, window="sliding")
            )
            self.quotas = {name: Counting(self._per_minute, "sliding", self._per_second) for name in self._accounts}
            self.sandbox.quotas.update(self.quotas)
            starting.callback(self.supervisor.stop, 3)
            self._start()
            starting.callback(self._over.set)
            self._exit = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join()
        for child in self.supervisor.children:
            signal_tree(child, signal.SIGCONT)
        self._exit.close()

    def serve(self) -> str:
        """Start Redis, and return its address."""
        server = EmbeddedRedis(self.folder)
        child = server.child()
        if int(server.server.version.split(".")[0]) >= 7:
            child.argv += ["--enable-debug-command", "yes"]
        self.children["redis"] = self.supervisor.add(child)
        server.wait(child)
        return server.url

    def _start(self) -> None:
        self.url = self.serve()
        self._configure()
        celery = [sys.executable, "-m", "celery", "-A", "okasie_tasks"]
        for name in WORKERS:
            options = local.WORKERS[name.removesuffix("2")]  # the very workers of `okasie up`
            self._add(name, [*celery, "worker", "-n", f"{name}@%h", *options, *_QUIET])
        self._add("beat", [*celery, "beat", "-l", "INFO"])
        self.redis = connect(self.url, socket_timeout=5)
        self.settings = load_settings(self.place.config, self.place.env)
        self.runs = Runs(self.redis, prefix=self.settings.redis.key_prefix)
        self.outbox = Outbox(self.redis, prefix=self.settings.redis.key_prefix)
        self.client = Client(self.url)
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()
        self.whole(seconds=120)

    def _configure(self) -> None:
        for name in self._accounts:
            extra = f"requests_per_minute = {self._per_minute}\nburst_per_second = {self._per_second}\n{self._extra}\n"
            feed = f"{name}.csv"
            self.place.env[f"OKASIE_ACCOUNTS__{name.upper()}__GUARD__MAX_PRICE_CHANGE_PERCENT"] = "off"
            self.place.account(name, feed=feed, base_url=self.sandbox.base_url, key=f"key-{name}", extra=extra)
        (self.folder / "celeryconfig.py").write_text((QUICK if self.quick else USUAL) + self._more)
        root = str(Path(__file__).parents[2])
        self.place.env |= {
            "OKASIE_REDIS__URL": self.url,
            "OKASIE_CONFIG": str(self.place.config),
            "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        }

    def _add(self, name: str, argv: list[str]) -> None:
        self.children[name] = self.supervisor.add(Process(name, argv, folder=self.folder, env=self.place.env))

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            with self._look:
                self.supervisor.restart_ended()

    # -- breaking and mending --------------------------------------------------------------------------------------

    def kill(self, name: str, *, back_after: float | None) -> None:
        """SIGKILL a process and all its children; the supervisor starts it again after so long, or not before `restart_all`."""
        child = self.children[name]
        with self._look:
            signal_tree(child, signal.SIGKILL)
            if child.process is not None:
                child.process.wait()
            child.restart_at = time.monotonic() + (1e9 if back_after is None else back_after)

    def restart_all(self) -> None:
        """Start what stays down."""
        with self._look:
            for child in self.supervisor.children:
                child.failures = 0
                if child.restart_at is not None:
                    child.restart_at = time.monotonic()

    def whole(self, *, seconds: float = 60.0) -> None:
        """Wait until every process is up."""
        workers = [child for child in self.supervisor.children if isinstance(child, Process)]
        poll(lambda: all(child.ready for child in workers), seconds=seconds, what="all workers up")

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.redis.ping())
        return False

    # -- looking ---------------------------------------------------------------------------------------------------

    def urgent_queue(self, account: str) -> UrgentQueue:
        return UrgentQueue(self.redis, prefix=self.settings.redis.key_prefix, account=account)

    def history(self, account: str) -> list[Run]:
        """All runs of the account, oldest first."""
        found = [self.runs.get(run) for run in reversed(self.runs.history(account))]
        return [run for run in found if run is not None]

    def at_rest(self, account: str) -> bool:
        """Whether nothing that was asked for is still to be done.

        Looks in the order in which work moves on, so that what moves between two looks is seen at the second.
        """
        if self.redis.exists(f"{self.settings.redis.key_prefix}outbox"):
            return False
        if self.urgent_queue(account).count() > 0 or self.runs.waiting(account) is not None:
            return False
        active = self.runs.active(account)
        return active is None or self.runs.state(active) != "running"

    def messages(self) -> dict[str, int]:
        """Messages in the queues, and those that a worker has or had."""
        found = {name: int(self.redis.llen(name)) for name in _QUEUES}
        found["unacked"] = int(self.redis.hlen("unacked"))
        return {name: count for name, count in found.items() if count}


_QUIET = ["--without-mingle", "--without-gossip", "-l", "INFO"]


def signal_tree(child: Child, number: signal.Signals) -> None:
    """Signal a child and all of its own children."""
    for process in tree(child):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            process.send_signal(number)


def tree(child: Child) -> Iterator[psutil.Process]:
    if child.process is not None:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(child.process.pid)
            yield root
            yield from root.children(recursive=True)
