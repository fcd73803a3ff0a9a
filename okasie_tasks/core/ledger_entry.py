"""The ledger entry for one reference: what we last sent, how the marketplace renders it, and when.

An entry is packed into 64 bytes, so that an unchanged listing costs well under 150 bytes of Redis with its
reference and the server's own overhead (above 64 bytes a hash changes to a larger form). It holds
fingerprints of contents, never the contents.
"""

from __future__ import annotations

import math
import struct
from enum import IntFlag
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

STATUSES: Final = ("", "active", "pending", "draft", "sold")
LIVE: Final = frozenset({"active", "pending", "draft"})

_LAYOUT: Final = struct.Struct("<B8s8s8s4sQBHBIHIIHIHB")
_FORMAT: Final = 3
_NEVER: Final = b"\0" * 8
NO_DEALER: Final = b"\0" * 4


class Version(NamedTuple):
    """The age of a content: the source's own change time if it has one, else when it was read or accepted.

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
    """The last complete read of the source contained it. Only such a listing can be found missing."""
    ECHO_DUE = 4
    """We wrote it and have not yet read back how the marketplace renders it."""
    RESENT = 8
    """A change made on the marketplace was overwritten by resending our content, once."""
    REJECTED = 16
    """The newest local content was refused; the entry describes the older content that is still listed."""
    SOLD_BY_HAND = 32
    """Sold through ``okasie.sell`` while its row was in the source: stays sold until the row has been absent once."""
    DISPUTED = 64
    """The marketplace keeps a price, status or mileage that is not ours; an operator must investigate."""
    URGENT = 128
    """Last sent by the urgent lane."""
    INLINE_CONTENT = 256
    """Last sent with inline content, not read from the source: it is kept until its row changes."""
    IMAGES = 512
    """The marketplace skipped some of its images: it is not in sync until they are accepted or given up."""
    REVIVED = 1024
    """A listing that we sold is live on the marketplace again, and this is not yet resolved."""
    SELL_IN_DOUBT = 2048
    """Our sell was not answered, or was confirmed and not done: the marketplace's next row shows whether it is sold."""


_NO_FLAG: Final = Flag(0)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One reference in the ledger. Times and versions: milliseconds since the epoch; ``changed_at``: whole seconds."""

    content: bytes = _NEVER
    """Fingerprint of everything last sent or adopted; zeros once the marketplace's version was kept instead."""
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
    """The marketplace's ``updatedAt`` when last compared; while `Flag.ECHO_DUE`, see `known_at` and `answered`."""
    version: int = 0
    """The source's own version of what was last sent; 0 when it has none."""
    seen_ms: int = 0
    """When what was last sent was read from the source (its read began) or accepted as a push; Redis time."""
    price: int = 0
    """Of what was last sent; see `price_code`."""

    def pack(self) -> bytes:
        """Return 64 bytes, little endian; the first byte is the layout number."""
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
            self.price,
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
        sent, sent_high, changed, version, version_high, seen, seen_high, price = times
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
            price=price,
        )

    @property
    def stamp(self) -> Version:
        """The version of what we last sent."""
        return Version(self.version, self.seen_ms)

    def answered(self, rendering: bytes) -> bool:
        """Return whether this is the rendering that our last write was to overwrite, so it came back unchanged."""
        return self.has(Flag.RESENT) and self.changed_at == answer_mark(rendering)

    @property
    def known_at(self) -> int:
        """The marketplace's ``updatedAt`` when last compared, so before what was sent since; 0 for unknown."""
        return 0 if self.has(Flag.ECHO_DUE) and self.has(Flag.RESENT) else self.changed_at

    @property
    def sold_before(self) -> bool:
        """Whether we sold it; if it is live on the marketplace, another party listed it again."""
        return self.status == "sold" or self.has(Flag.REVIVED)

    @property
    def live(self) -> bool:
        return self.status in LIVE

    def has(self, flag: Flag) -> bool:
        return bool(self.flags & flag)

    def with_remote_accepted(self) -> Entry:
        """Return a copy that keeps the marketplace's version: our content is not listed; any local change is sent."""
        return msgspec.structs.replace(self, content=_NEVER)

    def replace(self, *, set_flags: Flag = _NO_FLAG, clear: Flag = _NO_FLAG, **changes: object) -> Entry:
        """Return a copy with ``changes`` applied, and flags set and cleared."""
        return msgspec.structs.replace(self, flags=(self.flags | set_flags) & ~clear, **changes)


