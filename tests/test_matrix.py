"""``make matrix``: what it installs as the oldest dependencies, and the page that it writes."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.matrix import __main__ as matrix
from tests.matrix.cells import ROOT, TESTS, oldest
from tests.matrix.machine import PYTHONS, SERVERS


def test_every_dependency_has_an_oldest_version_that_is_tried() -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = {Requirement(line).name for line in lines if not Requirement(line).marker}
    tried = {Requirement(line).name: Requirement(line) for line in oldest()}
    assert needed <= set(tried)
    pinned = dict(
        line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    for name, found in tried.items():
        (bound,) = found.specifier
        assert Version(bound.version) <= Version(pinned[name.lower()]), name


def test_the_tests_of_a_cell_are_there() -> None:
    assert [test for test in TESTS if not (ROOT / test).exists()] == []


def test_the_page_is_of_versions_that_are_supported() -> None:
    text = matrix.PAGE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (3\.\d+)\.\d+ \| (pinned|oldest|newest) \| (\w+ \d+\.\d+)\.\S+ \| (.+?) \| (.+?) \|$", text, re.MULTILINE
    )
    assert {python for python, *_ in rows} <= set(PYTHONS)
    assert {server for _, _, server, *_ in rows} <= set(SERVERS)
    failed = [row for row in rows if row[3] != "ok" or " failed" in row[4]]
    assert {dependencies for _, dependencies, *_ in failed} <= {"oldest"}, "the page says which test fails, and how"
    missing = {*PYTHONS} - {python for python, *_ in rows}
    assert [python for python in missing if f"Python {python}" not in text] == [], "what was not run is listed"
