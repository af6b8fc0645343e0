"""Read the built pages as a browser would: nothing from the network, every picture described, every link arriving."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "link": "href"}
#: Link relations that name an address without loading it.
NAMED_ONLY = {"canonical", "next", "prev", "search", "index", "author", "license"}


class Page(HTMLParser):
    """What one page loads, links to, offers as targets, and shows without a description."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.remote: list[str] = []
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.undescribed: list[str] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        got = {k: v or "" for k, v in attributes}
        self.targets |= {got[k] for k in ("id", "name") if got.get(k)}
        address = got.get(LOADS.get(tag, ""), "")
        named_only = tag == "link" and set(got.get("rel", "").split()) & NAMED_ONLY
        if address.startswith(("http://", "https://", "//")) and not named_only:
            self.remote.append(address)
        elif address and not address.startswith("data:"):
            self.links.append(address)
        if tag == "a" and got.get("href"):
            self.links.append(got["href"])
        if tag == "img" and "_images" in got.get("src", "") and "_images/" in (got.get("alt") or "_images/"):
            self.undescribed.append(got["src"])


def check(site: Path) -> list[str]:
    """Problems of the built book in words; empty if there is none."""
    pages = {f: Page(f) for f in sorted(site.rglob("*.html")) if "_static" not in f.relative_to(site).parts}
    if not pages:
        return [f"no pages in {site}"]
    problems = []
    for file, page in pages.items():
        name = file.relative_to(site)
        problems += [f"{name}: loads {a} from the network" for a in page.remote]
        problems += [f"{name}: no alternative text for {src}" for src in page.undescribed]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                problems.append(f"{name}: a link to {link}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].targets:
                problems.append(f"{name}: a link to {link}, whose place is not there")
    return problems
