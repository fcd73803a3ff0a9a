"""The tasks of a run's parts. Each executes the part that its message names, see `okasie_tasks.tasks.part_runner`."""

from __future__ import annotations

from typing import Any

from celery import Task

from okasie_tasks.celery import app
from okasie_tasks.errors import OkasieError
from okasie_tasks.tasks.part_runner import do_part

_PART: dict[str, Any] = {"bind": True, "max_retries": None, "ignore_result": False, "throws": (OkasieError,)}
"""Parts have results because a chord counts them. An `OkasieError` is a known condition, logged without a traceback."""


@app.task(name="okasie.fetch_page", **_PART)
def fetch_page(self: Task[Any, Any], account: str, run: str, page: int, of: int = 0) -> str:
    """Read one page of the marketplace's list into the run."""
    return do_part(self, account, run, "first" if page == 1 else "walk", 0 if page == 1 else page - 2)


@app.task(name="okasie.load_inventory", **_PART)
def load_inventory(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Read the source into blocks, or decode one of them."""
    return do_part(self, account, run, "load", part)


@app.task(name="okasie.diff_chunk", **_PART)
def diff_chunk(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Compare one partition: the source's rows, the marketplace's rows and the ledger."""
    return do_part(self, account, run, "diff", part)


@app.task(name="okasie.spool", **_PART)
def spool(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Read the bodies of planned listings and pack them into chunks."""
    return do_part(self, account, run, "spool", part)


@app.task(name="okasie.upsert_chunk", **_PART)
def upsert_chunk(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Send one chunk of at most 100 listings."""
    return do_part(self, account, run, "upsert", part)


@app.task(name="okasie.confirm_sells", **_PART)
def confirm_sells(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Look at the source once more before the first sell."""
    return do_part(self, account, run, "confirm", part)


@app.task(name="okasie.mark_sold", **_PART)
def mark_sold(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Mark one listing sold."""
    return do_part(self, account, run, "sell", part)


@app.task(name="okasie.count_listings", **_PART)
def count_listings(self: Task[Any, Any], account: str, run: str, part: int, of: int = 0) -> str:
    """Compare the marketplace's count of listings with the ledger's."""
    return do_part(self, account, run, "count", part)
