"""A fleet whose workers can be made to hang, each in its own way, and the verdicts on them."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from okasie_tasks.health import files
from okasie_tasks.health.verdict import problems
from tests.chaos.fleet import Fleet

HUNG = "hung"
"""An account whose source hangs in a push's read, for longer than the read may take."""
READ_SECONDS = 1
_LOSES = """
import threading, time
from pathlib import Path
from celery.signals import worker_ready

def _lose(consumer, node=None):
    # What a reconnect behind the poller's back leaves: the socket counts as registered, and the loop never reads it.
    cycle = consumer.connection.transport.cycle
    channel = consumer.task_consumer.channel
    fd = channel.client.connection._sock.fileno()
    cycle._fd_to_chan.pop(fd, None)
    consumer.hub.remove(fd)

@worker_ready.connect(weak=False)
def _begin(sender=None, **_):
    trigger = Path(f"lose-{sender.hostname.partition('@')[0]}")
    def watch():
        while not trigger.exists():
            time.sleep(0.1)
        trigger.unlink()
        sender.hub.call_soon(_lose, sender)
    threading.Thread(target=watch, daemon=True).start()
"""
_PLUGIN = """
import time

class Hanging:
    def __init__(self, account):
        pass

    def read(self):
        time.sleep(100_000)
        yield {}
"""


class HealthFleet(Fleet):
    """As `Fleet`, with the account `HUNG`, and workers that lose their subscription on request."""

    def __init__(self, accounts: Sequence[str] = (), **more: Any) -> None:
        super().__init__(accounts, quick=True, more=_LOSES, **more)

    def _configure(self) -> None:
        self.place.config.write_text("")
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notified.bind(str(self.folder / "notify"))
        self.place.env["NOTIFY_SOCKET"] = str(self.folder / "notify")
        super()._configure()
        plugins = self.folder / "plugins"
        metadata = plugins / "hanging-1.dist-info"
        metadata.mkdir(parents=True)
        (plugins / "hanging.py").write_text(_PLUGIN)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text("[okasie_tasks.sources]\nhanging = hanging:Hanging\n")
        self.place.env["PYTHONPATH"] = os.pathsep.join((str(plugins), self.place.env["PYTHONPATH"]))
        with self.place.config.open("a") as config:
            config.write(
                f'[accounts.{HUNG}]\napi_key = "a-key"\nbase_url = "{self.sandbox.base_url}"\n'
                f'incremental_every = "off"\nfull_at = "off"\n[accounts.{HUNG}.source]\ntype = "python:hanging"\n'
                f'reference = "stock_no"\npush_read_seconds = {READ_SECONDS}\n'
            )

    def notifications(self) -> Iterator[str]:
        """What the workers have sent to systemd since the last call."""
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self._notified.recv(10_000).decode()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._notified.close()

    def lose_subscription(self, name: str) -> None:
        (self.folder / f"lose-{name}").touch()

    def verdicts(self) -> Iterator[tuple[str, list[str]]]:
        """Each worker with its problems, as ``okasie health`` sees them."""
        now = time.monotonic()
        for found in self._heartbeats():
            wrong = list(problems(found, now)) if files.runs(found) else ["dead"]
            yield found.worker.partition("@")[0], wrong

    def busy(self) -> int:
        """How many slots work."""
        return sum(len(found.slots) for found in self._heartbeats())

    def _heartbeats(self) -> Iterator[files.Heartbeat]:
        return files.read(files.folder(Path(self.settings.redis.state_dir)))
