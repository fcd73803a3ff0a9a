"""Settings that ``okasie init`` left to an operator. A file with one of them is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

FILL_IN: Final = "FILL-IN"
"""The value that an operator must replace."""


def to_fill_in(document: Mapping[str, Any], file: Path) -> Iterator[str]:
    """Yield a problem for each value that is still `FILL_IN`, with its line in the file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    for path in _placeholders(document, ()):
        number = _line_of(path, lines)
        where = f" (line {number})" if number else ""
        yield f"{'.'.join(path)}{where}: is still {FILL_IN!r}, expected a value that `okasie init` cannot know"


def _placeholders(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _placeholders(inner, (*path, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _placeholders(inner, path)
    elif value == FILL_IN:
        yield path


def _line_of(path: tuple[str, ...], lines: list[str]) -> int:
    """Return the line of a setting, counted from 1, as `okasie init` writes it; 0 if it is written otherwise."""
    table, setting = "", re.compile(rf"\s*\"?{re.escape(path[-1])}\"?\s*=.*{FILL_IN}")
    for number, line in enumerate(lines, start=1):
        if header := re.fullmatch(r"\s*\[([^\[\]]+)\]\s*(#.*)?", line):
            table = header[1].strip()
        elif table == ".".join(path[:-1]) and setting.match(line):
            return number
    return 0
