"""Web addresses of images and documents, as they are sent."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

_PLAIN_URL: Final = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?(?:[/?#][!-~]*)?")
"""Matches nearly all URLs; the others are checked with `urlsplit`."""
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_URL_SIGNS: Final = "%/:=&?~#+!$,;'@()*[]"
"""The signs that have a meaning in a URL, and those of an encoding that was done already."""


def encoded_url(text: str) -> str | None:
    """Return an http(s) URL as it is sent, spaces and other characters percent-encoded; None for anything else.

    An address without a scheme (``//host/...``) is one of https.
    """
    url = text.strip()
    if _PLAIN_URL.fullmatch(url):
        return url
    url = f"https:{url}" if url.startswith("//") else url
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        port = "" if parts.port is None else f":{parts.port}"
        rest = [quote(_PERCENT.sub("%25", part), safe=_URL_SIGNS) for part in (parts.path, parts.query, parts.fragment)]
    except ValueError:
        return None
    is_http = parts.scheme in ("http", "https") and _HOST.fullmatch(host) and parts.username is None
    if not is_http or _CONTROL.search(url):
        return None
    return urlunsplit((parts.scheme, host + port, *rest))


def is_web(url: str) -> bool:
    """Return whether a text is an http(s) URL without spaces."""
    if _PLAIN_URL.fullmatch(url):
        return True
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
