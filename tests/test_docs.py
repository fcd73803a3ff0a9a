"""The pages of docs/: they build, their links lead somewhere, and the commands they show exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import check_command_lines

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_they_build_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
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
