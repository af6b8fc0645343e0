"""What a cloud of states looks like: rank, direction, covers, entropy numbers; and what a map did to it.

Everything is float64 NumPy on points of shape ``(n, d)``. Covers come with both ends: a cover that was built bounds the
smallest one from above, a packing that was found bounds it from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from limitlib.bounds import Count, round_down, round_up, vector_norm
from limitlib.covering import greedy_order

#: Rows of a distance matrix that are held at once.
CHUNK = 512


def _points(name: str, points: np.ndarray, *, at_least: int = 1) -> np.ndarray:
    cloud = np.asarray(points, dtype=float)
    if cloud.ndim != 2 or len(cloud) < at_least or cloud.shape[1] == 0:
        raise ValueError(f"{name} must be at least {at_least} points, shape (n, d); got shape {cloud.shape}")
    if not np.isfinite(cloud).all():
        raise ValueError(f"{name} holds NaN or inf; give finite states")
    return cloud


def effective_rank(points: np.ndarray) -> float:
    """Exponential of the entropy of the covariance's normalised eigenvalues (Roy and Vetterli 2007): a number in [1, d].

    points: ``(n, d)``, n >= 2. Exact for these points (their sample covariance). Raises ValueError if all points are equal.

    >>> import numpy as np
    >>> round(effective_rank(np.vstack([np.eye(3), -np.eye(3)])), 6)
    3.0
    """
    cloud = _points("points", points, at_least=2)
    centred = cloud - cloud.mean(0)
    size = np.abs(centred).max()
    if size == 0:
        raise ValueError("points are all equal: their covariance is zero and has no effective rank")
    centred = centred / size
    gram = centred.T @ centred if cloud.shape[1] <= len(cloud) else centred @ centred.T
    share = np.clip(np.linalg.eigvalsh(gram), 0.0, None)
    share = share[share > 0] / share.sum()
    return float(math.exp(-(share * np.log(share)).sum()))


def _unit(name: str, points: np.ndarray, *, at_least: int = 1) -> np.ndarray:
    cloud = _points(name, points, at_least=at_least)
    size = vector_norm(cloud)
    if (size == 0).any():
        raise ValueError(f"{name} holds a zero vector, which has no direction")
    return cloud / size[:, None]


def mean_cosine(points: np.ndarray) -> float:
    """Mean cosine over all pairs of different points ``(n, d)``, from the length of the mean direction.

    Raises ValueError for fewer than two points or a zero vector.

    >>> import numpy as np
    >>> mean_cosine(np.eye(4))
    0.0
    """
    unit = _unit("points", points, at_least=2)
    n = len(unit)
    return float((np.square(unit.sum(0)).sum() - n) / (n * (n - 1)))


def greedy_cover(points: np.ndarray, radius: float) -> Count:
    """Covering number of the points ``(n, d)`` by closed Euclidean balls of this radius about some of them: a bracket.

    Upper end: the points taken in order, each becoming a center unless one is within reach. Lower end: a greedy set of
    points more than two radii apart, no two of which share a ball. Raises ValueError unless ``radius > 0``.

    >>> import numpy as np
    >>> greedy_cover(np.array([[0.0], [1.0], [10.0]]), 1.0).upper
    2
    """
    cloud = _points("points", points)
    if not radius > 0:
        raise ValueError(f"radius must be positive; got {radius!r}")
    centers, packing = _separated(cloud, radius), _separated(cloud, 2 * radius)
    return Count(len(packing), len(centers), centers, packing, "closed balls, centers among the points")


def _squared_gaps(cloud: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances of some of the points from all, by one matrix product, and bounds of their rounding errors."""
    size = np.einsum("ij,ij->i", cloud, cloud)
    scale = size[rows, None] + size[None]
    return scale - 2 * cloud[rows] @ cloud.T, 4 * (cloud.shape[1] + 8) * np.finfo(float).eps * scale


def _separated(cloud: np.ndarray, gap: float) -> np.ndarray:
    """Indices of a greedy set: more than ``gap`` apart, and every point within ``gap`` of one of them."""
    chosen: list[int] = []
    cloud = cloud / gap
    alive = np.ones(len(cloud), dtype=bool)
    while alive.any():
        rows = np.flatnonzero(alive)[:CHUNK]
        squares, error = _squared_gaps(cloud, rows)
        for i, row in enumerate(rows):
            if alive[row]:
                chosen.append(int(row))
                far = squares[i] > 1
                close = np.flatnonzero(alive & (np.abs(squares[i] - 1) <= error[i]))  # rounding may matter: measure these
                far[close] = vector_norm(cloud[close] - cloud[row]) > 1
                alive &= far
                alive[row] = False
    return np.array(chosen)


def nearest_neighbour_gaps(points: np.ndarray) -> np.ndarray:
    """LOWER bounds, to rounding, of the distances of the points ``(n, d)`` from their nearest neighbours; n >= 2."""
    cloud = _points("points", points, at_least=2)
    found = np.empty(len(cloud))
    for start in range(0, len(cloud), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(cloud)))
        squares, error = _squared_gaps(cloud, rows)
        squares = squares - error
        squares[np.arange(len(rows)), rows] = np.inf
        found[rows] = np.sqrt(np.clip(squares.min(1), 0.0, None))
    return found * (1 - 4 * np.finfo(float).eps)


