"""Published scaling laws as data, and the compute-optimal allocation that they imply (theorem T9.1).

Units stand in the names: ``n_params`` (parameters), ``n_tokens`` (tokens), ``flops`` (floating-point operations),
``pf_days`` (petaFLOP/s-days); every loss is in nats per token. Losses of two laws are comparable only as far as their
texts and tokenizers are: the constants of each were fitted on other data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

Value = float | NDArray[np.float64]

#: Training FLOPs per parameter and token: two forward, four backward (Kaplan et al. 2020).
FLOPS_PER_PARAM_TOKEN = 6.0
#: Inference FLOPs per parameter and token: the forward pass alone.
INFERENCE_FLOPS_PER_PARAM_TOKEN = 2.0
#: FLOPs in one petaFLOP/s-day.
PF_DAY = 1e15 * 24 * 3600

UNITS = ("n_params", "n_tokens", "pf_days")


def _positive(name: str, value: ArrayLike) -> Value:
    """``value`` as a float or a float64 array, or a ValueError that names the argument."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a number or an array of numbers") from None
    if array.size == 0 or not np.all(np.isfinite(array)) or not np.all(array > 0):
        raise ValueError(f"{name}={value!r} must be positive and finite; give a count, not its logarithm")
    return float(array) if array.ndim == 0 else array


def _not_negative(name: str, value: float) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value!r} must be a finite number >= 0")
    return float(value)


def training_flops(n_params: ArrayLike, n_tokens: ArrayLike) -> Value:
    """Training compute 6 N D in FLOPs (an approximation that leaves out attention over the context).

    >>> f"{training_flops(175e9, 300e9):.3g}"
    '3.15e+23'
    """
    return FLOPS_PER_PARAM_TOKEN * _positive("n_params", n_params) * _positive("n_tokens", n_tokens)


def lifetime_flops(n_params: ArrayLike, n_tokens: ArrayLike, *, inference_tokens: float = 0.0) -> Value:
    """Compute 6 N D + 2 N M in FLOPs of training on D tokens and then serving M = ``inference_tokens`` tokens."""
    served = INFERENCE_FLOPS_PER_PARAM_TOKEN * _not_negative("inference_tokens", inference_tokens)
    return training_flops(n_params, n_tokens) + served * _positive("n_params", n_params)


def to_pf_days(flops: ArrayLike) -> Value:
    """FLOPs as petaFLOP/s-days (1 PF-day = 8.64e19 FLOPs)."""
    return _positive("flops", flops) / PF_DAY


def from_pf_days(pf_days: ArrayLike) -> Value:
    """PetaFLOP/s-days as FLOPs."""
    return _positive("pf_days", pf_days) * PF_DAY


@dataclass(frozen=True)
class SinglePowerLaw:
    """A law L(x) = (scale / x)^exponent of one quantity, in nats per token, with no irreducible loss.

    unit: which quantity x is, ``"n_params"``, ``"n_tokens"`` or ``"pf_days"``; ``loss`` takes it by that name only, so
    that a number in another unit is an error and not a wrong loss. scale: in that unit. source: where it is published.
    """

    scale: float
    exponent: float
    unit: str
    source: str = ""

    def __post_init__(self) -> None:
        _positive("scale", self.scale)
        _positive("exponent", self.exponent)
        if self.unit not in UNITS:
            raise ValueError(f"unit={self.unit!r} is none of {', '.join(UNITS)}")

    @classmethod
    def from_prefactor(cls, prefactor: float, exponent: float, unit: str, source: str = "") -> SinglePowerLaw:
        """The same law written prefactor * x^(-exponent).

        >>> round(SinglePowerLaw.from_prefactor(2.57, 0.048, "pf_days").loss(pf_days=1.0), 12)
        2.57
        """
        _positive("prefactor", prefactor)
        _positive("exponent", exponent)
        return cls(prefactor ** (1.0 / exponent), exponent, unit, source)

    def loss(self, **quantity: ArrayLike) -> Value:
        """Loss at ``n_params=...``, ``n_tokens=...`` or ``pf_days=...`` (the one of this law); broadcasts over arrays.

        Raises TypeError for any other name, saying which unit the law takes.
        """
        if set(quantity) != {self.unit}:
            given = ", ".join(sorted(quantity)) or "nothing"
            raise TypeError(f"this law takes {self.unit}=..., not {given}")
        return (self.scale / _positive(self.unit, quantity[self.unit])) ** self.exponent


