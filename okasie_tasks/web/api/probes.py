"""Probes, without a token."""

from __future__ import annotations

from typing import Any

import redis
from fastapi import APIRouter, Request

from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.web.api import models
from okasie_tasks.web.api.errors import Error, Refused

routes = APIRouter(tags=["probes"])


@routes.get("/healthz", response_model=models.Health)
async def alive() -> Any:
    """Return 200 while this process answers."""
    return {"status": "ok"}


@routes.get("/readyz", response_model=models.Health, responses={503: {"model": Error}})
def ready(request: Request) -> Any:
    """Return 200 while Redis answers too, else 503 with the cause."""
    try:
        request.app.state.services.redis.ping()
    except redis.RedisError as error:
        raise Refused(503, redis_problem(error).message, where="redis") from error
    return {"status": "ok"}
