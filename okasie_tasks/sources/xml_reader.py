"""The vehicles of an XML feed, one element at a time: memory does not grow with the feed.

An element becomes a nested object: children by local name, a list where a name repeats, attributes as ``@name``, and
the text of an element with attributes or children as ``#text``. A document type is refused, so that no entity expands
and nothing outside the feed is read.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any, Final, NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

import defusedxml
from defusedxml.ElementTree import DefusedXMLParser

from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Record
from okasie_tasks.settings import SourceSettings
from okasie_tasks.sources.bounds import BoundedFile
from okasie_tasks.sources.paths import TEXT

_CHUNK_BYTES: Final = 64 * 1024
_MOST_DEPTH: Final = 100
_PROBED_BYTES: Final = 4_000_000
"""How much of a feed is searched for repeated elements."""


def read_xml(file: BoundedFile, source: SourceSettings, *, name: str) -> Iterator[Record]:
    """Yield the elements at ``items``, a path such as ``stock/vehicle``; the root element may be left out of it.

    Raises `SourceError` for a document that is not well-formed to its end, that has a document type, or that has no
    element at ``items`` while others repeat there. ``name``: the feed in messages.
    """
    wanted = [step for step in (source.items or "").replace(".", "/").split("/") if step]
    if not wanted:
        likely = ", ".join(f"{shape.path} ({shape.total})" for shape in likely_elements(file, source, name=name)[:5])
        raise SourceError(
            f"needs `items`, the path of the element that is one vehicle: {likely or 'no element has others in it'}",
            where=name, code="no_list",
        )  # fmt: skip
    with _errors(name):
        yield from _Vehicles(file, source, wanted, name)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
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
    except UnicodeDecodeError as error:
        raise SourceError(f"is not {error.encoding}: {error.reason}", where=name, code="encoding") from error
    except (LookupError, ValueError) as error:
        raise SourceError(
            f"is in an encoding that cannot be read: {error}; `encoding` overrides what the feed declares",
            where=name, code="encoding",
        ) from error  # fmt: skip


class _Vehicles:
    """The elements at one path, while the document is read."""

    def __init__(self, file: BoundedFile, source: SourceSettings, wanted: list[str], name: str) -> None:
        self._file, self._encoding, self._name = file, _override(source), name
        self._wanted, self._place = wanted, "/".join(wanted)
        self._open: list[Element] = []
        self._matched = 0
        """How many open elements, from the root element on, are on the path."""
        self._count = 0
        self._siblings: Counter[str] = Counter()
        """Other elements at the place of the wanted ones."""
        self._elsewhere = ""
        """The path of an element of the wanted name at another place."""
        self._read = self._began = 0
        self._seen_parent = False

    def __iter__(self) -> Iterator[Record]:
        for event, element in _events(self._chunks(), self._encoding):
            if self._matched == len(self._wanted) and self._is_within(event, element):
                continue
            if event == "start":
                self._start(element)
            elif (value := self._end(element)) is not None:
                self._count += 1
                yield Record(f"{self._name}:{self._place}[{self._count}]", value)
        if not self._count and self._elsewhere:
            raise SourceError(
                f"has no element {self._place}; there is {self._elsewhere}", where=self._name, code="no_list"
            )
        if not self._seen_parent:
            raise SourceError(f"has no element {self._place}", where=self._name, code="no_list")
        if not self._count and max(self._siblings.values(), default=0) > 1:
            others = ", ".join(f"{name} ({count})" for name, count in self._siblings.most_common(5))
            raise SourceError(f"has no element {self._place}; there are {others}", where=self._name, code="no_list")

    def _chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes. A vehicle, or what lies between two other elements, is bounded like a row."""
        while chunk := self._file.read(_CHUNK_BYTES):
            self._file.bounds.check_row(
                self._read - self._began, f"{self._name}:{self._place}[{self._count + 1}], byte {self._began}"
            )
            self._read += len(chunk)
            yield chunk

    def _is_within(self, event: str, element: Element) -> bool:
        """Follow the depth within a vehicle; return False at its end."""
        if event == "start":
            self._push(element)
        elif len(self._open) == len(self._wanted):
            return False
        else:
            self._open.pop()
        return True

    def _push(self, element: Element) -> None:
        self._open.append(element)
        if len(self._open) > _MOST_DEPTH:
            raise SourceError(
                f"is nested deeper than {_MOST_DEPTH} elements",
                where=f"{self._name}:{self._place}[{self._count + 1}]", code="too_deep",
            )  # fmt: skip

    def _start(self, element: Element) -> None:
        at, local = len(self._open), _local(element.tag)
        self._push(element)
        if not at and self._wanted[0] != local:
            self._wanted = [local, *self._wanted]
        self._began = self._read
        if at == self._matched and local == self._wanted[at]:
            self._matched += 1
            self._seen_parent = self._seen_parent or self._matched >= len(self._wanted) - 1
        elif local == self._wanted[-1] and not self._elsewhere:
            self._elsewhere = "/".join(_local(element.tag) for element in self._open)
        elif at == self._matched == len(self._wanted) - 1 and len(self._siblings) < _MOST_DEPTH:
            self._siblings[local] += 1

    def _end(self, element: Element) -> dict[str, Any] | None:
        """Return the vehicle that ends here, else None."""
        self._open.pop()
        depth, value = len(self._open), None
        self._began = self._read
        if self._matched > depth:
            self._matched = depth
            if depth == len(self._wanted) - 1:
                value = _value(element)
                value = value if isinstance(value, dict) else {TEXT: value}
        if self._open:
            self._open[-1].remove(element)  # or the whole document would be in memory
        return value


