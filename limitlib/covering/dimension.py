"""Intrinsic dimension of a sample, as an estimate with an interval.

All methods assume that the points are an independent sample of the set and that it looks alike at the scales they see.
Boundaries, curvature and noise bias every one of them; the bias is read off a second estimate at another scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats
from scipy.spatial import cKDTree

from limitlib.bounds import Estimate
from limitlib.checks import count, real, word
from limitlib.covering.greedy import TREE_DIMENSION, exponent, in_range, points

Array = NDArray[np.float64]
Index = NDArray[np.intp]

LEAST = 20  # distinct points, below which nothing can be said
TRIM = 0.1  # share of the largest ratios that two_nn treats as censored
PAIRS = 30  # neighbours of a point, in the mean, up to the radius of the correlation integral
FILLED = 6  # points per box, in the mean, at the finest grid of "box"
SCALE = math.sqrt(2)  # between its grids


def intrinsic_dimension(
    X: ArrayLike, method: str = "two_nn", *, confidence: float = 0.95, metric: str = "l2", neighbors: int = 10
) -> Estimate:
    """Intrinsic dimension of the set that the rows of ``X`` (n, d) are a sample of; copies of a point count once.

    method:

    * "two_nn": ratios of the distances to the two nearest neighbours, the largest tenth censored. Facco et al. 2017.
    * "mle": distances to the ``neighbors`` nearest. Levina and Bickel 2004, averaged as by MacKay and Ghahramani 2005.
    * "correlation": the distances up to the radius that holds 30 neighbours in the mean. Takens 1985.
    * "box": slope of the log of the number of occupied boxes over shrinking sides; for curves and fractals, and only for a
      set that the sample fills evenly up to its edge.

    metric: "l1", "l2" or "linf", for the first three. neighbors: for "mle" only; at least 3.

    ESTIMATE with an interval at the given ``confidence``. For the first three it rests on the variance of the mean over
    points, with the dependence between points that share neighbours counted; on one side it is longer by the bias that a
    second estimate, with half or twice as many neighbours, shows. For "box" it rests on the spread of the slopes between
    scales. What no interval pays for: a boundary or tails (a disc, a Gaussian cloud), which bias "correlation" and "mle", and
    "box" so much that none of 20 intervals held the dimension; corners (a cube; "two_nn" suffers least); gaps at every scale
    ("correlation" on a Cantor set); and ten dimensions or more, where thousands of points are few.

    Raises ValueError for fewer than 20 distinct points, values that are not finite, points on a lattice ("two_nn", "mle"),
    too few scales ("box"), confidence outside (0, 1), neighbors that are not whole or out of range, or unknown words; TypeError
    for what is not real.

    >>> circle = np.exp(1j * np.random.default_rng(0).uniform(0, 2 * np.pi, 2000))
    >>> found = intrinsic_dimension(np.column_stack([circle.real, circle.imag]))
    >>> found.low < 1 < found.high
    True
    """
    (x, _), p = in_range(points(X)), exponent(metric)
    estimate = _METHODS[word("method", method, _METHODS)]
    if not 0 < real("confidence", confidence) < 1:
        raise ValueError(f"confidence={confidence!r} must lie strictly between 0 and 1")
    x = np.unique(x, axis=0)
    if len(x) < LEAST:
        raise ValueError(f"X holds {len(x)} distinct points; at least {LEAST} are needed")
    near = count("neighbors", neighbors, 3)
    if near >= len(x):
        raise ValueError(f"neighbors={neighbors!r} must lie between 3 and the number of distinct points less one, {len(x) - 1}")
    return estimate(x, p, confidence, near)


def _interval(value: float, error: float, confidence: float, other: float, growth: float, doubt: float = 0.0) -> Estimate:
    """Symmetric in the logarithm, since a dimension is a scale, then longer towards where the bias would vanish.

    error: relative standard error. other: the estimate with ``growth`` times the neighbours; a bias goes like a length, so
    with its power 1 / dimension. A difference up to ``doubt`` counts as chance.
    """
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    shift = other - value
    shift = math.copysign(max(0.0, abs(shift) - doubt), shift)
    bias = shift / (growth ** (1 / value) - 1)
    return Estimate(value, max(0.0, value * math.exp(-reach) - max(bias, 0.0)), value * math.exp(reach) - min(bias, 0.0))


def _nearest(x: Array, k: int, p: float) -> tuple[Array, Index]:
    """Distances to the k nearest others (n, k), and who they are."""
    if x.shape[1] <= TREE_DIMENSION or p != 2:
        far, who = cKDTree(x).query(x, k=k + 1, p=p)
        return _without_self(far, who)
    centred = x - x.mean(axis=0)
    square = np.einsum("ij,ij->i", centred, centred)
    far, who = np.empty((len(x), k + 1)), np.empty((len(x), k + 1), dtype=np.intp)
    for begin in range(0, len(x), 512):
        rows = slice(begin, begin + 512)
        table = square[rows, None] + square - 2 * centred[rows] @ centred.T
        some = np.argpartition(table, k + 4 if k + 4 < len(x) else k, axis=1)[:, : k + 5]  # more than needed, since rounded
        exact = np.sqrt(((x[rows, None] - x[some]) ** 2).sum(axis=2))
        order = np.argsort(exact, axis=1, kind="stable")[:, : k + 1]
        far[rows], who[rows] = np.take_along_axis(exact, order, axis=1), np.take_along_axis(some, order, axis=1)
    return _without_self(far, who)


def _without_self(far: Array, who: Index) -> tuple[Array, Index]:
    """The points are distinct, so each is its own nearest, at distance 0, unless rounding says otherwise."""
    mine = who == np.arange(len(who))[:, None]
    mine[~mine.any(axis=1), -1] = True
    return far[~mine].reshape(len(far), -1), who[~mine].reshape(len(who), -1)


def _standard_error(influence: Array, who: Index) -> float:
    """Of a mean over points that depend on each other as far as they share a neighbour (or are one): a sum over such pairs."""
    n, k = who.shape
    members = np.column_stack([np.arange(n), who])
    rows = np.repeat(np.arange(n), k + 1)
    belongs = sparse.csr_array((np.ones(n * (k + 1)), (rows, members.reshape(-1))), shape=(n, n))
    share = (belongs @ belongs.T).tocoo()
    centred = influence - influence.mean()
    total = float(np.sum(centred[share.row] * centred[share.col]))
    return math.sqrt(max(total, float(centred @ centred))) / n


def _two_nn(x: Array, p: float, confidence: float, neighbors: int) -> Estimate:
    far, who = _nearest(x, 4, p)
    logs = np.log(far[:, 1] / far[:, 0])
    cut = float(np.quantile(logs, 1 - TRIM))
    seen = logs <= cut
    total = float(np.minimum(logs, cut).sum())
    if total <= 1e-9 * len(x):
        raise ValueError("X lies on a lattice: the two nearest neighbours are equally far; use method='box'")
    value = float(seen.sum()) / total
    # Of the censored exponential likelihood: score d^-1 [seen] - min(log, cut), information seen / d^2.
    score = seen / value - np.minimum(logs, cut)
    # r_4 / r_2 speaks of twice as many neighbours; the mean of its logarithm is (1/2 + 1/3) / d.
    wider = 5 / 6 / float(np.log(far[:, 3] / far[:, 1]).mean())
    error = _standard_error(score, who[:, :2]) * value / float(seen.mean())
    return _interval(value, error, confidence, wider, 2.0, doubt=error * value)


def _mle(x: Array, p: float, confidence: float, neighbors: int) -> Estimate:
    far, who = _nearest(x, neighbors, p)
    inverse = np.log(far[:, -1:] / far[:, :-1]).mean(axis=1)
    mean, half = float(inverse.mean()), (neighbors + 1) // 2
    nearer = float(np.log(far[:, half - 1, None] / far[:, : half - 1]).mean())
    if mean <= 1e-9:
        raise ValueError("X lies on a lattice: the nearest neighbours are equally far; use method='box'")
    return _interval(1 / mean, _standard_error(inverse, who) / mean, confidence, 1 / nearer, half / neighbors)


def _correlation(x: Array, p: float, confidence: float, neighbors: int) -> Estimate:
    n = len(x)
    k = min(n - 1, PAIRS)
    far = _nearest(x, k, p)[0]
    wide, near = (float(np.median(far[:, m - 1])) for m in (k, (k + 1) // 2))
    tree = cKDTree(x)
    pairs = tree.sparse_distance_matrix(tree, wide, p=p, output_type="ndarray")
    pairs = pairs[pairs["i"] < pairs["j"]]
    logs = np.log(wide / pairs["v"])
    ends = np.concatenate([pairs["i"], pairs["j"]])
    count, total = np.bincount(ends, minlength=n) / 2, np.bincount(ends, np.tile(logs, 2), minlength=n) / 2
    value = float(count.sum() / total.sum())
    # First-order influence of each point on the ratio of two U-statistics.
    influence = 2 * (count - value * total) / count.mean()
    inner = pairs["v"][pairs["v"] <= near]
    other = len(inner) / float(np.log(near / inner).sum())
    return _interval(value, float(influence.std(ddof=1)) / math.sqrt(n), confidence, other, len(inner) / len(pairs))


def _box(x: Array, p: float, confidence: float, neighbors: int) -> Estimate:
    low = x.min(axis=0)
    size = float((x - low).max())
    shift = size * np.array([0.0, 0.37, 0.71])  # of the grid; the least count of the three is taken
    counts: list[int] = []
    while True:
        side = size / SCALE ** (len(counts) + 1)
        found = min(len(np.unique(np.floor((x - low + s) / side), axis=0)) for s in shift)
        if found * FILLED > len(x) or len(counts) == 90:
            break
        counts.append(found)
    if len(counts) < 5:
        raise ValueError(f"X: {len(x)} distinct points fill boxes of {len(counts)} scales; method='box' needs 5: more points")
    slopes = np.diff(np.log(counts[len(counts) // 3 :])) / math.log(SCALE)  # at the coarse scales only the outline counts
    value = float(slopes.mean())
    spread = float(slopes.std(ddof=1)) / math.sqrt(len(slopes)) * float(stats.t.ppf((1 + confidence) / 2, len(slopes) - 1))
    return Estimate(value, max(0.0, value - spread), value + spread)


_METHODS: dict[str, Callable[[Array, float, float, int], Estimate]] = {
    "two_nn": _two_nn,
    "mle": _mle,
    "correlation": _correlation,
    "box": _box,
}
