"""Covering and packing numbers of a finite set, from both sides; exact on small sets.

Distances are compared with the radius as float64 computes them. For a finite sample of a larger set, packings and the lower
ends for ambient centres hold for the set itself. Upper ends, and lower ends for centres in the set, speak of the sample: the
larger set offers centres that the sample lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse

from limitlib.bounds import Count
from limitlib.checks import flag, real, real_array, word
from limitlib.covering.brackets import best_cover, fractional_packing, greedy_cover, greedy_packing, near_pairs
from limitlib.covering.greedy import GreedyOrder, exponent, greedy_order, in_range, points, scaled_radius

Array = NDArray[np.float64]
Index = NDArray[np.intp]

EXACT_POINTS = 128  # exact="auto" solves an integer program up to here
CLOSE = 10  # the search for a smaller covering ends when one exceeds the lower end by at most one part in so many
CENTERS = ("set", "ambient")
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
    n <= 128, True for every n, False never. On a line (d = 1) every count is exact. Else, with ambient centres, the bracket
    closes only where it happens to. Upper: a covering that is returned in ``centers`` (on a line with ambient centres, which
    are no points of X: None). Lower: a 2 eps-packing (returned in ``packing``), or a fractional packing (the dual of
    the linear program of coverings), whichever is larger. Distances are compared with eps as float64 computes them, so
    distances that equal eps only in exact arithmetic fall on either side, as rounding has it: to count them as near, give an
    eps larger by a few units in the last place. Any scale of X will do, but gaps under 1e-150 of the largest coordinate
    may vanish. Raises ValueError for an empty set, points that are not finite, eps <= 0, or an unknown word; TypeError for what
    is not real (complex numbers, strings, bools, None). Theorem T5.1.

    >>> covering_number([[0.0], [1.0], [2.0], [10.0]], 1.0)
    Count(lower=2, upper=2, convention='closed balls centred in the set')
    """
    (x, unit), p = in_range(points(X)), exponent(metric)
    radius = scaled_radius(_radius(eps), unit)
    word("centers", centers, CENTERS)
    solve = _solve(exact, len(x))
    if x.shape[1] == 1:
        return _line_covering(x[:, 0], radius, centers)
    order = greedy_order(x, metric=metric)
    if solve:
        return _exact_covering(x, radius, p, centers, order)
    return _bracket(x, radius, p, centers, order)


def packing_number(
    X: ArrayLike, eps: float, *, metric: str = "l2", strict: bool = True, exact: bool | str = "auto"
) -> Count:
    """Bracket of M(eps), the largest number of rows of ``X`` at pairwise distances above eps (strict) or at least eps.

    exact as in :func:`covering_number`. Lower: a packing, returned in ``packing``. Upper: a covering by sets of diameter at
    most eps (less than eps if not strict), from balls of half the radius. Distances are compared with eps as float64 computes
    them, so ties with eps follow rounding. Raises ValueError and TypeError as :func:`covering_number`. T5.1.
    """
    (x, unit), p = in_range(points(X)), exponent(metric)
    radius = scaled_radius(_radius(eps), unit)
    solve, above = _solve(exact, len(x)), flag("strict", strict)
    words = CONVENTIONS["packing" if above else "separated"]
    edge = radius if above else np.nextafter(radius, 0)  # a pair at this distance or below may not be packed together
    if x.shape[1] == 1:
        packed = _line_packing(x[:, 0], edge)
        return Count(len(packed), len(packed), None, packed, words)
    order = greedy_order(x, metric=metric)
    best = greedy_packing(x, edge, p, order)
    if solve:
        chosen, upper = _largest_packing(near_pairs(x, x, edge, p), best)
        return Count(len(chosen), max(len(chosen), upper), None, np.sort(chosen), words)
    upper = _bracket(x, edge / 2, p, "set", order).upper
    return Count(len(best), max(upper, len(best)), None, np.sort(best), words)


