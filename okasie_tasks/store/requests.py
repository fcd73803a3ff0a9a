"""The records of requests of applications and commands: pushes, sells and syncs, with their outcomes.

Keys, under the configured prefix::

    push:{id}  hash  the record of a request, by the id of its message; see `okasie_tasks.core.requests`

`okasie_tasks.client.send_request` writes the record together with the entry of the outbox. A message of another
producer may have none: then the worker that receives it creates one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec
import redis

from okasie_tasks.core.pending import Push, PushOutcome
from okasie_tasks.core.requests import KEEP_REQUEST_SECONDS, OUTCOME, RequestState, state_of
from okasie_tasks.store.scripts import script
from okasie_tasks.telemetry import tracing

BY_CHARACTERS: Final = 64


class Requests:
    """All requests, by the id of their message. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._receive, self._withdraw = script(client, "push_receive"), script(client, "push_withdraw")

    def receive(self, push: str) -> int:
        """When this push was accepted (ms, Redis time), the same however often it is delivered.

        0: it was withdrawn, or has failed as a whole.
        """
        return int(self._receive(keys=[self._key(push)], args=[KEEP_REQUEST_SECONDS]))

    def withdraw(self, push: str) -> bool:
        """Prevent a push that no worker has received from being accepted later; False: one has received it."""
        return bool(self._withdraw(keys=[self._key(push)], args=[KEEP_REQUEST_SECONDS]))

    def fail(self, request: str, message: str) -> None:
        """Record that the request as a whole failed."""
        self._set(request, {"error": message})

    def expect(self, push: str, references: Iterable[str]) -> None:
        """Record the references that get an outcome; the push is done once all of them have a final one."""
        self._set(push, {"expects": msgspec.json.encode(list(references)).decode()})

    def became(self, request: str, run: str) -> None:
        """Record the run that a sync became."""
        self._set(request, {"run": run})

    def by(self, request: str) -> str:
        """Return who made the request; "" if its producer did not say."""
        return (cast("bytes | None", self._redis.hget(self._key(request), "by")) or b"").decode()[:BY_CHARACTERS]

    def note_trace(self, push: str) -> None:
        """Store the trace context of this push, so that the request for its changes belongs to its trace."""
        if context := tracing.traceparent():
            self._set(push, {"traceparent": context})

    def traces(self, pushes: Iterable[str]) -> list[str]:
        """Return the trace contexts of these pushes; none while traces are off."""
        if not tracing.on():
            return []
        pipe = self._redis.pipeline(transaction=False)
        for push in pushes:
            pipe.hget(self._key(push), "traceparent")
        return [context.decode() for context in pipe.execute() if context]

    def record(self, outcomes: Mapping[str, Mapping[str, PushOutcome]]) -> None:
        """Store outcomes: push -> reference -> outcome."""
        pipe = self._redis.pipeline(transaction=False)
        for push, rows in outcomes.items():
            mapping: Any = {f"{OUTCOME}{name}": msgspec.json.encode(outcome) for name, outcome in rows.items()}
            pipe.hset(self._key(push), mapping=mapping)
            pipe.expire(self._key(push), KEEP_REQUEST_SECONDS)
        pipe.execute()

    def get(self, push: str) -> Push:
        """Return a push as the workers and the commands see it."""
        fields = self._fields(push)
        return Push(
            at_ms=int(fields.get("at", 0)),
            error=fields.get("error"),
            outcomes={
                name.removeprefix(OUTCOME): msgspec.json.decode(value, type=PushOutcome)
                for name, value in fields.items()
                if name.startswith(OUTCOME)
            },
        )

    def state(self, request: str) -> RequestState | None:
        """Return what became of a request; None if there is no record of it."""
        fields = self._fields(request)
        if not fields:
            return None
        run = fields.get("run")
        state = cast("bytes | None", self._redis.hget(f"{self._prefix}run:{run}", "state")) if run else None
        return state_of(request, fields, run_state=(state or b"").decode())

    def _fields(self, request: str) -> dict[str, str]:
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(request)))
        return {name.decode(): value.decode() for name, value in raw.items()}

    def _set(self, request: str, mapping: Mapping[str, str]) -> None:
        pipe = self._redis.pipeline()
        pipe.hset(self._key(request), mapping=cast("Any", mapping))
        pipe.expire(self._key(request), KEEP_REQUEST_SECONDS)
        pipe.execute()

    def _key(self, request: str) -> str:
        return f"{self._prefix}push:{request}"
