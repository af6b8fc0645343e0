"""Sphinx words of the book: {num}, {verdict}, {claim}, {checks}, {ledger}, {verdict-counts}, {benchmarks}; figures with data.

All of them read what the runs left (``build/results``), the claims (``data/claims.yml``) and the expected numbers
(``data/expected``). Whatever is missing is a warning, and the build treats warnings as errors.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from limitlib.companion import ledger
from limitlib.companion.paths import CompanionError

LOG = logging.getLogger(__name__)
LEDGER = "book/ledger"
SHAPES = {"proved": "✓", "proved under added hypotheses": "✓+", "repaired": "↻", "refuted": "✗", "empirical: supports": "▲",
          "empirical: neutral": "◆", "empirical: contradicts": "▼", "cannot be reproduced": "?"}  # fmt: skip
BADGES = {
    "exact": "exact: closed form or algebra",
    "theory": "theory: deterministic numerical evaluation",
    "measured": "measured: depends on samples or training",
    "published": "published: another's number",
}


class Store:
    """Claims, results and the ledger's rows, read once a build."""

    def __init__(self, root: Path) -> None:
        build = root / "build"
        self.claims = ledger.load_claims(root)
        self.results = ledger.load_results(build)
        self.expected = ledger.load_expected(root)
        self.rows = {r.key: r for r in ledger.rows(root, build)}
        self.records = {k: e for r in self.results.values() for k, e in r.get("records", {}).items()}
        self.figures = {k: e for r in self.results.values() for k, e in r.get("figures", {}).items()}
        self.files = [str(f) for f in sorted((build / "results").glob("*.json"))]

    def skipped(self, notebook: str) -> dict[str, str] | None:
        return self.results.get(notebook, {}).get("skipped")


def store(app: Sphinx) -> Store:
    if not hasattr(app, "limitbook_store"):
        app.limitbook_store = Store(Path(app.srcdir))
    return app.limitbook_store


def warn(text: str, where: Any) -> None:
    LOG.warning(text, location=where, type="limitbook")


def to_ledger(env: Any, anchor: str) -> str:
    return f"{env.app.builder.get_relative_uri(env.docname, LEDGER)}#{anchor}"


def anchor(kind: str, name: str) -> str:
    return f"{kind}-{name.replace('.', '-').replace('_', '-').lower()}"


class Num(SphinxRole):
    """{num}`K12.ols_p60` or {num}`K12.ols_p60:.3f`: a number that a run recorded, linked to its row in the ledger."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        book = store(self.env.app)
        for file in book.files:
            self.env.note_dependency(file)
        key, _, fmt = self.text.partition(":")
        entry, row = book.records.get(key), book.rows.get(key)
        if entry is None:
            if row is not None and book.skipped(row.notebook):
                return [nodes.emphasis("", "not run here", classes=["num-skipped"])], []
            warn(f"{{num}}`{self.text}`: no run recorded {key}", self.get_location())
            return [nodes.inline("", "??")], []
        try:
            text = ledger.shown(entry, fmt)
        except ValueError as error:
            warn(f"{{num}}`{self.text}`: {error}", self.get_location())
            text = "??"
        link = nodes.reference("", text, refuri=to_ledger(self.env, anchor("num", key)), internal=True, classes=["num"])
        link["reftitle"] = f"{key}, {BADGES[entry['badge']]}; {row.verdict if row else ''}"
        return [link], []


def badge(claim: dict[str, Any], env: Any) -> nodes.Node:
    verdict = claim["verdict"]
    kind = verdict.replace("empirical: ", "").split()[0]
    address = to_ledger(env, anchor("claim", claim["id"]))
    link = nodes.reference("", f"{SHAPES[verdict]} {verdict}", internal=True, refuri=address)
    link["classes"] = ["verdict", f"verdict-{kind}"]
    link["reftitle"] = f"{claim['id']}: {claim['title']}"
    return link


class Verdict(SphinxRole):
    """{verdict}`K5`: the verdict on a claim, as a badge linked to the ledger."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        claim = store(self.env.app).claims.get(self.text)
        if claim is None:
            warn(f"{{verdict}}`{self.text}`: no such claim in data/claims.yml", self.get_location())
            return [nodes.inline("", "??")], []
        return [badge(claim, self.env)], []


