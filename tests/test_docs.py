"""The pages of docs/: they build, their links lead somewhere, and the commands they show exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import check_command_lines

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PACKAGE = ROOT / "okasie_tasks"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_TOP = "benchmarks|deploy|docs|examples|okasie_tasks|tests"


def test_they_build_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert {page.stem for page in PAGES} <= {page.stem for page in (tmp_path / "site").glob("*.html")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_okasie_command_line_is_one_that_exists(page: Path) -> None:
    check_command_lines(page.read_text(encoding="utf-8"))


def test_pictures_are_there_small_and_described() -> None:
    shown = [found for page in PAGES for found in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text())]
    assert {target for _, target in shown} == {f"images/{file.name}" for file in (ROOT / "docs/images").iterdir()}
    for words, target in shown:
        assert len(words) > 15
        assert (ROOT / "docs" / target).stat().st_size < 150_000


# -- paths and names in the code -------------------------------------------------------------------------------------


def spans(text: str) -> list[str]:
    """The inline code of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.stem)
def test_every_path_and_module_exists(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    paths = {path for span in spans(text) for path in re.findall(rf"(?<![\w/])(?:{_TOP})/[\w./-]*\w", span)}
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []
    modules = {name for span in spans(text) for name in re.findall(r"\bokasie_tasks(?:\.\w+)+", span)}
    assert sorted(name for name in modules if not _is_there(name)) == []


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    outer, _, last = name.rpartition(".")
    path = PACKAGE.parent.joinpath(*outer.split("."))
    if (path / last).is_dir() or (path / f"{last}.py").is_file():
        return True
    return any(
        module.is_file() and last in defined(module) for module in (path.with_suffix(".py"), path / "__init__.py")
    )


def defined(module: Path) -> set[str]:
    """The functions, classes and methods of a module."""
    found = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_the_routes_through_the_code_exist() -> None:
    files = {span for span in spans(ARCHITECTURE) if re.fullmatch(r"(\w+/)*\w+\.(py|lua)|(\w+/)+", span)}
    assert sorted(file for file in files if not (PACKAGE / file).exists() and not (ROOT / file).exists()) == []
    rows = [line for line in ARCHITECTURE.splitlines() if re.match(r"\|.*\| `[\w/]+\.(py|lua)` \|", line)]
    assert len(rows) > 30
    for row in rows:
        where, function = re.split(r"(?<!\\)\|", row)[2:4]
        cells = spans(where) + spans(function)
        names = {span for span in cells if re.fullmatch(r"\w+", span)}
        assert names, row
        assert names <= {name for cell in cells if cell.endswith(".py") for name in defined(PACKAGE / cell)}, row


def test_the_package_map_is_complete() -> None:
    table = ARCHITECTURE[ARCHITECTURE.index("## Package map") :]
    mapped = set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE))
    assert mapped == {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
