"""The decision table of the design, section 4: a row is a test, named as it stands there; then what its text says.

The row "rejected before, unchanged" is decided where the rejects are known: see `tests.sync.test_model_regressions`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.reconcile import ReadEvidence, decide
from okasie_tasks.core.records import Local, Remote
from tests.core.cases import FULL, INLINE_CONTENT, INVALID, LATER, OTHER, OURS, base, listing, local, remote, resent


class Case(NamedTuple):
    """``same``: the marketplace's row equals the ledger's picture. ``reason``: words of it. ``count``: the report's."""

    local: Local | None
    remote: Remote | None
    same: bool
    base: Entry | None
    evidence: ReadEvidence
    action: str
    reason: str
    count: str | None = None


def check(name: str, case: Case) -> None:
    decision = decide(case.local, case.remote, case.base, case.evidence, same=case.same)
    found = (decision.action, case.reason in decision.reason, decision.count)
    assert found == (case.action, True, case.count or decision.count), f"{name}: {decision}"


# "local | marketplace", as in the table -> its cases
DESIGN: dict[str, dict[str, Case]] = {
    "same as base | same as base": {
        "same, same": Case(local(), None, True, base(), FULL, "none", "equal", "unchanged"),
    },
    "changed | same": {
        "changed, same": Case(local(price=17000), None, True, base(), FULL, "update", "changed in the source"),
    },
    "same | changed": {
        "same, changed: ours again": Case(
            local(), remote(price=1), False, base(), FULL, "update", "ours sent again", "drifted"
        ),
        "same, changed: policy remote": Case(
            local(),
            remote(price=1),
            False,
            base(),
            msgspec.structs.replace(FULL, policy="remote"),
            "none",
            "theirs stands",
            "drifted",
        ),
        "same, changed: policy newest": Case(
            local(),
            remote(price=1),
            False,
            base(),
            msgspec.structs.replace(FULL, policy="newest"),
            "none",
            "theirs stands",
            "drifted",
        ),
        "moved to another dealer there": Case(
            local(), remote(dealer=OTHER), False, base(), FULL, "update", "ours sent again", "drifted"
        ),
    },
    "changed | changed": {
        "both changed: ours": Case(
            local(price=2), remote(price=1), False, base(), FULL, "update", "changed on both sides, ours", "conflicts"
        ),
        "both changed: theirs": Case(
            local(price=2),
            remote(price=1),
            False,
            base(),
            msgspec.structs.replace(FULL, policy="remote"),
            "none",
            "changed on both sides, theirs",
            "conflicts",
        ),
        "both changed: newest is ours": Case(
            local(price=2, version=200_000),
            remote(price=1),
            False,
            base(),
            msgspec.structs.replace(FULL, policy="newest"),
            "update",
            "changed on both sides, ours",
            "conflicts",
        ),
        "both changed: newest is theirs": Case(
            local(price=2, version=50_000),
            remote(price=1),
            False,
            base(),
            msgspec.structs.replace(FULL, policy="newest"),
            "none",
            "changed on both sides, theirs",
            "conflicts",
        ),
    },
    "new | absent": {
        "new, absent": Case(local(), None, False, None, FULL, "create", "new"),
    },
    "new, no base | present, equal": {
        "new, no base, present and equal": Case(local(), remote(), False, None, FULL, "none", "adopted", "unchanged"),
        "new, no base, equal within tolerance": Case(
            local(with_values=True),
            remote(with_values=True, powerKw=85.3),
            False,
            None,
            FULL,
            "none",
            "adopted",
            "unchanged",
        ),
    },
    "new, no base | present, different": {
        "new, no base, present, different": Case(
            local(with_values=True), remote(with_values=True, price=1), False, None, FULL, "update", "different"
        ),
        "new, no base, other number of images": Case(
            local(), remote(images=3), False, None, FULL, "update", "different"
        ),
        "new, no base, other dealer": Case(local(), remote(dealer=OTHER), False, None, FULL, "update", "different"),
    },
    "gone | live and owned": {
        "gone, live and owned": Case(None, None, True, base(), FULL, "sell", "gone"),
    },
    "gone | live, never ours": {
        "gone, live, never ours": Case(None, remote(), False, None, FULL, "none", "never ours", "foreign"),
        "gone, in the ledger but not owned": Case(
            None, None, True, base(Flag.IN_SOURCE), FULL, "none", "not owned", "foreign"
        ),
    },
    "gone | sold": {
        "gone, sold": Case(None, remote(status="sold"), False, base(), FULL, "none", "sold on both sides", "settled"),
        "gone, sold long ago": Case(
            None, None, True, base(Flag.OWNED, status="sold"), FULL, "none", "sold on both sides", "settled"
        ),
        "gone on both sides": Case(None, None, False, base(), FULL, "none", "gone on both sides", "settled"),
    },
    "present | sold on the marketplace by someone": {
        "present, sold by someone": Case(
            local(), remote(status="sold"), False, base(), FULL, "none", "sold on the marketplace", "conflicts"
        ),
        "present, no base, sold by someone": Case(
            local(), remote(status="sold"), False, None, FULL, "none", "sold on the market", "conflicts"
        ),
        "pushed, then sold there by someone": Case(
            local(),
            remote(status="sold"),
            False,
            base(INLINE_CONTENT, row=listing()),
            FULL,
            "none",
            "sold on the marketplace",
            "conflicts",
        ),
        "present, sold by someone, then changed here": Case(
            local(price=2), remote(status="sold"), False, base(), FULL, "update", "after it was sold"
        ),
    },
    "invalid by the contract | any": {
        "invalid": Case(INVALID, None, True, base(), FULL, "none", "invalid", "rejected"),
        "invalid and new": Case(INVALID, None, False, None, FULL, "none", "invalid", "rejected"),
        "invalid, and edited there": Case(INVALID, remote(price=1), False, base(), FULL, "none", "invalid", "rejected"),
        "invalid, and sold there": Case(
            INVALID, remote(status="sold"), False, base(), FULL, "none", "invalid", "rejected"
        ),
    },
    "sent newer by the urgent lane | any": {
        "changed in the source before the push": Case(
            local(price=2),
            None,
            True,
            base(INLINE_CONTENT, row=listing(), price=1, seen=2_500),
            LATER,
            "none",
            "older than what was",
            "unchanged",
        ),
        "older than what was pushed": Case(
            local(price=2, version=5),
            None,
            True,
            base(version=9),
            FULL,
            "none",
            "older than what was pushed",
            "unchanged",
        ),
        "the page was read before the push was sent": Case(
            local(), remote(price=1), False, base(sent=1_500), LATER, "none", "equal", "unchanged"
        ),
        "gone before the push": Case(
            None, None, True, base(INLINE_CONTENT, seen=2_500), LATER, "none", "pushed after the source", "unchanged"
        ),
    },
}


