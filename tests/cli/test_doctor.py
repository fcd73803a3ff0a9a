"""``okasie doctor`` looks at the server: what would lose the ledger or break its steps is refused, with the way out."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.cli import main
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Supervisor
from okasie_tasks.telemetry import tracing


class Doctor:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config, self._capsys = folder / "okasie.toml", capsys

    def __call__(self, url: str) -> tuple[int, dict[str, tuple[bool, str]]]:
        """The exit status, and of each check whether it passed and what to do."""
        self._config.write_text(f'[redis]\nurl = "{url}"\n')
        status = 0
        try:
            main(["doctor", "--json", "--config", str(self._config)])
        except SystemExit as ended:
            status = int(ended.code or 0)
        said: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return status, {check["name"]: (check["ok"], check["mend"] or "") for check in said["checks"]}


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, capsys)


@pytest.fixture
def reset(client: redis.Redis) -> Iterator[redis.Redis]:
    """The session's server, as it was afterwards."""
    before = {name: client.config_get(name)[name] for name in ("appendonly", "maxmemory-policy")}
    yield client
    for name, value in before.items():
        client.config_set(name, value)


def failed(checks: dict[str, tuple[bool, str]]) -> dict[str, str]:
    return {name: mend for name, (ok, mend) in checks.items() if not ok}


def test_a_server_as_it_should_be_passes(doctor: Doctor, redis_url: str, client: redis.Redis) -> None:
    status, checks = doctor(redis_url)
    assert (status, failed(checks)) == (0, {})
    assert {"redis", "redis persistence", "redis eviction", "redis clock"} <= set(checks)


def test_a_server_without_an_append_only_file_is_refused(doctor: Doctor, redis_url: str, reset: redis.Redis) -> None:
    reset.config_set("appendonly", "no")
    status, checks = doctor(redis_url)
    assert (status, failed(checks)) == (1, {"redis persistence": "set `appendonly yes`"})


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused(doctor: Doctor, redis_url: str, reset: redis.Redis, policy: str) -> None:
    reset.config_set("maxmemory-policy", policy)
    status, checks = doctor(redis_url)
    assert (status, failed(checks)) == (1, {"redis eviction": "set `maxmemory-policy noeviction`"})


def test_a_cluster_is_refused(doctor: Doctor) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ot-"))
    server, supervisor = EmbeddedRedis(folder), Supervisor(print)
    child = server.child()
    child.argv += ["--cluster-enabled", "yes"]
    try:
        server.wait(supervisor.add(child))
        status, checks = doctor(server.url)
        assert (status, set(failed(checks))) == (1, {"redis cluster"})
    finally:
        supervisor.stop(5)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("told", "passes"),
    [
        ({"redis_version": "6.0.16"}, False),
        ({"redis_version": "5.0.7"}, False),
        ({"redis_version": "6.2.0"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, True),
    ],
)
def test_a_server_that_is_too_old_is_refused(
    doctor: Doctor,
    redis_url: str,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, str],
    passes: bool,
) -> None:
    info = {name: value for name, value in client.info().items() if name != "valkey_version"}
    monkeypatch.setattr(redis.Redis, "info", lambda _: info | told)
    status, checks = doctor(redis_url)
    assert (status, checks["redis"]) == (int(not passes), (passes, "use Redis 6.2 or newer, or Valkey"))


def test_a_file_that_cannot_be_written_is_refused(
    doctor: Doctor, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = client.info() | {"aof_last_write_status": "err"}
    monkeypatch.setattr(redis.Redis, "info", lambda _: info)
    status, checks = doctor(redis_url)
    assert (status, set(failed(checks))) == (1, {"redis persistence"})


@pytest.mark.parametrize(("apart", "passes"), [(4.0, True), (-4.0, True), (6.0, False), (-6.0, False)])
def test_clocks_may_be_five_seconds_apart(
    doctor: Doctor, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, apart: float, passes: bool
) -> None:
    def moved(_: redis.Redis) -> tuple[int, int]:
        return int(time.time() + apart), 500_000

    monkeypatch.setattr(redis.Redis, "time", moved)
    status, checks = doctor(redis_url)
    assert (status, checks["redis clock"][0]) == (int(not passes), passes)


def test_traces_that_are_asked_for_and_not_installed_fail(
    doctor: Doctor, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "traces" not in doctor(redis_url)[1]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    assert doctor(redis_url)[1]["traces"][0] is True
    monkeypatch.setattr(tracing, "_PACKAGE", "opentelemetry_is_not_here.sdk")
    status, checks = doctor(redis_url)
    assert (status, failed(checks)) == (1, {"traces": "pip install 'okasie-tasks[otel]'"})


@pytest.mark.parametrize("data", ["", "sandbox"])
def test_a_key_that_is_not_set_says_what_to_start_and_a_sandbox_needs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ot-"))
    config = tmp_path / "okasie.toml"
    (tmp_path / "stock.csv").write_text("externalReference\nA\n")
    config.write_text(
        f'[redis]\nstate_dir = "{folder}"\n[accounts.dex]\napi_key = "env:NO_KEY_1"\nsource.url = "stock.csv"\n'
    )

    def check() -> dict[str, Any]:
        with pytest.raises(SystemExit):
            main(["doctor", "--json", "--config", str(config)])
        checks = json.loads(capsys.readouterr().out)["checks"]
        (found,) = (check for check in checks if check["name"] == "dex: API")
        return dict(found)

    stopped = check()
    assert (stopped["ok"], stopped["detail"]) == (False, "the environment variable NO_KEY_1 is not set or empty")
    assert "`okasie up --sandbox`" in stopped["mend"]
    server, supervisor = EmbeddedRedis(folder, data=data), Supervisor(print)
    try:
        server.wait(supervisor.add(server.child()))
        running = check()
        assert running["ok"] is (None if data else False)
        assert ("which is running, needs none" in running["detail"]) == bool(data)
    finally:
        supervisor.stop(5)
        shutil.rmtree(folder, ignore_errors=True)
