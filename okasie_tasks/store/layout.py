"""The version of the layout of the state in Redis.

Key: ``{prefix}layout`` (string). It is a number, or ``2>3`` while state of layout 2 is migrated. Newer state is
refused. Workers migrate older state when they start; see `okasie_tasks.store.migrations`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, cast

import redis

from okasie_tasks.errors import ConfigurationError

LAYOUT: Final = 4
"""Written by the first process that uses an empty prefix. Layout 1, of release 0.1, had no key."""
OLDEST: Final = 2
"""The oldest layout that is migrated."""


class Layout(NamedTuple):
    """The layout of the state under a prefix. ``migrating``: a migration to the next one has begun."""

    number: int
    migrating: bool = False

    @property
    def current(self) -> bool:
        return self.number == LAYOUT and not self.migrating


def layout_key(prefix: str) -> str:
    return f"{prefix}layout"


def check_layout(client: redis.Redis, *, prefix: str, accounts: Iterable[str], migrates: bool = False) -> None:
    """Claim an empty prefix for this layout. Raises `ConfigurationError` for state of another layout.

    ``migrates``: the caller starts workers, so older state that they migrate is accepted.
    """
    layout = usable_layout(client, prefix=prefix, accounts=accounts)
    if not layout.current and not migrates:
        raise ConfigurationError(
            f"Redis holds state of layout {layout.number} under {prefix!r}: workers of this release migrate it when"
            " they start, once no worker of the older release runs",
            where="redis.key_prefix",
        )


def usable_layout(client: redis.Redis, *, prefix: str, accounts: Iterable[str]) -> Layout:
    """Return the layout of the state; claims an empty prefix. Raises `ConfigurationError` if it cannot be migrated."""
    key = layout_key(prefix)
    raw = cast("bytes | None", client.get(key))
    if raw is None and not any(client.exists(f"{prefix}account:{account}") for account in accounts):
        client.set(key, str(LAYOUT), nx=True)
        raw = cast("bytes | None", client.get(key))
    number, _, migrating = (raw or b"1").decode(errors="replace").partition(">")
    if not number.isdecimal() or int(number) > LAYOUT:
        raise ConfigurationError(
            f"Redis holds state of layout {number:.20} under {prefix!r}, which is newer than this release"
            f" (layout {LAYOUT}): upgrade this process, or set another redis.key_prefix",
            where="redis.key_prefix",
        )
    if int(number) < OLDEST:
        raise ConfigurationError(
            f"Redis holds state of okasie-tasks 0.1 under {prefix!r}, which this release does not read: set another"
            " redis.key_prefix, and the next full run rebuilds the ledger without rewriting equal listings",
            where="redis.key_prefix",
        )
    return Layout(int(number), bool(migrating))
