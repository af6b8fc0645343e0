"""One HTML file that asks nothing of the network, reads on a phone and in the dark, with its figures inside."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limitlib.audit.report import short
from limitlib.companion.notebook import columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.2  # inches: narrow, so that the words of a figure stay readable when it is as wide as a phone

STYLE = """
:root{--ink:#1a1a1a;--soft:#4d4d4d;--page:#fff;--line:#d0d0d0;--band:#f4f6f8;--accent:#005a8f}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--soft:#b9b9b9;--page:#16181b;--line:#3d4248;--band:#202429;--accent:#6db9e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:1rem/1.55 system-ui,sans-serif}
main{max-width:56rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;overflow-wrap:anywhere;line-height:1.25;margin:.2rem 0 1rem}h2{font-size:1.2rem;margin:2.4rem 0 .6rem}
p,li,dd{max-width:44rem}a{color:var(--accent)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:34rem){dl{grid-template-columns:1fr}dt{margin-top:.5rem}}
figure{margin:1.2rem 0;max-width:44rem}
.card{background:#fff;border:1px solid var(--line);border-radius:6px;padding:.4rem}
.card svg{display:block;width:100%;height:auto}
figcaption{color:var(--soft);margin:.4rem 0}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:.6rem 0}
.scroll:focus-visible{outline:3px solid var(--accent)}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--page)}
thead th{background:var(--band);vertical-align:bottom}thead th:first-child{background:var(--band)}
.kind{display:block;font-weight:400;font-size:.8rem;color:var(--soft)}
.alarm{border:2px solid #b3261e;border-radius:6px;padding:.6rem .9rem}
details{margin:.4rem 0}summary{cursor:pointer;color:var(--accent)}code{overflow-wrap:anywhere}
"""


def whole(title: str, parts: Sequence[str], *, style: str = "") -> str:
    """The page. title: plain text, also the heading; parts: HTML, empty ones left out; style: more of it."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    name = html.escape(title)
    body = "\n".join(p for p in (f"<h1>{name}</h1>", *parts) if p)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{name}</title>'
        f"<style>{STYLE}{style}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def alarm(word: str, text: str) -> str:
    """A boxed notice that a screen reader announces."""
    return f'<p class="alarm" role="status"><strong>{html.escape(word)}</strong> {html.escape(text)}</p>'


def listed(title: str, items: Sequence[str]) -> str:
    """A heading and a list of sentences; nothing if there are none."""
    if not items:
        return ""
    return f"<h2>{html.escape(title)}</h2><ul>" + "".join(f"<li>{html.escape(i)}</li>" for i in items) + "</ul>"


def defined(rows: Sequence[tuple[str, str]]) -> str:
    """Terms and what they are."""
    return "<dl>" + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows) + "</dl>"


def grid(label: str, head: Sequence[str], body: Sequence[Sequence[str]], kinds: Mapping[str, str] | None = None) -> str:
    """A table that scrolls sideways on its own; the first cell of each row heads it. kinds: small print under headings."""
    small = {h: f'<span class="kind">{html.escape(k)}</span>' for h, k in (kinds or {}).items() if k}
    top = "".join(f'<th scope="col">{html.escape(h)}{small.get(h, "")}</th>' for h in head)
    lines = ""
    for row in body:
        cells = "".join(f"<td>{html.escape(c)}</td>" for c in row[1:])
        lines += f'<tr><th scope="row">{html.escape(row[0])}</th>{cells}</tr>'
    return (
        f'<div class="scroll" role="region" aria-label="{html.escape(label, quote=True)}" tabindex="0"><table><thead><tr>'
        f"{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def figure(number: int, fig: Figure, caption: str, alt: str, data: Mapping[str, Sequence], *, most: int | None = None) -> str:
    """A drawing with its words and its data; number: counts from 0 on this page; most: rows of data that are written out."""
    stream = io.BytesIO()
    fig.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = stream.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    # Several drawings share this page: their inner names must not meet.
    svg = re.sub(r'\bid="', f'id="f{number}-', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#f{number}-", svg)
    label = html.escape(alt, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    table = columns(data)
    rows = list(zip(*table.values(), strict=True))
    head = "".join(f'<th scope="col">{html.escape(k)}</th>' for k in table)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell(v))}</td>" for v in row) + "</tr>" for row in rows[:most])
    left = f" (the first {most} of {len(rows)} rows)" if most is not None and len(rows) > most else ""
    return (
        f'<figure><div class="card">{svg}</div><figcaption>{html.escape(caption)}</figcaption><details><summary>The data of '
        f'this figure{left}</summary><div class="scroll" role="region" aria-label="Data of figure {number + 1}" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details></figure>"
    )


def cell(value: Any) -> str:
    """A value for a table."""
    return value if isinstance(value, str) else short(value)
