"""docker-compose.yml: there is no Docker engine where the tests run, so its structure is held against the program."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from okasie_tasks.cli import COMMANDS
from okasie_tasks.worker.settings import SETTINGS, STOP_SECONDS
from tests.test_readme import options

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "okasie-tasks"}


def words(name: str) -> list[str]:
    command = SERVICES[name]["command"]
    return shlex.split(command) if isinstance(command, str) else command


def validated(file: Path) -> subprocess.CompletedProcess[str]:
    """By the schema of the Compose specification, from the package: no network."""
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def test_it_is_valid_by_the_compose_specification(tmp_path: Path) -> None:
    assert validated(ROOT / "docker-compose.yml").returncode == 0
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(
        (ROOT / "docker-compose.yml").read_text().replace("depends_on: [metrics]", "depends_upon: [metrics]")
    )
    assert "depends_upon" in validated(wrong).stdout


def test_the_workers_serve_every_queue_between_them() -> None:
    served = [
        q for name in ("control", "urgent", "api", "diff") for q in words(name)[words(name).index("-Q") + 1].split(",")
    ]
    assert sorted(served) == sorted(queue.name for queue in SETTINGS["task_queues"])


@pytest.mark.parametrize(("name", "seconds"), STOP_SECONDS.items())
def test_a_worker_has_its_own_health_check_and_time_to_stop(name: str, seconds: float) -> None:
    assert SERVICES[name]["stop_grace_period"] == f"{seconds:g}s"
    program, *check = SERVICES[name]["healthcheck"]["test"][1:]
    queues = words(name)[words(name).index("-Q") + 1].split(",")
    assert (program, check[:2], check[2] in queues) == ("okasie", ["health", "--queue"], True)
    assert set(check) & options("health") == {"--queue"}


def test_redis_keeps_everything_and_is_not_published() -> None:
    assert {"--appendonly": "yes", "--maxmemory-policy": "noeviction"}.items() <= dict(
        zip(words("redis")[1::2], words("redis")[2::2], strict=True)
    ).items()
    assert "ports" not in SERVICES["redis"]
    assert "redis:/data" in SERVICES["redis"]["volumes"]


@pytest.mark.parametrize("name", list(OURS))
def test_our_services_have_no_rights_they_do_not_need(name: str) -> None:
    service = OURS[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "privileged" not in service
    assert re.search(r"^USER \d+:0$", (ROOT / "Dockerfile").read_text(), re.MULTILINE), "Kubernetes checks a number"


def test_what_is_not_ours_is_known_by_its_version() -> None:
    others = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert set(others) == {"redis", "prometheus", "grafana"}
    assert [image for image in others.values() if not re.search(r":v?\d", image)] == []


def test_only_the_workers_that_call_the_api_get_the_key() -> None:
    named = {n for n, s in SERVICES.items() if "okasie_api_key" in s.get("secrets", ())}
    holders = named | {n for n, s in SERVICES.items() if "OKASIE_API_KEY" in (s.get("environment") or {})}
    assert holders == {"api", "urgent"}
    assert COMPOSE["secrets"]["okasie_api_key"] == {"file": "./secrets/okasie_api_key"}


def test_flower_asks_for_a_password_and_listens_on_loopback_only() -> None:
    assert SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    assert SERVICES["flower"]["ports"] == ["127.0.0.1:5555:5555"]
    published = {name: port for name, service in SERVICES.items() for port in service.get("ports", ())}
    assert set(published) == {"flower", "web", "prometheus", "grafana"}
    assert [name for name, port in published.items() if not port.startswith("127.0.0.1:")] == []


def test_the_sandbox_is_a_profile_and_its_command_exists() -> None:
    assert "sandbox" in COMMANDS
    for name in ("sandbox", "sandbox-urgent"):
        assert SERVICES[name]["profiles"] == ["sandbox"]
        assert words(name)[:2] == ["okasie", "sandbox"]
        assert set(re.findall(r"--[a-z]+", SERVICES[name]["command"])) <= options("sandbox")


def test_the_sandbox_is_on_the_loopback_of_both_workers_that_send_requests() -> None:
    port = words("sandbox")[words("sandbox").index("--port") + 1]
    assert {SERVICES[name]["network_mode"] for name in ("sandbox", "sandbox-urgent")} == {
        "service:api",
        "service:urgent",
    }
    assert words("sandbox-urgent")[2:] == ["--port", port, "--relay", f"api:{port}"]
    assert words("sandbox")[words("sandbox").index("--host") + 1] == "0.0.0.0", "the relay is in another container"


@pytest.mark.parametrize("name", ["control", "urgent", "api", "diff"])
def test_a_worker_is_probed_by_its_own_queue(name: str) -> None:
    queue = words(name)[words(name).index("-Q") + 1].split(",")[0]
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "okasie", "health", "--queue", queue]


def test_web_is_a_profile_with_a_probe() -> None:
    web = SERVICES["web"]
    assert web["profiles"] == ["web"], "without tokens it refuses to listen off loopback"
    assert web["environment"]["OKASIE_WEB__LISTEN"] == "0.0.0.0:8600"
    assert web["ports"] == ["127.0.0.1:8600:8600"]
    compile(web["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert "http://127.0.0.1:8600/healthz" in web["healthcheck"]["test"][-1]


def test_metrics_are_a_profile_with_its_files_and_a_password_of_its_own() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert {name for name, found in profiles.items() if found == ["metrics"]} == {"metrics", "prometheus", "grafana"}
    assert set(profiles) == {"metrics", "prometheus", "grafana", "sandbox", "sandbox-urgent", "web"}
    assert words("metrics")[:2] == ["okasie", "metrics"]
    assert set(re.findall(r"--[a-z]+", SERVICES["metrics"]["command"])) <= options("metrics")
    mounted = [volume.split(":") for name in ("prometheus", "grafana") for volume in SERVICES[name]["volumes"]]
    for source, _, *mode in mounted:
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
    for name in ("prometheus", "grafana"):
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    (password,) = SERVICES["grafana"]["secrets"]
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{password}"
    assert password in COMPOSE["secrets"]


def test_nothing_must_be_set_for_a_profile_that_is_not_used() -> None:
    """Compose asks for every ``${NAME:?...}`` of the file, whatever profiles are on."""
    demanded = {n for n, s in SERVICES.items() if re.search(r"\$\{\w+:\?", str(s))}
    assert demanded == {"flower"}


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [w for line in re.findall(r"^COPY (?!--from)(.*)", dockerfile, re.MULTILINE) for w in line.split()[:-1]]
    for source in sources:
        assert (ROOT / source).exists()
        assert source in kept
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*packed["packages"], *packed["shared-data"]} <= set(sources), "what the wheel is made of"
