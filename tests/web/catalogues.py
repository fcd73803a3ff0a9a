"""Writes the console's catalogues: ``python -m tests.web.catalogues [LANGUAGE ...]``.

Every text of the code and the templates is added to each ``locale/LANGUAGE.po``; a language that is new gets a file.
"""

from __future__ import annotations

import sys

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from okasie_tasks.web.console.languages import CATALOGUES

CONSOLE = CATALOGUES.parent
_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
_OPTIONS = {"templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true"}}
_HEADER = """\
# The texts of the console. `python -m tests.web.catalogues` adds those that are new.
msgid ""
msgstr ""
"Language: {language}\\n"
"Plural-Forms: {plural}\\n"
"Content-Type: text/plain; charset=utf-8\\n"

"""


def extracted() -> Catalog:
    """Every text of the console."""
    catalog = Catalog(project="okasie-tasks", fuzzy=False)
    for file, _line, message, _comments, context in extract_from_dir(CONSOLE, _METHODS, _OPTIONS):
        catalog.add(message, locations=[(file, 0)], context=context)
    return catalog


def update(language: str) -> None:
    path = CATALOGUES / f"{language}.po"
    catalog = Catalog(locale=language, project="okasie-tasks", fuzzy=False)
    if path.exists():
        with path.open("rb") as file:
            catalog = read_po(file, locale=language)
    catalog.update(extracted(), no_fuzzy_matching=True)
    with path.open("wb") as file:
        file.write(_HEADER.format(language=language, plural=catalog.plural_forms).encode())
        write_po(file, catalog, sort_output=True, width=120, ignore_obsolete=True, no_location=True, omit_header=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or [path.stem for path in CATALOGUES.glob("*.po")]:
        update(name)
