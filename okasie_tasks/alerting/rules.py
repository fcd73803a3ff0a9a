"""Alerts: what is told to people who look at no screen, in words, and when an account counts as stale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

Kind = Literal["held", "failed", "partial", "stale"]

_STALE_INTERVALS: Final = 3.0
_SHORTEST_STALE_SECONDS: Final = 30 * 60.0
"""A marketplace that was away for a few minutes is no matter for a person yet."""
_STALE_FULL_SECONDS: Final = 26 * 3600.0
"""A day between two full runs, and two hours for the run itself."""
_MOVING_MS: Final = 15 * 60_000
"""A run that got on in this time is at work: the first full run of a large inventory takes hours."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person should know. ``at_ms``: Redis time. ``key`` tells it from others of its kind."""

    key: str
    kind: Kind
    account: str
    reason: str
    what_to_do: str
    at_ms: int
    run: str | None = None

    @property
    def title(self) -> str:
        """One short line without anything from outside."""
        heads = {"held": "a plan waits for you", "failed": "a run failed", "partial": "a run ended partial"}
        return f"{self.account}: {heads.get(self.kind, 'out of step with the marketplace')}"


def payload(alert: Alert, at: str, *, more: int = 0, test: bool = False) -> dict[str, Any]:
    """The JSON that a webhook gets. ``more``: alerts of this kind and account that were held back since the last one.

    ``text`` is the whole in one string, which the incoming webhooks of chat systems show.
    """
    lines = [f"okasie-tasks: {alert.title}", alert.reason, f"What to do: {alert.what_to_do}"]
    if more:
        lines.append(f"{more} more of this kind since the last message.")
    return {
        "account": alert.account,
        "run": alert.run,
        "kind": alert.kind,
        "reason": alert.reason,
        "what_to_do": alert.what_to_do,
        "at": at,
        "more": more,
        "test": test,
        "text": "\n".join(lines),
    }


def of_run(
    account: str, run: str, state: str, error: Mapping[str, Any], holds: Sequence[str], *, at_ms: int, expires: str = ""
) -> Alert:
    """The alert of a run that ended ``held``, ``failed`` or ``partial``. ``holds``: the guards' reasons."""
    if state == "held":
        what = f"`okasie run {run}` tells more, then `okasie approve {run}` or `okasie reject {run}`"
        return Alert(
            key=run, kind="held", account=account, run=run, reason="; ".join(holds) or "held by a guard",
            what_to_do=what + (f"; it expires {expires}" if expires else ""), at_ms=at_ms,
        )  # fmt: skip
    where = f"{error['where']}: " if error.get("where") else ""
    reason = f"{where}{error['message']}" if error.get("message") else "some parts failed; the cursor stays"
    if error.get("code") in ("unauthorized", "scope", "source", "configuration", "columns", "http"):
        what = f"`okasie doctor {account}` checks the key and the source and says how to mend them"
    else:
        what = f"`okasie run {run}` tells what failed; the next run tries again"
    kind: Kind = "failed" if state == "failed" else "partial"
    return Alert(key=run, kind=kind, account=account, run=run, reason=reason, what_to_do=what, at_ms=at_ms)


def stale_seconds(incremental_every: float | None, full: bool, wanted: float | None) -> float | None:
    """After how long without success an account is stale; None: nothing runs by itself, so nothing is late."""
    if wanted is not None:
        return wanted
    if incremental_every is not None:
        return max(_STALE_INTERVALS * incremental_every, _SHORTEST_STALE_SECONDS)
    return _STALE_FULL_SECONDS if full else None


def is_stale(*, since_ms: int, now_ms: int, after_seconds: float, moved_ms: int = 0) -> bool:
    """``since_ms``: the last success, or when we began to look. ``moved_ms``: when the run at work last got on."""
    return now_ms - since_ms > after_seconds * 1000 and now_ms - moved_ms > _MOVING_MS


def of_stale(account: str, *, since_ms: int, since: str, ever: bool, now_ms: int) -> Alert:
    minutes = (now_ms - since_ms) // 60_000
    hours = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    reason = f"no run has succeeded for {hours}" + (f", the last one {since}" if ever else "; none ever did")
    what = f"`okasie status {account}` tells whether workers and Beat are there, `okasie runs {account}` what failed"
    return Alert(key=f"since {since_ms}", kind="stale", account=account, reason=reason, what_to_do=what, at_ms=now_ms)
