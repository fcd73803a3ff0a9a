"""The pages of docs/: they build, their links lead somewhere, and what they tell to type exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from okasie_tasks.cli import COMMANDS
from tests.test_readme import blocks, options

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_they_build_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert {page.stem for page in PAGES} <= {page.stem for page in (tmp_path / "site").glob("*.html")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_okasie_command_line_is_one_that_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    typed = [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]
    for line in [*typed, *re.findall(r"`(okasie [^`]*)`", text)]:
        for name, rest in re.findall(r"\bokasie ([a-z]+)([^|$]*)", line):
            assert name in COMMANDS, line
            assert set(re.findall(r"(?<= )--[a-z-]+", rest)) <= options(name), line


def test_pictures_are_there_small_and_described() -> None:
    shown = [found for page in PAGES for found in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text())]
    assert {target for _, target in shown} == {f"images/{file.name}" for file in (ROOT / "docs/images").iterdir()}
    for words, target in shown:
        assert len(words) > 15
        assert (ROOT / "docs" / target).stat().st_size < 150_000
