"""The page of a fit: one HTML file with its figures inside, that asks nothing of the network and reads on a phone."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.companion.figures import PALETTE, direct_label, new_figure
from limitlib.companion.fit_words import typed
from limitlib.companion.page import WIDTH, alarm, defined, figure, grid, listed, whole
from limitlib.scaling import Report
from limitlib.scaling.checklist import QUESTIONS
from limitlib.scaling.flags import undetermined
from limitlib.scaling.frontier import frontier
from limitlib.scaling.laws import AdditiveLaw
from limitlib.scaling.profiles import TIED
from limitlib.scaling.quantities import percent
from limitlib.scaling.reporting import ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERRUPTED = "The command was interrupted: parts are missing, and nothing below speaks for them."
UNITS = {"N": "tokens", "P": "parameters", "K": "steps", "C": "FLOP"}
#: Dots that one scatter draws; beyond, evenly spaced ones.
DOTS = 1500
#: Rows of a figure's data that are written out.
ROWS = 300

STYLE = """
.flag{border-left:4px solid #b35c00;background:var(--band);border-radius:4px;padding:.5rem .9rem;margin:.5rem 0;max-width:44rem}
pre{background:var(--band);border-radius:6px;padding:.7rem .9rem;white-space:pre-wrap;font-size:.85rem;max-width:44rem}
tbody th{font-weight:600}
"""

Drawn = tuple[Any, str, str, dict[str, Any]]


def page(report: Report, *, complete: bool = True, withheld: str = "") -> str:
    """The whole page as HTML. withheld: what to type to see the exponents, where the report leaves them out."""
    parts = []
    if not complete:
        parts.append(alarm("Incomplete.", INTERRUPTED))
    parts += [_facts(report), _found(report), _withheld(report, withheld), _parameters(report)]
    drawn = 0
    for heading, draw, after in SECTIONS:
        made, table = draw(report), after(report) if after else ""
        parts.append(f"<h2>{heading}</h2>" if heading and (made or table) else "")
        if made:
            parts.append(figure(drawn, *made, most=ROWS))
            drawn += 1
        parts.append(table)
    parts += [_predictions(report), _choices(report), _checklist(report)]
    parts.append(listed("Notes", [typed(note) for note in (*report.fit.runs.notes, *report.notes)]))
    return whole(f"Scaling law of {_name(report)}", parts, style=STYLE)


# ------------------------------------------------------------------------------------------------------------------- words


def _name(report: Report) -> str:
    source = report.fit.runs.source
    return source.file if source is not None else f"{len(report.fit.runs)} rows"


def _facts(report: Report) -> str:
    f = report.facts
    rows = [
        ("law", f"{report.fit.law.name}: {report.fit.law.formula}"),
        ("rows", f["rows"]),
        ("ranges", f["ranges"]),
        ("objective", f"{f['objective']}; {f['reduction']}"),
        ("optimum", f["optimum"]),
    ]
    if "source" in f:
        rows.append(("source", f["source"]))
    return defined(rows)


def _found(report: Report) -> str:
    q = report.quality
    said = [
        f"The law misses its own rows by {_share(q.median, q.unit)} (median) and {_share(q.rms, q.unit)} (root mean square) of "
        f"{q.unit}, and explains {percent(q.explained, 2)} of its variance."
    ]
    said += report.findings
    f, b = report.frontier, report.backtest
    if f is not None:
        k = int(np.argmax(f.C))
        said.append(f"At {f.C[k]:.2g} FLOP the best use is {f.P[k]:.2g} parameters on {f.N[k]:.2g} tokens, {f.ratio[k]:.2g} "
                    f"tokens for each parameter; that is {f.beyond[k]:.3g} times the largest run.")  # fmt: skip
    if b is not None:
        s = b.score
        said.append(f"Fitted below a budget and scored above it, the law errs by {percent(s.median_error, 2)} (median), and "
                    f"{percent(s.coverage)} of the rows lie in its calibrated {percent(b.level)} intervals.")  # fmt: skip
    if report.comparison is not None:
        said += report.comparison.words().splitlines()[:-1]
    warnings = "".join(
        f'<p class="flag"><strong>{html.escape(g.name)}.</strong> {html.escape(typed(g.text))}</p>' for g in report.flags
    )
    none = "<p>None of the checks raised a warning.</p>" if not report.flags else ""
    return listed("What was found", said) + f"<h2>Warnings</h2>{warnings}{none}"


def _share(value: float, unit: str) -> str:
    return f"{100 * value:.2g} %" if unit == "ln loss" else f"{value:.2g}"


def _withheld(report: Report, words: str) -> str:
    if not report.withheld:
        return ""
    first, *lines = words.splitlines() or ["Exponents are withheld until the checklist is complete."]
    code = "<pre><code>" + html.escape("\n".join(line.strip() for line in lines)) + "</code></pre>" if lines else ""
    return f"<h2>Exponents are withheld</h2><p>{html.escape(first)}</p>{code}"


def _parameters(report: Report) -> str:
    sure = percent(report.level)
    head = ["parameter", "value", f"{sure} bootstrap", f"{sure} profile", "profile", "standard error"]
    body = []
    for p in report.parameters:
        error = p.get("standard_error")
        shown = p["value"] is not None
        body.append(
            [
                p["name"],
                f"{p['value']:.5g}" if shown else "-" if p.get("shape") == "not determined" else "withheld",
                ends(p.get("bootstrap")),
                ends(p.get("profile")),
                p.get("shape", ""),
                f"{error['value']:.2g} of {error['of']}" if error else "",
            ]
        )
    keep = [k for k in range(len(head)) if k < 2 or any(row[k] for row in body)]
    kinds = {head[1]: "estimate", head[2]: "resampled by run", head[3]: "estimate", head[4]: "its shape", head[5]: "sandwich"}
    table = grid("Table of the parameters", [head[k] for k in keep], [[row[k] for k in keep] for row in body], kinds)
    why = "<p>a is the exponent with which the compute-optimal size grows, P* ~ C^a under C = 6 N P.</p>"
    return "<h2>Parameters</h2>" + table + (why if any(p["name"] == "a" for p in report.parameters) else "")


def _frontier_table(report: Report) -> str:
    f = report.frontier
    if f is None:
        return ""
    head = ["budget C, FLOP", "times the largest run", "parameters P*", "tokens N*", "N*/P*", "loss"]
    body = []
    for k in range(len(f.C)):
        sides = [(f.P[k], f.P_interval), (f.N[k], f.N_interval), (f.ratio[k], f.ratio_interval)]
        cells = [f"{v:.3g}" + ("" if i is None else f" ({ends(i[:, k], 3)})") for v, i in sides]
        loss = f"{f.loss[k]:.4f}" + ("" if f.loss_interval is None else f" ({ends(f.loss_interval[:, k], 5)})")
        body.append([f"{f.C[k]:.3g}", f"{f.beyond[k]:.3g}", *cells, loss])
    return grid("Table of the frontier", head, body)


def _backtest_table(report: Report) -> str:
    b = report.backtest
    if b is None:
        return ""
    sure = percent(b.level)
    head = ["predicted by", "median error", "rms error", f"in {sure} calibrated", f"in {sure} naive", "width", "naive width"]
    body = [
        [
            name,
            percent(s.median_error, 2),
            percent(s.rms_error, 2),
            percent(s.coverage),
            percent(s.naive_coverage),
            percent(s.width, 2),
            percent(s.naive_width, 2),
        ]
        for name, s in b.scores.items()
    ]
    return grid("Table of the back-test", head, body)


def _laws_table(report: Report) -> str:
    c = report.comparison
    if c is None:
        return ""
    lowest = min((e.aic for e in c.entries if e.aic is not None), default=0.0)
    sure = f"{percent(c.level)} interval"
    head = ["law", f"held-out {c.score}", sure, "worse by", f"{sure} of that", "", "AIC"]
    body = [
        [
            e.name,
            _share(e.score, c.unit),
            _span(e.interval, c.unit),
            _share(e.difference, c.unit),
            _span(e.difference_interval, c.unit),
            "best" if e is c.best else "tied" if e.tied else "worse",
            "" if e.aic is None else f"+{e.aic - lowest:.1f}",
        ]
        for e in c.entries
    ]
    return grid("Table of the laws", head, body) + f"<p>{html.escape(c.aic_basis[:1].upper() + c.aic_basis[1:])}.</p>"


def _span(interval: tuple[float, float] | None, unit: str) -> str:
    return "" if interval is None else f"{_share(interval[0], unit)} to {_share(interval[1], unit)}"


def _predictions(report: Report) -> str:
    if not report.predictions:
        return ""
    body = [
        [
            ", ".join(f"{k} = {v:.3g}" for k, v in p.at.items()),
            f"{p.loss:.4f}",
            "" if p.interval is None else f"{p.interval[0]:.4f} to {p.interval[1]:.4f} ({percent(p.level)})",
            p.method,
        ]
        for p in report.predictions
    ]
    return "<h2>Predictions</h2>" + grid("Table of predictions", ["at", "loss", "interval", "how"], body)


def _choices(report: Report) -> str:
    s = report.specifications
    if s is None or report.withheld:
        return ""
    body = [[f"{one.value:.4g}", *one.choices.values(), str(one.rows), "base" if one is s.base else ""] for one in s.specs]
    return f"<h2>Other choices</h2><p>{html.escape(s.words())}</p>" + grid(
        "Table of specifications", [s.quantity, "filter", "objective", "form", "counting", "rows", ""], body
    )


def _checklist(report: Report) -> str:
    rows = [(QUESTIONS[k][1], report.answers.get(k, "no answer yet")) for k in QUESTIONS]
    known = [(k, v) for k, v in report.facts.items() if k in ("form", "weights", "optimiser", "gauge")]
    return "<h2>Checklist</h2><p>After Li, Kudugunta and Zettlemoyer 2025.</p>" + defined([*rows, *known])


# ----------------------------------------------------------------------------------------------------------------- figures


def _thin(n: int, most: int = DOTS) -> np.ndarray:
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))


def _along(report: Report) -> str:
    """The variable that the figures are drawn against."""
    runs, law = report.fit.runs, report.fit.law
    usable = [
        v for v in ("C", *law.variables) if v in runs.columns and (runs.columns[v] > 0).all() and np.ptp(runs.columns[v]) > 0
    ]
    if "C" in usable or not usable:
        return "C" if usable else law.variables[0]
    return max(usable, key=lambda v: len(np.unique(runs.columns[v])))


def _groups(x: np.ndarray) -> list[np.ndarray]:
    """Row numbers in up to ten groups along x: one for each value where there are few, equal ones otherwise."""
    values, which = np.unique(x, return_inverse=True)
    if len(values) <= 12:
        return [np.flatnonzero(which == k) for k in range(len(values))]
    return [part for part in np.array_split(np.argsort(x, kind="stable"), max(1, min(10, len(x) // 8))) if part.size]


def _residuals(report: Report) -> Drawn:
    fit, along = report.fit, _along(report)
    x, log = fit.runs.columns[along], report.quality.unit == "ln loss"
    r = 100 * fit.residuals if log else fit.residuals
    fig, ax = new_figure(height=3.1, width=WIDTH)
    seen = _thin(len(x))
    ax.plot(x[seen], r[seen], color=PALETTE["blue"], marker="o", linestyle="", markersize=3, alpha=0.55)
    ax.axhline(0, color=PALETTE["black"], linewidth=0.9, linestyle="--")
    middles = []
    for part in _groups(x):
        middles.append((float(np.median(x[part])), float(np.median(r[part]))))
    mx, my = np.array(middles).T
    ax.plot(mx, my, color=PALETTE["vermillion"], marker="s", linestyle="-")
    if (x > 0).all():
        ax.set_xscale("log")
    ax.set_xlabel(_axis_name(report, along))
    ax.set_ylabel("measured above the law" + (", %" if log else ""))
    unit = " %" if log else ""
    worst = float(np.abs(my).max())
    ax.set_title(
        f"Half of the rows lie within {_two(np.median(np.abs(r)))}{unit} of the law;\nmedians along {along} stray by up to "
        f"{_two(worst)}{unit}"
    )
    caption = (
        f"Residuals against {along}: dots are rows, squares medians of {len(mx)} groups. A trend may mean a wrong form."
    )
    alt = f"Residuals of {len(x)} rows against {along}; medians of {len(mx)} groups stray from 0 by up to {_two(worst)}{unit}."
    return fig, caption, alt, {along: x, "loss": fit.runs.loss, "residual" + (", %" if log else ""): r}


def _axis_name(report: Report, name: str) -> str:
    unit = UNITS.get(name)
    return f"{name}, {unit}" if unit else name


def _profiles(report: Report) -> Drawn | None:
    if report.identified is None:
        return None
    shown = [
        p
        for p in report.identified.profiles.values()
        if len(p.values) and (not report.withheld or p.name == report.fit.law.floor)
    ]
    shown = [p for p in shown if p.threshold > 0][:8]
    if not shown:
        return None
    across = 2 if len(shown) > 1 else 1
    fig, axes = new_figure(
        math.ceil(len(shown) / across), across, height=1.0 + 1.45 * math.ceil(len(shown) / across), width=WIDTH, squeeze=False
    )
    data: dict[str, Any] = {"parameter": [], "value": [], "rise over threshold": []}
    for ax, p in zip(axes.flat, shown, strict=False):
        scaled = p.rise / p.threshold
        values, heights = np.append(p.values, p.estimate), np.append(scaled, 0.0)
        order = np.argsort(values)
        values, heights = values[order], heights[order]
        near = heights <= 6
        ax.plot(values[near], heights[near], color=PALETTE["blue"], marker="o", markersize=3)
        ax.axhline(1, color=PALETTE["black"], linestyle="--", linewidth=0.9)
        ax.axvline(p.estimate, color=PALETTE["vermillion"], linestyle=":", linewidth=1.2)
        ax.set_ylim(-0.2, 4)
        inside = values[near & (heights <= 4.5)]
        if inside.size > 1 and inside.min() > 0 and inside.max() / inside.min() > 30:
            ax.set_xscale("log")
        if inside.size > 1:
            ax.set_xlim(inside.min(), inside.max())
        from matplotlib.ticker import MaxNLocator

        if ax.get_xscale() == "linear":
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(f"{p.name}: {p.shape}", fontsize=9)
        data["parameter"] += [p.name] * len(values)
        data["value"] += values.tolist()
        data["rise over threshold"] += heights.tolist()
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    fig.supylabel("rise / threshold" if len(shown) <= 2 else "rise of the objective over its threshold", fontsize=9)
    bounded = sum(p.shape == "bounded" for p in shown)
    of = shown[0].name if len(shown) == 1 else f"{bounded} of {len(shown)} parameters"
    what = (
        ("is bounded" if bounded else "is not bounded")
        if len(shown) == 1
        else ("is bounded" if bounded == 1 else "are bounded")
    )
    fig.suptitle(f"{of} {what} on both sides", fontsize=10, fontweight="bold", x=0.02, ha="left")
    caption = (
        "Profiles: the objective with one parameter held and all others refitted. Below the dashed line lies the "
        f"{percent(report.level)} interval; dotted: the estimate."
    )
    alt = f"Profiles of {', '.join(p.name for p in shown)}; shapes: {', '.join(p.shape for p in shown)}."
    return fig, caption, alt, data


def _valley(report: Report) -> Drawn | None:
    """Bootstrap cloud of amplitude against exponent, for every power term."""
    boot, law = report.boot, report.fit.law
    if boot is None or report.withheld or not isinstance(law, AdditiveLaw):
        return None
    pairs = [
        (t.amplitude, t.powers[0][1], t.powers[0][0].removeprefix("ln "))
        for t in law.terms
        if t.amplitude
        and len(t.powers) == 1
        and isinstance(t.powers[0][1], str)
        and t.amplitude not in report.fit.certificate.boundary
        and t.powers[0][1] not in undetermined(report.fit)
    ]
    if not pairs:
        return None
    pairs = pairs[:4]
    fig, axes = new_figure(1, len(pairs), height=3.0, width=WIDTH, squeeze=False)
    data: dict[str, Any] = {"term": [], "exponent": [], "ln amplitude": []}
    said, ties = [], []
    for ax, (amplitude, exponent, variable) in zip(axes[0], pairs, strict=True):
        x, y = boot.parameters[exponent], np.log(boot.parameters[amplitude])
        sound = np.isfinite(x) & np.isfinite(y)
        x, y = x[sound], y[sound]
        seen = _thin(len(x))
        ax.plot(x[seen], y[seen], color=PALETTE["blue"], marker="o", linestyle="", markersize=2.5, alpha=0.35)
        ax.plot(
            report.fit.parameters[exponent],
            math.log(report.fit.parameters[amplitude]),
            color=PALETTE["vermillion"],
            marker="D",
            markersize=7,
            markeredgecolor="white",
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            tied = float(np.corrcoef(x, y)[0, 1]) if len(x) > 2 and np.ptp(x) > 0 else float("nan")
        ax.set_xlabel(f"exponent {exponent} of {variable}")
        ax.set_ylabel(f"ln {amplitude}")
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(3))
        if math.isfinite(tied):
            said.append(f"{amplitude} with {exponent} {tied:.3f}")
            ties.append(abs(tied))
        data["term"] += [f"{amplitude} {variable}^-{exponent}"] * len(x)
        data["exponent"] += x.tolist()
        data["ln amplitude"] += y.tolist()
    narrow = bool(ties) and min(ties) > TIED
    first = "Amplitudes and exponents are known together only" if narrow else "Amplitudes move with exponents"
    fig.suptitle(
        f"{first}:\ncorrelation of {', '.join(said)}",
        fontsize=10,
        fontweight="bold",
        x=0.02,
        ha="left",
    )
    caption = f"Optima of {len(boot.f)} resamples of the {boot.clusters} runs; diamond: the fit."
    caption += " Along the valley the law hardly changes." if narrow else ""
    alt = f"Clouds of bootstrap optima, logarithm of the amplitude against exponent; correlation of {', '.join(said)}."
    return fig, caption, alt, data


def _frontier(report: Report) -> Drawn | None:
    f, runs = report.frontier, report.fit.runs
    if f is None:
        return None
    C = runs.columns.get("C", 6 * runs.columns["P"] * runs.columns["N"])
    low, high = float(C.min()), max(float(C.max()), float(f.C.max()))
    line = frontier(report.fit, np.geomspace(low, high, 41), report.boot, level=report.level)
    fig, axes = new_figure(2, 1, height=5.0, width=WIDTH, sharex=True)
    seen = _thin(len(C))
    for ax, dots, middle, band in zip(
        axes, (runs.columns["P"], runs.loss), (line.P, line.loss), (line.P_interval, line.loss_interval), strict=True
    ):
        ax.plot(C[seen], dots[seen], color=PALETTE["sky"], marker="o", linestyle="", markersize=2.5, alpha=0.6)
        if band is not None:
            ax.fill_between(line.C, band[0], band[1], color=PALETTE["vermillion"], alpha=0.25, linewidth=0)
        ax.plot(line.C, middle, color=PALETTE["vermillion"], marker="", linestyle="-")
        ax.axvline(float(C.max()), color=PALETTE["black"], linewidth=0.9, linestyle=":")
        ax.set_xscale("log")
    axes[0].plot(f.C, f.P, color=PALETTE["vermillion"], marker="D", linestyle="", markersize=5)
    axes[1].plot(f.C, f.loss, color=PALETTE["vermillion"], marker="D", linestyle="", markersize=5)
    axes[0].set_yscale("log")
    axes[0].set_ylabel("parameters")
    axes[1].set_ylabel(f"loss, {runs.unit.removeprefix('=')}")
    axes[1].set_xlabel("compute C, FLOP")
    direct_label(axes[0], float(C.max()), float(axes[0].get_ylim()[0]), "largest run", "black", va="bottom")
    k = int(np.argmax(f.C))
    band_words = "" if f.P_interval is None else f" ({ends(f.P_interval[:, k], 2)})"
    axes[0].set_title(f"At {f.C[k]:.2g} FLOP the best size is\n{f.P[k]:.2g} parameters{band_words}")
    caption = "Compute-optimal size and the loss there; dots: the runs, diamonds: the budgets asked for."
    if band_words:
        caption += " Bands: bootstrap intervals, which do not contain the error of the law itself."
    alt = f"The best size grows from {line.P[0]:.2g} to {line.P[-1]:.2g} parameters between {low:.2g} and {high:.2g} FLOP."
    data: dict[str, Any] = {"C": line.C, "P": line.P, "loss": line.loss}
    if line.P_interval is not None and line.loss_interval is not None:
        data |= {
            "P lower": line.P_interval[0],
            "P upper": line.P_interval[1],
            "loss lower": line.loss_interval[0],
            "loss upper": line.loss_interval[1],
        }
    return fig, caption, alt, data


def _backtest(report: Report) -> Drawn | None:
    b = report.backtest
    if b is None:
        return None
    own = b.by_cut()
    fig, axes = new_figure(2, 1, height=4.8, width=WIDTH, sharex=True)
    data: dict[str, Any] = {
        "cut": b.cuts.tolist(),
        "naive coverage": [s.naive_coverage for s in own],
        "calibrated coverage": [s.coverage for s in own],
    }
    lines = [("naive", "naive coverage", "vermillion", "s", "--"), ("calibrated", "calibrated coverage", "blue", "o", "-")]
    for label, key, color, marker, dash in lines:
        axes[0].plot(b.cuts, 100 * np.array(data[key]), color=PALETTE[color], marker=marker, linestyle=dash, label=label)
    axes[0].axhline(100 * b.level, color=PALETTE["black"], linewidth=0.9, linestyle=":", label="nominal")
    axes[0].set_ylabel("held-out rows covered, %")
    axes[0].set_ylim(-4, 104)
    axes[0].legend(ncols=3, loc="lower left")
    for (name, _), color, marker, dash in zip(
        b.scores.items(), ("blue", "green", "purple"), "o^D", ("-", "-.", ":"), strict=False
    ):
        errors = np.array([100 * s.median_error for s in b.by_cut(name)])
        axes[1].plot(b.cuts, errors, color=PALETTE[color], marker=marker, linestyle=dash, label=name)
        data[f"median error of {name}, %"] = errors.tolist()
    axes[1].set_yscale("log")
    axes[1].set_ylabel("median error, %")
    axes[1].set_xlabel(f"fitted to rows with {b.by} up to")
    axes[1].set_xscale("log")
    axes[1].legend(ncols=2)
    _plain_ticks(axes[1])
    s = b.score
    axes[0].set_title(
        f"Above the cuts, {percent(s.naive_coverage)} of the rows lie in naive\nand {percent(s.coverage)} in calibrated "
        f"{percent(b.level)} intervals"
    )
    caption = (
        "Fitted below each budget, scored on all rows above it. The last value and one power law are what any law must beat."
    )
    alt = f"Over {len(b.cuts)} cuts naive intervals cover {percent(s.naive_coverage)} of held-out rows, calibrated ones "
    alt += f"{percent(s.coverage)}; "
    alt += f"the law's median error is {percent(s.median_error, 2)}."
    return fig, caption, alt, data


def _plain_ticks(ax: Axes) -> None:
    """Logarithmic ticks written out: 0.5, 1, 2, 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=10))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _laws(report: Report) -> Drawn | None:
    c = report.comparison
    if c is None or len(c.entries) < 2:
        return None
    per = 100.0 if c.unit == "ln loss" else 1.0
    fig, ax = new_figure(height=1.1 + 0.42 * len(c.entries), width=WIDTH)
    at = np.arange(len(c.entries))[::-1]
    for y, e in zip(at, c.entries, strict=True):
        color = PALETTE["blue"] if e.tied else PALETTE["vermillion"]
        if e.interval is not None:
            ax.plot(per * np.array(e.interval), [y, y], color=color, marker="|", linestyle="-", markersize=8)
        ax.plot([per * e.score], [y], color=color, marker="o" if e.tied else "s", linestyle="", markersize=6)
    ax.set_yticks(at, [e.name for e in c.entries])
    ax.set_ylim(-0.6, len(at) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"held-out {c.score} error" + (", %" if per == 100 else ""))
    tied = len(c.tied) - 1
    others = {0: "no other law is tied with it", 1: "one other law is tied with it"}.get(
        tied, f"{tied} other laws are tied with it"
    )
    ax.set_title(f"{c.best.name} is best on the held-out rows;\n{others}")
    caption = f"Scored on {c.split}; {percent(c.level)} intervals by resampling held-out runs."
    caption += " Circles: tied with the best; squares: worse."
    alt = f"Held-out errors of {len(c.entries)} laws; {c.best.name} is best with {_share(c.best.score, c.unit)}, and {others}."
    names = [e.name for e in c.entries]
    return (
        fig,
        caption,
        alt,
        {"law": names, "score": [e.score for e in c.entries], "difference": [e.difference for e in c.entries]},
    )


def _two(value: float) -> str:
    return f"{value:.2g}"


#: Heading, figure, and the table that follows it.
SECTIONS: tuple[tuple[str, Callable[[Report], Drawn | None], Callable[[Report], str] | None], ...] = (
    ("How closely the law follows its rows", _residuals, None),
    ("What the runs determine", _profiles, None),
    ("", _valley, None),
    ("Compute-optimal sizes", _frontier, _frontier_table),
    ("Beyond a budget", _backtest, _backtest_table),
    ("Other laws", _laws, _laws_table),
)