def entropy_profile(X: ArrayLike, eps: ArrayLike, *, metric: str = "l2", centers: str = "set") -> Profile:
    """Brackets of N(eps) for many radii at once, made monotone in eps; log of the counts is the metric entropy.

    eps: positive radii, any order; the result keeps it. Exact for n <= 128 and centres in the set. Raises ValueError and
    TypeError as :func:`covering_number`.
    """
    (x, unit), p = in_range(points(X)), exponent(metric)
    radii = np.atleast_1d(real_array("eps", eps, nan=True))
    if radii.ndim != 1 or not radii.size:
        raise ValueError(f"eps has shape {radii.shape}; give a list of radii")
    word("centers", centers, CENTERS)
    scaled = [scaled_radius(_radius(e), unit) for e in radii.tolist()]
    if x.shape[1] == 1:
        found = [_line_covering(x[:, 0], e, centers) for e in scaled]
    else:
        order = greedy_order(x, metric=metric)
        count: Callable[..., Count] = _exact_covering if len(x) <= EXACT_POINTS else _bracket
        found = [count(x, e, p, centers, order) for e in scaled]
    lower, upper = (np.array([getattr(c, end) for c in found]) for end in ("lower", "upper"))
    by_size = np.argsort(radii, kind="stable")
    upper[by_size] = np.minimum.accumulate(upper[by_size])
    lower[by_size[::-1]] = np.maximum.accumulate(lower[by_size[::-1]])
    return Profile(radii, lower, upper, CONVENTIONS[centers])


def _radius(eps: float) -> float:
    return real("eps", eps, least=0, exclusive=True)


def _solve(exact: bool | str, n: int) -> bool:
    """Whether to solve the integer program for n points."""
    if isinstance(exact, str) and exact != "auto":
        raise ValueError(f"exact={exact!r} must be True, False or 'auto'")
    return n <= EXACT_POINTS if isinstance(exact, str) else flag("exact", exact)


# ------------------------------------------------------------------------------------------------------------ exact counts


def _reach(v: Array, start: int, length: float) -> int:
    """The last index whose value is at most ``length`` above that at ``start``; v increases."""
    last = max(start, int(np.searchsorted(v, v[start] + length, side="right")) - 1)
    while last + 1 < len(v) and v[last + 1] - v[start] <= length:
        last += 1
    while v[last] - v[start] > length:
        last -= 1
    return last


def _line_covering(values: Array, radius: float, centers: str) -> Count:
    """From the left: the ball that covers the first open point and reaches farthest. Nothing needs fewer."""
    by_size = np.argsort(values, kind="stable")
    v = values[by_size]
    chosen, first = [], 0
    while first < len(v):
        middle = _reach(v, first, radius) if centers == "set" else first
        chosen.append(middle)
        first = _reach(v, middle, radius if centers == "set" else 2 * radius) + 1
    covering = np.sort(by_size[chosen]) if centers == "set" else None
    return Count(len(chosen), len(chosen), covering, _line_packing(values, 2 * radius), CONVENTIONS[centers])


def _line_packing(values: Array, edge: float) -> Index:
    """From the left: always the first point farther than ``edge`` from the last one. Nothing packs more."""
    by_size = np.argsort(values, kind="stable")
    v = values[by_size]
    chosen = [0]
    while (following := _reach(v, chosen[-1], edge) + 1) < len(v):
        chosen.append(following)
    return np.sort(by_size[chosen])


def _exact_covering(x: Array, radius: float, p: float, centers: str, order: GreedyOrder) -> Count:
    if centers == "ambient":
        return _bracket(x, radius, p, centers, order)
    table = near_pairs(x, x, radius, p)
    n = len(x)
    upper = greedy_cover(table)
    solved = optimize.milp(
        np.ones(n), constraints=optimize.LinearConstraint(table.astype(float), lb=1.0), integrality=np.ones(n), bounds=(0, 1)
    )
    packing = greedy_packing(x, 2 * radius, p, order)
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


def _bracket(x: Array, radius: float, p: float, centers: str, order: GreedyOrder) -> Count:
    packing = greedy_packing(x, 2 * radius, p, order)
    front = int(np.searchsorted(-order.cover, -radius)) + 1
    lower = len(packing)
    if lower < front:
        # A ball about any point that meets the set lies, as far as the set is concerned, in one of twice the radius about it.
        reach = radius if centers == "set" else 2 * radius
        lower = max(lower, fractional_packing(x, reach, p, order, enough=front))
    upper = best_cover(x, radius, p, order, enough=lower + lower // CLOSE)
    return Count(min(lower, len(upper)), len(upper), np.sort(upper), np.sort(packing), CONVENTIONS[centers])
