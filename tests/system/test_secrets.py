"""No secret in any Redis key or value, Celery message, log line, Flower page, metric, command line or word of a command.

Canaries are the API keys, a feed's user, token and header, a database's and a plugin's password, and Redis' own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
import requests

from okasie_tasks.local.embedded_redis import find_server
from okasie_tasks.local.fleet import reserved_port
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT
from tests.support import Answer, Place, Workers, faults, poll
from tests.system.conftest import CANARIES, Fleet, secret

pytestmark = pytest.mark.system

SECURITY = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
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
            case b"none":
                continue  # it expired or was deleted since the scan named it
            case other:
                raise AssertionError(f"a type this test does not read: {other!r}")


def pages(fleet: Fleet) -> dict[str, str]:
    names = [f"worker/{name}@{_host(fleet)}" for name in ("control", "urgent", "api", "diff")]
    tasks = [f"task/{task}" for task in (_some_task(fleet), *_failed_tasks(fleet))]
    paths = ["", "workers", "tasks", "broker", "metrics", *names, *tasks]
    return {path: page(fleet, path) for path in paths}


def page(fleet: Fleet, path: str) -> str:
    """The text of one of Flower's pages, once it has heard of what the page is about."""

    def look() -> requests.Response | None:
        answer = requests.get(f"{fleet.flower_url}/{path}", timeout=300)
        return answer if answer.status_code == 200 else None

    return str(poll(look, what=f"Flower's page {path!r}").text)


def _host(fleet: Fleet) -> str:
    found = re.findall(r"control@(\S+) ready\.", log(fleet, "control"))
    return str(found[-1])


def _some_task(fleet: Fleet) -> str:
    return log(fleet, "api").split("Task okasie.fetch_page[")[-1].split("]")[0]


def _failed_tasks(fleet: Fleet) -> list[str]:
    found = re.findall(r"Task okasie\.push\[(\S+?)\] raised", log(fleet, "urgent"))
    return list(dict.fromkeys(found))


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
        runs = _fail_with_canaries(fleet)
        shown = (
            ["status"],
            ["runs", "good"],
            ["status", "--json"],
            ["plan", "good", "--json"],
            ["metrics", "--once"],
            ["runs", "canary_read", "--json"],
            ["run", runs["canary_read"]],
            ["run", runs["canary_load"], "--json"],
            ["why", "good", "DG-00001", "--json"],
        )
        assert [answer.status for answer in at_once(fleet, shown)] == [0] * len(shown)
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
    assert [answer.text for answer in fleet.place.said if MARK in answer.text] == []
    assert [place for place, text in texts.items() if MARK in text] == []
    # What failed is told all the same, with the reason.
    assert "no login with ***" in texts_of(written, "urgent.log")
    assert "no login with ***" in texts["what commands print"]
    # The search looks where it should: what may be known is found there.
    assert "okasie.upsert_chunk" in texts["a command to Redis"]
    assert "okasie:account:good" in texts["a Redis key or value"]
    assert "okasie.fetch_page" in texts["Flower's /tasks"] or "okasie.fetch_page" in "".join(flower.values())
    assert any("okasie:account:good" in text for text in written.values()), "the append-only file"
    assert "401" in texts["what commands print"]


def _fail_with_canaries(fleet: Fleet) -> dict[str, str]:
    """The runs, by account. Runs, looks and pushes that meet broken sources; and a configuration that is refused with its key in it."""
    place = fleet.place
    broken = [["sync", name, "--json"] for name in CANARIES]
    broken += [["doctor", "canary_feed", "--json"], ["doctor", "canary_load"]]
    answers = at_once(fleet, broken)
    assert [answer.status for answer in answers] == [1] * len(broken)
    before = len(_failed_tasks(fleet))  # other tests of this fleet have pushes that fail
    # On a busy machine workers may take too long to say that they are there: asked again.
    for name in ("canary_load", "canary_read"):
        poll(lambda: place.okasie("push", name, "A1", "--no-wait").status == 0, what=f"a push of {name}")  # noqa: B023
    bad = place.folder / "bad.toml"
    bad.write_text(
        f'[redis]\nurl = "redis://:{secret("bad_redis")}@127.0.0.1:1/0"\n'
        f'[accounts.x]\napi_key = "{secret("literal")}"\nbase_url = "https://u:{secret("bad_url")}@host"\n'
    )
    refused = place.okasie("status", "--config", str(bad), "--json", env={"OKASIE_DEBUG": "1"})
    assert refused.status == 2
    assert "accounts.x.base_url: got 'https://***@host'" in refused.text
    poll(lambda: len(_failed_tasks(fleet)) >= before + 2, what="both pushes fail")
    return {name: answer.document["run"] for name, answer in zip(CANARIES, answers, strict=False)}


