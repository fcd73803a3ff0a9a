"""A draft of a configuration: what is proposed, what is left out, what an operator must decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect.head import Head

Target = str | dict[str, str | list[str]]
"""A column, a template over columns, or the long form with ``column`` or ``columns``, and ``split_on``."""


class Draft(msgspec.Struct, kw_only=True):
    """A proposal. ``left_out`` and ``decide`` hold sentences for an operator; ``unknown``: word -> rows, by field."""

    head: Head
    account: str
    url: str
    reference: str = ""
    updated_at: str = ""
    decimal: str = "."
    fields: dict[str, Target] = {}
    values: dict[str, dict[str, str]] = {}
    units: dict[str, str] = {}
    defaults: dict[str, str] = {}
    skip: dict[str, list[str]] = {}
    unknown: dict[str, dict[str, int]] = {}
    left_out: list[tuple[str, Target, str]] = []
    decide: list[str] = []
    unused: list[str] = []
    branch: str = ""
    tried: int = 0
    valid: int = 0
    """How many of the ``tried`` rows become a valid listing with this draft."""

    def source(self) -> dict[str, Any]:
        """Return the part of the account's ``source`` table that determines what rows mean."""
        return {
            "type": self.head.kind, "url": self.url, "decimal": self.decimal,
            "reference": None if self.reference == FILL_IN else self.reference or None,
            "updated_at": self.updated_at or None, "fields": self.fields, "values": self.values, "units": self.units,
            "defaults": self.defaults, "skip": self.skip,
        }  # fmt: skip

    def columns(self) -> Iterator[str]:
        """Yield the columns that the draft reads."""
        yield from filter(None, (self.reference, self.updated_at))
        yield from self.skip
        for target in self.fields.values():
            yield from columns_in(target, self.head.columns)

    def fill_in(self) -> list[str]:
        """Return the settings that an operator must replace."""
        values = {"reference": self.reference}
        values |= {f"fields.{name}": target for name, target in self.fields.items() if isinstance(target, str)}
        values |= {f"defaults.{name}": value for name, value in self.defaults.items()}
        return [name for name, value in values.items() if value == FILL_IN]


def columns_in(target: Target, known: Sequence[str]) -> list[str]:
    """Return the columns that a target reads. ``known``: those of the feed, for a wildcard."""
    if isinstance(target, str):
        return re.findall(r"\{([^{}]*)\}", target) if "{" in target else [target]
    columns = target.get("columns", target.get("column", ""))
    if isinstance(columns, list):
        return columns
    return [name for name in known if fnmatchcase(name, columns)] if "columns" in target else [columns]
