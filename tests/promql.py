"""PromQL as far as the autoscaling queries use it, on the samples of one scrape. A real Prometheus agrees, where one is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from promql_parser import AggregateExpr, BinaryExpr, Call, NumberLiteral, ParenExpr, VectorSelector, parse

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Samples = dict[tuple[str, Labels], float]
"""``(metric, labels)`` -> value."""

_AGGREGATES: dict[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "count": len}


def value(query: str, samples: Samples) -> float | None:
    """The one value of the result, None for an empty vector. Raises `ValueError` for a vector of several."""
    found = _evaluated(parse(query), samples)
    if isinstance(found, float):
        return found
    if len(found) > 1:
        raise ValueError(f"{len(found)} values: KEDA takes one")
    return next(iter(found.values()), None)


def _evaluated(node: Any, samples: Samples) -> Vector | float:
    match node:
        case NumberLiteral():
            return float(node.val)
        case ParenExpr():
            return _evaluated(node.expr, samples)
        case VectorSelector():
            return {labels: v for (name, labels), v in samples.items() if name == node.name and _matches(node, labels)}
        case AggregateExpr():
            return _aggregated(node, samples)
        case BinaryExpr():
            return _combined(str(node.op), _evaluated(node.lhs, samples), _evaluated(node.rhs, samples))
        case Call():
            return _called(node.func.name, [_evaluated(argument, samples) for argument in node.args])
    raise NotImplementedError(type(node).__name__)


def _matches(selector: Any, labels: Labels) -> bool:
    own = dict(labels)
    tests = {"=": str.__eq__, "=~": lambda text, pattern: bool(re.fullmatch(pattern, text))}
    symbols = {"Equal": "=", "Re": "=~"}
    return all(
        tests[symbols[str(m.op).rpartition(".")[2]]](own.get(m.name, ""), m.value) for m in selector.matchers.matchers
    )


def _aggregated(node: Any, samples: Samples) -> Vector:
    inner, groups = _evaluated(node.expr, samples), {}
    assert isinstance(inner, dict)
    kept = set(node.modifier.labels) if node.modifier else set()
    for labels, number in inner.items():
        groups.setdefault(frozenset(pair for pair in labels if pair[0] in kept), []).append(number)
    return {labels: float(_AGGREGATES[str(node.op)](numbers)) for labels, numbers in groups.items()}


def _combined(operator: str, left: Vector | float, right: Vector | float) -> Vector:
    assert isinstance(left, dict)
    if operator == "or":
        assert isinstance(right, dict)
        return right | left
    assert isinstance(right, float), "a vector and a number"
    if operator == ">":
        return {labels: number for labels, number in left.items() if number > right}
    assert operator == "/", operator
    return {labels: number / right for labels, number in left.items()}


def _called(name: str, arguments: list[Any]) -> Vector | float:
    match name, arguments:
        case "ceil", [vector]:
            return {labels: float(math.ceil(number)) for labels, number in vector.items()}
        case "clamp_max", [vector, bound]:
            return {labels: min(number, bound) for labels, number in vector.items()}
        case "vector", [number]:
            return {frozenset(): number}
        case "scalar", [vector]:
            return float(next(iter(vector.values()))) if len(vector) == 1 else math.nan
    raise NotImplementedError(name)
