"""The package as others get it: built, installed outside the checkout, and used there as docs/first-steps.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import closing
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.support import Place, Up
from tests.test_readme import blocks

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
STEPS = (ROOT / "docs" / "first-steps.md").read_text(encoding="utf-8")
DATA = (
    "celeryconfig.py",
    "docker-compose.yml",
    "deploy/prometheus/rules.yml",
    "deploy/grafana/okasie.json",
    "examples/autoscout24.toml",
)


class Built(NamedTuple):
    wheel: Path
    sdist: Path
    environment: Path

    def run(self, *argv: str, folder: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """A command of the environment, with nothing of this checkout in reach."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OKASIE_", "VIRTUAL_ENV"))}
        return subprocess.run(
            [str(self.environment / "bin" / argv[0]), *argv[1:]],
            cwd=folder, env=env, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The sdist, the wheel that is built from it, and an environment with the wheel.

    What it depends on is lent by the environment that runs the tests: a path, so that our own editable install, a
    ``.pth`` file there, is not followed.
    """
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=300)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=300)
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield Built(wheel, sdist, environment)


def test_all_that_is_no_module_is_inside(built: Built) -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "okasie_tasks").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours <= names
    assert "okasie_tasks/py.typed" in names
    assert {f"okasie_tasks-0.1.0.data/data/share/okasie-tasks/{name}" for name in DATA} <= names
    assert [name for name in names if name.startswith(("celeryconfig", "tests"))] == []
    with tarfile.open(built.sdist) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "celeryconfig.py",
        "tests/conftest.py",
        "constraints.txt",
        "docs/flower.md",
        "Makefile",
        *DATA,
        *ours,
    } <= packed


def test_what_it_says_of_itself(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        told = Parser().parsestr(wheel.read("okasie_tasks-0.1.0.dist-info/METADATA").decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"embedded", "sql", "flower", "metrics"} <= set(told.get_all("Provides-Extra") or ())
    required = [line for line in told.get_all("Requires-Dist") or () if "extra ==" not in line]
    assert len(required) == len(project["dependencies"])
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload() == (ROOT / "README.md").read_text()


def test_the_version_names_the_commit_it_was_built_from(built: Built, tmp_path: Path) -> None:
    """The wheel is built from the sdist, where there is no git."""
    argv = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    head = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    shown = built.run("okasie", "--version", folder=tmp_path).stdout
    assert shown.startswith("okasie, version 0.1.0")
    assert head in shown, "empty where this is no checkout"


def test_it_works_where_there_is_no_checkout(built: Built, tmp_path: Path) -> None:
    where = built.run("python", "-c", "import okasie_tasks; print(okasie_tasks.__file__)", folder=tmp_path)
    assert where.stdout.startswith(str(built.environment)), where.stderr
    for name in DATA:
        assert (built.environment / "share" / "okasie-tasks" / name).is_file()
    (tmp_path / "okasie.toml").write_text('[redis]\nurl = "redis://127.0.0.1:1/0"\n')
    report = built.run("python", "-m", "celery", "-A", "okasie_tasks", "report", folder=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "task_acks_late: True" in report.stdout
    assert str(ROOT) not in report.stdout


# -- the first steps of a new user -----------------------------------------------------------------------------------


def typed() -> list[tuple[str, list[str]]]:
    """What the page tells to type, and what it shows after each line."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks(STEPS, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def shape(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run: ids, numbers, lengths of bars, widths of columns."""
    plain = (
        re.sub(r"\b([0-9A-HJKMNP-TV-Z]{26}|01[0-9A-HJKMNP-TV-Z]{12}|[0-9a-f]{32}|[0-9a-f-]{36})\b", "ID", line)
        for line in lines
    )
    plain = (re.sub(r"cli:\S+@\S+", "cli:PERSON", line) for line in plain)
    plain = (re.sub(r"[\d.,:T-]*\d[\dZ]*", "N", line) for line in plain)
    plain = (re.sub(r"[#─]+", "", line) for line in plain)
    return [" ".join(line.split()) for line in plain if line.strip()]


class Shell:
    """One shell for all lines, as a person has it: what one line sets the next one has."""

    def __init__(self, built: Built, place: Place) -> None:
        self.said: list[tuple[str, list[str]]] = []
        env = place.env | {"PATH": f"{built.environment / 'bin'}:{place.env['PATH']}"}
        self._bash = subprocess.Popen(
            ["bash"], cwd=place.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def type(self, line: str) -> list[str]:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{line}\necho; echo THE-END\n")
        self._bash.stdin.flush()
        said = list(iter(lambda: self._bash.stdout.readline().rstrip("\n"), "THE-END"))  # type: ignore[union-attr]
        self.said.append((line, said))
        return said

    def close(self) -> None:
        self._bash.communicate(timeout=300)


def test_the_first_steps_of_a_new_user_are_as_the_page_shows_them(built: Built, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.env = {k: v for k, v in place.env.items() if not k.startswith("PYTHON") or k == "PYTHONUNBUFFERED"}
    for name, feed in zip(("stock.csv", "export.csv"), blocks(STEPS, "csv"), strict=True):
        (tmp_path / name).write_text(feed)
    place.config.write_text(blocks(STEPS, "toml")[0])
    installing, started, steps = typed()[:4], typed()[4], typed()[5:]
    assert [line for line, _ in installing][1].endswith(f"'{built.wheel.name}[all]'")
    assert started == ("okasie up --sandbox", [])
    with (
        Up(place, "--sandbox", program=[str(built.environment / "bin" / "okasie")]) as up,
        closing(Shell(built, place)) as shell,
    ):
        up.wait_for_flower()
        for line, shown in steps:
            assert shape(shell.type(line)) == shape(shown), line
        assert "has no column price_eur" in (tmp_path / "run.html").read_text()
        asked = {
            "draw": "1", "start": "0", "length": "9", "search[value]": "okasie.run kwargs:account=garage state:FAILURE",
            "order[0][column]": "0", "order[0][dir]": "asc", "columns[0][data]": "received",
        }  # fmt: skip
        (row,) = requests.get(f"{up.flower_url}/tasks/datatable", params=asked, timeout=60).json()["data"]
        assert row["result"].startswith("stock.csv:1: has no column price_eur")
