"""A push that waits for its source has one message: the outbox does not count it as lost meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from okasie_tasks.errors import SourceBusy
from okasie_tasks.store.outbox import OutboxEntry
from okasie_tasks.tasks import requests
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

PUSH = "waiting-push"
LOST_SECONDS = 13.0


@pytest.fixture
def scenario(
    tmp_path: Path, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(2, seed=5)) as found:
        monkeypatch.setattr(requests, "services", lambda: found.services)
        yield found


def lost(scenario: GuardedScenario, now_ms: int) -> list[str]:
    return [name for name, _ in scenario.services.outbox.lost(now_ms, after_seconds=LOST_SECONDS)]


def test_a_waiting_push_is_lost_only_if_its_message_does_not_come_back(scenario: GuardedScenario) -> None:
    store, now_ms = scenario.services.redis, scenario.ctx.runs.now_ms()
    ask = OutboxEntry("okasie.push", {"account": "dex", "references": ["A"]}, now_ms, now_ms + 3_600_000)
    store.hset(f"{scenario.prefix}outbox", PUSH, msgspec.json.encode(ask))
    store.zadd(f"{scenario.prefix}outbox:sent", {PUSH: now_ms})
    with pytest.raises(SourceBusy), requests.taken(PUSH):
        raise SourceBusy("another push is reading the source", seconds=600, where="source")
    assert lost(scenario, now_ms + 600_000) == [], "its message is to come back only now"
    assert lost(scenario, now_ms + 700_000) == [PUSH], "its message has not come back: its worker died"
    with requests.taken(PUSH):
        pass
    with pytest.raises(SourceBusy), requests.taken(PUSH):
        raise SourceBusy("a copy of the message", seconds=1, where="source")
    assert lost(scenario, now_ms + 2_000_000) == [], "it was taken up"
