"""Times in the zone of the account that a command shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_zone: ContextVar[str] = ContextVar("zone", default="UTC")
_ISO: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


@contextmanager
def in_zone(zone: str) -> Iterator[None]:
    """Show times in this zone inside the block."""
    token = _zone.set(zone)
    try:
        yield
    finally:
        _zone.reset(token)


def when(iso: str | None, *, none: str = "-") -> str:
    """Return a time of a document as local time: ``2026-11-28 16:05:12``."""
    from okasie_tasks.reports.times import text  # noqa: PLC0415 - zoneinfo only where a time is shown

    try:
        return text(iso, _zone.get()) or none
    except ValueError:  # a cursor is the marketplace's text
        return iso or none


def in_text(text: str) -> str:
    """Return one of our own sentences with its times in local time. Not for texts that quote feeds or answers."""
    return _ISO.sub(lambda found: when(found[0]), text)
