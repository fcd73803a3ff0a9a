"""Fixtures of the tests of alerts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks import masking
from tests.alerts.scenario import Hook, Senders


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_known", ())


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str, client: redis.Redis, hook: Hook) -> Iterator[Senders]:
    senders = Senders(tmp_path, redis_url, '[alerts]\nwebhook = "env:HOOK"\n', HOOK=hook.url)
    with contextlib.closing(senders):
        yield senders
