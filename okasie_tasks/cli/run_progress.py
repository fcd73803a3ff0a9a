"""The progress of a run on a terminal: one bar in cars, and a line with requests, rejects and quota."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress
from rich.text import Text

from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.masking import clean

_EVERY_SECONDS: Final = 0.5


class RunProgress:
    """Draws the documents of `okasie_tasks.reports.progress` while it is open, if ``drawing``."""

    def __init__(self, console: Console, drawing: bool) -> None:
        self._bar = Progress(BarColumn(bar_width=None), console=console, expand=True)
        self._task = self._bar.add_task("", total=None)
        self._what, self._counts = Text(), Text()
        shown = Group(self._what, self._bar, self._counts)
        self._live = Live(shown, console=console, transient=True) if drawing else None
        self._shown_at = 0.0

    def __enter__(self) -> RunProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def is_due(self) -> bool:
        """Return whether it is time to look at the progress again; a look reads some keys of Redis."""
        return time.monotonic() - self._shown_at >= _EVERY_SECONDS

    def show(self, document: dict[str, Any], quota: Callable[[], LimiterStatus]) -> None:
        """Draw the progress of the run."""
        self._shown_at = time.monotonic()
        if not self._live:
            return
        self._bar.update(self._task, completed=document["cars_done"], total=document["cars_total"])
        status = quota()
        pause = f", pausing {status.pause_seconds:.0f} s" if status.pause_seconds else ""
        self._what.plain = clean(f"{document['account']}: {document['text']}")
        self._counts.plain = (
            f"requests {document['requests']}   rejected {document['rejected']}"
            f"   quota {status.used_last_minute}/{status.limit}{pause}"
        )
