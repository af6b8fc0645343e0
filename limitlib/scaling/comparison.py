"""Which law, and how much the answer depends on the choices: held-out score first, ties said; the specification curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr

from limitlib import checks
from limitlib.scaling.errors import RunsError
from limitlib.scaling.fitting import Fit, quantiles, unwrapped
from limitlib.scaling.forms import law as law_by_name
from limitlib.scaling.laws import Law
from limitlib.scaling.objectives import Base, LeastSquares, LogHuber, Objective, Weighted
from limitlib.scaling.quantities import Quantity, label_of, percent, spread_of, value_of

if TYPE_CHECKING:
    from limitlib.scaling.runs import Runs

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

#: Held-out runs below which no interval is given.
FEW_RUNS = 3
#: Held-out runs below which intervals are called rough.
ROUGH = 10
#: Numbers that a block of resamples may hold.
BLOCK = 4_000_000
#: What the two kinds of an objective's AIC rest on.
GAUSSIAN = "least squares is the likelihood of independent Gaussian errors of equal size; its AIC has meaning where those hold"
HUBER = ("quasi-AIC: the likelihood of independent errors with density proportional to exp(-Huber/scale), scale fitted; it has "
         "meaning only where the residuals follow that density")  # fmt: skip


@dataclass(frozen=True, eq=False)
class ComparedLaw:
    """One law in a comparison. kind: estimates.

    fit: to the rows below the budget. errors: (m,) held-out ln L - ln L^ (L - L^ for objectives on the raw scale). score:
    median or root mean square of the absolute errors; interval: of the score, by resampling held-out runs, or None.
    difference: score minus the best law's; difference_interval: of that, resampled in pairs; tied: the interval covers 0 (True
    for the best itself). aic: of the fit to all rows, or None where it would mean nothing.
    """

    name: str
    law: Law
    fit: Fit
    errors: Array
    score: float
    interval: tuple[float, float] | None
    difference: float
    difference_interval: tuple[float, float] | None
    tied: bool
    aic: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Laws by their held-out score, the best first. score: "median" or "rms"; unit: of the errors; split: in words.

    aic_basis: for which errors the AIC has meaning, or why there is none. failed: laws that could not be fitted, and why.
    """

    entries: tuple[ComparedLaw, ...]
    score: str
    unit: str
    split: str
    held_out_rows: int
    held_out_runs: int
    level: float
    aic_basis: str
    failed: Mapping[str, str]
    notes: tuple[str, ...] = ()
    kind: str = "estimate"

    @property
    def best(self) -> ComparedLaw:
        return self.entries[0]

    @property
    def tied(self) -> tuple[str, ...]:
        """The laws that these held-out runs cannot tell from the best, itself included."""
        return tuple(e.name for e in self.entries if e.tied)

    def words(self) -> str:
        """The outcome in sentences: held-out score first, ties said, AIC second."""
        best, how = self.best, {"median": "median", "rms": "root-mean-square"}[self.score]
        said = [f"{best.name} has the smallest held-out {how} error, {_size(best.score, self.unit)}"
                f"{_between(best.interval, self.unit, self.level)}, on {self.split}."]  # fmt: skip
        for e in self.entries[1:]:
            if e.difference_interval is None:
                said.append(f"{e.name} is {_size(e.difference, self.unit)} worse; {self.held_out_runs} held-out runs are too "
                            "few to tell whether that is chance.")  # fmt: skip
                continue
            between = f"{_size(e.difference, self.unit)} worse{_between(e.difference_interval, self.unit, self.level)}"
            tie = "is tied with it: " if e.tied else "is "
            said.append(f"{e.name} {tie}{between}{', an interval that covers 0' if e.tied else ''}.")
        known = sorted((e for e in self.entries if e.aic is not None), key=lambda e: e.aic or 0.0)
        if len(known) > 1:
            rest = ", ".join(f"{e.name} +{(e.aic or 0) - (known[0].aic or 0):.1f}" for e in known[1:])
            said.append(f"By AIC, second: {known[0].name} is lowest; {rest}. The basis: {self.aic_basis}.")
        else:
            said.append(f"No AIC: {self.aic_basis}.")
        said += [f"{name} could not be fitted: {why}" for name, why in self.failed.items()]
        return "\n".join([*said, *self.notes])

    def table(self) -> str:
        """The numbers as text."""
        sure = f"{percent(self.level)} interval"
        rows = [("law", f"held-out {self.score}", sure, "worse by", sure, "", "AIC")]
        lowest = min((e.aic for e in self.entries if e.aic is not None), default=0.0)
        for e in self.entries:
            rows.append((
                e.name, _size(e.score, self.unit), _interval(e.interval, self.unit), _size(e.difference, self.unit),
                _interval(e.difference_interval, self.unit), "best" if e is self.best else "tied" if e.tied else "worse",
                "-" if e.aic is None else f"+{e.aic - lowest:.1f}",
            ))  # fmt: skip
        return aligned(rows)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        laws = [
            {"name": e.name, "formula": e.law.formula, "parameters": e.law.p, "score": e.score, "interval": e.interval,
             "difference": e.difference, "difference_interval": e.difference_interval, "tied": e.tied, "aic": e.aic}
            for e in self.entries
        ]  # fmt: skip
        return {"score": self.score, "unit": self.unit, "split": self.split, "held_out_rows": self.held_out_rows,
                "held_out_runs": self.held_out_runs, "level": self.level, "laws": laws, "aic_basis": self.aic_basis,
                "failed": dict(self.failed), "notes": list(self.notes), "words": self.words()}  # fmt: skip


