"""The ledger's entry for one reference: what we last sent, what the marketplace made of it, when.

An entry is packed into 63 bytes, so that an unchanged listing costs well under 150 bytes of Redis with its
reference and the server's own overhead (above 64 bytes a hash changes to a larger form). Fingerprints stand for
contents; contents are never kept here.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

STATUSES: Final = ("", "active", "pending", "draft", "sold")
LIVE: Final = frozenset({"active", "pending", "draft"})

_LAYOUT: Final = struct.Struct("<B8s8s8s4sQBHBIHIIHIH")
_FORMAT: Final = 2
_NEVER: Final = b"\0" * 8
NO_DEALER: Final = b"\0" * 4


class Version(NamedTuple):
    """How new a content is: the source's own change time where it has one, else when it was read or accepted.

    ``own``: ms since the epoch, 0 for none. ``seen_ms``: Redis time at which the read of the source began, or at
    which a push was accepted.
    """

    own: int = 0
    seen_ms: int = 0

    def older_than(self, other: Version) -> bool:
        if self.own and other.own and self.own != other.own:
            return self.own < other.own
        return self.seen_ms < other.seen_ms


class Flag(IntFlag):
    OWNED = 1
    """We created it or adopted it; only owned listings are ever sold."""
    IN_SOURCE = 2
    """It stood in the last complete read of the source. Only what was there can be gone."""
    ECHO_DUE = 4
    """We wrote it and have not yet read back how the marketplace renders it."""
    RESENT = 8
    """A difference made on the marketplace's side was answered by sending ours again, once."""
    REJECTED = 16
    """The newest local content was refused; the entry tells of the older content that stands."""
    SOLD_BY_HAND = 32
    """Sold through ``okasie.sell`` while the row still stood in the source: stays sold until the row was absent."""
    DISPUTED = 64
    """The marketplace keeps a price, status or mileage that is not ours; a person must look."""
    URGENT = 128
    """Last sent by the urgent lane."""
    INLINE_CONTENT = 256
    """Last sent with a content that was handed in, not read from the source: it stands until its row changes."""
    IMAGES = 512
    """The marketplace skipped some of its images: it is not in step until they are there or were given up."""
    REVIVED = 1024
    """What we had sold stands there live again, and that is still to be answered."""


_NO_FLAG: Final = Flag(0)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One reference in the ledger. Times and versions: milliseconds since the epoch; ``changed_at``: whole seconds."""

    content: bytes = _NEVER
    """Fingerprint of all we last sent, or adopted; zeros once the marketplace's own version was let stand over it."""
    rendering: bytes = _NEVER
    """Fingerprint of the marketplace's rendering; while `Flag.ECHO_DUE`, of the rendering we expect."""
    row: bytes = _NEVER
    """Fingerprint of the source row as last read; zeros when the source never had it."""
    dealer: bytes = NO_DEALER
    filled: int = 0
    status: str = ""
    flags: Flag = Flag(0)
    missed: int = 0
    """Complete reads of the source in a row that lacked it."""
    sent_ms: int = 0
    changed_at: int = 0
    """The marketplace's ``updatedAt`` when last compared; while `Flag.RESENT` and `Flag.ECHO_DUE`, see `answered`."""
    version: int = 0
    """The source's own version of what was last sent; 0 when it has none."""
    seen_ms: int = 0
    """When what was last sent was read from the source (its read began) or accepted as a push; Redis time."""

    def pack(self) -> bytes:
        """63 bytes, little endian; the first tells the layout."""
        return _LAYOUT.pack(
            _FORMAT,
            self.content,
            self.rendering,
            self.row,
            self.dealer,
            self.filled,
            STATUSES.index(self.status),
            self.flags.value,
            min(self.missed, 255),
            *_split(self.sent_ms),
            self.changed_at,
            *_split(self.version),
            *_split(self.seen_ms),
        )

    @classmethod
    def unpack(cls, data: bytes) -> Entry:
        """The reverse of `pack`. Raises `ValueError` for bytes that are not an entry of this layout."""
        try:
            form, content, rendering, row, dealer, filled, status, flags, missed, *times = _LAYOUT.unpack(data)
        except struct.error as error:
            raise ValueError(f"a ledger entry has {_LAYOUT.size} bytes, not {len(data)}") from error
        if form != _FORMAT or status >= len(STATUSES):
            raise ValueError(f"a ledger entry of layout {form} is not known here")
        sent, sent_high, changed, version, version_high, seen, seen_high = times
        return cls(
            content=content,
            rendering=rendering,
            row=row,
            dealer=dealer,
            filled=filled,
            status=STATUSES[status],
            flags=Flag(flags),
            missed=missed,
            sent_ms=(sent_high << 32) | sent,
            changed_at=changed,
            version=(version_high << 32) | version,
            seen_ms=(seen_high << 32) | seen,
        )

    @property
    def stamp(self) -> Version:
        """How new that is which we last sent."""
        return Version(self.version, self.seen_ms)

    def answered(self, rendering: bytes) -> bool:
        """Whether this is the rendering that what we last sent was the answer to: it came back all the same."""
        return self.has(Flag.RESENT) and self.changed_at == answer_mark(rendering)

    @property
    def sold_before(self) -> bool:
        """We hold it for sold; so one that stands there live was listed again by somebody."""
        return self.status == "sold" or self.has(Flag.REVIVED)

    @property
    def live(self) -> bool:
        return self.status in LIVE

    def has(self, flag: Flag) -> bool:
        return bool(self.flags & flag)

    def with_remote_accepted(self) -> Entry:
        """A copy after theirs was let stand: nothing of ours is what stands there, so whatever changes here is sent."""
        return msgspec.structs.replace(self, content=_NEVER)

    def replace(self, *, set_flags: Flag = _NO_FLAG, clear: Flag = _NO_FLAG, **changes: object) -> Entry:
        """A copy with ``changes``, and with flags set and cleared."""
        return msgspec.structs.replace(self, flags=(self.flags | set_flags) & ~clear, **changes)


