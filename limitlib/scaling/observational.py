"""Observational scaling laws: capabilities of many public models, and what they predict.

Ruan, Maddison and Hashimoto 2024 replace compute, which differs in meaning between model families, by the leading principal
components of a table of benchmark scores, and predict further tasks by a sigmoid of these. :func:`capabilities` does the
preprocessing and the components, :func:`per_family` the lines of a component against log compute, :func:`sigmoid_law` the
sigmoid by exact least squares with a certificate, and intervals that know that models of one family are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from limitlib.checks import Array, count, flag, generator, real, real_array

#: Largest number of passes over the missing entries, and the change below which imputation has settled (standardised units).
PASSES, SETTLED = 5000, 1e-10
#: Newton steps of a sigmoid fit at most, and the argument of the sigmoid beyond which a fit counts as a step function.
STEPS, SATURATED = 300, 1000.0
#: Relative fall of the sum of squares in one step below which a fit has ended: the fit itself, and its resamples.
ENDED, ENDED_RESAMPLE = 1e-16, 1e-8


# ---------------------------------------------------------------- capabilities


@dataclass(frozen=True)
class Capabilities:
    """Principal components of a table of scores.

    ``components``: (k, d), orthonormal rows, each with a positive sum, so that more is better. ``explained``: share of the
    variance of each of the d components. ``values``: (n, k), the models' coordinates. ``imputed``: the table with its holes
    filled. The rest is what :meth:`transform` needs to treat new models as the old ones were.
    """

    components: Array
    explained: Array
    values: Array
    imputed: Array
    centre: Array
    scale: Array
    filling: tuple[Array, Array, Array, Array]
    bounds: tuple[float, float]

    def transform(self, scores: Any) -> Array:
        """Coordinates (m, k) of new models; holes are filled from the components of the models that were fitted."""
        table = score_table(scores, 1)
        if table.shape[1] != self.components.shape[1]:
            raise ValueError(f"scores has {table.shape[1]} columns; the components were fitted to {self.components.shape[1]}")
        mean, spread, middle, axes = self.filling
        filled = np.clip(fill((table - mean) / spread, middle, axes) * spread + mean, *self.bounds)
        return ((np.where(np.isnan(table), filled, table) - self.centre) / self.scale) @ self.components.T


def capabilities(
    scores: Any,
    *,
    components: int = 3,
    impute_rank: int = 1,
    bounds: tuple[float, float] = (0.0, 1.0),
    standardise: bool = False,
) -> Capabilities:
    """Principal components of scores (n models, d benchmarks), NaN where a score is missing.

    The defaults are the preprocessing of the authors' code: holes are filled by ``impute_rank`` principal components of the
    standardised columns, iterated until they no longer change, clipped to ``bounds``; then components of the filled table,
    centred and *not* standardised (``standardise=True`` gives every benchmark the same variance first).
    Raises ValueError for an empty row or column, a constant column, or more components than columns.

    >>> table = np.array([[0.1, 0.2], [0.2, 0.4], [0.3, np.nan], [0.4, 0.8]])
    >>> found = capabilities(table, components=1)
    >>> round(float(found.imputed[2, 1]), 3), round(float(found.explained[0]), 3)
    (0.6, 1.0)
    """
    table = score_table(scores, 2)
    d = table.shape[1]
    kept, rank = count("components", components, 1), count("impute_rank", impute_rank, 1)
    if kept > d or rank > d:
        raise ValueError(f"components={components} and impute_rank={impute_rank} must be at most {d}, the number of columns")
    low, high = real("bounds[0]", bounds[0]), real("bounds[1]", bounds[1])
    missing = np.isnan(table)
    if missing.all(axis=0).any() or missing.all(axis=1).any():
        raise ValueError("scores has an empty row or column; drop it")
    mean, spread = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
    if not (spread > 0).all():
        raise ValueError(f"column {int(np.argmin(spread))} of scores is constant; drop it")
    standard = (table - mean) / spread
    middle, axes = np.zeros(d), np.zeros((rank, d))
    filled = np.where(missing, 0.0, standard)
    for _ in range(PASSES if missing.any() else 1):
        middle = filled.mean(axis=0)
        axes = np.linalg.svd(filled - middle, full_matrices=False)[2][:rank]
        new = np.where(missing, middle + (filled - middle) @ axes.T @ axes, standard)
        moved, filled = np.abs(new - filled).max(), new
        if moved < SETTLED:
            break
    imputed = np.where(missing, np.clip(filled * spread + mean, low, high), table)
    centre = imputed.mean(axis=0)
    scale = imputed.std(axis=0) if flag("standardise", standardise) else np.ones(d)
    _, singular, rows = np.linalg.svd((imputed - centre) / scale, full_matrices=False)
    rows = rows * np.where(rows.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return Capabilities(
        components=rows[:kept], explained=singular**2 / (singular**2).sum(), values=(imputed - centre) / scale @ rows[:kept].T,
        imputed=imputed, centre=centre, scale=scale, filling=(mean, spread, middle, axes), bounds=(low, high),
    )  # fmt: skip


def score_table(scores: Any, least: int) -> Array:
    table = real_array("scores", scores, nan=True)
    if table.ndim != 2 or table.shape[0] < least:
        raise ValueError(f"scores must be a table with a row for each model, at least {least}; got shape {table.shape}")
    return table


def fill(standard: Array, middle: Array, axes: Array) -> Array:
    """Rows with their holes filled by the plane middle + span(axes): the limit of filling and projecting in turn."""
    missing = np.isnan(standard)
    filled = standard.copy()
    for i in np.flatnonzero(missing.any(axis=1)):
        seen = ~missing[i]
        place = np.linalg.lstsq(axes[:, seen].T, standard[i, seen] - middle[seen], rcond=None)[0]
        filled[i, missing[i]] = (middle + place @ axes)[missing[i]]
    return filled


@dataclass(frozen=True)
class FamilyLine:
    """The least-squares line of one family: ``y = slope * x + intercept`` over ``n`` models."""

    family: str
    n: int
    slope: float
    intercept: float
    r2: float


def per_family(x: Any, y: Any, family: Sequence[str], *, least: int = 3) -> list[FamilyLine]:
    """Lines of ``y`` on ``x`` (log compute) within each family that has ``least`` models with both known; two always fit."""
    a, b, names = real_array("x", x, nan=True), real_array("y", y, nan=True), np.asarray(family)
    if not a.shape == b.shape == names.shape or a.ndim != 1:
        raise ValueError(f"x, y and family must be equally long; got shapes {a.shape}, {b.shape}, {names.shape}")
    least = count("least", least, 2)
    lines = []
    for name in dict.fromkeys(names.tolist()):
        rows = (names == name) & np.isfinite(a) & np.isfinite(b)
        if rows.sum() < least or np.ptp(a[rows]) == 0:
            continue
        slope, intercept = np.polyfit(a[rows], b[rows], 1)
        rest, total = ((b[rows] - slope * a[rows] - intercept) ** 2).sum(), ((b[rows] - b[rows].mean()) ** 2).sum()
        r2 = float(1 - rest / total) if total > 0 else math.nan
        lines.append(FamilyLine(str(name), int(rows.sum()), float(slope), float(intercept), r2))
    return lines


# ---------------------------------------------------------------- the sigmoid law


@dataclass(frozen=True)
class SigmoidCertificate:
    """Evidence that a least-squares optimum was reached, in standardised variables.

    ``value``: half the sum of squares. ``gradient_norm`` and ``hessian_eigenvalues``: of the free parameters at the optimum,
    where all eigenvalues are positive at a strict minimum. ``share_agreeing``: of ``starts`` that end within 1e-8
    (relative) of the best. ``boundary``: what lies at an edge: "floor at its lower bound", "floor at its upper bound",
    "step" (the sum of squares keeps falling as the sigmoid steepens; such a fit is stopped where it no longer matters), or "".
    """

    value: float
    gradient_norm: float
    hessian_eigenvalues: Array
    starts: int
    share_agreeing: float
    boundary: str


@dataclass(frozen=True)
class SigmoidFit:
    """``score = floor + (ceiling - floor) * logistic(weights . x + bias)``, by exact least squares.

    ``problem`` is the least-squares problem that was solved; resampling solves it again under other weights.
    """

    weights: Array
    bias: float
    floor: float
    ceiling: float
    certificate: SigmoidCertificate
    problem: Any

    def predict(self, x: Any) -> Array:
        """The law at predictors ``x``, (m, p) or (m,)."""
        return self.problem.predict(self.problem.inner(self.weights, self.bias, self.floor)[None], x)[0]

    def intervals(
        self, x: Any, family: Sequence[str], *, level: float = 0.9, draws: int = 1000, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Prediction intervals for single new models at ``x``: lower and upper ends, estimates.

        Two sources of error: the parameters, from resampling whole families (``family`` names that of each fitted model);
        and the model's own deviation, a deviation of a randomly chosen family's models from the law fitted without that
        family. So both respect that the models of one family move together. Clipped to [0, 1].
        """
        generator(rng)
        level = real("level", level, least=0.0, exclusive=True)
        if level >= 1:
            raise ValueError(f"level={level!r} must be below 1")
        draws = count("draws", draws, 99)
        codes = np.unique(np.asarray(family), return_inverse=True)[1]
        if codes.shape != self.problem.y.shape:
            raise ValueError(f"family has {codes.size} entries; the fit has {self.problem.y.size} models")
        groups = int(codes.max()) + 1
        if groups < 3:
            raise ValueError(f"{groups} families are too few to resample; give at least 3")
        best = self.problem.inner(self.weights, self.bias, self.floor)
        without = self.problem.refit(1.0 - (codes == np.arange(groups)[:, None]), best)
        deviation = self.problem.y - self.problem.values(without)[codes, np.arange(codes.size)]
        counts = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)
        resampled = self.problem.refit(counts[:, codes].astype(float), best)
        centre = self.problem.predict(resampled, x)
        own = codes == rng.integers(groups, size=(*centre.shape, 1))
        chosen = (rng.random((*centre.shape, codes.size)) * own).argmax(axis=2)
        sample = np.clip(centre + deviation[chosen], 0.0, 1.0)
        low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def sigmoid_law(
    x: Any, y: Any, *, floor: float | tuple[float, float] = (0.0, 0.2), ceiling: float = 1.0, starts: int = 32
) -> SigmoidFit:
    """Fit the sigmoid law to scores ``y`` (n,) by predictors ``x``, (n, p) or (n,).

    floor: a number, or bounds between which it is fitted (the authors' code: 0 and 0.2, with the ceiling at 1). The search is
    deterministic: damped Newton steps with the exact Hessian from ``starts`` points, all at once.
    Raises ValueError for scores outside [0, 1], a constant predictor, or fewer models than parameters plus one.

    >>> x = np.linspace(-2, 2, 9)
    >>> fit = sigmoid_law(x, 0.1 + 0.9 / (1 + np.exp(-3 * x - 1)))
    >>> round(float(fit.weights[0]), 6), round(fit.bias, 6), round(fit.floor, 6)
    (3.0, 1.0, 0.1)
    """
    predictors, scores = real_array("x", x), real_array("y", y)
    predictors = predictors[:, None] if predictors.ndim == 1 else predictors
    if predictors.ndim != 2 or scores.shape != predictors.shape[:1]:
        raise ValueError(f"x must have a row for each score; got shapes {predictors.shape} and {scores.shape}")
    if ((scores < 0) | (scores > 1)).any():
        raise ValueError(f"y must lie in [0, 1]; got {scores[(scores < 0) | (scores > 1)][0]:g}; divide percentages by 100")
    low, high = (floor, floor) if isinstance(floor, int | float) else (floor[0], floor[1])
    low, high, top = real("floor", low, least=0.0), real("floor", high, least=0.0), real("ceiling", ceiling)
    if not low <= high < top <= 1:
        raise ValueError(f"floor={floor!r} and ceiling={ceiling!r} must be ordered and lie in [0, 1]")
    n, p = predictors.shape
    if n < p + 3:
        raise ValueError(f"{n} models can't hold {p + 2} parameters; give at least {p + 3}")
    if (np.ptp(predictors, axis=0) == 0).any():
        raise ValueError(f"column {int(np.argmin(np.ptp(predictors, axis=0)))} of x is constant; drop it")
    problem = Problem.of(predictors, scores, (low, high), top)
    number = count("starts", starts, 1)
    first = problem.linear_start()
    scales = qmc.Halton(p + 2, scramble=False).random(number)
    begin = first + np.concatenate([np.zeros((1, p + 2)), (scales[1:] - 0.5) * np.array([8.0] * (p + 1) + [0.0])])
    begin[:, -1] = low + scales[:, -1] * (high - low)
    ends, free = problem.solve(begin, np.ones((number, n)))
    values = problem.value(ends, np.ones((number, n)))
    best = int(np.argmin(values))
    weights, bias = problem.outer(ends[best])
    return SigmoidFit(
        weights=weights, bias=bias, floor=float(ends[best, -1]), ceiling=top, problem=problem,
        certificate=problem.certificate(ends[best], bool(free[best]), values, number),
    )  # fmt: skip