def angular_cover(points: np.ndarray, radius: float = 0.5) -> Count:
    """As :func:`greedy_cover` for the directions of the points: chord distance on the unit sphere.

    Duplicate directions count once, so the number never exceeds that of the distinct ones. Raises ValueError for a zero vector.
    """
    return greedy_cover(_unit("points", points), radius)


def farthest_point_radii(points: np.ndarray, k: int, *, start: int = 0) -> np.ndarray:
    """Radii r_1 >= r_2 >= ... of the farthest-point order (Gonzalez 1985): r_j covers the points by its first j centers.

    points: ``(n, d)``; answer ``(min(k, n),)``. Half of r_j is a LOWER bound of the j-th entropy number, r_j an UPPER one.
    """
    cloud = _points("points", points)
    if not (isinstance(k, int | np.integer) and k >= 1):
        raise ValueError(f"k must be a positive integer; got {k!r}")
    if not 0 <= start < len(cloud):
        raise ValueError(f"start must be an index below {len(cloud)}; got {start!r}")
    return greedy_order(cloud, k=min(int(k), len(cloud)), start=start).cover


@dataclass(frozen=True)
class EntropyProfile:
    """Entropy numbers e_k, k = 1, 2, ..., of a finite set, or a ratio of two such: ``lower[k-1] <= truth <= upper[k-1]``."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def k(self) -> np.ndarray:
        """The numbers of balls, 1, 2, ..."""
        return np.arange(1, len(self.lower) + 1)


def entropy_numbers(points: np.ndarray, k: int) -> EntropyProfile:
    """e_1, ..., e_k: the smallest radius at which that many closed balls about some of the points cover all of them.

    points: ``(n, d)``. Upper ends: the radii r_j of the farthest-point order. Lower ends: half of r_j, or the (n - j)-th
    smallest distance from a nearest neighbour, since n - j points at least are no centers. Outward-rounded.
    """
    cloud = _points("points", points)
    radii = farthest_point_radii(cloud, k)
    slack = 4 * cloud.shape[1] + 16  # rounding of a computed distance, in units of the last place
    lower = np.array([round_down(r / 2, slack) for r in radii])
    if len(cloud) > 1:
        alone = np.sort(nearest_neighbour_gaps(cloud))[::-1]
        some = min(len(radii), len(cloud) - 1)
        lower[:some] = np.maximum(lower[:some], alone[1 : some + 1])
    upper = np.array([round_up(r, slack) for r in radii])
    return EntropyProfile(np.minimum(lower, upper), upper)


def condensing_profile(before: np.ndarray, after: np.ndarray, k: int) -> EntropyProfile:
    """Bracket of e_j(T A) / e_j(A), j = 1, ..., k, for the points A = ``before`` and their images T A = ``after``.

    An L-Lipschitz map keeps every ratio at most L; one above 1 refutes a non-expansive block on these points. Stops where
    e_j(A) may be zero. Raises ValueError unless both hold the same number of points.
    """
    if len(before) != len(after):
        raise ValueError(f"before and after must hold the same points; got {len(before)} and {len(after)}")
    below, above = entropy_numbers(before, k), entropy_numbers(after, k)
    keep = int((below.lower > 0).sum())
    lower = [round_down(a / b) for a, b in zip(above.lower[:keep], below.upper[:keep], strict=True)]
    upper = [round_up(a / b) for a, b in zip(above.upper[:keep], below.lower[:keep], strict=True)]
    return EntropyProfile(np.array(lower), np.array(upper))


def pair_ratios(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """|T x - T y| / |x - y| over all pairs of different points, from their images: each a LOWER bound on ``sup``.

    before ``(n, ...)``, after ``(n, ...)``: norms over everything but the first axis, so token matrices count whole. Pairs of
    equal points are left out. Raises ValueError if no pair of different points remains.
    """
    x = _points("before", np.reshape(before, (len(before), -1)), at_least=2)
    y = _points("after", np.reshape(after, (len(after), -1)), at_least=2)
    if len(x) != len(y):
        raise ValueError(f"before and after must hold the same points; got {len(x)} and {len(y)}")
    found = []
    for i in range(len(x) - 1):
        gap = vector_norm(x[i + 1 :] - x[i])
        away = gap > 0
        found.append(vector_norm(y[i + 1 :] - y[i])[away] / gap[away])
    ratios = np.concatenate(found)
    if ratios.size == 0:
        raise ValueError("before holds equal points only; a ratio needs two different ones")
    return ratios


def relative_increment(before: np.ndarray, after: np.ndarray) -> float:
    """Mean over the points ``(n, d)`` of |T x - x| / |x|; ValueError if the shapes differ or a point is zero."""
    x, y = _points("before", before), _points("after", after)
    if x.shape != y.shape:
        raise ValueError(f"before and after must have one shape; got {x.shape} and {y.shape}")
    size = vector_norm(x)
    if (size == 0).any():
        raise ValueError("before holds a zero vector; an increment relative to it has no size")
    return float((vector_norm(y - x) / size).mean())
