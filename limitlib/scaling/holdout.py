"""Rolling back-tests: fit below a budget, predict every run above it, and count what the intervals cover.

:func:`backtest` reports the error and the coverage of a law next to two baselines that every law should beat. How intervals
are made, and widened, is told in :mod:`limitlib.scaling.calibration`; the widening of a cut uses nothing from above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib import checks
from limitlib.scaling import calibration
from limitlib.scaling.calibration import Forecast, Forecaster, LawForecaster
from limitlib.scaling.errors import RunsError
from limitlib.scaling.forms import law as form
from limitlib.scaling.laws import Law
from limitlib.scaling.objectives import LogHuber, Objective
from limitlib.scaling.runs import Runs

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

BASELINES = ("last-value", "single-power-law")
#: Default cuts: shares of the rows, by rank of the column that is extrapolated.
CUTS = tuple(np.linspace(0.40, 0.95, 8))
#: Rows below a cut, beyond those that a fit below an inner cut needs.
SPARE = 6
#: Rows whose errors make up the naive interval of the last value: evenly spaced ones, if there are more.
MOST_ERRORS = 500


@dataclass(frozen=True)
class LastValue:
    """The lowest loss among fitted rows that are not larger in any variable; the nearest row (in logarithms) if there is none.

    For a checkpoint beyond the end of its own run's rows this is carrying the last value forward, or better. The naive
    interval: quantiles of the errors of the same rule inside the table, each row predicted from rows below its budget.
    """

    variables: tuple[str, ...]
    by: str
    scale: str
    name: str = "last-value"
    least_runs: int = 3
    least_rows: int = 8

    def part(self, mask: NDArray[np.bool_]) -> LastValue:
        return self

    def forecast(self, runs: Runs, columns: Mapping[str, Array], level: float, rng: np.random.Generator) -> Forecast:
        at = np.log(np.stack([runs.columns[v] for v in self.variables], axis=1))
        wanted = np.log(np.stack([np.asarray(columns[v], dtype=float) for v in self.variables], axis=1))
        y, along = calibration.on_scale(runs.loss, self.scale), runs.columns[self.by]
        center = np.array([last(at, y, w) for w in wanted])
        later = np.flatnonzero(along > along.min())
        later = later[np.unique(np.linspace(0, len(later) - 1, min(MOST_ERRORS, len(later))).round().astype(int))]
        if not later.size:
            raise RunsError(f"all rows have the same {self.by}; the errors of a last value cannot be seen", column=self.by)
        before = [along < along[i] for i in later]
        error = np.array([y[i] - last(at[b], y[b], at[i]) for i, b in zip(later, before, strict=True)])
        low, high = np.quantile(error, [(1 - level) / 2, (1 + level) / 2])
        return Forecast(center, np.full(len(center), max(-low, 0.0)), np.full(len(center), max(high, 0.0)))


def last(at: Array, y: Array, wanted: Array) -> float:
    """The rule of :class:`LastValue` for one row: at (n, d) and wanted (d,) in logarithms."""
    within = (at <= wanted + 1e-12).all(axis=1)
    return float(y[within].min() if within.any() else y[np.argmin(((at - wanted) ** 2).sum(axis=1))])


@dataclass(frozen=True)
class Score:
    """Held-out errors relative to the true loss, and intervals against them; means and medians over rows.

    rows: how many; median_error, rms_error: of the size of (L^ - L) / L; bias: its mean; coverage, width: of the calibrated
    interval, the width being the median of (upper - lower) / L^; naive_coverage, naive_width: of the naive one. Rows of a
    split share one fit, and splits overlap, so that these shares are far less certain than ``rows`` suggests.
    """

    rows: int
    median_error: float
    rms_error: float
    bias: float
    coverage: float
    width: float
    naive_coverage: float
    naive_width: float

    @property
    def width_ratio(self) -> float:
        """Median calibrated over median naive width."""
        return self.width / self.naive_width if self.naive_width else float("nan")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What one law or baseline said of every held-out row, shape (m,) each, and how many inner splits each cut stands on.

    Rows of a cut at which it could not be fitted are nan. inner_splits, rate: (S,), as in ``Interval``.
    """

    name: str
    predicted: Array
    lower: Array
    upper: Array
    naive_lower: Array
    naive_upper: Array
    inner_splits: NDArray[np.int64]
    rate: Array

    def score(self, truth: Array, mask: NDArray[np.bool_] | None = None) -> Score:
        """Errors and coverage on (some of) the rows."""
        use = np.isfinite(self.predicted) if mask is None else np.isfinite(self.predicted) & mask
        if not use.any():
            return Score(0, *[float("nan")] * (len(fields(Score)) - 1))
        p, y = self.predicted[use], truth[use]
        error = (p - y) / y

        def of(low: Array, high: Array) -> tuple[float, float]:
            return float(np.mean((low[use] <= y) & (y <= high[use]))), float(np.median((high[use] - low[use]) / p))

        return Score(
            int(use.sum()), float(np.median(np.abs(error))), float(np.sqrt(np.mean(error**2))), float(np.mean(error)),
            *of(self.lower, self.upper), *of(self.naive_lower, self.naive_upper),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Backtest:
    """A rolling back-test. Every number is an estimate.

    cuts: (S,) values of ``by``, ascending; fitted_rows, fitted_runs: (S,), below each; least_runs: the smallest of them.
    For each held-out row of each cut, shape (m,): split (which cut), row (which row of the runs), truth (its loss).
    held_out: by name, the law first, then the baselines. scores: by name, over all rows of all cuts. notes: cuts that were
    left out, and why; cuts at which nothing could be calibrated.
    """

    law: str
    by: str
    level: float
    cuts: Array
    fitted_rows: NDArray[np.int64]
    fitted_runs: NDArray[np.int64]
    split: NDArray[np.int64]
    row: NDArray[np.int64]
    truth: Array
    held_out: Mapping[str, HeldOut]
    scores: Mapping[str, Score]
    notes: tuple[str, ...]
    kind: str = "estimate"

    @property
    def least_runs(self) -> int:
        return int(self.fitted_runs.min())

    @property
    def score(self) -> Score:
        """Of the law."""
        return self.scores[self.law]

    def by_cut(self, name: str | None = None) -> tuple[Score, ...]:
        """One score for each cut, of the law or of a baseline."""
        name = self.law if name is None else checks.word("name", name, self.held_out)
        return tuple(self.held_out[name].score(self.truth, self.split == k) for k in range(len(self.cuts)))

    def summary(self) -> dict[str, Any]:
        """Cuts, runs below them and all scores as plain numbers, for JSON."""
        scores = {k: asdict(v) | {"width_ratio": v.width_ratio} for k, v in self.scores.items()}
        return {
            "law": self.law, "by": self.by, "level": self.level, "kind": self.kind, "cuts": self.cuts.tolist(),
            "fitted_runs": self.fitted_runs.tolist(), "least_runs": self.least_runs, "scores": scores,
            "inner_splits": {k: h.inner_splits.tolist() for k, h in self.held_out.items()}, "notes": list(self.notes),
        }  # fmt: skip


def backtest(
    law: Law,
    runs: Runs,
    *,
    rng: np.random.Generator,
    by: str = "C",
    cuts: ArrayLike | None = None,
    objective: Objective | None = None,
    level: float = 0.95,
    n_boot: int = 200,
    baselines: Sequence[str] = BASELINES,
    progress: Progress | None = None,
) -> Backtest:
    """Fit below each cut, predict every row above it, with naive and calibrated intervals.

    by: the column that is extrapolated, positive; cuts: its values, by default those at 8 ranks of the rows between .40 and
    .95. A cut with too few rows or runs below (p + 9 rows, p runs for a law of p parameters) is left out and noted.
    baselines: "last-value", :class:`LastValue`; "single-power-law": L = E + A by^-alpha with the same objective, on all rows
    below the cut. progress: called with (done, total, what) once for each cut of the law and of each baseline.

    Raises ValueError for a column, cut, level or baseline that makes no sense, and where no cut leaves enough runs below.
    """
    if not isinstance(law, Law):
        raise TypeError(f'law={law!r} must be a law, for instance law("chinchilla")')
    if not isinstance(runs, Runs):
        raise TypeError(f"runs={runs!r} must be Runs, for instance Runs.from_frame(...)")
    level = calibration.share("level", level)
    checks.generator(rng)
    n_boot = checks.count("n_boot", n_boot, 20, "quantiles need draws")
    objective = LogHuber() if objective is None else objective
    along = np.log(calibration.budgets(runs, by))
    rules: list[Forecaster] = [LawForecaster(law, objective, n_boot)]
    for name in [baselines] if isinstance(baselines, str) else baselines:
        if checks.word("baselines", name, BASELINES) == "last-value":
            rules.append(LastValue(law.variables, by, objective.scale))
        else:
            rules.append(LawForecaster(form("power", x=by), objective, n_boot, label=name))
    kept, notes = usable(rules[0], runs, by, along, cuts)
    total, done = len(rules) * len(kept), 0
    masks = [along <= np.log(cut) + 1e-12 for cut in kept]
    held_out = {}
    for rule in rules:
        parts: list[Mapping[str, Any]] = []
        for cut, below in zip(kept, masks, strict=True):
            part, said = predicted(rule, runs, below, by, level, rng)
            parts.append(part)
            notes += [f"{rule.name}, {by} <= {cut:.3g}: {s}" for s in said]
            done += 1
            if progress:
                progress(done, total, f"back-test of {rule.name}, {by} <= {cut:.3g}")
        rows = {k: np.concatenate([p[k] for p in parts]) for k in parts[0] if k not in ("inner_splits", "rate")}
        held_out[rule.name] = HeldOut(
            rule.name, **rows, inner_splits=np.array([p["inner_splits"] for p in parts]),
            rate=np.array([p["rate"] for p in parts]),
        )  # fmt: skip
    row = np.concatenate([np.flatnonzero(~m) for m in masks])
    split = np.repeat(np.arange(len(masks)), [int((~m).sum()) for m in masks])
    truth = runs.loss[row]
    return Backtest(
        rules[0].name, by, level, np.array(kept), np.array([int(m.sum()) for m in masks]),
        np.array([len(np.unique(runs.run[m])) for m in masks]), split, row, truth, MappingProxyType(held_out),
        MappingProxyType({k: h.score(truth) for k, h in held_out.items()}), tuple(notes),
    )  # fmt: skip


def usable(rule: Forecaster, runs: Runs, by: str, along: Array, cuts: ArrayLike | None) -> tuple[list[float], list[str]]:
    """The cuts with enough below and something above, ascending; notes on the others."""
    if cuts is None:
        wanted = [float(np.exp(v)) for v in calibration.ranked(along, CUTS)]
    else:
        wanted = sorted({float(v) for v in np.atleast_1d(checks.above("cuts", cuts, 0.0)).ravel()})
        top = np.exp(along.max())
        if not wanted or wanted[-1] >= top * (1 - 1e-12):
            raise ValueError(f"cuts={cuts!r} must have values below the largest {by}, {top:.4g}, so that rows lie above each")
    kept, notes = [], []
    for cut in wanted:
        short = calibration.too_small(rule, runs, along <= np.log(cut) + 1e-12, SPARE)
        if short:
            notes.append(f"cut {by} <= {cut:.3g} left out: {short}")
        else:
            kept.append(cut)
    if not kept:
        raise ValueError(f"no cut leaves enough below it for {rule.name!r} ({'; '.join(notes) or f'{by} has one value'}); "
                         "give more runs, larger cuts or a law with fewer parameters")  # fmt: skip
    return kept, notes


def predicted(
    rule: Forecaster, runs: Runs, below: NDArray[np.bool_], by: str, level: float, rng: np.random.Generator
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a rule that sees only the rows below says of the rows above."""
    train, rest = runs.select(below), runs.select(~below)
    part = rule.part(below)
    try:
        naive = part.forecast(train, rest.columns, level, rng)
    except RunsError as reason:
        nothing = np.full(len(rest), np.nan)
        names = ("predicted", "lower", "upper", "naive_lower", "naive_upper")
        return dict.fromkeys(names, nothing) | {"inner_splits": 0, "rate": np.nan}, (f"not predicted: {reason}",)
    growth, notes = calibration.measure(part, train, by, level, rng, lambda _: None)
    distance = np.log(rest.columns[by] / train.columns[by].max())
    low, high = calibration.bounds(growth.widen(naive, distance), rule.scale)
    naive_low, naive_high = calibration.bounds(naive, rule.scale)
    found = {
        "predicted": calibration.off_scale(naive.center, rule.scale), "lower": low, "upper": high, "naive_lower": naive_low,
        "naive_upper": naive_high, "inner_splits": growth.splits, "rate": growth.rate,
    }  # fmt: skip
    return found, notes