@pytest.mark.parametrize("row", DESIGN)
def test_row_of_the_table(row: str) -> None:
    for name, case in DESIGN[row].items():
        check(name, case)


TEXT: dict[str, Case] = {
    "back in the source after we sold it": Case(
        local(), None, True, base(Flag.OWNED, status="sold"), FULL, "update", "back"
    ),
    "sold manually, the row is still in the source": Case(
        local(), None, True, base(OURS | Flag.SOLD_BY_HAND, status="sold"), FULL, "none", "manually"
    ),
    "sold in the source": Case(local(status="sold"), None, True, base(), FULL, "sell", "sold in the source"),
    "sold in the source, never listed": Case(
        local(status="sold"), None, False, None, FULL, "none", "before it was ever"
    ),
    "pushed price, the source row unchanged": Case(
        local(), None, True, base(row=listing(), price=15000), FULL, "none", "equal"
    ),
    "pushed car that the source never had": Case(
        None, None, True, base(Flag.OWNED), FULL, "none", "not from the source"
    ),
    "gone, but the source was not read to its end": Case(
        None, None, True, base(), msgspec.structs.replace(FULL, source_complete=False), "none", "not read completely"
    ),
    "gone, but one more read is asked for": Case(
        None, None, True, base(), msgspec.structs.replace(FULL, missing_reads=2), "none", "waiting for another"
    ),
    "gone for the second time of two": Case(
        None, None, True, base(missed=1), msgspec.structs.replace(FULL, missing_reads=2), "sell", "gone"
    ),
    "gone, but this account never sells": Case(
        None, None, True, base(), msgspec.structs.replace(FULL, sells=False), "none", "never sells"
    ),
    "missing on the marketplace": Case(local(), None, False, base(), FULL, "create", "missing on the marketplace"),
    "missing, but the walk was not complete": Case(
        local(), None, False, base(), msgspec.structs.replace(FULL, walk_complete=False), "none", "equal"
    ),
    "echo as expected": Case(
        local(with_values=True), remote(), False, base(OURS | Flag.ECHO_DUE), FULL, "none", "equal"
    ),
    "echo rounded: learned": Case(
        local(with_values=True),
        remote(with_values=True, powerKw=85.3),
        False,
        base(OURS | Flag.ECHO_DUE),
        FULL,
        "none",
        "learned",
    ),
    "echo with another price: never learned": Case(
        local(with_values=True),
        remote(with_values=True, price=1),
        False,
        base(OURS | Flag.ECHO_DUE),
        FULL,
        "update",
        "ours sent again",
    ),
    "the same price came back after we sent ours again": Case(
        local(with_values=True),
        remote(with_values=True, price=1),
        False,
        resent(remote(price=1)),
        FULL,
        "none",
        "keeps its own value",
    ),
    "another text came back after we sent ours again": Case(
        local(with_values=True),
        remote(with_values=True, title="OCTAVIA!"),
        False,
        resent(remote(title="OCTAVIA!")),
        FULL,
        "none",
        "learned",
    ),
    "another price than the one we answered came": Case(
        local(with_values=True),
        remote(with_values=True, price=2),
        False,
        resent(remote(price=1)),
        FULL,
        "update",
        "ours sent again",
    ),
    "another text than the one we answered came": Case(
        local(with_values=True),
        remote(with_values=True, title="Octavia!"),
        False,
        resent(remote(title="Octav")),
        FULL,
        "update",
        "ours sent again",
    ),
    "an edit beside a row that is older than the push": Case(
        local(price=2),
        remote(price=3),
        False,
        base(OURS | Flag.URGENT, seen=3_000),
        LATER,
        "none",
        "older",
    ),
    "an edit of what was pushed and is in no source": Case(
        None,
        remote(price=3),
        False,
        base(Flag.OWNED | Flag.URGENT | Flag.INLINE_CONTENT),
        FULL,
        "none",
        "theirs stands",
        "drifted",
    ),
    "listed again by somebody, and the read was not complete": Case(
        None,
        remote(),
        False,
        base(status="sold"),
        msgspec.structs.replace(FULL, source_complete=False),
        "none",
        "not read completely",
        "waiting",
    ),
    "changed in the source after the push": Case(
        local(price=2),
        None,
        True,
        base(INLINE_CONTENT, row=listing(), price=1, seen=1_500),
        LATER,
        "update",
        "changed in the",
    ),
    "changed before the push, but newer by the source's own version": Case(
        local(price=2, version=9),
        None,
        True,
        base(INLINE_CONTENT, row=listing(), price=1, seen=2_500, version=5),
        LATER,
        "update",
        "changed in the source",
    ),
    "gone after the push": Case(
        None, None, True, base(INLINE_CONTENT, seen=1_500), LATER, "sell", "gone from the source"
    ),
    "pushed, its row unchanged, its echo rendered": Case(
        local(with_values=True),
        remote(with_values=True, price=15000.5),
        False,
        base(INLINE_CONTENT | Flag.ECHO_DUE, row=listing(), price=15000),
        FULL,
        "none",
        "its row stands",
    ),
    "pushed, its row unchanged, then edited there": Case(
        local(with_values=True),
        remote(with_values=True, price=1),
        False,
        base(INLINE_CONTENT, row=listing(), price=15000),
        FULL,
        "none",
        "theirs stands",
    ),
    "pushed although its row says sold": Case(
        local(status="sold"),
        None,
        True,
        base(INLINE_CONTENT, row=listing(status="sold")),
        FULL,
        "none",
        "its row stands",
    ),
}


@pytest.mark.parametrize("name", TEXT)
def test_what_the_text_says(name: str) -> None:
    check(name, TEXT[name])
