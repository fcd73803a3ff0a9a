"""One line of the report of ``okasie doctor``."""

from __future__ import annotations

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One line of the report. ``ok`` None: not checked, because an earlier check failed."""

    name: str
    ok: bool | None
    detail: str
    fix: str | None = msgspec.field(default=None, name="mend")
    """How to fix it. The JSON key is permanent."""
    warning: bool = False
    """The check passed, but an operator should look at it."""
