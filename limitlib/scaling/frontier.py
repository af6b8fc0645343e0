"""Compute-optimal sizes of a fitted law: P and N that minimise the loss at C = 6 P N, with intervals from the bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib import checks
from limitlib.scaling.laws import AdditiveLaw, Law
from limitlib.scaling.published import FLOPS_PER_PARAM_TOKEN

if TYPE_CHECKING:
    from limitlib.scaling.fitting import Bootstrap, Fit

Array = NDArray[np.float64]

#: Points of ln P in the numerical search along a budget, and how far it reaches beyond the runs (decades).
POINTS, REACH = 801, 4.0


@dataclass(frozen=True, eq=False)
class FitFrontier:
    """Optimal parameters P, tokens N and loss at budgets C (FLOP), all of shape (k,); estimates.

    exponent: d ln P / d ln C at each budget. Intervals have shape (2, k) and are None without a bootstrap; share_without: the
    share of resamples that have no interior optimum and are left out. beyond: each budget over the largest among the runs.
    method: "closed form" (theorem T9.1) or "numeric" (a search along the budget).
    """

    C: Array
    P: Array
    N: Array
    loss: Array
    exponent: Array
    beyond: Array
    method: str
    level: float
    P_interval: Array | None = None
    N_interval: Array | None = None
    ratio_interval: Array | None = None
    loss_interval: Array | None = None
    exponent_interval: Array | None = None
    share_without: float = 0.0
    kind: str = "estimate"

    @property
    def ratio(self) -> Array:
        """Tokens per parameter."""
        return self.N / self.P


def frontier(
    fit: Fit, C: ArrayLike, boot: Bootstrap | None = None, *, level: float = 0.95, numeric: bool = False
) -> FitFrontier:
    """The compute-optimal frontier of a fit in P and N.

    C: budgets in FLOP, (k,) or one. boot: a bootstrap of the same fit, for percentile intervals. numeric: search along the
    budget even where the closed form applies; they must agree. Raises ValueError for a law in other variables than P and N, for
    budgets that are not positive, and where the law has no interior optimum.
    """
    if set(fit.law.variables) != {"P", "N"}:
        raise ValueError(f"the frontier needs a law in P and N alone; {fit.law.name!r} is in {', '.join(fit.law.variables)}")
    budgets = np.atleast_1d(checks.above("C", C, 0.0))
    names = None if numeric else closed_names(fit.law)

    def solve(theta: Array) -> tuple[Array, Array, Array]:
        """ln P*, exponent and loss, each (B, k); NaN where there is no interior optimum."""
        if names is not None:
            return closed(fit.law.natural(theta, fit.means), names, budgets)
        return searched(fit, theta, budgets)

    log_p, exponent, loss = (v[0] for v in solve(fit.theta[None]))
    if not np.isfinite(log_p).all():
        at = budgets[~np.isfinite(log_p)][0]
        raise ValueError(f"the law has no interior optimum at C={at:g}: more of one quantity always helps")
    P = np.exp(log_p)
    N = budgets / FLOPS_PER_PARAM_TOKEN / P
    beyond = budgets / float(np.max(FLOPS_PER_PARAM_TOKEN * fit.runs.columns["P"] * fit.runs.columns["N"]))
    method = "numeric" if names is None else "closed form"
    if boot is None:
        return FitFrontier(budgets, P, N, loss, exponent, beyond, method, level)
    drawn, slopes, losses = solve(boot.theta)
    ratios = budgets / FLOPS_PER_PARAM_TOKEN / np.exp(2 * drawn)
    sound = np.isfinite(drawn).all(axis=1)
    if sound.sum() < 2:
        raise ValueError("no resample has an interior optimum, so there is no interval; look at identify()")
    ends = [(1 - level) / 2, (1 + level) / 2]
    sizes = np.quantile(np.exp(drawn[sound]), ends, axis=0)
    return FitFrontier(
        budgets, P, N, loss, exponent, beyond, method, level, sizes,
        budgets / FLOPS_PER_PARAM_TOKEN / sizes[::-1], np.quantile(ratios[sound], ends, axis=0),
        np.quantile(losses[sound], ends, axis=0), np.quantile(slopes[sound], ends, axis=0), float(1 - sound.mean()),
    )  # fmt: skip


def closed_names(law: Law) -> tuple[str, str, str, str] | None:
    """Names of A, alpha, B, beta where the law is (E +) A P^-alpha + B N^-beta, else None."""
    if not isinstance(law, AdditiveLaw):
        return None
    found = {}
    for term in law.terms:
        if not term.powers:
            continue
        if len(term.powers) != 1 or term.amplitude is None:
            return None
        feature, exponent, factor = term.powers[0]
        if feature in found or not isinstance(exponent, str) or factor != -1.0 or not feature.startswith("ln "):
            return None
        found[feature] = (term.amplitude, exponent)
    return (*found["ln P"], *found["ln N"]) if set(found) == {"ln P", "ln N"} else None


def closed(parameters: Mapping[str, Array], names: tuple[str, str, str, str], budgets: Array) -> tuple[Array, Array, Array]:
    """Theorem T9.1 for B laws and k budgets at once."""
    A, alpha, B, beta = (parameters[n][:, None] for n in names)
    floor = parameters["E"][:, None] if "E" in parameters else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = beta / (alpha + beta)
        log_p = np.log(alpha * A / (beta * B)) / (alpha + beta) + slope * np.log(budgets / FLOPS_PER_PARAM_TOKEN)
        log_p = np.where((alpha > 0) & (beta > 0) & (A > 0) & (B > 0), log_p, np.nan)
        log_n = np.log(budgets / FLOPS_PER_PARAM_TOKEN) - log_p
        loss = floor + A * np.exp(-alpha * log_p) + B * np.exp(-beta * log_n)
    return log_p, np.broadcast_to(slope, log_p.shape), loss


def searched(fit: Fit, theta: Array, budgets: Array) -> tuple[Array, Array, Array]:
    """A grid in ln P and the parabola through the three lowest points; the exponent by a step of 1 % in the budget."""
    around = np.log(budgets)[:, None] + np.log([1.0, 0.99, 1.01])
    sizes = np.log(fit.runs.columns["P"])
    grid = np.linspace(sizes.min() - REACH * np.log(10), sizes.max() + REACH * np.log(10), POINTS)
    found = np.empty((len(theta), len(budgets), 3))
    losses = np.empty((len(theta), len(budgets)))
    for i in range(len(budgets)):
        for j in range(3):
            P = np.exp(grid)
            value = fit._predict(theta, {"P": P, "N": np.exp(around[i, j]) / FLOPS_PER_PARAM_TOKEN / P})
            at = np.argmin(value, axis=1)
            inner = (at > 0) & (at < POINTS - 1)
            k = np.clip(at, 1, POINTS - 2)
            rows = np.arange(len(theta))
            left, mid, right = value[rows, k - 1], value[rows, k], value[rows, k + 1]
            shift = 0.5 * (left - right) / (left - 2 * mid + right)
            found[:, i, j] = np.where(inner, grid[k] + shift * (grid[1] - grid[0]), np.nan)
            if j == 0:
                losses[:, i] = mid - 0.25 * (left - right) * shift
    return found[..., 0], (found[..., 2] - found[..., 1]) / (np.log(1.01) - np.log(0.99)), losses
