"""Prediction intervals beyond the fitted range, widened by what extrapolations inside the table got wrong.

The usual interval of an extrapolated law, a bootstrap of the fit plus the scatter of its residuals, knows nothing of the error
of the law itself, which grows with the distance from the data: on published runs, 95 % intervals of this kind cover between
40 and 99 % of the runs with larger budgets. :func:`calibrated_interval` measures that growth where it can be seen. It cuts
the table at several smaller budgets, fits below each cut, and asks how much had to be added to the naive half-width, in
proportion to the distance from the cut, to cover the runs above it. The same is then added beyond the whole table.

An estimate, not a guarantee: the budgets that count lie outside of all that was observed. A break above the table is not
covered, and an error that grows faster than the distance is covered less often than the level says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from limitlib import checks
from limitlib.scaling.errors import RunsError
from limitlib.scaling.fitting import Fit
from limitlib.scaling.laws import Law
from limitlib.scaling.objectives import Objective, Weighted
from limitlib.scaling.published import FLOPS_PER_PARAM_TOKEN
from limitlib.scaling.runs import Runs

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

# Chosen on simulated tables and on the Chinchilla runs, before any other table was looked at.
#: Where the table is cut for the inner back-test: shares of the rows, by rank.
INNER_CUTS = tuple(np.linspace(0.35, 0.93, 8))
#: Distances ln(budget / largest fitted budget) below this count as this: next to a cut noise would look like growth.
NEAR = 0.3
#: Rows beyond the number of parameters that a fit below an inner cut needs.
INNER_SPARE = 3
#: Inner cuts below which nothing is measured: the naive interval is multiplied by ``UNMEASURED`` then.
LEAST_SPLITS = 3
UNMEASURED = 2.0
#: Residuals drawn for each bootstrap draw.
RESIDUALS = 8


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predictions (m,) on the scale of the errors, with the naive interval: offsets below and above, both >= 0."""

    center: Array
    below: Array
    above: Array

    def half_width(self, error: Array) -> Array:
        """The offset on the side of each error."""
        return np.where(error < 0, self.below, self.above)


class Forecaster(Protocol):
    """Something that predicts rows from other rows, with a naive interval. scale: of the errors, "log" or "raw"."""

    @property
    def name(self) -> str: ...

    @property
    def scale(self) -> str: ...

    @property
    def least_runs(self) -> int: ...

    @property
    def least_rows(self) -> int: ...

    def forecast(self, runs: Runs, columns: Mapping[str, Array], level: float, rng: np.random.Generator) -> Forecast: ...

    def part(self, mask: NDArray[np.bool_]) -> Forecaster:
        """The same for a part of the rows it was made for."""


