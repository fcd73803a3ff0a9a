"""The rows of a source as `okasie doctor` reports them: how many can be sent, and why the others cannot."""

from __future__ import annotations

from collections import Counter

from okasie_tasks.ports import SourceRow

_REASONS = 3


class RowCounts:
    """Counts the rows of one read."""

    def __init__(self) -> None:
        self.rows = self.valid = self.skipped = self.nameless = 0
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}
        """(field, code) -> the first row with this reason."""

    def add(self, row: SourceRow) -> None:
        """Count one row. Blank rows do not count, and skipped ones only as such."""
        if row.left_out:
            self.skipped += row.left_out == "skipped"
            return
        self.rows += 1
        self.valid += row.listing is not None
        self.nameless += row.reference is None
        for reason, issue in {(issue.field, issue.code): issue for issue in row.issues}.items():
            self._reasons[reason] += 1
            self._first.setdefault(reason, f"{row.where}: {issue.field}: {issue.message}")

    @property
    def summary(self) -> str:
        """The counts, and the most frequent reasons, each with its first row."""
        text = f"{self.rows} rows, {self.valid} valid" + (f", {self.skipped} skipped" if self.skipped else "")
        if self.nameless:
            text += f", {self.nameless} without a readable reference"
        reasons = [f"{count} x {self._first[reason]}" for reason, count in self._reasons.most_common(_REASONS)]
        left = len(self._reasons) - len(reasons)
        return "; ".join([text, *reasons, *([f"{left} other reasons"] if left else [])])

    @property
    def fix(self) -> str | None:
        """What to do about rows that cannot be sent; None if most can, and each has a reference."""
        if self.valid * 2 < self.rows:
            return "most rows cannot be sent: correct fields, values, units or skip"
        if self.nameless:
            return "no listing that disappears is sold until each row has a reference: correct them, or skip them"
        return None
