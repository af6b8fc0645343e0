"""Is the cell {x in U: G x + h > 0} empty? Answers with a proof: a point inside, or nonnegative weights that forbid one.

A linear program in float64 proves nothing by itself. Here a cell counts as inhabited only when a point satisfies every
inequality by more than its rounding error, and as empty only when a combination of the inequalities is contradictory by more
than its rounding error, or contradictory in exact rational arithmetic. Whatever is neither is ``unknown``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

Array = NDArray[np.float64]
EPS = float(np.finfo(float).eps)
EXACT_ROWS = 40  # largest contradiction whose rows are combined in rational arithmetic

ExactRows = Callable[[NDArray[np.intp], Array], list[list[Fraction]]]


@dataclass(frozen=True, eq=False)
class UnitDomain:
    """The domain in coordinates u = (x - centre) / unit: everything, or an l_p ball or box about 0 of size at most 1.

    radius: half-widths of a box (p = inf), shape (d,), or the radius in every entry. p is 0 for the whole space.
    """

    p: float
    radius: Array

    @property
    def bounded(self) -> bool:
        return self.p != 0

    def support(self, g: Array) -> float:
        """Largest value of g . u on the domain, not rounded."""
        if self.p == 2:
            return float(self.radius[0] * math.sqrt(g @ g))
        if self.p == 1:
            return float(self.radius[0] * np.abs(g).max())
        return float(np.abs(g) @ self.radius)

    def contains(self, u: Array) -> bool:
        """Whether u is an interior point, a rounding error or more away from the boundary."""
        if not self.bounded:
            return bool(np.isfinite(u).all())
        slack = 1 - (len(u) + 8) * EPS
        if self.p == 2:
            return bool(math.sqrt(u @ u) < self.radius[0] * slack)
        if self.p == 1:
            return bool(np.abs(u).sum() < self.radius[0] * slack)
        return bool((np.abs(u) < self.radius * slack).all())


@dataclass(frozen=True)
class Verdict:
    """status: "inside" with a point, "empty", or "unknown"; conflict: indices of rows that contradict each other, if known."""

    status: str
    point: Array | None = None
    conflict: NDArray[np.intp] | None = None


def find_point(G: Array, h: Array, error: Array, domain: UnitDomain, exact_rows: ExactRows | None = None) -> Verdict:
    """Decide whether {u in the interior of the domain: G u + h > 0} is empty.

    G: (m, d), h: (m,). error: (m, d + 1), absolute errors of the entries of G and h. exact_rows: (indices, sides) -> the rows
    (G_i, h_i), and those of sides of the domain, without rounding and up to positive factors, in any coordinates related by
    an invertible affine map; used where inequalities touch without overlapping. [] means that it would cost too much.
    """
    m, d = G.shape
    if m == 0:
        return Verdict("inside", np.zeros(d))
    size = np.sqrt(np.einsum("ij,ij->i", G, G) + h * h)
    if not (size > 0).all():
        return Verdict("unknown")
    rows = np.empty((m, d + 1))
    rows[:, :d], rows[:, d] = G, h
    rows /= size[:, None]
    error = error / size[:, None] + 2 * EPS * np.abs(rows)
    found = _inside(rows, domain)
    conflict = None
    for attempt in (1, 2):
        if found.point is not None and holds(rows, error, found.point) and domain.contains(found.point):
            return Verdict("inside", found.point)
        mu = found.weights[:m]
        if mu.max(initial=0.0) > 0:
            conflict = np.flatnonzero(mu > 1e-9 * mu.max())
            if domain.bounded and _separated(rows, error, mu, domain):
                return Verdict("empty", conflict=conflict)
            if found.others is not None and _stable_contradiction(rows, error, found.others, found.weights):
                return Verdict("empty", conflict=conflict)
            if exact_rows is not None and found.others is not None:
                sides = np.flatnonzero(found.weights[m:] > 1e-9 * mu.max())
                if len(conflict) + len(sides) <= EXACT_ROWS:
                    guess = np.concatenate([mu[conflict], found.weights[m + sides]])
                    if _exact_contradiction(exact_rows(conflict, found.others[sides]), guess):
                        return Verdict("empty", conflict=conflict)
        if attempt == 1:
            found = _by_linear_program(rows, domain)
    return Verdict("unknown", conflict=conflict)


def likely_point(G: Array, h: Array, domain: UnitDomain) -> Array | None:
    """A candidate for an interior point, unproved, or None: the first, cheap step of :func:`find_point`."""
    rows = np.column_stack([G, h])
    size = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return _inside(rows / size[:, None], domain).point if (size > 0).all() else None


def holds(rows: Array, error: Array, u: Array) -> bool:
    """Whether every inequality rows . (u, 1) > 0 holds at u by more than its rounding error."""
    lifted = np.append(u, 1.0)
    if not np.isfinite(lifted).all():
        return False
    size = np.abs(lifted)
    slack = rows @ lifted - (len(lifted) + 4) * EPS * (np.abs(rows) @ size) - 1.01 * (error @ size)
    return bool((slack > 0).all())


# ------------------------------------------------------------------------------------------------------- finding candidates


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A point, or weights of a contradiction: first of the rows, then of ``others`` (None where those play no such part)."""

    point: Array | None
    weights: Array
    others: Array | None = None


