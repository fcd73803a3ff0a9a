"""What can go wrong, one function each. All return when the cause is over: recovery is counted from then."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import psutil
import redis
import requests

from tests.chaos.fleet import RESTART_SECONDS, WORKERS, Fleet, signal_tree, tree
from tests.support import poll

_READERS: Final = {
    "okasie.control": ("control",),
    "okasie.urgent": ("urgent",),
    "okasie.api": ("api", "api2"),
    "okasie.diff": ("diff",),
}
_OUTAGE_SECONDS: Final = {True: (3.0,), False: (3.0, 30.0)}
_STOP_SECONDS: Final = {True: (2.0, 6.0), False: (10.0, 60.0)}
"""Longer and shorter than the time after which the broker takes a worker for dead."""
_HELD_SECONDS: Final = 2.0
_API_SECONDS: Final = 20.0
"""The breaker asks a marketplace that fails less and less often: so many failures alone could last for minutes."""

Fault = Callable[[Fleet, str, Random], None]


# -- processes -----------------------------------------------------------------------------------------------------


def child_kill(fleet: Fleet, account: str, rng: Random) -> None:
    """SIGKILL a pool child of the worker that compares."""
    children = list(tree(fleet.children["diff"]))[1:]
    if children:
        with contextlib.suppress(psutil.Error):
            rng.choice(children).kill()


def worker_kill(fleet: Fleet, account: str, rng: Random) -> None:
    """SIGKILL a whole worker; its supervisor starts it again."""
    fleet.kill(rng.choice(WORKERS), back_after=rng.uniform(*RESTART_SECONDS))


def worker_gone(fleet: Fleet, account: str, rng: Random) -> None:
    """SIGKILL one of two workers for good."""
    fleet.kill(rng.choice(("api", "api2")), back_after=None)


def publisher_kill(fleet: Fleet, account: str, rng: Random) -> None:
    """SIGKILL the application that asks, at one of its calls: played by the round itself, see `tests.chaos.round`."""


def beat_kill(fleet: Fleet, account: str, rng: Random) -> None:
    """SIGKILL Beat, which comes back or not."""
    fleet.kill("beat", back_after=rng.choice((None, 1.0)))


def stop_cont(fleet: Fleet, account: str, rng: Random) -> None:
    """SIGSTOP a worker and let it go on: it finishes late what others have done since."""
    child = fleet.children[rng.choice(WORKERS)]
    signal_tree(child, signal.SIGSTOP)
    time.sleep(rng.uniform(*_STOP_SECONDS[fleet.quick]))
    signal_tree(child, signal.SIGCONT)


# -- Redis ---------------------------------------------------------------------------------------------------------


def client_kill(fleet: Fleet, account: str, rng: Random) -> None:
    """All connections are cut, some times in a row."""
    for _ in range(rng.randint(1, 3)):
        with contextlib.suppress(redis.RedisError):
            fleet.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(rng.uniform(0.05, 0.5))


def redis_kill(fleet: Fleet, account: str, rng: Random) -> None:
    """kill -9 of the server, which comes back on its append-only file at once."""
    _redis_down(fleet, 0.2)


def redis_down(fleet: Fleet, account: str, rng: Random) -> None:
    """The server is away for some seconds."""
    _redis_down(fleet, rng.choice(_OUTAGE_SECONDS[fleet.quick]))


def _redis_down(fleet: Fleet, seconds: float) -> None:
    fleet.kill("redis", back_after=seconds)
    poll(fleet.answers, seconds=seconds + 30, what="Redis answering again")


def debug_sleep(fleet: Fleet, account: str, rng: Random) -> None:
    """The server stands still: a slow disk, a long command, a machine that swaps."""
    with contextlib.suppress(redis.RedisError):
        fleet.redis.execute_command("DEBUG", "SLEEP", str(round(rng.uniform(1, 4 if fleet.quick else 12), 1)))
    poll(fleet.answers, what="Redis answering again")


def out_of_memory(fleet: Fleet, account: str, rng: Random) -> None:
    """Every write is refused for a moment."""
    try:
        with contextlib.suppress(redis.RedisError):
            fleet.redis.config_set("maxmemory", 1)
        time.sleep(rng.uniform(0.5, 2.5))
    finally:
        poll(lambda: _unlimited(fleet), what="memory")


def _unlimited(fleet: Fleet) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(fleet.redis.config_set("maxmemory", 0))
    return False


# -- messages ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(fleet: Fleet, queue: str, seconds: float = _HELD_SECONDS) -> Iterator[None]:
    """Stop the readers of a queue until a message waits in it, for so long at most; they go on afterwards."""
    readers = [fleet.children[name] for name in _READERS[queue]]
    for reader in readers:
        signal_tree(reader, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not _length(fleet, queue):
            time.sleep(0.01)
        yield
    finally:
        for reader in readers:
            signal_tree(reader, signal.SIGCONT)


def _length(fleet: Fleet, queue: str) -> int:
    with contextlib.suppress(redis.RedisError):
        return int(fleet.redis.llen(queue))
    return 0


def duplicated(fleet: Fleet, account: str, rng: Random) -> None:
    """Messages of every queue are there twice or three times: some next in turn, some last."""
    for queue in rng.sample(tuple(_READERS), len(_READERS)) * 2:
        with _held(fleet, queue, 0.5), contextlib.suppress(redis.RedisError):
            for message in fleet.redis.lrange(queue, 0, -1) * rng.randint(1, 2):
                rng.choice((fleet.redis.lpush, fleet.redis.rpush))(queue, message)


def dropped(fleet: Fleet, account: str, rng: Random) -> None:
    """One message of a queue is lost, or all of them: as when a publisher dies before it has sent them."""
    queue = rng.choice(tuple(_READERS))
    with _held(fleet, queue), contextlib.suppress(redis.RedisError):
        messages = fleet.redis.lrange(queue, 0, -1)
        lost = messages if rng.random() < 0.5 else messages[:1]
        for message in lost:
            fleet.redis.lrem(queue, 1, message)


def popped_and_lost(fleet: Fleet, account: str, rng: Random) -> None:
    """A worker dies between taking a message from its queue and noting that it has it: nobody has it now."""
    queue = rng.choice(tuple(_READERS))
    for name in _READERS[queue]:
        signal_tree(fleet.children[name], signal.SIGSTOP)
    # The first message that comes goes to the connection that waits for it, and no further.
    time.sleep(rng.uniform(0.3, _HELD_SECONDS))
    for name in _READERS[queue]:
        fleet.kill(name, back_after=rng.uniform(*RESTART_SECONDS))


# -- the marketplace -----------------------------------------------------------------------------------------------


def _api(kind: str, *, times: tuple[int, int], seconds: float = 1.0) -> Fault:
    def fault(fleet: Fleet, account: str, rng: Random) -> None:
        path = rng.choice((None, None, "list", "bulk", "delete", "put"))
        match: dict[str, Any] = {"key": account} | ({"path": path} if path else {})
        lasts = {"times": rng.randint(*times), "for_seconds": _API_SECONDS}
        rule = {"kind": kind, "match": match, "seconds": seconds, **lasts}
        requests.post(f"{fleet.sandbox.admin_url}/faults", json=rule, timeout=60).raise_for_status()

    fault.__doc__ = f"The marketplace: {kind}."
    return fault


FAULTS: Final[dict[str, Fault]] = {
    "child_kill": child_kill,
    "worker_kill": worker_kill,
    "worker_gone": worker_gone,
    "publisher_kill": publisher_kill,
    "beat_kill": beat_kill,
    "stop_cont": stop_cont,
    "client_kill": client_kill,
    "redis_kill": redis_kill,
    "redis_down": redis_down,
    "debug_sleep": debug_sleep,
    "out_of_memory": out_of_memory,
    "duplicated": duplicated,
    "dropped": dropped,
    "popped_and_lost": popped_and_lost,
    "api_500": _api("500", times=(2, 14)),
    "api_drop_after": _api("drop_after", times=(1, 3)),
    "api_drop_before": _api("drop_before", times=(1, 3)),
    "api_truncated": _api("truncated", times=(1, 3)),
    "api_429": _api("429", times=(1, 5)),
}
OF_THE_API: Final = frozenset(name for name in FAULTS if name.startswith("api_"))
"""After these a run may end without everything; the next one brings it all right."""
