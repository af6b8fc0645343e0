"""Linear regression with N samples: exact risks, deterministic equivalents, one-pass SGD; and the simulation beside each.

A *spectrum* is ``eigenvalues`` (of the feature covariance, positive) and ``energies`` c_j^2 = eigenvalue times squared
coefficient of the target, so that the error of the zero predictor is their sum. Gaussian features throughout. All risks
are excess risks: the noise of a fresh sample is not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """Risks of independent draws, float64 (draws,): an ESTIMATE of their mean, with its standard error."""

    values: Array

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Sample standard deviation over the root of the number of draws."""
        return float(self.values.std(ddof=1) / math.sqrt(self.values.size))


@dataclass(frozen=True)
class Equivalent:
    """A deterministic equivalent: what the risk tends to as sizes grow in proportion; neither a bound nor a sample mean.

    risk: excess risk. kappa: effective ridge. amplification: 1 / (1 - overfitting), the factor on bias and noise.
    """

    risk: float
    kappa: float
    amplification: float


def _spectrum(eigenvalues: ArrayLike, energies: ArrayLike) -> tuple[Array, Array]:
    values, powers = np.asarray(eigenvalues, dtype=float), np.asarray(energies, dtype=float)
    if values.ndim != 1 or values.shape != powers.shape or not values.size:
        raise ValueError(f"eigenvalues and energies must be vectors of one length; got {values.shape} and {powers.shape}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("eigenvalues must be positive and finite")
    if not (np.isfinite(powers).all() and (powers >= 0).all()):
        raise ValueError("energies must be nonnegative and finite")
    return values, powers


def _positive(**named: float) -> None:
    for name, value in named.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r} must be positive")


def least_squares_risk(N: ArrayLike, P: ArrayLike, *, signal: float = 1.0, noise: float = 1.0) -> Array:
    """Exact mean excess risk of (minimum-norm) least squares, N samples, P isotropic Gaussian features.

    signal: |beta|^2; noise: its variance. Broadcasts. For P <= N - 2: noise P / (N - P - 1). For P >= N + 2:
    signal (1 - N/P) + noise N / (P - N - 1). For |P - N| <= 1 the mean is inf (noise > 0, or P > N by one). Raises ValueError
    for N or P below 1. Hastie et al. 2022; counterexample C3.2.

    >>> round(float(least_squares_risk(40, 5, noise=0.25)), 6)
    0.036765
    """
    n, p = np.broadcast_arrays(np.asarray(N, dtype=float), np.asarray(P, dtype=float))
    if not ((n >= 1) & (p >= 1)).all():
        raise ValueError("N and P must be at least 1")
    with np.errstate(divide="ignore", invalid="ignore"):
        under = noise * p / (n - p - 1) if noise else np.zeros(n.shape)
        over = signal * (1 - n / p) + (noise * n / (p - n - 1) if noise else 0.0)
    middle = np.full(n.shape, np.inf) if noise else np.where(p > n, signal * (1 - n / p), 0.0)
    return np.where(p <= n - 2, under, np.where(p >= n + 2, over, middle))


def ridge_risk(
    eigenvalues: ArrayLike, energies: ArrayLike, N: float, *, ridge: float = 0.0, noise: float = 0.0
) -> Equivalent:
    """Deterministic equivalent of ridge regression on N samples; ``ridge`` multiplies |w|^2 beside the SUM of squares.

    kappa solves N = sum l / (l + kappa) + ridge / kappa. With ridge = 0 and at most N eigenvalues, kappa = 0 and the result is
    that of ordinary least squares, inf where N equals their number (P = N). Raises ValueError for N <= 0, ridge < 0 or
    noise < 0. Bordelon, Canatar and Pehlevan 2020; Hastie et al. 2022.
    """
    values, powers = _spectrum(eigenvalues, energies)
    _positive(N=N)
    if ridge < 0 or noise < 0:
        raise ValueError(f"ridge={ridge} and noise={noise} must be at least 0")
    kappa = _kappa(values, N, ridge)
    if kappa == 0.0 and values.size >= N:
        return Equivalent(math.inf, 0.0, math.inf)
    share = values / (values + kappa)
    amplification = 1 / (1 - float(np.sum(share**2)) / N)
    bias = float(np.sum(powers * (1 - share) ** 2))
    return Equivalent(amplification * (bias + noise) - noise, kappa, amplification)


