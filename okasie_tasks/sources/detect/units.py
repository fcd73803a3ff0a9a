"""The unit that a nested feed states beside a value: ``power/@unit``, ``power.unit`` beside ``power.value``."""

from __future__ import annotations

import re
from typing import Final

from okasie_tasks.sources.detect.draft import Draft
from okasie_tasks.sources.detect.head import cells
from okasie_tasks.sources.detect.vocabulary import CONVERTED, is_holder, plain, unit_of

_NAMES: Final = frozenset({"unit", "units", "uom", "eenheid", "unite", "einheit"})


def pick_units(draft: Draft) -> None:
    """Take the unit of each field; one that changes from car to car is for an operator."""
    for column in () if draft.head.has_columns else draft.head.columns:
        about, name = _split(column)
        if plain(name) not in _NAMES:
            continue
        for field in [field for field in CONVERTED if _is_about(draft.fields.get(field), about)]:
            words = sorted({str(cell).strip() for cell in cells(draft.head, column)})
            units = {unit_of(word) for word in words}
            if units == {CONVERTED[field]}:
                draft.units[field] = CONVERTED[field]
            elif units == {""}:
                draft.units.pop(field, None)
            elif units:
                draft.decide.append(f"{field} is in the unit that {column} states: {', '.join(map(repr, words[:5]))}")


def _is_about(target: object, about: str) -> bool:
    if not isinstance(target, str):
        return False
    holder, name = _split(target)
    return about == target or (about == holder and is_holder(name))


def _split(path: str) -> tuple[str, str]:
    """``engine/power/@unit`` -> ``engine/power``, ``unit``."""
    holder, name = re.fullmatch(r"(?:(.*)[./])?([^./]*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    return holder or "", name
