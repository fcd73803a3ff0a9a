"""The deliveries of messages, so that a copy of a message is recognised.

Key, under the configured prefix::

    delivery:{task id}:{retries}  string  token of the first delivery; "done" after its work, kept for a minute

A broker may deliver a message more than once at the same time, and a retry is a message with one retry more. Copies
carry the same id and number of retries.
"""

from __future__ import annotations

from typing import Final

import redis

_KEEP_SECONDS: Final = 60
"""Copies arrive together, or a queue's length apart. A later one finds its part closed."""
_KEEP_BEGUN_SECONDS: Final = 400
"""As long as a part may be worked on, and until the message of a worker that died then is delivered again."""
_DONE: Final = b"done"


class Deliveries:
    """The deliveries of all messages."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis, self._prefix = client, f"{prefix}delivery:"

    def begin(self, task_id: str, retries: int, token: str) -> bool:
        """Record a delivery; False: the message is a copy of one that was delivered before.

        ``token`` is unique to the delivery, because redis-py may send a command twice.
        """
        key = self._key(task_id, retries)
        if self._redis.set(key, token, nx=True, ex=_KEEP_BEGUN_SECONDS):
            return True
        return bool(self._redis.get(key) == token.encode())

    def finish(self, task_id: str, retries: int) -> None:
        """Record that the work of a message is over, including what it publishes."""
        self._redis.set(self._key(task_id, retries), _DONE, ex=_KEEP_SECONDS)

    def finished(self, task_id: str, retries: int) -> bool:
        """Return whether the work of a message is over, and only its acknowledgement was lost."""
        return bool(self._redis.get(self._key(task_id, retries)) == _DONE)

    def forget(self, task_id: str) -> None:
        """Let a message that is sent again under its id be executed, whatever became of the first."""
        self._redis.delete(self._key(task_id, 0))

    def _key(self, task_id: str, retries: int) -> str:
        return f"{self._prefix}{task_id}:{retries}"
