"""Bearer tokens: compared in constant time, and failed attempts limited."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

import redis

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.logs import get_logger
from okasie_tasks.settings import Settings
from okasie_tasks.settings.web import usable_token
from okasie_tasks.web.identity import LOCAL, Identity

log = get_logger(__name__)
_MOST_FAILURES = 10
_WINDOW_SECONDS = 60


class Tokens:
    """The tokens of the configuration, and the start token of a server that has none.

    Tokens are read from their files or variables with each attempt, so that they can be rotated without a restart.
    """

    def __init__(self, settings: Settings, start_token: str = "") -> None:
        self._settings = settings
        self._start = digest_of(start_token) if start_token and not settings.web.tokens else b""
        self._unusable: set[str] = set()
        """Names of tokens that could not be read the last time, each logged once."""

    def identify(self, given: str) -> Identity | None:
        """Return whose token this is. The time does not depend on which token is nearly right."""
        digest, found = digest_of(given), None
        for name, expected in self._digests():
            if hmac.compare_digest(digest, expected):
                found = self._named(name)
        return found

    def of_session(self, name: str, digest: bytes) -> Identity | None:
        """Return whose session this is; None once the token with which it was opened is gone or another one."""
        expected = dict(self._digests()).get(name, b"")
        return self._named(name) if hmac.compare_digest(digest, expected) else None

    def _digests(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the digest of each token. One that is unusable lets nobody in, and stops no other."""
        for name, token in self._settings.web.tokens.items():
            try:
                digest = digest_of(usable_token(name, token))
            except ConfigurationError as error:
                if name not in self._unusable:
                    self._unusable.add(name)
                    log.error("a token of the web server is unusable", token=name, error=str(error))  # noqa: TRY400
            else:
                self._unusable.discard(name)
                yield name, digest
        if self._start:
            yield LOCAL.name, self._start

    def is_start_token(self, given: str) -> bool:
        return bool(self._start) and hmac.compare_digest(digest_of(given), self._start)

    @property
    def has_start_token(self) -> bool:
        return bool(self._start)

    def _named(self, name: str) -> Identity:
        token = self._settings.web.tokens.get(name)
        if token is None:
            return LOCAL
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


def digest_of(text: str) -> bytes:
    """Digests have the same length, so that comparing them does not reveal that of a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
