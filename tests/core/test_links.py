"""Which links of the marketplace are shown."""

from __future__ import annotations

import pytest

from okasie_tasks.core.links import web_link


@pytest.mark.parametrize(
    "link",
    [
        "https://www.okasie.be/cars/skoda-octavia-5b1c2d3e?x=1#photos",
        "http://okasie.test:8080/1",
        "https://[2001:db8::1]/1",
        "https://okasie.be/auto's".replace("'", "%27"),
    ],
)
def test_a_link_of_the_web_is_kept(link: str) -> None:
    assert web_link(link) == link


@pytest.mark.parametrize(
    "link",
    [
        "",
        "okasie.be/1",
        "//okasie.be/1",
        "javascript:alert(1)",
        "ftp://okasie.be/1",
        "file:///etc/passwd",
        "https:///1",
        "https://user:password@okasie.be/1",
        "https://okasie.be\\@elsewhere.test/",
        "https://okasie.be/\x1b[2J",
        "https://okasie.be/\nrun ended",
        "https://okasie.be/a b",
        "https://okasie.be/\u202e",
        "https://okasie.be:99999/",
        "https://[okasie.be/",
        'https://okasie.be/"><script>',
        "https://okasie.be/" + "x" * 300,
    ],
)
def test_anything_else_is_not(link: str) -> None:
    assert web_link(link) == ""
