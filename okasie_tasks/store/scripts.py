"""Loading of the Lua steps beside this module: one atomic step per file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import redis
from redis.commands.core import Script


@cache
def _text(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def script(client: redis.Redis, name: str) -> Script:
    """The step ``name`` bound to ``client``: call it with ``keys=``, ``args=`` and, in a pipeline, ``client=``.

    It is sent by its hash and loaded again where the server does not know it (a restart, a failover).
    """
    return client.register_script(_text(name))


def redis_now_ms(client: redis.Redis) -> int:
    """The server's time in whole milliseconds since the epoch, as the scripts compute it."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
