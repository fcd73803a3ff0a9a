"""The HTTP API, over the documents of `okasie_tasks.reports` and the actions of `okasie_tasks.actions`."""

from __future__ import annotations

from fastapi import FastAPI

from okasie_tasks.web.api import accounts, errors, events, probes, requests, runs

PREFIX = "/api/v1"


def add_api(app: FastAPI) -> None:
    """Add the routes of the API to the application, and its errors."""
    for part in (accounts, runs, requests, events, probes):
        app.include_router(part.routes, prefix=PREFIX)
    app.include_router(probes.routes, include_in_schema=False)
    errors.register(app)
