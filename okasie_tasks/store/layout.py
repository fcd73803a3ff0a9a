"""The version of the layout of the state in Redis. State of another layout is rejected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import redis

from okasie_tasks.errors import ConfigurationError

LAYOUT: Final = "3"
"""Written to ``{prefix}layout`` by the first process that uses an empty prefix. Layout 1, of release 0.1, had none."""


def check_layout(client: redis.Redis, *, prefix: str, accounts: Iterable[str]) -> None:
    """Claim an empty prefix for this layout. Raises `ConfigurationError` for state that another layout wrote."""
    key = f"{prefix}layout"
    layout = cast("bytes | None", client.get(key))
    if layout is None and not any(client.exists(f"{prefix}account:{account}") for account in accounts):
        client.set(key, LAYOUT, nx=True)
        layout = cast("bytes | None", client.get(key))
    if layout != LAYOUT.encode():
        writer = f"layout {layout.decode()}" if layout else "okasie-tasks 0.1"
        raise ConfigurationError(
            f"Redis holds state of {writer} under {prefix!r}, which this release does not read: set another"
            " redis.key_prefix, and the next full run rebuilds the ledger without rewriting equal listings",
            where="redis.key_prefix",
        )