def answered_status(answer: str | None, sent: str) -> str:
    """Return the status that the answer to a write proves: ``sent`` where it has none, "" for an unknown word.

    The next row of the list shows the status of such a listing.
    """
    return sent if not answer else answer if answer in STATUSES else ""


_LOWEST_PRICE: Final = 50.0
_PRICE_STEP: Final = 1.05


def price_code(price: float | None) -> int:
    """Return a price in one byte, 0 for none: to 2.5 percent between 50 and 12 million EUR. See `about_price`."""
    if not price or price <= 0:
        return 0
    return max(1, min(255, 1 + round(math.log(price / _LOWEST_PRICE, _PRICE_STEP))))


def about_price(code: int) -> float | None:
    """Return the price that a code stands for, in two digits; None for none."""
    if not code:
        return None
    price = _LOWEST_PRICE * _PRICE_STEP ** (code - 1)
    return round(price, 1 - math.floor(math.log10(price)))


def answer_mark(rendering: bytes) -> int:
    """Return 32 bits of an overwritten rendering, stored in `changed_at` until the echo was read."""
    return int.from_bytes(rendering[:4], "little")


# -- packed entries ------------------------------------------------------------------------------------------------
# A run reads every entry three times and finds nearly all unchanged; unpacking them would be most of its work. So these
# functions test the bytes. Each docstring names the slower reference function; a test compares the two.

PACKED_BYTES: Final = _LAYOUT.size
ABSENT: Final = b"\0" * _LAYOUT.size
"""A missing entry: a layout number that is never used."""
LOOK_AGAIN: Final = (
    Flag.ECHO_DUE | Flag.REJECTED | Flag.DISPUTED | Flag.RESENT | Flag.IMAGES | Flag.REVIVED | Flag.SELL_IN_DOUBT
)
"""While any of these is set, every run decides the listing again."""

_RENDERING: Final = slice(9, 17)
_ROW: Final = slice(17, 25)
SHARED: Final = slice(25, 41)
"""The bytes of a packed entry that `shared` reads."""
_SHARED_LAYOUT: Final = struct.Struct("<4sQBHB")


class EntryState(NamedTuple):
    """The bytes between the fingerprints and the times, which thousands of entries share."""

    dealer: bytes = NO_DEALER
    filled: int = 0
    status: str = ""
    flags: int = 0
    missed: int = 0
    settled: bool = False
    """Live, in the source, and with nothing left to decide: while both sides are unchanged, the decision is
    "unchanged" and the entry is not written."""

    owned: bool = False
    open: bool = False
    """An echo, a drift, a reject or images are still to be resolved; see `LOOK_AGAIN`."""

    @property
    def ours(self) -> bool:
        return self.owned and self.status in LIVE


def entry_state(packed: bytes) -> EntryState:
    """Return the state of a packed entry; an empty one for `ABSENT`. Raises `ValueError` for another layout."""
    if packed[0] != _FORMAT:
        if packed == ABSENT:
            return EntryState()
        raise ValueError(f"a ledger entry of layout {packed[0]} is not known here")
    return shared(packed[SHARED])


@lru_cache(maxsize=20_000)
def shared(between: bytes) -> EntryState:
    """Return the state held in the bytes between an entry's fingerprints and its times."""
    dealer, filled, status, flags, missed = _SHARED_LAYOUT.unpack(between)
    if status >= len(STATUSES):
        raise ValueError(f"a ledger entry of status {status} is not known here")
    name = STATUSES[status]
    again = bool(flags & LOOK_AGAIN.value)
    settled = name in LIVE and bool(flags & Flag.IN_SOURCE.value) and not again and missed == 0
    return EntryState(dealer, filled, name, flags, missed, settled, bool(flags & Flag.OWNED.value), again)


def is_as_rendered(packed: bytes, rendering: bytes, status: str, dealers: tuple[bytes, bytes]) -> bool:
    """Return whether a marketplace row equals the entry, so that `okasie_tasks.sync.fetch.remote_record` gives None."""
    if packed[_RENDERING] != rendering:
        return False
    state = entry_state(packed)
    return state.status == status and state.dealer in dealers and not state.open


def is_as_read(packed: bytes, content: bytes) -> bool:
    """Return whether a source row equals the entry, so that `okasie_tasks.sync.load.local_record` gives None."""
    return packed[_ROW] == content and entry_state(packed).settled


def _split(milliseconds: int) -> tuple[int, int]:
    """Split a 48-bit time into its low 32 and high 16 bits."""
    return milliseconds & 0xFFFFFFFF, milliseconds >> 32
