"""Nonexpansive maps on which the rates of T6.1 are (nearly) attained: rotations and the shift, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from limitlib.checks import real, real_array

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WorstRotation:
    """Largest residual ``|x_n - R x_n| / |x_0|`` over all rotations R of the plane, and the angle (radians) where it occurs.

    Arrays of the shape of n. Exact: for a given n no rotation gives more.
    """

    residual: Array
    angle: Array


def rotation_residual(n: ArrayLike, *, method: str = "krasnoselskii_mann", relaxation: float = 0.5) -> WorstRotation:
    """Worst rotation of the plane after ``n`` >= 0 steps. Exact; a lower bound over all nonexpansive maps in Hilbert space.

    ``krasnoselskii_mann`` with constant ``relaxation`` a in [0, 1]: with s = |1 - e^(i angle)|^2 the squared residual is
    ``s (1 - a(1-a) s)^n``, largest at s = min(4, 1/(a(1-a)(n+1))). ``halpern`` with weights 1/(k+2) (relaxation is not used):
    the iterate is the mean of R^0, ..., R^n, so the residual is ``|1 - e^(i(n+1) angle)| / (n+1)``, at most 2/(n+1). Source:
    T6.1. Raises ValueError for n < 0 or not whole, relaxation outside [0, 1], or another method; TypeError if it is no number.

    >>> round(float(rotation_residual(10).residual), 6)
    0.37443
    """
    steps = _steps(n)
    if method == "halpern":
        return WorstRotation(2 / (steps + 1), np.pi / (steps + 1))
    if method != "krasnoselskii_mann":
        raise ValueError(f"method must be 'krasnoselskii_mann' or 'halpern'; got {method!r}")
    product = _relaxation(relaxation) * (1 - relaxation)
    with np.errstate(divide="ignore"):
        square = np.minimum(4.0, 1 / (product * (steps + 1)))
    residual = np.sqrt(square) * np.exp(special.xlog1py(steps, -product * square) / 2)
    return WorstRotation(residual, 2 * np.arcsin(np.sqrt(square) / 2))


def shift_residual(n: ArrayLike, *, relaxation: float = 0.5) -> Array:
    """``|x_n - R x_n|_1`` for the right shift R on l1, x_0 = e_0, constant ``relaxation`` a in [0, 1]: exact, shape of n.

    x_n is the binomial distribution (n, a), so the residual is twice its largest probability, ~ 2/sqrt(2 pi n a(1-a)): this is
    1/sqrt(2) times the bound of T6.1 in normed spaces, for the simplex of diameter 2. Raises ValueError for n < 0 or not
    whole, or a relaxation outside [0, 1]; TypeError if it is no number.

    >>> round(float(shift_residual(10_000)), 7)
    0.0159573
    """
    from scipy.stats import binom

    steps, a = _steps(n), _relaxation(relaxation)
    return np.asarray(2 * binom.pmf(np.minimum(steps, np.floor((steps + 1) * a)), steps, a))


def _steps(n: ArrayLike) -> Array:
    steps = real_array("n", n, nan=True)
    if not ((steps >= 0) & (steps == np.floor(steps)) & np.isfinite(steps)).all():
        raise ValueError(f"n must hold whole numbers >= 0; got {n!r}")
    return steps


def _relaxation(a: float) -> float:
    value = real("relaxation", a)
    if not 0 <= value <= 1:
        raise ValueError(f"relaxation must lie in [0, 1]; got {a!r}")
    return value