@dataclass(frozen=True, eq=False)
class LawForecaster:
    """A law: its fit, a bootstrap by run, and residuals inflated by sqrt(n / (n - p)).

    fit: of all rows, if there is one already.
    """

    law: Law
    objective: Objective
    draws: int
    fit: Fit | None = None
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.law.name

    @property
    def scale(self) -> str:
        return self.objective.scale

    @property
    def least_runs(self) -> int:
        return max(3, self.law.p)

    @property
    def least_rows(self) -> int:
        return self.law.p + INNER_SPARE

    def part(self, mask: NDArray[np.bool_]) -> LawForecaster:
        return replace(self, objective=part_of(self.objective, mask), fit=None)

    def forecast(self, runs: Runs, columns: Mapping[str, Array], level: float, rng: np.random.Generator) -> Forecast:
        fit = self.law.fit(runs, self.objective) if self.fit is None else self.fit
        center = on_scale(fit.predict(**columns), self.scale)
        drawn = on_scale(fit.boot(self.draws, rng=rng).predict(**columns), self.scale) - center
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        if not len(drawn):
            raise RunsError(f"no bootstrap draw of the law {self.name!r} has a finite prediction; fit fewer parameters")
        n = len(runs)
        scatter = fit.residuals * np.sqrt(n / max(n - self.law.p, 1))
        error = (drawn[None] + rng.choice(scatter, size=(RESIDUALS, *drawn.shape))).reshape(-1, drawn.shape[1])
        low, high = np.quantile(error, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return Forecast(center, np.maximum(-low, 0.0), np.maximum(high, 0.0))


@dataclass(frozen=True)
class Growth:
    """What the inner back-test measured.

    splits: inner cuts; rate: what is added in quadrature to the naive half-width for each unit of ln(budget / largest fitted
    budget), nan where nothing was measured; small_sample: the factor within it that makes up for the few splits;
    naive_coverage: share of the rows above an inner cut that the naive interval covers, mean over splits; coverage: the same
    of the widened one, its rate measured on the other splits.
    """

    splits: int
    rate: float
    small_sample: float
    naive_coverage: float
    coverage: float

    def widen(self, forecast: Forecast, distance: Array) -> Forecast:
        if self.splits < LEAST_SPLITS:
            return replace(forecast, below=UNMEASURED * forecast.below, above=UNMEASURED * forecast.above)
        return widened(forecast, self.rate, distance)


@dataclass(frozen=True, eq=False)
class Interval:
    """Prediction intervals (m,) of losses, naive and calibrated: estimates.

    distance: ln(by / largest fitted value), 0 inside the range; multiplier: calibrated over naive width; inner_splits: inner
    cuts that the widening stands on; rate: half-width added in quadrature for each unit of distance, of the loss' logarithm or
    of the loss as the objective has it (nan if nothing was measured); small_sample: factor within it for the few splits;
    inner_naive_coverage, inner_coverage: shares of rows above the inner cuts that the naive interval and the calibrated one
    (its rate measured on the other cuts) covered, nan if nothing was measured; notes: what was assumed, left out or not
    possible.
    """

    predicted: Array
    lower: Array
    upper: Array
    naive_lower: Array
    naive_upper: Array
    multiplier: Array
    distance: Array
    level: float
    by: str
    inner_splits: int
    rate: float
    small_sample: float
    inner_naive_coverage: float
    inner_coverage: float
    notes: tuple[str, ...]
    kind: str = "estimate"


def calibrated_interval(
    fit: Fit,
    columns: Mapping[str, ArrayLike],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    by: str = "C",
    n_boot: int = 200,
    progress: Progress | None = None,
) -> Interval:
    """Prediction intervals of new runs' losses, widened by the errors of extrapolations inside the fitted table.

    columns: what the law needs, and ``by``, the column along which the fit is extrapolated (``C`` may be left out where ``N``
    and ``P`` are given: 6 N P). The naive interval: quantiles of a bootstrap by run (``n_boot`` draws) plus a residual.

    The inner back-test: cuts at 8 ranks between .35 and .93 of ``by``; below each the law is fitted, and tau_j is the smallest
    number such that sqrt(naive^2 + (tau_j max(h, 0.3))^2), h = ln(by / largest below the cut), covers the share ``level`` of
    the rows above. The rate is the mean of tau_j, times the quantile of Student's t with half as many degrees of freedom as
    there are splits (nested splits overlap) over that of the normal. With fewer than 3 inner splits nothing can be measured:
    the naive half-widths are doubled and the notes say so. progress: called with (done, total, what).

    Raises ValueError for a level outside (0, 1), for columns that are missing, whose shapes do not fit, or that are not
    positive where a logarithm is taken.
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"fit={fit!r} must be a Fit; make one with law(...).fit(runs)")
    level = share("level", level)
    checks.generator(rng)
    n_boot = checks.count("n_boot", n_boot, 20, "quantiles need draws")
    wanted, along = targets(fit, columns, by)
    fitted = budgets(fit.runs, by)
    forecaster = LawForecaster(fit.law, fit.objective, n_boot, fit)
    said = steps(progress, "inner back-test")
    growth, notes = measure(forecaster, fit.runs, by, level, rng, said)
    naive = forecaster.forecast(fit.runs, wanted, level, rng)
    distance = np.maximum(along - np.log(fitted.max()), 0.0)
    wide = growth.widen(naive, distance)
    inside = int((distance == 0).sum())
    if inside and growth.splits >= LEAST_SPLITS:
        notes = (*notes, f"{inside} rows lie inside the fitted range of {by}: widened as at a distance of {NEAR:g}")
    low, high = bounds(wide, forecaster.scale)
    naive_low, naive_high = bounds(naive, forecaster.scale)
    return Interval(
        off_scale(naive.center, forecaster.scale), low, high, naive_low, naive_high,
        ratio(wide, naive), distance, level, by, growth.splits, growth.rate, growth.small_sample,
        growth.naive_coverage, growth.coverage, notes,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- the inner back-test


def measure(
    forecaster: Forecaster, runs: Runs, by: str, level: float, rng: np.random.Generator, said: Callable[[str], None]
) -> tuple[Growth, tuple[str, ...]]:
    """The growth of the errors beyond cuts inside the table, and notes on cuts that could not be used."""
    along = np.log(budgets(runs, by))
    splits: list[tuple[Forecast, Array, Array]] = []
    notes: list[str] = []
    for cut in ranked(along, INNER_CUTS):
        below = along <= cut
        short = too_small(forecaster, runs, below)
        if short:
            continue
        said(f"{forecaster.name}: {by} <= {np.exp(cut):.3g}")
        train, rest = runs.select(below), runs.select(~below)
        try:
            forecast = forecaster.part(below).forecast(train, rest.columns, level, rng)
        except RunsError as reason:
            notes.append(f"inner cut {by} <= {np.exp(cut):.3g} left out: {reason}")
            continue
        splits.append((forecast, on_scale(rest.loss, forecaster.scale) - forecast.center, along[~below] - cut))
    if len(splits) < LEAST_SPLITS:
        notes.append(
            f"too few runs for an inner back-test ({len(splits)} usable cuts, {LEAST_SPLITS} needed): the naive half-widths "
            f"are multiplied by {UNMEASURED:g}, and nothing measured whether that is enough"
        )
        return Growth(len(splits), np.nan, np.nan, np.nan, np.nan), tuple(notes)
    needed = np.array([needed_rate(*s, level) for s in splits])
    factor = small_sample(len(splits), level)
    plain = float(np.mean([covered(f, e).mean() for f, e, _ in splits]))
    others = (needed.sum() - needed) / (len(needed) - 1) * small_sample(len(splits) - 1, level)
    held = float(np.mean([covered(widened(f, r, h), e).mean() for (f, e, h), r in zip(splits, others, strict=True)]))
    return Growth(len(splits), float(needed.mean() * factor), factor, plain, held), tuple(notes)


def needed_rate(forecast: Forecast, error: Array, distance: Array, level: float) -> float:
    """The smallest rate with which the widened interval covers the share ``level`` of these errors."""
    beyond = np.sqrt(np.maximum(error**2 - forecast.half_width(error) ** 2, 0.0)) / np.maximum(distance, NEAR)
    return float(np.quantile(beyond, level, method="higher"))


def small_sample(splits: int, level: float) -> float:
    """Quantile of Student's t over that of the normal, for a scale known from so many overlapping splits."""
    at = (1 + level) / 2
    return float(t.ppf(at, max(1.0, splits / 2)) / norm.ppf(at))


def widened(forecast: Forecast, rate: float, distance: Array) -> Forecast:
    added = rate * np.maximum(distance, NEAR)
    return replace(forecast, below=np.hypot(forecast.below, added), above=np.hypot(forecast.above, added))


def covered(forecast: Forecast, error: Array) -> NDArray[np.bool_]:
    return np.asarray((error >= -forecast.below) & (error <= forecast.above))


def ratio(wide: Forecast, naive: Forecast) -> Array:
    """Width over width; 1 where both are zero."""
    a, b = wide.below + wide.above, naive.below + naive.above
    return np.divide(a, b, out=np.where(a > 0, np.inf, 1.0), where=b > 0)


def ranked(along: Array, shares: tuple[float, ...]) -> list[float]:
    """Distinct values at these ranks, the largest excepted: nothing would lie above it."""
    found = np.unique(np.quantile(along, shares, method="lower"))
    return [float(v) for v in found if v < along.max()]


def too_small(forecaster: Forecaster, runs: Runs, mask: NDArray[np.bool_], spare: int = 0) -> str:
    """Why these rows are too few for a fit, or "" if they are enough."""
    rows, n_runs = int(mask.sum()), len(np.unique(runs.run[mask]))
    least = forecaster.least_rows + spare
    if n_runs < forecaster.least_runs:
        return f"{n_runs} runs below, {forecaster.least_runs} needed"
    return f"{rows} rows below, {least} needed" if rows < least else ""


# ----------------------------------------------------------------------------------------------------------------- pieces


def share(name: str, value: Any) -> float:
    number = checks.real(name, value, least=0.0, exclusive=True)
    if number >= 1:
        raise ValueError(f"{name}={value!r} must lie below 1; a 95 % interval has {name}=0.95")
    return number


def budgets(runs: Runs, by: str) -> Array:
    """The column along which a fit is extrapolated; ValueError if it is missing or not positive."""
    if not isinstance(by, str):
        raise TypeError(f"by={by!r} must be the name of a column, such as 'C'")
    if by not in runs.columns:
        raise ValueError(f"by={by!r} is no column of the runs; choose one of {', '.join(runs.columns)}")
    return checks.above(by, runs.columns[by], 0.0, "distances are taken in its logarithm")


def targets(fit: Fit, columns: Mapping[str, ArrayLike], by: str) -> tuple[dict[str, Array], Array]:
    """The law's columns and the logarithm of ``by``, all of one length (m,)."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns={columns!r} must map names to values, for instance {{'N': 1e12, 'P': 7e9}}")
    given = {name: checks.real_array(name, value) for name, value in columns.items()}
    derived = by == "C" and "C" not in given and {"N", "P"} <= set(given)
    missing = [v for v in (*fit.law.variables, by) if v not in given and not (derived and v == by)]
    if missing:
        raise ValueError(f"columns has no {', '.join(missing)}; given: {', '.join(given) or 'nothing'}")
    used = {v: given[v] for v in dict.fromkeys((*fit.law.variables, *(("N", "P") if derived else (by,))))}
    try:
        shaped = dict(zip(used, np.broadcast_arrays(*used.values()), strict=True))
    except ValueError:
        shapes = ", ".join(f"{k} {v.shape}" for k, v in used.items())
        raise ValueError(f"columns have shapes that do not fit together ({shapes}); make them equally long") from None
    flat = {k: np.atleast_1d(v).ravel() for k, v in shaped.items()}
    if derived:
        flat["C"] = FLOPS_PER_PARAM_TOKEN * flat["N"] * flat["P"]
    checks.above(by, flat[by], 0.0, "distances are taken in its logarithm")
    return {v: flat[v] for v in fit.law.variables}, np.log(flat[by])


def part_of(objective: Objective, mask: NDArray[np.bool_]) -> Objective:
    """The objective for some of the rows: weights that were given one by one are thinned with them."""
    if isinstance(objective, Weighted) and not isinstance(objective.weights, str):
        return Weighted(objective.objective, np.asarray(objective.weights, dtype=float)[mask])
    return objective


def on_scale(loss: Array, scale: str) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(loss) if scale == "log" else loss


def off_scale(value: Array, scale: str) -> Array:
    return np.exp(value) if scale == "log" else value


def bounds(forecast: Forecast, scale: str) -> tuple[Array, Array]:
    return off_scale(forecast.center - forecast.below, scale), off_scale(forecast.center + forecast.above, scale)


def steps(progress: Progress | None, what: str) -> Callable[[str], None]:
    """A function that reports one more step of the inner back-test."""
    done = 0

    def said(detail: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(min(done, len(INNER_CUTS)), len(INNER_CUTS), f"{what}, {detail}")

    return said
