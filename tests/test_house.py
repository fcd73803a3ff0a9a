"""The floors of the house: a module imports only from lower floors. Read from the source, not from what happened to load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "okasie_tasks"
PACKAGE = "okasie_tasks"

FLOOR = {
    "masking": -1,
    "errors": 0,
    "core": 1,
    "ports": 2,
    "settings": 2,
    "logs": 2,
    "store": 3,
    "marketplace": 4,
    "sources": 4,
    "worker": 4,
    "sandbox": 4,
    "sync": 5,
    "urgent": 6,
    "reports": 6,
    "alerting": 7,
    "services": 8,
    "celery": 9,
    "tasks": 10,
    "local": 11,
    "cli": 12,
    "client": 11,
    "__main__": 13,
    "__init__": 0,
}
"""Room -> floor. A room may use rooms on lower floors, and itself."""

CORE_MAY_USE = frozenset({"msgspec"}) | sys.stdlib_module_names
NO_IO = frozenset(
    {"socket", "subprocess", "threading", "asyncio", "sqlite3", "urllib", "http", "time", "random", "os", "io"}
)
# `urllib.parse` is pure text work.
PURE_PARTS = frozenset({"urllib.parse"})


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def room_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imports(path: Path) -> Iterator[str]:
    """Modules that ``path`` imports, at whatever depth; what is imported for type checkers only does not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {id(node) for branch in ast.walk(tree) if _for_types(branch) for node in ast.walk(branch)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from names if node.module == PACKAGE else (node.module or "",)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_a_module_imports_only_from_lower_floors(module: str, path: Path) -> None:
    mine = room_of(module)
    for name in imports(path):
        if not name.startswith(f"{PACKAGE}.") or name == f"{PACKAGE}.__version__":
            continue
        theirs = room_of(name.removeprefix(f"{PACKAGE}."))
        assert theirs == mine or FLOOR[theirs] < FLOOR[mine], f"{module} (floor {FLOOR[mine]}) imports {name}"


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module, _ in modules()} == set(FLOOR)


@pytest.mark.parametrize(("module", "path"), [m for m in modules() if room_of(m[0]) == "core"])
def test_the_core_is_pure(module: str, path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top == PACKAGE or top in CORE_MAY_USE, f"{module} imports {name}"
        assert top not in NO_IO or name in PURE_PARTS, f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), [m for m in modules() if room_of(m[0]) == "sandbox"])
def test_the_sandbox_reads_the_contract_for_itself(module: str, path: Path) -> None:
    ours = [name for name in imports(path) if name.startswith(PACKAGE) and not name.startswith(f"{PACKAGE}.sandbox")]
    assert ours == [], "one misreading must not hide in both sides"


def test_celery_stays_above_its_floor() -> None:
    users = {m for m, p in modules() for name in imports(p) if name.split(".")[0] in ("celery", "kombu", "redbeat")}
    assert {room_of(m) for m in users} == {"celery", "worker", "tasks", "cli", "client"}


def test_only_the_door_sends_requests() -> None:
    users = {m for m, p in modules() for name in imports(p) if name.split(".")[0] in ("requests", "urllib3", "httpx")}
    # The feed and a webhook are somebody else's servers; the demo asks its own sandbox's admin side.
    others = {"sources.http", "alerting.channels", "cli.demo"}
    assert users == {"marketplace.client", "marketplace.connections", *others}


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import okasie_tasks.core.reconcile", ("celery", "kombu", "redis", "requests", "pydantic", "tornado")),
        ("import okasie_tasks.client", ("celery", "kombu", "redis", "requests", "pydantic", "msgspec", "structlog")),
        ("import okasie_tasks.cli", ("celery", "kombu", "redis", "pydantic", "structlog")),
        ("import okasie_tasks.sync.executor", ("celery", "kombu", "requests")),
    ],
)
def test_what_is_imported_stays_light(statement: str, never: tuple[str, ...]) -> None:
    check = f"{statement}; import sys; print(sorted(set({never!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
