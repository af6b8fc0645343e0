"""What the estimators of the compute-optimal split read and return: columns of runs, and power laws of the split in compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.checks import above, real
from limitlib.scaling.published import FLOPS_PER_PARAM_TOKEN

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrontierLine:
    """A fitted power law y = prefactor C^exponent; an estimate.

    exponent_se and exponent_interval are NaN where no honest error is known (approach 1 without a bootstrap). scatter_se: the
    textbook standard error from the residuals of the line alone, NaN for fewer than three points or where they are dependent.
    centre: the mean ln C, where level = ln y. covariance: of (exponent, level), shape (2, 2). quantile: what a standard error
    is multiplied by. confidence: of the intervals. draws: (exponent, level) of the bootstrap, shape (n, 2), or None.
    """

    exponent: float
    level: float
    centre: float
    covariance: Array
    quantile: float
    scatter_se: float
    confidence: float
    draws: Array | None = None
    kind: str = "estimate"

    @property
    def prefactor(self) -> float:
        """The value at C = 1 FLOP, which lies far from any data."""
        return float(np.exp(self.level - self.exponent * self.centre))

    @property
    def exponent_se(self) -> float:
        """Standard error of the exponent."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def exponent_interval(self) -> tuple[float, float]:
        """Interval of the exponent at the stated confidence."""
        if self.draws is not None:
            low, high = np.quantile(self.draws[:, 0], self._tails())
            return float(low), float(high)
        half = self.quantile * self.exponent_se
        return self.exponent - half, self.exponent + half

    def predict(self, flops: ArrayLike) -> Array:
        """The line at the budgets ``flops``; any shape."""
        return np.asarray(np.exp(self.level + self.exponent * (np.log(above("flops", flops, 0.0)) - self.centre)))

    def interval(self, flops: ArrayLike) -> tuple[Array, Array]:
        """Pointwise interval of the line at ``flops`` (any shape): of the fitted line, not of a run, and without its bias."""
        x = np.log(above("flops", flops, 0.0)) - self.centre
        if self.draws is not None:
            values = self.draws[:, 1] + np.multiply.outer(x, self.draws[:, 0])
            low, high = np.quantile(values, self._tails(), axis=-1)
        else:
            (ee, el), (_, ll) = self.covariance
            half = self.quantile * np.sqrt(ee * x**2 + 2 * el * x + ll)
            middle = self.level + self.exponent * x
            low, high = middle - half, middle + half
        return np.asarray(np.exp(low)), np.asarray(np.exp(high))

    def _tails(self) -> tuple[float, float]:
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2


@dataclass(frozen=True)
class Envelope:
    """The points approach 1 regressed through: budget, the winning run (code), its parameters, tokens and loss; shape (k,)."""

    budget: Array
    run: NDArray[np.int64]
    n_params: Array
    n_tokens: Array
    loss: Array


@dataclass(frozen=True)
class Profiles:
    """What approach 2 found at each budget, shape (k,); NaN where ``problem`` names why the budget is left out.

    points: rows used. n_params, n_tokens, loss: at the polynomial's minimum. ln_params_se:
    standard error of ln n_params. curvature: second derivative of the fitted loss in ln P, at the minimum.
    """

    budget: Array
    points: NDArray[np.int64]
    n_params: Array
    n_tokens: Array
    loss: Array
    ln_params_se: Array
    curvature: Array
    problem: tuple[str, ...]


@dataclass(frozen=True)
class AllocationFit:
    """Two fitted power laws of the compute-optimal split; an estimate. notes: what was assumed, left out or not known."""

    method: str
    params: FrontierLine
    tokens: FrontierLine
    table: Envelope | Profiles
    interval_by: str
    notes: tuple[str, ...] = field(default=())
    kind: str = "estimate"

    @property
    def a(self) -> float:
        """Exponent of the parameters in compute."""
        return self.params.exponent

    @property
    def b(self) -> float:
        """Exponent of the tokens in compute."""
        return self.tokens.exponent


