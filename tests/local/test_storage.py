"""A full disk: `okasie up` names the path, and a running one goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.errors import StorageFailed
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.fleet import LocalFleet
from okasie_tasks.local.storage import check_writable
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.store.redis_problems import redis_problem
from tests.support import OKASIE, Place


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own. Only root can mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    mounted = (
        mount and not subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], check=False).returncode
    )
    if not mounted:
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_full_disk_is_named_and_nothing_is_left_on_it(disk: Path) -> None:
    check_writable(disk / "state")
    fill(disk)
    with pytest.raises(StorageFailed, match="No space left") as caught:
        check_writable(disk / "state")
    assert caught.value.where is not None
    assert caught.value.where.startswith(str(disk / "state"))
    assert list((disk / "state").iterdir()) == []


def test_up_on_a_full_disk_names_the_path(disk: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.config.write_text(f'[redis]\nstate_dir = "{disk}/state"\n')
    (disk / "state").mkdir()
    fill(disk)
    answer = place.okasie("up")
    assert answer.status == 1, answer
    assert f"{disk}/state" in answer.stderr
    assert "No space left on device" in answer.stderr
    assert "bug" not in answer.stderr


@pytest.mark.parametrize("redis_is", ["embedded", "elsewhere"])
def test_up_that_may_not_write_enough_names_the_path(tmp_path: Path, redis_url: str, redis_is: str) -> None:
    place = Place(tmp_path)
    url = f'url = "{redis_url}"\n' if redis_is == "elsewhere" else ""
    place.config.write_text(f'[redis]\nstate_dir = "state"\n{url}')
    command = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *OKASIE, "up"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=place.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1, ended
    assert f"{tmp_path / 'state'}" in ended.stderr
    assert "File too large" in ended.stderr
    assert "bug" not in ended.stderr


def test_redis_on_a_full_disk_is_named_as_such(disk: Path) -> None:
    server, supervisor = EmbeddedRedis(disk / "state"), Supervisor(print)
    try:
        server.wait(supervisor.add(server.child()))
        with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ResponseError) as caught:
            fill(disk)
            for number in range(200_000):
                client.set(f"key-{number}", os.urandom(512))
        assert "cannot save to its disk" in redis_problem(caught.value).message
    finally:
        supervisor.stop(5)


def test_a_running_fleet_reports_once_what_cannot_be_written_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "okasie.toml").write_text("")
    lines: list[str] = []
    fleet = LocalFleet(tmp_path / "okasie.toml", lines.append)
    (tmp_path / "logs").write_text("a file where a folder is needed")
    child = Child("worker", ["true"], log=tmp_path / "logs" / "worker.log")
    child.restart_at = 0.0
    fleet._supervisor.children.append(child)
    looks = iter((False, False, False, True))
    fleet.watch(lambda _: next(looks))
    assert len(lines) == 1, lines
    assert str(tmp_path / "logs") in lines[0]
