"""The bias of approaches 1 and 2 on a known law, without noise: what the parabola and a finite set of sizes do alone.

Along a budget C = 6 P N the law L = E + A P^-alpha + B N^-beta is, with t = ln P - ln P*(C) and the stationarity condition
alpha A P*^-alpha = beta B N*^-beta = kappa(C),

    L = E + kappa(C) [ e^(-alpha t) / alpha + e^(beta t) / beta ],

so that the profile's *shape* does not depend on the budget. Everything below follows from that: an error of the vertex that
is the same in t at every budget moves the prefactor and leaves the exponent alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.checks import above, at_least, count, real_array
from limitlib.scaling.published import FLOPS_PER_PARAM_TOKEN, ChinchillaLaw, allocation_constants, optimal_allocation

Array = NDArray[np.float64]
LN10 = float(np.log(10.0))


@dataclass(frozen=True)
class Extrapolation:
    """A fitted frontier used at larger budgets: the split it prescribes and what that costs under the true law; exact.

    flops, n_params, n_tokens: shape (k,). params_ratio: prescribed over optimal parameters. excess_loss: nats per token
    above the optimum of that budget. wasted_share: see :func:`wasted_compute`.
    """

    flops: Array
    n_params: Array
    n_tokens: Array
    params_ratio: Array
    excess_loss: Array
    wasted_share: Array
    kind: str = "exact"


class AllocationBias:
    """What the bias of either approach says of its fitted line P = exp(c) C^a beside that of the law; exact up to rounding."""

    law: ChinchillaLaw
    a: float
    a_fitted: float
    ln_prefactor_bias: float

    @property
    def a_bias(self) -> float:
        """Fitted minus true exponent of the parameters; of the tokens it is the negative."""
        return self.a_fitted - self.a

    def extrapolate(self, flops: ArrayLike) -> Extrapolation:
        """The fitted line carried to the budgets ``flops`` (positive, scalar or shape (k,)) and its cost under the law."""
        budget = np.atleast_1d(above("flops", flops, 0.0))
        return _extrapolation(self.law, budget, self.ln_prefactor_bias + self.a_bias * np.log(budget))


@dataclass(frozen=True)
class Approach2Bias(AllocationBias):
    """What approach 2 returns on exact losses of ``law``, next to the truth; exact up to rounding.

    ln_bias: ln of fitted over true optimal parameters at each budget, shape (k,); of tokens it is the negative.
    leading_order: its expansion to third order in width and offset. inside: whether the vertex lies in the grid; budgets
    where it does not are left out of the line, as ``approach_2`` leaves them out. a, b: true exponents of parameters and
    tokens; a_fitted, b_fitted those of the fitted lines. ln_prefactor_bias: of the parameters' line, at C = 1 FLOP.
    """

    law: ChinchillaLaw
    budgets: Array
    n_params: Array
    fitted_params: Array
    ln_bias: Array
    leading_order: Array
    inside: NDArray[np.bool_]
    a: float
    a_fitted: float
    b: float
    b_fitted: float
    ln_prefactor_bias: float
    notes: tuple[str, ...]
    kind: str = "exact"


@dataclass(frozen=True)
class Approach1Bias(AllocationBias):
    """The line through the lower envelope of exact curves of finitely many sizes, next to the truth; exact up to rounding.

    n_params: the sizes, shape (m,). crossings: budgets where the next size takes over, shape (m - 1,), increasing.
    flops: the range of budgets regressed over. edge_share: part of that range, in ln C, where the smallest or the largest
    size wins and the true optimum may lie beyond it.
    """

    law: ChinchillaLaw
    n_params: Array
    crossings: Array
    flops: tuple[float, float]
    a: float
    a_fitted: float
    b: float
    b_fitted: float
    ln_prefactor_bias: float
    edge_share: float
    notes: tuple[str, ...]
    kind: str = "exact"


def wasted_compute(law: ChinchillaLaw, n_params: ArrayLike, n_tokens: ArrayLike) -> Array:
    """The share of 6 P N that a compute-optimal run of the same loss would not have needed, in [0, 1); exact.

    With t = ln P/P* at the run's own budget the share is 1 - g(t)^(-(alpha+beta)/(alpha beta)), where
    g = (beta e^(-alpha t) + alpha e^(beta t)) / (alpha + beta) is the reducible loss over the optimal one; for small t it
    is (alpha + beta) t^2 / 2. Broadcasts. Raises ValueError for counts that are not positive.

    >>> law = ChinchillaLaw(1.8, 480.0, 2085.0, 0.35, 0.35)
    >>> best = optimal_allocation(law, 1e24)
    >>> float(wasted_compute(law, 2 * best.n_params, best.n_tokens / 2).round(4))
    0.1534
    """
    params = above("n_params", n_params, 0.0)
    tokens = above("n_tokens", n_tokens, 0.0)
    best = optimal_allocation(law, FLOPS_PER_PARAM_TOKEN * params * tokens)
    return _waste(law, np.log(params / best.n_params))


def _excess(law: ChinchillaLaw, t: Array) -> Array:
    """g(t) - 1 of :func:`wasted_compute`, without cancellation near t = 0."""
    total = law.alpha + law.beta
    return np.asarray((law.beta * np.expm1(-law.alpha * t) + law.alpha * np.expm1(law.beta * t)) / total)


def _waste(law: ChinchillaLaw, t: Array) -> Array:
    power = (law.alpha + law.beta) / (law.alpha * law.beta)
    return np.asarray(-np.expm1(-power * np.log1p(_excess(law, t))))


def _extrapolation(law: ChinchillaLaw, budget: Array, t: Array) -> Extrapolation:
    best = optimal_allocation(law, budget)
    n_params = np.asarray(best.n_params) * np.exp(t)
    excess = (np.asarray(best.loss) - law.E) * _excess(law, t)
    tokens = budget / (FLOPS_PER_PARAM_TOKEN * n_params)
    return Extrapolation(budget, n_params, tokens, np.exp(t), excess, _waste(law, t))


def vertex_bias(alpha: ArrayLike, beta: ArrayLike, half_width: ArrayLike, offset: ArrayLike = 0.0, *, points: int = 9) -> Array:
    """ln of the parabola's minimum over the true optimum, for equally spaced ln P and exact losses; closed form, exact.

    half_width, offset: of the grid's centre from the true optimum, in natural logarithms; everything broadcasts.

    *Closed form.* On the grid t = c + s, s equally spaced in [-h, h], the columns 1, s and s^2 - m2 are orthogonal (m_k the
    mean of s^k), hence the least-squares slope and curvature are separate sums, and with the profile of the module's head

        vertex = c - [b S(beta) - a S(alpha)] / (2 r [b Q(beta) + a Q(alpha)]),

    a = e^(-alpha c)/alpha, b = e^(beta c)/beta,
    S(x) = mean s sinh(x s), Q(x) = mean (s^2 - m2) cosh(x s), r = m2 / (m4 - m2^2). Neither E nor A, B nor the budget
    occurs. For alpha = beta and c = 0 the bracket is zero: no bias at any width. Q > 0, so the parabola is always convex.
    """
    c, h, al, be = np.broadcast_arrays(*(np.asarray(v, dtype=float)[..., None] for v in (offset, half_width, alpha, beta)))
    s = h * np.linspace(-1.0, 1.0, count("points", points, 3, "a parabola has three coefficients"))
    m2, m4 = np.mean(s**2, axis=-1), np.mean(s**4, axis=-1)
    right, left = np.exp(be * c)[..., 0] / be[..., 0], np.exp(-al * c)[..., 0] / al[..., 0]
    slope = right * np.mean(s * np.sinh(be * s), axis=-1) - left * np.mean(s * np.sinh(al * s), axis=-1)
    even = s**2 - m2[..., None]
    curve = right * np.mean(even * np.cosh(be * s), axis=-1) + left * np.mean(even * np.cosh(al * s), axis=-1)
    return np.asarray(c[..., 0] - slope / (2.0 * curve) * (m4 - m2**2) / m2)


def vertex_bias_leading(
    alpha: ArrayLike, beta: ArrayLike, half_width: ArrayLike, offset: ArrayLike = 0.0, *, points: int = 9
) -> Array:
    """The expansion of :func:`vertex_bias` to third order in width h and offset c; an estimate, its error is of fourth order.

    *Derivation.* Let rho = f'''/f'' = beta - alpha and q = f''''/f'' = alpha^2 - alpha beta + beta^2 at the optimum. About the
    grid's centre f(c + s) has the slope f''(c + rho c^2/2 + q c^3/6), the curvature f''(1 + rho c + q c^2/2) and the third
    derivative f''(rho + q c), up to higher order. Least squares turns s^3 into M s with M = m4/m2, and s^4 into R s^2 (and a
    constant) with R = (m6 - m4 m2)/(m4 - m2^2), since odd moments vanish. The fitted parabola has therefore the slope
    f''(c + rho c^2/2 + q c^3/6 + (rho + q c) M/6) and the curvature f''(1 + rho c + q c^2/2 + q R/12), and its vertex is

        t = rho (c^2/2 - M/6) + q c (c^2/3 + R/12 - M/6) - rho^2 c (c^2/2 - M/6) + fourth order.

    For n equally spaced points M = h^2 (3 n^2 - 7) / (5 (n - 1)^2), which tends to 3 h^2/5: a centred wide grid moves the
    minimum by (third derivative / second derivative) x h^2 x (-1/10), that is by **(alpha - beta) h^2 / 10**, towards larger
    models if alpha > beta. With n = 3 the constant is 1/6. A grid off its centre biases even a symmetric law, by
    alpha^2 c (c^2/3 - h^2/35) for many points.
    """
    c, h, al, be = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (offset, half_width, alpha, beta)))
    u = np.linspace(-1.0, 1.0, count("points", points, 3, "a parabola has three coefficients"))
    m2, m4, m6 = (float(np.mean(u**k)) for k in (2, 4, 6))
    M = h**2 * m4 / m2
    R = h**2 * (m6 - m4 * m2) / (m4 - m2**2) if points > 3 else h**2
    rho, q = be - al, al**2 - al * be + be**2
    second = rho * (c**2 / 2 - M / 6)
    return np.asarray(second + q * c * (c**2 / 3 + R / 12 - M / 6) - rho * c * second)


def approach_2_bias(
    law: ChinchillaLaw,
    *,
    budgets: ArrayLike,
    half_width_decades: ArrayLike,
    centre_offset: ArrayLike = 0.0,
    points: int = 9,
) -> Approach2Bias:
    """The exact, noise-free bias of approach 2 (parabola in ln P, equal weights, all points) on a known law.

    budgets: FLOPs, at least two different. half_width_decades: half the grid's width in log10 P, above 0. centre_offset:
    log10 of the grid's centre over the true optimum. Both are scalars or one value a budget. points: equally spaced in ln P,
    at least 3. Kind: exact (closed form of :func:`vertex_bias`). Raises ValueError for arguments out of range or when fewer
    than two budgets keep their minimum inside the grid.

    *When is the exponent unbiased?* The profile in t = ln P/P* has the same shape at every budget, so width and offset fix the
    vertex's error. The fitted exponent is a + (slope of the errors on ln C): it is exact whenever width and offset, measured
    from the truth, are equal at all budgets, centred or not, symmetric law or not; only the prefactor is then wrong. It is
    biased when the offset or the width drifts with the budget, which it does if the centres follow a guess with another
    exponent. With alpha = beta and centred grids the prefactor is right as well, at any widths.

    Source of the question: Czech et al. 2026, arXiv 2603.22339, whose abstract reports for Llama 3's data an
    under-allocation of parameters that corresponds to 6.5 % of a budget of 3.8e25 FLOPs. That number is the difference of two
    fits to real data and not this noise-free bias: their constants have alpha and beta almost equal.
    """
    C = np.atleast_1d(above("budgets", budgets, 0.0))
    if C.ndim != 1 or np.unique(C).size < 2:
        raise ValueError(f"budgets={budgets!r} must hold at least two different FLOP budgets, shape (k,): a line is fitted")
    h = LN10 * _per_budget("half_width_decades", above("half_width_decades", half_width_decades, 0.0), C.size)
    c = LN10 * _per_budget("centre_offset", real_array("centre_offset", centre_offset), C.size)
    t = vertex_bias(law.alpha, law.beta, h, c, points=points)
    inside = np.abs(t - c) <= h
    notes = ["noise-free: a real fit adds sampling error to this bias", "C = 6 P N"]
    if not inside.all():
        notes.append(f"minimum at the edge at {int((~inside).sum())} of {C.size} budgets: left out, as approach_2 does")
    if np.unique(C[inside]).size < 2:
        raise ValueError("fewer than two budgets have their minimum inside the grid; widen half_width_decades or centre it")
    slope, level = np.polyfit(np.log(C[inside]) - np.log(C[inside]).mean(), t[inside], 1)
    true = allocation_constants(law)
    n_params = np.asarray(optimal_allocation(law, C).n_params)
    return Approach2Bias(
        law=law,
        budgets=C,
        n_params=n_params,
        fitted_params=n_params * np.exp(t),
        ln_bias=t,
        leading_order=vertex_bias_leading(law.alpha, law.beta, h, c, points=points),
        inside=inside,
        a=true.a,
        a_fitted=true.a + float(slope),
        b=true.b,
        b_fitted=true.b - float(slope),
        ln_prefactor_bias=float(level - slope * np.log(C[inside]).mean()),
        notes=tuple(notes),
    )


def _per_budget(name: str, value: Array, k: int) -> Array:
    if value.shape not in ((), (1,), (k,)):
        raise ValueError(f"{name} has shape {value.shape}; give one number, or one for each of the {k} budgets")
    if not np.isfinite(value).all():
        raise ValueError(f"{name}={value!r} must be finite")
    return np.broadcast_to(value, (k,)).astype(float)


def approach_1_bias(law: ChinchillaLaw, *, n_params: ArrayLike, flops: tuple[float, float] | None = None) -> Approach1Bias:
    """The exact, noise-free slope of approach 1 when every size of a finite set follows the law along its whole curve.

    n_params: the sizes, at least 3 different. flops: the range of budgets regressed over, uniformly in ln C; without it the
    range from the first to the last crossing, where every winner is an inner size and wins its whole stretch. Kind: exact.
    Raises ValueError for sizes or a range that do not fit.

    *Crossings.* Sizes p < r have equal loss at (C/6)^beta = B (r^beta - p^beta) / (A (p^-alpha - r^-alpha)). The loss is
    strictly convex in ln P, so the optimum lies between p and r there, and it grows with C: neighbours cross in order and
    every size wins one stretch. The envelope's winner is a staircase in ln C; its least-squares line is a sum over stretches.

    *Geometric sizes.* With ratio r every stretch has the length ln r / a, whatever alpha, beta, so over m whole stretches the
    staircase is a line of slope a minus a sawtooth, cov(sawtooth, ln C) = -a T^2/12, var(ln C) = (m T)^2/12, and the fitted
    exponent is exactly **a (1 - 1/m^2)**: too small, however fine the budgets and however small the noise. If the range
    goes on where the smallest or largest size wins (``edge_share`` > 0), the winner stays put while the optimum moves on, and
    the exponent falls further.

    The unannealed checkpoints of a real run do not follow the finished runs' law; that error comes on top and is not in here.
    """
    sizes = np.unique(above("n_params", n_params, 0.0))
    if sizes.size < 3 or not np.isfinite(sizes).all():
        raise ValueError(f"n_params holds {sizes.size} different finite sizes; give at least 3, with 2 there is one step only")
    powers = sizes**law.beta, sizes**-law.alpha
    ratio = law.B * np.diff(powers[0]) / (-law.A * np.diff(powers[1]))
    crossings = FLOPS_PER_PARAM_TOKEN * ratio ** (1.0 / law.beta)
    if flops is None:
        low, high = float(crossings[0]), float(crossings[-1])
    else:
        low, high = (float(v) for v in at_least("flops", flops, 1.0))
        if not low < high < np.inf:
            raise ValueError(f"flops={flops!r} must be an increasing pair of finite budgets")
    # Stretch i of ln C, cut to the range, has the constant ln P of size i; empty stretches have length 0.
    edges = np.clip(np.concatenate([[-np.inf], np.log(crossings), [np.inf]]), np.log(low), np.log(high))
    length, middle = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    total, centre = edges[-1] - edges[0], (edges[-1] + edges[0]) / 2
    ln_p = np.log(sizes)
    slope = float(np.sum(length * (middle - centre) * (ln_p - ln_p.mean())) / (total**3 / 12))
    level = float(np.sum(length * ln_p) / total)
    true = allocation_constants(law)
    notes = ["noise-free, every checkpoint on the law of finished runs", "C = 6 P N"]
    edge_share = float((length[0] + length[-1]) / total)
    if edge_share > 0:
        notes.append(f"the smallest or largest size wins on {edge_share:.0%} of the range: the optimum may lie beyond them")
    at_one = np.log(true.G) - true.a * np.log(FLOPS_PER_PARAM_TOKEN)
    return Approach1Bias(
        law=law,
        n_params=sizes,
        crossings=crossings,
        flops=(low, high),
        a=true.a,
        a_fitted=slope,
        b=true.b,
        b_fitted=1.0 - slope,
        ln_prefactor_bias=level - slope * float(centre) - float(at_one),
        edge_share=edge_share,
        notes=tuple(notes),
    )