class Shape(NamedTuple):
    """An element that may be one vehicle. ``repeats``: most of them in one parent; ``members``: names within it."""

    path: str
    repeats: int
    total: int
    members: int


def likely_elements(file: BoundedFile, source: SourceSettings, *, name: str) -> list[Shape]:
    """Return the elements at the beginning of the feed that may be one vehicle, the likeliest first.

    One that repeats is likelier than one that does not, then one with more different members.
    """
    repeats: dict[tuple[str, ...], int] = {}
    totals: Counter[tuple[str, ...]] = Counter()
    members: dict[tuple[str, ...], set[str]] = {}
    path: tuple[str, ...] = ()
    counts: list[Counter[str]] = [Counter()]
    chunks = islice(iter(lambda: file.read(_CHUNK_BYTES), b""), _PROBED_BYTES // _CHUNK_BYTES)
    with _errors(name):
        for event, element in _events(chunks, _override(source), whole=False):
            if event == "end":
                path = path[:-1]
                counts.pop()
                continue
            local = _local(element.tag)
            members.setdefault(path, set()).add(local)
            path = (*path, local)
            if len(path) > _MOST_DEPTH:
                break
            members.setdefault(path, set()).update(f"@{_local(key)}" for key in element.attrib)
            counts[-1][local] += 1
            repeats[path] = max(repeats.get(path, 0), counts[-1][local])
            totals[path] += 1
            counts.append(Counter())
    shapes = [Shape("/".join(at), repeats[at], totals[at], len(members[at])) for at in totals if len(members[at]) > 1]
    return sorted(shapes, key=lambda shape: (shape.repeats == 1, -shape.members, shape.path.count("/")))


def _events(chunks: Iterator[bytes], encoding: str | None, *, whole: bool = True) -> Iterator[tuple[str, Element]]:
    """Yield the start and the end of each element.

    The parser in C reports no document type. A document type stands before the root element: up to there, a second
    parser that refuses it goes ahead.
    """
    guard = _Guard()
    parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
    decode = codecs.getincrementaldecoder(encoding)().decode if encoding else None
    for chunk in chunks:
        # A text is read as it is, whatever the feed declares.
        data = decode(chunk) if decode else chunk
        guard.feed(data)
        parser.feed(data)
        yield from parser.read_events()  # type: ignore[misc]
    if whole:
        parser.feed(decode(b"", True) if decode else b"")
        parser.close()
        yield from parser.read_events()  # type: ignore[misc]


def refuse_document_type(file: IO[bytes], name: str) -> None:
    """Read a document up to its root element. Raises `SourceError` for a document type and for what is not XML."""
    guard = _Guard()
    with _errors(name):
        while not guard.passed and (chunk := file.read(_CHUNK_BYTES)):
            guard.feed(chunk)


class _Guard:
    """Raises `defusedxml.DTDForbidden` for a document type before the root element."""

    def __init__(self) -> None:
        self._parser = DefusedXMLParser(target=self, forbid_dtd=True)
        self.passed = False

    def feed(self, data: bytes | str) -> None:
        if not self.passed:
            self._parser.feed(data)

    def start(self, tag: str, attributes: object) -> None:  # noqa: ARG002 - called by the parser
        self.passed = True


def _override(source: SourceSettings) -> str | None:
    """Return the encoding that the settings name; None: the one that the feed declares."""
    if "encoding" not in source.model_fields_set:
        return None
    return "utf-8-sig" if source.encoding.lower() in ("utf-8", "utf8") else source.encoding


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
        if child.tail and not child.tail.isspace():
            text = " ".join("".join(element.itertext()).split())  # a text with markup in it
    if text or not len(element):
        members[TEXT] = text
    return members


def _local(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rpartition("}")[2] if tag[0] == "{" else tag
