"""The page of an audit: one HTML file with its figures inside, that asks nothing of the network and reads on a phone."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from limitlib.audit.report import COLUMNS, AuditReport, short
from limitlib.companion.figures import PALETTE, direct_label, new_figure
from limitlib.companion.page import WIDTH, alarm, defined, figure, grid, listed, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERRUPTED = (
    "The audit was interrupted: rows or columns are missing, and nothing below speaks for the blocks that are not listed."
)

def page(report: AuditReport) -> str:
    """The whole page as HTML. It states the domain, the methods and what every column is; figures carry words and data."""
    parts = []
    if not report.complete:
        parts.append(alarm("Incomplete.", INTERRUPTED))
    parts += [_facts(report), _findings(report)]
    drawn = [draw for draw in (_gains, _composed, _states, _condensing) if len(report.rows) > 0]
    for i, draw in enumerate(drawn):
        made = draw(report)
        if made:
            parts.append(figure(i, *made))
    parts += [_table(report), _sources(report), _legend(report), listed("How the numbers are made", report.methods)]
    parts.append(listed("Notes", report.notes))
    return whole(f"Audit of {report.network['name']}", parts)


# ------------------------------------------------------------------------------------------------------------------- words


def _facts(report: AuditReport) -> str:
    n, s = report.network, report.settings
    rows = [
        ("network", f"{n['family']}, {n['parameters']:,} parameters, weights stored as {n['dtype']}"),
        ("read at", f"{report.inputs['how']} (sha256 {report.inputs['sha256'][:16]})"),
        ("Jacobians", f"at the first {s['points']} of them, of the whole token matrix, in float64"),
        ("upper bounds", f"on {report.domain}"),
        (
            "compared with",
            f"{s['control']} network{'s' * (s['control'] != 1)} of the same architecture with fresh weights"
            if s["control"]
            else "nothing",
        ),
        ("seed", str(s["seed"])),
    ]
    return defined(rows)


def span(values: Sequence[float]) -> str:
    """The range of some numbers in words."""
    low, high = short(min(values)), short(max(values))
    return low if low == high else f"{low} to {high}"


def _findings(report: AuditReport) -> str:
    rows = report.rows
    if not rows:
        return "<h2>What was found</h2><p>No block was finished.</p>"
    local = [float(np.mean(r.local)) for r in rows]
    said = [
        f"Along its most stretched direction a block enlarges a small change of the states by {span(local)} (mean over the "
        f"points; each value is attained, so the block's Lipschitz constant is at least that); along a random direction by "
        f"{span([float(np.mean(r.rms)) for r in rows])}."
    ]
    sups = [r for r in rows if r.sup]
    if sups:
        finite = [r.sup.upper for r in sups if r.sup and math.isfinite(r.sup.upper)]
        if finite:
            said.append(f"Certified upper bounds on the stated domain: {span(finite)} in {len(finite)} of {len(sups)} blocks.")
        else:
            said.append("No block has a finite upper bound on the stated domain; the reasons stand below the table.")
        contracting = sum(r.sup.upper <= 1 for r in sups if r.sup)
        expanding = sum(r.sup.lower > 1 for r in sups if r.sup)
        said.append(f"Proved non-expansive there: {contracting} blocks. Proved expansive: {expanding}. Undecided: "
                    f"{len(sups) - contracting - expanding}.")  # fmt: skip
    if rows[-1].control:
        fresh = [r.control.local for r in rows if r.control]
        said.append(f"With fresh weights the same blocks enlarge their most stretched direction by {span(fresh)}.")
    if len(rows) > 1 and rows[-1].cumulative and rows[-1].product:
        said.append(f"Multiplying the blocks' values overstates what the composed map does by a factor "
                    f"{short(rows[-1].product_over_cumulative)} (median over the points).")  # fmt: skip
    ranks = [r.cloud.effective_rank for r in rows if not math.isnan(r.cloud.effective_rank)]
    if len(ranks) > 1:
        steps = np.diff(ranks)
        way = (
            "falls at every block" if (steps < 0).all() else "rises at every block" if (steps > 0).all() else "is not monotone"
        )
        said.append(
            f"The effective rank of the states {way}: from {short(ranks[0])} after the first block to {short(ranks[-1])}."
        )
    return listed("What was found", said)


def _table(report: AuditReport) -> str:
    if not report.rows:
        return ""
    head, body = report.cells()
    kinds = {label: kind for label, kind, _ in COLUMNS.values()}
    return ("<h2>Block by block</h2><p>Means over the points for local and rms, medians for the composed maps.</p>"
            + grid("Table of the blocks", head, body, kinds))  # fmt: skip


def _sources(report: AuditReport) -> str:
    rows = [r for r in report.rows if r.sup]
    if not rows:
        return ""
    items = []
    for r in rows:
        assert r.sup is not None
        radii = "; ".join(f"{p}: {short(x)}" for p, x in r.radii.items())
        notes = "".join(f"<p>{html.escape(n)}</p>" for n in r.notes)
        ends = f"{short(r.sup.lower)} to {short(r.sup.upper)} ({r.sup.kind})"
        items.append(f"<details><summary>{html.escape(r.name)}: {ends}</summary><p>{html.escape(r.sup.source)}</p>{notes}"
                     + (f"<p>Smallest norms observed: {html.escape(radii)}</p>" if radii else "") + "</details>")  # fmt: skip
    return "<h2>Why each upper bound holds</h2>" + "".join(items)


def _legend(report: AuditReport) -> str:
    shown = set(report.cells()[0])
    lines = "".join(f"<dt>{html.escape(label)}</dt><dd><strong>{kind}</strong>: {html.escape(meaning)}</dd>"
                    for label, kind, meaning in COLUMNS.values() if label in shown)  # fmt: skip
    return f"<h2>What the columns are</h2><dl>{lines}</dl>" if lines else ""


# ----------------------------------------------------------------------------------------------------------------- figures


def _at(report: AuditReport) -> np.ndarray:
    return np.arange(len(report.rows))


def _axis(ax: Axes, report: AuditReport, *, labelled: bool = True) -> None:
    n = len(report.rows)
    ax.set_xlabel("block, in the order they run")
    ax.set_xticks(range(0, n, 1 + (n - 1) // 8))
    ax.set_xlim(-0.04 * n - 0.05, n - 1 + 0.04 * n + (max(0.6, 0.32 * n) if labelled else 0.05))


def _curve(ax: Axes, x: np.ndarray, y: Sequence[float | None], label: str, color: str, marker: str, dash: str) -> None:
    values = np.array([np.nan if v is None or not math.isfinite(v) else v for v in y], dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    if known.size:
        ax.plot(x, values, color=PALETTE[color], marker=marker, linestyle=dash)
        direct_label(ax, x[known[-1]], values[known[-1]], label, color)


def _gains(report: AuditReport) -> tuple | None:
    rows, x = report.rows, _at(report)
    local = np.array([r.local for r in rows])
    middle, rms = list(local.mean(1)), [float(np.mean(r.rms)) for r in rows]
    upper = [r.sup.upper if r.sup else None for r in rows]
    fresh = [r.control.local if r.control else None for r in rows]
    finite = [u for u in upper if u is not None and math.isfinite(u)]
    fig, axes = new_figure(1 + bool(finite), 1, height=3.4 + 1.8 * bool(finite), width=WIDTH, sharex=True, squeeze=False,
                           height_ratios=[1.0, 1.9] if finite else [1.0])  # fmt: skip
    if finite:  # the proved ends lie far above what is attained, so they get a panel of their own
        _curve(axes[0, 0], x, upper, "sup \u2264 (certified)", "black", "", "--")
        _curve(axes[0, 0], x, list(local.max(1)), "local, largest", "blue", "o", "-")
        _logarithmic(axes[0, 0])
        axes[0, 0].set_ylabel("bounds")
    ax = axes[-1, 0]
    ax.fill_between(x, local.min(1), local.max(1), color=PALETTE["blue"], alpha=0.18, linewidth=0)
    _curve(ax, x, middle, "local", "blue", "o", "-")
    _curve(ax, x, fresh, "local, fresh weights", "sky", "v", ":")
    _curve(ax, x, [r.pair_median for r in rows], "pair median", "green", "^", "-.")
    _curve(ax, x, rms, "rms", "vermillion", "s", "--")
    ax.axhline(1, color=PALETTE["black"], linewidth=0.8)
    _logarithmic(ax)
    ax.set_ylabel("enlargement of a change")
    _axis(ax, report)
    _spread(ax, 170.0)
    axes[0, 0].set_title(f"A block enlarges its best direction by {span(middle)},\na random one by {span(rms)}")
    missing = sum(u is not None and not math.isfinite(u) for u in upper)
    caption = "Local: attained at the data, mean and range over the points. Certified: on the stated domain."
    caption += f" {missing} blocks have none that is finite." if missing else ""
    alt = f"Enlargement by each of {len(rows)} blocks on a logarithmic scale: local values {span(middle)}, rms {span(rms)}"
    alt += f", certified upper bounds {span(finite)}." if finite else "."
    data = {"block": [r.name for r in rows], "sup upper": upper, "local mean": middle, "local min": local.min(1),
            "local max": local.max(1), "fresh local": fresh, "rms mean": rms,
            "pair median": [r.pair_median for r in rows]}  # fmt: skip
    return fig, caption, alt, data


def _logarithmic(ax: Axes) -> None:
    """A logarithmic axis whose ticks are written out while they span little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    ax.margins(y=0.12)
    low, high = ax.get_ylim()
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    ax.yaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    ax.yaxis.set_minor_formatter(NullFormatter())
    if high / low < 1e6:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.4g}" if v < 1e4 else f"{v:,.0f}"))