def at_once(fleet: Fleet, commands: Sequence[Sequence[str]]) -> list[Answer]:
    """Run commands side by side."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda words: fleet.place.okasie(*words), commands))


def rights(password: str) -> str:
    """The users that docs/security.md tells to set up."""
    found = re.search(r"^user okasie on .*\nuser default off$", SECURITY, re.MULTILINE)
    assert found
    return found[0].replace("CHANGE-ME", password) + "\n"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key(secret("dex"), "dex")]) as found:
        yield found


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port(7_100) as found:
        yield found


def test_the_password_of_redis_is_shown_nowhere_and_its_user_can_do_no_more_than_it_must(
    tmp_path: Path, sandbox: Sandbox, port: int
) -> None:
    """A server with a password, one worker for all queues, and what Celery and we show of our own configuration."""
    password = secret("redis")
    (tmp_path / "valkey.conf").write_text(rights(password))
    server = [find_server().path, str(tmp_path / "valkey.conf"), "--port", str(port), "--bind", "127.0.0.1",
              "--appendonly", "yes", "--save", "", "--dir", str(tmp_path), "--loglevel", "warning"]  # fmt: skip
    place, supervisor = Place(tmp_path), Supervisor(print)
    place.env["REDIS_URL"] = f"redis://okasie:{password}@127.0.0.1:{port}/0"
    write_csv(tmp_path / "dex.csv", cars(5, seed=1))
    place.account("dex", feed="dex.csv", base_url=sandbox.base_url, key="env:DEX_KEY")
    place.env["DEX_KEY"] = secret("dex")
    place.config.write_text(
        place.config.read_text() + '[redis]\nurl = "env:REDIS_URL"\n[log]\nformat = "json"\n'
        '[alerts]\nwebhook = "env:HOOK"\n'
    )
    place.env["HOOK"] = f"http://127.0.0.1:1/{secret('hook')}"
    supervisor.add(Child("redis", [str(part) for part in server], log=tmp_path / "redis.log"))
    celery = [sys.executable, "-m", "celery", "-A", "okasie_tasks"]
    env = {**place.env, "OKASIE_CONFIG": str(place.config)}
    try:
        with Workers(place, [",".join((CONTROL, URGENT, API, DIFF))]):
            asked = [["inspect", "conf"], ["inspect", "stats"], ["report"]]
            said = [
                subprocess.run([*celery, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300,
                               check=True)
                for words in asked
            ]  # fmt: skip
            # A run, a push, a failed run and its alert, and what shows them: all with the rights of docs/security.md.
            assert place.okasie("doctor").status == 0
            assert place.okasie("sync", "dex", "--full").status == 0
            assert place.okasie("push", "dex", "DG-00001").status == 0
            (tmp_path / "dex.csv").unlink()
            assert place.okasie("sync", "dex").status == 1
            for words in (
                ["status"],
                ["metrics", "--once"],
                ["pause", "dex"],
                ["resume", "dex"],
                ["why", "dex", "DG-00001"],
            ):
                assert place.okasie(*words).status == 0, words
            poll(lambda: "alert not delivered" in (tmp_path / "w0.log").read_text(), what="the alert")
            supervisor.add(Child("beat", [*celery, "beat", "-l", "DEBUG"], log=tmp_path / "beat.log", env=env))
            poll(lambda: "Sending due task" in (tmp_path / "beat.log").read_text(), what="Beat's first tick")
            wrong = {"REDIS_URL": f"redis://:{secret('wrong_redis')}@127.0.0.1:{port}/0"}
            assert place.okasie("status", env=wrong).status == 5
    finally:
        supervisor.stop(20)
    texts = {**{" ".join(words): one.stdout + one.stderr for words, one in zip(asked, said, strict=True)}}
    texts |= {name: (tmp_path / name).read_text() for name in ("w0.log", "beat.log")}
    texts["commands"] = "\n".join(answer.text for answer in place.said)
    assert [place for place, text in texts.items() if MARK in text] == []
    assert [name for name, text in texts.items() if "NOPERM" in text or "no permissions" in text.casefold()] == []
    assert str(port) in texts["inspect conf"], "the address is shown"
    assert all(json.loads(line) for line in texts["w0.log"].splitlines() if line.startswith("{"))


def texts_of(written: dict[Path, str], name: str) -> str:
    return next(text for path, text in written.items() if path.name == name)


@pytest.mark.parametrize("place", ["value", "key"])
def test_the_search_finds_a_key_that_leaked(client: redis.Redis, place: str) -> None:
    client.hset("okasie:x" if place == "value" else f"okasie:{MARK}x", "field", f"{MARK}good")
    assert any(MARK.encode() in value for value in values(client))
