"""After how long without a success an account counts as stale, by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from okasie_tasks.core.staleness import stale_seconds

if TYPE_CHECKING:
    from okasie_tasks.settings import AccountSettings, AlertSettings


def stale_after(account: AccountSettings, alerts: AlertSettings) -> float | None:
    """Return the seconds after which the account is stale, None for never."""
    every, longest = account.incremental_every, alerts.stale_after
    return stale_seconds(
        every.total_seconds() if every else None,
        account.full_at is not None,
        longest.total_seconds() if longest else None,
    )
