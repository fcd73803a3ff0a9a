"""``s3:``, Amazon's and others', on s3fs. The path is ``s3://bucket/key``."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Any, Final

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from s3fs import S3FileSystem

from okasie_tasks.errors import SourceError
from okasie_tasks.settings import SourceSettings
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.transports.aio import certificate_problem, within
from okasie_tasks.sources.transports.base import PassingFault
from okasie_tasks.sources.transports.pattern import MOST_ENTRIES, Entry
from okasie_tasks.sources.transports.stores import Address

_READ_BYTES: Final = 1 << 20
_PASSING: Final = (408, 412, 429)
"""Refusals that may pass; 412: the object was replaced while it was asked for."""


@contextlib.contextmanager
def connect(address: Address, source: SourceSettings, bounds: Bounds) -> Iterator[S3Store]:
    client = {"region_name": source.region, "verify": source.ca_file}
    files = S3FileSystem(
        key=source.access_key and source.access_key.reveal(),
        secret=source.secret_key and source.secret_key.reveal(),
        endpoint_url=source.endpoint_url,
        client_kwargs={name: value for name, value in client.items() if value},
        config_kwargs={"connect_timeout": 30, "read_timeout": 60, "retries": {"max_attempts": 0}},
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    files.retries = 1  # the transport tries again itself
    with _errors(address.where):
        within(bounds, files.loop, files.set_session)
        try:
            yield S3Store(files, address, bounds)
        finally:
            S3FileSystem.close_session(files.loop, files._s3creator)


class S3Store:
    """The objects of a bucket."""

    def __init__(self, files: S3FileSystem, address: Address, bounds: Bounds) -> None:
        self._files, self._bucket, self._bounds = files, address.host, bounds

    def _call(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        return within(self._bounds, self._files.loop, call, *args, **kwargs)

    def listed(self, folder: str) -> Iterator[Entry]:
        for found in self._call(self._listing, folder):
            yield _entry(found["name"].removeprefix(self._bucket), found)

    async def _listing(self, folder: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        prefix = f"{folder.lstrip('/')}/".lstrip("/")
        async for entry in self._files._iterdir(self._bucket, prefix=prefix):
            entries.append(entry)
            if len(entries) > MOST_ENTRIES:
                break
        return entries

    def stat(self, path: str) -> Entry:
        found = self._call(self._files._call_s3, "head_object", Bucket=self._bucket, Key=path[1:])
        return _entry(path, found | {"size": found["ContentLength"], "type": "file"})

    def read(self, entry: Entry) -> Generator[bytes]:
        # The object as it was looked at, or an error.
        answer = self._call(
            self._files._call_s3, "get_object", Bucket=self._bucket, Key=entry.path[1:], IfMatch=entry.etag
        )
        with contextlib.closing(answer["Body"]) as body:
            while piece := self._call(body.read, _READ_BYTES):
                yield piece


def _entry(path: str, found: dict[str, Any]) -> Entry:
    changed = found.get("LastModified")
    modified = changed.timestamp() if isinstance(changed, datetime) else None
    return Entry(path, found["size"], modified, etag=found.get("ETag", ""), folder=found["type"] == "directory")


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, aiohttp.ClientError, OSError, EOFError) as error:
        if (refused := certificate_problem(error)) is not None:
            raise SourceError(
                f"the server's certificate is refused ({refused.verify_message.rstrip('.')}); ca_file names the"
                " certificate of a private authority",
                where=where, code="certificate",
            ) from None  # fmt: skip
        status = _status(error)
        text = (
            f"cannot be fetched: {str(error)[:200] or 'the connection was closed'} ({status or type(error).__name__})"
        )
        kind = SourceError if 400 <= status < 500 and status not in _PASSING else PassingFault
        raise kind(text, where=where, code="source_missing" if status == 404 else "s3") from None


def _status(error: BaseException | None) -> int:
    """Return the HTTP status of a refusal, 0 if there was no answer."""
    while error is not None:
        if isinstance(error, ClientError):
            return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        error = error.__cause__
    return 0
