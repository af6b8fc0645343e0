"""Other metrics for a map: the distance in which it contracts, and the sets that its orbits separate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Map = Callable[[Array], Array]


def adapted_distance(T: Map, rate: float, terms: int) -> Callable[[Array, Array], Array]:
    """The distance ``sum of rate^-n |T^n x - T^n y|`` over ``n < terms``, in which T contracts when ``rate > rho(T)``.

    T: maps points of shape (n, d) to points of shape (n, d). The result takes two such arrays and gives n distances.
    Exact when T^terms is constant; otherwise the series is cut, so ask for enough terms. Raises ValueError for a rate
    that is not positive or fewer than one term. Theorem T1.2.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate={rate}: give a positive number above rho(T)")
    if terms < 1:
        raise ValueError(f"terms={terms}: the sum needs at least one term")

    def distance(x: Array, y: Array) -> Array:
        total = np.zeros(len(x))
        for n in range(terms):
            if n:
                x, y = T(x), T(y)
            total += rate**-n * np.linalg.norm(x - y, axis=-1)
        return total

    return distance


def adapted_factor(rate: float, powers: Sequence[float]) -> float:
    """Upper bound of Lip(T) in its adapted distance: ``rate (1 - 1/M)`` with ``M = sum of rate^-n Lip(T^n)``.

    powers: Lip(T^n), or upper bounds of it, for n = 0, 1, ...; it begins with 1 and holds every power that isn't
    constant. Raises ValueError if it does not begin with 1 or has a negative entry, or for rate <= 0. Theorem T1.2.

    >>> round(adapted_factor(0.1, [1, 2, 4]), 7)
    0.0997625
    """
    lipschitz = np.asarray(powers, dtype=float)
    if lipschitz.ndim != 1 or len(lipschitz) == 0 or lipschitz[0] != 1:
        raise ValueError("powers must begin with Lip(I) = 1")
    if not (lipschitz >= 0).all():
        raise ValueError("powers holds a negative number or a NaN; Lipschitz constants are at least 0")
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate={rate}: give a positive number above rho(T)")
    total = float(np.sum(lipschitz * rate ** -np.arange(len(lipschitz), dtype=float)))
    return rate * (1 - 1 / total)


def separated_set(orbits: Array, eps: float, distance: Callable[[Array, Array], Array]) -> NDArray[np.intp]:
    """Indices of a maximal set of points whose orbits are more than ``eps`` apart at some time.

    orbits: shape (steps, points, ...). distance: broadcasts over the first two axes and gives (steps, points).
    Greedy in the order of the points. Its size is a lower bound on the largest (steps, eps)-separated set, whose growth
    rate in steps tends to the topological entropy as eps falls; being maximal, the set also spans the sample.
    Raises ValueError for eps <= 0. Theorem T1.7; Katok and Hasselblatt 1995, section 3.1.
    """
    if not eps > 0:
        raise ValueError(f"eps={eps}: give a positive separation")
    chosen: list[int] = []
    left = np.arange(orbits.shape[1])
    while left.size:
        chosen.append(int(left[0]))
        apart = distance(orbits[:, left[:1]], orbits[:, left]).max(axis=0)
        left = left[apart > eps]
    return np.array(chosen, dtype=np.intp)
