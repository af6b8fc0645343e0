"""Averaged maps and residual blocks whose constant is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Map = Callable[[Array], Array]


def dahlquist_constant(A: ArrayLike) -> float:
    """One-sided Lipschitz constant of ``x -> A x`` in the Euclidean norm, ``lambda_max((A + A') / 2)``.

    A: square matrix. Exact up to the rounding of one symmetric eigenvalue solve; it may be negative.
    Raises ValueError unless A is square and finite. Theorem T1.4; Soederlind 2006.

    >>> dahlquist_constant([[0.0, -1.0], [1.0, 0.0]])
    0.0
    """
    matrix = np.asarray(A, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"A has shape {matrix.shape}; give a square matrix, since A maps a space into itself")
    if not np.isfinite(matrix).all():
        raise ValueError("A holds a NaN or an infinity; give finite entries")
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])


def averaged_composition(first: float, second: float) -> float:
    """Smallest constant with which every product of a ``first``- and a ``second``-averaged map is averaged.

    first, second: constants in (0, 1). Sharp in a Hilbert space. Raises ValueError outside the interval.
    T1.5; Ogura and Yamada 2002; Combettes and Yamada 2015.

    >>> round(averaged_composition(0.3, 0.6), 6)
    0.658537
    """
    for name, value in (("first", first), ("second", second)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value}: an averagedness constant lies strictly between 0 and 1")
    return (first + second - 2 * first * second) / (1 - first * second)


def relu(x: Array) -> Array:
    """The positive part, entry by entry."""
    return np.maximum(x, 0.0)


@dataclass(frozen=True, eq=False)
class ConvexPotentialLayer:
    """The residual block ``x - step * W' sigma(W x + bias)``: an explicit gradient step on a convex potential.

    weight: W, shape (hidden, d). bias: shape (hidden,). step: h > 0. sigma: nondecreasing and 1-Lipschitz, entry by
    entry (the caller vouches for it). Raises ValueError for shapes that do not fit or a step that is not positive.
    T1.5 (ii); Meunier et al. 2022.
    """

    weight: Array
    bias: Array
    step: float
    sigma: Map = relu

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            values = np.asarray(getattr(self, name), dtype=float)
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds a NaN or an infinity; give finite entries")
            object.__setattr__(self, name, values)
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"weight has shape {self.weight.shape} and bias {self.bias.shape}; give (hidden, d) and (hidden,)")
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"step={self.step}: give a positive, finite step")

    def __call__(self, x: Array) -> Array:
        """The layer on points of shape (..., d)."""
        return x - self.step * self.sigma(x @ self.weight.T + self.bias) @ self.weight

    @property
    def gain(self) -> float:
        """``step * ||W||^2``, the only number that decides whether the layer expands."""
        return self.step * float(np.linalg.norm(self.weight, 2)) ** 2

    @property
    def averagedness(self) -> float | None:
        """``gain / 2`` when that is below 1, the constant with which the layer is averaged; None otherwise."""
        return self.gain / 2 if self.gain < 2 else None

    @property
    def upper(self) -> float:
        """Upper bound of the Lipschitz constant on the whole space, Euclidean norm: ``max(1, gain - 1)``.

        The layer is ``(1 - gain/2) I + (gain/2) R`` with R nonexpansive, for every gain.
        """
        return max(1.0, self.gain - 1.0)
