"""The reported bound beta^K + Lip(T)^P + N^(-1/2), where it is a theorem: tied contractive blocks that receive the input.

Every value is an upper bound in exact arithmetic, evaluated in float64 without outward rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import spence

from limitlib.checks import at_least, count, real

#: The integral of sqrt(ln(1 + 2/u)) over 0 < u < 1, rounded up: Dudley's integral of a ball (T5.3).
CHAINING = 1.352582
#: Twice 12 CHAINING: symmetrisation, and Dudley's constant.
SAMPLE = 24 * CHAINING
#: Layers of the finer count that are added one by one; an integral bounds the others.
ADDED = 64


@dataclass(frozen=True)
class ErrorBound:
    """UPPER bound on E R(f) - R(f_inf) as a sum of three terms, T4.3.

    optimisation: falls like beta^K. architecture: falls like q^P. sample: falls like N^(-1/2).
    """

    optimisation: float
    architecture: float
    sample: float

    @property
    def total(self) -> float:
        """The sum of the three terms."""
        return self.optimisation + self.architecture + self.sample


def injected_bound(
    *,
    N: float,
    P: float,
    K: float,
    beta: float,
    q: float,
    initial_gap: float,
    loss_lipschitz: float,
    readout_lipschitz: float,
    state_bound: float,
    parameter_lipschitz: float,
    radius: float,
    dimension: int,
    copies: int = 1,
) -> ErrorBound:
    """UPPER bound on the mean excess risk, over the best infinite depth, of a tied, input-injected, contractive network. T4.3.

    The network is z -> T(z, x) applied P times to 0, then a readout; N samples, K steps; each of the three may be inf, and its
    term is then 0. The bound is

        initial_gap beta^K + loss_lipschitz readout_lipschitz state_bound q^P
        + 32.47 parameter_lipschitz radius sqrt(copies dimension / N).

    beta: factor of the training error per step, in (0, 1), the same for every sample and depth (1 - mu/L under the
    Polyak-Lojasiewicz condition); initial_gap: training error before the first step. q: Lipschitz constant of T in z, in
    [0, 1). state_bound: D with |T(0, x)| <= D (1 - q) for every x. parameter_lipschitz: constant of theta -> loss in the
    supremum norm, at every depth. radius, dimension: of the ball of parameters, which contains every iterate. copies: layers
    with parameters of their own; 1 for tied weights. With untied layers the constants refer to the largest change of a layer's
    parameters, and the count gives a factor sqrt(copies).
    Raises TypeError for what is no real number, ValueError for q outside [0, 1), beta outside (0, 1), N below 1, a dimension or
    copies that are not whole and positive, and other constants that are negative, NaN or infinite. A term is inf where
    a product of its factors, from the left, exceeds the largest float.
    """
    q, beta = real("q", q), real("beta", beta)
    if not 0 <= q < 1:
        reason = "at q = 1 the blocks need not have a limit, and q^P does not decay" if q == 1 else "the blocks must contract"
        raise ValueError(f"q={q!r} must lie in [0, 1): {reason}; give a contraction factor of the blocks in their state")
    if not 0 < beta < 1:
        raise ValueError(f"beta={beta!r} must lie strictly between 0 and 1; give 1 - mu/L with a constant mu > 0 below L")
    samples = real("N", N, least=1, finite=False)
    parameters = float(count("dimension", dimension, 1)) * count("copies", copies, 1)
    layers, steps = real("P", P, least=0, finite=False), real("K", K, least=0, finite=False)
    state = {"loss_lipschitz": loss_lipschitz, "readout_lipschitz": readout_lipschitz, "state_bound": state_bound}
    size = {"parameter_lipschitz": parameter_lipschitz, "radius": radius}
    share = 0.0 if math.isinf(samples) else math.sqrt(parameters / samples)
    return ErrorBound(
        optimisation=beta**steps * real("initial_gap", initial_gap, least=0),
        architecture=_product(q**layers, *(real(name, value, least=0) for name, value in state.items())),
        sample=_product(SAMPLE * share, *(real(name, value, least=0) for name, value in size.items())),
    )


def _product(*factors: float) -> float:
    """The product; 0 where a factor is, also where others alone would overflow."""
    return math.prod(factors) if all(factors) else 0.0


def untied_entropy(
    eps: float, *, q: float, dimension: int, parameter_lipschitz: float, radius: float, depth: float = math.inf
) -> float:
    """UPPER bound (nats) of log N(eps) of the states of untied injected blocks, supremum norm; any depth by default.

    Every layer has its own parameters in a ball of R^dimension; T is parameter_lipschitz-Lipschitz in them and contracts by q
    in its state. A layer that is j - 1 layers from the output counts only with q^(j-1), so it may be covered more coarsely: the
    share (1 - s) s^(j-1) of eps with s = sqrt(q). The sum over layers converges; beyond the 64th layer a closed integral bounds
    it, so that a factor q near 1 costs no more. Proposition T4.3b. depth: whole, or inf.
    inf where parameter_lipschitz radius or 2 parameter_lipschitz radius (1 + s) / ((1 - q) eps) or the
    result exceeds the largest float.
    Raises TypeError for what is no real number, ValueError for q outside [0, 1), eps <= 0, negative or infinite constants, or a
    dimension or depth that is not whole and positive.
    """
    q, eps = real("q", q), real("eps", eps, finite=False)
    if not 0 <= q < 1:
        raise ValueError(f"q={q!r} must lie in [0, 1): only a contraction forgets its early layers")
    if not eps > 0:
        raise ValueError(f"eps={eps!r} must be positive")
    dimension, layers = count("dimension", dimension, 1), depth if depth == math.inf else count("depth", depth, 1)
    size = real("parameter_lipschitz", parameter_lipschitz, least=0) * real("radius", radius, least=0)
    if math.isinf(eps):
        return 0.0
    s = math.sqrt(q)
    scale = 2 * size * (1 + s) / (1 - q) / eps  # 1 - s = (1 - q) / (1 + s), without cancellation
    if math.isinf(scale):
        return math.inf
    total = float(np.log1p(scale * s ** np.arange(min(layers, ADDED))).sum())
    if layers > ADDED and q > 0:
        rate, first = -math.log(q) / 2, ADDED - 0.5  # a convex term is at most its mean over the interval around it
        last = 0.0 if layers == math.inf else scale * math.exp(-rate * (layers - 0.5))
        total += (_dilogarithm(scale * math.exp(-rate * first)) - _dilogarithm(last)) / rate
    return dimension * total


def _dilogarithm(x: float) -> float:
    """-Li2(-x) for x >= 0, the integral of log(1 + x exp(-u)) over u > 0; a series where spence(1 + x) would cancel."""
    return x * (1 - x * (1 / 4 - x * (1 / 9 - x / 16))) if x < 1e-3 else -float(spence(1 + x))


def collapse_depth(distance: float, margin: float, q: float, *, constant: float = 1.0) -> float:
    """The n beyond which two inputs are closer than ``margin``: ln(constant distance / margin) / ln(1/q), at least 0.

    For a plain stack of one block with |T^n x - T^n y| <= constant q^n |x - y|; for a nonexpansive block constant = 1 and
    q = Lip(T). At q = 1 it is inf unless the inputs are that close from the start: the inequality then gives no collapse.
    UPPER bound on the depth at which they are told apart. T2.4, T4.2. Raises TypeError for what is no real number, and
    ValueError for q outside [0, 1], margin <= 0, and distances or constants that are negative or not finite.
    """
    q, margin = real("q", q), real("margin", margin)
    if not 0 <= q <= 1:
        raise ValueError(f"q={q!r} must lie in [0, 1]; an expanding block need not collapse")
    if not margin > 0:
        raise ValueError(f"margin={margin!r} must be positive: the distance that the readout needs")
    apart = real("distance", distance, least=0) * real("constant", constant, least=0)
    if apart <= margin or q == 0:
        return 0.0
    return math.inf if q == 1 else math.log(apart / margin) / -math.log(q)


def pl_bound(gap: float, *, mu: float, L: float, K: ArrayLike) -> NDArray[np.float64]:
    """UPPER bound (1 - mu/L)^K gap on f(x_K) - min f after K gradient steps of size 1/L. T4.4.

    gap: f(x_0) - min f. f must be L-smooth with |grad f|^2 / 2 >= mu (f - min f): nothing here can check it, and a mu that is
    too large gives a bound that is false. K: one number of steps or an array; the result has its shape. Raises TypeError for
    what is no real number, ValueError unless 0 < mu <= L < inf, 0 <= gap < inf and K >= 0.
    """
    gap, mu, L = real("gap", gap, least=0), real("mu", mu), real("L", L)
    if not 0 < mu <= L:
        raise ValueError(f"mu={mu!r} must be positive and at most L={L!r}; give the smallest nonzero curvature and the largest")
    steps = at_least("K", K, 0)
    return np.asarray(gap * (1 - mu / L) ** steps)
