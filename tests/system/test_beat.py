"""Two Beats, or none for an hour: real Beat processes, and a clock that is stepped in what Redis holds of the schedule.

There are no workers: what Beat sends is counted where it waits.
"""

from __future__ import annotations

import json
import signal
import sys
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from redbeat.decoder import RedBeatJSONDecoder, RedBeatJSONEncoder

from okasie_tasks.local.supervisor import Child
from okasie_tasks.sandbox.sample import config_text
from okasie_tasks.worker.settings import CONTROL
from tests.support import Place, poll

pytestmark = pytest.mark.system

QUICK = "beat_max_loop_interval = 1\nredbeat_lock_timeout = 3\n"
"""The same machinery with a lock of seconds."""
ENTRIES = "okasie:beat:okasie-dex-"
SCHEDULE = "okasie:beat::schedule"
ASKS = {
    "incremental": {"account": "dex", "mode": "incremental"},
    "full": {"account": "dex", "mode": "full", "scheduled": True},
}


class Beats:
    def __init__(self, folder: Path, url: str, client: redis.Redis, *, full_at: str) -> None:
        self._folder, self._client, self.children = folder, client, list[Child]()
        place = Place(folder)
        text = config_text(feed="x.csv", base_url="http://127.0.0.1:9/api", key="k", account="dex")
        text = text.replace('incremental_every = "off"', 'incremental_every = "15m"')
        text = text.replace('full_at = "off"', f'full_at = "{full_at}"')
        place.config.write_text(f'[redis]\nurl = "{url}"\n{text}')
        (folder / "celeryconfig.py").write_text(QUICK)
        self._env = {**place.env, "OKASIE_CONFIG": str(place.config)}

    def start(self) -> Child:
        log = self._folder / f"beat-{len(self.children)}.log"
        argv = [
            "/bin/sh",
            "-c",
            'cd "$1" && shift && exec "$@"',
            "sh",
            str(self._folder),
            sys.executable,
            "-m",
            "celery",
            "-A",
            "okasie_tasks",
            "beat",
            "-l",
            "DEBUG",
        ]
        child = Child("beat", argv, log=log, env=self._env)
        child.start()
        self.children.append(child)
        poll(lambda: "Acquiring lock" in log.read_text(), what="a Beat that asks for the lock")
        return child

    def sent(self, kind: str = "incremental") -> int:
        """Runs that were asked for so far."""
        messages = [json.loads(raw) for raw in self._client.lrange(CONTROL, 0, -1)]
        bodies = [b64decode(each["body"]) for each in messages if each["headers"]["task"] == "okasie.sync"]
        return sum(json.loads(body)[1] == ASKS[kind] for body in bodies)

    def an_hour_passes(self) -> None:
        """As if the schedule had last been looked at an hour ago."""
        self._passes("incremental", timedelta(hours=1))

    def a_day_passes(self) -> None:
        self._passes("full", timedelta(days=1))

    def _passes(self, kind: str, passed: timedelta) -> None:
        then, entry = datetime.now(UTC) - passed, f"{ENTRIES}{kind}"
        meta = json.loads(self._client.hget(entry, "meta") or b"", cls=RedBeatJSONDecoder)
        self._client.hset(entry, "meta", json.dumps(meta | {"last_run_at": then}, cls=RedBeatJSONEncoder))
        self._client.zadd(SCHEDULE, {entry: then.timestamp()})

    def entry(self, kind: str) -> dict[str, Any]:
        """What redbeat keeps of an entry."""
        definition = self._client.hget(f"{ENTRIES}{kind}", "definition")
        found: dict[str, Any] = json.loads(definition or b"", cls=RedBeatJSONDecoder)
        return found

    def holder(self) -> bytes | None:
        return self._client.get("okasie:beat::lock")


@pytest.fixture
def beats(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[Beats]:
    # A time of day that no test runs into.
    at = datetime.now(ZoneInfo("Europe/Brussels")) + timedelta(hours=6)
    found = Beats(tmp_path, redis_url, client, full_at=f"{at:%H:%M}")
    yield found
    for child in found.children:
        if child.process is not None:
            child.process.kill()
            child.process.wait()


def test_two_beats_ask_for_each_run_once_and_the_second_makes_good_what_the_first_missed(beats: Beats) -> None:
    first = beats.start()
    second = beats.start()
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 1, what="the run that is due")

    # None for an hour: the one that works dies, and the lock keeps the other away for a while.
    first.process.kill()
    first.process.wait()
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 2, what="the missed run, once for all four that it was due")

    # One stands still for longer than its lock holds, and goes on beside the one that took over.
    third, before = beats.start(), beats.holder()
    second.process.send_signal(signal.SIGSTOP)
    poll(lambda: beats.holder() not in (None, before), what="the third in the place of the second")
    beats.an_hour_passes()
    second.process.send_signal(signal.SIGCONT)
    poll(lambda: beats.sent() == 3, what="the run that is due")
    poll(lambda: "Beat lost its lock" in second.log.read_text(), what="the one that lost its lock")
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 4, what="the run that is due")
    assert third.alive
    assert not any(beats.sent() > 4 for _ in range(20)), "nothing twice"

    # It stands by, and takes over in its turn.
    third.process.kill()
    third.process.wait()
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 5, what="the run that is due")
    assert second.alive


def test_beat_outlasts_a_failover_and_sends_what_became_due(beats: Beats, client: redis.Redis) -> None:
    beat = beats.start()
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 1, what="Beat at work")
    beats.an_hour_passes()
    client.replicaof("127.0.0.1", "1")  # it may be read, and not written
    try:
        poll(lambda: "Beat waits for Redis" in beat.log.read_text(), what="a Beat that waits")
        client.config_set("replica-serve-stale-data", "no")  # nor read
        poll(lambda: beat.log.read_text().count("Beat waits for Redis") == 2, what="a Beat that waits")
    finally:
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("NO", "ONE")
    client.delete("okasie:beat::lock")  # as a new master may not have it
    poll(lambda: beats.sent() == 2, what="the run that became due meanwhile")
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 3, what="the run that is due")
    assert beat.alive
    assert not any(beats.sent() > 3 for _ in range(20)), "nothing twice"


def test_a_restart_of_beat_asks_for_no_full_run(beats: Beats) -> None:
    first = beats.start()
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 1, what="the first Beat at work")
    assert beats.sent("full") == 0, "nothing is due merely because Beat started"
    seen = beats.entry("full")
    assert (seen["name"], seen["kwargs"]) == ("okasie-dex-full", ASKS["full"])
    assert len(seen["schedule"].hour) == 2, "winter and summer"
    beats.a_day_passes()
    poll(lambda: beats.sent("full") == 1, what="the full run that is due, once for both UTC times")

    first.process.kill()
    first.process.wait()
    beats.start()
    beats.an_hour_passes()
    poll(lambda: beats.sent() == 2, what="the second Beat at work")
    assert beats.sent("full") == 1
