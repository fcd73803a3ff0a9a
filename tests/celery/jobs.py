"""Small tasks that leave notes in a separate database, and the faults that a test arms there beforehand.

Imported by workers of both kinds: plain Celery's, and this project's (by ``imports`` of their celeryconfig.py).
"""

from __future__ import annotations

import os
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any

import redis
from celery import Task, current_app, shared_task
from celery.signals import worker_process_init
from redis.connection import AbstractConnection

FAULT = "fault"
"""The fault that is to happen once: ``kill between`` | ``request lost`` | ``answer lost`` | ``join lost``."""

_LONGEST_SECONDS = 120.0
"""A test that fails may leave a task without its end, and its worker serves the tests after it."""


@cache
def notes(pid: int = 0) -> redis.Redis:
    return redis.Redis.from_url(os.environ["NOTES_URL"], decode_responses=True)


def note(key: str, value: str) -> None:
    notes(os.getpid()).rpush(key, value)


def armed(fault: str) -> bool:
    """Whether this fault is to happen now. It happens once only."""
    took = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
    return bool(notes(os.getpid()).eval(took, 1, FAULT, fault))


@shared_task(name="jobs.part", bind=True, ignore_result=False)
def part(self: Task[Any, Any], name: str, number: int, until: str = "") -> int:
    """Ends when the file ``until`` is there."""
    note(f"{name}:parts", str(number))
    _wait(until)
    return number


def _wait(until: str) -> None:
    give_up = time.monotonic() + _LONGEST_SECONDS
    while until and not Path(until).exists() and time.monotonic() < give_up:
        time.sleep(0.05)


@shared_task(name="jobs.body")
def body(numbers: list[int], name: str) -> None:
    note(f"{name}:bodies", ",".join(map(str, numbers)))


@shared_task(name="jobs.hold")
def hold(name: str, until: str = "") -> None:
    """Ends when the file ``until`` is there."""
    note(f"{name}:begun", str(os.getpid()))
    _wait(until)
    note(f"{name}:ended", str(os.getpid()))


@shared_task(name="jobs.die", ignore_result=False)
def die(name: str) -> None:
    """Kills its process the first time."""
    note(f"{name}:times", str(time.time()))
    if notes(os.getpid()).llen(f"{name}:times") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


# -- faults --------------------------------------------------------------------------------------------------------


@worker_process_init.connect
def prepare_faults(**_: object) -> None:
    die_between_the_steps_of_a_result()
    lose_connections()


def die_between_the_steps_of_a_result() -> None:
    """After the first of the two steps, whichever that is, of storing a part's result and counting the part."""
    backend = type(current_app.backend)
    for name in ("store_result", "on_chord_part_return"):
        setattr(backend, name, _and_die(getattr(backend, name)))


def _and_die(step: Any) -> Any:
    def stepped(*args: Any, **kwargs: Any) -> Any:
        done = step(*args, **kwargs)
        if armed("kill between"):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return stepped


def lose_connections() -> None:
    """While a part is counted: before the count, after it, or when the parts are read for the body."""
    send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

    def sent(self: Any, command: Any, check_health: bool = True) -> None:
        raw = b"".join(command) if isinstance(command, list) else command
        # Two more scripts have these keys, without the first.
        counts = b"EVALSHA" in raw and b"celery-taskset-meta-" in raw and b".t\r" in raw and b".c\r" in raw
        counts = counts and raw.index(b".j\r") < raw.index(b".c\r")
        if (counts and armed("request lost")) or (b"ZRANGE" in raw and b".j\r" in raw and armed("join lost")):
            self.disconnect()
            raise redis.ConnectionError("the request was lost")
        send(self, command, check_health)
        if counts and notes(os.getpid()).get(FAULT) == "answer lost":
            self.kept = read(self)
            if self.kept[3] == 1 and armed("answer lost"):
                del self.kept
                self.disconnect()
                raise redis.ConnectionError("the answer was lost: the claim was taken")

    def got(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__.pop("kept") if "kept" in self.__dict__ else read(self, *args, **kwargs)

    AbstractConnection.send_packed_command = sent  # type: ignore[method-assign]
    AbstractConnection.read_response = got  # type: ignore[method-assign]
