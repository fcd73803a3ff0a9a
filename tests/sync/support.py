"""Actors in threads of which exactly one runs at a time; a seed chooses who goes on at every step.

A step is a Redis command or a step of the fake marketplace. Time is virtual: it moves with every step, so that
any two moments have an order, and jumps when everybody waits. Redis is real; only its clock is ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Any, Final

import redis
from redis.client import Pipeline

_START_MS: Final = 1_800_000_000_000
_MOST_STEPS: Final = 60_000
_NEAR_MS: Final = 500
_NEAR_JUMPS_MS: Final = 4_000
"""In all: a lease of 30 s is renewed by a real timer, which virtual time must not outrun."""
_STEP_MS: Final = 2
"""More than what is lost where the package cuts a time in float seconds down to milliseconds."""
_IN_FLIGHT_MS: Final = 3_000
"""How long a request may be on its way: less than `WriteLocks` leaves for one whose answer never came."""
_CLOCK_KEY: Final = "test:clock"


class Killed(BaseException):
    """The actor's process is gone: nothing that it does from here on reaches anybody."""


class Actor:
    """A thread that runs only when it is told to."""

    def __init__(self, name: str, work: Callable[[], None], *, daemon: bool) -> None:
        self.name, self.daemon = name, daemon
        self.weight = 1
        self.killed = self.over = False
        self.error: BaseException | None = None
        self.wake_ms = 0
        self.until: Callable[[], object] | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        self._go.acquire()
        try:
            if not self.killed:
                work()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.over = True
        self._back.release()

    def resume(self) -> None:
        """Let it run to its next step. Called by the scheduler."""
        self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        """Wait to be resumed. Called by the actor itself."""
        self._back.release()
        self._go.acquire()

    def ready(self, now_ms: int) -> bool:
        return not self.over and now_ms >= self.wake_ms and (self.until is None or bool(self.until()))


class Scheduler:
    """Runs actors by the choices of a seed. What is on its way over a network is an event of its own."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now_ms = _START_MS
        self.actors: list[Actor] = []
        self._slow: list[tuple[int, Callable[[], None]]] = []
        self._arrivals: list[tuple[int, Callable[[], None]]] = []
        self.on_jump: Callable[[], None] = lambda: None
        self.may_die: Callable[[Actor], bool] = lambda _: False
        self._by_thread = threading.local()
        self._near_ms = 0

    # -- called by actors ------------------------------------------------------------------------------------------

    @property
    def me(self) -> Actor | None:
        return getattr(self._by_thread, "actor", None)

    def tick(self) -> None:
        self.now_ms += _STEP_MS

    def step(self) -> None:
        """Somebody else may go first."""
        self.wait()

    def sleep(self, seconds: float) -> None:
        self.wait(seconds=seconds)

    def wait(self, *, seconds: float = 0.0, until: Callable[[], object] | None = None) -> None:
        """Go on after so long, and not before ``until`` is true."""
        actor = self.me
        if actor is not None:
            if actor.killed:
                raise Killed
            actor.wake_ms, actor.until = self.now_ms + round(seconds * 1000), until
            actor.pause()
            if actor.killed:
                raise Killed
        while actor is None and self._arrivals:  # the test itself acts: nobody is there to be waited for
            self._arrivals.pop(0)[1]()
        self.tick()

    def arrives(self, event: Callable[[], None], *, slow: bool) -> None:
        """An event on its way: it happens at any moment from now on, or, ``slow``, as late as it may."""
        (self._slow if slow else self._arrivals).append((self.now_ms + _IN_FLIGHT_MS, event))

    # -- called by the test ----------------------------------------------------------------------------------------

    def add(self, name: str, work: Callable[[], None], *, daemon: bool = False) -> None:
        def as_actor() -> None:
            self._by_thread.actor = actor
            work()

        actor = Actor(name, as_actor, daemon=daemon)
        self.actors.append(actor)

    def run(self, settled: Callable[[], bool]) -> None:
        """Until every actor that is no daemon is over, nothing is on its way, and it is ``settled``."""
        self._near_ms = 0
        try:
            for _ in range(_MOST_STEPS):
                if not self._one(settled):
                    return
            raise AssertionError(f"not settled after {_MOST_STEPS} steps")
        finally:
            for actor in [actor for actor in self.actors if not actor.over]:
                actor.killed = True
                actor.resume()
            self.actors.clear()

    def _one(self, settled: Callable[[], bool]) -> bool:
        for events in (self._slow, self._arrivals):
            if events and events[0][0] <= self.now_ms:
                events.pop(0)[1]()
        if self.rng.random() < 0.03:
            for actor in self.actors:
                actor.weight = self.rng.choice((1, 4, 16, 64))
        ready = [actor for actor in self.actors if actor.ready(self.now_ms)]
        choices: list[Actor | None] = [*ready, *([None] if self._arrivals else [])]
        if not choices:
            return self._jump(settled)
        if self.rng.random() < 0.02:
            self._jump_near()
        chosen = self.rng.choices(choices, [actor.weight if actor else 4 for actor in choices])[0]
        if chosen is None:
            self._arrivals.pop(self.rng.randrange(len(self._arrivals)))[1]()
            return True
        chosen.killed = self.may_die(chosen)
        chosen.resume()
        if chosen.error is not None:
            raise chosen.error
        return True

    def _jump(self, settled: Callable[[], bool]) -> bool:
        """Everybody waits: time passes until somebody need not."""
        if not self._slow and all(actor.over or actor.daemon for actor in self.actors) and settled():
            return False
        wakes = [actor.wake_ms for actor in self.actors if not actor.over and actor.wake_ms > self.now_ms]
        wakes += [due_ms for due_ms, _ in self._slow]
        assert wakes, f"nobody will ever go on: {[actor.name for actor in self.actors if not actor.over]}"
        self.now_ms = min(wakes)
        self.on_jump()
        return True

    def _jump_near(self) -> None:
        """Somebody's short sleep ends before others have made a step."""
        waits = [actor.wake_ms - self.now_ms for actor in self.actors if not actor.over]
        near = [wait for wait in waits if 0 < wait <= _NEAR_MS]
        if near and self._near_ms + min(near) <= _NEAR_JUMPS_MS:
            self._near_ms += min(near)
            self.now_ms += min(near)


