"""Links to adverts, as the marketplace reports them."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_LONGEST: Final = 300
_FORBIDDEN: Final = frozenset("\"'<>\\^`{|} ")


def web_link(text: str) -> str:
    """Return the http or https link; "" for any other text.

    A link has a host, no credentials, at most 300 characters, all of them printable, and none that must be escaped in
    a URL.
    """
    if len(text) > _LONGEST or not text.isprintable() or _FORBIDDEN.intersection(text):
        return ""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    return text if named and parts.scheme in ("http", "https") and "@" not in parts.netloc else ""
