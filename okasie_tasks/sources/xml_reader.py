"""The vehicles of an XML feed, one element at a time: memory does not grow with the feed.

An element becomes a nested object: children by local name, a list where a name repeats, attributes as ``@name``, and
the text of an element with attributes or children as ``#text``. A document type is refused, so that no entity expands
and nothing outside the feed is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml
from defusedxml.ElementTree import iterparse

from okasie_tasks.errors import SourceError
from okasie_tasks.sources.paths import TEXT


def read_elements(file: IO[bytes], path: str, *, name: str) -> Iterator[dict[str, Any]]:
    """Yield the elements at ``path``, written from the root element as ``stock/vehicle``.

    Raises `SourceError` for a document that is not well-formed to its end, that has a document type, or that has no
    element at the parent of ``path``. ``name``: the feed in messages.
    """
    wanted = [step for step in path.strip("/").split("/") if step]
    open_elements: list[Element] = []
    seen_parent = False
    try:
        for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
            if event == "start":
                open_elements.append(element)
                names = [_local(parent.tag) for parent in open_elements]
                seen_parent = seen_parent or names == wanted[:-1] or names == wanted
                continue
            at = [_local(parent.tag) for parent in open_elements]
            open_elements.pop()
            if at == wanted:
                value = _value(element)
                yield value if isinstance(value, dict) else {TEXT: value}
            if len(at) <= len(wanted) and open_elements:
                # Freed, or the whole document would be in memory.
                open_elements[-1].remove(element)
    except defusedxml.DTDForbidden as error:
        raise SourceError(
            "has a document type, expected plain XML: its entities are not read", where=name, code="dtd"
        ) from error
    except ParseError as error:
        line, column = error.position
        cut = "no element found" in str(error) or "unclosed" in str(error)
        raise SourceError(
            f"is not well-formed XML: {str(error).partition(':')[0]} at column {column}",
            where=f"{name}:{line}", code="cut" if cut else "not_xml",
        ) from error  # fmt: skip
    if not seen_parent:
        raise SourceError(f"has no element {path}", where=name, code="no_list")


def _value(element: Element) -> Any:
    """Return an element as a text, or as an object where it has attributes or children."""
    text = (element.text or "").strip()
    if not element.attrib and not len(element):
        return text
    members: dict[str, Any] = {f"@{_local(key)}": value for key, value in element.attrib.items()}
    for child in element:
        name, value = _local(child.tag), _value(child)
        if name not in members:
            members[name] = value
        elif isinstance(members[name], list):
            members[name].append(value)
        else:
            members[name] = [members[name], value]
    if text:
        members[TEXT] = text
    return members


def _local(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rpartition("}")[2]