def _sides(domain: UnitDomain, d: int) -> Array:
    """Homogeneous inequalities (., d + 1): the last coordinate is positive; in a box they are its sides, which imply it."""
    if domain.p == math.inf:
        r, eye = domain.radius[:, None], np.eye(d)
        return np.vstack([np.hstack([eye, r]), np.hstack([-eye, r])])
    upright = np.zeros((1, d + 1))
    upright[0, d] = 1.0
    return upright


def _inside(rows: Array, domain: UnitDomain) -> _Candidate:
    """By least squares; cuts are added for a cross-polytope, a nearest point is used for a Euclidean ball."""
    d = rows.shape[1] - 1
    others = _sides(domain, d)
    found = _cone_point(rows, others)
    if found.point is None or domain.p in (0, math.inf) or domain.contains(found.point):
        return found
    if domain.p == 2:
        return _ball_point(rows, found.point, float(domain.radius[0]))
    for _ in range(4 * d + 20):
        assert found.point is not None
        signs = np.where(found.point >= 0, 1.0, -1.0)
        others = np.vstack([others, np.append(-signs, domain.radius[0])])
        found = _cone_point(rows, others)
        if found.point is None or domain.contains(found.point):
            break
    return found


def _cone_point(rows: Array, others: Array) -> _Candidate:
    """Shortest y with all rows . y >= 1, as the point y / y_last; by nonnegative least squares (Lawson and Hanson 1974)."""
    system = np.vstack([rows, others])
    m, n = system.shape
    E = np.empty((n + 1, m))
    E[:n], E[n] = system.T, 1.0
    f = np.zeros(n + 1)
    f[n] = 1.0
    try:
        weights, _ = nnls(E, f, maxiter=20 * (m + n))
    except RuntimeError:
        return _Candidate(None, np.zeros(m), others)
    residual = f - E @ weights
    if not (residual[n] > 1e-13 and residual[n - 1] < 0):
        return _Candidate(None, weights, others)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        point = residual[: n - 1] / residual[n - 1]
    return _Candidate(point if np.isfinite(point).all() else None, weights, others)


def _ball_point(rows: Array, inner: Array, radius: float) -> _Candidate:
    """The point of the cell next to 0, moved towards a point inside it; weights that keep the cell away from 0."""
    m, n = rows.shape
    E = rows.T.copy()
    E[-1] *= -1.0  # rows . (u, 1) >= 0 is rows_u . u >= -rows_h
    f = np.zeros(n)
    f[-1] = 1.0
    try:
        weights, _ = nnls(E, f, maxiter=20 * (m + n))
    except RuntimeError:
        return _Candidate(None, np.zeros(m))
    residual = f - E @ weights
    if not residual[-1] > 1e-13:
        return _Candidate(None, weights)
    nearest = -residual[:-1] / residual[-1]
    size = math.sqrt(nearest @ nearest)
    if size >= radius:
        return _Candidate(None, weights)
    way = inner - nearest
    reach = 0.5 * (radius - size) / max(math.sqrt(way @ way), 1e-300)
    return _Candidate(nearest + min(reach, 1.0) * way, weights)


def _by_linear_program(rows: Array, domain: UnitDomain) -> _Candidate:
    """The widest margin by a linear program with tight tolerances, for cells too thin for the squares above."""
    m, d = len(rows), rows.shape[1] - 1
    free: list[tuple[float | None, float | None]]
    G, h, eye, one = rows[:, :d], rows[:, d], np.eye(d), np.ones((d, 1))
    if domain.p == math.inf:  # variables u and the margin
        A = np.vstack([np.hstack([-G, np.ones((m, 1))]), np.hstack([eye, one]), np.hstack([-eye, one])])
        b, free = np.concatenate([h, domain.radius, domain.radius]), [(None, None)] * (d + 1)
    elif domain.p == 1:  # the positive and the negative part of u, and the margin
        A = np.vstack([np.hstack([-G, G, np.ones((m, 1))]), np.ones((1, 2 * d + 1))])
        b, free = np.append(h, domain.radius[0]), [(0, None)] * (2 * d) + [(None, None)]
    else:  # homogeneous coordinates of bounded size
        A = np.hstack([-np.vstack([rows, _sides(domain, d)]), np.ones((m + 1, 1))])
        b, free = np.zeros(m + 1), [(-1.0, 1.0)] * (d + 1) + [(None, None)]
    cost = np.zeros(A.shape[1])
    cost[-1] = -1.0
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    answer = linprog(cost, A_ub=A, b_ub=b, bounds=free, options=tight)
    if answer.status != 0:
        return _Candidate(None, np.zeros(m))
    weights = np.maximum(-answer.ineqlin.marginals, 0.0)
    if domain.p == math.inf:
        return _Candidate(answer.x[:d], weights, _sides(domain, d))
    if domain.p == 1:
        return _Candidate(answer.x[:d] - answer.x[d : 2 * d], weights[:m])
    point = answer.x[:d] / answer.x[d] if answer.x[d] > 0 else None
    return _Candidate(point, weights, _sides(domain, d))


