"""Masking: the register of secrets of this process, and their removal from texts; the cleaning of texts from outside.

Code that reads a secret registers it here at the same time (`Secret.reveal`, the URLs of the configuration, the API
client). Errors, log lines and marketplace responses are then masked before they are shown. The register never leaves
its process.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Any, Final, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MASK: Final = "***"
_SHORTEST: Final = 4
"""A shorter value occurs in too many ordinary words: masking it would spoil every line, and reveal it."""

_known: tuple[str, ...] = ()
"""Longest first, because a secret may be part of another. Replaced as a whole, so that readers need no lock."""
_lock: Final = threading.Lock()


def know(secret: str) -> str:
    """Register a secret, in all its usual spellings, and return it."""
    global _known  # noqa: PLW0603 - one register a process, as there is one stderr
    if len(secret) >= _SHORTEST and secret not in _known:
        with _lock:
            _known = tuple(sorted({*_known, *_spellings(secret)}, key=len, reverse=True))
    return secret


def know_url(url: str) -> str:
    """Register the password, the user and the secret query values of a URL, and return the URL."""
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return know(url)
    # A user alone is a token, as in https://TOKEN@host, but not on a server of files or a database.
    secret = password or (user if parts.scheme in ("http", "https") else "")
    know(secret)
    know(unquote(secret))
    if password:
        know_pair(unquote(user), unquote(password))
    for name, value in parse_qsl(parts.query):
        # Query values that are settings, as in ?ssl_cert_reqs=required or ?charset=utf8, are no secrets.
        if any(word in name.casefold() for word in ("key", "token", "secret", "pass", "auth", "sig", "credential")):
            know(value)
    return url


def know_pair(user: str, password: str) -> None:
    """Register a password, and the user and password as basic authentication encodes them."""
    know(password)
    know(base64.b64encode(f"{user}:{password}".encode()).decode())


def mask(text: str) -> str:
    """Return the text with every registered secret replaced by `MASK`."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


# -- texts from outside --------------------------------------------------------------------------------------------

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
"""Control characters, separators of lines and paragraphs, marks and overrides of the writing direction, invisible
characters, and halves of characters: they control a terminal, forge a line, or cannot be encoded."""


def clean(text: str) -> str:
    """Return the text as one line, with such characters written as in Python: ``\\n``, ``\\x1b``, ``\\u202e``."""
    return text if text.isprintable() else _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def cleaned(value: Any) -> Any:
    """Return a document with all its texts cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {cleaned(name): cleaned(inner) for name, inner in value.items()}
    return [cleaned(inner) for inner in value] if isinstance(value, list | tuple) else value


def clean_lines(text: str) -> str:
    """Return a text of several lines, such as a traceback, indented so that no line of it looks like one of a log."""
    return "\n".join(f"    {clean(line)}" for line in text.split("\n"))


def json_escaped(text: str) -> str:
    """Return JSON with such characters escaped. They occur only in its strings."""
    return text if text.isprintable() else _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _spellings(secret: str) -> set[str]:
    """Return the secret as written in plain text, in JSON, in a ``repr`` and in a URL."""
    spellings = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        quote_plus(secret),
    }
    return {spelling for spelling in spellings if len(spelling) >= _SHORTEST}


class MaskedStream:
    """Wraps a text stream and masks registered secrets in what is written to it."""

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
