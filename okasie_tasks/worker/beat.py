"""Beat's scheduler: redbeat's, which keeps its schedule and its lock in Redis, made to outlast a failover of Redis."""

from __future__ import annotations

from typing import Any, Final

import redis
from redbeat.schedulers import RedBeatScheduler, acquire_distributed_beat_lock
from redis.exceptions import LockError

from okasie_tasks.logs import get_logger
from okasie_tasks.store.redis_problems import is_passing, redis_problem

log = get_logger(__name__)

_AGAIN_SECONDS: Final = 1.0


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """``beat_scheduler = "okasie_tasks.worker.beat:Scheduler"``.

    redbeat's Beat ends with the first tick at which Redis is away, is a replica, or no longer has its lock. This one
    looks again, and takes the lock again. Nothing is lost, because each tick reads from Redis what is due.
    """

    lock: Any
    _problem = ""

    @property
    def scheduler(self) -> Scheduler:
        """For redbeat's function that takes the lock, which expects Beat's service."""
        return self

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Return how many seconds to wait until the next one."""
        try:
            if self.lock is None:
                acquire_distributed_beat_lock(self)
            seconds: float = super().tick(*args, **kwargs)
        except LockError:
            log.warning("Beat lost its lock; it waits until the lock is free")
            self.lock = None
            return 0.0
        except redis.RedisError as error:
            if not is_passing(error):
                raise
            problem = redis_problem(error).message
            if problem != self._problem:
                log.warning("Beat waits for Redis", reason=problem)
            self._problem = problem
            return _AGAIN_SECONDS
        self._problem = ""
        return seconds

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send what is due, and only then note that it was sent: a failover in between sends it twice, not never."""
        sent = super().apply_async(entry, producer=producer, advance=False, **kwargs)
        if advance:
            self.reserve(entry)
        return sent