@dataclass(frozen=True)
class Panel:
    """Checked columns of n rows; ``run`` holds codes 0, 1, ..., ``weight`` is None where all rows weigh the same.

    unannealed: how many rows the column ``annealed`` calls so, None if there is no such column.
    """

    C: Array
    P: Array
    N: Array
    loss: Array
    run: NDArray[np.int64]
    weight: Array | None
    unannealed: int | None
    notes: tuple[str, ...]


def read_panel(runs: Any, weights: ArrayLike | None = None, tokens: str = "N") -> Panel:
    """The columns of ``runs``, checked; missing C or tokens are computed from C = 6 P N and noted.

    tokens: the column that counts tokens; K may be optimiser steps, so it is never taken for them unasked.
    """
    columns: Any = runs if isinstance(runs, Mapping) else getattr(runs, "columns", None)
    loss, run = (runs.get(n) if isinstance(runs, Mapping) else getattr(runs, n, None) for n in ("loss", "run"))
    if not isinstance(columns, Mapping) or loss is None:
        raise TypeError("runs must be a mapping of arrays with a 'loss', or have .columns, .loss and .run")
    notes = []
    if tokens != "N" and tokens not in columns:
        raise ValueError(f"tokens={tokens!r} is no column of runs, which has {', '.join(columns)}")
    given = {name: columns[source] for name, source in (("C", "C"), ("P", "P"), ("N", tokens)) if source in columns}
    if "P" not in given or not {"C", "N"} & set(given):
        hint = "; if K counts tokens, say tokens='K'" if "K" in columns else ""
        raise ValueError(f"runs has the columns {', '.join(columns)}; P and one of C, N are needed{hint}")
    checked = {name: np.ravel(above(name, value, 0.0)) for name, value in given.items()}
    if "C" not in checked:
        checked["C"] = FLOPS_PER_PARAM_TOKEN * checked["P"] * checked["N"]
        notes.append("C = 6 P N")
    if "N" not in checked:
        checked["N"] = checked["C"] / (FLOPS_PER_PARAM_TOKEN * checked["P"])
        notes.append("N = C / (6 P)")
    checked["loss"] = np.ravel(above("loss", loss, 0.0))
    n = checked["loss"].size
    if run is None:
        codes = np.arange(n)
        notes.append("no column run: every row counts as a run of its own")
    else:
        codes = np.unique(np.ravel(np.asarray(run)), return_inverse=True)[1]
    sizes = {**{k: v.size for k, v in checked.items()}, "run": codes.size}
    if n == 0 or set(sizes.values()) != {n}:
        raise ValueError(f"columns differ in length or are empty: {sizes}; give one value a row")
    if not all(np.isfinite(v).all() for v in checked.values()):
        raise ValueError("C, P, N and loss must be finite; drop the rows that are not")
    annealed = columns.get("annealed", getattr(runs, "annealed", None))
    unannealed = None if annealed is None else int((np.asarray(annealed, dtype=float) == 0).sum())
    weight = None
    if weights is not None:
        weight = np.ravel(above("weights", weights, 0.0))
        if weight.size != n:
            raise ValueError(f"weights has {weight.size} values for {n} rows; give one a row")
    return Panel(checked["C"], checked["P"], checked["N"], checked["loss"], codes, weight, unannealed, tuple(notes))


def line_weights(x: Array) -> Array:
    """Rows (exponent, level at the mean of x) that map ln y to its least-squares line; shape (2, k)."""
    d = x - x.mean()
    return np.stack([d / np.sum(d * d), np.full(x.size, 1.0 / x.size)])


def scatter_error(x: Array, y: Array) -> float:
    """Standard error of the least-squares slope from the residuals alone; NaN for fewer than three points."""
    if x.size < 3:
        return float("nan")
    slope, level = line_weights(x) @ y
    d = x - x.mean()
    residual = y - level - slope * d
    return float(np.sqrt(np.sum(residual**2) / (x.size - 2) / np.sum(d * d)))


def between(name: str, value: Any, high: float) -> float:
    """A number strictly between 0 and ``high``; ValueError naming it otherwise."""
    number = real(name, value, least=0.0, exclusive=True)
    if number >= high:
        raise ValueError(f"{name}={value!r} must be below {high:g}")
    return number
