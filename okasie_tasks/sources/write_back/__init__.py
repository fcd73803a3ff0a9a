"""Write-back: edits made on the marketplace that are kept are offered to the source.

A change feed is a file that other programs read. A table is updated through the mapping
(`okasie_tasks.sources.write_back.sql`). A custom source receives the changes as a list. Delivery is at least once:
after a crash an offer may be repeated, with the same ``run`` and ``reference``.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from okasie_tasks.errors import OkasieError, SourceError
from okasie_tasks.ports import Offer, WriteBack
from okasie_tasks.settings import AccountSettings, without_passwords

_LOCK_SECONDS: Final = 0.5
_LOCK_POLL_SECONDS: Final = 0.01


def open_write_back(account: AccountSettings) -> WriteBack | None:
    """Return the account's write-back, None when it has none. Nothing is opened or connected yet.

    The setting takes precedence over the ``write_back`` of a ``python:`` source.
    """
    settings = account.source.write_back
    if settings.file is not None:
        return ChangeFeed(account.name, Path(settings.file))
    if settings.table is not None:
        from okasie_tasks.sources.write_back.sql import SqlWriteBack  # noqa: PLC0415 - an extra

        return SqlWriteBack(account, account.source.location(), settings.table)
    if account.source.type.startswith("python:"):
        from okasie_tasks.sources.custom import load_object  # noqa: PLC0415 - runs custom code

        inner = load_object(account)
        if callable(getattr(inner, "write_back", None)):
            return CustomWriteBack(account, inner)
    return None


def plain_offer(account: str, offer: Offer) -> dict[str, Any]:
    """Return an offer for other programs: ``at`` in ISO 8601, UTC; values in write shape, None for an emptied field."""
    at = datetime.fromtimestamp(offer.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "at": at.replace("+00:00", "Z"),
        "account": account,
        "run": offer.run,
        "reference": offer.reference,
        "changes": {
            field: {"ours": _write_shape(field, ours), "theirs": _write_shape(field, theirs)}
            for field, ours, theirs in offer.changes
        },
    }


def _write_shape(field: str, value: Any) -> Any:
    if field != "features" or not isinstance(value, list | tuple):
        return value
    parts = (text.rpartition("\x1f") for text in value)
    return [{"category": category, "name": name} if category else {"name": name} for category, _, name in parts]


class ChangeFeed:
    """JSON lines, one for each offer, appended to a file that several processes may share."""

    def __init__(self, account: str, path: Path) -> None:
        self._account = account
        self._path = path

    def write_back(self, offers: Sequence[Offer]) -> int:
        """Append all offers and sync them to disk; see `okasie_tasks.ports.WriteBack`."""
        lines = [msgspec.json.encode(plain_offer(self._account, offer)) + b"\n" for offer in offers]
        if not lines:
            return 0
        try:
            self._append(b"".join(lines))
        except OSError as error:
            reason = f"its folder {self._path.parent} does not exist" if self._missing_folder() else error.strerror
            raise SourceError(
                f"the change feed cannot be written: {reason}", where=str(self._path), code="write_back"
            ) from error
        return len(lines)

    def _missing_folder(self) -> bool:
        return not self._path.parent.is_dir()

    def _append(self, data: bytes) -> None:
        """Append with one write, completely or not at all: lines never mix, and a full disk leaves no partial line."""
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(file)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                data = b"\n" + data  # ends the partial line of a process that was killed
            written = os.write(file, data)
            if written < len(data):
                os.ftruncate(file, size)
                raise OSError(0, "only a part was written")
            fcntl.flock(file, fcntl.LOCK_UN)  # the slow part needs no lock
            os.fsync(file)
        finally:
            os.close(file)
        if size == 0:
            self._sync_folder()

    def _lock(self, file: int) -> None:
        """Lock the file. Workers hold the lock for one write; after a longer wait another program must hold it."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_SECONDS)
            else:
                return

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class CustomWriteBack:
    """A custom source with ``write_back(changes)``, which receives a list of dicts as in a change feed."""

    def __init__(self, account: AccountSettings, inner: Any) -> None:
        self._account = account
        self._inner = inner

    def write_back(self, offers: Sequence[Offer]) -> int:
        """Return how many offers the object accepted; it returns None for all. See `okasie_tasks.ports.WriteBack`."""
        if not offers:
            return 0
        where = self._account.source.type
        try:
            taken = self._inner.write_back([plain_offer(self._account.name, offer) for offer in offers])
        except OkasieError:
            raise
        except Exception as error:
            detail = without_passwords(f"{type(error).__name__}: {error}")
            # Not chained: the traceback of a chained error may hold a secret.
            raise SourceError(f"write_back raised {detail}"[:300], where=where, code="write_back") from None
        if taken is None:
            return len(offers)
        if isinstance(taken, bool) or not isinstance(taken, int) or not 0 <= taken <= len(offers):
            raise SourceError(
                f"write_back returned {taken!r:.60}, expected the number accepted of {len(offers)}, or None",
                where=where,
                code="write_back",
            )
        return taken
