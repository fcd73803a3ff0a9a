"""The configuration that a worker read when it started."""

from __future__ import annotations

from okasie_tasks.settings.load import load_settings
from okasie_tasks.settings.model import Settings

_loaded: Settings | None = None


def keep_settings() -> None:
    """Load the configuration for this process and those forked from it.

    A pool starts new children all the time. Without this, they would read a file that was edited since, and one
    worker would run two configurations.
    """
    global _loaded  # noqa: PLW0603 - one configuration a process
    _loaded = load_settings()


def process_settings() -> Settings:
    """Return the configuration kept by `keep_settings`, else load it."""
    return _loaded or load_settings()
