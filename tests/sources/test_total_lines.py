"""Rows that are no cars, and texts that are no plain text: total lines and HTML in descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from okasie_tasks.sources.markup import plain_description
from okasie_tasks.sources.total_lines import is_total
from tests.sources import formats
from tests.sources.support import one, source

TOTALS = [
    "Totaal", "TOTAAL:", " totaal ", "Totaal 12 auto's", "Total", "Total général", "Sous-total", "Subtotaal", "Eindtotaal",
    "Grand total: 12", "Summe", "Gesamtsumme:", "Zwischensumme", "Somme", "Gesamt", "Totals", "sum",
]  # fmt: skip
REFERENCES = [
    "TOTAL-12",
    "Totaal12",
    "T-1",
    "SUM 12",
    "som-1",
    "Somme-42",
    "GES 1",
    "Totalenergies",
    "1 Totaal",
    "total/4",
]


@pytest.mark.parametrize("text", TOTALS)
def test_what_a_total_line_is_called(text: str) -> None:
    assert is_total(text)


@pytest.mark.parametrize("text", REFERENCES)
def test_references_that_only_look_so(text: str) -> None:
    assert not is_total(text)


def test_a_total_line_is_rejected_and_named(tmp_path: Path) -> None:
    """Defaults and a template gave it all that a listing needs: it went online."""
    text = "ref;merk;title;price\nA-1;Skoda;Octavia;9900\n;;;\nTotaal;12 auto's;12 auto's;123.456,-\n"
    (tmp_path / "feed.csv").write_text(text)
    options = 'delimiter = ";"\ndecimal = ","\n'
    car, total = source(tmp_path, "feed.csv", options).rows()
    assert car.listing is not None
    assert (total.reference, total.listing, total.where) == ("Totaal", None, "feed.csv:4")
    (issue,) = total.issues
    assert (issue.code, issue.message) == (
        "total_line", "column ref: expected the reference of a car, got 'Totaal', a total line: leave it out with `skip`",
    )  # fmt: skip
    rule = '[accounts.dex.source.skip]\nref = ["totaal"]\n'
    assert [row.left_out for row in source(tmp_path, "feed.csv", options + rule).rows()] == ["", "skipped"]


@pytest.mark.parametrize("kind", ["jsonl", "xlsx"])
def test_a_total_line_of_another_format(tmp_path: Path, kind: str) -> None:
    data = b'{"externalReference": "Total", "title": "12 cars", "price": 9}\n'
    if kind == "xlsx":
        data = formats.workbook({"Stock": [["externalReference", "title", "price"], ["Total", "12 cars", 9]]})
    assert [issue.code for issue in one(formats.rows(tmp_path, kind, data)).issues] == ["total_line"]


# -- HTML in descriptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Nette <b>auto</b> & 1e eigenaar", "Nette auto & 1e eigenaar"),
        ("<p>Nette auto</p>\n<p>Met <strong>haak</strong></p>", "Nette auto\nMet haak"),
        ("Opties:<ul><li>airco</li><li>navi</li></ul>Bel ons", "Opties:\nairco\nnavi\nBel ons"),
        ("een<br>twee<BR />drie", "een\ntwee\ndrie"),
        ("prijs&nbsp;9&euro; &lt;b&gt; &#233;&#x41; R&D; AT&T", "prijs 9€ <b> éA R&D; AT&T"),
        ('<a href="https://x.example/?a=1&b=2" class="x">site</a>', "site"),
        ("<style>p { color: red }</style><!-- <b> --><p>Auto</p>", "Auto"),
        ("<table><tr><td>km</td><td>88.200</td></tr></table>", "km 88.200"),
        ("<100.000 km, a < b > c, <Type 2> stekker, <3", "<100.000 km, a < b > c, <Type 2> stekker, <3"),
        ("een\n\n  twee   drie", "een\n\n  twee   drie"),
        ("<b", "<b"),
        ("", ""),
    ],
)
def test_html_becomes_plain_text(text: str, plain: str) -> None:
    assert plain_description(text) == plain


def test_a_long_unclosed_tag_takes_no_time() -> None:
    """Each pattern reads a text in one pass: a second one for each beginning would take hours."""
    for part in ("<a ", "<style>", "<!--", "-->", "&a", " ", "\n ", "<td>"):
        assert plain_description("<b>x</b>" + part * 100_000).startswith("x")


def test_the_description_of_a_feed_is_plain_text(tmp_path: Path) -> None:
    car = "<car><externalReference>A</externalReference><title>a &lt;b&gt; c</title><price>9</price>{}</car>"
    texts = (
        "<description><![CDATA[Nette <b>auto</b> & 1e]]></description>",
        "<description>Nette <b>auto</b> &amp; 1e</description>",
    )
    for text in texts:
        row = one(formats.rows(tmp_path, "xml", f"<cars>{car.format(text)}</cars>".encode(), 'items = "cars/car"\n'))
        assert row.listing is not None
        assert (row.listing.description, row.listing.title) == ("Nette auto & 1e", "a <b> c")