def _spread(ax: Axes, height: float) -> None:
    """Move the direct labels apart where curves end close together; ``height`` of the axes in points, roughly."""
    from matplotlib.text import Annotation

    labels = [t for t in ax.texts if isinstance(t, Annotation)]
    low, high = ax.get_ylim()
    log = ax.get_yscale() == "log"
    size = (lambda v: math.log(v)) if log else (lambda v: v)
    per = (size(high) - size(low)) / height
    placed = -math.inf
    for label in sorted(labels, key=lambda t: t.xy[1]):
        at = size(label.xy[1]) / per
        shift = max(0.0, placed + 11 - at)
        label.set_position((4, shift))
        placed = at + shift


def _composed(report: AuditReport) -> tuple | None:
    rows, x = report.rows, _at(report)
    if len(rows) < 2 or rows[-1].cumulative is None or rows[-1].product is None:
        return None
    product = [float(np.median(r.product)) if r.product else None for r in rows]
    along = [float(np.median(r.cumulative)) if r.cumulative else None for r in rows]
    fig, ax = new_figure(height=3.2, width=WIDTH)
    _curve(ax, x, product, "product of\nlocal values", "vermillion", "s", "--")
    _curve(ax, x, along, "composed map", "blue", "o", "-")
    _logarithmic(ax)
    ax.set_ylabel("top singular value (no unit)")
    _axis(ax, report)
    factor = short(rows[-1].product_over_cumulative)
    ax.set_title(f"The product of the blocks' values\noverstates the composed map {factor}-fold")
    caption = "From the states that enter the first of these blocks through each one; medians over the points."
    alt = f"On a logarithmic scale the running product of local values grows to {short(product[-1])}, the composed map to "
    alt += f"{short(along[-1])}."
    return fig, caption, alt, {"block": [r.name for r in rows], "product": product, "composed map": along}


