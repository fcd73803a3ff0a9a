"""What a response says about its request, by its status and its ``error`` (API docs, errors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

PERMANENT: Final = frozenset({400, 403, 404, 422})
"""The statuses with which the API judges the data of a request, or of an item in a bulk answer."""
_SCOPE_CODES: Final = frozenset({"SCOPE_DENIED", "INSUFFICIENT_SCOPE"})
_LONGEST_TEXT: Final = 200

Verdict = Literal["answer", "rate", "key", "scope", "refused", "failed"]
"""``rate``: 429; ``key``: 401; ``refused``: the data cannot be sent as it is; ``failed``: try again later."""


def verdict(status: int, body: object) -> Verdict:
    """What a response says about its request (errors).

    A refusal is the API's own judgement of the data only as ``{"error": {"code": ...}}`` with a permanent status. The
    page of a proxy or a firewall, a conflict, a lock and an outage may pass, whatever their status.
    """
    if 200 <= status < 300:
        return "answer"
    if status in (401, 429):
        return "key" if status == 401 else "rate"
    error = error_of(body)
    code = text(error.get("code"))
    if status == 403 and lacks_scope(code, text(error.get("message"))):
        return "scope"
    return "refused" if code and status in PERMANENT else "failed"


def lacks_scope(code: str | None, message: str | None) -> bool:
    """Whether a 403 is about the key, not about one profile. ``FORBIDDEN`` is the profile's code of the Dutch page."""
    if code is None or code in ("PROFILE_FORBIDDEN", "FORBIDDEN"):
        return False
    return code in _SCOPE_CODES or "scope" in (message or "").casefold()


def error_of(body: object) -> dict[str, Any]:
    """The ``error`` object of a failure, or an empty one."""
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def text(value: object) -> str | None:
    """``value`` as a short printable text, or None. Texts of a server are quoted, never trusted."""
    if not isinstance(value, str) or not value:
        return None
    clean = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 3] + "..."


def issues_of(error: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """``(field, message)`` pairs of a validation failure (errors)."""
    issues = error.get("issues")
    return tuple(
        (text(issue.get("path")) or "", text(issue.get("message")) or text(issue.get("code")) or "invalid")
        for issue in (issues if isinstance(issues, list) else [])[:20]
        if isinstance(issue, dict)
    )