@dataclass(frozen=True)
class KaplanJointLaw:
    """The joint law L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D of Kaplan et al. 2020, equation 1.5.

    n_scale in non-embedding parameters, d_scale in tokens. It is not a sum of two power laws; it tends to
    (N_c/N)^alpha_N as D grows and to (D_c/D)^alpha_D as N grows.
    """

    n_scale: float
    d_scale: float
    alpha_n: float
    alpha_d: float
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("n_scale", "d_scale", "alpha_n", "alpha_d"):
            _positive(name, getattr(self, name))

    def loss(self, n_params: ArrayLike, n_tokens: ArrayLike) -> Value:
        """Loss in nats per token; broadcasts over arrays."""
        size = (self.n_scale / _positive("n_params", n_params)) ** (self.alpha_n / self.alpha_d)
        return (size + self.d_scale / _positive("n_tokens", n_tokens)) ** self.alpha_d


@dataclass(frozen=True)
class ChinchillaLaw:
    """The parametric law L(N, D) = E + A N^(-alpha) + B D^(-beta) of Hoffmann et al. 2022 (their approach 3).

    E: irreducible loss, nats per token, >= 0. A, B: positive; their units are those that make the terms nats per token
    at N in parameters and D in tokens. alpha, beta: positive exponents. source: where the constants stand.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    source: str = ""

    def __post_init__(self) -> None:
        _not_negative("E", self.E)
        for name in ("A", "B", "alpha", "beta"):
            _positive(name, getattr(self, name))

    def reducible_loss(self, n_params: ArrayLike, n_tokens: ArrayLike) -> Value:
        """A N^(-alpha) + B D^(-beta): the loss above E, nats per token; broadcasts over arrays."""
        size = self.A * _positive("n_params", n_params) ** -self.alpha
        return size + self.B * _positive("n_tokens", n_tokens) ** -self.beta

    def loss(self, n_params: ArrayLike, n_tokens: ArrayLike) -> Value:
        """Loss in nats per token; broadcasts over arrays.

        >>> round(HOFFMANN_ROUNDED.loss(70e9, 1.4e12), 4)
        1.9366
        """
        return self.E + self.reducible_loss(n_params, n_tokens)


_KAPLAN = "Kaplan et al. 2020 (arXiv 2001.08361)"
KAPLAN_N = SinglePowerLaw(8.8e13, 0.076, "n_params", f"{_KAPLAN}, table 5: non-embedding parameters, data unlimited")
KAPLAN_D = SinglePowerLaw(5.4e13, 0.095, "n_tokens", f"{_KAPLAN}, table 5: size unlimited, early stopping")
KAPLAN_COMPUTE_NAIVE = SinglePowerLaw(1.6e7, 0.057, "pf_days", f"{_KAPLAN}, table 5: one fixed batch size")
KAPLAN_COMPUTE_MIN = SinglePowerLaw(3.1e8, 0.050, "pf_days", f"{_KAPLAN}, table 5: compute-efficient batch size")
KAPLAN_JOINT = KaplanJointLaw(6.4e13, 1.8e13, 0.076, 0.103, f"{_KAPLAN}, table 2")
BROWN_COMPUTE = SinglePowerLaw.from_prefactor(
    2.57, 0.048, "pf_days", "Brown et al. 2020 (arXiv 2005.14165), dashed line of figure 3.1"
)

_HOFFMANN = "Hoffmann et al. 2022 (arXiv 2203.15556)"
HOFFMANN_ROUNDED = ChinchillaLaw(1.69, 406.4, 410.7, 0.34, 0.28, f"{_HOFFMANN}, equation 10")
HOFFMANN_TEX = ChinchillaLaw(
    1.6934, 406.4, 410.7, 0.3392, 0.2849, f"{_HOFFMANN}, TeX source, four decimals as in Besiroglu et al. 2024"
)
#: All the digits that Besiroglu et al.'s notebook carries: logarithms of A, B, E, and the exponents.
HOFFMANN_TEX_FULL = ChinchillaLaw(
    math.exp(0.5267228),
    math.exp(6.0073404),
    math.exp(6.0179186),
    0.33917084,
    0.2849083,
    f"{_HOFFMANN}, TeX source, all digits as in epoch-research/analyzing-chinchilla",
)
BESIROGLU = ChinchillaLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu et al. 2024 (arXiv 2404.10102)")
#: A fit to C4 with one exponent for both terms; printed as 1.87 + 521/N^0.353 + 1488/D^0.353.
MUENNIGHOFF = ChinchillaLaw(
    math.exp(0.6254804),
    math.exp(6.255414),
    math.exp(7.3049974),
    0.3526596,
    0.3526596,
    "Muennighoff et al. 2023 (arXiv 2305.16264), all digits as in huggingface/datablations",
)


@dataclass(frozen=True)
class AllocationConstants:
    """N* = G (C/6)^a, D* = (C/6)^b / G, L* = E + loss_prefactor (C/6)^(-loss_exponent) of theorem T9.1; exact.

    ratio_exponent: of D*/N* = G^(-2) (C/6)^ratio_exponent; zero exactly when alpha = beta.
    """

    G: float
    a: float
    b: float
    loss_exponent: float
    loss_prefactor: float
    ratio_exponent: float


@dataclass(frozen=True)
class Allocation:
    """How a compute budget is split, and the loss that the law predicts there, nats per token.

    kind: ``"exact"`` for the closed form (exact in the law's constants), ``"estimate"`` for a numerical minimum.
    """

    n_params: Value
    n_tokens: Value
    flops: Value
    loss: Value
    kind: str

    @property
    def tokens_per_param(self) -> Value:
        """D / N, tokens per parameter."""
        return self.n_tokens / self.n_params


def allocation_constants(law: ChinchillaLaw) -> AllocationConstants:
    """The constants of a law's compute-optimal frontier, in closed form (T9.1; Hoffmann et al. 2022, equation 4).

    >>> round(allocation_constants(BESIROGLU).a, 4)
    0.5126
    """
    total = law.alpha + law.beta
    G = (law.alpha * law.A / (law.beta * law.B)) ** (1.0 / total)
    return AllocationConstants(
        G=G,
        a=law.beta / total,
        b=law.alpha / total,
        loss_exponent=law.alpha * law.beta / total,
        loss_prefactor=law.A * G**-law.alpha + law.B * G**law.beta,
        ratio_exponent=(law.alpha - law.beta) / total,
    )


def optimal_allocation(law: ChinchillaLaw, flops: ArrayLike) -> Allocation:
    """The minimum of ``law.loss`` under 6 N D = ``flops``, in closed form (theorem T9.1); broadcasts over budgets.

    Raises ValueError for a budget that is not positive.

    >>> round(optimal_allocation(HOFFMANN_ROUNDED, 5.76e23).tokens_per_param, 2)
    92.65
    """
    budget = _positive("flops", flops)
    c = allocation_constants(law)
    product = budget / FLOPS_PER_PARAM_TOKEN
    return Allocation(
        n_params=c.G * product**c.a,
        n_tokens=product**c.b / c.G,
        flops=budget,
        loss=law.E + c.loss_prefactor * product**-c.loss_exponent,
        kind="exact",
    )


def numeric_allocation(law: ChinchillaLaw, flops: float, *, inference_tokens: float = 0.0) -> Allocation:
    """The minimum of the loss under 6 N D + 2 N M = ``flops``, M = ``inference_tokens``, by search; an estimate.

    With M = 0 it is the independent check of ``optimal_allocation``: it evaluates the loss along the constraint (a scan
    of ln N, then Brent's method) and uses neither the stationarity condition nor G. With M > 0 the closed form does not
    apply. Only allocations with at least one parameter and one token are searched. Raises ValueError when the least
    loss sits at the edge of that range, or the budget leaves no range.
    """
    budget = _positive("flops", flops)
    served = _not_negative("inference_tokens", inference_tokens)
    if not isinstance(budget, float):
        raise ValueError(f"flops has shape {budget.shape}; give one budget, and loop over several")
    largest = budget / (FLOPS_PER_PARAM_TOKEN + INFERENCE_FLOPS_PER_PARAM_TOKEN * served)
    if largest <= 1.0:
        raise ValueError(f"flops={flops!r} does not pay for one parameter and one token; give a larger budget")

    def tokens(n_params: Value) -> Value:
        return (budget / n_params - INFERENCE_FLOPS_PER_PARAM_TOKEN * served) / FLOPS_PER_PARAM_TOKEN

    grid = np.exp(np.linspace(0.0, math.log(largest), 513)[:-1])
    losses = np.asarray(law.reducible_loss(grid, tokens(grid)))
    best = int(np.argmin(losses))
    if best in (0, grid.size - 1):
        raise ValueError(
            f"flops={flops!r}: the least loss is at the edge of the search, N={grid[best]:.3g}; give a larger budget"
        )
    # Relative to the best grid point and its loss, so that no precision of the search is spent on ln N ~ 25 or on E.
    centre, step, scale = float(grid[best]), float(math.log(grid[1])), float(losses[best])

    def objective(t: float) -> float:
        n_params = centre * math.exp(t)
        return float(law.reducible_loss(n_params, tokens(n_params))) / scale

    found = minimize_scalar(objective, bracket=(-step, 0.0, step), method="brent", options={"xtol": 1e-11})
    n_params = centre * math.exp(float(found.x))
    n_tokens = float(tokens(n_params))
    return Allocation(n_params, n_tokens, budget, float(law.loss(n_params, n_tokens)), "estimate")


def exponential_decade_ratios(first: float, decades: int) -> NDArray[np.float64]:
    """Ratios r(10^k P) / r(10^(k-1) P), k = 1..decades, of the exponential whose first is ``first`` (T9.2); exact.

    The k-th is first^(10^(k-1)); a power law has the same ratio in every decade. Shape (decades,); underflows to 0.

    >>> exponential_decade_ratios(0.5, 2).tolist()
    [0.5, 0.0009765625]
    """
    if not 0.0 < first < 1.0:
        raise ValueError(f"first={first!r} must lie in (0, 1): the factor of the first decade")
    if not isinstance(decades, int) or decades < 1:
        raise ValueError(f"decades={decades!r} must be an integer >= 1")
    return np.asarray(np.power(first, 10.0 ** np.arange(decades)), dtype=np.float64)


def dense_family_error(n_terms: ArrayLike) -> Value:
    """Distance (ln(N + 2))^(-1/2) of one fixed element from the span of the first N vectors of an orthonormal basis.

    The element has the squared coefficients 1/ln(j + 1) - 1/ln(j + 2), which telescope; the value is exact. It tends to
    0, since the basis is complete, and more slowly than every power of N. n_terms: N > 0; broadcasts over arrays.

    >>> round(dense_family_error(1e16), 4)
    0.1648
    """
    error = np.log(_positive("n_terms", n_terms) + 2.0) ** -0.5
    return float(error) if error.ndim == 0 else error
