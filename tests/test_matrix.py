"""``make matrix``: what it installs as the oldest dependencies, and the page that it writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.matrix import __main__ as matrix
from tests.matrix import machine
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


def test_each_folder_of_path_may_hold_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("7.2.4", "8.0.2"):
        program = tmp_path / version / "redis-server"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / '7.2.4'}:{tmp_path / '8.0.2'}")
    monkeypatch.setattr(machine, "_WHEELS", ())
    assert [server.name for server in machine.servers(tmp_path)] == ["Redis 7.2", "Redis 8.0"]


def test_the_tests_of_a_cell_are_there() -> None:
    assert [test for test in TESTS if not (ROOT / test).exists()] == []


def test_the_page_is_of_versions_that_are_supported() -> None:
    text = matrix.PAGE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (3\.\d+)\.\d+ \| (pinned|oldest|newest) \| (\w+ \d+\.\d+)\.\S+ \| (.+?) \| (.+?) \|$", text, re.MULTILINE
    )
    assert {python for python, *_ in rows} <= set(PYTHONS)
    assert {server for _, _, server, *_ in rows} <= set(SERVERS)
    assert [row for row in rows if row[3] != "ok" or " failed" in row[4]] == []
    missing = {*PYTHONS} - {python for python, *_ in rows}
    assert [python for python in missing if f"Python {python}" not in text] == [], "what was not run is listed"
