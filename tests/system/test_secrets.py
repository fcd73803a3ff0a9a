"""No API key in any Redis key or value, Celery message, log line, Flower page, command line or message of a command."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from okasie_tasks.adapters.embedded import find_embedded
from tests.support import faults, poll
from tests.system.conftest import Fleet

pytestmark = pytest.mark.system

MARK = "SECRET-"
"""Every key of the fleet begins with it, the refused one too."""


class Listener:
    """Everything that Redis is told, as MONITOR shows it: messages of the broker, results, our own keys."""

    def __init__(self, url: str) -> None:
        self.lines: list[str] = []
        self._client = redis.Redis.from_url(url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            while not self._stop.is_set():
                self.lines.append(
                    monitor.connection.read_response(disconnect_on_error=False).decode("utf-8", "replace")
                )

    def __enter__(self) -> Listener:
        self._thread.start()
        poll(lambda: self.lines, what="MONITOR")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # the workers' own traffic ends the last read
        self._thread.join(15)
        assert not self._thread.is_alive()


def values(client: redis.Redis) -> Iterator[bytes]:
    """Every key and all that stands in it."""
    for key in client.scan_iter(count=500):
        yield key
        match client.type(key):
            case b"string":
                yield client.get(key) or b""
            case b"hash":
                yield repr(client.hgetall(key)).encode()
            case b"list":
                yield repr(client.lrange(key, 0, -1)).encode()
            case b"set":
                yield repr(client.smembers(key)).encode()
            case b"zset":
                yield repr(client.zrange(key, 0, -1)).encode()
            case other:
                raise AssertionError(f"a type this test does not read: {other!r}")


def pages(fleet: Fleet) -> dict[str, str]:
    names = [f"worker/{name}@{_host(fleet)}" for name in ("control", "urgent", "api", "diff")]
    paths = ["", "workers", "tasks", "broker", "metrics", *names, f"task/{_some_task(fleet)}"]
    found = {path: requests.get(f"{fleet.flower_url}/{path}", timeout=20) for path in paths}
    assert {path: page.status_code for path, page in found.items()} == dict.fromkeys(paths, 200)
    return {path: page.text for path, page in found.items()}


def _host(fleet: Fleet) -> str:
    found = re.findall(r"control@(\S+) ready\.", log(fleet, "control"))
    return str(found[-1])


def _some_task(fleet: Fleet) -> str:
    return log(fleet, "api").split("Task okasie.fetch_page[")[1].split("]")[0]


def log(fleet: Fleet, name: str) -> str:
    return (fleet.place.folder / ".okasie" / "logs" / f"{name}.log").read_text()


def files(folder: Path) -> dict[Path, str]:
    """Logs, the append-only file (every write since the start, in plain text), the records of the state folder."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_socket()]
    return {path: path.read_bytes().decode("utf-8", "replace") for path in found}


def test_no_key_is_found_anywhere(fleet: Fleet) -> None:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    with Listener(url) as heard, redis.Redis.from_url(url) as client:
        # A marketplace that echoes what it was sent, and refuses: errors are where keys leak first.
        faults(fleet.sandbox, {"kind": "401", "match": {"key": "good", "path": "bulk"}, "times": 1})
        assert fleet.place.okasie("sync", "good", "--full").status == 1
        assert fleet.place.okasie("sync", "good", "--full").status == 0
        assert fleet.place.okasie("sync", "wrong_key", "--full", "--json").status == 1
        assert fleet.place.okasie("sync", "no_scope", "--full").status == 1
        assert fleet.place.okasie("doctor", "good").status == 0
        assert fleet.place.okasie("doctor", "wrong_key").status == 1
        assert fleet.place.okasie("doctor", "no_scope", "--json").status == 1
        for command in (
            ["status"],
            ["runs", "good"],
            ["status", "--json"],
            ["plan", "good", "--json"],
            ["metrics", "--once"],
        ):
            assert fleet.place.okasie(*command).status == 0
        seen = [value.decode("utf-8", "replace") for value in values(client)]
        flower = pages(fleet)
    written = {**files(fleet.place.folder / ".okasie"), fleet.up.log: fleet.up.said()}
    commands = [" ".join(process.cmdline()) for process in fleet.up.tree()]
    texts = {
        "a Redis key or value": "\n".join(seen),
        "a command to Redis": "\n".join(heard.lines),
        "what commands print": "\n".join(answer.text for answer in fleet.place.said),
        "a command line": "\n".join(commands),
        **{f"Flower's /{path}": text for path, text in flower.items()},
        **{f"{path}": text for path, text in written.items()},
    }
    assert [place for place, text in texts.items() if MARK in text] == []
    # The search looks where it should: what may be known is found there.
    assert "okasie.upsert_chunk" in texts["a command to Redis"]
    assert "okasie:account:good" in texts["a Redis key or value"]
    assert "okasie.fetch_page" in texts["Flower's /tasks"] or "okasie.fetch_page" in "".join(flower.values())
    assert any("okasie:account:good" in text for text in written.values()), "the append-only file"
    assert "401" in texts["what commands print"]


@pytest.mark.parametrize("place", ["value", "key"])
def test_the_search_finds_a_key_that_leaked(client: redis.Redis, place: str) -> None:
    client.hset("okasie:x" if place == "value" else f"okasie:{MARK}x", "field", f"{MARK}good")
    assert any(MARK.encode() in value for value in values(client))
