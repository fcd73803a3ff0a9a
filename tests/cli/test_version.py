"""The commit that ``okasie --version`` names: of the build, of the checkout, or none. It never fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from okasie_tasks.cli.version import commit


def checkout(folder: Path) -> None:
    for argv in (
        ["init", "-q"],
        ["-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "--allow-empty", "-m", "m"],
    ):
        subprocess.run(["git", *argv], cwd=folder, check=True, timeout=60)
    (folder / "okasie_tasks").mkdir()


def test_the_commit_of_a_build_is_in_its_file(tmp_path: Path) -> None:
    checkout(tmp_path)
    (tmp_path / "okasie_tasks" / "commit.txt").write_text("abc1234\n")
    assert commit(tmp_path) == "abc1234"


def test_a_checkout_is_asked(tmp_path: Path) -> None:
    checkout(tmp_path)
    argv = ["git", "-C", str(tmp_path), "rev-parse", "--short", "HEAD"]
    assert (
        commit(tmp_path) == subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    )


def test_an_installation_inside_another_project_is_not_of_its_commit(tmp_path: Path) -> None:
    checkout(tmp_path)
    installed = tmp_path / "lib"
    (installed / "okasie_tasks").mkdir(parents=True)
    assert commit(installed) == ""


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) == ""
