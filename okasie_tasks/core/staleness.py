"""When an account counts as stale: no run has succeeded for longer than its schedule explains."""

from __future__ import annotations

from typing import Final

_STALE_INTERVALS: Final = 3.0
_SHORTEST_STALE_SECONDS: Final = 30 * 60.0
"""An operator need not act when the marketplace was unreachable for a few minutes."""
_STALE_FULL_SECONDS: Final = 26 * 3600.0
"""A day between two full runs, and two hours for the run."""
_MOVING_MS: Final = 15 * 60_000
"""A run that made progress in this time is active: the first full run of a large inventory takes hours."""


def stale_seconds(incremental_every: float | None, full: bool, stale_after: float | None) -> float | None:
    """Seconds without success after which an account is stale. None: it has no schedule, so it is never stale."""
    if stale_after is not None:
        return stale_after
    if incremental_every is not None:
        return max(_STALE_INTERVALS * incremental_every, _SHORTEST_STALE_SECONDS)
    return _STALE_FULL_SECONDS if full else None


def is_stale(*, since_ms: int, now_ms: int, after_seconds: float, moved_ms: int = 0) -> bool:
    """Whether an account is stale.

    ``since_ms``: the last success, or the first check. ``moved_ms``: when the active run last made progress.
    """
    return now_ms - since_ms > after_seconds * 1000 and now_ms - moved_ms > _MOVING_MS
