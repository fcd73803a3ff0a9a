"""``Idempotency-Key``: the answer to a POST is kept for 24 h, and given again to the same request.

Key, under the configured prefix::

    web:idempotent:{token}:{hash of the key}  string  JSON: fingerprint of the request, and the answer once there is one

The id of a push, sell or sync is derived from the key and the fingerprint, so that one whose process died before it
could answer is not stored twice, and another request with the same key is not mistaken for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Final, cast
from uuid import UUID, uuid5

from fastapi import Depends, Header
from fastapi.responses import JSONResponse, Response

from okasie_tasks.web.api.caller import Call, Caller
from okasie_tasks.web.api.errors import Refused

_KEEP_SECONDS: Final = 24 * 3600
_IN_PROGRESS_SECONDS: Final = 30
"""Of a process that died: after that, the request may be made again."""
_SENDING_SECONDS: Final = 5
"""The same for what is stored in the outbox, which is given up sooner."""
_NAMESPACE: Final = UUID("6f9c0f0e-3f5c-4b59-9d0a-3f6a1f0c8d11")
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$",
           description="Any text of your own: the same request with the same key is executed once."),
]  # fmt: skip


class Once:
    """Executes a POST once for its key."""

    def __init__(self, call: Call, key: str | None) -> None:
        self._call, self._key = call, key

    def send(self, body: object, execute: Callable[[str | None], str]) -> Response:
        """Answer with the id of the request that ``execute`` stores under the id that it is given, if there is a key.

        A response, as what is no response waits for a thread that checks it.
        """
        name = f"{self._call.identity.name}\n{self._key}\n{self._mark(body)}"
        request = None if self._key is None else str(uuid5(_NAMESPACE, name))
        return JSONResponse(self.run(body, lambda: {"request": execute(request)}, seconds=_SENDING_SECONDS), 202)

    def run(
        self, body: object, execute: Callable[[], dict[str, Any]], *, seconds: int = _IN_PROGRESS_SECONDS
    ) -> dict[str, Any]:
        """Return what ``execute`` returns, or returned for this key before. ``body``: the request's, as JSON values.

        Raises `Refused`: 422 for a key that another request had, 409 while the first one is still being executed.
        """
        if self._key is None:
            return execute()
        services, mark = self._call.services, self._mark(body)
        name = hashlib.sha256(self._key.encode()).hexdigest()
        kept = f"{services.settings.redis.key_prefix}web:idempotent:{self._call.identity.name}:{name}"
        if not services.redis.set(kept, json.dumps({"mark": mark}), nx=True, ex=seconds):
            return self._again(cast("bytes | None", services.redis.get(kept)), mark)
        try:
            answer = execute()
        except BaseException:
            services.redis.delete(kept)
            raise
        services.redis.set(kept, json.dumps({"mark": mark, "answer": answer}), ex=_KEEP_SECONDS)
        return answer

    def _mark(self, body: object) -> str:
        """Return the fingerprint of the request: its path and body."""
        return hashlib.sha256(json.dumps([self._call.request.url.path, body], sort_keys=True).encode()).hexdigest()

    def _again(self, kept: bytes | None, mark: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kept or b"{}")
        if found and found["mark"] != mark:
            raise Refused(422, "another request was made with this key", where="Idempotency-Key")
        if "answer" not in found:
            raise Refused(409, "the first request with this key is still being executed", where="Idempotency-Key")
        answer: dict[str, Any] = found["answer"]
        return answer


async def _once(call: Caller, key: Key = None) -> Once:
    return Once(call, key)


OnlyOnce = Annotated[Once, Depends(_once)]
