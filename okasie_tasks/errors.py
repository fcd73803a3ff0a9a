"""The error hierarchy, sorted by what the caller must do.

==================  =====================================================================
catch               and then
==================  =====================================================================
`RetryLater`          retry after ``seconds``; nothing is wrong with the item
`ItemRejected`        record this item as rejected, with its reason, and continue with the others
`RunAborted`          end the run of this account with an error; the next run may succeed
`ConfigurationError`  an operator must change something; nothing was started
==================  =====================================================================

Every error carries a stable ``code``, a readable ``message`` and ``where``: the file, key, row, reference or request
concerned. All survive pickling, because Celery carries exceptions between processes. None contains a secret: adapters
build messages from names, not from request headers or URLs with passwords, and texts of a server, a database or a
plugin are masked when the error is created.
"""

from __future__ import annotations

from typing import Final

from okasie_tasks.masking import mask

UNKNOWN_ACCOUNT: Final = "unknown_account"
"""The code of the error for an account that a process' configuration does not have."""


class OkasieError(Exception):
    """Base of all errors. ``str()`` is one line: ``where: message``."""

    code = "error"

    def __init__(self, message: str, *, where: str | None = None, code: str | None = None) -> None:
        self.message = mask(message)
        super().__init__(self.message)
        self.where = where and mask(where)
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[OkasieError], args: tuple[object, ...], state: dict[str, object]) -> OkasieError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class RetryLater(OkasieError):
    """Nothing is wrong with the item: retry after ``seconds``.

    ``counted``: whether the attempt counts against the part (5xx, time-outs: yes; waiting for a permit, 429: no).
    """

    code = "retry_later"
    counted = True

    def __init__(self, message: str, *, seconds: float, where: str | None = None, code: str | None = None) -> None:
        super().__init__(message, where=where, code=code)
        self.seconds = seconds


class NoPermit(RetryLater):
    """The limiter grants no permit yet; retry with the same ticket. No request was sent."""

    code = "no_permit"
    counted = False


class ListingLocked(NoPermit):
    """Another process is sending one of these listings; retry soon. No request was sent."""

    code = "busy"


class SourceUnsettled(NoPermit):
    """The source is being written; read it again later."""

    code = "unsettled"


class SourceBusy(NoPermit):
    """Another push is reading the source; retry soon."""

    code = "busy"


class RateLimited(RetryLater):
    """The marketplace returned 429. Not a failure: the account pauses and the same request is sent again."""

    code = "rate_limited"
    counted = False


class Unavailable(RetryLater):
    """5xx, a refusal that may pass, a time-out, a dropped connection or an unreadable response. A write may still have
    been applied.

    ``in_doubt``: there was no response at all, so the marketplace may still be processing the request. ``status``: the
    HTTP status of a refusal, else 0; ``reported_code`` and ``request_id`` belong to it.
    """

    code = "unavailable"
    in_doubt = False
    status = 0
    reported_code: str | None = None
    request_id: str | None = None


class LimiterUnavailable(RetryLater):
    """The limiter's Redis cannot be reached. The limiter fails closed: nothing is sent without a permit."""

    code = "limiter_unavailable"
    counted = False


class ItemRejected(OkasieError):
    """The API refused this item as it is: 400, 403 of one profile, 404, 422. ``issues`` are ``(field, message)``."""

    code = "refused"

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        code: str | None = None,
        status: int = 0,
        request_id: str | None = None,
        issues: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, where=where, code=code)
        self.status = status
        self.request_id = request_id
        self.issues = issues


class RunAborted(OkasieError):
    """The run of this account must end."""

    code = "stopped"


class Unauthorized(RunAborted):
    """401, or a key without the scope that the call needs."""

    code = "unauthorized"


class SourceError(RunAborted):
    """The local inventory cannot be read, or not to its proven end."""

    code = "source"


class ConfigurationError(OkasieError):
    """An operator must change the configuration, or the caller its arguments. Exit status 2."""

    code = "configuration"


class ConnectionFailed(OkasieError):
    """Redis or the workers do not answer. Exit status 5."""

    code = "not_reachable"


class PlanOutdated(OkasieError):
    """The held plan has changed since it was shown. ``run``: the run whose plan is held now. Exit status 3."""

    code = "outdated"

    def __init__(self, message: str, *, where: str | None = None, run: str | None = None) -> None:
        super().__init__(message, where=where)
        self.run = run
