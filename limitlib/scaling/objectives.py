"""What a fit minimises: always a sum over rows, never a mean, so that no optimiser's absolute tolerance can stop it early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limitlib import checks

Array = NDArray[np.float64]
Scale = Literal["log", "raw"]


@dataclass(frozen=True)
class LogHuber:
    """Sum over rows of Huber_delta(ln L - ln L^), the objective of Hoffmann et al. 2022 and Besiroglu et al. 2024.

    Huber_delta(r) is r^2/2 for ``|r| <= delta`` and ``delta (|r| - delta/2)`` beyond: quadratic near zero, absolute far out.
    With ``delta=1e-3`` most rows lie in the absolute part. Raises ValueError for a ``delta`` that is not positive.
    """

    delta: float = 1e-3

    def __post_init__(self) -> None:
        checks.real("delta", self.delta, least=0.0, exclusive=True)

    @property
    def scale(self) -> Scale:
        return "log"

    def rho(self, r: Array) -> Array:
        size = np.abs(r)
        return np.where(size <= self.delta, 0.5 * r * r, self.delta * (size - 0.5 * self.delta))

    def slope(self, r: Array) -> Array:
        return np.clip(r, -self.delta, self.delta)

    def curvature(self, r: Array) -> Array:
        return (np.abs(r) <= self.delta).astype(float)

    def majorant(self, r: Array) -> Array:
        """Curvature of the quadratic that touches rho at r and lies above it (iteratively reweighted least squares)."""
        return self.delta / np.maximum(np.abs(r), self.delta)

    def describe(self) -> str:
        return f"sum of Huber(delta={self.delta:g}) of ln loss"


@dataclass(frozen=True)
class LeastSquares:
    """Half the sum of squares of ln L - ln L^ (``scale="log"``) or of L - L^ (``scale="raw"``)."""

    scale: Scale = "log"

    def __post_init__(self) -> None:
        checks.word("scale", self.scale, ("log", "raw"))

    def rho(self, r: Array) -> Array:
        return 0.5 * r * r

    def slope(self, r: Array) -> Array:
        return r

    def curvature(self, r: Array) -> Array:
        return np.ones_like(r)

    def majorant(self, r: Array) -> Array:
        return np.ones_like(r)

    def describe(self) -> str:
        return f"half the sum of squares of {'ln ' if self.scale == 'log' else ''}loss"


Base = LogHuber | LeastSquares


@dataclass(frozen=True, eq=False)
class Weighted:
    """Another objective with a weight >= 0 for each row: the name of a column of the runs, or an array (n,).

    Weights multiply each row's term; they are not normalised, so a weight of 2 counts a row twice.
    """

    objective: Base
    weights: str | tuple[float, ...] | Array

    def __post_init__(self) -> None:
        if not isinstance(self.objective, LogHuber | LeastSquares):
            raise TypeError(f"objective={self.objective!r} must be LogHuber(...) or LeastSquares(...)")
        if not isinstance(self.weights, str) and np.isinf(checks.at_least("weights", self.weights, 0.0)).any():
            raise ValueError("weights must be finite")

    @property
    def scale(self) -> Scale:
        return self.objective.scale

    def describe(self) -> str:
        by = self.weights if isinstance(self.weights, str) else "given weights"
        return f"{self.objective.describe()}, weighted by {by}"


Objective = LogHuber | LeastSquares | Weighted
