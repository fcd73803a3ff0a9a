"""The console: pages for the people who decide, rendered on the server. They work without JavaScript."""

from __future__ import annotations

from fastapi import APIRouter

from okasie_tasks.web.console import accounts, entrance, listings, plans, rejects, runs

PARTS = (entrance, accounts, plans, listings, rejects, runs)
"""The modules with the routes of the console."""


def router() -> APIRouter:
    """Return the routes of the console."""
    console = APIRouter(include_in_schema=False)
    for part in PARTS:
        console.include_router(part.routes)
    console.include_router(entrance.rest)
    return console
