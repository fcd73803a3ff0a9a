"""The blocks of a run's source, from the read until the run ends: in Redis up to a limit, else in a shared store.

One part of the load reads the source and adds its blocks; each becomes a part of the load, which any worker decodes.
They are compressed, see `okasie_tasks.core.compression`.

The load encodes the bodies of new and changed rows, and keeps them for the spool. A body that is not kept is made from
its block again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from uuid import uuid4

import msgspec
import redis

from okasie_tasks.core.compression import COMPRESSION_ERRORS, compress, decompress
from okasie_tasks.core.records import Outgoing
from okasie_tasks.errors import ConfigurationError, RetryLater
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Block
from okasie_tasks.settings import FeedSettings
from okasie_tasks.store.block_files import BlockFiles, open_files
from okasie_tasks.store.parts import RunData
from okasie_tasks.store.records import KEEP_PARTS_SECONDS, RunKeys
from okasie_tasks.store.scripts import script

log = get_logger(__name__)

COLLECTION: Final = "blocks"
BODIES: Final = "bodies"
"""A collection of the run: part of the load -> its new and changed listings, encoded."""
_STAGE: Final = "load"
_MB: Final = 1_000_000
_RETRY_SECONDS: Final = 2.0


class _Stored(msgspec.Struct, array_like=True):
    """A block whose data are compressed. ``path``: where they are in the shared store; else they are in the block."""

    block: Block
    path: str = ""


class Blocks:
    """The blocks of all runs. ``client`` must return bytes."""

    def __init__(self, client: redis.Redis, keys: RunKeys, data: RunData, feeds: FeedSettings) -> None:
        self._redis, self._keys, self._data, self._feeds = client, keys, data, feeds
        self._begin, self._add = script(client, "read_begin"), script(client, "read_add")

    def begin(self, account: str, run: str, part: int, token: str) -> BlockWriter | None:
        """Begin a read by a claimed part of the load: earlier reads no longer count. None if the claim is lost.

        Raises `ConfigurationError` if the shared store cannot be used, and `RetryLater` if it does not answer.
        """
        keys = self._part_keys(run)
        if not self._begin(keys=keys, args=[part, token]):
            return None
        with self._files() as files:
            if files is not None:
                for other in files.folders(self._folder(account)):
                    # Of a run whose worker died at its end. Not of an earlier read: this one may be overtaken by now.
                    if other != run and self._redis.hget(self._keys.run(other), "state") != b"running":
                        files.remove(self._folder(account, other))
        return BlockWriter(self, keys, _Reader(account, run, part, token))

    def get(self, run: str, part: int) -> Block | None:
        """Return the block of a part of the load; None if there is none, as in a read that no longer counts."""
        stored: _Stored | None = self._data.fetch_one(run, COLLECTION, part, _Stored)
        if stored is None:
            return None
        if not stored.path:
            return msgspec.structs.replace(stored.block, data=decompress(stored.block.data))
        with self._files() as files:
            if files is None:
                raise ConfigurationError("this worker has none, the one that read uses one", where="feeds.store")
            return msgspec.structs.replace(stored.block, data=decompress(files.get(stored.path)))

    def packed_bodies(self, number: int, bodies: Sequence[Outgoing]) -> bytes:
        """Return what to keep in `BODIES` for the ``number``-th block; b"" beyond half of ``max_redis_mb`` for all."""
        data = compress(msgspec.msgpack.encode(bodies)) if bodies else b""
        # The blocks before are taken to be as large.
        return data if (number + 1) * len(data) <= self._feeds.max_redis_mb * _MB / 2 else b""

    def bodies(self, run: str, part: int) -> list[Outgoing]:
        """Return the bodies that are kept for a part of the load."""
        data: bytes | None = self._data.fetch_one(run, BODIES, part, bytes)
        return msgspec.msgpack.decode(decompress(data), type=list[Outgoing]) if data else []

    def clear(self, account: str, run: str) -> None:
        """Delete the run's files. No part of it may be at work. A later run deletes what could not be deleted."""
        try:
            with self._files() as files:
                if files is not None:
                    files.remove(self._folder(account, run))
        except (RetryLater, ConfigurationError) as error:
            log.warning("blocks are not deleted", account=account, run=run, reason=str(error))

    @contextmanager
    def _files(self) -> Iterator[BlockFiles | None]:
        """Return the shared store, None if none is configured. Its errors become `RetryLater`."""
        try:
            yield open_files(self._feeds.store) if self._feeds.store != "redis" else None
        except (OSError, *COMPRESSION_ERRORS) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise RetryLater(
                f"blocks of the source cannot be stored or read: {reason}",
                seconds=_RETRY_SECONDS, where="feeds.store", code="storage",
            ) from error  # fmt: skip

    def _folder(self, *parts: str) -> str:
        return "/".join((self._keys.prefix.strip(":"), *parts))

    def _part_keys(self, run: str) -> list[str]:
        rest: tuple[tuple[str, ...], ...] = ((), (_STAGE,), (_STAGE, "parts"), ("data", COLLECTION), ("collections",))
        return [self._keys.run(run, *names) for names in rest]


class _Reader(NamedTuple):
    """The part of the load that reads."""

    account: str
    run: str
    part: int
    token: str


class BlockWriter:
    """Adds the blocks of one read, in order. Created by `Blocks.begin`."""

    def __init__(self, blocks: Blocks, keys: list[str], reader: _Reader) -> None:
        self._blocks, self._keys, self._reader = blocks, keys, reader
        self._read = uuid4().hex[:8]
        self._count = self._bytes = 0

    def add(self, block: Block) -> bool:
        """Add the next block; False if the part is another worker's by now, or the run has ended.

        Raises `ConfigurationError` for more bytes than may be in Redis, if there is no shared store.
        """
        stored = self._stored(msgspec.structs.replace(block, data=compress(block.data)))
        args: list[Any] = [
            self._reader.part, self._reader.token, self._count, msgspec.msgpack.encode(stored), COLLECTION,
            KEEP_PARTS_SECONDS,
        ]  # fmt: skip
        self._count += 1
        return bool(self._blocks._add(keys=self._keys, args=args))

    def _stored(self, block: Block) -> _Stored:
        feeds, size = self._blocks._feeds, len(block.data)
        if self._bytes + size <= feeds.max_redis_mb * _MB:
            self._bytes += size
            return _Stored(block)
        with self._blocks._files() as files:
            if files is None:
                raise ConfigurationError(
                    f"a run may store {feeds.max_redis_mb:g} MB of its source in Redis, and this one needs more: raise"
                    " the limit, or set feeds.store to a folder or URL that every node reaches",
                    where="feeds.max_redis_mb",
                )
            path = self._blocks._folder(self._reader.account, self._reader.run, f"{self._read}-{self._count}")
            files.put(path, block.data)
        return _Stored(msgspec.structs.replace(block, data=b""), path)
