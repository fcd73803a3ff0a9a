"""A build hook: the commit that a wheel and an sdist are made of, as ``okasie_tasks/commit.txt``.

From ``OKASIE_COMMIT``, for a build without ``.git`` (a container image), else from git. A wheel that is built from an
sdist has the sdist's file. Without any of them there is no such file; a build never fails because of it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACE = "okasie_tasks/commit.txt"


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the file to what is built; the source tree stays as it is."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable install reads the checkout's own commit, which changes.
        if version == "editable" or (Path(self.root) / _PLACE).exists():
            return
        commit = os.environ.get("OKASIE_COMMIT", "").strip() or self._of_checkout()
        if commit:
            file = Path(tempfile.mkdtemp(prefix="okasie-build-")) / "commit.txt"
            file.write_text(f"{commit}\n", encoding="ascii", errors="ignore")
            build_data["force_include"][str(file)] = _PLACE

    def _of_checkout(self) -> str:
        if not (Path(self.root) / ".git").exists():
            return ""
        argv = ["git", "-C", self.root, "describe", "--always", "--dirty", "--exclude=*"]  # as cli/version.py
        try:
            return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""
