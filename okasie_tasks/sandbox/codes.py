"""The documented error codes with their statuses, and which of two documented answers a refusal gets.

The pages of the contract disagree: one cause has its code in the tables, 422 with an issue in the examples,
and another name on the Dutch pages. The quirk ``error_codes`` chooses.
"""

from __future__ import annotations

from typing import Any, Final, Literal

ErrorCodes = Literal["examples", "tables", "dutch"]
Issue = dict[str, str]

_BY_STATUS: Final = {
    400: ("INVALID_JSON", "INVALID_BODY", "INVALID_REFERENCE", "INVALID_TITLE", "INVALID_PRICE", "INVALID_LOCATION",
          "INVALID_PROFILE", "EMPTY_PAYLOAD", "TOO_MANY_ITEMS", "MISSING_DEALER", "INVALID_LOCATION_CODE"),
    401: ("UNAUTHORIZED",),
    403: ("PROFILE_FORBIDDEN", "FORBIDDEN", "SCOPE_DENIED"),
    404: ("NOT_FOUND", "LISTING_NOT_FOUND", "LOCATION_NOT_FOUND"),
    422: ("VALIDATION_FAILED",),
    429: ("RATE_LIMITED",),
    500: ("FETCH_FAILED", "UPSERT_FAILED", "FEATURES_FAILED", "IMAGES_FAILED", "SERVER_ERROR"),
    503: ("SERVICE_UNAVAILABLE",),
}  # fmt: skip
STATUS_OF: Final = {code: status for status, codes in _BY_STATUS.items() for code in codes}

ImageError = Literal["", "IMAGE_FETCH_FAILED", "IMAGE_TOO_LARGE", "IMAGE_INVALID_FORMAT", "IMAGE_TOO_SMALL"]
"""The errors of one image in the second documented shape; "": the first shape."""

_ENGLISH: Final = {
    "FORBIDDEN": "PROFILE_FORBIDDEN", "INVALID_LOCATION_CODE": "PROFILE_FORBIDDEN", "LISTING_NOT_FOUND": "NOT_FOUND",
    "LOCATION_NOT_FOUND": "NOT_FOUND",
}  # fmt: skip
"""The code of the English pages for a code of the Dutch ones."""
_TABLES: Final = {
    "title": "INVALID_TITLE", "price": "INVALID_PRICE", "postalCode": "INVALID_LOCATION", "city": "INVALID_LOCATION",
    "province": "INVALID_LOCATION", "location": "INVALID_LOCATION", "dealerProfileId": "INVALID_PROFILE",
    "dealerLocationCode": "INVALID_PROFILE",
}  # fmt: skip
"""The code of the tables for an issue of a field."""


class Refusal(Exception):
    """An error answer: status, code, message and, for validation, issues."""

    def __init__(self, status: int, code: str, message: str, issues: list[Issue] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.issues = status, code, message, issues

    def document(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.issues:
            error["issues"] = self.issues
        return {"error": error}


def refusal(code: str, message: str, pages: ErrorCodes = "examples") -> Refusal:
    """A refusal by its most specific code, which is one of the Dutch pages where they have one."""
    code = code if pages == "dutch" else _ENGLISH.get(code, code)
    return Refusal(STATUS_OF[code], code, message)


def invalid(path: str, message: str, code: str) -> Refusal:
    """A validation failure of one field or parameter."""
    return validation_failed([{"path": path, "message": message, "code": code}])


def validation_failed(issues: list[Issue], pages: ErrorCodes = "examples") -> Refusal:
    """The refusal of a body with these issues: 422, or 400 where the tables or the Dutch pages have a code for it."""
    for issue in issues:
        code = _TABLES.get(issue["path"]) if pages == "tables" else None
        if pages == "dutch" and issue["code"] == "missing_dealer":
            code = "MISSING_DEALER"
        if code:
            return Refusal(400, code, issue["message"])
    return Refusal(422, "VALIDATION_FAILED", "Validation failed", issues)
