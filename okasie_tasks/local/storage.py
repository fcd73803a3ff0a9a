"""Errors of the disk that name the path: full, read-only, or without permission."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from okasie_tasks.errors import StorageFailed

_PROBE_BYTES: Final = 256 * 1024
"""Enough for the first writes of each process; less room than this is a full disk."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise `StorageFailed` with the path for an `OSError` in the block. Errors of a write do not name their file."""
    try:
        yield
    except OSError as error:
        raise storage_failed(error, path) from error


def storage_failed(error: OSError, path: Path) -> StorageFailed:
    """Return the error of a path that cannot be written."""
    reason = error.strerror or type(error).__name__
    return StorageFailed(f"cannot be written: {reason}", where=str(error.filename or path))


def check_writable(folder: Path) -> None:
    """Write a file in the folder and remove it. Raises `StorageFailed` if that fails.

    On a full disk a program may start and hang, and its log stays empty, so this is checked first.
    """
    probe = folder / f".probe-{os.getpid()}"
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with probe.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
