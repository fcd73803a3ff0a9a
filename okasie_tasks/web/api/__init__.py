"""The HTTP API."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI


def api(app: FastAPI) -> APIRouter:
    """Return the routes of the API, and register its errors with the application."""
    return APIRouter(prefix="/api/v1")
