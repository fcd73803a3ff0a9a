"""The architecture: layers, no circular imports, a pure core. Read from the source, not from what happened to load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "okasie_tasks"
PACKAGE = "okasie_tasks"

LAYER = {
    "__init__": 0,
    "masking": 0,
    "errors": 1,
    "core": 2,
    "health": 2,
    "telemetry": 2,
    "settings": 3,
    "ports": 3,
    "client": 3,
    "logs": 4,
    "store": 5,
    "marketplace": 6,
    "sources": 6,
    "worker": 6,
    "sandbox": 6,
    "sync": 7,
    "urgent": 8,
    "reports": 8,
    "alerting": 9,
    "services": 10,
    "celery": 11,
    "tasks": 12,
    "actions": 13,
    "local": 14,
    "web": 14,
    "cli": 15,
    "__main__": 16,
}
"""Top-level package or module -> layer. A module imports from lower layers and from its own package."""

CORE_MAY_USE = frozenset({"isal", "msgspec", "xxhash"}) | sys.stdlib_module_names
NO_IO = frozenset(
    {"socket", "subprocess", "threading", "asyncio", "sqlite3", "urllib", "http", "time", "random", "os", "io"}
)
# `urllib.parse` is pure text work.
PURE_PARTS = frozenset({"urllib.parse"})


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


KNOWN = {f"{PACKAGE}.{module}".removesuffix(".__init__"): path for module, path in modules()}


def package_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imports(path: Path) -> Iterator[str]:
    """Modules that ``path`` imports, inside functions too; what is imported for type checkers only does not run."""
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
def test_a_module_imports_only_from_lower_layers(module: str, path: Path) -> None:
    mine = package_of(module)
    for name in imports(path):
        if not name.startswith(f"{PACKAGE}.") or name == f"{PACKAGE}.__version__":
            continue
        theirs = package_of(name.removeprefix(f"{PACKAGE}."))
        assert theirs == mine or LAYER[theirs] < LAYER[mine], f"{module} (layer {LAYER[mine]}) imports {name}"


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module, _ in modules()} == set(LAYER)


def test_no_module_imports_itself_over_others() -> None:
    """Inside a package either, and for type checkers either."""
    graph = {module: _modules_in(path) - {module, PACKAGE} for module, path in KNOWN.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_urgent_lane_imports_nothing_of_the_bulk_lane() -> None:
    shared = {f"{PACKAGE}.sync.{module}" for module in ("context", "audit", "rejects", "sells", "skipped_images")}
    used = {name for module, path in KNOWN.items() if ".urgent." in module for name in _modules_in(path)}
    assert {name for name in used if name.startswith(f"{PACKAGE}.sync")} <= shared


def _modules_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
            if any(f"{node.module}.{alias.name}" in KNOWN for alias in node.names):
                names.discard(str(node.module))
    return names.intersection(KNOWN)


@pytest.mark.parametrize(("module", "path"), [m for m in modules() if package_of(m[0]) == "core"])
def test_the_core_is_pure(module: str, path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top == PACKAGE or top in CORE_MAY_USE, f"{module} imports {name}"
        assert top not in NO_IO or name in PURE_PARTS, f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), [m for m in modules() if package_of(m[0]) == "sandbox"])
def test_the_sandbox_reads_the_contract_for_itself(module: str, path: Path) -> None:
    ours = [name for name in imports(path) if name.startswith(PACKAGE) and not name.startswith(f"{PACKAGE}.sandbox")]
    assert ours == [], "one misreading must not hide in both sides"


def test_celery_stays_in_its_packages() -> None:
    users = {m for m, p in modules() for name in imports(p) if name.split(".")[0] in ("celery", "kombu", "redbeat")}
    assert {package_of(m) for m in users} == {"celery", "worker", "tasks", "cli", "client"}


def test_commands_print_through_one_function() -> None:
    """It cleans texts from outside. The exceptions print JSON, texts of other programs, or an error, cleaned before."""
    printing = {"echo", "secho", "print"}
    for module, path in modules():
        if package_of(module) != "cli":
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in printing}
        names |= {call.id for call in calls if isinstance(call, ast.Name) and call.id == "print"}
        allowed = {
            "cli.common": {"echo", "print"}, "cli.__init__": {"print"}, "cli.run_client": {"print"},
            "cli.metrics": {"echo"}, "cli.setup": {"echo"},
        }  # fmt: skip
        assert names <= allowed.get(module, set()), module


def test_only_the_marketplace_client_sends_requests() -> None:
    senders = ("requests", "urllib3", "httpx")
    names = ((module, name) for module, path in modules() for name in imports(path))
    users = {m for m, name in names if name.split(".")[0] in senders and name != "requests.exceptions"}
    # The feed and a webhook are somebody else's servers; the demo asks its own sandbox's admin side.
    others = {"sources.http", "sources.download", "alerting.channels", "cli.demo"}
    assert users == {"marketplace.client", "marketplace.connections", *others}


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import okasie_tasks.core.reconcile", ("celery", "kombu", "redis", "requests", "pydantic", "tornado")),
        ("import okasie_tasks.client", ("celery", "kombu", "redis", "requests", "pydantic", "msgspec", "structlog")),
        ("import okasie_tasks.cli", ("celery", "kombu", "redis", "pydantic", "structlog")),
        ("import okasie_tasks.celery", ("fastapi", "starlette", "uvicorn", "jinja2", "babel")),
        ("import okasie_tasks.web.app", ("okasie_tasks.celery", "okasie_tasks.tasks", "celery")),
        ("import okasie_tasks.sync.executor", ("celery", "kombu", "requests")),
        (
            "import okasie_tasks.cli.status, okasie_tasks.cli.runs, okasie_tasks.cli.control",
            ("celery", "redis", "rich"),
        ),
        ("import okasie_tasks.tasks", ("fastapi", "starlette", "uvicorn", "okasie_tasks.web", "okasie_tasks.actions")),
    ],
)
def test_what_is_imported_stays_light(statement: str, never: tuple[str, ...]) -> None:
    check = f"{statement}; import sys; print(sorted(set({never!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