def logistic(z: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * z))


@dataclass(frozen=True)
class Problem:
    """The least-squares problem in standardised predictors; parameters are (slopes, bias, floor), rows are problems."""

    design: Array
    y: Array
    centre: Array
    scale: Array
    edges: tuple[float, float]
    ceiling: float

    @classmethod
    def of(cls, x: Array, y: Array, edges: tuple[float, float], ceiling: float) -> Problem:
        centre, scale = x.mean(axis=0), x.std(axis=0)
        return cls(np.column_stack([(x - centre) / scale, np.ones(len(y))]), y, centre, scale, edges, ceiling)

    def inner(self, weights: Array, bias: float, floor: float) -> Array:
        return np.concatenate([weights * self.scale, [bias + weights @ self.centre, floor]])

    def outer(self, theta: Array) -> tuple[Array, float]:
        weights = theta[:-2] / self.scale
        return weights, float(theta[-2] - weights @ self.centre)

    def predict(self, theta: Array, x: Any) -> Array:
        """Values (rows, m) at new predictors."""
        at = real_array("x", x)
        at = at[:, None] if at.ndim == 1 and len(self.centre) == 1 else at
        if at.ndim != 2 or at.shape[1] != len(self.centre):
            raise ValueError(f"x must have {len(self.centre)} columns, as the fit had; got shape {at.shape}")
        z = theta[:, :-2] @ ((at - self.centre) / self.scale).T + theta[:, -2:-1]
        return theta[:, -1:] + (self.ceiling - theta[:, -1:]) * logistic(z)

    def values(self, theta: Array) -> Array:
        return theta[:, -1:] + (self.ceiling - theta[:, -1:]) * logistic(theta[:, :-1] @ self.design.T)

    def value(self, theta: Array, weights: Array) -> Array:
        return 0.5 * (weights * (self.values(theta) - self.y) ** 2).sum(axis=1)

    def linear_start(self) -> Array:
        """Least squares of the scores' logits: a first guess."""
        low = self.edges[0]
        share = np.clip((self.y - low) / (self.ceiling - low), 0.02, 0.98)
        return np.concatenate([np.linalg.lstsq(self.design, np.log(share / (1 - share)), rcond=None)[0], [low]])

    def derivatives(self, theta: Array, weights: Array) -> tuple[Array, Array]:
        """Gradient (rows, q) and Hessian (rows, q, q)."""
        s = logistic(theta[:, :-1] @ self.design.T)
        height = self.ceiling - theta[:, -1:]
        r = theta[:, -1:] + height * s - self.y
        slope = s * (1 - s)
        J = np.concatenate([(height * slope)[..., None] * self.design, (1 - s)[..., None]], axis=2)
        gradient = ((weights * r)[:, None] @ J)[:, 0]
        H = J.swapaxes(1, 2) @ (weights[..., None] * J)
        bend = weights * r * height * slope * (1 - 2 * s)
        H[:, :-1, :-1] += self.design.T @ (bend[..., None] * self.design)
        cross = -(weights * r * slope) @ self.design
        H[:, :-1, -1] += cross
        H[:, -1, :-1] += cross
        return gradient, H

    def solve(self, theta: Array, weights: Array, ended: float = ENDED) -> tuple[Array, NDArray[np.bool_]]:
        """Optima from each row's start, and whether the floor ended between its edges.

        The floor is tried free and fixed at each edge, and the best admissible end is kept: with one bounded parameter that
        is the whole active-set method.
        """
        low, high = self.edges
        fixed = []
        for edge in (low, high) if low < high else (low,):
            begin = theta.copy()
            begin[:, -1] = edge
            fixed.append(self.newton(begin, weights, ended, hold=True))
        ends = np.stack(fixed)
        if low < high:
            ends = np.concatenate([ends, self.newton(theta, weights, ended, hold=False)[None]])
        values = np.stack([self.value(e, weights) for e in ends])
        values[(ends[:, :, -1] < low) | (ends[:, :, -1] > high)] = math.inf
        pick = np.argmin(values, axis=0)
        return ends[pick, np.arange(len(theta))], pick == 2

    def newton(self, theta: Array, weights: Array, ended: float, *, hold: bool) -> Array:
        """Damped Newton with the absolute values of the Hessian's eigenvalues, every row at its own pace."""
        theta, free = theta.copy(), theta.shape[1] - int(hold)
        value = self.value(theta, weights)
        damping = np.full(len(theta), 1e-3)
        alive = np.arange(len(theta))
        for _ in range(STEPS):
            gradient, H = self.derivatives(theta[alive], weights[alive])
            gradient, H = gradient[:, :free], H[:, :free, :free]
            values, vectors = np.linalg.eigh(H)
            size = np.abs(values).max(axis=1, keepdims=True) + 1e-100
            inverse = 1 / (np.abs(values) + damping[alive, None] * size)
            along = (gradient[:, None] @ vectors)[:, 0]
            step = -(vectors @ (inverse * along)[..., None])[..., 0]
            longest = np.maximum(4.0, np.abs(theta[alive]).max(axis=1, keepdims=True))
            step *= np.minimum(1, longest / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
            trial = theta[alive].copy()
            trial[:, :free] += step
            new = self.value(trial, weights[alive])
            reach = np.abs(trial[:, :-1] @ self.design.T).max(axis=1)
            better = (new <= value[alive]) & (reach <= SATURATED)
            settled = better & (value[alive] - new <= ended * value[alive]) & (damping[alive] < 1e-3)
            rows = alive[better]
            theta[rows], value[rows] = trial[better], new[better]
            damping[alive] = np.clip(np.where(better, damping[alive] / 10, damping[alive] * 10), 1e-14, 1e8)
            done = settled | (better & (np.abs(step).max(axis=1) < 1e-12)) | (damping[alive] >= 1e8)
            alive = alive[~done]
            if not len(alive):
                break
        return theta

    def refit(self, weights: Array, best: Array) -> Array:
        """Optima under each row of weights, from the optimum of all and from the linear guess."""
        starts = [np.tile(start, (len(weights), 1)) for start in (best, self.linear_start())]
        ends = [self.solve(start, weights, ENDED_RESAMPLE)[0] for start in starts]
        values = np.stack([self.value(e, weights) for e in ends])
        return np.stack(ends)[np.argmin(values, axis=0), np.arange(len(weights))]

    def certificate(self, theta: Array, free: bool, values: Array, starts: int) -> SigmoidCertificate:
        gradient, H = self.derivatives(theta[None], np.ones((1, len(self.y))))
        q = len(theta) - (not free)
        least = float(values.min())
        low, high = self.edges
        boundary = "" if free or low == high else f"floor at its {'lower' if theta[-1] == low else 'upper'} bound"
        eigenvalues: Array = np.linalg.eigvalsh(H[0, :q, :q]).astype(float)
        if np.abs(self.design @ theta[:-1]).max() > 0.9 * SATURATED or eigenvalues[0] <= 1e-10 * eigenvalues[-1]:
            boundary = "step"
        return SigmoidCertificate(
            value=least, gradient_norm=float(np.linalg.norm(gradient[0, :q])), hessian_eigenvalues=eigenvalues, starts=starts,
            share_agreeing=float(np.mean(values <= least * (1 + 1e-8) + 1e-14)), boundary=boundary,
        )  # fmt: skip
