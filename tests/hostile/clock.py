"""One clock for the marketplace and Redis: it goes on by itself, and jumps where a worker would wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import redis
from redis.client import Pipeline

from tests.sync.http_scenario import SteppedClock

_KEY: Final = "test:ahead"
_TIME: Final = (
    f"(function() local t = redis.call('TIME'); t[1] = t[1] + (redis.call('GET', '{_KEY}') or 0); return t end)()"
)


class WaitingClock(SteppedClock):
    """``on_step``: what else happens while time passes, called with the clock at most a second further each time."""

    on_step: Callable[[], None] = staticmethod(lambda: None)

    def wait(self, seconds: float) -> None:
        ends = self.ahead + seconds
        while self.ahead < ends:
            self.ahead = min(ends, self.ahead + 0.5) if ends - self.ahead < 30 else ends - 29
            self.on_step()


class ClockedRedis(redis.Redis):
    """A client for whose scripts, and for which, the server's time is that of ``clock``."""

    clock: SteppedClock

    @classmethod
    def at(cls, url: str, clock: SteppedClock) -> ClockedRedis:
        found: ClockedRedis = cls.from_url(url, socket_timeout=60)
        found.clock = clock
        found._known = -1
        return found

    _known: int

    def register_script(self, script: Any) -> Any:
        return super().register_script(script.replace("redis.call('TIME')", _TIME))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA":
            self._tell()
        return super().execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        self._tell()
        return super().pipeline(transaction, shard_hint)

    def time(self, **more: Any) -> tuple[int, int]:
        seconds, micros = super().time(**more)
        return seconds + int(self.clock.ahead), micros

    def _tell(self) -> None:
        ahead = int(self.clock.ahead)
        if ahead != self._known:
            self._known = ahead
            super().execute_command("SET", _KEY, ahead)


def now_ms(clock: SteppedClock) -> int:
    return round((time.time() + int(clock.ahead)) * 1000)
