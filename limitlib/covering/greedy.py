"""The farthest-point order of a finite set: one run gives nets and packings at every scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from limitlib.checks import count, real_array, word

Array = NDArray[np.float64]

METRICS = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
TREE_DIMENSION = 8  # up to here a tree finds the few points that a new centre can be nearest to
SMALL, LARGE = -400, 500  # powers of 2 between which the largest coordinate is left as it is
BLOCK = 128  # centres taken together in high dimension


@dataclass(frozen=True)
class GreedyOrder:
    """Farthest-point order: each point is farthest from those before it, ties broken by the smaller index.

    indices: int (k,), the order. radii: float64 (k,), the distance of each point to those before it, ``inf`` for the first;
    not increasing. ``cover``: float64 (k,), the largest distance of any point of the set to the first 1, 2, ..., k of them. The
    first j points are a covering with closed balls of radius ``cover[j - 1]`` and pairwise at least ``radii[j - 1]`` apart.
    """

    indices: NDArray[np.intp]
    radii: Array
    cover: Array


def points(X: ArrayLike) -> Array:
    """A set of points as float64 (n, d).

    Raises TypeError for what is not real, ValueError for an empty set, another shape, or values that are not finite.
    """
    found = real_array("X", X, nan=True)
    if found.ndim != 2 or found.shape[0] == 0 or found.shape[1] == 0:
        raise ValueError(f"X has shape {found.shape}; give at least one point as (points, coordinates)")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise ValueError(f"X holds a NaN or an infinity in row {row}; drop such points")
    return np.ascontiguousarray(found)


def in_range(x: Array) -> tuple[Array, int]:
    """(x / 2^e, e), with e = 0 unless the squares of the gaps between points could leave float64.

    The division is exact but for coordinates that become subnormal, more than 10^300 below the largest.
    """
    top = int(np.frexp(np.abs(x).max())[1])  # 0 for zeros
    exponent = top - LARGE if top > LARGE else top if top < SMALL else 0
    return np.ldexp(x, -exponent), exponent


def scaled_radius(radius: float, exponent: int) -> float:
    """radius / 2^exponent, still positive, and finite: about 2^600 at most, which is above all distances :func:`in_range`."""
    mantissa, own = math.frexp(radius)
    return math.ldexp(mantissa, min(own - exponent, LARGE + 100)) or math.ulp(0.0)


def exponent(metric: str) -> float:
    """The exponent of a named metric; ValueError naming the known ones, TypeError for what is no word."""
    return METRICS[word("metric", metric, METRICS)]


def distances(X: Array, center: Array, p: float) -> Array:
    """l_p distances (n,) of the rows of X to one point, each by direct differences."""
    gap = X - center
    if p == 2:
        return np.sqrt(np.einsum("ij,ij->i", gap, gap))
    return np.abs(gap).sum(axis=1) if p == 1 else np.abs(gap).max(axis=1)


def greedy_order(X: ArrayLike, *, k: int | None = None, metric: str = "l2", start: int = 0) -> GreedyOrder:
    """Exact farthest-point order of the rows of ``X`` (n, d), the first k of it (default: all), beginning at ``start``.

    The order is that of the plain loop in float64, at any scale of X, and needs O(n) memory beside X. Raises ValueError for an
    empty set, points that are not finite, an unknown metric ("l1", "l2", "linf"), or k or start out of range or not whole;
    TypeError for what is not real. Gonzalez 1985.

    >>> greedy_order([[0.0], [1.0], [10.0], [4.0]]).indices.tolist()
    [0, 2, 3, 1]
    """
    x, p = points(X), exponent(metric)
    n = len(x)
    taken, first = n if k is None else count("k", k, 1), count("start", start, 0)
    if taken > n:
        raise ValueError(f"k={k} must lie between 1 and the number of points, {n}")
    if first >= n:
        raise ValueError(f"start={start} must be the index of a point, 0 to {n - 1}")
    x, unit = in_range(x)
    if x.shape[1] <= TREE_DIMENSION or p != 2:
        indices, radii, last = _by_tree(x, taken, first, p)
    else:
        indices, radii, last = _by_blocks(x, taken, first)
    with np.errstate(over="ignore"):  # a distance may be twice the largest float
        return GreedyOrder(indices, np.ldexp(radii, unit), np.ldexp(np.append(radii[1:], last), unit))


def _by_tree(x: Array, count: int, start: int, p: float) -> tuple[NDArray[np.intp], Array, float]:
    """One centre after the other; a new centre changes only points nearer to it than the radius at which it was taken."""
    near = distances(x, x[start], p)
    indices, radii = np.empty(count, dtype=np.intp), np.zeros(count)
    indices[0], radii[0] = start, math.inf
    tree = cKDTree(x)
    for i in range(1, count):
        center = int(near.argmax())
        radius = near[center]
        if radius == 0.0:
            indices[i:] = _untaken(len(x), indices[:i])[: count - i]
            break
        indices[i], radii[i] = center, radius
        touched = np.array(tree.query_ball_point(x[center], radius * (1 + 1e-12), p=p))
        near[touched] = np.minimum(near[touched], distances(x[touched], x[center], p))
    return indices, radii, float(near.max())


def _untaken(n: int, taken: ArrayLike) -> NDArray[np.intp]:
    """The other indices in increasing order: all that is left of the order once only copies of taken points remain."""
    return np.setdiff1d(np.arange(n), taken)


def _by_blocks(x: Array, count: int, start: int) -> tuple[NDArray[np.intp], Array, float]:
    """Among the farthest points run the loop while it can't miss a farther one outside; then update everyone at once."""
    n = len(x)
    screen = _Screen(x)
    near = distances(x, x[start], 2)
    indices, radii = [start], [math.inf]
    while len(indices) < count:
        if not near.max() > 0.0:
            rest = _untaken(n, indices)[: count - len(indices)]
            return np.append(indices, rest).astype(np.intp), np.append(radii, np.zeros(len(rest))), 0.0
        size = min(BLOCK, n)
        pool = np.argpartition(near, n - size)[n - size :]
        pool.sort()
        others = np.ones(n, dtype=bool)
        others[pool] = False
        outside = near[others].max(initial=-1.0)
        block: list[int] = []
        inner, within = near[pool], x[pool]
        while len(indices) + len(block) < count:
            best = int(inner.argmax())
            # The pool decides as long as it holds the only farthest points; a tie with one outside goes to the smaller index.
            if block and not inner[best] > max(outside, 0.0):
                break
            center = int(pool[best]) if inner[best] > outside else int(near.argmax())
            radii.append(float(near[center] if not block else inner[best]))
            block.append(center)
            if inner[best] == outside:
                break
            inner = np.minimum(inner, distances(within, within[best], 2))
        indices += block
        screen.update(near, np.array(block))
    return np.array(indices, dtype=np.intp), np.array(radii), float(near.max())


