"""``okasie --version``: the version and the commit that it was built from, or that is checked out."""

from __future__ import annotations

import contextlib
import subprocess
from importlib import resources
from pathlib import Path

import click

from okasie_tasks import __version__
from okasie_tasks.cli.common import echo

_GIT_SECONDS = 5.0


def commit(root: Path | None = None) -> str:
    """Return the commit: of the build (``commit.txt``, from ``hatch_build.py``), else of the checkout, else nothing.

    ``root``: the folder that holds the package, if it is not that of this module. A checkout with changes ends in
    ``-dirty``.
    """
    package = resources.files("okasie_tasks") if root is None else root / "okasie_tasks"
    with contextlib.suppress(OSError):
        return package.joinpath("commit.txt").read_text(encoding="ascii").strip()
    folder = root or Path(str(package)).parent
    if not (folder / ".git").exists():
        return ""  # installed, perhaps inside the checkout of another project
    argv = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(argv, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True).stdout.strip()
    return ""


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """The callback of the option."""
    if not wanted or context.resilient_parsing:
        return
    found = commit()
    echo(f"okasie, version {__version__}" + (f" (commit {found})" if found else ""))
    context.exit()
