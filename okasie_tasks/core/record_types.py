"""Prepares the record types for use in several threads.

msgspec analyses a type when it is first decoded, and marks it as known before it has finished. Another thread that
decodes the same type meanwhile crashes the process (msgspec 0.22). So all types are analysed before threads start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


def prepare() -> list[type]:
    """Analyse all record types of the modules that are loaded; returns them.

    A module that is loaded later makes its decoders when it is loaded. Until then no other thread knows its types.
    """
    types = [kind for kind in _subclasses(msgspec.Struct) if kind.__module__.startswith("okasie_tasks.")]
    prepared = []
    for kind in types:
        try:
            msgspec.msgpack.Decoder(kind)
        except (NameError, TypeError):
            continue  # it is never decoded: a field is annotated with a name or a type that msgspec cannot use
        prepared.append(kind)
    return prepared


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)