# ------------------------------------------------------------------------------------------------------------- certificates


def _separated(rows: Array, error: Array, mu: Array, domain: UnitDomain) -> bool:
    """Whether sum mu_i (row_i . (u, 1)) < 0 on the whole bounded domain, beyond all rounding."""
    if not mu.any():
        return False
    combined = mu @ rows
    reach = np.append(domain.radius, 1.0)
    noise = (len(mu) + rows.shape[1] + 8) * EPS * float(mu @ (np.abs(rows) @ reach)) + 1.01 * float(mu @ (error @ reach))
    if domain.p in (1, 2):  # the radius bounds every coordinate; the sum above is more than the l_1 or l_2 estimate needs
        noise *= 1.01
    return bool(combined[-1] + domain.support(combined[:-1]) * (1 + 16 * EPS * len(reach)) + noise < 0)


def _stable_contradiction(rows: Array, error: Array, others: Array, weights: Array) -> bool:
    """Whether inequalities with positive weights sum to zero in a way that no small error can undo.

    With as many rows as span the whole space in a full-rank way, a residual r is absorbed by changing the weights by at most
    |r| / sigma; if that leaves them positive, an exact contradiction exists for the true rows. ``others`` have no errors.
    """
    m = len(rows)
    if not rows[:, -1].any() and not error[:, -1].any() and not weights[m:].any():
        B, E, mu = rows[:, :-1], error[:, :-1], weights[:m]  # cones with apex 0, exactly: one dimension less
    else:
        B, E, mu = np.vstack([rows, others]), np.vstack([error, 0.0 * others]), weights
    used, n = np.flatnonzero(mu > 0), B.shape[1]
    if len(used) < n + 1:
        return False
    B, E, mu = B[used], E[used], mu[used]
    sigma = float(np.linalg.svd(B, compute_uv=False)[-1])
    sigma -= 4 * len(B) * n * EPS * math.sqrt(len(B)) + 1.01 * math.sqrt(float(np.square(E).sum()))
    if sigma <= 0:
        return False
    residual = math.sqrt(float(np.square(mu @ B).sum())) + (len(mu) + 8) * EPS * float(mu.sum())
    residual += 1.01 * float(mu @ np.sqrt(np.square(E).sum(axis=1)))
    return bool(1.01 * residual < sigma * mu.min())


def _exact_contradiction(rows: list[list[Fraction]], guess: Array) -> bool:
    """Whether nonnegative weights near ``guess``, not all zero, combine these rows to zero; in rational arithmetic.

    Each row is positive inside the cell, so that such weights make 0 < 0 there.
    """
    if not rows:
        return False
    matrix = [list(column) for column in zip(*rows, strict=True)]
    weights = [Fraction(float(g)) for g in guess]
    pivots = _eliminate(matrix, len(rows))
    # The weights off the pivots are those guessed; the others follow from the equations.
    for i, j in enumerate(pivots):
        weights[j] = -sum((matrix[i][k] * w for k, w in enumerate(weights) if k not in pivots), Fraction(0))
    return len(pivots) < len(rows) and all(w >= 0 for w in weights) and any(w > 0 for w in weights)


def _eliminate(matrix: list[list[Fraction]], columns: int) -> list[int]:
    """Bring a rational matrix to reduced row echelon form, in place; returns the pivot column of each leading row."""
    pivots: list[int] = []
    for j in range(columns):
        rank = len(pivots)
        pivot = next((i for i in range(rank, len(matrix)) if matrix[i][j] != 0), None)
        if pivot is None:
            continue
        matrix[rank], matrix[pivot] = matrix[pivot], matrix[rank]
        lead = matrix[rank][j]
        matrix[rank] = [v / lead for v in matrix[rank]]
        for i in range(len(matrix)):
            if i != rank and matrix[i][j] != 0:
                factor = matrix[i][j]
                matrix[i] = [v - factor * w for v, w in zip(matrix[i], matrix[rank], strict=True)]
        pivots.append(j)
    return pivots
