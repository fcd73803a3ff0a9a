"""State that another release wrote is refused with one sentence, by commands and by workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.store.layout import check_layout
from okasie_tasks.store.runs import Runs
from tests.support import Place


def test_an_empty_prefix_is_claimed_and_stays_readable(client: redis.Redis) -> None:
    for _ in range(2):
        check_layout(client, prefix="okasie:", accounts=["dex"])
        Runs(client, prefix="okasie:").request("dex", "full")
    assert client.get("okasie:layout") == b"4"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "Redis holds state of okasie-tasks 0.1 under 'okasie:'"),
        ({"okasie:layout": "2"}, "Redis holds state of layout 2 under 'okasie:': workers of this release migrate it"),
        ({"okasie:layout": "5"}, "Redis holds state of layout 5 under 'okasie:', which is newer than this release"),
    ],
)
def test_state_of_another_layout_is_refused(client: redis.Redis, written: dict[str, str], message: str) -> None:
    client.hset("okasie:account:dex", "cursor", "2026-11-01T00:00:00Z")
    for key, value in written.items():
        client.set(key, value)
    before = sorted(client.keys())
    with pytest.raises(ConfigurationError, match=f"redis.key_prefix: {message}"):
        check_layout(client, prefix="okasie:", accounts=["other", "dex"])
    assert sorted(client.keys()) == before
    check_layout(client, prefix="okasie2:", accounts=["dex"])


def test_commands_and_workers_say_so_and_end(client: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.account("dex", feed="dex.csv", base_url="http://127.0.0.1:1", key="key")
    place.env |= {"OKASIE_REDIS__URL": redis_url, "OKASIE_CONFIG": str(place.config)}
    client.hset("okasie:account:dex", "cursor", "2026-11-01T00:00:00Z")
    answer = place.okasie("status")
    assert answer.status == 2
    assert answer.stderr.count("\n") == 1
    assert "state of okasie-tasks 0.1" in answer.stderr
    assert "Traceback" not in answer.stderr
    argv = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "okasie_tasks",
        "worker",
        "-Q",
        "okasie.api",
        "-P",
        "threads",
        "-c",
        "1",
    ]
    worker = subprocess.run(argv, cwd=tmp_path, env=place.env, capture_output=True, text=True, timeout=120, check=False)
    assert worker.returncode != 0
    assert "state of okasie-tasks 0.1" in worker.stderr
