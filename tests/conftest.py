"""What tests of several rooms use."""

import html.parser

import pytest


class Page(html.parser.HTMLParser):
    """Tags, attributes and words of a page; a tag that is not closed fails."""

    VOID = ("meta", "path", "use", "rect", "line", "image")

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [a for t, a in self.tags if t == tag]


@pytest.fixture
def parsed():
    """The parser of a written page: ``parsed(text)``."""
    return Page
