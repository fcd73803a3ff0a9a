"""The languages of the console: each text has its translation, and a language is one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from okasie_tasks.web.console import languages
from okasie_tasks.web.console.rendering import Formats, environment
from okasie_tasks.web.console.sentences import SENTENCES, sentence
from tests.web.catalogues import extracted, update

PACKAGE = Path(languages.__file__).parents[2]
_VARYING = re.compile(r"%\((\w+)\)")


@pytest.mark.parametrize("language", [code for code in languages.languages() if code != "en"])
def test_every_text_is_translated_with_the_same_parts(language: str) -> None:
    with (languages.CATALOGUES / f"{language}.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    wanted = {message.id for message in extracted() if message.id}
    assert {message.id for message in catalog if message.id} == wanted, "python -m tests.web.catalogues"
    for message in (one for one in catalog if one.id):
        texts = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(texts), message.id
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        for text in texts:
            assert set(_VARYING.findall(text)) == set(_VARYING.findall(ids[-1])), message.id


def test_a_new_language_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "CATALOGUES", tmp_path)
    monkeypatch.setattr("tests.web.catalogues.CATALOGUES", tmp_path)
    caches = (languages.languages, languages.translations, environment)
    try:
        update("fr")
        file = tmp_path / "fr.po"
        file.write_text(file.read_text().replace('msgid "Cars"\nmsgstr ""', 'msgid "Cars"\nmsgstr "Voitures"'))
        for cache in caches:
            cache.cache_clear()
        assert languages.languages() == {"en": "English", "fr": "Français"}
        assert languages.negotiate(None, "fr-BE,nl;q=0.5") == "fr"
        assert languages.translations("fr").gettext("Cars") == "Voitures"
        assert languages.translations("fr").gettext("Account") == "Account", "what is not translated stays English"
    finally:
        monkeypatch.undo()
        for cache in caches:
            cache.cache_clear()


@pytest.mark.parametrize(
    ("cookie", "accept", "language"),
    [
        (None, "", "en"), ("nl", "en", "nl"), ("xx", "nl-BE, en;q=0.8", "nl"), (None, "fr, en;q=0.5, nl;q=0.9", "nl"),
        (None, "nl;q=0", "en"), (None, "nl;q=many, ;;, *", "en"), ("../../nl", "", "en"), (None, "n" * 10_000, "en"),
    ],
)  # fmt: skip
def test_the_language_is_the_chosen_one_else_what_the_browser_prefers(
    cookie: str | None, accept: str, language: str
) -> None:
    assert languages.negotiate(cookie, accept) == language


def test_numbers_money_and_times_follow_the_language() -> None:
    english, dutch = Formats("en"), Formats("nl")
    assert (english.money(12345), dutch.money(12345)) == ("€12,345", "€\xa012.345")
    assert english.money(99.5) == "€99.50"
    assert (english.duration(40.2), english.duration(240), english.duration(7200)) == ("41 s", "4 min", "2 h")
    assert (english.duration(200_000), dutch.duration(200_000)) == ("2 days", "2 dagen")
    time = english.when("2026-07-01T22:30:00.000Z", "Europe/Brussels")
    assert 'title="2026-07-01 22:30:00 UTC"' in time
    assert "2 Jul 2026, 00:30" in time


def test_the_sentences_of_documents_are_those_of_the_code() -> None:
    """Each one is still written there, so that none is left untranslated because its wording changed."""
    code = " ".join(
        file.read_text(encoding="utf-8")
        for file in PACKAGE.rglob("*.py")
        if languages.CATALOGUES.parent not in file.parents
    )
    code = re.sub(r'"\s*\)?\s*f?"', "", code)
    for form in SENTENCES:
        parts = [part for part in re.split(r"\{\w+\}", form) if len(part) > 18]
        assert all(part.strip() in code for part in parts), form


def test_a_sentence_is_translated_with_its_values() -> None:
    dutch = languages.translations("nl").gettext
    text = sentence("price: expected a number, got '<b>'; title: is required, but the row has none", dutch)
    assert (
        text == "Prijs: Er is een getal nodig, de rij heeft '<b>'.; Titel: De rij heeft geen waarde, en die is nodig."
    )
    assert sentence("an unknown one: 5 %", dutch) == "an unknown one: 5 %"
