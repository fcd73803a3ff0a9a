"""Bearer tokens: compared in constant time, and failed attempts limited."""

from __future__ import annotations

import hashlib
import hmac

import redis

from okasie_tasks.settings import Settings
from okasie_tasks.web.identity import LOCAL, Identity

_MOST_FAILURES = 10
_WINDOW_SECONDS = 60


class Tokens:
    """The tokens of the configuration, and the start token of a server that has none.

    Tokens are read from their files or variables with each attempt, so that they can be rotated without a restart.
    """

    def __init__(self, settings: Settings, start_token: str = "") -> None:
        self._settings = settings
        self._start = _digest(start_token) if start_token and not settings.web.tokens else b""

    def identify(self, given: str) -> Identity | None:
        """Return whose token this is. The time does not depend on which token is nearly right."""
        digest, found = _digest(given), None
        for name, token in self._settings.web.tokens.items():
            if hmac.compare_digest(digest, _digest(token.token.reveal())):
                found = self.named(name)
        if self._start and hmac.compare_digest(digest, self._start):
            found = LOCAL
        return found

    def is_start_token(self, given: str) -> bool:
        return bool(self._start) and hmac.compare_digest(_digest(given), self._start)

    @property
    def has_start_token(self) -> bool:
        return bool(self._start)

    def named(self, name: str) -> Identity | None:
        """Return the identity of a session that was opened with this token; None once the token is gone."""
        if name == LOCAL.name and not self._settings.web.tokens:
            return LOCAL
        token = self._settings.web.tokens.get(name)
        if token is None:
            return None
        return Identity(name, token.role, None if token.accounts is None else frozenset(token.accounts))


class Attempts:
    """Failed attempts to authenticate, by the address that they came from."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._redis, self._prefix = client, f"{prefix}web:failed:"

    def too_many(self, address: str) -> bool:
        """Return whether this address must wait: ten attempts have failed within a minute."""
        return int(self._redis.get(self._prefix + address) or 0) >= _MOST_FAILURES

    def failed(self, address: str) -> None:
        key = self._prefix + address
        pipe = self._redis.pipeline()
        pipe.incr(key)
        pipe.expire(key, _WINDOW_SECONDS)
        pipe.execute()


def _digest(text: str) -> bytes:
    """Digests have the same length, so that comparing them does not reveal that of a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
