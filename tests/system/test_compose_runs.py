"""Each command of docker-compose.yml, as it is written there, on this machine.

What differs: ports are free ones, ``valkey-server`` is the bundled binary, and what a container would be is a process with
only the variables that its service has. Prometheus and Grafana are images of others and were not run.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from okasie_tasks.local.embedded_redis import find_server
from okasie_tasks.local.fleet import reserved_port
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, poll
from tests.test_compose import OURS, SERVICES

pytestmark = [pytest.mark.system, pytest.mark.slow]

BIN = Path(sys.executable).parent
KEY = "sandbox-key"


class Compose:
    """The services, as processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.place, self._supervisor = Place(folder), Supervisor(print)
        self._held = contextlib.ExitStack()
        self.ports = {
            name: self._held.enter_context(reserved_port(start))
            for name, start in (("redis", 16379), ("8100", 18100), ("5555", 15555), ("9810", 19810))
        }
        self.place.env["OKASIE_REDIS__URL"] = f"redis://127.0.0.1:{self.ports['redis']}/0"
        self.place.env["OKASIE_CONFIG"] = str(self.place.config)

    def start(self, name: str) -> Child:
        service = SERVICES[name]
        command = (
            service["command"] if isinstance(service["command"], list) else shlex.split(_filled(service["command"]))
        )
        argv = [
            re.sub(r"^(--port=)?(8100|5555|9810)$", lambda m: f"{m[1] or ''}{self.ports[m[2]]}", word)
            for word in command
        ]
        program = find_server().path if argv[0] == "valkey-server" else BIN / argv[0]
        more = ["--port", str(self.ports["redis"]), "--dir", str(self.place.folder)] if name == "redis" else []
        env = {k: v for k, v in self.place.env.items() if not k.startswith(("KEY_", "OKASIE_API"))}
        if "OKASIE_API_KEY" in (service.get("environment") or {}):
            env["OKASIE_API_KEY"] = KEY
        if name == "flower":
            env["FLOWER_BASIC_AUTH"] = "me:a-long-password"
        child = Child(
            name,
            [str(program), *argv[1:], *more],
            log=self.place.folder / f"{name}.log",
            env=env,
            stop_last=name == "redis",
        )
        return self._supervisor.add(child)

    def dead(self) -> list[str]:
        return [f"{child.name}: {child.last_line()}" for child in self._supervisor.children if not child.alive]

    def stop(self) -> None:
        self._supervisor.stop(30)
        self._held.close()


def _filled(command: str) -> str:
    """``${NAME:-default}`` where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command)


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    found = Compose(tmp_path)
    write_csv(tmp_path / "dex.csv", cars(300, seed=1))
    base = f"http://127.0.0.1:{found.ports['8100']}/api/external/v1"
    found.place.account("dex", feed="dex.csv", base_url=base, key="env:OKASIE_API_KEY")
    try:
        yield found
    finally:
        found.stop()


def test_every_service_of_ours_runs_as_it_is_written(compose: Compose) -> None:
    started = [compose.start(name) for name in ("redis", *OURS)]
    assert {child.name for child in started} == set(SERVICES) - {"prometheus", "grafana"}
    poll(lambda: compose.place.okasie("status").status == 0, what="a consumer for every queue")
    status, document = compose.place.sync("dex", "--full")
    assert (status, document["state"], document["listings"]["created"]) == (0, "done", 300)
    flower = f"http://127.0.0.1:{compose.ports['5555']}/tasks"
    poll(lambda: _status(flower) == 401, what="Flower asking for a password")
    page = requests.get(flower, auth=("me", "a-long-password"), timeout=60)
    assert (page.status_code, "Result" in page.text) == (200, True)
    told = requests.get(f"http://127.0.0.1:{compose.ports['9810']}/metrics", timeout=60).text
    assert 'okasie_requests_total{account="dex"' in told
    assert "beat: Starting" in (compose.place.folder / "beat.log").read_text()
    assert compose.dead() == []


def _status(url: str) -> int:
    try:
        return requests.get(url, timeout=60).status_code
    except requests.ConnectionError:
        return 0