class _Screen:
    """Updates distances to the nearest centre by one matrix product; only where it leaves a doubt, by direct differences."""

    def __init__(self, x: Array) -> None:
        d = x.shape[1]
        self.x = x
        centred = x - x.mean(axis=0)
        self.unit = float(np.abs(centred).max()) or 1.0
        centred /= self.unit
        square = np.einsum("ij,ij->i", centred, centred)
        self.rows = np.column_stack([centred, square, np.ones(len(x))])
        self.columns = np.column_stack([-2 * centred, np.ones(len(x)), square])
        # A squared distance from this product differs from the direct one by less than the margin.
        self.margin = 16 * (d + 4) * np.finfo(float).eps * float(square.max())
        self.active = np.arange(len(x))

    def update(self, near: Array, block: NDArray[np.intp]) -> None:
        """Lower ``near`` to the distance of the nearest centre of ``block``, in place."""
        waiting = near[self.active] > 0.0
        if waiting.mean() < 0.8:  # points that are centres, or copies of one, need no more updates
            self.active, self.rows = self.active[waiting], self.rows[waiting]
        columns = self.columns[block].T
        step = max(1, 1_000_000 // len(block))
        for begin in range(0, len(self.active), step):
            rows = self.active[begin : begin + step]
            limit = (near[rows] / self.unit) ** 2 + self.margin
            who, which = np.nonzero(self.rows[begin : begin + step] @ columns <= limit[:, None])
            if who.size:
                gap = self.x[rows[who]] - self.x[block[which]]
                np.minimum.at(near, rows[who], np.sqrt(np.einsum("ij,ij->i", gap, gap)))