def compare(
    laws: Sequence[str | Law] | Mapping[str, Law], runs: Runs, *, rng: np.random.Generator, objective: Objective | None = None,
    holdout: float | str = 0.2, by: str = "C", score: str = "median", n: int = 2000, level: float = 0.95,
    progress: Progress | None = None,
) -> Comparison:  # fmt: skip
    """Fit every law below a budget and score it above; the held-out score decides, the AIC comes second.

    laws: names or laws, or a mapping from names of your own. objective: of all fits, ``LogHuber(1e-3)`` if None. holdout: the
    share of the runs, those with the largest ``by``, that is held out whole; or a condition such as ``"C > 1e21"`` for the rows
    to be held out, which may leave other rows of the same runs in the fit (noted). score: "median" or "rms" of the absolute
    held-out errors. n: resamples of the held-out runs, the same for every law, so that differences are paired. A law is called
    tied with the best where the interval of their paired difference covers 0; intervals are one by one, not simultaneous.

    Raises ValueError if no law can be fitted or no row is held out, and for weights given as an array (name a column instead).
    """
    checks.generator(rng)
    checks.word("score", score, ("median", "rms"))
    checks.count("n", n, 1)
    named = _named(laws)
    objective = LogHuber() if objective is None else objective
    if isinstance(objective, Weighted) and not isinstance(objective.weights, str):
        raise ValueError("weights given as an array do not follow the rows into parts of the table; name a column of the runs")
    below, above, split, notes = _split(runs, holdout, by)
    raw = unwrapped(objective, runs)[0].scale == "raw"
    fits: dict[str, Fit] = {}
    errors: dict[str, Array] = {}
    whole: dict[str, Fit] = {}
    failed: dict[str, str] = {}
    for k, (name, one) in enumerate(named.items()):
        if progress:
            progress(k, len(named), f"comparing: {name}")
        try:
            fits[name], whole[name] = one.fit(below, objective), one.fit(runs, objective)
            predicted = fits[name].predict(**{v: above.columns[v] for v in one.variables})
        except (RunsError, ValueError) as error:
            failed[name] = str(error)
            fits.pop(name, None)
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            off = above.loss - predicted if raw else np.log(above.loss) - np.log(predicted)
        errors[name] = np.where(np.isnan(off), np.inf, off)
    if not fits:
        raise ValueError("no law could be fitted: " + "; ".join(f"{k}: {v}" for k, v in failed.items()))
    if FEW_RUNS <= _run_count(above) < ROUGH:
        few = f"{_run_count(above)} held-out runs are few: intervals resampled from them are too narrow"
        notes.append(f"{few}, and a difference may look real that is not.")
    notes += [f"The fit of {k} below the budget did not converge; its score is of the best point found."
              for k, f in fits.items() if not f.certificate.converged]  # fmt: skip
    aics, basis = _aics(whole, runs, objective)
    return Comparison(
        _ranked(named, fits, errors, aics, above, score, rng, n, level), score,
        "loss" if raw else "ln loss", split, len(above), _run_count(above), level, basis, failed, tuple(notes),
    )  # fmt: skip


