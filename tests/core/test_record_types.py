"""Record types are analysed before several threads decode them: msgspec crashes the process otherwise."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import KNOWN

NEVER_DECODED = {"Rows"}
_WORKERS = "import okasie_tasks.tasks"
_IN_EIGHT_THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
import msgspec
from okasie_tasks.sync.spool import Chunk

data, together = msgspec.msgpack.encode({"items": [], "then": [{"items": []}]}), threading.Barrier(8)

def decode():
    together.wait()
    msgspec.msgpack.decode(data, type=Chunk)

threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("attempt", range(3))
def test_threads_of_a_worker_decode_a_type_for_the_first_time_together(attempt: int) -> None:
    """Without the preparation, five of six such processes end by a segmentation fault."""
    done = run(f"{_WORKERS}\n{_IN_EIGHT_THREADS}")
    assert (done.returncode, done.stderr) == (0, ""), attempt


def test_all_types_of_a_worker_are_prepared() -> None:
    code = (
        f"{_WORKERS}\nimport msgspec\nfrom okasie_tasks.core import record_types as types\n"
        "ready = types.prepare()\nprint(len(ready))\n"
        "print(*sorted(k.__name__ for k in types._subclasses(msgspec.Struct)"
        " if k not in ready and k.__module__.startswith('okasie_tasks.')))"
    )
    count, left = run(code).stdout.splitlines()
    assert int(count) > 50
    assert set(left.split()) == NEVER_DECODED


def test_a_module_that_is_loaded_later_makes_its_decoders_when_it_is_loaded() -> None:
    loaded = set(run(f"{_WORKERS}\nimport sys; print(*sys.modules)").stdout.split())
    assert "okasie_tasks.sources.csv_format" not in loaded, "it would need no decoder of its own"
    late = {name: path for name, path in KNOWN.items() if name not in loaded and ".sandbox" not in name}
    found = {name: set(_types_decoded_in_functions(path)) for name, path in late.items()}
    assert {name: types for name, types in found.items() if types} == {}


def _types_decoded_in_functions(path: Path) -> Iterator[str]:
    """Yield the module's own types that a call in a function decodes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("msgspec."):
                named = [*call.args, *(word.value for word in call.keywords)]
                yield from (
                    name.id
                    for value in named
                    for name in ast.walk(value)
                    if isinstance(name, ast.Name) and name.id in own and "code(" in ast.unparse(call)
                )
