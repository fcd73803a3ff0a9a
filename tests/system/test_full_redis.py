"""A server without memory: the commands name it, and `status` still shows everything that it can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place

pytestmark = pytest.mark.system


@pytest.fixture
def place(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[Place]:
    """An account whose server became full, after it was in use."""
    found = Place(tmp_path)
    found.config.write_text(f'[redis]\nurl = "{redis_url}"\n')
    write_csv(tmp_path / "dex.csv", cars(3, seed=1))
    with Sandbox([Key("a-key", "dex")]) as sandbox:
        found.account("dex", feed="dex.csv", base_url=sandbox.base_url, key="a-key")
        found.okasie("status")
        room = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1kb")
        yield found
        client.config_set("maxmemory", room)


def test_status_works_and_names_the_cause(place: Place) -> None:
    answer = place.okasie("status", "--json")
    document = answer.document
    assert (answer.status, document["missing"]) == (5, ["redis"]), answer
    assert "Redis is full" in document["redis_problem"]
    assert [entry["account"] for entry in document["accounts"]] == ["dex"]
    assert {queue["consumers"] for queue in document["queues"].values()} == {None}
    text = place.okasie("status").stdout
    assert "never ran" in text
    assert "Redis is full" in text
    assert "unknown consumers" in text


def test_commands_that_write_name_the_cause(place: Place) -> None:
    for command in (("sync", "dex"), ("push", "dex", "DEX-1"), ("pause", "dex")):
        answer = place.okasie(*command)
        assert (answer.status, "Redis is full" in answer.stderr) == (5, True), (command, answer)


def test_doctor_shows_the_memory_and_how_to_fix_it(place: Place) -> None:
    answer = place.okasie("doctor", "--json")
    checks = {check["name"]: check for check in answer.document["checks"]}
    assert answer.status == 1
    assert (checks["redis memory"]["ok"], "full" in checks["redis memory"]["detail"]) == (False, True)
    api = checks["dex: read:listings"]
    assert "Redis is full" in api["detail"]
    for check in (checks["redis memory"], api):
        assert "maxmemory" in check["mend"], check
