"""``okasie --version``: the version and the commit that it was built from, or that is checked out."""

from __future__ import annotations

import contextlib
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
    folder = root or Path(__file__).parents[2]
    with contextlib.suppress(OSError):
        return (folder / "okasie_tasks" / "commit.txt").read_text(encoding="ascii").strip()
    if not (folder / ".git").exists():
        return ""  # installed, perhaps inside the checkout of another project
    import subprocess  # noqa: PLC0415 - every command imports this module

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
