"""Patterns in paths: the newest of the files that match."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from okasie_tasks.errors import SourceError

MOST_ENTRIES: Final = 100_000
"""How many entries of a folder are looked at: a server must not fill a worker's memory with names."""


class Entry(msgspec.Struct, frozen=True):
    """A file or folder. ``modified``: seconds since the epoch, None if the server does not say; so is ``size``."""

    path: str
    size: int | None = None
    modified: float | None = None
    etag: str = ""
    folder: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def is_pattern(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def newest(
    pattern: str,
    listed: Callable[[str], Iterable[Entry]],
    where: str,
    *,
    stat: Callable[[str], Entry] | None = None,
) -> Entry:
    """Return the file that was modified last, then the last by name. ``listed``: the entries of a folder.

    ``stat``: asked where a listing has no exact time. Raises `SourceError` when no file matches.
    """
    found = [entry for entry in _matches(pattern, listed, where) if not entry.folder]
    if stat is not None:
        found = [entry if entry.modified is not None else stat(entry.path) for entry in found]
    if not found:
        raise SourceError(f"no file matches {pattern.rpartition('/')[2]!r}", where=where, code="source_missing")
    return max(found, key=lambda entry: (entry.modified or 0.0, entry.name, entry.path))


def _matches(pattern: str, listed: Callable[[str], Iterable[Entry]], where: str) -> Iterator[Entry]:
    folder, _, last = pattern.rpartition("/")
    folders = [folder]
    if is_pattern(folder):
        folders = [entry.path for entry in _matches(folder, listed, where) if entry.folder]
    for path in folders:
        for number, entry in enumerate(listed(path)):
            if number >= MOST_ENTRIES:
                raise SourceError(f"the folder has more than {MOST_ENTRIES:,} entries", where=where, code="too_large")
            if fnmatch.fnmatchcase(entry.name, last) and not (entry.name.startswith(".") and not last.startswith(".")):
                yield entry
