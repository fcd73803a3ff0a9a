"""The ledger in Redis: what is written comes back, and nobody's newer write is undone."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.ledger_entry import ABSENT, STATUSES, Entry, Flag
from okasie_tasks.core.records import Reject, bucket_of, hash8
from okasie_tasks.store.ledger import Ledger

FINGERPRINT = st.binary(min_size=8, max_size=8)


@pytest.fixture
def ledger(client: redis.Redis) -> Ledger:
    return Ledger(client, prefix="okasie:", account="dex")


def entry(version: int = 1) -> Entry:
    return Entry(content=b"c" * len(Entry().content), status="active", flags=Flag.OWNED, version=version)


@given(
    st.builds(
        Entry,
        content=st.binary(min_size=len(Entry().content), max_size=len(Entry().content)),
        dealer=st.binary(min_size=4, max_size=4),
        filled=st.integers(0, 2**32 - 1),
        status=st.sampled_from(STATUSES),
        flags=st.integers(0, 511).map(Flag),
        missed=st.integers(0, 255),
        sent_ms=st.integers(0, 2**48 - 1),
        changed_at=st.integers(0, 2**32 - 1),
        version=st.integers(0, 2**48 - 1),
        seen_ms=st.integers(0, 2**48 - 1),
        price=st.integers(0, 255),
    )
)
def test_an_entry_survives_its_64_bytes(found: Entry) -> None:
    packed = found.pack()
    assert len(packed) == 64
    assert Entry.unpack(packed) == found


@pytest.mark.parametrize("spoiled", [b"", b"x" * 63, b"\xff" * 64])
def test_bytes_of_another_layout_are_refused(spoiled: bytes) -> None:
    with pytest.raises(ValueError, match="ledger entry"):
        Entry.unpack(spoiled)


def test_what_is_swapped_in_is_found_by_reference_and_by_bucket(ledger: Ledger) -> None:
    references = [f"A-{number}" for number in range(500)]
    assert ledger.swap((r, None, entry(i)) for i, r in enumerate(references)) == []
    assert ledger.get(["A-7", "nobody"]) == {"A-7": entry(7)}
    assert ledger.count() == 500
    bucket = bucket_of("A-7")
    assert set(ledger.buckets([bucket])) == {r for r in references if bucket_of(r) == bucket}
    assert len(ledger.buckets(range(1024))) == 500


def test_packed_entries_come_in_the_order_they_were_asked_for(ledger: Ledger, client: redis.Redis) -> None:
    references = [f"A-{number}" for number in range(300)]
    ledger.swap((r, None, entry(i)) for i, r in enumerate(references))
    asked = ["nobody", *references[::-1], "odd\n\u00e9 \x1f" * 40]
    found = ledger.packed(asked, [hash8(reference) for reference in asked])
    assert found == [ABSENT, *(entry(i).pack() for i in range(299, -1, -1)), ABSENT]
    assert ledger.packed([], []) == []
    client.hset(f"okasie:ledger:dex:{bucket_of('A-7')}", "A-7", b"short")
    with pytest.raises(ValueError, match="64 bytes, not 5"):
        ledger.packed(["A-7"], [hash8("A-7")])


def test_what_is_known_of_rows_is_kept_by_block(ledger: Ledger) -> None:
    assert ledger.known.block(0) == b""
    ledger.known.keep_block(0, b"one")
    ledger.known.keep_block(7, b"eight")
    ledger.known.forget_blocks(1)
    assert (ledger.known.block(0), ledger.known.block(7)) == (b"one", b"")


def test_a_write_that_somebody_overtook_changes_nothing_and_is_named(ledger: Ledger) -> None:
    ledger.swap([("A", None, entry(1)), ("B", None, entry(1))])
    ledger.swap([("A", entry(1), entry(9))])  # the urgent lane
    assert ledger.swap([("A", entry(1), entry(2)), ("B", entry(1), entry(2)), ("C", entry(1), entry(2))]) == ["A", "C"]
    assert ledger.get(["A", "B", "C"]) == {"A": entry(9), "B": entry(2)}


def test_a_swap_sent_twice_is_one_swap(ledger: Ledger) -> None:
    change = [("A", None, entry(1))]
    assert ledger.swap(change) == []
    assert ledger.swap(change) == []


def test_accounts_are_apart(ledger: Ledger, client: redis.Redis) -> None:
    ledger.swap([("A", None, entry())])
    assert Ledger(client, prefix="okasie:", account="dax").get(["A"]) == {}


def test_rejects_are_parked_counted_and_freed(ledger: Ledger) -> None:
    parked = [Reject(reference=f"R-{n}", where="row", code="x", message="m", fields=["price"]) for n in range(3)]
    ledger.put_rejects(parked)
    assert ledger.reject_count() == 3
    assert ledger.rejects(["R-1", "R-9"]) == {"R-1": parked[1]}
    ledger.remove_rejects(["R-0", "R-9"])
    assert sorted(reject.reference for reject in ledger.all_rejects()) == ["R-1", "R-2"]
    ledger.put_rejects([])
    ledger.remove_rejects([])
    assert ledger.rejects([]) == {}
