"""The document in a feed's file: plain, gzipped, or in a zip archive, by its content and not by its name.

Nothing of an archive is written to disk. What decompression yields is bounded where it is read
(`okasie_tasks.sources.bounds`).
"""

from __future__ import annotations

import contextlib
import fnmatch
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from okasie_tasks.errors import SourceError

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED: Final = 0x1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""Not LZMA, with which the archive decides how much memory is used."""
_INDEX_BYTES: Final = 8_000_000
"""The longest list of files of an archive, about 80,000 files: it is held in memory."""
_SUFFIXES: Final = {
    "csv": (".csv", ".txt", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "json": (".json",),
    "xml": (".xml",),
    "xlsx": (".xlsx", ".xlsm"),
}
_WORKBOOK: Final = "[Content_Types].xml"


class Content(msgspec.Struct, frozen=True):
    """The document, and its name in messages: ``stock.zip:stock.csv``. ``stream`` has ``peek`` and can be sought."""

    stream: IO[bytes]
    name: str


@contextlib.contextmanager
def open_content(path: Path, name: str, *, kind: str, member: str | None = None) -> Iterator[Content]:
    """Open the document in a file of ``kind``, such as ``csv``. ``member``: a pattern for the file of an archive.

    Raises `SourceError`, also for damage that shows only while the document is read.
    """
    with contextlib.ExitStack() as opened:
        try:
            content = Content(cast("IO[bytes]", opened.enter_context(path.open("rb"))), name)
            if _begins(content, _ZIP):
                archive = _archive(opened.enter_context(_BoundedReads(io.FileIO(path))), name)
                # A workbook is an archive itself.
                if kind != "xlsx" or _WORKBOOK not in archive.namelist():
                    chosen = _choose(archive, name, kind, member)
                    content = Content(
                        opened.enter_context(_open_member(archive, chosen, name)), f"{name}:{chosen.filename}"
                    )
            if _begins(content, (_GZIP,)):
                content = Content(cast("IO[bytes]", gzip.GzipFile(fileobj=content.stream)), content.name)
            yield content
        except (gzip.BadGzipFile, zlib.error) as error:
            raise SourceError("has damaged compressed data (gzip or deflate)", where=name, code="damaged") from error
        except EOFError as error:
            raise SourceError("ends in the middle of its compressed data", where=name, code="cut") from error
        except zipfile.BadZipFile as error:
            raise SourceError(f"is a damaged or incomplete zip file: {error}", where=name, code="damaged") from error


def _open_member(archive: zipfile.ZipFile, chosen: zipfile.ZipInfo, name: str) -> IO[bytes]:
    try:
        return archive.open(chosen)
    except (UnicodeDecodeError, NotImplementedError) as error:
        # The header before the file contradicts the list of files.
        raise SourceError(f"is a damaged or incomplete zip file: {error}", where=name, code="damaged") from error


def _begins(content: Content, signs: tuple[bytes, ...]) -> bool:
    return bytes(content.stream.peek(4)).startswith(signs)  # type: ignore[attr-defined]


class _BoundedReads(io.BufferedReader):
    """A file that is not read in larger pieces, however long the archive says that its list of files is."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(_INDEX_BYTES + 1 if size is None or size < 0 else min(size, _INDEX_BYTES + 1))
        if len(data) > _INDEX_BYTES:
            raise zipfile.BadZipFile(f"its list of files is larger than {_INDEX_BYTES / 1e6:g} MB")
        return data


def _archive(file: IO[bytes], name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (UnicodeDecodeError, NotImplementedError) as error:
        raise SourceError(f"is a zip file that cannot be read: {error}", where=name, code="zip") from error


def _choose(archive: zipfile.ZipFile, name: str, kind: str, member: str | None) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.is_dir() and not _is_of_the_system(info.filename)]
    if member is not None:
        fitting = [info for info in files if _matches(info.filename, member)]
        expected = f"one that matches member = {member!r}"
    else:
        suffixes = _SUFFIXES.get(kind, ())
        fitting = [info for info in files if info.filename.lower().removesuffix(".gz").endswith(suffixes)]
        expected = f"one {kind} file, or member = the name of the one to read"
        if not fitting and len(files) == 1:
            fitting = files
    if len(fitting) != 1:
        names = ", ".join(info.filename for info in fitting or files)
        has = f"has {len(fitting)} that fit" if fitting else "has none that fits"
        raise SourceError(
            f"{has} among its files: {names[:300] or '(none)'}; expected {expected}", where=name, code="member"
        )
    (chosen,) = fitting
    where = f"{name}:{chosen.filename}"
    if chosen.flag_bits & _ENCRYPTED:
        raise SourceError("is encrypted, expected a zip file without a password", where=where, code="encrypted")
    if chosen.compress_type not in _METHODS:
        method = zipfile.compressor_names.get(chosen.compress_type, chosen.compress_type)  # type: ignore[attr-defined]
        raise SourceError(f"is compressed with {method}, expected deflate", where=where, code="zip")
    return chosen


def _matches(filename: str, pattern: str) -> bool:
    pattern, filename = pattern.lower(), filename.lower()
    return fnmatch.fnmatchcase(filename, pattern) or fnmatch.fnmatchcase(filename.rpartition("/")[2], pattern)


def _is_of_the_system(filename: str) -> bool:
    """Return whether an operating system added the file: macOS adds a shadow to each."""
    return filename.startswith("__MACOSX/") or filename.rpartition("/")[2].startswith(".")
