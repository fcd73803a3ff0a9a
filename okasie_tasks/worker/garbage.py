"""Keeps Python's garbage collector off what a worker never frees: its modules, and the libraries' tables.

A block of 5,000 rows makes some ten thousand objects that live until the block is done, so the collector looked at
everything every few blocks: a fifth of the processor time of a first sync in the `diff` worker, and nothing was ever
found. Children of a prefork pool inherit both settings.
"""

from __future__ import annotations

import gc
from typing import Final

from celery.signals import worker_init

_THRESHOLDS: Final = (10_000, 10, 10)
"""New objects, and collections of the two younger generations, before the next one is collected."""


@worker_init.connect
def freeze(**_: object) -> None:
    """Exempt all objects that exist now, and collect new ones less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
