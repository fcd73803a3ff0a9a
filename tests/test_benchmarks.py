"""The benchmarks run: those of `make bench` on small inventories, of the others that they can be loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import bench

HERE = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ("accounts", "bench", "beside_trouble", "engine", "growth", "http_api", "nodes", "search", "startup")


def test_every_script_can_be_loaded() -> None:
    code = "; ".join(
        f"import benchmarks.{name}; print(benchmarks.{name}.__doc__)"
        for name in (*SCRIPTS, "floor", "pages", "recorded")
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, timeout=300, check=True
    )
    for name in SCRIPTS:
        assert f"python benchmarks/{name}.py" in done.stdout, f"{name} shows how it is run"


@pytest.mark.system
@pytest.mark.slow
def test_the_engine_and_its_rivals_find_the_same(tmp_path: Path) -> None:
    argv = [sys.executable, str(HERE / "engine.py"), "--rows", "400", "--repeats", "1", "--python", "--json"]
    done = subprocess.run(
        [*argv, "--scenario", "changed"], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    kinds = [(one["scenario"], one["format"], one["pages"]) for one in results]
    assert kinds == [(kind, form, "gzip") for form in ("csv", "jsonl") for kind in ("unchanged", "changed")]
    rivals = {"ours", "python", "floor", *(["node"] if shutil.which("node") else [])}
    for one in results:
        assert set(one["wall"]) == rivals, "each checks what it finds to be done"
        assert set(one["stages_s"]) >= {"walk", "load", "diff"}
        assert set(one["process_us"]) >= {"redis", "control", "api", "diff", "beat", "web"}, "what `okasie up` starts"
        assert sum(one["process_us"].values()) == pytest.approx(one["cpu_us"]["ours"], abs=1)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "options", "measured"),
    [
        (bench.accounts, "--accounts 2 --rows 6000 --minutes 0.1 --warm 0", 5),
        (bench.accounts, "--accounts 2 --rows 6000 --minutes 0.1 --warm 0 --threads 2", 5),
        (bench.nodes, "--rows 400 --repeats 1", 2),
        (bench.engine, "--rows 400 --repeats 1 --format jsonl --scenario first", 3),
    ],
)
def test_a_small_size_runs_to_its_end(section: Callable[..., list[bench.Row]], options: str, measured: int) -> None:
    rows = section(*options.split())
    assert len(rows) == measured
    assert all(row.ours and row.command.endswith(options) for row in rows), "the table shows how each was measured"
