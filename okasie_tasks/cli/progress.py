"""The live display of a run: pages, diffed, upserted, sold, rejected, quota, time left. Drawn on a terminal only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.reports import runs
from okasie_tasks.store.records import Run

Quota = Callable[[], tuple[LimiterStatus, int]]

_LOOK_SECONDS: Final = 0.5


class Bars:
    """One line a stage, and one for the quota."""

    def __init__(self, console: Console, drawing: bool) -> None:
        columns = (
            TextColumn("{task.description:>12}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        )
        self._progress = Progress(*columns, console=console)
        self._line = Text()
        self._live = Live(Group(self._progress, self._line), console=console, transient=True) if drawing else None
        self._tasks: dict[str, Any] = {}
        self._looked = 0.0

    def __enter__(self) -> Bars:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, stages: dict[str, tuple[int, int]], record: Run, quota: Quota) -> None:
        """Draw where the run is."""
        if not self._live:
            return
        for name, (closed, total) in runs.progress_by_kind(stages).items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total)
            self._progress.update(self._tasks[name], completed=closed, total=max(total, closed))
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._say(stages, record, *quota())

    def _say(self, stages: dict[str, tuple[int, int]], record: Run, quota: LimiterStatus, rejected: int) -> None:
        sent = runs.requests_sent(record)
        pause = f", pausing {quota.pause_seconds:.0f} s" if quota.pause_seconds else ""
        self._line.plain = (
            f"{'':>4}requests {sent}   rejected {rejected}   quota {quota.used_last_minute}/{quota.limit}{pause}"
            f"   {runs.during_run(stages, record, quota).text}"
        )
