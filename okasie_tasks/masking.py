"""Masking: the one place that knows which texts must never be shown, and takes them out of others.

Whoever reads a secret says so here in the same step (`Secret.reveal`, the URLs of the configuration, the door to the
API), so nothing that holds one can be shown without coming by: errors at their birth, every line of every log, what a
marketplace answers. Values are known by process and never leave it.
"""

from __future__ import annotations

import base64
import json
import threading
from typing import Any, Final, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MASK: Final = "***"
_SHORTEST: Final = 4
"""A shorter value stands in too many innocent words: masking it would spoil every line, and tell it by doing so."""

_known: tuple[str, ...] = ()
"""Longest first: a secret may be part of another one. Replaced whole, so that readers need no lock."""
_lock: Final = threading.Lock()


def know(secret: str) -> str:
    """Never show this value from now on, in none of its usual spellings; returns it."""
    global _known  # noqa: PLW0603 - one register a process, as there is one stderr
    if len(secret) >= _SHORTEST and secret not in _known:
        with _lock:
            _known = tuple(sorted({*_known, *_spellings(secret)}, key=len, reverse=True))
    return secret


def know_url(url: str) -> str:
    """The same for what a URL may hold: its password, its user, the values of its query; returns the URL."""
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return know(url)
    for secret in (password or user,):  # a user alone is a token, as in https://TOKEN@host
        know(secret)
        know(unquote(secret))
    if password:
        know_pair(unquote(user), unquote(password))
    for name, value in parse_qsl(parts.query):
        # Query values that are settings, as in ?ssl_cert_reqs=required or ?charset=utf8, are words of the house.
        if any(word in name.casefold() for word in ("key", "token", "secret", "pass", "auth", "sig", "credential")):
            know(value)
    return url


def know_pair(user: str, password: str) -> None:
    """The same for a password, and for both as basic authentication sends them."""
    know(password)
    know(base64.b64encode(f"{user}:{password}".encode()).decode())


def mask(text: str) -> str:
    """The text without any secret that this process knows."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def _spellings(secret: str) -> set[str]:
    """As it stands in JSON, in a ``repr``, in a URL and in a header of basic authentication."""
    found = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        quote_plus(secret),
    }
    return {spelling for spelling in found if len(spelling) >= _SHORTEST}


class MaskedStream:
    """A text stream without the secrets that this process knows; in all else the stream that it stands for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(mask(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
