"""Covering and packing numbers of a finite set, from both sides; exact on small sets.

Distances are compared with the radius as float64 computes them. For a finite sample of a larger set the lower ends hold for the
set itself as well; the upper ends hold for the sample only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse
from scipy.spatial import cKDTree

from limitlib.bounds import Count
from limitlib.covering.greedy import TREE_DIMENSION, GreedyOrder, distances, exponent, greedy_order, points

Array = NDArray[np.float64]
Index = NDArray[np.intp]

EXACT_POINTS = 128  # exact="auto" solves an integer program up to here
ENTRIES = 3_000_000  # size of the incidence tables on larger sets; beyond it only a part of the points is used
CONVENTIONS = {
    "set": "closed balls centred in the set",
    "ambient": "closed balls centred anywhere",
    "packing": "pairwise distances above eps",
    "separated": "pairwise distances at least eps",
}


@dataclass(frozen=True)
class Profile:
    """Brackets over many radii: integer arrays ``lower <= N(eps) <= upper`` beside ``eps``, all of shape (radii,)."""

    eps: Array
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    convention: str

    @property
    def ratio(self) -> float:
        """Largest upper / lower."""
        return float((self.upper / self.lower).max())


def covering_number(
    X: ArrayLike, eps: float, *, metric: str = "l2", centers: str = "set", exact: bool | str = "auto"
) -> Count:
    """Bracket of N(eps), the least number of closed eps-balls that cover the rows of ``X`` (n, d).

    centers: "set" (balls about points of X) or "ambient" (about any points). exact: "auto" solves the integer program for
    n <= 128, True for every n, False never. With ambient centres the bracket closes only where it happens to. Upper: a covering
    that is returned in ``centers``. Lower: a 2 eps-packing (returned in ``packing``), or a fractional packing, whichever is
    larger. Raises ValueError for an empty set, points that are not finite, eps <= 0, or an unknown word. Theorem T5.1.

    >>> covering_number([[0.0], [1.0], [2.0], [10.0]], 1.0)
    Count(lower=2, upper=2, convention='closed balls centred in the set')
    """
    x, p, radius = points(X), exponent(metric), _radius(eps)
    _known("centers", centers, ("set", "ambient"))
    if exact not in (True, False, "auto"):
        raise ValueError(f"exact={exact!r} must be True, False or 'auto'")
    order = greedy_order(x, metric=metric)
    if exact is True or (exact == "auto" and len(x) <= EXACT_POINTS):
        return _exact_covering(x, radius, p, centers, order)
    return _bracket(x, radius, p, centers, order)


def packing_number(
    X: ArrayLike, eps: float, *, metric: str = "l2", strict: bool = True, exact: bool | str = "auto"
) -> Count:
    """Bracket of M(eps), the largest number of rows of ``X`` at pairwise distances above eps (strict) or at least eps.

    exact as in :func:`covering_number`. Lower: a packing, returned in ``packing``. Upper: a covering by sets of diameter at
    most eps (less than eps if not strict), from balls of half the radius. Raises ValueError as :func:`covering_number`. T5.1.
    """
    x, p, radius = points(X), exponent(metric), _radius(eps)
    if exact not in (True, False, "auto"):
        raise ValueError(f"exact={exact!r} must be True, False or 'auto'")
    words = CONVENTIONS["packing" if strict else "separated"]
    edge = radius if strict else np.nextafter(radius, 0)  # a pair at this distance or below may not be packed together
    order = greedy_order(x, metric=metric)
    best = _greedy_packing(x, edge, p, order)
    if exact is True or (exact == "auto" and len(x) <= EXACT_POINTS):
        chosen, upper = _largest_packing(_near(x, x, edge, p), best)
        return Count(len(chosen), max(len(chosen), upper), None, np.sort(chosen), words)
    upper = _bracket(x, edge / 2, p, "set", order).upper
    return Count(len(best), max(upper, len(best)), None, np.sort(best), words)


def entropy_profile(X: ArrayLike, eps: ArrayLike, *, metric: str = "l2", centers: str = "set") -> Profile:
    """Brackets of N(eps) for many radii at once, made monotone in eps; log of the counts is the metric entropy.

    eps: positive radii, any order; the result keeps it. Exact for n <= 128 and centres in the set. Raises ValueError as
    :func:`covering_number`.
    """
    x, p = points(X), exponent(metric)
    radii = np.atleast_1d(np.asarray(eps, dtype=float))
    if radii.ndim != 1 or not radii.size:
        raise ValueError(f"eps has shape {radii.shape}; give a list of radii")
    _known("centers", centers, ("set", "ambient"))
    order = greedy_order(x, metric=metric)
    count: Callable[..., Count] = _exact_covering if len(x) <= EXACT_POINTS else _bracket
    found = [count(x, _radius(e), p, centers, order) for e in radii]
    lower, upper = (np.array([getattr(c, end) for c in found]) for end in ("lower", "upper"))
    by_size = np.argsort(radii, kind="stable")
    upper[by_size] = np.minimum.accumulate(upper[by_size])
    lower[by_size[::-1]] = np.maximum.accumulate(lower[by_size[::-1]])
    return Profile(radii, lower, upper, CONVENTIONS[centers])


def _radius(eps: float) -> float:
    value = float(eps)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"eps={eps!r} must be a positive, finite radius")
    return value


def _known(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{name}={value!r} is unknown: choose {' or '.join(map(repr, words))}")


# -------------------------------------------------------------------------------------------------------- who covers whom


def _near(x: Array, y: Array, radius: float, p: float) -> sparse.csr_array:
    """Incidence (len(x), len(y)) of pairs at distance at most ``radius``, decided by direct differences."""
    if x.shape[1] <= TREE_DIMENSION:
        reach = radius * (1 + 1e-12)
        found = cKDTree(x).sparse_distance_matrix(cKDTree(y), reach, p=p, output_type="ndarray")
        row, column = found["i"], found["j"]
        doubt = np.flatnonzero(np.abs(found["v"] - radius) <= 1e-11 * radius)
        keep = found["v"] <= radius
        for k in doubt:
            keep[k] = distances(x[row[k] : row[k] + 1], y[column[k]], p)[0] <= radius
        row, column = row[keep], column[keep]
    else:
        parts = [np.flatnonzero(distances(y, point, p) <= radius) for point in x]
        row, column = np.repeat(np.arange(len(x)), [len(q) for q in parts]), np.concatenate(parts)
    return sparse.csr_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(len(x), len(y)))


def _share(x: Array, radius: float, p: float) -> float:
    """Rough share of all pairs that are near, from some points; it only decides how many points a table holds."""
    some = x[:: max(1, len(x) // 64)]
    return float(np.mean([(distances(x, point, p) <= radius).mean() for point in some]))


def _table_rows(share: float, n: int, at_least: int) -> int:
    """How many of n points a table of about ENTRIES near pairs can hold."""
    return min(n, max(at_least, int(ENTRIES / max(share * n, 1.0))))


# ------------------------------------------------------------------------------------------------------------ exact counts


def _exact_covering(x: Array, radius: float, p: float, centers: str, order: GreedyOrder) -> Count:
    if centers == "ambient":
        return _bracket(x, radius, p, centers, order)
    table = _near(x, x, radius, p)
    n = len(x)
    upper = _greedy_cover(table)
    solved = optimize.milp(
        np.ones(n), constraints=optimize.LinearConstraint(table.astype(float), lb=1.0), integrality=np.ones(n), bounds=(0, 1)
    )
    packing = _greedy_packing(x, 2 * radius, p, order)
    lower = len(packing)
    if solved.x is not None:
        chosen = np.flatnonzero(solved.x > 0.5)
        if len(chosen) < len(upper) and table[chosen].sum(axis=0).min() > 0:
            upper = chosen
    if solved.mip_dual_bound is not None and np.isfinite(solved.mip_dual_bound):
        lower = max(lower, int(np.ceil(solved.mip_dual_bound - 1e-6)))
    return Count(min(lower, len(upper)), len(upper), np.sort(upper), np.sort(packing), CONVENTIONS[centers])


def _largest_packing(table: sparse.csr_array, start: Index) -> tuple[Index, int]:
    """A largest set without near pairs, and an upper bound of its size: an integer program over cliques of near points."""
    n = table.shape[0]
    dense = table.toarray().astype(bool)
    np.fill_diagonal(dense, False)
    cliques = []
    left = np.triu(dense)
    while left.any():  # every near pair lies in a clique: grow one from the first pair that lies in none yet
        i, j = (int(v[0]) for v in np.nonzero(left))
        clique = [i, j]
        common = dense[i] & dense[j]
        while common.any():
            clique.append(int(np.flatnonzero(common)[np.argmax(left[:, common].sum(axis=0) + left[common].sum(axis=1))]))
            common &= dense[clique[-1]]
        left[np.ix_(clique, clique)] = False
        cliques.append(clique)
    if not cliques:
        return np.arange(n), n
    rows = np.repeat(np.arange(len(cliques)), [len(c) for c in cliques])
    limits = sparse.csr_array((np.ones(len(rows)), (rows, np.concatenate(cliques))), shape=(len(cliques), n))
    solved = optimize.milp(
        -np.ones(n), constraints=optimize.LinearConstraint(limits, ub=1.0), integrality=np.ones(n), bounds=(0, 1)
    )
    chosen = start
    if solved.x is not None:
        found = np.flatnonzero(solved.x > 0.5)
        if len(found) > len(start) and not dense[np.ix_(found, found)].any():
            chosen = found
    upper = n
    if solved.mip_dual_bound is not None and np.isfinite(solved.mip_dual_bound):
        upper = int(np.floor(-solved.mip_dual_bound + 1e-6))
    return chosen, upper


# ---------------------------------------------------------------------------------------------------------------- brackets


def _bracket(x: Array, radius: float, p: float, centers: str, order: GreedyOrder) -> Count:
    first = int(np.searchsorted(-order.cover, -radius)) + 1  # the first so many points of the order cover
    upper = order.indices[:first]
    if first > 1:
        better = _better_cover(x, radius, p, order)
        upper = better if len(better) < first else upper
    packing = _greedy_packing(x, 2 * radius, p, order)
    lower = len(packing)
    if lower < len(upper):
        # A ball about any point that meets the set lies, as far as the set is concerned, in one of twice the radius about it.
        lower = max(lower, _fractional_packing(x, radius if centers == "set" else 2 * radius, p, order))
    return Count(min(lower, len(upper)), len(upper), np.sort(upper), np.sort(packing), CONVENTIONS[centers])


def _better_cover(x: Array, radius: float, p: float, order: GreedyOrder) -> Index:
    """The greedy set cover, each time the ball with most uncovered points; candidates from the front of the order."""
    share = _share(x, radius, p)
    size = _table_rows(share, len(x), 4 * int(np.sum(order.radii > radius)))
    candidates = order.indices[:size]
    return candidates[_greedy_cover(_near(x[candidates], x, radius, p))]


def _greedy_cover(table: sparse.csr_array) -> Index:
    """Rows of a 0-1 table that meet every column, largest gain first."""
    columns = table.T.tocsr()
    gain = np.diff(table.indptr).astype(np.int64)
    open_ = np.ones(table.shape[1], dtype=bool)
    chosen = []
    while open_.any():
        best = int(gain.argmax())
        mine = table.indices[table.indptr[best] : table.indptr[best + 1]]
        new = mine[open_[mine]]
        chosen.append(best)
        open_[new] = False
        touched = np.concatenate([columns.indices[columns.indptr[c] : columns.indptr[c + 1]] for c in new])
        np.subtract.at(gain, touched, 1)
    return np.array(chosen, dtype=np.intp)


def _greedy_packing(x: Array, edge: float, p: float, order: GreedyOrder) -> Index:
    """Points at pairwise distances above ``edge``: the front of the order, or a maximal packing if that is larger."""
    front = order.indices[: int(np.sum(order.radii > edge))]
    free = np.ones(len(x), dtype=bool)
    chosen = []
    # Along a line through the set, so that points are packed from one end to the other.
    for i in np.argsort(x @ _principal(x), kind="stable"):
        if free[i]:
            chosen.append(int(i))
            free &= distances(x, x[i], p) > edge
        if not free.any():
            break
    return np.array(chosen, dtype=np.intp) if len(chosen) > len(front) else front


def _principal(x: Array) -> Array:
    centred = x - x.mean(axis=0)
    return np.linalg.svd(centred[:: max(1, len(x) // 2000)], full_matrices=False)[2][0]


def _fractional_packing(x: Array, radius: float, p: float, order: GreedyOrder) -> int:
    """Weights on points such that no ball holds more than 1: their sum is a lower bound of the covering number.

    Only the front of the order carries weight, so that the table stays small; balls about all points are held to the limit.
    """
    share = _share(x, radius, p)
    size = _table_rows(share, len(x), 256)
    table = _near(x[order.indices[:size]], x, radius, p)  # who carries weight: rows; balls: columns
    balls = table.T.tocsr()
    degree = np.diff(table.indptr)
    weight = np.ones(size)
    for _ in range(60):
        load = balls @ weight
        heaviest = np.maximum.reduceat(load[table.indices], table.indptr[:-1])  # every row meets its own ball
        weight /= heaviest
        if heaviest.min() > 1 - 1e-3:
            break
    assert degree.min() > 0
    # The last division makes the weights feasible up to rounding; the margin pays for it.
    return int(np.ceil(float(weight.sum()) / float((balls @ weight).max()) * (1 - 1e-9) - 1e-9))