def _named(laws: Sequence[str | Law] | Mapping[str, Law]) -> dict[str, Law]:
    if isinstance(laws, Mapping):
        return dict(laws)
    if isinstance(laws, str | Law):
        laws = [laws]
    made = [law_by_name(one) if isinstance(one, str) else one for one in laws]
    if not made:
        raise ValueError("laws is empty; give names such as 'chinchilla', or laws")
    for one in made:
        if not isinstance(one, Law):
            raise TypeError(f"laws has a {type(one).__name__}; it must hold laws or their names, such as 'chinchilla'")
    names = [one.name for one in made]
    labels = [f"{one.name}: {one.formula}" if names.count(one.name) > 1 else one.name for one in made]
    return dict(zip(labels, made, strict=True))


def _run_count(runs: Runs) -> int:
    return len(np.unique(runs.run))


def _split(runs: Runs, holdout: float | str, by: str) -> tuple[Runs, Runs, str, list[str]]:
    """Rows to fit, rows to score, the split in words, notes."""
    if isinstance(holdout, str):
        above = runs.where(holdout)
        kept = np.setdiff1d(np.arange(len(runs)), np.flatnonzero(np.isin(runs.rows, above.rows)))
        if not kept.size:
            raise ValueError(f"holdout={holdout!r} holds out every row, so that none is left to fit; hold out fewer")
        below = runs.select(kept)
        shared = len(set(below.run_names) & set(above.run_names))
        split = f"{len(above)} rows of {_run_count(above)} runs with {holdout}"
        return below, above, split, [f"{shared} runs have rows on both sides of the split."] if shared else []
    share = checks.real("holdout", holdout, least=0.0, exclusive=True)
    if share >= 1:
        raise ValueError(f"holdout={holdout!r} must be a share below 1, or a condition such as 'C > 1e21'")
    values = runs.columns.get(by)
    if values is None:
        raise ValueError(f"by={by!r} is no column of the runs, only {', '.join(runs.columns)}; split by one of those")
    names, codes = np.unique(runs.run, return_inverse=True)
    largest = np.full(len(names), -np.inf)
    np.maximum.at(largest, codes, values)
    order = np.argsort(largest, kind="stable")
    count = min(max(1, round(share * len(names))), len(names) - 1)
    budget = largest[order[len(names) - count - 1]]
    out = np.isin(codes, order[len(names) - count :])
    scored = out & (values > budget)
    if not scored.any():
        raise ValueError(f"no run has {by} above {budget:.3g}, where the split by {by} falls: too many runs share one value; "
                         f"split by a condition instead, holdout='{by} >= ...'")  # fmt: skip
    below, above = runs.select(~out), runs.select(scored)
    return below, above, f"{len(above)} rows of the {_run_count(above)} runs with {by} above {budget:.3g}", []


