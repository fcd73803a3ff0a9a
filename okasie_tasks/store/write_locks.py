"""Write locks: one writer per listing, across all workers and both lanes.

Concurrent requests may reach the marketplace in either order. So a reference is locked from before its request is sent
until its response is in the ledger, under a lease that its holder renews.

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
from okasie_tasks.store.scripts import Call, script

LEASE_SECONDS: Final = 30.0
"""How long a dead worker's listings stay locked."""
_RENEW_SECONDS: Final = 10.0
_DOUBT_SECONDS: Final = 5.0
"""After a request without a response: the marketplace may still be processing it."""
_BUSY_SECONDS: Final = 0.1
_AGAIN_SECONDS: Final = 0.5
"""Between two attempts to release while Redis is unreachable."""


Lock = Callable[[Call], list[bytes]]
"""Executes the step ``write_lock``, and returns its reply."""


class HeldLocks(frozenset[str]):
    """Locked references. ``still_held()``: renews them all for a whole lease; returns whether all are still held."""

    still_held: Callable[[], bool]
    key: str
    """Of the account's locks in Redis."""
    token: str
    """Of this holder."""
    account: str

    def lost(self) -> ListingLocked:
        """What to raise when one of them is no longer held."""
        return ListingLocked("the lock of one of these listings was lost", seconds=_BUSY_SECONDS, where=self.account)


class WriteLocks:
    """One account's locks."""

    def __init__(self, client: redis.Redis, *, prefix: str, account: str) -> None:
        self._key = f"{prefix}writing:{account}"
        self._account = account
        self._lock, self._keep = script(client, "write_lock"), script(client, "write_keep")

    @contextlib.contextmanager
    def all(self, references: Sequence[str], *, lock: Lock | None = None) -> Iterator[HeldLocks]:
        """Lock all of these. Raises `ListingLocked`, holding none, when one of them is being written.

        ``lock`` executes the step ``write_lock``, together with others.
        """
        with self._acquire(references, "all", lock or self._lock_alone) as mine:
            if len(mine) < len(references):
                raise ListingLocked(
                    "one of these listings is being written", seconds=_BUSY_SECONDS, where=self._account
                )
            yield mine

    @contextlib.contextmanager
    def free(self, references: Sequence[str]) -> Iterator[HeldLocks]:
        """Lock those of these that are not being written."""
        with self._acquire(references, "some", self._lock_alone) as mine:
            yield mine

    def _lock_alone(self, call: Call) -> list[bytes]:
        keys, args = call
        return list(self._lock(keys=keys, args=args))

    @contextlib.contextmanager
    def _acquire(self, references: Sequence[str], how: str, lock: Lock) -> Iterator[HeldLocks]:
        token = uuid4().hex[:12]
        try:
            locked = lock(([self._key], [token, _ms(LEASE_SECONDS), how, *references]))
        except redis.RedisError:
            # The lock may have been taken, and only the reply lost.
            self._release_later(token, references, 0.0)
            raise
        mine = [reference.decode() for reference in locked]
        after = 0.0
        with self._renewed(token, mine):
            try:
                held = HeldLocks(mine)
                held.key, held.token, held.account = self._key, token, self._account
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
        """Release once Redis is reachable again, so that others need not wait for the rest of the lease.

        The script releases only what still has this token, so a delay is harmless. All locks end with the lease.
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
        """Extend the locks to so long from now (0 releases them); returns how many were still held."""
        if not references:
            return 0
        return int(self._keep(keys=[self._key], args=[token, _ms(seconds), *references]))

    @contextlib.contextmanager
    def _renewed(self, token: str, references: Sequence[str]) -> Iterator[None]:
        """A bulk call may take minutes (the marketplace mirrors its images): the lease is renewed during it."""
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
