"""A local Okasie API that follows the contract, and misbehaves on request. It shares no code with the client side."""

from okasie_tasks.sandbox.routing import Key
from okasie_tasks.sandbox.server import Sandbox, run

__all__ = ["Key", "Sandbox", "run"]
