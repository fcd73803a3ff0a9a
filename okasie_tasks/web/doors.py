"""What decides who enters: the tokens, the failed attempts, and the Redis that keeps sessions."""

from __future__ import annotations

import redis

from okasie_tasks.services import Services
from okasie_tasks.web.tokens import Attempts, Tokens


class Doors:
    """Built once per application. ``start_token``: of a server without configured tokens."""

    def __init__(self, services: Services, start_token: str) -> None:
        self.prefix = services.settings.redis.key_prefix
        self.redis: redis.Redis = services.redis
        self.tokens = Tokens(services.settings, start_token)
        self.attempts = Attempts(services.redis, prefix=self.prefix)
