"""Parses a request: its route, its key, its caller and its parameters."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from okasie_tasks.sandbox.codes import invalid, refusal
from okasie_tasks.sandbox.validation import is_reference

ROOT: Final = "/api/external/v1"
SCOPES: Final = ("read:listings", "read:locations", "write:listings")


class Key(msgspec.Struct, frozen=True):
    """An API key. ``codes``: the location codes it may write to; None: any, and unknown ones are created."""

    secret: str
    name: str = "sandbox"
    scopes: tuple[str, ...] = SCOPES
    codes: tuple[str, ...] | None = None


class Caller(NamedTuple):
    """The caller: the partner of a key, its scopes, and its access to dealers.

    ``codes``: the location codes that it may write to; None: any, and unknown ones are created. ``reach``: the location
    codes that it can read or write at all; None: all codes of its partner.
    """

    partner: str
    scopes: frozenset[str]
    codes: tuple[str, ...] | None
    reach: tuple[str, ...] | None = None

    def require(self, scope: str) -> None:
        if scope not in self.scopes:
            raise refusal("SCOPE_DENIED", f"The key lacks the scope {scope}")

    def reaches(self, code: str) -> bool:
        return self.reach is None or code.casefold() in (known.casefold() for known in self.reach)

    def may_write_to(self, code: str) -> bool:
        return self.reaches(code) and (
            self.codes is None or code.casefold() in (known.casefold() for known in self.codes)
        )


def check_reference(reference: object) -> None:
    if not isinstance(reference, str) or not is_reference(reference):
        raise refusal("INVALID_REFERENCE", "The reference is missing or not allowed")


def parameter(query: dict[str, str], *names: str) -> str | None:
    """The first of these parameters in the query: a name, then its aliases."""
    return next((query[name] for name in names if name in query), None)


def integer(query: dict[str, str], default: int, values: range, *names: str) -> int:
    """The first of these parameters in the query, as a whole number among ``values``, else ``default``."""
    text = parameter(query, *names)
    if text is None:
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise invalid(names[0], "Expected integer", "invalid_type")
    if int(text) not in values:
        raise invalid(names[0], f"Expected {values.start} to {values.stop - 1}", "out_of_range")
    return int(text)


def boolean(query: dict[str, str], default: bool, name: str) -> bool:
    text = query.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise invalid(name, "Expected true or false", "invalid_type")
    return text == "true"


def moment(text: str) -> int:
    """An ISO 8601 time as whole Unix seconds."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("updatedSince", "Expected an ISO 8601 time", "invalid_string") from None
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def route(method: str, path: str) -> tuple[str, str]:  # noqa: PLR0911 - one line a route
    """The kind of call and its argument: a reference, or a location's id."""
    parts = path.removeprefix(ROOT).strip("/").split("/") if path.startswith(ROOT + "/") else [""]
    parts = [unquote(part) for part in parts]
    match (method, parts):
        case ("GET", ["listings"]):
            return "list", ""
        case ("POST", ["listings", "bulk-upsert"]):
            return "bulk", ""
        case ("PUT", ["listings", reference]):
            return "put", reference
        case ("DELETE", ["listings", reference]):
            return "delete", reference
        case ("POST", ["listings", reference, "status"]):
            return "status", reference
        case ("GET", ["locations"]):
            return "locations", ""
        case ("GET", ["locations", identity, "listings"]):
            return "list", identity
    return "none", ""
