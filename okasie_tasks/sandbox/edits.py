"""Edits of an answer: values that are removed, replaced, retyped or repeated at a path of its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

DOES: Final = ("remove", "set", "text", "repeat")
_FIELDS: Final = frozenset({"path", "do", "value", "share", "references"})


def check_edits(edits: Any) -> list[dict[str, Any]]:
    """Return ``edits`` unchanged. Raises `ValueError` for an edit that `edited` cannot apply."""
    for edit in edits:
        if set(edit) - _FIELDS or edit.get("do") not in DOES or not isinstance(edit.get("path"), str):
            raise ValueError(f"got edit {edit!r:.80}, expected a path and do: {', '.join(DOES)}")
    return list(edits)


def edited(document: Any, edits: list[dict[str, Any]], rng: Random) -> Any:
    """Apply the edits to ``document`` in place, and return it.

    A path has names, positions and ``*`` (every element) with dots between them: ``data.*.location.city``. ``share``:
    the chance that an edit changes a value; ``references``: only in rows with one of these external references.
    """
    for edit in edits:
        path, share, references = edit["path"].split("."), float(edit.get("share", 1.0)), edit.get("references")
        # All places first: removing an element moves those behind it.
        for holder, name in reversed(list(_places(document, path, references))):
            if rng.random() < share:
                _change(holder, name, edit)
    return document


def _places(value: Any, path: list[str], references: list[str] | None) -> Iterator[tuple[Any, Any]]:
    if (
        references is not None
        and isinstance(value, dict)
        and value.get("externalReference", references[0]) not in references
    ):
        return
    step, rest = path[0], path[1:]
    names: list[Any] = []
    if isinstance(value, dict):
        names = list(value) if step == "*" else [step]
    elif isinstance(value, list):
        names = list(range(len(value))) if step == "*" else [int(step)] if step.isdecimal() else []
    for name in names:
        if not rest:
            yield value, name
        elif (isinstance(value, list) and name < len(value)) or (isinstance(value, dict) and name in value):
            yield from _places(value[name], rest, references)


def _change(holder: Any, name: Any, edit: dict[str, Any]) -> None:
    if edit["do"] == "set":
        holder[name] = edit.get("value")
    elif (name not in holder) if isinstance(holder, dict) else (name >= len(holder)):
        return
    elif edit["do"] == "remove":
        del holder[name]
    elif edit["do"] == "text":
        holder[name] = None if holder[name] is None else str(holder[name])
    elif isinstance(holder, list):
        holder.insert(name, holder[name])
    elif isinstance(holder[name], list):
        holder[name] = holder[name] * 2