class Parsing(SphinxDirective):
    """Shared by the directives: MyST text to nodes, rows to a table."""

    @property
    def book(self) -> Store:
        return store(self.env.app)

    def parsed(self, text: str) -> list[nodes.Node]:
        holder = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source="data/claims.yml"), self.content_offset, holder)
        return holder.children

    def table(self, heads: list[str], body: list[tuple[str, list[str], list]], classes: list[str]) -> nodes.table:
        """A table from ``(row id, row classes, cells)``, a cell being MyST text or nodes."""
        group = nodes.tgroup(cols=len(heads))
        group += [nodes.colspec(colwidth=1) for _ in heads]
        head = nodes.row()
        head += [nodes.entry("", nodes.paragraph("", h)) for h in heads]
        group += nodes.thead("", head)
        lines = nodes.tbody()
        for name, kinds, cells in body:
            row = nodes.row(ids=[name] if name else [], classes=kinds)
            row += [nodes.entry("", *(self.parsed(c) if isinstance(c, str) else c)) for c in cells]
            lines += row
        group += lines
        return nodes.table("", group, classes=classes)


class Claim(Parsing):
    """{claim} K5: the claim as its source has it, and what is true."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        claim = self.book.claims.get(self.arguments[0])
        if claim is None:
            warn(f"{{claim}} {self.arguments[0]}: no such claim in data/claims.yml", self.get_location())
            return []
        box = nodes.admonition(classes=["claim"])
        title = nodes.title("", f"Claim {claim['id']} · {claim['title']} ")
        box += title
        line = nodes.paragraph("", "", classes=["claim-verdict"])
        line += [badge(claim, self.env), nodes.Text(f"  source: {claim['source']}, {claim['tag']}")]
        box += line
        box += self.parsed(claim["statement"])
        box += self.parsed(f"**What is true.** {claim['true']}")
        return [box]


def folded(summary: str, inside: list[nodes.Node]) -> list[nodes.Node]:
    """A box that opens on a click or with Enter."""
    begin, end = f'<details class="folded"><summary>{summary}</summary>', "</details>"
    return [nodes.raw("", begin, format="html"), *inside, nodes.raw("", end, format="html")]


def number_row(directive: Parsing, row: ledger.Row, ids: bool) -> tuple[str, list[str], list]:
    expected = row.expected.words() if row.expected else "—"
    experiment = row.expected.experiment if row.expected else "shown, not compared"
    rival = row.expected.rival if row.expected else None
    about = f"`{row.key}`\\\n{experiment}{f', {row.badge}' if row.badge else ''}"
    must_not = "" if rival is None else ledger.shown({"value": rival, "fmt": ".6g"})
    cells = [about, row.shown, expected, must_not, row.verdict]
    return anchor("num", row.key) if ids else "", [f"row-{row.verdict.split()[0]}"], cells


HEADS = ["number", "measured", "must be", "must not be", "verdict"]


class Checks(Parsing):
    """{checks} NN-topic: every number that this notebook recorded, beside what it must be."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        notebook = self.arguments[0]
        mine = [r for r in self.book.rows.values() if r.notebook == notebook]
        if not mine:
            warn(f"{{checks}} {notebook}: no numbers recorded or expected", self.get_location())
            return []
        result = self.book.results.get(notebook, {})
        agree = sum(r.verdict == "agrees" for r in mine)
        compared = sum(r.verdict in ("agrees", "differs") for r in mine)
        said = f"Profile `{result.get('profile', '—')}`: {agree} of {compared} compared numbers agree; {len(mine)} in all."
        if "skipped" in result:
            said = f"**Skipped: data.** {result['skipped']['dataset']} is not here: {result['skipped']['how']}"
        body = [number_row(self, r, ids=False) for r in mine]
        table = self.table(HEADS, body, ["numbers"])
        return [*self.parsed(said), *folded("Every number of this chapter, beside what it must be", [table])]


