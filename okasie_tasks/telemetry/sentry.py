"""Options for ``sentry_sdk.init``, so that error reports contain neither secrets nor the content of listings.

This module does not import Sentry; see docs/tracing.md for the set-up.
"""

from __future__ import annotations

from typing import Any

from okasie_tasks import __version__
from okasie_tasks.masking import mask


def options() -> dict[str, Any]:
    """The keyword arguments for ``sentry_sdk.init`` beside ``dsn``. The caller may replace any but ``before_send``."""
    return {
        "release": f"okasie-tasks@{__version__}",
        "before_send": before_send,
        "before_breadcrumb": lambda crumb, _: masked(crumb),
        "include_local_variables": False,  # they hold rows of the source
        "include_source_context": False,
        "max_request_body_size": "never",
        "send_default_pii": False,
        "propagate_traces": False,  # its headers would go to the marketplace and into messages
    }


def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - Sentry's signature
    """Return the event without the arguments of its task, which may be listings, and with secrets masked."""
    job = (event.get("extra") or {}).get("celery-job")
    if isinstance(job, dict):
        event["extra"]["celery-job"] = {"task_name": job.get("task_name")}
    cleaned: dict[str, Any] = masked(event)
    return cleaned


def masked(value: Any) -> Any:
    """Return a document with the registered secrets masked in all its texts, keys included."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {masked(name): masked(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value if isinstance(value, int | float | None) else mask(str(value))
