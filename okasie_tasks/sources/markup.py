"""Descriptions written in HTML as plain text: the marketplace shows a description as it is sent."""

from __future__ import annotations

import html
import re
from typing import Final

_LINES: Final = "blockquote|br|div|h[1-6]|hr|li|ol|p|pre|table|tr|ul"
_INLINE: Final = "a|abbr|b|big|center|em|font|i|img|small|span|strong|sub|sup|tbody|tfoot|thead|u"
_TAG: Final = re.compile(
    rf"</?(?:(?P<line>{_LINES})|(?P<cell>t[dh])|{_INLINE})(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_HIDDEN: Final = (
    (re.compile(r"<!--.*?-->", re.DOTALL), "-->"),
    (re.compile(r"<style\b.*?</style>", re.DOTALL), "</style>"),
)
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]+\d*);")


def plain_description(text: str) -> str:
    """Return the text without the tags of HTML, with its character references resolved.

    Tags of blocks become line breaks. Only names of HTML are tags: ``<100.000 km>`` stays. A text without tags keeps
    its line breaks and spaces.
    """
    if "<" in text and _TAG.search(text):
        for pattern, end in _HIDDEN:
            at = text.rfind(end) + len(end)  # before it each beginning has its end, so that one pass is enough
            text = pattern.sub("", text[:at]) + text[at:]
        text = "\n".join(filter(None, map(str.strip, _TAG.sub(_in_place_of, text).split("\n"))))
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]).replace("\xa0", " "), text) if "&" in text else text


def _in_place_of(tag: re.Match[str]) -> str:
    if tag["line"]:
        return "\n"
    return " " if tag["cell"] and tag[0].startswith("</") else ""
