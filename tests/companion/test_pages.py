"""The reader of built pages finds what a reader without a network, or without eyes, would miss."""

import pytest

from limitlib.companion import pages


@pytest.fixture
def site(tmp_path):
    def build(body, name="a.html"):
        (tmp_path / name).write_text(f"<html><body>{body}</body></html>")
        return pages.check(tmp_path)

    return build


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "from the network"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "from the network"),
        ('<img src="_images/x.svg" alt="_images/x.svg">', "no alternative text"),
        ('<img src="_images/x.svg">', "no alternative text"),
        ('<a href="gone.html">x</a>', "not there"),
        ('<a href="#gone">x</a>', "place is not there"),
    ],
)
def test_problems_are_found(site, body, problem):
    assert any(problem in p for p in site(body))


def test_a_sound_page_passes(site, tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "x.svg").write_text("<svg/>")
    links = '<p id="here"></p><a href="#here">x</a><a href="https://arxiv.org">y</a>'
    assert site(links + '<img src="_images/x.svg" alt="It rises.">') == []


def test_no_pages_is_a_problem(tmp_path):
    assert "no pages" in pages.check(tmp_path)[0]
