"""The column names of feeds and the meaning of words in cells, in Dutch, French, German and English.

The words are in ``vocabulary.toml``. Names are compared as normalised by `plain`: lower case, without accents, letters
and digits only.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple

from okasie_tasks.core.fields import FIELDS


def plain(text: str) -> str:
    """``Première immatriculation`` -> ``premiereimmatriculation``; ``Türen`` -> ``turen``; ``Maß`` -> ``mass``."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in spread if letter.isalnum() and letter.isascii())


class Meaning(NamedTuple):
    """A field, how well the name matches it (0 is best), and the unit in the name."""

    field: str
    rank: int
    unit: str = ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_VOCABULARY: Final[Mapping[str, Any]] = tomllib.loads(
    (files(__package__) / "vocabulary.toml").read_text(encoding="utf-8")
)
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {name: _words(text) for name, text in _VOCABULARY["roles"].items()}
REFERENCE: Final = _ROLES["reference"]
UPDATED_AT: Final = _ROLES["updated_at"]
IMAGES: Final = _ROLES["images"]
BRANCH: Final = _ROLES["branch"]
ROLE_NAMES: Final = frozenset((*REFERENCE, *UPDATED_AT, *IMAGES, *BRANCH))
_HOLDERS: Final = frozenset(_ROLES["holders"])
"""Names that say nothing beside the name of what holds them: ``mileage.value``, ``prijs/bedrag``."""
_OTHERS: Final = frozenset(_ROLES["others"])
"""What may be described in a row beside the car."""
_OF_OTHERS: Final = frozenset({"postalCode", "city", "province", "latitude", "longitude", "dealerLocationCode"})
_UNIT_OF: Final[Mapping[str, str]] = _VOCABULARY["units"]
CONVERTED: Final[Mapping[str, str]] = {"powerKw": "hp", "mileage": "mi", "price": "cent"}
"""Field -> the unit that is converted to Okasie's."""
_FILLERS: Final = frozenset(_ROLES["fillers"])
_NEGATIONS: Final = frozenset(_ROLES["negations"])
_EMPTY: Final = frozenset(_ROLES["empty"])
_OTHER_PRICES: Final = frozenset(_ROLES["other_prices"])
FLAGS: Final[Mapping[str, str]] = {
    name: status for status, names in _VOCABULARY["flags"].items() for name in names.split()
}
"""Name of a column of yes and no, as normalised by `plain` -> the status of a car that has it."""


def _own_names() -> Iterator[tuple[str, Meaning]]:
    for spec in FIELDS.values():
        for name in (spec.name, *spec.aliases):
            yield plain(name), Meaning(spec.name, 0)


def _listed() -> Iterator[tuple[str, Meaning]]:
    for field, names in _VOCABULARY["columns"].items():
        yield from ((name, Meaning(field, rank)) for rank, name in enumerate(names.split(), start=1))
    for field, units in _VOCABULARY["columns_with_unit"].items():
        for unit, names in units.items():
            # A column in Okasie's unit is preferred where a feed has both.
            yield from ((name, Meaning(field, rank, unit)) for rank, name in enumerate(names.split(), start=100))


_BY_NAME: Final[Mapping[str, Meaning]] = dict((*_listed(), *_own_names()))


_LONG_ENOUGH: Final = 4
_SPLITS: Final = (r"[^\W_]+", r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+")
"""How a name is split into words: at signs and blanks, else also at capitals."""


def meaning_of(column: str) -> Meaning | None:
    """Return the field that a column of this name holds; None when the name is unknown."""
    if meaning := _BY_NAME.get(plain(column)):
        return meaning
    for split in _SPLITS:
        words = [plain(word) for word in re.findall(split, column)]
        units = [word for word in words if word in _UNIT_OF]
        meaning = _BY_NAME.get("".join(word for word in words if word not in _UNIT_OF and word not in _FILLERS))
        if meaning is not None:
            named = {_UNIT_OF[word] for word in units} - {""}
            possible = CONVERTED.get(meaning.field)
            unit = possible if possible in named else meaning.unit
            # A name with Okasie's unit is preferred to one with another unit, where a feed has both.
            return Meaning(meaning.field, meaning.rank + (200 if unit or not units else 50), unit or "")
    return None


def unit_of(word: str) -> str | None:
    """Return a unit as settings name it, "" for one of Okasie's; None when the word is unknown."""
    return _UNIT_OF.get(plain(word))


def is_holder(name: str) -> bool:
    """Return whether a name says nothing beside the name of what holds it: ``value``, ``bedrag``."""
    return plain(name) in _HOLDERS


def names_of(column: str) -> list[str]:
    """Return the names in a path: ``prices/price[@type='b']/amount`` -> prices, price, amount."""
    bare = re.sub(r"\[[^\]]*\]", "", column).replace("@", "")
    return [name for name in re.split(r"[./]", bare) if name]


def without_selections(path: str) -> str:
    """``prices/price[@type='b']/amount`` -> ``prices/price/amount``."""
    return re.sub(r"\[@[^\]]*\]", "", path)


def is_other_price(path: str) -> bool:
    """Return whether the words of a path say that its price is not the one that a consumer pays."""
    return any(plain(word) in _OTHER_PRICES for split in _SPLITS for word in re.findall(split, path))


def is_same_thing(holder: str, name: str) -> bool:
    """Return whether one name is the other's plural or the like: ``photos/photo``, ``afbeeldingen/afbeelding``."""
    holder, name = plain(holder), plain(name)
    return len(name) >= _LONG_ENOUGH and holder.startswith(name[:-1])


def is_of_others(holders: Sequence[str]) -> bool:
    """Return whether the names of what holds a value are those of a dealer, a loan or the like."""
    return any(plain(name) in _OTHERS for name in holders)


def meaning_of_path(path: str) -> Meaning | None:
    """Return the field that a path holds, by its last names. A name nearer to the row is the better match."""
    names = names_of(path)
    if len(names) < 2:
        return meaning_of(without_selections(path).removeprefix("@"))
    holder, last = names[-2:]
    tries = [f"{holder} {last}", last]
    if plain(last) in _HOLDERS or is_same_thing(holder, last):
        tries = [holder, holder[:-1], f"{holder} {last}", last]  # prices: price
    meaning = next(filter(None, map(meaning_of, tries)), None)
    if meaning is None or (is_of_others(names[:-1]) and meaning.field not in _OF_OTHERS):
        return None
    return meaning._replace(rank=meaning.rank + 1000 * (len(names) - 1))


WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    field: {word: value for value, words in table.items() for word in (plain(value), *words.split())}
    for field, table in _VOCABULARY["values"].items()
}
"""Field -> word as normalised by `plain` -> Okasie's value."""


def is_empty_word(cell: str) -> bool:
    """Return whether a cell says that there is no value: ``n.v.t.``, ``-``, ``inconnu``."""
    return plain(cell) in _EMPTY or not any(map(str.isalnum, cell))


def value_of(field: str, cell: str) -> str | None:
    """Return what a cell means for a field; None when its words are unknown or contradict each other."""
    words = WORDS[field]
    if (value := words.get(plain(cell))) is not None:
        return value
    parts = [plain(part) for part in re.split(r"[^\w]+|_", cell)]
    meant = {words[part] for part in parts if part in words and len(part) >= _LONG_ENOUGH}
    if field == "fuelType" and ("hybrid" in meant or {"electric"} < meant):
        return "hybrid"
    return meant.pop() if len(meant) == 1 and not any(part in _NEGATIONS for part in parts) else None
