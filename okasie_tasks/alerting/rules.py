"""The texts of alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

Kind = Literal[
    "held", "failed", "partial", "stale", "lost_fields", "sells_waiting", "rejects", "refused_key", "workers_gone"
]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an operator should know. ``at_ms``: Redis time. ``key``: unique within kind and account.

    ``account``: "" for the whole fleet.
    """

    key: str
    kind: Kind
    account: str
    reason: str
    what_to_do: str
    at_ms: int
    run: str | None = None

    @property
    def title(self) -> str:
        """One short line that contains no text from outside."""
        heads = {
            "held": "a plan needs approval",
            "failed": "a run failed",
            "partial": "a run ended partial",
            "lost_fields": "the marketplace no longer returns fields of most listings",
            "sells_waiting": "the source was not read completely, so listings are not sold",
            "rejects": "many listings were rejected",
            "refused_key": "the marketplace refuses the API key",
            "workers_gone": "workers have vanished",
        }
        return f"{self.account or 'workers'}: {heads.get(self.kind, 'not in sync with the marketplace')}"


def payload(alert: Alert, at: str, *, more: int = 0, test: bool = False) -> dict[str, Any]:
    """The JSON document for a webhook. ``more``: alerts of this kind and account suppressed since the last message.

    ``text`` is the whole alert in one string, which the incoming webhooks of chat systems show.
    """
    lines = [f"okasie-tasks: {alert.title}", alert.reason, f"What to do: {alert.what_to_do}"]
    if more:
        lines.append(f"{more} more of this kind since the last message.")
    return {
        "account": alert.account or None,
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
        what = f"`okasie run {run}` shows more, then `okasie approve {run}` or `okasie reject {run}`"
        return Alert(
            key=run, kind="held", account=account, run=run, reason="; ".join(holds) or "held by a guard",
            what_to_do=what + (f"; it expires {expires}" if expires else ""), at_ms=at_ms,
        )  # fmt: skip
    where = f"{error['where']}: " if error.get("where") else ""
    reason = f"{where}{error['message']}" if error.get("message") else "some parts failed; the cursor stays"
    if error.get("code") in ("unauthorized", "scope", "source", "configuration", "unknown_account", "columns", "http"):
        what = f"`okasie doctor {account}` checks the key and the source and shows how to fix them"
    else:
        what = f"`okasie run {run}` shows what failed; the next run retries it"
    kind: Kind = "failed" if state == "failed" else "partial"
    return Alert(key=run, kind=kind, account=account, run=run, reason=reason, what_to_do=what, at_ms=at_ms)


def of_lost_fields(account: str, run: str, reasons: Sequence[str], *, at_ms: int) -> Alert:
    """The alert of the first run in which most rows of the marketplace lacked a field."""
    what = "look at a listing there; if the fields are meant to be empty, raise max_field_loss_percent for one full run"
    return Alert(
        key=run, kind="lost_fields", account=account, run=run, reason="; ".join(reasons), what_to_do=what, at_ms=at_ms
    )


def of_waiting_sells(account: str, run: str, reason: str, *, rows: int, at_ms: int) -> Alert:
    """The alert of a run that found new rows without a readable reference, or after which more sells wait.

    ``rows``: those rows; 0: the source could not be read completely for another reason.
    """
    what = f"`okasie run {run}` shows more; the next run reads the source again"
    if rows:
        what = f"`okasie rejects {account}` lists the rows: correct them in the source, or skip them (source.skip)"
    return Alert(key=run, kind="sells_waiting", account=account, run=run, reason=reason, what_to_do=what, at_ms=at_ms)


def of_stale(account: str, *, since_ms: int, since: str, ever: bool, now_ms: int) -> Alert:
    minutes = (now_ms - since_ms) // 60_000
    hours = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    reason = f"no run has succeeded for {hours}" + (f", the last one {since}" if ever else "; none ever did")
    what = f"`okasie status {account}` shows whether workers and Beat run, `okasie runs {account}` what failed"
    return Alert(key=f"since {since_ms}", kind="stale", account=account, reason=reason, what_to_do=what, at_ms=now_ms)


# -- rejects, keys and workers -------------------------------------------------------------------------------------

_MANY_REJECTS: Final = 20
_MANY_REJECTS_SHARE: Final = 0.05
"""Of the rows that were read. A few rejects are everyday work, and `okasie rejects` lists them."""


def are_many(rejected: int, rows: int) -> bool:
    """Whether a run's new rejects point to a common cause, such as a changed export or contract."""
    return rejected > max(_MANY_REJECTS, _MANY_REJECTS_SHARE * rows)


def of_rejects(account: str, run: str, rejected: int, rows: int, *, at_ms: int) -> Alert:
    """The alert of a run that rejected many listings which were not rejected before."""
    return Alert(
        key=run, kind="rejects", account=account, run=run, at_ms=at_ms,
        reason=f"{rejected} listings were newly rejected; the source has {rows} rows",
        what_to_do=f"`okasie rejects {account}` lists them with their reasons; look for a common one",
    )  # fmt: skip


def of_refused_key(account: str, reason: str, *, since_ms: int, now_ms: int) -> Alert:
    """The alert of an API key that is refused since then, by runs or by pushes."""
    return Alert(
        key=f"since {since_ms}", kind="refused_key", account=account, at_ms=now_ms, reason=reason,
        what_to_do=f"`okasie doctor {account}` checks the key; pushes wait for an hour, then they are given up",
    )  # fmt: skip


def of_workers_gone(names: Sequence[str], unattended: Sequence[str], *, key: str, last: str, now_ms: int) -> Alert:
    """The alert of workers whose heartbeats stopped without a shutdown. ``last``: the newest of these heartbeats.

    ``key``: the same for the same worker and heartbeat. ``unattended``: queues that no other worker consumes.
    """
    rest = f"; nothing consumes {', '.join(unattended)}" if unattended else "; other workers consume their queues"
    return Alert(
        key=key, kind="workers_gone", account="", at_ms=now_ms,
        reason=f"no heartbeat of {', '.join(names)}, the last one {last}{rest}",
        what_to_do="look at their logs and at the memory of their machine, and start them again",
    )  # fmt: skip
