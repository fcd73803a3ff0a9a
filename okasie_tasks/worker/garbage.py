"""Keeps Python's garbage collector off what a worker never frees: its modules, and the libraries' tables.

A block of 5,000 rows makes many thousand objects that live until the block is done, so the collector looked at
everything every few blocks: a fifth of the processor time of the `diff` worker in a first sync. Children of a prefork
pool inherit both settings. What a part has read must be in no cycle: it is found late (`tests/sync/test_memory.py`).
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
