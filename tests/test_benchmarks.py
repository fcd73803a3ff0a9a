"""The benchmarks run: the engine's on a small inventory, of the others that they can be loaded and asked for help."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ("accounts", "bench", "beside_trouble", "engine", "growth", "http_api", "nodes", "search", "startup")


def test_every_script_can_be_loaded() -> None:
    code = "; ".join(f"import benchmarks.{name}; print(benchmarks.{name}.__doc__)" for name in (*SCRIPTS, "pages"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, timeout=300, check=True
    )
    for name in SCRIPTS:
        assert f"python benchmarks/{name}.py" in done.stdout, f"{name} shows how it is run"


@pytest.mark.system
@pytest.mark.slow
def test_the_engine_and_its_rivals_find_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "engine.py"), "--rows", "400", "--repeats", "1", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rivals = {"ours", "python", *(["node"] if shutil.which("node") else [])}
    assert set(found["wall"]) == rivals, "each checks that nothing is to be done"
    assert set(found["stages"]) >= {"walk", "load", "diff"}
