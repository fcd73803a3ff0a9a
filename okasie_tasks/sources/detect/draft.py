"""A draft of a configuration: what is proposed, what is left out, what an operator must decide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from okasie_tasks.sources.detect.head import Head

FILL_IN: Final = "FILL-IN"
"""The value that an operator must replace. The marketplace refuses it as a location code, so no listing is sent."""

Target = str | dict[str, str]
"""A column, a template over columns, or the long form with ``column`` and ``split_on``."""


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
            "type": self.head.kind, "url": self.url, "reference": self.reference or None, "decimal": self.decimal,
            "updated_at": self.updated_at or None, "fields": self.fields, "values": self.values, "units": self.units,
            "defaults": self.defaults,
        }  # fmt: skip

    def columns(self) -> Iterator[str]:
        """Yield the columns that the draft reads."""
        yield from filter(None, (self.reference, self.updated_at))
        for target in self.fields.values():
            yield from columns_in(target)


def columns_in(target: Target) -> list[str]:
    """Return the columns that a target reads."""
    if isinstance(target, dict):
        return [target["column"]]
    return re.findall(r"\{([^{}]*)\}", target) if "{" in target else [target]