def answer_mark(rendering: bytes) -> int:
    """What is kept of a rendering that we answer, until the echo was read: 32 bits in the place of `changed_at`."""
    return int.from_bytes(rendering[:4], "little")


# -- packed entries ------------------------------------------------------------------------------------------------
# A run meets every entry three times and finds nearly all unchanged: to unpack them would be most of its work. So these
# questions are put to the bytes. Each has its slow twin, told in its docstring; a test holds them against each other.

PACKED_BYTES: Final = _LAYOUT.size
ABSENT: Final = b"\0" * _LAYOUT.size
"""Stands for an entry that is not there: of no known layout."""
LOOK_AGAIN: Final = Flag.ECHO_DUE | Flag.REJECTED | Flag.DISPUTED | Flag.RESENT | Flag.IMAGES | Flag.REVIVED
"""While any of these is set, the listing is decided anew in every run."""

_RENDERING: Final = slice(9, 17)
_ROW: Final = slice(17, 25)
SHARED: Final = slice(25, 41)
"""The bytes of a packed entry that `shared` reads."""
_SHARED_LAYOUT: Final = struct.Struct("<4sQBHB")


class EntryState(NamedTuple):
    """What entries share by the thousand: the bytes between the fingerprints and the times."""

    dealer: bytes = NO_DEALER
    filled: int = 0
    status: str = ""
    flags: int = 0
    missed: int = 0
    settled: bool = False
    """Live and seen in the source, and nothing about it is to be decided anew: while both sides are as they were, the
    decision is "unchanged", and the entry stays as it is."""

    owned: bool = False
    open: bool = False
    """An echo, a drift, a reject or images are still to be looked at: see `LOOK_AGAIN`."""

    @property
    def ours(self) -> bool:
        return self.owned and self.status in LIVE


def entry_state(packed: bytes) -> EntryState:
    """Of a packed entry; of `ABSENT` one that is nothing. Raises `ValueError` for bytes of another layout."""
    if packed[0] != _FORMAT:
        if packed == ABSENT:
            return EntryState()
        raise ValueError(f"a ledger entry of layout {packed[0]} is not known here")
    return shared(packed[SHARED])


@lru_cache(maxsize=20_000)
def shared(between: bytes) -> EntryState:
    """Of the bytes between an entry's fingerprints and its times."""
    dealer, filled, status, flags, missed = _SHARED_LAYOUT.unpack(between)
    if status >= len(STATUSES):
        raise ValueError(f"a ledger entry of status {status} is not known here")
    name = STATUSES[status]
    again = bool(flags & LOOK_AGAIN.value)
    settled = name in LIVE and bool(flags & Flag.IN_SOURCE.value) and not again and missed == 0
    return EntryState(dealer, filled, name, flags, missed, settled, bool(flags & Flag.OWNED.value), again)


def is_as_rendered(packed: bytes, rendering: bytes, status: str, dealers: tuple[bytes, bytes]) -> bool:
    """Whether a row of the marketplace equals the picture: `okasie_tasks.sync.fetch.remote_record` gives None."""
    if packed[_RENDERING] != rendering:
        return False
    found = entry_state(packed)
    return found.status == status and found.dealer in dealers and not found.open


def is_as_read(packed: bytes, content: bytes) -> bool:
    """Whether a row of the source equals what is held of it: `okasie_tasks.sync.fetch.local_record` gives None."""
    return packed[_ROW] == content and entry_state(packed).settled


def _split(milliseconds: int) -> tuple[int, int]:
    """A time of 48 bits as its low 32 and high 16."""
    return milliseconds & 0xFFFFFFFF, milliseconds >> 32
