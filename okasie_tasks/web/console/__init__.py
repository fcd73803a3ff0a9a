"""The console: pages for the people who decide, rendered on the server. They work without JavaScript."""

from __future__ import annotations

from fastapi import APIRouter

from okasie_tasks.web.console import accounts, entrance, listings, plans, rejects, runs


def router() -> APIRouter:
    """Return the routes of the console."""
    console = APIRouter(include_in_schema=False)
    for part in (entrance, accounts, plans, listings, rejects, runs):
        console.include_router(part.routes)
    return console