def _states(report: AuditReport) -> tuple | None:
    rows, x = report.rows, _at(report)
    ranks = [r.cloud.effective_rank for r in rows]
    cosines = [r.cloud.mean_cosine for r in rows]
    covers = [r.cloud.cover for r in rows]
    fig, axes = new_figure(3, 1, height=5.6, width=WIDTH, sharex=True)
    axes[0].plot(x, ranks, color=PALETTE["blue"], marker="o")
    axes[0].set_ylabel("effective rank")
    axes[1].plot(x, cosines, color=PALETTE["vermillion"], marker="s", linestyle="--")
    axes[1].set_ylabel("mean cosine")
    low, high = [c.lower if c else np.nan for c in covers], [c.upper if c else np.nan for c in covers]
    axes[2].fill_between(x, low, high, color=PALETTE["green"], alpha=0.3, linewidth=0)
    axes[2].plot(x, high, color=PALETTE["green"], marker="^", linestyle="-.")
    axes[2].plot(x, low, color=PALETTE["green"], marker="v", linestyle=":")
    axes[2].set_ylabel("balls (bracket)")
    if report.start is not None:
        for ax, value in ((axes[0], report.start.effective_rank), (axes[1], report.start.mean_cosine)):
            ax.axhline(value, color=PALETTE["black"], linestyle="--", linewidth=0.9)
        direct_label(axes[0], 0, report.start.effective_rank, "entering the first block", "black", va="bottom")
    _axis(axes[2], report, labelled=False)
    known = [r for r in ranks if not math.isnan(r)]
    way = f"between {span(known)}" if known else "unknown"
    fig.suptitle(
        f"States that leave the blocks:\neffective rank {way.replace(' to ', ' and ')}",
        fontsize=10,
        fontweight="bold",
        x=0.02,
        ha="left",
    )
    caption = "Effective rank, mean cosine and the number of balls of chord radius 0.5 that cover their directions (both ends)."
    alt = f"Three panels over {len(rows)} blocks: effective rank {way}, mean cosine {span(cosines)}, angular cover at most "
    alt += f"{short(np.nanmax(high))}."
    data = {
        "block": [r.name for r in rows],
        "effective rank": ranks,
        "mean cosine": cosines,
        "cover lower": low,
        "cover upper": high,
    }
    return fig, caption, alt, data


