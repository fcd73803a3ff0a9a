"""Each command of docker-compose.yml and of deploy/kubernetes, as it is written there, on this machine.

What differs: ports are free ones, ``valkey-server`` is the bundled binary, /run/secrets is a folder, and what a container
would be is a process with only the variables that its service has. Prometheus and Grafana are images of others and were
not run.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from okasie_tasks.cli import COMMANDS
from okasie_tasks.local.embedded_redis import find_server
from okasie_tasks.local.fleet import reserved_port
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, poll
from tests.test_compose import OURS, SERVICES
from tests.test_kubernetes import KINDS, WORKERS, container, manifests

pytestmark = [pytest.mark.system, pytest.mark.slow]

BIN = Path(sys.executable).parent
KEY = "sandbox-key"
_PORT = re.compile(r"\b(8100|8101|8600|5555|9810)\b")


class Containers:
    """The services of a deployment, as processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.place, self._supervisor = Place(folder), Supervisor(print)
        self._held = contextlib.ExitStack()
        # 8101: the relay, which has the loopback of another container.
        self.ports = {
            name: self._held.enter_context(reserved_port(10_000 + int(name)))
            for name in ("6379", "8100", "8101", "8600", "5555", "9810")
        }
        self.redis_url = f"redis://127.0.0.1:{self.ports['6379']}/0"
        self.place.env |= {"OKASIE_REDIS__URL": self.redis_url, "OKASIE_CONFIG": str(self.place.config)}

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], user: Sequence[str] = ()) -> Child:
        """Start a command with these variables besides those of every service. ``user``: a program that changes it."""
        argv = [self._here(word) for word in command]
        program = find_server().path if argv[0] == "valkey-server" else BIN / argv[0]
        more = ["--port", str(self.ports["6379"]), "--dir", str(self.place.folder)] if name == "redis" else []
        own = {k: v for k, v in self.place.env.items() if not k.startswith(("KEY_", "OKASIE_API"))}
        child = Child(
            name,
            [*user, str(program), *argv[1:], *more],
            log=self.place.folder / f"{name}.log",
            env=own | {variable: self._here(value) for variable, value in env.items()},
            stop_last=name == "redis",
        )
        return self._supervisor.add(child)

    def _here(self, text: str) -> str:
        found = _PORT.sub(lambda match: str(self.ports[match[1]]), re.sub("^api:", "127.0.0.1:", text))
        return found.replace("/run/secrets", str(self.place.folder / "secrets"))

    def probe(self, name: str, command: Sequence[str]) -> int:
        """The exit status of an ``exec`` probe, run as the service ``name`` would."""
        argv = [str(BIN / command[0]), *(self._here(word) for word in command[1:])]
        return subprocess.run(argv, env=self.place.env, timeout=300, check=False, capture_output=True).returncode

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def dead(self) -> list[str]:
        return [f"{child.name}: {child.last_line()}" for child in self._supervisor.children if not child.alive]

    def log(self, name: str) -> str:
        return (self.place.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        self._supervisor.stop(30)
        self._held.close()


def _filled(command: str) -> str:
    """``${NAME:-default}`` where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command)


def any_user() -> list[str]:
    """A program that runs another one as a user without an entry in /etc/passwd, as a cluster may; else nothing."""
    argv = [shutil.which("unshare") or "unshare", "--user", "--map-user=12345", "--map-group=0"]
    with contextlib.suppress(OSError):
        if subprocess.run([*argv, "true"], capture_output=True, timeout=60, check=False).returncode == 0:
            return argv
    return []


def _command(service: Mapping[str, Any]) -> list[str]:
    command = service["command"]
    return command if isinstance(command, list) else shlex.split(_filled(command))


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    found = Containers(tmp_path)
    write_csv(tmp_path / "dex.csv", cars(300, seed=1))
    try:
        yield found
    finally:
        found.stop()


def built(names: Iterator[str]) -> list[str]:
    """Those whose command this release has."""
    return [name for name in names if name != "web" or "web" in COMMANDS]


def let_in(place: Place, token: str) -> None:
    """A token for web, without which it listens on loopback only."""
    if "web" in COMMANDS:
        text = f'[web]\npublic_url = "https://sync.example"\n[web.tokens.dms]\ntoken = "{token}"\n'
        place.config.write_text(place.config.read_text() + text)


def works(containers: Containers) -> None:
    """A full run, Flower behind its login, metrics, Beat, and nothing that ended."""
    place = containers.place
    poll(lambda: place.okasie("status").status == 0, what="a consumer for every queue")
    status, document = place.sync("dex", "--full")
    assert (status, document["state"], document["listings"]["created"]) == (0, "done", 300)
    flower = f"{containers.url('5555')}/tasks"
    poll(lambda: _status(flower) == 401, what="Flower asking for a password")
    page = requests.get(flower, auth=("me", "a-long-password"), timeout=60)
    assert (page.status_code, "Result" in page.text) == (200, True)
    told = requests.get(f"{containers.url('9810')}/metrics", timeout=60).text
    assert 'okasie_requests_total{account="dex"' in told
    assert "beat: Starting" in containers.log("beat")
    assert containers.dead() == []


def test_every_service_of_the_compose_file_runs_as_it_is_written(containers: Containers) -> None:
    base = f"{containers.url('8100')}/api/external/v1"
    containers.place.account("dex", feed="dex.csv", base_url=base, key="env:OKASIE_API_KEY")
    let_in(containers.place, "env:OKASIE_WEB_TOKEN")
    for name in ("redis", *built(iter(OURS))):
        env = SERVICES[name].get("environment") or {}
        given = {
            "OKASIE_API_KEY": KEY,
            "FLOWER_BASIC_AUTH": "me:a-long-password",
            "OKASIE_WEB__LISTEN": "0.0.0.0:8600",
            "OKASIE_WEB_TOKEN": "a-long-token-of-32-characters-and-more",
        }
        command = _command(SERVICES[name])
        if name == "sandbox-urgent":
            command[command.index("8100")] = "8101"
        containers.start(name, command, {k: v for k, v in given.items() if k in env})
    works(containers)
    relayed = f"{containers.url('8101')}/api/external/v1/listings"
    assert requests.get(relayed, headers={"X-API-Key": KEY}, timeout=60).json()["pagination"]["totalItems"] == 300
    if "health" in COMMANDS:
        for name in WORKERS:
            assert containers.probe(name, SERVICES[name]["healthcheck"]["test"][1:]) == 0


def test_every_pod_of_the_manifests_runs_as_it_is_written(containers: Containers) -> None:
    base = f"{containers.url('8100')}/api/external/v1"
    for secret, text in {
        "redis/url": containers.redis_url,
        "okasie/dex": KEY,
        "web/dms": "a-long-token-of-32-characters-and-more",
        "flower/flowerconfig.py": 'basic_auth = ["me:a-long-password"]\n',
    }.items():
        file = containers.place.folder / "secrets" / secret
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    key = f"file:{containers.place.folder / 'secrets' / 'okasie' / 'dex'}"
    containers.place.account("dex", feed="dex.csv", base_url=base, key=key)
    let_in(containers.place, f"file:{containers.place.folder / 'secrets' / 'web' / 'dms'}")
    containers.start("redis", _command(SERVICES["redis"]), {})
    containers.start("sandbox", ["okasie", "sandbox", "--port", "8100", "--key", KEY], {})
    common = {"OKASIE_REDIS__URL": "file:/run/secrets/redis/url"}
    for name in built(iter(KINDS)):
        found = container(manifests(name)["Deployment"])
        own = {variable["name"]: variable["value"] for variable in found.get("env", ())}
        containers.start(name, found["command"], common | own, any_user())
    works(containers)
    assert _status(f"{containers.url('5555')}/healthcheck") == 200, "the probe has no login"
    if "health" in COMMANDS:
        for name in WORKERS:
            found = container(manifests(name)["Deployment"])
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert containers.probe(name, found[probe]["exec"]["command"]) == 0
    if "web" in COMMANDS:
        poll(lambda: _status(f"{containers.url('8600')}/readyz") == 200, what="web that is ready")
        assert _status(f"{containers.url('8600')}/healthz") == 200


def _status(url: str) -> int:
    try:
        return requests.get(url, timeout=60).status_code
    except requests.ConnectionError:
        return 0
