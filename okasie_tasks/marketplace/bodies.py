"""The body of a response: unzipped, and bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from requests.exceptions import ContentDecodingError, ReadTimeout

from okasie_tasks.core.compression import COMPRESSION_ERRORS, gunzipped

if TYPE_CHECKING:
    from requests import Response

_BYTES: Final = 256 * 1024
"""To read at a time: the size of a page of 200 listings, about."""
_MOST_BYTES: Final = 64 * 1024 * 1024


def read_body(response: Response, *, ends_at: float) -> bytes:
    """Read the whole body. ``ends_at``: by the monotonic clock, in seconds; `ReadTimeout` after it.

    Raises `ContentDecodingError` for one that cannot be unzipped or is larger than 64 MB.
    """
    body = bytearray()
    try:
        for piece in _pieces(response):
            body += piece
            if len(body) > _MOST_BYTES:
                raise ContentDecodingError("the answer is larger than 64 MB")
            if time.monotonic() > ends_at:
                raise ReadTimeout
    except COMPRESSION_ERRORS as error:
        raise ContentDecodingError(str(error)) from error
    return bytes(body)


def _pieces(response: Response) -> Iterator[bytes]:
    """Yield the body. Without its header, urllib3 leaves a zipped one as it is; it would use zlib, which is slower."""
    if response.raw.headers.get("Content-Encoding", "").lower() != "gzip":
        return response.iter_content(_BYTES)
    del response.raw.headers["Content-Encoding"]
    return gunzipped(response.iter_content(_BYTES), size=_BYTES)
