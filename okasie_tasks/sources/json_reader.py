"""The vehicles of a JSON document, one at a time: memory does not grow with the document.

The document is walked down to the list at ``items``; each value in it is decoded by itself. What lies beside the list
is decoded in pieces and dropped.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Record
from okasie_tasks.settings import SourceSettings
from okasie_tasks.sources.bounds import BoundedFile

KEY: Final = "@key"
"""The member with the key of a vehicle, where vehicles are the values of an object."""
_CHUNK_BYTES: Final = 64 * 1024
_MOST_DEPTH: Final = 100
_SPACE: Final = " \t\n\r"
_SHOWN: Final = 20
_WORDS: Final = ("true", "false", "null", "-")
_PART_OF_NUMBER: Final = re.compile(r"[.eE+-]+")
_LONGEST_WORD: Final = 12
"""Characters of a pair of escapes, the longest part of a text that is wrong only because it is cut."""
_KINDS: Final = {"{": "an object", "[": "a list", '"': "a text", "n": "null", "t": "true", "f": "false"}


def read_json(file: BoundedFile, source: SourceSettings, *, name: str) -> Iterator[Record]:
    """Yield the values of the list or object at ``items``, a path such as ``stock.vehicles`` or ``dealers[].cars``.

    Without ``items``, the document is the list; with ``"."``, the document is the list or the object. Raises
    `SourceError` for a document that is not valid to its end. ``name``: the feed in messages.
    """
    text = _Text(file, source, name)
    items = source.items or ""
    steps = [step for part in items.split(".") if part for step in _steps(part)]
    yield from _Walk(text, name, keyed=bool(items)).at(steps, "")
    if text.peek():
        text.invalid("expected the end of the document")


def _steps(part: str) -> Iterator[str]:
    bare = part.removesuffix("[]")
    if bare:
        yield bare
    if bare != part:
        yield "[]"


class _Walk:
    """Walks down a document. ``keyed``: an object of vehicles is accepted."""

    def __init__(self, text: _Text, name: str, *, keyed: bool) -> None:
        self._text, self._name, self._keyed = text, name, keyed

    def at(self, steps: list[str], place: str) -> Iterator[Record]:
        """Yield the records below a value, which is read to its end."""
        self._text.place = place
        if not steps:
            yield from self._records(place)
        elif steps[0] == "[]":
            self._expect("[", place, "a list")
            for index in self._elements():
                yield from self.at(steps[1:], f"{place}[{index}]")
        else:
            yield from self._below(steps, place)

    def _below(self, steps: list[str], place: str) -> Iterator[Record]:
        self._expect("{", place, "an object")
        names: list[str] = []
        found = False
        for key in self._members():
            if key == steps[0]:
                found = True
                yield from self.at(steps[1:], f"{place}.{key}" if place else key)
                self._text.place = place
            else:
                names += [key] if len(names) < _SHOWN else []
                self._skip(1)
        if not found:
            self._no_list(f"has no member {steps[0]}{_in(place)}; its members are {', '.join(names) or '(none)'}")

    def _records(self, place: str) -> Iterator[Record]:
        """Yield the elements of the list, or the values of the object, that begins here."""
        text, first = self._text, self._text.peek()
        if first == "[":
            text.take()
            for index in self._elements():
                where = text.place = f"{place}[{index}]"
                yield self._record(where, text.value(self._row))
        elif first == "{" and self._keyed:
            text.take()
            for key in self._members():
                where = text.place = f"{place}.{key}" if place else key
                record = self._record(where, text.value(self._row))
                if isinstance(record.value, dict):
                    record.value.setdefault(KEY, key)
                yield record
        elif first == "{":
            text.take()
            names = [key for _, key in zip(range(_SHOWN), self._skipped(), strict=False)]
            self._no_list(f"is an object, expected a list: name it with `items`; the members are {', '.join(names)}")
        else:
            self._other(first, place, "a list")

    def _row(self, size: int) -> None:
        self._text.bounds.check_row(size, self._where)

    def _piece(self, size: int) -> None:
        self._text.bounds.check_size(size, self._where, document=True)

    @property
    def _where(self) -> str:
        return f"{self._name}:{self._text.place}" if self._text.place else self._name

    def _record(self, where: str, value: Any) -> Record:
        where = f"{self._name}:{where}"
        if "\\u" in self._text.raw and (error := _undecodable(value)):
            return Record(where, None, error)
        return Record(where, value)

    # -- lists and objects -----------------------------------------------------------------------------------------

    def _elements(self) -> Iterator[int]:
        """Yield the index of each element of the list that was entered; the caller reads the element."""
        if self._text.peek() == "]":
            self._text.take()
            return
        index = 0
        while True:
            yield index
            index += 1
            if self._text.separator("]"):
                return

    def _members(self) -> Iterator[str]:
        """Yield the key of each member of the object that was entered; the caller reads the value."""
        text = self._text
        if text.peek() == "}":
            text.take()
            return
        while True:
            if text.peek() != '"':
                text.invalid("expected a name in quotes")
            key: str = text.value(self._row)
            if text.peek() != ":":
                text.invalid("expected a colon")
            text.take()
            yield key
            if text.separator("}"):
                return

    def _skipped(self) -> Iterator[str]:
        for key in self._members():
            self._skip(1)
            yield key

    def _skip(self, depth: int) -> None:
        """Read a value and drop it. One that is longer than what is at hand is read in pieces."""
        text, first = self._text, self._text.peek()
        if depth > _MOST_DEPTH:
            text.invalid(f"is nested deeper than {_MOST_DEPTH} values")
        if text.at_hand():
            return
        if first == "[":
            text.take()
            for _ in self._elements():
                self._skip(depth + 1)
        elif first == "{":
            text.take()
            for _ in self._members():
                self._skip(depth + 1)
        else:
            text.value(self._piece)

    def _expect(self, bracket: str, place: str, what: str) -> None:
        if (first := self._text.peek()) != bracket:
            self._other(first, place, what)
        self._text.take()

    def _other(self, first: str, place: str, expected: str) -> NoReturn:
        if not first:
            self._text.invalid("")
        self._no_list(f"expected {expected}{_in(place)}, got {_KINDS.get(first, 'a number')}")

    def _no_list(self, message: str) -> NoReturn:
        raise SourceError(message, where=self._name, code="no_list")


def _in(place: str) -> str:
    return f" at {place or 'the document'}"


def _undecodable(value: Any) -> str:
    """Return why a decoded value holds text that is none: half of a pair of surrogates."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "has a text with half of a surrogate pair"
    return ""


