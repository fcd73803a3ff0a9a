"""Calls of asynchronous file systems, each within what is left of the read's time."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fsspec.asyn import sync

from okasie_tasks.sources.bounds import Bounds

T = TypeVar("T")
_SHORTEST_SECONDS = 0.01


def within(bounds: Bounds, loop: Any, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
    """Run ``call`` on fsspec's event loop and return its result. At the deadline it is cancelled (`TimeoutError`)."""

    async def called() -> T:
        return await call(*args, **kwargs)

    # fsspec takes 0 for no time-out.
    result: T = sync(loop, called, timeout=max(bounds.left_seconds, _SHORTEST_SECONDS))
    return result


def certificate_problem(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the refusal of a certificate among an error's causes."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
