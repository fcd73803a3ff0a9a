"""Pushes: when each was accepted, and what became of its references; for whoever waits for the answer.

Key: ``{prefix}push:{id}`` (hash: at, withdrawn, error, and "=REFERENCE" -> outcome), kept half a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
import redis

from okasie_tasks.adapters.lua_scripts import script
from okasie_tasks.core.wish import Outcome, Push

KEEP_PUSH_SECONDS: Final = 12 * 3600


class Pushes:
    """All pushes, by the id of the message that asked for them."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._receive = script(client, "push_receive")

    def receive(self, push: str) -> int:
        """When this push was accepted (ms, Redis time), the same however often it is delivered; 0: withdrawn."""
        return int(self._receive(keys=[self._key(push)], args=[KEEP_PUSH_SECONDS]))

    def withdraw(self, push: str) -> None:
        """A push that nobody has accepted shall not be accepted later."""
        self._redis.hset(self._key(push), "withdrawn", "1")
        self._redis.expire(self._key(push), KEEP_PUSH_SECONDS)

    def fail(self, push: str, message: str) -> None:
        """The push as a whole came to nothing."""
        self._redis.hset(self._key(push), "error", message)

    def tell(self, outcomes: Mapping[str, Mapping[str, Outcome]]) -> None:
        """Write down outcomes: push -> reference -> outcome."""
        pipe = self._redis.pipeline(transaction=False)
        for push, told in outcomes.items():
            mapping: Any = {f"={name}": msgspec.json.encode(outcome) for name, outcome in told.items()}
            pipe.hset(self._key(push), mapping=mapping)
            pipe.expire(self._key(push), KEEP_PUSH_SECONDS)
        pipe.execute()

    def get(self, push: str) -> Push:
        """What is known of a push."""
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(push)))
        found = {name.decode(): value for name, value in raw.items()}
        error = found.get("error")
        return Push(
            at_ms=int(found.get("at", 0)),
            error=error.decode() if error else None,
            outcomes={
                name[1:]: msgspec.json.decode(value, type=Outcome)
                for name, value in found.items()
                if name.startswith("=")
            },
        )

    def _key(self, push: str) -> str:
        return f"{self._prefix}push:{push}"
