"""What the tests of sources share."""

from __future__ import annotations

import pytest

from okasie_tasks.sources.transports import base


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passing fault is tried again at once."""
    monkeypatch.setattr(base, "PAUSES_SECONDS", [0.0, 0.0])
