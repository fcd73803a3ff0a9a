"""One writer per listing: who is sending a reference right now, across all workers and both lanes.

Two requests that are under way at once may reach the marketplace in either order. So a reference is held from before
its request is sent until its answer is in the ledger, under a lease that its holder renews.

Key: ``{prefix}writing:{account}`` (hash, reference -> end of the lease and holder).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import uuid4

import redis

from okasie_tasks.errors import ListingLocked, Unavailable
from okasie_tasks.store.scripts import script

LEASE_SECONDS: Final = 30.0
"""How long a dead worker's listings stay closed to others."""
_RENEW_SECONDS: Final = 10.0
_DOUBT_SECONDS: Final = 5.0
"""After a request without an answer: the marketplace may still be working on it."""
_BUSY_SECONDS: Final = 0.1
_AGAIN_SECONDS: Final = 0.5
"""Between two tries to let go while Redis is away."""


class HeldLocks(frozenset[str]):
    """References that are held. ``still_held()``: whether all of them are, for a whole lease more then."""

    still_held: Callable[[], bool]


class WriteLocks:
    """One account's locks."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._key = f"{prefix}writing:{account}"
        self._account = account
        self._lock, self._keep = script(client, "write_lock"), script(client, "write_keep")

    @contextlib.contextmanager
    def all(self, references: Sequence[str]) -> Iterator[None]:
        """Hold every one of these. Raises `ListingLocked`, holding none, when one of them is being written."""
        with self._acquire(references, "all") as mine:
            if len(mine) < len(references):
                raise ListingLocked(
                    "one of these listings is being written", seconds=_BUSY_SECONDS, where=self._account
                )
            yield

    @contextlib.contextmanager
    def free(self, references: Sequence[str]) -> Iterator[HeldLocks]:
        """Hold those of these that nobody is writing."""
        with self._acquire(references, "some") as mine:
            yield mine

    @contextlib.contextmanager
    def _acquire(self, references: Sequence[str], how: str) -> Iterator[HeldLocks]:
        token = uuid4().hex[:12]
        try:
            found: list[bytes] = self._lock(keys=[self._key], args=[token, _ms(LEASE_SECONDS), how, *references])
        except redis.RedisError:
            # It may have been done all the same, and only the answer was lost.
            self._release_later(token, references, 0.0)
            raise
        mine = [reference.decode() for reference in found]
        after = 0.0
        with self._renewed(token, mine):
            try:
                held = HeldLocks(mine)
                held.still_held = lambda: self._extend(token, mine, LEASE_SECONDS) == len(mine)
                yield held
            except Unavailable as error:
                after = _DOUBT_SECONDS if error.in_doubt else 0.0
                raise
            finally:
                try:
                    self._extend(token, mine, after)
                except redis.RedisError:
                    self._release_later(token, mine, after)

    def _release_later(self, token: str, references: Sequence[str], after: float) -> None:
        """Redis is away: let go as soon as it is back, or others would wait for the rest of the lease.

        The step lets go what still has this very token, so it may come as late as it likes. After a lease's time all
        is free anyhow.
        """
        began = time.monotonic()

        def try_again() -> None:
            while (gone := time.monotonic() - began) < LEASE_SECONDS:
                time.sleep(_AGAIN_SECONDS)
                with contextlib.suppress(redis.RedisError):
                    self._extend(token, references, max(0.0, after - gone))
                    return

        threading.Thread(target=try_again, name="lets-go", daemon=True).start()

    def _extend(self, token: str, references: Sequence[str], seconds: float) -> int:
        """Hold on to them for so long from now; returns how many were still ours."""
        if not references:
            return 0
        return int(self._keep(keys=[self._key], args=[token, _ms(seconds), *references]))

    @contextlib.contextmanager
    def _renewed(self, token: str, references: Sequence[str]) -> Iterator[None]:
        """A bulk call may take minutes (the marketplace mirrors its images): the lease is renewed meanwhile."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(_RENEW_SECONDS):
                with contextlib.suppress(redis.RedisError):
                    self._extend(token, references, LEASE_SECONDS)

        keeper = threading.Thread(target=renew, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()


def _ms(seconds: float) -> Any:
    return int(seconds * 1000)