class _Text:
    """The text of a document, of which only the piece at hand is in memory. ``place``: where the walk is."""

    def __init__(self, file: BoundedFile, source: SourceSettings, name: str) -> None:
        self._file, self.bounds, self._name = file, file.bounds, name
        self.place = ""
        self.raw = ""
        """The value decoded last, as it was written."""
        self._buffer, self._at, self._lines, self._ended = "", 0, 0, False
        head = file.read(4)
        utf16 = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        self._encoding = "utf-16" if utf16 else source.encoding
        try:
            self._decoder = codecs.getincrementaldecoder(self._encoding)()
        except LookupError as error:
            raise SourceError(f"encoding {source.encoding!r} is unknown", where=name) from error
        self._append(head)
        self._more(_CHUNK_BYTES)
        self._buffer = self._buffer.removeprefix("\ufeff")

    # -- what comes next -------------------------------------------------------------------------------------------

    def peek(self) -> str:
        """Return the next character that is not a space; "" at the end."""
        while True:
            buffer, at = self._buffer, self._at
            while at < len(buffer) and buffer[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(buffer):
                return buffer[at]
            if not self._more(_CHUNK_BYTES):
                return ""

    def take(self) -> None:
        """Step over the character that `peek` returned."""
        self._at += 1

    def separator(self, closing: str) -> bool:
        """Step over a comma or the closing bracket; return whether it was the bracket."""
        first = self.peek()
        if first not in (",", closing) or not first:
            self.invalid(f"expected , or {closing}")
        self._at += 1
        if first == "," and self.peek() in ("]", "}"):
            self.invalid("expected a value after the comma")
        return first == closing

    def at_hand(self) -> bool:
        """Step over the next value if it ends within the piece at hand."""
        self.peek()
        try:
            _, end = _DECODER.raw_decode(self._buffer, self._at)
        except (ValueError, RecursionError):
            return False
        if not self._is_whole(end):
            return False
        self._at = end
        return True

    def value(self, check: Callable[[int], None]) -> Any:
        """Return the next value, decoded. ``check``: called with its length so far; raises if it is too long."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except RecursionError:
                self.invalid(f"is nested deeper than {_MOST_DEPTH} values")
            except ValueError as error:
                if self._ended or not self._is_cut(error):
                    self._fail(error)
            else:
                if self._is_whole(end):
                    break
            held = len(self._buffer) - self._at
            check(held)
            self._more(max(_CHUNK_BYTES, held))
        check(end - self._at)
        self.raw = self._buffer[self._at : end]
        if self.raw.count("[") + self.raw.count("{") > _MOST_DEPTH and _depth(value) > _MOST_DEPTH:
            self.invalid(f"is nested deeper than {_MOST_DEPTH} values")
        self._at = end
        return value

    # -- reading ---------------------------------------------------------------------------------------------------

    def _more(self, size: int) -> bool:
        """Read on; return False at the end of the file. What was read before is dropped."""
        if self._ended:
            return False
        self._lines += self._buffer.count("\n", 0, self._at)
        self._buffer, self._at = self._buffer[self._at :], 0
        data = self._file.read(size)
        self._append(data)
        return bool(data)

    def _append(self, data: bytes) -> None:
        self._ended = not data
        try:
            self._buffer += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line(len(self._buffer)) + error.object[: error.start].count(b"\n")
            what = f"byte {error.object[error.start]:#04x} is not {self._encoding}"
            raise SourceError(what, where=f"{self._name}:{line}", code="encoding") from error

    def _line(self, at: int) -> int:
        return self._lines + self._buffer.count("\n", 0, at) + 1

    def _is_whole(self, end: int) -> bool:
        """Return whether a value ends there. A number may go on, with up to three characters: ``e+5``."""
        return self._ended or end + 2 < len(self._buffer)

    def _is_cut(self, error: ValueError) -> bool:
        """Return whether the text at hand ends too early to be read, rather than being wrong."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        rest = self._buffer[error.pos : error.pos + _LONGEST_WORD]
        if error.msg.startswith("Invalid") and "escape" in error.msg:
            return len(rest) < _LONGEST_WORD and '"' not in rest
        is_cut = any(word.startswith(rest) for word in _WORDS) or _PART_OF_NUMBER.fullmatch(rest)
        return error.msg.startswith("Unterminated") or bool(is_cut)

    def _fail(self, error: ValueError) -> NoReturn:
        """Raise for the decoder's error."""
        message = str(error)
        if isinstance(error, json.JSONDecodeError):
            message = error.msg[:1].lower() + error.msg[1:]
            self._at = len(self._buffer) if self._is_cut(error) else error.pos
        self.invalid(message)

    def invalid(self, message: str) -> NoReturn:
        """Raise for what stands here."""
        where = f"{self._name}:{self._line(self._at)}" + (f" ({self.place})" if self.place else "")
        if self._ended and self._at >= len(self._buffer):
            raise SourceError("ends in the middle of the document", where=where, code="cut")
        raise SourceError(f"is not a JSON document: {message}", where=where, code="not_json")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _MOST_DEPTH:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)
