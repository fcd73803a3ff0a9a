"""A key that the marketplace refuses is noted for alerts, by a run and by a push."""

from __future__ import annotations

import pytest
import redis

from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.runs import Runs
from tests.system.conftest import Fleet

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("account", "command", "reason"),
    [
        ("wrong_key", ("sync", "wrong_key"), "HTTP 401"),
        ("no_scope", ("push", "no_scope", "DG-00001"), "the API key lacks a scope"),
        ("pushed_wrong_key", ("push", "pushed_wrong_key", "DG-00001"), "HTTP 401"),
    ],
)
def test_a_refused_key_is_noted(fleet: Fleet, account: str, command: tuple[str, ...], reason: str) -> None:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    assert fleet.place.okasie(*command).status == 1
    with redis.Redis.from_url(url) as client:
        since_ms, text, _ = Runs(client, prefix="okasie:").refused_key(account)
    assert since_ms > 0
    assert reason in text