class Ledger(Parsing):
    """{ledger} claims, or {ledger} numbers: the whole of either."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "numbers":
            body = [number_row(self, r, ids=True) for r in self.book.rows.values()]
            return [self.table(HEADS, body, ["numbers", "filtered"])]
        heads = ["claim and verdict", "as its source has it", "what is true", "where"]
        return [self.table(heads, [self.claim_row(c) for c in self.book.claims.values()], ["claims", "filtered"])]

    def claim_row(self, claim: dict[str, Any]) -> tuple[str, list[str], list]:
        verdict = nodes.paragraph("", "", badge(claim, self.env))
        first = [*self.parsed(f"**{claim['id']}** {claim['title']}"), verdict]
        source = f"{claim['statement']}\n\n*{claim['source']}, {claim['tag']}*"
        true = f"{claim['true']}\n\n*Hypotheses:* {'; '.join(claim['hypotheses'])}"
        where = [*self.parsed(self.where(claim)), *self.numbers(claim)]
        kinds = [f"status-{claim['status']}", f"row-{claim['verdict'].replace('empirical: ', '').split()[0]}"]
        return anchor("claim", claim["id"]), kinds, [first, source, true, where]

    def where(self, claim: dict[str, Any]) -> str:
        if claim["status"] == "planned":
            return f"*planned:* {claim['chapter']}"
        parts = [f"{{doc}}`{claim['chapter']} </book/{claim['chapter']}>`"]
        if claim["theorem"]:
            own = re.fullmatch(r"thm-t(\d+)-(\d+)", claim["theorem"])
            name = f"T{own[1]}.{own[2]} <{claim['theorem']}>" if own else claim["theorem"]
            parts.append(f"{{prf:ref}}`{name}`")
        parts += [f"{{numref}}`{claim['figure']}`"] if claim["figure"] else []
        parts += [f"{{doc}}`notebook </build/notebooks/{claim['chapter']}>`"]
        parts += [f"{{py:obj}}`~{f}`" for f in claim["functions"]]
        parts += [f"`{t}`" for t in claim["tests"]]
        return "\\\n".join(parts)

    def numbers(self, claim: dict[str, Any]) -> list[nodes.Node]:
        """Links to the claim's numbers, further down on the same page."""
        keys = [k for k in self.book.rows if k.startswith(f"{claim['id']}.")]
        line = nodes.paragraph("", "", classes=["claim-numbers"])
        for key in keys:
            link = nodes.reference("", key.partition(".")[2], refuri=f"#{anchor('num', key)}", internal=True)
            line += [link, nodes.Text(", " if key != keys[-1] else "")]
        return folded(f"{len(keys)} numbers", [line]) if keys else []


class VerdictCounts(Parsing):
    """{verdict-counts}: how many claims have which verdict, and how many chapters of them are written."""

    def run(self) -> list[nodes.Node]:
        claims = self.book.claims.values()
        total = Counter(c["verdict"] for c in claims)
        written = Counter(c["verdict"] for c in claims if c["status"] == "written")
        body = [("", [], [f"{SHAPES[v]} {v}", str(total[v]), str(written[v])]) for v in ledger.VERDICTS if total[v]]
        body.append(("", [], ["**all claims**", f"**{total.total()}**", f"**{written.total()}**"]))
        return [self.table(["verdict", "claims", "in a written chapter"], body, ["verdict-counts"])]


