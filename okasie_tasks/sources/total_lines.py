"""Total lines: rows below the cars, with a sum or a count, whose reference cell holds a word such as ``Totaal``."""

from __future__ import annotations

import re
from typing import Final

_TOTAL: Final = re.compile(
    r"(?:(?:sub|sous|eind|end|grand|zwischen|gesamt)[\s-]?)?(?:"
    r"(?:totaal|totalen|totals?|totaux)(?:\s*[:=].*|\s.*)?|(?:sum|summe|som|somme|gesamt)\s*(?:[:=].*)?)",
    re.IGNORECASE | re.DOTALL,
)


def is_total(text: str) -> bool:
    """Return whether the text of a reference cell begins a total line: ``Totaal``, ``Sous-total:``, ``Total 12 autos``.

    The word stands alone or before others: ``TOTAL-12`` is a reference.
    """
    return _TOTAL.fullmatch(text.strip()) is not None
