"""Parses a request: its route, its caller and its parameters; and the error for a refused one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from okasie_tasks.sandbox.validation import is_reference

ROOT: Final = "/api/external/v1"
SCOPES: Final = ("read:listings", "read:locations", "write:listings")


class Refusal(Exception):
    """An error answer: status, code, message and, for validation, issues."""

    def __init__(self, status: int, code: str, message: str, issues: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.issues = status, code, message, issues

    def document(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.issues:
            error["issues"] = self.issues
        return {"error": error}


def invalid(path: str, message: str, code: str) -> Refusal:
    """A validation failure of one field or parameter."""
    return Refusal(422, "VALIDATION_FAILED", "Validation failed", [{"path": path, "message": message, "code": code}])


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
            raise Refusal(403, "SCOPE_DENIED", f"The key lacks the scope {scope}")

    def reaches(self, code: str) -> bool:
        return self.reach is None or code.casefold() in (known.casefold() for known in self.reach)

    def may_write_to(self, code: str) -> bool:
        return self.reaches(code) and (
            self.codes is None or code.casefold() in (known.casefold() for known in self.codes)
        )


def check_reference(reference: object) -> None:
    if not isinstance(reference, str) or not is_reference(reference):
        raise Refusal(400, "INVALID_REFERENCE", "The reference is missing or not allowed")


def integer(query: dict[str, str], default: int, *names: str) -> int:
    """The first of these parameters in the query, as a whole number, else ``default``."""
    for name in names:
        if name in query:
            try:
                return int(query[name])
            except ValueError:
                raise invalid(name, "Expected integer", "invalid_type") from None
    return default


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
    match (method, parts):
        case ("GET", ["listings"]):
            return "list", ""
        case ("POST", ["listings", "bulk-upsert"]):
            return "bulk", ""
        case ("PUT", ["listings", reference]):
            return "put", unquote(reference)
        case ("DELETE", ["listings", reference]):
            return "delete", unquote(reference)
        case ("POST", ["listings", reference, "status"]):
            return "status", unquote(reference)
        case ("GET", ["locations"]):
            return "locations", ""
        case ("GET", ["locations", identity, "listings"]):
            return "list", identity
    return "none", ""