class Benchmarks(Parsing):
    """{benchmarks}: every kept side-by-side comparison: what was asked, what was measured, and why a target was missed."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for file in sorted((Path(self.env.srcdir) / "data" / "results" / "benchmarks").glob("*.json")):
            self.env.note_dependency(str(file))
            facts = json.loads(file.read_text())
            versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
            body = []
            for row in facts["rows"]:
                verdict = "met" if row["met"] else f"**missed:** {row['why']}"
                kinds = ["row-agrees" if row["met"] else "row-differs"]
                cells = (row["job"], row["peer"], row["target"], row["measured"], verdict)
                # A cell that begins with ">=" would be a quotation in Markdown.
                body.append(("", kinds, [c.replace(">=", "≥").replace("<=", "≤") for c in cells]))
            met = sum(r["met"] for r in facts["rows"])
            said = (
                f"**`benchmarks/{file.stem}.py`** · {met} of {len(body)} targets met · commit `{facts['commit']}` · "
                f"{facts['machine']}, Python {facts['python']}, {versions}"
            )
            found += [*self.parsed(said), self.table(["job", "peer", "target", "measured", "verdict"], body, ["comparison"])]
        if not found:
            warn("{benchmarks}: data/results/benchmarks holds nothing; run `make bench`", self.get_location())
        return found


class Figures(SphinxTransform):
    """Give each figure of a run its alternative text, its badge and a link to its data; or say that it was not run."""

    default_priority = 200

    def apply(self, **_: Any) -> None:
        book = store(self.app)
        for image in list(self.document.findall(nodes.image)):
            file = Path(image.get("uri", ""))
            if file.parent.as_posix().endswith("build/figures"):
                self.complete(image, file.stem, book)

    def complete(self, image: nodes.image, name: str, book: Store) -> None:
        entry = book.figures.get(name)
        if entry is None:
            skipped = next((r["skipped"] for n, r in book.results.items() if n[:3] == name[:3] and "skipped" in r), None)
            if skipped is None:
                warn(f"figure {name}: no run saved it", image)
            text = f"Not drawn here: the data set {skipped['dataset']} is missing." if skipped else "??"
            image.replace_self(nodes.paragraph("", text, classes=["num-skipped"]))
            return
        image["alt"] = entry["alt"]
        figure = image.parent
        captions = list(figure.findall(nodes.caption)) if isinstance(figure, nodes.figure) else []
        if not captions:
            warn(f"figure {name} has no caption: write it with {{figure}} and state the finding", image)
            return
        data = addnodes.download_reference("", "", nodes.Text("data (CSV)"), reftarget=f"/build/figures/{name}.csv",
                                           refdoc=self.env.docname, refdomain="", reftype="download")  # fmt: skip
        captions[0] += [nodes.Text(" "), nodes.inline("", entry["badge"], classes=["badge"]), nodes.Text(" · "), data]


MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Formulas without a network: only what a page loads (1.6 MB), out of the 24 MB that sphinx-mathjax-offline ships."""
    if error is not None or app.builder.format != "html":
        return
    source = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
    for part in MATHJAX:
        target = Path(app.outdir) / "_static/mathjax" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / part).is_dir() else shutil.copy
        copy(source / part, target, **({"dirs_exist_ok": True} if (source / part).is_dir() else {}))


def plain_bars(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """``|x|`` in a docstring is a norm, not one of reStructuredText's substitutions."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [p.replace("|", "\\|") for p in parts[::2]]
        lines[number] = "``".join(parts)


def read_sources(app: Sphinx) -> None:
    try:
        store(app)
    except (CompanionError, OSError) as error:
        warn(f"the ledger can't be read: {error}", None)
        raise


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", read_sources)
    app.connect("autodoc-process-docstring", plain_bars)
    app.connect("build-finished", copy_mathjax)
    app.add_role("num", Num())
    app.add_role("verdict", Verdict())
    app.add_directive("claim", Claim)
    app.add_directive("checks", Checks)
    app.add_directive("ledger", Ledger)
    app.add_directive("verdict-counts", VerdictCounts)
    app.add_directive("benchmarks", Benchmarks)
    app.add_transform(Figures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
