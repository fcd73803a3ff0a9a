"""A master with two replicas and three sentinels, as real processes on loopback, and the faults that befall them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import redis

from okasie_tasks.local import die_with_parent
from okasie_tasks.local.embedded_redis import find_server

MASTER: Final = "okasie"
PASSWORD: Final = "redis-pw-1234"
SENTINEL_PASSWORD: Final = "sentinel-pw-1234"
DOWN_AFTER_MS: Final = 3000
_START_SECONDS: Final = 60.0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def until(condition: Callable[[], Any], what: str, seconds: float = _START_SECONDS) -> Any:
    """Poll until the condition returns something true, and return it. Errors of Redis count as false."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class SentinelGroup:
    """The processes. ``url``: of the group, for ``redis.url``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(3)
        self.sentinel_ports = free_ports(3)
        self._server = find_server().path
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        self.url = f"sentinel://:{PASSWORD}@{places}/0?master={MASTER}&sentinel_password={SENTINEL_PASSWORD}"

    def start(self) -> None:
        for port in self.ports:
            self.start_server(port, of=None if port == self.ports[0] else self.ports[0])
        until(lambda: self.client(self.ports[0]).info("replication")["connected_slaves"] == 2, "two replicas")
        for port in self.sentinel_ports:
            self._start_sentinel(port)
        until(self.is_whole, "a whole group")

    def start_server(self, port: int, of: int | None = None) -> None:
        home = self.folder / str(port)
        home.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {
            "port": port, "bind": "127.0.0.1", "dir": home, "appendonly": "yes", "appendfsync": "everysec", "save": "",
            "maxmemory-policy": "noeviction", "requirepass": PASSWORD, "masterauth": PASSWORD,
            "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1, "min-replicas-to-write": 0,
        }  # fmt: skip
        argv = [self._server, *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
        self._run(port, argv + (["--replicaof", "127.0.0.1", str(of)] if of else []))

    def _start_sentinel(self, port: int) -> None:
        home = self.folder / str(port)
        home.mkdir(parents=True, exist_ok=True)
        (home / "sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\ndir {home}\nrequirepass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.ports[0]} 2\nsentinel auth-pass {MASTER} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\nsentinel failover-timeout {MASTER} 3000\n"
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
        )
        self._run(port, [self._server, str(home / "sentinel.conf"), "--sentinel"])

    def _run(self, port: int, argv: list[str]) -> None:
        ends_with_us = [sys.executable, die_with_parent.__file__, str(os.getpid()), str(int(signal.SIGKILL))]
        with (self.folder / f"{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen([*ends_with_us, *argv], stdout=log, stderr=log)

    def stop(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(20)

    # -- what it looks like ----------------------------------------------------------------------------------------

    def client(self, port: int) -> redis.Redis:
        """A client of one server, or of one sentinel."""
        password = SENTINEL_PASSWORD if port in self.sentinel_ports else PASSWORD
        return redis.Redis(port=port, password=password, socket_timeout=2, retry=None)

    def master(self) -> int:
        """The port of the master that most sentinels name."""
        named = [self._named(port) for port in self.sentinel_ports]
        return max(set(named), key=named.count)

    def _named(self, port: int) -> int:
        with contextlib.suppress(redis.RedisError), self.client(port) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(MASTER)[1])
        return 0

    def replicas(self) -> list[int]:
        return [port for port in self.ports if port != self.master()]

    def is_whole(self) -> bool:
        """Whether the master has two replicas, in step with it, and every sentinel knows them and the others."""
        master = self.master()
        info: Any = self.client(master).info("replication")
        in_step = [info.get(f"slave{number}", {}).get("state") == "online" for number in range(2)]
        if info["role"] != "master" or not all(in_step):
            return False
        for port in self.sentinel_ports:
            state: Any = self.client(port).sentinel_master(MASTER)
            if (state["port"], state["num-slaves"], state["num-other-sentinels"]) != (master, 2, 2):
                return False
            if state["is_sdown"] or state["is_odown"]:
                return False
        return True

    # -- faults ----------------------------------------------------------------------------------------------------

    def signal(self, port: int, number: signal.Signals) -> None:
        self._processes[port].send_signal(number)
        if number is signal.SIGKILL:
            self._processes[port].wait(20)

    def cut_off_replicas(self) -> None:
        """From now on the replicas miss what the master writes. If it dies, those writes are lost."""
        for port in self.replicas():
            self.client(port).config_set("masterauth", "cut-off")
        self.client(self.master()).execute_command("CLIENT", "KILL", "TYPE", "replica")

    def reconnect_replicas(self) -> None:
        for port in self.ports:
            with contextlib.suppress(redis.RedisError):
                self.client(port).config_set("masterauth", PASSWORD)

    def failed_over(self, old: int, seconds: float = 60) -> int:
        """Wait until another server than ``old`` is the master of most sentinels, and accepts writes; its port."""

        def found() -> int:
            port = self.master()
            return port if port not in (0, old) and self.client(port).info("replication")["role"] == "master" else 0

        return int(until(found, "a new master", seconds))

    def restart(self, port: int) -> None:
        """Start a killed server again, as a replica of the present master."""
        self.start_server(port, of=self.master())
        until(self.is_whole, "a whole group after a restart", 90)


@contextlib.contextmanager
def sentinel_group() -> Iterator[SentinelGroup]:
    folder = Path(tempfile.mkdtemp(prefix="ot-sentinel-"))
    group = SentinelGroup(folder)
    try:
        group.start()
        yield group
    finally:
        group.stop()
        shutil.rmtree(folder, ignore_errors=True)
