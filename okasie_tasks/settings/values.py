"""The types of values in ``okasie.toml``, and the base of its tables."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from okasie_tasks.settings.secret import Secret, is_loopback

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def read_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected a duration such as 30s, 15m, 2h or 1d")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def positive(value: timedelta) -> timedelta:
    if value.total_seconds() <= 0:
        raise ValueError("expected a duration longer than nothing")
    return value


def or_off(value: object) -> object:
    return None if value == "off" else value


def clock(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        return time.fromisoformat(value)
    raise ValueError('expected a time such as "03:30", or "off"')


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def listed(value: object) -> object:
    """A list; from the environment, its parts with commas between them."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def cells(value: object) -> object:
    """The cells of a skip rule; from the environment, its parts with commas between them, perhaps empty."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("expected a time zone such as Europe/Brussels") from error
    return value


def secret_of(value: object) -> object:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str) and value.strip():
        return Secret(value.strip())
    raise ValueError("expected env:NAME or file:/path")


def http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an https:// URL")
    if parts.scheme == "http" and not is_loopback(value):
        raise ValueError("expected https://: plain http is only allowed on loopback")
    if parts.username or parts.password or parts.query:
        raise ValueError("expected a URL without a user, password or query")
    return value.rstrip("/")


Duration = Annotated[timedelta, BeforeValidator(read_duration)]
Period = Annotated[timedelta, BeforeValidator(read_duration), AfterValidator(positive)]
SecretText = Annotated[Secret, BeforeValidator(secret_of)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)
