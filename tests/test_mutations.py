"""The mutation checks take pieces of the source away by their text: each piece must still be there, exactly once."""

from __future__ import annotations

import pytest

from tests.chaos import mutations as chaos
from tests.hostile import mutations as hostile
from tests.mutation import ROOT, Cut
from tests.sync import mutations as decisions

CUTS = [
    *(pytest.param(cut, id=f"chaos {name}") for name, mutation in chaos.MUTATIONS.items() for cut in mutation.cuts),
    *(pytest.param(cut, id=f"decisions {name}") for name, cuts in decisions.CUTS.items() for cut in cuts),
    *(pytest.param(cut, id=f"hostile {name}") for name, cut in hostile.MUTATIONS.items()),
]


@pytest.mark.parametrize("cut", CUTS)
def test_what_a_mutation_takes_away_stands_in_the_source_once(cut: Cut) -> None:
    assert (ROOT / cut.file).read_text(encoding="utf-8").count(cut.old) == 1
