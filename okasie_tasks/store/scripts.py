"""Loading of the Lua steps beside this module: one atomic step per file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

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


Call = tuple[Sequence[Any], Sequence[Any]]
"""Keys and arguments of one step."""

Command = Sequence[str | int | bytes]
"""A command and its arguments."""


def execute(client: Any, commands: Iterable[Command]) -> None:
    """Execute commands, each in a round trip."""
    for command in commands:
        client.execute_command(*command)


def of_commands(commands: Iterable[Command]) -> Call:
    """Return the call of the step ``commands``, which executes these."""
    return (), [text for command in commands for text in (len(command), *command)]


_CALL: Final = """
local replies, key_at, arg_at = {}, 0, 2 * #steps
for number, step in ipairs(steps) do
  local keys, args = {}, {}
  for i = 1, tonumber(ARGV[2 * number - 1]) do keys[i] = KEYS[key_at + i] end
  for i = 1, tonumber(ARGV[2 * number]) do args[i] = ARGV[arg_at + i] end
  key_at, arg_at = key_at + #keys, arg_at + #args
  replies[number] = step(keys, args) or false
end
return replies
"""


class Steps:
    """Several steps in one round trip, in order, as one atomic script. An error of one ends those after it."""

    def __init__(self, client: redis.Redis, *names: str) -> None:
        functions = ",\n".join(f"function(KEYS, ARGV)\n{_text(name)}\nend" for name in names)
        self._script = client.register_script(f"local steps = {{\n{functions}\n}}\n{_CALL}")

    def __call__(self, *calls: Call) -> list[Any]:
        """Return what each step returns. ``calls``: the keys and arguments of each."""
        keys = [key for keys, _ in calls for key in keys]
        sizes = [size for keys, args in calls for size in (len(keys), len(args))]
        replies: list[Any] = self._script(keys=keys, args=[*sizes, *(arg for _, args in calls for arg in args)])
        return replies


def redis_now_ms(client: redis.Redis) -> int:
    """The server's time in whole milliseconds since the epoch, as the scripts compute it."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
