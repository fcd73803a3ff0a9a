"""Heartbeat files: whose they are, what happens to those of dead processes, and how fast a probe is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.health import files, systemd
from okasie_tasks.health.files import Heartbeat
from okasie_tasks.health.place import state_dir
from okasie_tasks.settings import load_settings
from tests.health.test_verdict import heartbeat
from tests.support import Place


def alive(**more: Any) -> Heartbeat:
    """A heartbeat of this process, just now."""
    now = time.monotonic()
    facts: dict[str, Any] = {
        "host": socket.gethostname(), "pid": os.getpid(), "started": files.process_started(os.getpid()),
        "written_at": now, "looped_at": now,
    }  # fmt: skip
    return msgspec.structs.replace(heartbeat(), **facts | more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.config.write_text("")
    return place


def folder(place: Place) -> Path:
    return files.folder(place.folder / ".okasie")


def test_health_answers_for_the_workers_of_a_queue(place: Place) -> None:
    files.write(folder(place), alive())
    for options in ([], ["--queue", "okasie.api"], ["--queue", "api"]):
        answer = place.okasie("health", *options)
        assert (answer.status, answer.stdout) == (0, "healthy     api@node: consuming, 0 of 2 slots busy\n")
    missing = place.okasie("health", "--queue", "diff")
    assert missing.status == 5
    assert "no worker of okasie.diff has written a heartbeat" in missing.stdout


def test_a_worker_that_waits_to_migrate_is_alive_and_not_ready(place: Place) -> None:
    files.write(folder(place), alive(state="migrating", waits_for="old@node"))
    answer = place.okasie("health")
    assert (answer.status, answer.stdout) == (
        0,
        "healthy     api@node: migrating, waits for old@node, 0 of 2 slots busy\n",
    )
    answer = place.okasie("health", "--ready")
    assert (answer.status, "does not consume: migrating, waits for old@node" in answer.stdout) == (5, True), answer.text


def test_one_that_is_not_healthy_is_enough(place: Place) -> None:
    files.write(folder(place), alive())
    files.write(folder(place), alive(worker="diff@node", pid=1, started="of another process"))
    document = place.okasie("health", "--json").document
    assert document["healthy"] is False
    assert document["problems"] == ["diff@node, process 1: the process ended without a shutdown"]
    assert place.okasie("health", "--queue", "api").status == 5, "both are of this queue"


def test_a_dead_process_counts_until_it_is_replaced(place: Place) -> None:
    dead = [alive(worker=name, pid=pid, queues=(queue,), started="of another process")
            for name, pid, queue in (("api@node", 1, "okasie.api"), ("x@node", 2, "okasie.diff"), ("y@node", 3, "q"))]  # fmt: skip
    for found in (*dead, alive(worker="z@node")):
        files.write(folder(place), found)
    files.replace_dead(folder(place), "api@node", ("okasie.diff",))
    assert {found.worker for found in files.read(folder(place))} == {"y@node", "z@node"}


def test_files_that_are_no_heartbeat_of_this_machine_are_left_alone(place: Place) -> None:
    files.write(folder(place), alive(host="another-container", written_at=0.0))
    (folder(place) / "broken.json").write_text('{"worker": 1')
    (folder(place) / "deep.json").write_text("[" * 100_000)
    assert list(files.read(folder(place))) == []
    files.write(folder(place), alive())
    old = time.time() - 100_000
    os.utime(folder(place) / "broken.json", (old, old))
    files.replace_dead(folder(place), "api@node", ())
    assert not (folder(place) / "broken.json").exists()
    assert len(list(files.read(folder(place)))) == 1


def test_a_process_is_told_from_another_with_its_number() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        began = files.process_started(child.pid)
        assert began
        assert began != files.process_started(os.getpid())
        child.kill()
    assert files.process_started(child.pid) != began


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("", {}),
        ('[redis]\nstate_dir = "elsewhere"\n', {}),
        ('[redis]\nstate_dir = "/var/lib/okasie"\n', {}),
        ('[redis]\nstate_dir = "elsewhere"\n', {"OKASIE_REDIS__STATE_DIR": "/srv/okasie"}),
        ("", {"OKASIE_REDIS__STATE_DIR": "relative"}),
    ],
)
def test_the_folder_is_that_of_the_configuration(place: Place, text: str, environ: dict[str, str]) -> None:
    place.config.write_text(text)
    assert state_dir(place.config, environ) == load_settings(place.config, environ).redis.state_dir


@pytest.mark.parametrize("text", ["[redis", "[redis]\nstate_dir = 1\n"])
def test_a_configuration_that_is_no_such_thing_is_an_error_of_the_configuration(place: Place, text: str) -> None:
    place.config.write_text(text)
    with pytest.raises(ConfigurationError, match=r"okasie\.toml"):
        state_dir(place.config, {})
    assert place.okasie("health").status == 2


def test_liveness_loads_neither_celery_nor_redis_nor_the_settings(place: Place) -> None:
    """Time is not measured on a busy machine: what takes it is not loaded."""
    files.write(folder(place), alive())
    code = (
        "import sys\nfrom okasie_tasks.cli import main\n"
        "try: main(['health'])\nexcept SystemExit as end: assert end.code == 0\n"
        "import json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules} |"
        " {name for name in sys.modules if name.startswith('okasie_tasks.')})))"
    )
    argv = [sys.executable, "-c", code]
    ran = subprocess.run(argv, cwd=place.folder, env=place.env, capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert not loaded & {
        "celery",
        "kombu",
        "redis",
        "pydantic",
        "psutil",
        "rich",
        "requests",
        "structlog",
        "subprocess",
    }
    assert "okasie_tasks.settings" not in loaded


def test_ready_asks_redis_too(place: Place, redis_url: str) -> None:
    files.write(folder(place), alive())
    assert place.okasie("health", "--ready", env={"OKASIE_REDIS__URL": redis_url}).status == 0
    away = place.okasie("health", "--ready", env={"OKASIE_REDIS__URL": "redis://127.0.0.1:1/0"})
    assert away.status == 5
    assert "UNHEALTHY   redis: " in away.stdout
    files.write(folder(place), alive(state="connecting"))
    assert place.okasie("health").status == 0, "a broker that is away is no reason for a restart"
    assert "does not consume: connecting" in place.okasie(
        "health", "--ready", env={"OKASIE_REDIS__URL": redis_url}
    ).stdout  # fmt: skip


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_gets_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool) -> None:
    address = f"@okasie-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert systemd.notify("READY=1", "STATUS=consuming")
        assert listening.recv(1000) == b"READY=1\nSTATUS=consuming"
    assert systemd.notify("WATCHDOG=1"), "systemd is gone"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not systemd.notify("WATCHDOG=1")
