"""The reported bound beta^K + Lip(T)^P + N^(-1/2), where it is a theorem: tied contractive blocks that receive the input.

Every value is an upper bound in exact arithmetic, evaluated in float64 without outward rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The integral of sqrt(ln(1 + 2/u)) over 0 < u < 1, rounded up: Dudley's integral of a ball (T5.3).
CHAINING = 1.352582
#: Twice 12 CHAINING: symmetrisation, and Dudley's constant.
SAMPLE = 24 * CHAINING


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
    Raises ValueError for q >= 1, beta outside (0, 1), N or copies below 1, and other constants that are negative or NaN.
    """
    if not 0 <= q < 1:
        reason = "at q = 1 the blocks need not have a limit, and q^P does not decay" if q == 1 else "the blocks must contract"
        raise ValueError(f"q={q!r} must lie in [0, 1): {reason}; give a contraction factor of the blocks in their state")
    if not 0 < beta < 1:
        raise ValueError(f"beta={beta!r} must lie strictly between 0 and 1; give 1 - mu/L with a constant mu > 0 below L")
    if not N >= 1:
        raise ValueError(f"N={N!r} must be at least 1: the number of samples, or inf")
    if copies < 1 or dimension < 1:
        raise ValueError(f"dimension={dimension!r} and copies={copies!r} must be at least 1")
    constants = {"P": P, "K": K, "initial_gap": initial_gap, "loss_lipschitz": loss_lipschitz, "radius": radius,
                 "readout_lipschitz": readout_lipschitz, "state_bound": state_bound,
                 "parameter_lipschitz": parameter_lipschitz}  # fmt: skip
    for name, value in constants.items():
        if not value >= 0 or (math.isinf(value) and name not in ("P", "K")):
            raise ValueError(f"{name}={value!r} must be finite and at least 0")
    return ErrorBound(
        optimisation=initial_gap * beta**K,
        architecture=loss_lipschitz * readout_lipschitz * state_bound * q**P,
        sample=SAMPLE * parameter_lipschitz * radius * math.sqrt(copies * dimension / N),
    )


def untied_entropy(
    eps: float, *, q: float, dimension: int, parameter_lipschitz: float, radius: float, depth: float = math.inf
) -> float:
    """UPPER bound (nats) of log N(eps) of the states of untied injected blocks, supremum norm; any depth by default.

    Every layer has its own parameters in a ball of R^dimension; T is parameter_lipschitz-Lipschitz in them and contracts by q
    in its state. A layer that is j - 1 layers from the output counts only with q^(j-1), so it may be covered more coarsely: the
    share (1 - s) s^(j-1) of eps with s = sqrt(q). The sum over layers converges. Proposition T4.3b.
    Raises ValueError for q outside (0, 1), eps <= 0, or a dimension or depth below 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"q={q!r} must lie strictly between 0 and 1: only a contraction forgets its early layers")
    if not eps > 0 or dimension < 1 or not depth >= 1 or not (parameter_lipschitz >= 0 and radius >= 0):
        raise ValueError(f"need eps > 0, dimension >= 1, depth >= 1, constants >= 0; got eps={eps!r}, "
                         f"dimension={dimension!r}, depth={depth!r}")  # fmt: skip
    s = math.sqrt(q)
    scale = 2 * parameter_lipschitz * radius / ((1 - s) * eps)
    if scale == 0.0:
        return 0.0
    needed = max(1, math.ceil(math.log(1e12 * max(scale, 1e-12)) / -math.log(s)))  # from here on a term is below 1e-12
    layers = int(min(depth, needed))
    kept = float(np.log1p(scale * s ** np.arange(layers)).sum())
    rest = scale * s**layers / (1 - s) if depth > layers else 0.0  # log(1 + t) <= t
    return dimension * (kept + rest)


def collapse_depth(distance: float, margin: float, q: float, *, constant: float = 1.0) -> float:
    """The n beyond which two inputs are closer than ``margin``: ln(constant distance / margin) / ln(1/q), at least 0.

    For a plain stack of one block with |T^n x - T^n y| <= constant q^n |x - y|; for a nonexpansive block constant = 1 and
    q = Lip(T). At q = 1 it is inf unless the inputs are that close from the start: the inequality then gives no collapse.
    UPPER bound on the depth at which they are told apart. T2.4, T4.2. Raises ValueError for q outside [0, 1], margin <= 0 or
    negative distances.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q={q!r} must lie in [0, 1]; an expanding block need not collapse")
    if not margin > 0 or not distance >= 0 or not constant >= 0:
        raise ValueError(f"need margin > 0, distance >= 0, constant >= 0; got {margin!r}, {distance!r}, {constant!r}")
    if constant * distance <= margin or q == 0:
        return 0.0
    return math.inf if q == 1 else math.log(constant * distance / margin) / -math.log(q)


def pl_bound(gap: float, *, mu: float, L: float, K: ArrayLike) -> NDArray[np.float64]:
    """UPPER bound (1 - mu/L)^K gap on f(x_K) - min f after K gradient steps of size 1/L. T4.4.

    gap: f(x_0) - min f. f must be L-smooth with |grad f|^2 / 2 >= mu (f - min f): nothing here can check it, and a mu that is
    too large gives a bound that is false. K: one number of steps or an array; the result has its shape. Raises ValueError
    unless 0 < mu <= L and gap >= 0 and K >= 0.
    """
    if not 0 < mu <= L:
        raise ValueError(f"mu={mu!r} must be positive and at most L={L!r}; give the smallest nonzero curvature and the largest")
    steps = np.asarray(K, dtype=float)
    if not gap >= 0 or not (steps >= 0).all():
        raise ValueError(f"gap={gap!r} and K must be at least 0")
    return gap * (1 - mu / L) ** steps