class SteppingRedis(redis.Redis):
    """A client whose every command is a step, on a server whose clock is the scheduler's."""

    scheduler: Scheduler

    def __init__(self, plain: redis.Redis, scheduler: Scheduler) -> None:
        super().__init__(connection_pool=plain.connection_pool)
        self.scheduler = scheduler
        self._ends_ms: dict[str, int] = {}
        self._expiring: set[str] = set()
        """Steps in Lua that let their first key run out after as many ms as their second argument says."""
        scheduler.on_jump = self._expire

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.scheduler.step()
        if args[0] == "EVALSHA":
            self.set_clock()
        elif args[0] == "SET" and "PX" in args:
            self._ends_ms[args[1]] = self.scheduler.now_ms + int(args[args.index("PX") + 1])
        elif args[0] == "PEXPIRE":
            self._ends_ms[args[1]] = self.scheduler.now_ms + int(args[2])
        answer = super().execute_command(*args, **options)
        if args[0] == "EVALSHA" and args[1] in self._expiring and answer:
            self._ends_ms[args[3]] = self.scheduler.now_ms + int(args[3 + int(args[2]) + 1])
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _SteppingPipeline(self.scheduler, self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def time(self, **_: Any) -> tuple[int, int]:
        self.scheduler.step()
        return self.scheduler.now_ms // 1000, self.scheduler.now_ms % 1000 * 1000

    def register_script(self, script: Any) -> Any:
        """The step with our clock, known to the server: a first call and a second are the same number of steps."""
        text = script.replace("redis.call('TIME')", f"redis.call('HMGET', '{_CLOCK_KEY}', 's', 'us')")
        super().execute_command("SCRIPT LOAD", text)
        step = super().register_script(text)
        if "'PX', ARGV[2]" in text:
            self._expiring.add(step.sha)
        return step

    def set_clock(self) -> None:
        now_ms = self.scheduler.now_ms
        super().execute_command("HSET", _CLOCK_KEY, "s", now_ms // 1000, "us", now_ms % 1000 * 1000)

    def _expire(self) -> None:
        for key in [key for key, end_ms in self._ends_ms.items() if end_ms <= self.scheduler.now_ms]:
            del self._ends_ms[key]
            super().execute_command("DEL", key)


class _SteppingPipeline(Pipeline):
    def __init__(self, scheduler: Scheduler, *args: Any) -> None:
        super().__init__(*args)
        self._scheduler = scheduler

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        self._scheduler.step()
        return super().execute(raise_on_error)
