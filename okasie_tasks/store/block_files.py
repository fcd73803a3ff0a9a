"""The shared store of blocks: a folder that every node has, or an object store behind an fsspec URL."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import know_url, mask


class BlockFiles(Protocol):
    """Files by relative path. Raises `OSError`."""

    def put(self, path: str, data: bytes) -> None: ...
    def get(self, path: str) -> bytes: ...
    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in this one; none if it does not exist."""
        ...

    def remove(self, path: str) -> None:
        """Delete a folder with its files, if it exists."""
        ...


def open_files(url: str) -> BlockFiles:
    """Return the store at a path or URL. Raises `ConfigurationError` for one that cannot be used."""
    if "://" not in url or url.startswith("file://"):
        return _Folder(Path(url.removeprefix("file://")))
    know_url(url)
    try:
        import fsspec  # noqa: PLC0415 - an extra

        files, root = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f'{url.partition(":")[0]}: cannot be used ({type(error).__name__}): install what serves it, as with'
            ' pip install "okasie-tasks[feeds]", or give a folder',
            where="feeds.store",
        ) from error  # fmt: skip
    return _Remote(files, root)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, data: bytes) -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_bytes(data)

    def get(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def folders(self, path: str) -> list[str]:
        folder = self._root / path
        return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []

    def remove(self, path: str) -> None:
        if (self._root / path).exists():
            shutil.rmtree(self._root / path)


class _Remote:
    """``files``: a file system of fsspec."""

    def __init__(self, files: Any, root: str) -> None:
        self._files, self._root = files, root.rstrip("/")

    def put(self, path: str, data: bytes) -> None:
        with _as_os_errors():
            self._files.pipe_file(f"{self._root}/{path}", data)

    def get(self, path: str) -> bytes:
        with _as_os_errors():
            return bytes(self._files.cat_file(f"{self._root}/{path}"))

    def folders(self, path: str) -> list[str]:
        with suppress(FileNotFoundError), _as_os_errors():
            self._files.invalidate_cache()  # of another process's files
            return [str(name).rpartition("/")[2] for name in self._files.ls(f"{self._root}/{path}", detail=False)]
        return []

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError), _as_os_errors():
            self._files.invalidate_cache()
            self._files.rm(f"{self._root}/{path}", recursive=True)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Each file system raises its own errors."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {mask(str(error))}"[:200]) from error
