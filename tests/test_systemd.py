"""deploy/systemd: the same commands as docker-compose.yml, keys only where they are needed, no rights that are not."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from okasie_tasks.worker.settings import STOP_SECONDS
from tests.test_compose import OURS, words

UNITS = Path(__file__).parents[1] / "deploy" / "systemd"
FILES = {path.stem.removeprefix("okasie-").removesuffix("@"): path for path in UNITS.glob("okasie-*.service")}
NAMES = sorted(FILES)
COMMON = UNITS / "okasie-.service.d" / "common.conf"

Section = dict[str, list[str]]


def read(path: Path) -> dict[str, Section]:
    """Sections of a unit; a name may stand more than once, which `configparser` takes for a mistake."""
    found: dict[str, Section] = {}
    section: Section = {}
    for line in path.read_text().splitlines():
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        elif line.strip() and not line.startswith("#"):
            name, is_there, value = line.partition("=")
            assert is_there, f"{path.name}: {line}"
            section.setdefault(name, []).append(value)
    return found


def command(name: str) -> list[str]:
    """What systemd runs: ``%%`` is how a percent sign is written there, ``%i`` the instance of a template."""
    (line,) = read(FILES[name])["Service"]["ExecStart"]
    line = line.replace("%i", "")
    assert "%" not in line.replace("%%", ""), "a specifier of systemd's, %h is a home folder"
    program, *rest = shlex.split(line.replace("%%", "%"))
    assert program.startswith("/opt/okasie/bin/")
    return [program.removeprefix("/opt/okasie/bin/"), *rest]


def test_there_is_a_unit_for_each_service_of_ours() -> None:
    assert sorted(set(OURS) - {"sandbox", "sandbox-urgent"}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_runs_what_the_compose_file_runs(name: str) -> None:
    # Both listen to their network in a container, and to loopback on a machine.
    theirs = [word.replace("0.0.0.0", "127.0.0.1") for word in words(name)]
    if name == "metrics":
        place = theirs.index("--host")
        del theirs[place : place + 2]
    assert command(name) == theirs


def test_only_the_workers_that_call_the_api_get_the_keys() -> None:
    holders = {name for name in NAMES if "/etc/okasie/keys.env" in str(read(FILES[name]))}
    assert holders == {"api", "urgent"}
    readers = {name for name in NAMES if "/etc/okasie/sources.env" in str(read(FILES[name]))}
    assert readers == {"diff", "urgent"}


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_is_whole(name: str) -> None:
    unit = read(FILES[name])
    assert set(unit) == {"Unit", "Service", "Install"}
    assert unit["Unit"]["Description"]
    assert unit["Install"]["WantedBy"] == ["okasie.target"]


def test_they_have_no_rights_they_do_not_need() -> None:
    common = read(COMMON)
    assert common["Unit"]["PartOf"] == ["okasie.target"]
    service = {name: values[-1] for name, values in common["Service"].items()}
    assert service["User"] == "okasie"
    assert service["CapabilityBoundingSet"] == ""
    assert {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "PrivateTmp": "yes",
        "UMask": "0077",
    }.items() <= service.items()


@pytest.mark.parametrize(("name", "seconds"), STOP_SECONDS.items())
def test_a_worker_is_watched_and_has_the_time_of_its_longest_operation(name: str, seconds: float) -> None:
    service = read(FILES[name])["Service"]
    assert (service["Type"], service["WatchdogSec"]) == (["notify"], ["30s"])
    assert service["TimeoutStopSec"] == [f"{seconds:g}s"]
    overriding = {"TimeoutStopSec", "Type", "WatchdogSec"} & set(read(COMMON)["Service"])
    assert not overriding, "systemd reads the drop-in after the unit"
