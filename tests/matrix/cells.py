"""One cell of the matrix: an environment of a Python and versions of the dependencies, and a server that is used in it."""

from __future__ import annotations

import os
import subprocess
import threading
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

from tests.matrix.machine import Python, Server

ROOT: Final = Path(__file__).parents[2]
NOT_INSTALLED: Final = "not installed"
_EXTRAS: Final = ("sql", "feeds", "flower", "metrics")
"""Without `embedded`: the cell has its own server."""
_TOOLS: Final = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "responses")
TESTS: Final = (
    "tests/store/test_limiter.py", "tests/store/test_ledger.py", "tests/store/test_runs.py", "tests/store/test_urgent_queue.py",
    "tests/celery/test_chords.py", "tests/sync/test_first_run.py",
)  # fmt: skip
"""The Lua scripts, the transport, and a whole run: what a server, a Python or a library may break."""

_LOCKS: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)
"""Environment -> who creates it, of several cells at a time."""


class Cell(NamedTuple):
    python: Python
    dependencies: str
    """pinned, oldest or newest."""
    server: Server

    @property
    def title(self) -> str:
        return f"Python {self.python.version}, {self.dependencies} dependencies, {self.server.name}"


class Outcome(NamedTuple):
    demo: str
    tests: str

    @property
    def good(self) -> bool:
        return self.demo == "ok" and self.tests.endswith("passed")


def oldest() -> list[str]:
    """Each dependency that pyproject.toml names, in the oldest version it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in _EXTRAS for line in project["optional-dependencies"][extra])]
    bounds = ((Requirement(line).name, Requirement(line).specifier) for line in lines)
    return [f"{name}=={bound.version}" for name, found in bounds for bound in found if bound.operator == ">="]


def environment(work: Path, python: Python, dependencies: str) -> Path:
    """Create the environment, unless it is there from before. Returns its folder of programs."""
    folder = work / "environments" / f"{python.version}-{dependencies}"
    with _LOCKS[folder.name]:
        if not (folder / ".ready").exists():
            _install(folder, python, dependencies)
    return folder / "bin"


def _install(folder: Path, python: Python, dependencies: str) -> None:
    _run([python.path, "-m", "venv", "--clear", str(folder)])
    constraints: list[str] = []
    if dependencies != "newest":
        file = folder / "constraints.txt"
        pinned = (ROOT / "constraints.txt").read_text()
        file.write_text(pinned if dependencies == "pinned" else "\n".join(oldest()) + "\n")
        constraints = ["--constraint", str(file)]
    argv = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*argv, *constraints, f"{ROOT}[{','.join(_EXTRAS)}]"])
    _run([*argv, *_TOOLS])  # apart, so that they need not get along with the oldest versions beforehand
    (folder / ".ready").touch()


def run(cell: Cell, work: Path) -> Outcome:
    """Run the demo and the tests. The tests use the sources of the checkout, like the demo.

    What they print is kept in ``work``.
    """
    try:
        programs = environment(work, cell.python, cell.dependencies)
    except subprocess.CalledProcessError as error:
        return Outcome(NOT_INSTALLED, _last(error.stderr))
    path = os.pathsep.join([str(cell.server.folder), str(programs), "/usr/bin", "/bin"])
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OKASIE_", "PYTHON"))}
    env |= {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    python = str(programs / "python")
    demo = _done([python, "-m", "okasie_tasks", "demo"], env, work)
    argv = [python, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", "-W", "default", "-p", "no:cacheprovider"]
    tests = _done([*argv, *TESTS], env, ROOT)
    (work / f"{cell.title}.log").write_text(demo.stdout + demo.stderr + tests.stdout + tests.stderr)
    return Outcome("ok" if demo.returncode == 0 else _last(demo.stdout + demo.stderr), _summary(tests))


def _summary(done: subprocess.CompletedProcess[str]) -> str:
    last = _last(done.stdout or done.stderr)
    return last.split(" in ")[0].partition(",")[0] if done.returncode == 0 else last


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else "no output"


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, capture_output=True, text=True, timeout=1_800, check=True)


def _done(argv: Sequence[str], env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=1_200, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 1, "", "not finished within 20 minutes")


def versions(programs: Path, names: Sequence[str]) -> dict[str, str]:
    """The installed versions of these packages."""
    code = "import sys; from importlib.metadata import version; print('\\n'.join(map(version, sys.argv[1:])))"
    argv = [str(programs / "python"), "-c", code, *names]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))
