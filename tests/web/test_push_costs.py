"""What a push over HTTP costs the server: on a busy machine, each wait for a thread or for Redis takes milliseconds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from okasie_tasks.services import Services
from okasie_tasks.web.server import _bound
from tests.sync.http_scenario import HttpScenario, varied
from tests.web.serving import CONFIG, ENVIRON, Site, serving


@pytest.fixture
def served(tmp_path: Path, redis_url: str) -> Iterator[tuple[Site, Services]]:
    with (
        HttpScenario(tmp_path, redis_url, rows=varied(1, seed=5), more=CONFIG, environ=ENVIRON) as scenario,
        serving(scenario.services) as (site, _),
    ):
        yield site, scenario.services


def test_a_push_waits_twice_for_a_thread_and_four_times_for_redis(
    served: tuple[Site, Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, services = served

    def push() -> None:
        listing = {"externalReference": "A", "title": "Golf", "status": "draft"}
        assert site.post("/accounts/dex/push", {"listings": [listing]}, "pusher").status_code == 202

    push()
    threads, run_sync = [], anyio.to_thread.run_sync

    async def counted(function: Any, *args: Any, **options: Any) -> Any:
        threads.append(function)
        return await run_sync(function, *args, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    services.redis.config_resetstat()
    push()
    assert len(threads) == 2, "who calls, and what is done"
    commands = {name.removeprefix("cmdstat_") for name in services.redis.info("commandstats")} - {"config|resetstat"}
    one_trip = {"multi", "exec", "hset", "hsetnx", "expire", "zadd"}
    assert commands - one_trip == {"get", "time", "lpush"}, "failed attempts, the time, the message"


def test_a_response_does_not_wait_for_the_acknowledgement_of_its_headers() -> None:
    with _bound("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
