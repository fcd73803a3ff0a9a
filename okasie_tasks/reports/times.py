"""Times of documents for people: ISO 8601 in UTC becomes the account's local time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def local(iso: str, zone: str) -> datetime:
    """Return the time in this zone. ``iso``: as in a document; without an offset it is UTC."""
    moment = datetime.fromisoformat(iso)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(ZoneInfo(zone))


def text(iso: str | None, zone: str) -> str:
    """Return the time as ``2026-11-28 16:05:12`` in this zone; "" for None."""
    return local(iso, zone).strftime("%Y-%m-%d %H:%M:%S") if iso else ""
