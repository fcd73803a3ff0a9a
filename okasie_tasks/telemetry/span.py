"""A span as its callers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["internal", "client", "producer"]
Attributes = Mapping[str, Any]


class Span:
    """A span as callers see it. This one records nothing."""

    def set(self, **attributes: object) -> None:
        """Set attributes ``okasie.NAME``."""

    def answered(self, status: int) -> None:
        """Record the HTTP status of the response."""
