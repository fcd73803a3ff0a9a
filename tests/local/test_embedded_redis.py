"""The embedded server: where it is found, how it is configured, and that its folder has one owner."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.local import embedded_redis
from okasie_tasks.local.embedded_redis import EmbeddedRedis, find_server, locked
from okasie_tasks.local.supervisor import Supervisor
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.redis_url import find_embedded, redis_url, redis_urls


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://h:1/2", "rediss://h:1/2?ssl_cert_reqs=required"),
        ("rediss://h:1/2?ssl_cert_reqs=none", "rediss://h:1/2?ssl_cert_reqs=none"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
        ("unix://:pw@/run/r.sock?db=3", "redis+socket://:pw@/run/r.sock?virtual_host=3"),
    ],
)
def test_each_library_gets_the_address_in_its_own_spelling(url: str, broker: str) -> None:
    urls = redis_urls(url)
    assert (urls.broker, urls.backend) == (broker, broker.removeprefix("redis+"))


@pytest.mark.parametrize("url", ["amqp://h", "redis", "unix://", "http://user:pw@h/"])
def test_an_address_of_something_else_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        redis_urls(url)
    assert "redis.url" in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ot-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def started(folder: Path) -> tuple[EmbeddedRedis, Supervisor]:
    server, supervisor = EmbeddedRedis(folder), Supervisor(print)
    server.wait(supervisor.add(server.child()))
    return server, supervisor


def test_it_keeps_its_data_and_is_found_by_other_commands(folder: Path) -> None:
    (folder / "okasie.toml").write_text("")
    settings = load_settings(folder / "okasie.toml", {"OKASIE_REDIS__STATE_DIR": str(folder)})
    with pytest.raises(ConnectionFailed, match="okasie up"):
        redis_url(settings)
    server, supervisor = started(folder)
    try:
        assert redis_url(settings) == find_embedded(folder) == server.url
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert client.config_get("port")["port"] == "0", "a unix socket only"
            client.set("kept", "yes")
        assert (folder.stat().st_mode & 0o777, (folder / "redis.sock").stat().st_mode & 0o777) == (0o700, 0o700)
    finally:
        supervisor.stop(10)
    assert find_embedded(folder) is None, "a record of a server that has ended is no server"
    server.forget()
    assert not (folder / "redis.json").exists()
    _, supervisor = started(folder)
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        supervisor.stop(10)
    program = find_server()
    assert (folder / f"{program.engine}-{program.version.split('.')[0]}" / "appendonlydir").is_dir()


def test_a_folder_with_a_long_name_gets_its_socket_elsewhere(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    server, supervisor = started(deep)
    elsewhere = Path(server.url.removeprefix("unix://"))
    try:
        assert find_embedded(deep) == server.url
        assert elsewhere.parent != deep
        assert elsewhere.exists()
    finally:
        supervisor.stop(10)
        server.forget()
    assert not elsewhere.parent.exists(), "nothing is left behind"


def test_without_any_server_program_the_options_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "_candidates", lambda: iter(()))
    with pytest.raises(ConfigurationError) as caught:
        find_server()
    for way in ("okasie-tasks[embedded]", "redis-server", "redis.url"):
        assert way in str(caught.value)


def test_a_program_on_the_path_is_taken_if_it_is_new_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old, new = tmp_path / "redis-server", tmp_path / "valkey-server"
    for program, output in ((old, "Redis server v=6.0.9 sha=0"), (new, "Valkey server v=8.1.0 sha=0")):
        program.write_text(f"#!/bin/sh\necho '{output}'\n")
        program.chmod(0o755)
    monkeypatch.setattr(embedded_redis.importlib, "import_module", _no_module)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        embedded_redis.shutil, "which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert (find_server().engine, find_server().version) == ("valkey", "8.1.0")
    new.unlink()
    with pytest.raises(ConfigurationError, match=r"older than 6\.2"):
        find_server()


def _no_module(name: str) -> None:
    raise ImportError(name)


def _hold(path: Path, held: object, leave: object) -> None:
    with locked(path):
        held.set()  # type: ignore[attr-defined]
        leave.wait(30)  # type: ignore[attr-defined]


def test_a_state_folder_has_one_owner(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, leave = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(tmp_path, held, leave))
    other.start()
    assert held.wait(30)
    try:
        with pytest.raises(ConfigurationError, match=f"process {other.pid}"), locked(tmp_path):
            pass
    finally:
        leave.set()
        other.join(30)
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="state_dir"), locked(tmp_path / "file" / "state"):
        pass
