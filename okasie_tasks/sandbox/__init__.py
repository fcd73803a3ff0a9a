"""An Okasie API that behaves, and misbehaves on request. It shares no code with the client side."""

from okasie_tasks.sandbox.server import Key, Sandbox, run

__all__ = ["Key", "Sandbox", "run"]
