"""Paths into a nested row of a JSON or XML feed: ``engine.power_kw``, ``photos[].url``, ``prices/price[@type='b']``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from okasie_tasks.errors import ConfigurationError

_SEPARATOR: Final = re.compile(r"[./](?![^\[]*\])")
"""Not within brackets."""
_PART: Final = re.compile(r"(?P<name>@?[^\[\]@]+)(?P<selections>(\[[^\]]*\])*)")
_BRACKETS: Final = re.compile(r"\[[^\]]*\]")
_ATTRIBUTE: Final = re.compile(r"@(?P<name>[^=]+)=(?P<quote>['\"])(?P<value>.*)(?P=quote)")
_ORDER: Final = ("order", "position", "sequence", "sort", "@order", "@position", "@sequence", "@nr")
"""Members of a repeated element that state its place."""
TEXT: Final = "#text"
"""The member with the text of an XML element that has attributes, too."""

Step = Callable[[list[Any]], Iterator[Any]]


def is_path(name: str) -> bool:
    """Return whether a column's name is more than the name of a member."""
    return not set("./[@").isdisjoint(name)


def root(path: str) -> str:
    """Return the member that a path begins with."""
    return _SEPARATOR.split(path)[0].partition("[")[0]


def compile_path(path: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that reads the path from a row: None without a value, a list of several or after ``[]``.

    A name reads a member, of each element where there are several. Raises `ConfigurationError` for an invalid path.
    """
    steps: list[Step] = []
    for part in filter(None, _SEPARATOR.split(path)):
        match = _PART.fullmatch(part)
        if match is None:
            raise _invalid(path, "expected names with . or / between them")
        steps.append(partial(_members, match["name"]))
        steps += [_selection(text, path) for text in _BRACKETS.findall(match["selections"])]
    many = "[]" in path

    def read(row: Mapping[str, Any]) -> Any:
        values: list[Any] = [row]
        for step in steps:
            values = list(step(values))
        found = [value for value in map(_text, _each(values)) if value is not None and value != ""]
        if many or len(found) > 1:
            return found
        return found[0] if found else None

    return read


def _selection(text: str, path: str) -> Step:
    """Return the step of one pair of brackets: ``[]``, ``[0]`` or ``[@name='value']``."""
    inner = text[1:-1]
    if not inner:
        return _each
    if inner.isdecimal():
        return partial(_at, int(inner))
    match = _ATTRIBUTE.fullmatch(inner)
    if match is None:
        raise _invalid(path, f"expected [], [0] or [@name='value'], got {text}")
    return partial(_with_attribute, match["name"], match["value"])


def _invalid(path: str, expected: str) -> ConfigurationError:
    return ConfigurationError(f"invalid path {path!r}: {expected}", where="source.fields")


def _members(name: str, values: list[Any]) -> Iterator[Any]:
    for holder in _each(values):
        if isinstance(holder, Mapping) and (inner := holder.get(name)) is not None:
            yield inner


def _each(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _in_order(value)
        else:
            yield value


def _in_order(items: list[Any]) -> list[Any]:
    """Return elements by the place that each of them states, else as they stand."""
    places = [place for item in items if (place := _place(item)) is not None]
    if len(places) < len(items):
        return items
    return [items[index] for index in sorted(range(len(items)), key=places.__getitem__)]


def _place(item: Any) -> float | None:
    """Return the place that an element of a list states."""
    for name in _ORDER if isinstance(item, Mapping) else ():
        try:
            return float(item[name])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _at(index: int, values: list[Any]) -> Iterator[Any]:
    for value in values:
        yield from (value if isinstance(value, list) else [value])[index : index + 1]


def _with_attribute(name: str, wanted: str, values: list[Any]) -> Iterator[Any]:
    for value in _each(values):
        if isinstance(value, Mapping) and str(value.get(f"@{name}", value.get(name))) == wanted:
            yield value


def _text(value: Any) -> Any:
    """Return the text of an XML element that has attributes as well; any other value unchanged."""
    return value.get(TEXT, value) if isinstance(value, Mapping) else value