def _condensing(report: AuditReport) -> tuple | None:
    some = [r for r in report.rows if r.condensing is not None and len(r.condensing.lower)]
    if not some:
        return None
    chosen = [some[i] for i in sorted({0, len(some) // 2, len(some) - 1})]
    fig, axes = new_figure(len(chosen), 1, height=1.3 + 1.5 * len(chosen), width=WIDTH, sharex=True, squeeze=False)
    data: dict[str, list] = {"block": [], "k": [], "ratio lower": [], "ratio upper": []}
    for ax, row in zip(axes[:, 0], chosen, strict=True):
        profile = row.condensing
        assert profile is not None
        ax.fill_between(profile.k, profile.lower, profile.upper, color=PALETTE["blue"], alpha=0.3, linewidth=0)
        ax.plot(profile.k, profile.lower, color=PALETTE["blue"], marker="", linestyle="-")
        ax.plot(profile.k, profile.upper, color=PALETTE["blue"], marker="", linestyle="--")
        ax.axhline(1, color=PALETTE["black"], linewidth=0.8)
        ax.set_ylabel("ratio")
        ax.set_title(row.name, fontsize=9, fontweight="normal")
        data["block"] += [row.name] * len(profile.lower)
        data["k"] += profile.k.tolist()
        data["ratio lower"] += profile.lower.tolist()
        data["ratio upper"] += profile.upper.tolist()
    axes[-1, 0].set_xlabel("number of balls k")
    decided = sum(bool((r.condensing.upper < 1).all()) for r in some if r.condensing)
    refuted = sum(bool((r.condensing.lower > 1).any()) for r in some if r.condensing)
    title = "Covering radius after a block over before it: proved smaller for\n"
    title += f"all k in {decided}, larger for some in {refuted} of {len(some)} blocks"
    fig.suptitle(title, fontsize=10, fontweight="bold", x=0.02, ha="left")
    caption = "Smallest radius of k balls that cover the states, after over before. Solid: lower end; dashed: upper."
    alt = f"Brackets of the ratio of entropy numbers for {len(chosen)} of {len(some)} blocks; in {decided} of all "
    alt += f"blocks every bracket lies below one, in {refuted} some bracket lies above one."
    return fig, caption, alt, data
