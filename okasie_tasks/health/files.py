"""The heartbeat files in ``state_dir/health/``: one for each worker process, replaced as a whole at each heartbeat.

Times are of the monotonic clock, which all processes of a machine share, and which is never set.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from okasie_tasks.health.operations import Slot

FOLDER: Final = "health"
_LARGEST_BYTES: Final = 1_000_000
_FORGET_SECONDS: Final = 86_400.0
"""After this long, a dead process counts no more, nor does one of a container that is gone."""

State = Literal["connecting", "migrating", "consuming", "waiting", "stopping"]
"""``migrating``: it waits until the state in Redis has this release's layout, and consumes nothing before.
``waiting``: the event loop is in a call to Redis that is not answered."""


class Heartbeat(msgspec.Struct, frozen=True):
    """A worker process as it saw itself at ``written_at``.

    ``started``: with ``pid``, the identity of the process. ``looped_at``: when the consumer's event loop last ran, or
    while it has no connection or migrates, when it last tried to. ``waits_for``: what a migration waits for. The loop
    looks at its worker every second; ``unpolled`` and ``unprobed`` count its last looks at which the consumer did not
    ask its queues, and at which a probe waited although a slot was free. ``slots``: the busy ones, of ``concurrency``.
    """

    worker: str
    host: str
    pid: int
    started: str
    queues: tuple[str, ...]
    version: str
    configuration: str
    state: State
    written_at: float
    looped_at: float
    unpolled: int
    unprobed: int
    concurrency: int
    slots: tuple[Slot, ...] = ()
    waits_for: str = ""


def folder(state_dir: Path) -> Path:
    return state_dir / FOLDER


def write(place: Path, heartbeat: Heartbeat) -> None:
    """Replace the process's file. Raises `OSError`."""
    place.mkdir(parents=True, exist_ok=True)
    file = _file(place, heartbeat)
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(heartbeat))
    part.replace(file)


def remove(place: Path, heartbeat: Heartbeat) -> None:
    with contextlib.suppress(OSError):
        _file(place, heartbeat).unlink(missing_ok=True)


def read(place: Path) -> Iterator[Heartbeat]:
    """Yield the heartbeats of this machine's processes. What is no heartbeat is skipped."""
    here = socket.gethostname()
    for file in _files(place):
        with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError, RecursionError):
            age_seconds = time.time() - file.stat().st_mtime
            if age_seconds > _FORGET_SECONDS or file.stat().st_size > _LARGEST_BYTES:
                continue
            heartbeat = msgspec.json.decode(file.read_bytes(), type=Heartbeat)
            if heartbeat.host == here:
                yield heartbeat


def replace_dead(place: Path, worker: str, queues: tuple[str, ...]) -> None:
    """Remove the files of dead processes that a worker of this name and these queues replaces, and forgotten files."""
    for heartbeat in read(place):
        replaced = heartbeat.worker == worker or heartbeat.queues == queues
        if replaced and not runs(heartbeat):
            remove(place, heartbeat)
    for file in place.glob("*.*"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _FORGET_SECONDS:
                file.unlink()


def runs(heartbeat: Heartbeat) -> bool:
    """Whether the process still runs; its number may belong to another one by now."""
    return process_started(heartbeat.pid) == heartbeat.started


def process_started(pid: int) -> str:
    """Return what distinguishes a process from another one with its number, or "" if there is none.

    On Linux the time of its start, in ticks since the machine's; elsewhere only that it is there.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _is_there(pid)
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else f"{_boot()}{fields[19]}"


def _is_there(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "runs"
    except OSError:
        return ""
    return "runs"


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8] + "/"
    return ""


def _file(place: Path, heartbeat: Heartbeat) -> Path:
    return place / f"{heartbeat.host}.{heartbeat.pid}.json"


def _files(place: Path) -> list[Path]:
    try:
        return sorted(place.glob("*.json"))
    except OSError:
        return []