def _ranked(
    named: Mapping[str, Law], fits: Mapping[str, Fit], errors: Mapping[str, Array], aics: Mapping[str, float | None],
    above: Runs, score: str, rng: np.random.Generator, n: int, level: float,
) -> tuple[ComparedLaw, ...]:  # fmt: skip
    _, codes = np.unique(above.run, return_inverse=True)
    clusters = int(codes.max()) + 1
    sizes = {name: np.abs(e) for name, e in errors.items()}
    once = {name: float(_scores(s, np.asarray(above.weight)[None], score)[0]) for name, s in sizes.items()}
    order = sorted(once, key=lambda name: once[name])
    drawn: dict[str, Array] = {}
    if clusters >= FEW_RUNS:
        counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=n)
        step = max(1, BLOCK // len(codes))
        for name in order:
            parts = [_scores(sizes[name], counts[i : i + step][:, codes] * above.weight, score) for i in range(0, n, step)]
            drawn[name] = np.concatenate(parts)
    found = []
    for name in order:
        gap, between = once[name] - once[order[0]], None
        if drawn:
            with np.errstate(invalid="ignore"):
                between = quantiles(drawn[name] - drawn[order[0]], level) if np.isfinite(once[name]) else (np.inf, np.inf)
        tied = name == order[0] or (between is None and bool(np.isfinite(gap))) or (between is not None and between[0] <= 0)
        found.append(ComparedLaw(
            name, named[name], fits[name], errors[name], once[name], quantiles(drawn[name], level) if drawn else None, gap,
            between, tied, aics.get(name),
        ))  # fmt: skip
    return tuple(found)


def _scores(size: Array, weight: Array, score: str) -> Array:
    """Weighted median or root mean square (B,) of sizes (m,) under weights (B, m)."""
    total = weight.sum(axis=1)
    if score == "rms":
        return np.sqrt(weight @ size**2 / total)
    order = np.argsort(size, kind="stable")
    mass = np.cumsum(weight[:, order], axis=1)
    # the middle of the two values between which half of the weight lies, as a plain median has it
    lower = np.argmax(mass >= 0.5 * total[:, None] * (1 - 1e-12), axis=1)
    upper = np.argmax(mass > 0.5 * total[:, None] * (1 + 1e-12), axis=1)
    return np.asarray((size[order[lower]] + size[order[upper]]) / 2)


def _aics(fits: Mapping[str, Fit], runs: Runs, objective: Objective) -> tuple[dict[str, float | None], str]:
    base = unwrapped(objective, runs)[0]
    if _run_count(runs) < len(runs):
        return {}, "rows of one run are not independent, so that no likelihood of the rows is known"
    if isinstance(objective, Weighted) or (np.asarray(runs.weight) != 1).any():
        return {}, "the rows are weighted, and weights that are no counts have no likelihood"
    exact = [k for k, f in fits.items() if f.value <= 1e-25 * len(runs)]
    if exact:
        return {}, f"{exact[0]} fits every row exactly, so that its likelihood is unbounded"
    return ({k: aic_of(f.value, len(runs), f.law.p, base) for k, f in fits.items()},
            GAUSSIAN if isinstance(base, LeastSquares) else HUBER)  # fmt: skip


def aic_of(value: float, rows: int, parameters: int, objective: Base) -> float:
    """-2 ln likelihood + 2 (parameters + 1) of n independent errors with density exp(-rho(r)/s) / Z(s), at the best scale s.

    value: sum of rho over the rows. For least squares this is the Gaussian AIC, n ln(2 pi RSS/n) + n + 2 (parameters + 1).
    """
    if isinstance(objective, LeastSquares):
        return float(rows * (np.log(2 * np.pi * 2 * value / rows) + 1) + 2 * (parameters + 1))
    delta = objective.delta

    def cost(log_scale: float) -> float:
        s = np.exp(log_scale)
        inside = 0.5 * np.log(2 * np.pi * s) + np.log1p(-2 * np.exp(log_ndtr(-delta / np.sqrt(s))))
        outside = np.log(2 * s / delta) - delta**2 / (2 * s)
        return float(2 * value / s + 2 * rows * np.logaddexp(inside, outside))

    middle = np.log(value / rows)
    best = minimize_scalar(cost, bounds=(middle - 5, middle + 5), method="bounded", options={"xatol": 1e-10})
    return float(best.fun + 2 * (parameters + 1))


# ------------------------------------------------------------------------------------------------------- specification curve


@dataclass(frozen=True, eq=False)
class Specification:
    """One way to do it. value: the quantity, or nan with the reason in ``problem``; fit: None then."""

    filter: str
    objective: str
    form: str
    counting: str
    value: float
    rows: int
    fit: Fit | None
    problem: str = ""

    @property
    def choices(self) -> dict[str, str]:
        return {"filter": self.filter, "objective": self.objective, "form": self.form, "counting": self.counting}


@dataclass(frozen=True, eq=False)
class SpecCurve:
    """A quantity over all combinations of choices, sorted by value. kind: estimates.

    base: the first choice of each kind; standard_error: of the base fit, by its bootstrap over runs. moves: for each kind of
    choice with several options, the median over all other choices of the range that it alone spans.
    """

    quantity: str
    specs: tuple[Specification, ...]
    base: Specification
    standard_error: float
    moves: Mapping[str, float]
    kind: str = "estimate"

    @property
    def values(self) -> Array:
        """The quantity of every specification that could be fitted, ascending."""
        return np.array([s.value for s in self.specs if not s.problem])

    @property
    def most(self) -> str:
        """The kind of choice that moves the quantity most; "" if nothing was varied."""
        return max(self.moves, key=lambda k: self.moves[k], default="")

    def words(self) -> str:
        known = self.values
        said = f"{self.quantity} runs from {known[0]:.4g} to {known[-1]:.4g} over {len(known)} specifications; the base has "
        said += f"{self.base.value:.4g} with a standard error of {self.standard_error:.2g}, and the specifications span "
        said += f"{np.ptp(known) / self.standard_error:.1f} of those." if self.standard_error > 0 else f"{np.ptp(known):.2g}."
        if self.most:
            rest = ", ".join(f"{k} by {v:.2g}" for k, v in sorted(self.moves.items(), key=lambda kv: -kv[1]))
            said += f" What moves it most is the {self.most} (median range over the other choices: {rest})."
        lost = len(self.specs) - len(known)
        return said + (f" {lost} specifications could not be fitted." if lost else "")

    def table(self) -> str:
        rows: list[tuple[str, ...]] = [("", self.quantity, "filter", "objective", "form", "counting", "rows", "starts agree")]
        for s in self.specs:
            agree = percent(s.fit.certificate.share_agreeing) if s.fit else s.problem
            mark = "base" if s is self.base else ""
            rows.append((mark, f"{s.value:.4g}", *s.choices.values(), str(s.rows), agree))
        return aligned(rows)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [
            {**s.choices, "value": None if s.problem else s.value, "rows": s.rows, "problem": s.problem, "base": s is self.base}
            for s in self.specs
        ]
        return {"quantity": self.quantity, "standard_error": self.standard_error, "moves": dict(self.moves), "specs": rows,
                "words": self.words()}  # fmt: skip


def spec_curve(
    runs: Runs, *, rng: np.random.Generator, filters: Sequence[str | None] | Mapping[str, str | None] = (None,),
    deltas: Sequence[float | Objective] = (1e-3, 1e-2, 1e-4), forms: Sequence[str | Law] | Mapping[str, Law] = ("chinchilla",),
    counting: Mapping[str, str] | None = None, quantity: Quantity = "a", boot: int = 400, progress: Progress | None = None,
) -> SpecCurve:  # fmt: skip
    """A quantity for every combination of run filter, objective, form and counting, beside the standard error of the first.

    filters: conditions such as ``"C < 1e21"``, None for all rows; or a mapping from names. deltas: of ``LogHuber``, or
    objectives. forms: names or laws. counting: {"total": "P", "non-embedding": "P_body"}, the column that takes the place of P;
    C stays as the table has it. quantity: "a", the exponent of the compute-optimal size (``beta / (alpha + beta)`` for the
    chinchilla form), a parameter's name, or a function of the fit that returns a number. The first entry of each is the base,
    whose standard error comes from ``boot`` resamples of its runs.

    A combination that cannot be fitted keeps its place with the reason. Raises ValueError if the base cannot be.
    """
    checks.generator(rng)
    checks.count("boot", boot, 20)
    kept = dict(filters) if isinstance(filters, Mapping) else {("all rows" if f is None else f): f for f in filters}
    made = [d if isinstance(d, LogHuber | LeastSquares | Weighted) else LogHuber(d) for d in deltas]
    objectives = {_short(o): o for o in made}
    shapes = _named(forms)
    counts = {"as given": "P"} if counting is None else dict(counting)
    if not kept or not objectives or not counts:
        raise ValueError("filters, deltas and counting must each offer at least one choice")
    for name, column in counts.items():
        if counting is not None and column not in runs.columns:
            raise ValueError(f"counting[{name!r}]={column!r} is no column of the runs; there are: {', '.join(runs.columns)}")
    specs: list[Specification] = []
    parts: dict[str, Runs | str] = {}
    for name, condition in kept.items():
        try:
            parts[name] = runs if condition is None else runs.where(condition)
        except RunsError as error:
            parts[name] = str(error)
    total = len(kept) * len(objectives) * len(shapes) * len(counts)
    for f, o, form, c in product(kept, objectives, shapes, counts):
        if progress:
            progress(len(specs), total, "specification curve")
        specs.append(_one(parts[f], (f, o, form, c), objectives[o], shapes[form], counts[c], quantity))
    base = specs[0]
    if base.fit is None:
        raise ValueError(f"the base specification ({', '.join(base.choices.values())}) cannot be fitted: {base.problem}")
    spread = spread_of(base.fit.boot(boot, rng=rng), quantity)
    order = sorted(specs, key=lambda s: (bool(s.problem), s.value))
    return SpecCurve(label_of(quantity), tuple(order), base, spread, _moves(specs))


def _one(
    part: Runs | str, choices: tuple[str, str, str, str], objective: Objective, shape: Law, column: str, quantity: Quantity
) -> Specification:
    if isinstance(part, str):
        return Specification(*choices, np.nan, 0, None, part)
    table = part if column == "P" else replace(part, columns={**part.columns, "P": part.columns[column]})
    try:
        found = shape.fit(table, objective)
        return Specification(*choices, value_of(found, quantity), len(table), found)
    except ValueError as error:
        return Specification(*choices, np.nan, len(table), None, str(error))


def _moves(specs: Sequence[Specification]) -> dict[str, float]:
    found = {}
    for kind in ("filter", "objective", "form", "counting"):
        groups: dict[tuple[str, ...], list[float]] = {}
        for s in specs:
            if not s.problem:
                groups.setdefault(tuple(v for k, v in s.choices.items() if k != kind), []).append(s.value)
        ranges = [float(np.ptp(v)) for v in groups.values() if len(v) > 1]
        if ranges:
            found[kind] = float(np.median(ranges))
    return found


# --------------------------------------------------------------------------------------------------------------------- words


def _short(objective: Objective) -> str:
    if isinstance(objective, Weighted):
        by = objective.weights if isinstance(objective.weights, str) else "weights"
        return f"{_short(objective.objective)} x {by}"
    if isinstance(objective, LogHuber):
        return f"huber {objective.delta:g}"
    return "squares of ln loss" if objective.scale == "log" else "squares of loss"


def _size(value: float, unit: str) -> str:
    return f"{100 * value:.3g} %" if unit == "ln loss" else f"{value:.3g}"


def _interval(ends: tuple[float, float] | None, unit: str) -> str:
    return "-" if ends is None else f"{_size(ends[0], unit)} to {_size(ends[1], unit)}"


def _between(ends: tuple[float, float] | None, unit: str, level: float) -> str:
    return "" if ends is None else f" ({percent(level)} interval {_interval(ends, unit)})"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in columns, the first row a heading, numbers to the right."""
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    numeric = [all(c[:1] in "+-.0123456789n" for r in rows[1:] if (c := r[k])) for k in range(len(widths))]
    sides = list(zip(widths, numeric, strict=True))
    lines = ("  ".join(c.rjust(w) if right else c.ljust(w) for c, (w, right) in zip(r, sides, strict=True)) for r in rows)
    return "\n".join(line.rstrip() for line in lines)
