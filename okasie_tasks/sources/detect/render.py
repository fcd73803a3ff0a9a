"""A draft as the text of an ``okasie.toml``; comments list what an operator must decide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect.draft import Draft, Target

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def quoted(text: str) -> str:
    """Return a TOML basic string. TOML has JSON's escapes; only DEL needs one that JSON does not require."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007F")


def key(name: str) -> str:
    """Return a TOML key, without quotes where that is allowed."""
    return name if _BARE.fullmatch(name) else quoted(name)


def comment(text: str) -> str:
    """Return one line of comment, without control characters: no text of a feed can end it."""
    return "# " + "".join(letter if letter.isprintable() else " " for letter in text)


def render(draft: Draft) -> str:
    """Return the text of the file."""
    return "\n".join((*_head(draft), *_account(draft), *_source(draft), *_tables(draft))) + "\n"


def _head(draft: Draft) -> Iterator[str]:
    head = draft.head
    seen = f"all {len(head.rows)} rows" if head.whole else f"the first {len(head.rows)} rows"
    yield comment(f"Drafted by `okasie init` from {seen} of {head.name};")
    yield comment(f"{draft.valid} of {draft.tried} rows tried become a valid listing.")
    yield comment("Before the first run:")
    for sentence in _to_decide(draft):
        yield comment(f"- {sentence}")
    yield comment(
        "Then try it without a key: `okasie up --sandbox`, and `okasie plan` in another terminal, which shows what a"
    )
    yield comment(
        "run would send, without sending it. For the marketplace, run `okasie doctor` first. Runs are scheduled"
    )
    yield comment('once the two lines that say "off" are removed.')
    yield ""


def _to_decide(draft: Draft) -> Iterator[str]:
    yield f"put the API key into the environment variable {key_variable(draft.account)}"
    if draft.url.startswith("env:"):
        yield f"put the feed's URL, which may hold a secret, into the environment variable {draft.url[4:]}"
    if filled := draft.fill_in():
        yield f"replace {FILL_IN} in {', '.join(filled)}: until then the file is refused"
    if draft.reference != FILL_IN:
        yield f"make sure that {draft.reference!r} never changes for a car, and is never reused for another"
    yield from draft.decide
    if draft.left_out:
        yield "check the columns that were left out, and the reasons"


def key_variable(account: str) -> str:
    return f"{account.upper()}_API_KEY"


def _account(draft: Draft) -> Iterator[str]:
    yield f"[accounts.{draft.account}]"
    yield f"api_key = {quoted('env:' + key_variable(draft.account))}"
    yield 'incremental_every = "off"  # no scheduled runs: remove these two lines once a plan looks right'
    yield 'full_at = "off"'
    yield ""


def _source(draft: Draft) -> Iterator[str]:
    head = draft.head
    yield f"[accounts.{draft.account}.source]"
    yield f"type = {quoted(head.kind)}"
    yield f"url = {quoted(draft.url)}"
    yield f"reference = {quoted(draft.reference)}"
    if draft.updated_at:
        yield f"updated_at = {quoted(draft.updated_at)}"
    if head.kind == "csv":
        yield f"delimiter = {quoted(head.delimiter)}"
    if not head.header:
        yield "header = false  # the first row is a car"
    if head.skip_lines:
        yield f"skip_lines = {head.skip_lines}"
    if head.encoding != "utf-8":
        yield f"encoding = {quoted(head.encoding)}  # guessed: check accents in `okasie plan`"
    if draft.decimal != ".":
        yield f"decimal = {quoted(draft.decimal)}"
    if head.items:
        yield f"items = {quoted(head.items)}"
    yield ""


def _tables(draft: Draft) -> Iterator[str]:
    at = f"accounts.{draft.account}.source"
    yield f"[{at}.fields]"
    yield from (f"{name} = {_target(target)}" for name, target in draft.fields.items())
    for name, target, reason in draft.left_out:
        yield comment(f"{name} = {_target(target)}  # left out: {reason}")
    if not draft.head.header:
        yield from _examples(draft)
    if draft.unused:
        yield comment(f"not used: {', '.join(draft.unused)}"[:1000])
    yield ""
    for name, table in _with_unknown(draft):
        yield f"[{at}.values.{name}]"
        yield from (f"{key(word)} = {quoted(value)}" for word, value in table.items())
        yield from _unknown(draft.unknown.get(name, {}), table)
        yield ""
    if draft.units:
        yield f"[{at}.units]"
        yield from (f"{name} = {quoted(unit)}  # stated by the feed" for name, unit in draft.units.items())
        yield ""
    if draft.skip:
        yield f"[{at}.skip]  # rows that are not for the marketplace"
        yield from (f"{key(column)} = {_value(words)}" for column, words in draft.skip.items())
        yield ""
    yield f"[{at}.defaults]"
    yield from _defaults(draft)


def _examples(draft: Draft) -> Iterator[str]:
    """Yield what columns without a name hold, for an operator who must choose."""
    for column in draft.head.columns:
        held = [str(row[column]) for row in draft.head.rows[:3] if row.get(column) not in (None, "")]
        yield comment(f"column {quoted(column)}: {', '.join(held)}"[:200])


def _with_unknown(draft: Draft) -> Iterable[tuple[str, Mapping[str, str]]]:
    names = [name for name in draft.fields if name in draft.values or name in draft.unknown]
    names += [name for name in draft.values if name not in names]
    return [(name, draft.values.get(name, {})) for name in names]


def _unknown(words: Mapping[str, int], table: Mapping[str, str]) -> Iterator[str]:
    if not words:
        return
    becomes = {None: "are sent as they are", "": "are not sent"}.get(table.get("*"), f"become {table.get('*')!r}")
    yield comment(f"Unknown words, to be mapped; until then they {becomes}:")
    for word, count in words.items():
        yield comment(f'{key(word)} = ""  # {count} row{"" if count == 1 else "s"}')


def _defaults(draft: Draft) -> Iterator[str]:
    yield from (f"{name} = {quoted(value)}" for name, value in draft.defaults.items())
    if draft.branch:
        yield comment(f"For several branches, put dealerLocationCode = {quoted(draft.branch)} under fields, and into")
        yield comment("values.dealerLocationCode the Okasie code of each code in the feed.")
    if "condition" not in draft.fields:
        yield comment('condition = "used"  # if it applies to all')


def _target(target: Target) -> str:
    if isinstance(target, str):
        return quoted(target)
    return "{ " + ", ".join(f"{name} = {_value(value)}" for name, value in target.items()) + " }"


def _value(value: str | list[str]) -> str:
    return quoted(value) if isinstance(value, str) else f"[{', '.join(map(quoted, value))}]"
