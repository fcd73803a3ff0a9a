"""The drawings of a run: lengths of bars and places of ticks, for the page of the CLI and of the console."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

WIDTH: Final = 760
LEFT: Final = 130
"""Width of the labels before the bars."""
ROW: Final = 26
_PLOT: Final = 150
_TICKS: Final = 6


class Bar(NamedTuple):
    """One rectangle; lengths are in units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: str
    kind: str = ""


class Tick(NamedTuple):
    at: float
    label: str


class Chart(NamedTuple):
    width: float
    height: float
    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    line: float | None = None
    """The height of the limit's line, from the top."""


def nice_steps(top: float) -> list[float]:
    """Return about six round numbers from 0 to at least ``top``, in steps of 1, 2 or 5 times a power of ten."""
    rough = max(top, 1e-3) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(step * number, 9) for number in range(math.ceil(top / step - 1e-9) + 1)]


def timeline(phases: Sequence[dict[str, Any]]) -> Chart:
    """Draw a row for each phase, from its start to its end."""
    steps = nice_steps(max((p["begins"] + p["seconds"] for p in phases), default=1) or 1)
    scale = (WIDTH - LEFT - 60) / steps[-1]
    bars = [
        Bar(
            LEFT + phase["begins"] * scale, number * ROW + 4, max(1.5, phase["seconds"] * scale), ROW - 8,
            phase["phase"], f"{phase['seconds']:.1f} s",
        )
        for number, phase in enumerate(phases)
    ]  # fmt: skip
    ticks = [Tick(LEFT + step * scale, f"{step:g} s") for step in steps]
    return Chart(WIDTH, len(phases) * ROW + 24, bars, ticks)


def use(slots: Sequence[dict[str, Any]]) -> Chart:
    """Draw a column for each slot, as high as its share of the quota; refused and failed requests are on top."""
    end = max((slot["at"] + slot["seconds"] for slot in slots), default=1)
    across, top = (WIDTH - 75) / end, max([1.0, *(slot["share"] for slot in slots)])
    bars: list[Bar] = []
    for slot in slots:
        x, width = 50 + slot["at"] * across, max(1.0, slot["seconds"] * across - 1)
        text = f"{slot['at']} to {slot['at'] + slot['seconds']} s: {slot['requests']} requests"
        per = slot["share"] / slot["requests"] if slot["requests"] else 0.0
        level = 10.0 + _PLOT
        good = slot["requests"] - slot["refused"] - slot["failed"]
        for kind, count in (("good", good), ("refused", slot["refused"]), ("failed", slot["failed"])):
            if count > 0:
                height = count * per / top * _PLOT
                level -= height
                bars.append(Bar(x, level, width, height, "", text, kind))
    ticks = [Tick(50 + step * across, f"{step:g} s") for step in nice_steps(end) if step <= end]
    return Chart(WIDTH, _PLOT + 40, bars, ticks, 10.0 + _PLOT - _PLOT / top)


def counts(numbers: Sequence[tuple[str, int]]) -> Chart:
    """Draw a row for each number."""
    most = max((count for _, count in numbers), default=1) or 1
    scale = (WIDTH - LEFT - 90) / most
    bars = [
        Bar(LEFT, number * ROW + 4, max(1.5, count * scale) if count else 0, ROW - 8, name, f"{count:,}", name)
        for number, (name, count) in enumerate(numbers)
    ]
    return Chart(WIDTH, len(numbers) * ROW + 6, bars, ())
