"""Errors of the API: a status and a document ``{"error": {"code", "message", "where"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import redis
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from okasie_tasks.errors import UNKNOWN_ACCOUNT, ConfigurationError, ConnectionFailed, OkasieError, PlanOutdated
from okasie_tasks.masking import clean, mask
from okasie_tasks.store.redis_problems import redis_problem

PREFIX: Final = "/api"
_CODES: Final = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    409: "conflict", 413: "too_large", 415: "unsupported_media_type", 422: "invalid", 429: "too_many_attempts",
    503: "not_reachable",
}  # fmt: skip
_MESSAGES: Final = {
    404: "there is no such address, account, run or request, or the token does not give access to it",
    405: "this address does not take this method",
}


class ErrorDetail(BaseModel):
    code: str
    message: str
    where: str | None = None


class Error(BaseModel):
    """An error. ``run``: the run whose plan is held now, if an outdated one was approved."""

    error: ErrorDetail
    run: str | None = None


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Error} for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
}


class Refused(HTTPException):
    """Refuses a request with a code and a message of our own."""

    def __init__(
        self, status: int, message: str, *, code: str = "", where: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers=dict(headers or {}))
        self.code, self.where = code or _CODES.get(status, "error"), where


def register(app: FastAPI) -> None:
    """Answer every error of the API with a document. The console has pages of its own."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OkasieError, _ours)
    app.add_exception_handler(redis.RedisError, _redis)


def document(status: int, code: str, message: str, where: str | None = None, *, run: str | None = None) -> JSONResponse:
    error: dict[str, Any] = {"error": {"code": code, "message": clean(mask(message)), "where": where and clean(where)}}
    return JSONResponse(error | ({"run": run} if run else {}), status)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    if isinstance(error, Refused):
        response = document(error.status_code, error.code, error.detail, error.where or None)
    else:
        status = error.status_code
        message = _MESSAGES.get(status) or str(error.detail)
        response = document(status, _CODES.get(status, "error"), message, request.url.path)
    response.headers.update(error.headers or {})
    return response


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Name the first value that is not as expected; malformed JSON is a bad request."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    status = 400 if first["type"] in ("json_invalid", "json_type") else 422
    return document(status, _CODES[status], str(first["msg"]), where)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OkasieError)  # noqa: S101 - registered for it
    run = error.run if isinstance(error, PlanOutdated) else None
    return document(_status_of(error), error.code, error.message, error.where, run=run)


def _status_of(error: OkasieError) -> int:
    if isinstance(error, ConnectionFailed):
        return 503
    if isinstance(error, PlanOutdated) or error.code == "busy":
        return 409
    if error.code == UNKNOWN_ACCOUNT or error.where == "run":
        return 404
    return 422 if isinstance(error, ConfigurationError) else 500


async def _redis(_: Request, error: Exception) -> JSONResponse:
    problem = redis_problem(error)
    return document(503, "not_reachable", problem.message, "redis")
