"""Emergence as a measurement: a score of many checkpoints of several models against their loss.

A *panel* holds one row for each checkpoint: a score (accuracy), the loss of the same checkpoint, and the model that it belongs
to (the *group*: a size, a run). :func:`emergence` asks in one call whether a single curve of the score in the loss describes
all groups, where on the loss axis the score rises and how wide the rise is, whether the score left the level of guessing at
all, and which differences the number of test items cannot show. :func:`loss_of_accuracy` undoes the change of metric of the
mirage hypothesis: Schaeffer, Miranda and Koyejo 2023; the one-curve hypothesis is that of Du, Zeng, Dong and Tang 2024.

The rows of a group must stand in the order of training, since the scatter of neighbouring checkpoints may be correlated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.stats import norm, t

from limitlib.checks import Array, above, at_least, count, generator, real, real_array

#: Basis functions of the curve, and the penalties among which leaving out one group at a time chooses.
BASIS = 12
PENALTIES = 10.0 ** np.arange(-6, 3)
#: Consecutive checkpoints that share one sign in the wild bootstrap, for scatter that is correlated along a run.
BLOCK = 3
#: Points at which a curve is searched for the losses where it reaches a level.
GRID = 400


@dataclass(frozen=True)
class Level:
    """A loss (or a difference of losses) with its 95 % interval from resampling whole groups: an estimate.

    The percentiles are moved outwards by the factor that a Gaussian estimate from as few groups would need. ``low`` is minus
    infinity where more than 2.5 % of the resamples don't reach the level in the range of the data (for a width: ``high`` is
    infinity).
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A penalised cubic spline of a score in a loss; beyond the data it goes on as a straight line."""

    knots: Array
    coefficients: Array

    def predict(self, against: Any) -> Array:
        """The score that the curve gives at these losses."""
        return design(real_array("against", against), self.knots) @ self.coefficients


@dataclass(frozen=True)
class OneCurve:
    """Does one curve describe all groups? An F statistic with two simulated null distributions, and the size of the effect.

    ``statistic`` compares one curve with one curve plus an offset and a slope for each group. ``p_value``: the same curve for
    all, with the scatter that the checkpoints have about it (wild bootstrap, signs drawn for blocks of three consecutive
    checkpoints). With scatter that is correlated along a run it rejects too often (where neighbouring residuals of eight
    groups of 16 have the correlation .45: about .3 in place of .05), so that a small value may also mean runs that drift; a
    large one is the safe reading. ``p_sampling``: the same curve for all and nothing but binomial sampling error (None
    without ``n_items``); a small value says that there is more scatter than sampling, not that groups differ. The items are
    shared by all models, so true sampling errors are positively correlated and this null errs towards too much scatter.
    ``spread``: root mean square of the groups' deviations from the common curve, in score units, and ``spread_null``, the
    95 % point of the same number if no group deviates. ``residual_rms``: about the one curve, in the sample.
    ``held_out_rms``: each group predicted from the others, the penalty chosen without it; ``held_out`` are the
    predictions. ``sampling_rms``: what binomial error alone would give. ``overlap``: share of rows whose loss lies in the
    range of at least one other group; a group alone in its range cannot be tested there.
    """

    statistic: float
    p_value: float
    p_sampling: float | None
    draws: int
    spread: float
    spread_null: float
    residual_rms: float
    held_out_rms: float
    held_out: Array
    sampling_rms: float | None
    overlap: float


@dataclass(frozen=True)
class Emergence:
    """What :func:`emergence` measures. Estimates throughout; ``notes`` says in words what was assumed or could not be had.

    ``threshold``: the loss at which the curve rises for good above the middle between ``chance`` and ``ceiling``;
    ``width``: the distance from 10 to 90 % of the way, in the unit of the loss (nats). None where the curve doesn't get
    there, or the score is at chance.
    ``standard_error``: of each row's score, from the number of items. ``resolution``: the smallest difference between two
    independently measured scores midway that a two-sided test at 5 % sees with probability 80 %. ``at_chance``: no row
    differs from chance (two-sided, 5 %, Bonferroni over rows, so valid whatever the rows share); both are None
    without ``n_items``.
    """

    one_curve: OneCurve
    curve: Curve
    threshold: Level | None
    width: Level | None
    chance: float
    ceiling: float
    standard_error: Array | None
    resolution: float | None
    at_chance: bool | None
    groups: tuple[str, ...]
    notes: tuple[str, ...]


def emergence(
    panel: Mapping[str, Any] | Any,
    *,
    score: str,
    against: str,
    group: str,
    n_items: int | None = None,
    chance: float | None = None,
    ceiling: float | None = None,
    draws: int = 999,
    rng: np.random.Generator,
) -> Emergence:
    """Accuracy against loss in one call: one curve for all groups? where is the rise, how wide, and what can't be seen?

    panel: a table with the columns named by ``score`` (in [0, 1]), ``against`` (a loss, or any other axis) and ``group``.
    n_items: test items behind each score. chance: the score of guessing; None means 0. ceiling: the score that counts as the
    top; None takes the top of the fitted curve in the range of the data.
    Raises ValueError for scores outside [0, 1], fewer than two groups, or fewer than 24 rows; KeyError for a missing column.

    >>> rng = np.random.default_rng(0)
    >>> x = np.tile(np.linspace(1.0, 6.0, 20), 4)
    >>> table = {"acc": 1 / (1 + np.exp(2 * (x - 3))), "nll": x, "size": np.repeat(list("abcd"), 20)}
    >>> found = emergence(table, score="acc", against="nll", group="size", ceiling=1.0, rng=rng)
    >>> round(found.threshold.value, 1)
    3.0
    """
    generator(rng)
    draws = count("draws", draws, 99)
    x, y, codes, names = columns(panel, score, against, group)
    floor, notes = 0.0 if chance is None else real("chance", chance, least=0.0), []
    if chance is None:
        notes.append("chance level taken as 0")
    if floor >= 1:
        raise ValueError(f"chance={chance!r} must be below 1, the highest possible score")
    items = None if n_items is None else count("n_items", n_items, 2)
    smooth = Smoother(x, y, codes)
    one = one_curve(smooth, items, draws, rng)
    top = smooth.top() if ceiling is None else real("ceiling", ceiling, least=floor, exclusive=True)
    if ceiling is None:
        notes.append(f"ceiling taken as the top of the curve, {top:.3g}")
    guessing = None if items is None else at_chance(y, floor, items)
    threshold = width = None
    if guessing:
        notes.append("metric at chance: no score differs from guessing, so there is no threshold and nothing to extrapolate")
    elif top <= floor:
        notes.append("the curve stays below chance in the range of the data")
    else:
        threshold, width = levels(smooth, floor, top, draws, rng)
        if threshold is None:
            notes.append("the midpoint is not reached in the range of the data")
        elif width is None:
            notes.append("10 or 90 % of the way is not reached in the range of the data")
    if len(names) < 5:
        notes.append(f"{len(names)} groups are few: the intervals rest on a Gaussian correction")
    if one.overlap < 0.5:
        notes.append("most rows lie where no other group has any: one curve can hardly be told from several")
    error = None if items is None else standard_error(y, items)
    middle = (floor + top) / 2
    return Emergence(
        one_curve=one, curve=smooth.curve(), threshold=threshold, width=width, chance=floor, ceiling=top, standard_error=error,
        resolution=None if items is None else resolution(middle, items), at_chance=guessing, groups=names, notes=tuple(notes),
    )  # fmt: skip


def loss_of_accuracy(score: Any, *, length: float = 1.0, n_items: int | None = None) -> tuple[Array, Array | None]:
    """Undo exact match over ``length`` tokens: ``-ln(score)/length``, a loss per token, and its standard error.

    If each token is right with probability exp(-l), independently, exact match is exp(-length*l), and this returns l. A score
    of 0 gives infinity: the number of items bounds the loss from below, and nothing more. The error is that of the delta
    method, None without ``n_items``. Raises ValueError for scores outside [0, 1].
    """
    acc = real_array("score", score)
    if ((acc < 0) | (acc > 1)).any():
        raise ValueError(f"score must lie in [0, 1]; got {acc[(acc < 0) | (acc > 1)].flat[0]:g}")
    length = real("length", length, least=0.0, exclusive=True)
    with np.errstate(divide="ignore"):
        loss = -np.log(acc) / length
    if n_items is None:
        return loss, None
    error = np.full(acc.shape, np.inf)
    np.divide(standard_error(acc, count("n_items", n_items, 2)), acc * length, out=error, where=acc > 0)
    return loss, error


def standard_error(score: Any, n_items: Any) -> Array:
    """Standard error of a proportion of ``n_items`` items: spread of the Jeffreys posterior, so not 0 at a score of 0 or 1."""
    p, n = at_least("score", score, 0.0), above("n_items", n_items, 0.0)
    centre = (n * p + 0.5) / (n + 1)
    return np.sqrt(centre * (1 - centre) / (n + 2))


def resolution(score: float, n_items: int) -> float:
    """Smallest difference of two independent proportions near ``score`` seen at level 5 % (two-sided) with power 80 %."""
    return float((norm.ppf(0.975) + norm.ppf(0.8)) * math.sqrt(2.0) * standard_error(score, n_items))


def at_chance(score: Array, chance: float, n_items: int) -> bool:
    """Whether no score differs from guessing: two-sided at 5 %, Bonferroni over the scores; for chance 0, whether all are 0."""
    if chance == 0:
        return not score.any()
    z = np.abs(score - chance).max() / math.sqrt(chance * (1 - chance) / n_items)
    return bool(2 * norm.sf(z) * len(score) > 0.05)


def columns(panel: Any, score: str, against: str, group: str) -> tuple[Array, Array, NDArray[np.intp], tuple[str, ...]]:
    """Loss, score, group codes and group names, checked."""
    for name, column in (("score", score), ("against", against), ("group", group)):
        if column not in panel:
            raise KeyError(f"{name}={column!r} is no column of the panel; it has: {', '.join(map(str, panel))}")
    y, x = real_array(f"column {score!r}", panel[score]), real_array(f"column {against!r}", panel[against])
    labels = np.asarray(panel[group])
    if not y.shape == x.shape == labels.shape or y.ndim != 1:
        raise ValueError(f"the columns must be equally long; got shapes {y.shape}, {x.shape}, {labels.shape}")
    if ((y < 0) | (y > 1)).any():
        raise ValueError(f"column {score!r} must lie in [0, 1]; got {y[(y < 0) | (y > 1)][0]:g}; divide percentages by 100")
    if not np.isfinite(x).all():
        raise ValueError(f"column {against!r} must be finite; drop the rows where it is not")
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"column {group!r} has one group; the test for one curve needs at least two")
    if len(y) < 2 * BASIS:
        raise ValueError(f"the panel has {len(y)} rows; give at least {2 * BASIS}")
    if np.ptp(x) == 0:
        raise ValueError(f"column {against!r} is constant; there is no curve to fit")
    return x, y, codes, tuple(map(str, names))


def knot_vector(x: Array) -> Array:
    """Knots at quantiles of the losses, for BASIS cubic pieces; ties are spread evenly where quantiles coincide."""
    inner = np.quantile(x, np.linspace(0, 1, BASIS - 2))
    if (np.diff(inner) <= 1e-9 * np.ptp(x)).any():
        inner = np.linspace(x.min(), x.max(), BASIS - 2)
    return np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])


def design(x: Array, knots: Array) -> Array:
    """Values of the basis at ``x``, continued by straight lines beyond the outer knots."""
    inside = np.clip(x, knots[0], knots[-1])
    spline = BSpline(knots, np.eye(BASIS), 3)
    return spline(inside) + spline.derivative()(inside) * (x - inside)[:, None]


class Smoother:
    """One curve for all rows, its penalty chosen by leaving out one group at a time; everything linear in the scores."""

    def __init__(self, x: Array, y: Array, codes: NDArray[np.intp]):
        self.x, self.y, self.codes = x, y, codes
        self.n_groups = int(codes.max()) + 1
        self.knots = knot_vector(x)
        self.B = design(x, self.knots)
        second = np.diff(np.eye(BASIS), 2, axis=0)
        self.penalty = second.T @ second
        rows = [codes == g for g in range(self.n_groups)]
        self.gram = np.array([self.B[r].T @ self.B[r] for r in rows])
        self.moment = np.array([self.B[r].T @ y[r] for r in rows])
        self.weight = self.choose(np.ones(self.n_groups))

    def coefficients(self, counts: Array, weight: float) -> Array:
        """Of the fit in which each group counts ``counts`` times; batched over leading axes of ``counts``."""
        A = np.tensordot(counts, self.gram, 1) + weight * self.penalty + 1e-9 * np.eye(BASIS)
        return np.linalg.solve(A, np.tensordot(counts, self.moment, 1)[..., None])[..., 0].astype(float, copy=False)

    def choose(self, present: Array) -> float:
        """The penalty with the least squared error when each present group is predicted from the other present ones."""
        groups = np.flatnonzero(present)
        if len(groups) < 2:
            return float(np.median(PENALTIES))
        left = np.tile(present, (len(groups), 1))
        left[np.arange(len(groups)), groups] = 0
        errors = []
        for weight in PENALTIES:
            c = self.coefficients(left, float(weight))
            off = [self.B[self.codes == g] @ c[i] - self.y[self.codes == g] for i, g in enumerate(groups)]
            errors.append(sum(float(o @ o) for o in off))
        return float(PENALTIES[int(np.argmin(errors))])

    def held_out(self) -> Array:
        """Each row predicted without its group, the penalty chosen without it too."""
        predicted = np.empty(len(self.y))
        for g in range(self.n_groups):
            present = np.ones(self.n_groups)
            present[g] = 0
            rows = self.codes == g
            predicted[rows] = self.B[rows] @ self.coefficients(present, self.choose(present))
        return predicted

    def curve(self) -> Curve:
        return Curve(self.knots, self.coefficients(np.ones(self.n_groups), self.weight))

    def top(self) -> float:
        return float((self.B @ self.curve().coefficients).max())

    def hats(self) -> tuple[Array, Array]:
        """Matrices that map scores to fitted values: one curve, and one curve plus an offset and a slope for each group."""
        deviations = np.zeros((len(self.x), 2 * self.n_groups))
        for g in range(self.n_groups):
            rows = self.codes == g
            deviations[rows, g] = 1.0
            spread = np.ptp(self.x[rows])
            if spread > 0:
                deviations[rows, self.n_groups + g] = (self.x[rows] - self.x[rows].mean()) / spread
        found = []
        for X in (self.B, np.hstack([self.B, deviations])):
            penalty = np.zeros((X.shape[1], X.shape[1]))
            penalty[:BASIS, :BASIS] = self.weight * self.penalty
            found.append(X @ np.linalg.solve(X.T @ X + penalty + 1e-8 * np.eye(len(penalty)), X.T))
        return found[0], found[1]


def one_curve(smooth: Smoother, n_items: int | None, draws: int, rng: np.random.Generator) -> OneCurve:
    """The F test of :class:`OneCurve`."""
    y, n = smooth.y, len(smooth.y)
    one, several = smooth.hats()
    free = n - np.trace(several)
    added = np.trace(several) - np.trace(one)

    def statistics(scores: Array) -> tuple[Array, Array]:
        common, own = scores @ one.T, scores @ several.T
        rest = ((scores - own) ** 2).sum(-1)
        gain = ((scores - common) ** 2).sum(-1) - rest
        spread = np.sqrt(((own - common) ** 2).mean(-1))
        return (gain / added) / np.maximum(rest / free, 1e-300), spread

    found, spread = statistics(y)
    common = one @ y
    scatter = (y - common) / (1 - np.diag(one))
    null, spread_null = statistics(common + scatter * block_signs(smooth.codes, draws, rng))
    sampling = None
    if n_items is not None:
        counts = rng.binomial(n_items, np.clip(common, 0.0, 1.0), size=(draws, n)) / n_items
        sampling = float((1 + (statistics(counts)[0] >= found).sum()) / (1 + draws))
    predicted = smooth.held_out()
    return OneCurve(
        statistic=float(found), p_value=float((1 + (null >= found).sum()) / (1 + draws)), p_sampling=sampling, draws=draws,
        spread=float(spread), spread_null=float(np.quantile(spread_null, 0.95)),
        residual_rms=rms(y - common), held_out_rms=rms(y - predicted), held_out=predicted,
        sampling_rms=None if n_items is None else rms(standard_error(y, n_items)), overlap=overlap(smooth.x, smooth.codes),
    )  # fmt: skip


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def block_signs(codes: NDArray[np.intp], draws: int, rng: np.random.Generator) -> Array:
    """A random sign for each row, the same for up to BLOCK consecutive rows of a group; shape (draws, rows)."""
    block, next_free = np.empty(len(codes), dtype=int), 0
    for g in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == g)
        block[rows] = next_free + np.arange(len(rows)) // BLOCK
        next_free = block[rows[-1]] + 1
    return rng.choice((-1.0, 1.0), size=(draws, next_free))[:, block]


def overlap(x: Array, codes: NDArray[np.intp]) -> float:
    """Share of rows whose loss lies within the range of some other group."""
    ranges = [(x[codes == g].min(), x[codes == g].max()) for g in range(int(codes.max()) + 1)]
    inside = [(x >= low) & (x <= high) & (codes != g) for g, (low, high) in enumerate(ranges)]
    return float(np.any(inside, axis=0).mean())


def levels(
    smooth: Smoother, floor: float, top: float, draws: int, rng: np.random.Generator
) -> tuple[Level | None, Level | None]:
    """Threshold and 10-90 width with intervals from resampling whole groups."""
    grid = np.linspace(smooth.x.min(), smooth.x.max(), GRID)
    counts = rng.multinomial(smooth.n_groups, np.full(smooth.n_groups, 1 / smooth.n_groups), size=draws).astype(float)
    counts = np.vstack([np.ones(smooth.n_groups), counts])
    curves = smooth.coefficients(counts, smooth.weight) @ design(grid, smooth.knots).T
    if np.corrcoef(smooth.x, smooth.y)[0, 1] > 0:  # a score that rises with the axis, as with compute in place of a loss
        crossings = [stays_above(grid, curves, floor + share * (top - floor)) for share in (0.5, 0.1, 0.9)]
    else:
        crossings = [-stays_above(-grid[::-1], curves[:, ::-1], floor + share * (top - floor)) for share in (0.5, 0.1, 0.9)]
    middle, start, end = crossings
    stretch = few_groups(smooth.n_groups)
    threshold = level(middle, -math.inf, stretch) if np.isfinite(middle[0]) else None
    with np.errstate(invalid="ignore"):
        widths = np.abs(end - start)
    widths[np.isnan(widths)] = math.inf
    return threshold, level(widths, math.inf, stretch) if np.isfinite(widths[0]) else None


def stays_above(grid: Array, curves: Array, height: float) -> Array:
    """For each curve, where along the increasing ``grid`` it rises to ``height`` for good, interpolated.

    Infinity if it ends below; the first point if it is never below. Wiggles about chance before the rise do not count.
    """
    below = curves < height
    k = curves.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)  # the last point below
    found = np.where(below.any(axis=1), math.inf, grid[0])
    inner = np.flatnonzero(below.any(axis=1) & (k < curves.shape[1] - 1))
    a, b = curves[inner, k[inner]], curves[inner, k[inner] + 1]
    found[inner] = grid[k[inner]] + (height - a) / (b - a) * (grid[k[inner] + 1] - grid[k[inner]])
    return found


def few_groups(n: int) -> float:
    """By how much percentiles from resampling n groups are too narrow, in the Gaussian case: Student's t, and n - 1 for n."""
    return float(t.ppf(0.975, n - 1) / norm.ppf(0.975) * math.sqrt(n / (n - 1)))


def level(values: Array, missing: float, stretch: float) -> Level:
    """The first value with the 2.5 and 97.5 % points of the rest, moved away from it by the factor ``stretch``.

    ``missing`` stands in for those that were not reached.
    """
    value, rest = float(values[0]), np.sort(np.where(np.isfinite(values[1:]), values[1:], missing))
    last = len(rest) - 1
    low, high = float(rest[math.floor(0.025 * last)]), float(rest[math.ceil(0.975 * last)])
    return Level(value, min(value, value + stretch * (low - value)), max(value, value + stretch * (high - value)))