def _kappa(values: Array, N: float, ridge: float) -> float:
    if ridge == 0.0 and values.size <= N:
        return 0.0

    def excess(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        return float(np.sum(values / (values + kappa))) + ridge / kappa - N

    high = math.log((float(values.sum()) + ridge) / N) + 1.0  # there sum l / (l + kappa) + ridge / kappa < N
    low = high - 1.0
    while excess(low) < 0:
        low -= 2.0
    return math.exp(brentq(excess, low, high, xtol=1e-13, rtol=1e-15))


def random_features_risk(
    eigenvalues: ArrayLike, energies: ArrayLike, N: float, P: float, *, ridge: float, noise: float = 0.0
) -> Equivalent:
    """Deterministic equivalent of ridge regression on P Gaussian random features of the given spectrum, N samples.

    Two coupled equations: N = z + ridge / kappa and P = z + P kappa / gamma, where z = sum l / (l + gamma). ``ridge``
    multiplies |w|^2 beside the sum of squares; the kernel is the mean over P features. Raises ValueError unless N, P and
    ridge are positive and noise >= 0. Simon et al. 2024.
    """
    values, powers = _spectrum(eigenvalues, energies)
    _positive(N=N, P=P, ridge=ridge)
    if noise < 0:
        raise ValueError(f"noise={noise} must be at least 0")

    def equation(log_gamma: float) -> float:
        gamma = math.exp(log_gamma)
        z = float(np.sum(values / (values + gamma)))
        # kappa = gamma (P - z) / P from the second equation; into the first one
        return z + ridge * P / (gamma * (P - z)) - N if z < P else math.inf

    high = math.log((float(values.sum()) + ridge) * (1 / N + 1 / P)) + 2.0
    low = high
    while equation(low) < 0:
        low -= 1.0
    while equation(high) > 0:
        high += 1.0
    # z < P on [low, high], except perhaps near low: halve into the region where the equation is finite.
    while math.isinf(equation(low)):
        middle = (low + high) / 2
        if equation(middle) > 0:
            low = middle
        else:
            high = middle
    gamma = math.exp(brentq(equation, low, high, xtol=1e-13, rtol=1e-15))
    share = values / (values + gamma)
    z, q = float(share.sum()), float(np.sum(share**2))
    kappa = gamma * (P - z) / P
    amplification = 1 / (1 - (q * (P - 2 * z) + z**2) / (N * (P - q)))
    bias = float(np.sum((gamma / (values + gamma) - kappa * values / (values + gamma) ** 2 * P / (P - q)) * powers))
    return Equivalent(amplification * (bias + noise) - noise, kappa, amplification)


def one_pass_sgd_risk(
    eigenvalues: ArrayLike,
    energies: ArrayLike,
    steps: ArrayLike,
    *,
    eta: float,
    batch: int = 1,
    noise: float = 0.0,
    P: int | None = None,
) -> Array:
    """Exact mean excess risk of one-pass SGD (loss half the mean square, fresh Gaussian batches, start 0) after ``steps``.

    steps: whole numbers >= 0, any shape. Only the first P modes are trained (default: all); the others act as noise and
    stay in the risk. The recursion of second moments is exact for Gaussian features. inf where the iteration diverges.
    Raises ValueError for eta <= 0, batch < 1, noise < 0, or P outside 0..modes.
    """
    values, powers = _spectrum(eigenvalues, energies)
    kept = values.size if P is None else int(P)
    _positive(eta=eta, batch=batch)
    if noise < 0 or not 0 <= kept <= values.size:
        raise ValueError(f"noise={noise} must be at least 0 and P={P} lie in 0..{values.size}")
    asked = np.asarray(steps)
    if asked.size and (asked < 0).any():
        raise ValueError("steps must be at least 0")
    lam, moment = values[:kept], powers[:kept] / values[:kept]
    rest = float(powers[kept:].sum())
    keep = 1 - 2 * eta * lam + eta**2 * (1 + 1 / batch) * lam**2
    push = eta**2 / batch * lam
    wanted, risks = set(asked.reshape(-1).tolist()), {}
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(int(asked.max(initial=0)) + 1):
            risk = float(lam @ moment)
            if step in wanted:
                risks[step] = risk + rest if math.isfinite(risk) else math.inf
            moment = keep * moment + push * (risk + noise + rest)
    return np.array([risks[s] for s in asked.reshape(-1).tolist()]).reshape(asked.shape)


# ------------------------------------------------------------------------------------------------------------- simulations


def simulate_ridge(
    eigenvalues: ArrayLike,
    energies: ArrayLike,
    N: int,
    *,
    ridge: float = 0.0,
    noise: float = 0.0,
    features: int | None = None,
    draws: int,
    rng: np.random.Generator,
) -> Simulated:
    """Excess risks of ridge (or minimum-norm, ridge = 0) regression on Gaussian draws, in the convention of :func:`ridge_risk`.

    features: P random features as in :func:`random_features_risk`; default: all modes as they are. The signs of the target's
    coefficients are drawn too, which changes no mean.
    """
    values, powers = _spectrum(eigenvalues, energies)
    root = np.sqrt(values)
    target = np.sqrt(powers / values)
    found = []
    for _ in range(draws):
        w = target * rng.choice([-1.0, 1.0], target.size)
        X = rng.standard_normal((N, values.size)) * root
        y = X @ w + math.sqrt(noise) * rng.standard_normal(N)
        mix = np.eye(values.size) if features is None else rng.standard_normal((values.size, features)) / math.sqrt(features)
        Z = X if features is None else X @ mix
        gram = Z @ Z.T + ridge * np.eye(N)
        if ridge == 0.0 and Z.shape[1] <= N:
            fitted = np.linalg.lstsq(Z, y, rcond=None)[0]
        else:
            fitted = Z.T @ np.linalg.solve(gram, y)
        found.append(float(np.sum(values * ((fitted if features is None else mix @ fitted) - w) ** 2)))
    return Simulated(np.array(found))


def simulate_one_pass_sgd(
    eigenvalues: ArrayLike,
    energies: ArrayLike,
    steps: int,
    *,
    eta: float,
    batch: int = 1,
    noise: float = 0.0,
    P: int | None = None,
    draws: int,
    rng: np.random.Generator,
) -> Simulated:
    """Excess risks of one-pass SGD after ``steps``, in the convention of :func:`one_pass_sgd_risk`; all draws side by side."""
    values, powers = _spectrum(eigenvalues, energies)
    kept = values.size if P is None else int(P)
    root, w = np.sqrt(values), np.sqrt(powers / values)
    weights = np.zeros((draws, kept))
    for _ in range(steps):
        X = rng.standard_normal((draws, batch, values.size)) * root
        y = X @ w + math.sqrt(noise) * rng.standard_normal((draws, batch))
        error = np.einsum("dbk,dk->db", X[..., :kept], weights) - y
        weights -= eta / batch * np.einsum("dbk,db->dk", X[..., :kept], error)
    risks = np.sum(values[:kept] * (weights - w[:kept]) ** 2, axis=1) + powers[kept:].sum()
    return Simulated(risks)
