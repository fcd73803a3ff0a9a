"""``file:``: read where it is, without a copy. A pattern takes the newest match."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from okasie_tasks.errors import SourceError
from okasie_tasks.sources.transports.pattern import Entry, is_pattern, newest


def local_file(path: Path) -> Path:
    """Return the path, or the newest file that it matches if it is a pattern and no file has this very name."""
    if not is_pattern(str(path)) or path.exists():
        return path
    return Path(newest(str(path), _listed, str(path)).path)


def _listed(folder: str) -> Iterator[Entry]:
    try:
        with os.scandir(folder or "/") as entries:
            for entry in entries:
                found = _entry(entry)
                if found is not None:
                    yield found
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=folder, code="source_missing") from error


def _entry(entry: os.DirEntry[str]) -> Entry | None:
    try:
        if not entry.is_file() and not entry.is_dir():
            return None  # a pipe or a device
        found = entry.stat()
    except OSError:
        return None  # removed since
    return Entry(entry.path, found.st_size, found.st_mtime_ns / 1e9, folder=entry.is_dir())
