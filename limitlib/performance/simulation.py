"""Simulations beside the closed forms: independent draws of the models of ``power_law`` and ``regression``.

Nothing here uses a closed form except for the modes that no run touches. Every mean is an ESTIMATE with a standard error;
where a mean does not exist (P = N without ridge), report a median.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from limitlib.checks import count, generator, real, real_array
from limitlib.performance.power_law import PowerLawModel
from limitlib.performance.regression import coefficients_of, kept_modes, spectrum_of, whole_steps

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """Risks of independent draws, float64 (draws,): an ESTIMATE of their mean, with its standard error.

    inf stands for a draw that diverged. Raises TypeError for what is no array of real numbers, ValueError for NaN, another
    number of dimensions, or no draw.
    """

    values: Array

    def __post_init__(self) -> None:
        values = real_array("values", self.values)
        if values.ndim != 1 or not values.size:
            raise ValueError(f"values must hold one risk for each draw, at least one; got the shape {values.shape}")
        object.__setattr__(self, "values", values)

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(self.values.mean())

    @property
    def median(self) -> float:
        """Median over the draws: what to report where the mean does not exist."""
        return float(np.median(self.values))

    @property
    def standard_error(self) -> float:
        """Sample standard deviation over the root of the number of draws; inf if a draw diverged.

        Raises ValueError for a single draw.
        """
        if self.values.size < 2:
            raise ValueError("draws=1 gives no standard error; simulate at least 2 draws")
        if np.isinf(self.values).any():
            return math.inf
        return float(self.values.std(ddof=1) / math.sqrt(self.values.size))

    def z(self, theory: float) -> float:
        """Distance of the mean from ``theory`` in standard errors, with its sign.

        Raises ValueError where they measure nothing: a single draw, a draw that diverged, or draws that are all equal.
        """
        theory, error = real("theory", theory), self.standard_error
        if math.isinf(error):
            raise ValueError("values hold inf, a draw that diverged: the mean has no standard error; compare the median")
        if error == 0.0:
            raise ValueError(f"values are all equal to {self.mean:g}: their standard error is 0; compare the mean itself")
        return (self.mean - theory) / error


def gradient_descent_risk(
    eigenvalues: ArrayLike, energies: ArrayLike, steps: ArrayLike, *, eta: float, P: int | None = None
) -> Array:
    """Risks of gradient descent on the population loss half sum l_j (w_j - w*_j)^2, start 0, run step by step; shape of steps.

    Only the first P modes are trained (default: all). Nothing is random and no power is taken: the slow exact reference of
    ``PowerLawModel.error``. What is iterated is the error w* - w of each mode, so that a small risk keeps its digits. Diverges,
    to inf, for eta > 2 / l_max. Raises ValueError for eta <= 0, steps that are not whole, below 0 or above 1e8, or P outside
    0..modes.

    >>> gradient_descent_risk([1.0, 0.5], [1.0, 1.0], [0, 1, 2], eta=0.5).tolist()
    [2.0, 0.8125, 0.37890625]
    """
    values, powers = spectrum_of(eigenvalues, energies)
    kept, eta = kept_modes(P, values.size), real("eta", eta, least=0, exclusive=True)
    asked = whole_steps(steps, "gradient descent")
    trained = powers[:kept] > 0
    left, rest = np.sqrt(powers[:kept][trained]), float(powers[kept:].sum())  # root of l_j times the error of w_j
    wanted, risks = set(asked.reshape(-1).tolist()), {}
    with np.errstate(over="ignore", invalid="ignore"):
        factor = 1 - eta * values[:kept][trained]
        for step in range(int(asked.max(initial=0)) + 1):
            if step in wanted:
                risk = float(left @ left) + rest
                risks[step] = risk if math.isfinite(risk) else math.inf
            left = factor * left
    return np.array([risks[int(s)] for s in asked.reshape(-1)]).reshape(asked.shape)


def simulate_sequence_model(
    model: PowerLawModel, N: float, P: int, K: int, *, draws: int, rng: np.random.Generator
) -> Simulated:
    """Errors of gradient descent on noisy means in the white-noise sequence model, beside ``PowerLawModel.error(N, P, K)``.

    Each draw has targets +-j^(-b/2) of random sign and, for every mode kept, the mean of N observations with noise variance
    ``model.noise``; K steps from 0 with the model's eta. Only the energy of the modes beyond P is taken from its closed form.
    N whole (or inf: no noise), P and K whole. Raises ValueError otherwise, or for draws < 1.
    """
    if not isinstance(model, PowerLawModel):
        raise TypeError(f"model={model!r} must be a PowerLawModel")
    noiseless = isinstance(N, float) and math.isinf(N) and N > 0
    deviation = 0.0 if noiseless else math.sqrt(model.noise / count("N", N, 1, "a simulation draws whole samples"))
    P, K = count("P", P, 0, "it counts modes"), count("K", K, 0, "a simulation makes whole steps")
    draws, rng = count("draws", draws, 1), generator(rng)
    j = np.arange(1.0, P + 1)
    shrink = model.eta * j**-model.a
    target = j ** (-model.b / 2) * rng.choice([-1.0, 1.0], (draws, P))
    seen = target + deviation * rng.standard_normal((draws, P))
    w = np.zeros((draws, P))
    for _ in range(K):
        w += shrink * (seen - w)
    return Simulated(np.sum((w - target) ** 2, axis=1) + float(special.zeta(model.b, P + 1)))


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
    coefficients are drawn too, which changes no mean. At P = N without ridge and with noise the mean does not exist: report
    the median. Raises ValueError for N, features or draws below 1, or ridge or noise below 0.
    """
    values, powers = spectrum_of(eigenvalues, energies)
    N, draws, rng = count("N", N, 1, "a simulation draws whole samples"), count("draws", draws, 1), generator(rng)
    ridge, noise = real("ridge", ridge, least=0), real("noise", noise, least=0)
    features = None if features is None else count("features", features, 1)
    root = np.sqrt(values)
    target = np.sqrt(coefficients_of(values, powers))
    if values.max() > 1e150:
        raise ValueError(f"eigenvalues up to {values.max():g} must be at most 1e150: a Gram matrix would overflow; rescale")
    found = []
    for _ in range(draws):
        w = target * rng.choice([-1.0, 1.0], target.size)
        X = rng.standard_normal((N, values.size)) * root
        y = X @ w + math.sqrt(noise) * rng.standard_normal(N)
        mix = None if features is None else rng.standard_normal((values.size, features)) / math.sqrt(features)
        Z = X if mix is None else X @ mix
        columns = Z.shape[1]
        if ridge == 0.0 and columns <= N:
            fitted = np.linalg.lstsq(Z, y, rcond=None)[0]
        elif columns < N and ridge < np.finfo(float).eps * N * np.sum(Z**2):  # Z Z' + ridge may be singular in float64
            penalty = math.sqrt(ridge) * np.eye(columns)
            fitted = np.linalg.lstsq(np.vstack([Z, penalty]), np.append(y, np.zeros(columns)), rcond=None)[0]
        else:
            fitted = Z.T @ np.linalg.solve(Z @ Z.T + ridge * np.eye(N), y)
        found.append(float(np.sum(values * ((fitted if mix is None else mix @ fitted) - w) ** 2)))
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
    """Excess risks of one-pass SGD after ``steps``, in the convention of :func:`one_pass_sgd_risk`; all draws side by side.

    A draw whose weights have left the range of float64 has the risk inf. Raises ValueError for steps below 0 or above 1e8,
    batch or draws < 1, eta <= 0, noise < 0, or P outside 0..modes.
    """
    values, powers = spectrum_of(eigenvalues, energies)
    kept, batch = kept_modes(P, values.size), count("batch", batch, 1)
    steps = int(whole_steps(count("steps", steps, 0), "SGD"))
    eta, noise = real("eta", eta, least=0, exclusive=True), real("noise", noise, least=0)
    draws, rng = count("draws", draws, 1), generator(rng)
    root, w = np.sqrt(values), np.sqrt(coefficients_of(values, powers))
    weights = np.zeros((draws, kept))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            X = rng.standard_normal((draws, batch, values.size)) * root
            y = X @ w + math.sqrt(noise) * rng.standard_normal((draws, batch))
            error = np.einsum("dbk,dk->db", X[..., :kept], weights) - y
            weights -= eta / batch * np.einsum("dbk,db->dk", X[..., :kept], error)
        risks = np.sum(values[:kept] * (weights - w[:kept]) ** 2, axis=1) + powers[kept:].sum()
    return Simulated(np.where(np.isnan(risks), np.inf, risks))
