"""Linear regression with N samples: exact risks, deterministic equivalents, one-pass SGD. Simulations stand in ``simulation``.

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

from limitlib.checks import at_least, count, real, real_array

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Equivalent:
    """A deterministic equivalent: what the risk tends to as sizes grow in proportion; neither a bound nor a sample mean.

    risk: excess risk. kappa: effective ridge. amplification: 1 / (1 - overfitting), the factor on bias and noise.
    reason: why the risk is inf and what would make it finite; "" where it is finite.
    """

    risk: float
    kappa: float
    amplification: float
    reason: str = ""


def eigenvalues_of(eigenvalues: ArrayLike) -> Array:
    """A float64 vector; ValueError unless it has an element and all are positive and finite."""
    values = real_array("eigenvalues", eigenvalues)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"eigenvalues must be a vector with at least 1 element; got the shape {values.shape}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("eigenvalues must be positive and finite")
    return values


def spectrum_of(eigenvalues: ArrayLike, energies: ArrayLike) -> tuple[Array, Array]:
    """Both as float64 vectors of one length; ValueError unless eigenvalues are positive, energies >= 0, all finite.

    The sum of the energies, the risk of the zero predictor, must be finite too.
    """
    values, powers = real_array("eigenvalues", eigenvalues), real_array("energies", energies)
    if values.ndim != 1 or values.shape != powers.shape or not values.size:
        raise ValueError(
            f"eigenvalues and energies must be vectors of one length, at least 1; got {values.shape} and {powers.shape}"
        )
    values = eigenvalues_of(values)
    if not (np.isfinite(powers).all() and (powers >= 0).all()):
        raise ValueError("energies must be nonnegative and finite")
    with np.errstate(over="ignore"):
        if np.isinf(powers.sum()):
            raise ValueError(f"energies up to {powers.max():g} have a sum above the largest float 1.8e308; rescale them")
    return values, powers


#: Steps beyond which a recursion that is run step by step would not end within minutes.
MOST_STEPS = 10**8


def whole_steps(steps: ArrayLike, method: str) -> Array:
    """Numbers of steps that are run one by one: whole, 0 <= steps <= MOST_STEPS, any shape; ValueError otherwise."""
    asked = at_least("steps", steps, 0)
    if not np.isfinite(asked).all() or (asked != np.floor(asked)).any():
        raise ValueError(f"steps must be whole and finite: {method} makes no half steps")
    if (asked > MOST_STEPS).any():
        raise ValueError(f"steps must be at most {MOST_STEPS:g}, since they are run one by one; got {asked.max():g}")
    return asked


def coefficients_of(values: Array, powers: Array) -> Array:
    """Squared coefficients c_j^2 / l_j of the target; ValueError where they leave the range of float64."""
    with np.errstate(over="ignore"):
        squared = powers / values
    if not np.isfinite(squared).all():
        raise ValueError("energies / eigenvalues, the squared coefficients, exceed the largest float 1.8e308; rescale energies")
    return squared


def least_squares_risk(N: ArrayLike, P: ArrayLike, *, signal: float = 1.0, noise: float = 1.0) -> Array:
    """Exact mean excess risk of (minimum-norm) least squares, N samples, P isotropic Gaussian features.

    signal: |beta|^2; noise: its variance. Broadcasts over N and P >= 1. For P <= N - 2: noise P / (N - P - 1). For P >= N + 2:
    signal (1 - N/P) + noise N / (P - N - 1). For |P - N| <= 1 the mean is inf if noise > 0, and so is a value above the largest
    float; :func:`why_least_squares_infinite` says why. Raises ValueError for N or P below 1 or not whole (inf is allowed for
    one of them), or signal or noise below 0. Hastie et al. 2022; counterexample C3.2.

    >>> round(float(least_squares_risk(40, 5, noise=0.25)), 6)
    0.036765
    """
    n, p = np.broadcast_arrays(_whole("N", N), _whole("P", P))
    signal, noise = real("signal", signal, least=0), real("noise", noise, least=0)
    if (np.isinf(n) & np.isinf(p)).any():
        raise ValueError("N and P must not both be inf: the risk depends on their ratio; let one of them be finite")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        under = _share(noise, p, n - p - 1) if noise else np.zeros(n.shape)
        over = signal * (1 - n / p) + (_share(noise, n, p - n - 1) if noise else 0.0)
    middle = np.full(n.shape, np.inf) if noise else np.where(p > n, signal * (1 - n / p), 0.0)
    return np.where(p <= n - 2, under, np.where(p >= n + 2, over, middle))


def _whole(name: str, value: ArrayLike) -> Array:
    sizes = at_least(name, value, 1)
    broken = np.isfinite(sizes) & (sizes != np.floor(sizes))
    if broken.any():
        raise ValueError(f"{name} must be whole; got {sizes[broken].flat[0]:g}")
    return sizes


def _share(noise: float, size: Array, gap: Array) -> Array:
    """noise size / gap, also where the product alone would overflow."""
    product = noise * size
    return np.where(np.isfinite(product), product / gap, noise * (size / gap))


def why_least_squares_infinite(N: float, P: float, *, signal: float = 1.0, noise: float = 1.0) -> str:
    """Why :func:`least_squares_risk` is inf at one (N, P), and what would make it finite; "" where it is finite.

    Raises as that function, and ValueError for more than one (N, P), since the reason is one sentence.

    >>> why_least_squares_infinite(40, 20)
    ''
    """
    risk = least_squares_risk(N, P, signal=signal, noise=noise)
    if risk.shape != ():
        raise ValueError(f"N and P must be single numbers, since the reason is one sentence; got the shape {risk.shape}")
    if np.isfinite(risk):
        return ""
    n, p = float(N), float(P)  # type: ignore[arg-type]
    if abs(p - n) > 1:
        return f"signal = {signal:g} and noise = {noise:g} at N = {n:g}, P = {p:g} exceed the largest float; rescale both"
    return (
        f"|P - N| <= 1 (N = {n:g}, P = {p:g}): the smallest singular value of the design comes so close to 0 that the mean of "
        f"the noise term does not exist, though its median does; take |P - N| >= 2, add a ridge, or report a median"
    )


def ridge_risk(
    eigenvalues: ArrayLike, energies: ArrayLike, N: float, *, ridge: float = 0.0, noise: float = 0.0
) -> Equivalent:
    """Deterministic equivalent of ridge regression on N samples; ``ridge`` multiplies |w|^2 beside the SUM of squares.

    kappa solves N = sum l / (l + kappa) + ridge / kappa. With ridge = 0 and at most N eigenvalues, kappa = 0 and the result is
    that of ordinary least squares; where N equals their number (P = N) and noise > 0 it is inf, with the reason. Raises
    ValueError for N <= 0, ridge < 0, noise < 0, anything infinite, or a kappa that leaves the range of float64.
    Bordelon, Canatar and Pehlevan 2020; Hastie et al. 2022.
    """
    values, powers = spectrum_of(eigenvalues, energies)
    N, ridge, noise = real("N", N, least=0, exclusive=True), real("ridge", ridge, least=0), real("noise", noise, least=0)
    kappa = _kappa(values, N, ridge)
    if kappa == 0.0 and values.size >= N:
        if noise == 0.0:  # as many samples as modes and no noise: the target itself
            return Equivalent(0.0, 0.0, math.inf)
        return Equivalent(
            math.inf, 0.0, math.inf,
            f"P = N: {values.size} eigenvalues and as many samples with ridge = 0 fit the noise exactly and amplify it without "
            f"bound; give ridge > 0, or N other than {values.size}",
        )  # fmt: skip
    share = values / (values + kappa)
    left = 1 - float(np.sum(share**2)) / N
    if left <= 0:
        return Equivalent(
            math.inf, kappa, math.inf,
            f"N = {N:g} and {values.size} eigenvalues: ridge = {ridge:g} is too small for float64 to tell from 0 at the pole "
            f"P = N; give a larger ridge",
        )  # fmt: skip
    amplification = 1 / left
    bias = float(np.sum(powers * (1 - share) ** 2))
    risk = amplification * (bias + noise) - noise
    return Equivalent(risk, kappa, amplification, "" if math.isfinite(risk) else _beyond(noise))


def _beyond(noise: float) -> str:
    return f"the energies and noise = {noise:g}, amplified, exceed the largest float 1.8e308; rescale both"


def _beyond_float(values: Array, ridge: float) -> ValueError:
    return ValueError(
        f"eigenvalues between {values.min():g} and {values.max():g} with ridge={ridge:g} put the effective ridge outside the "
        f"range of float64; multiply eigenvalues, energies, noise and ridge by one constant"
    )


def _log_size(values: Array, ridge: float, size: float) -> float:
    """log of ``size``, near which the search for an effective ridge starts; ValueError at the ends of the range of float64."""
    if not 0 < size < 1e305:
        raise _beyond_float(values, ridge)
    return math.log(size)


def _kappa(values: Array, N: float, ridge: float) -> float:
    if ridge == 0.0 and values.size <= N:
        return 0.0

    def excess(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        if kappa == 0.0:
            raise _beyond_float(values, ridge)
        return float(np.sum(values / (values + kappa))) + ridge / kappa - N

    with np.errstate(over="ignore"):
        size = (float(values.sum()) + ridge) / N
    high = _log_size(values, ridge, size) + 1.0  # there sum l / (l + kappa) + ridge / kappa < N
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
    ridge are positive and finite and noise >= 0; with ridge = 0 the risk may be inf (P = N), so none is computed; nor with a
    ridge so small that float64 can't tell it from 0, or an effective ridge that leaves its range. Simon et al. 2024.
    """
    values, powers = spectrum_of(eigenvalues, energies)
    N, P = real("N", N, least=0, exclusive=True), real("P", P, least=0, exclusive=True)
    noise = real("noise", noise, least=0)
    if real("ridge", ridge, least=0) == 0.0:
        raise ValueError(f"ridge={ridge!r} must be positive: without a ridge the risk is inf at P = N; take a small one")

    too_small = ValueError(
        f"ridge={ridge!r} is too small for float64 at N={N:g}, P={P:g} and {values.size} eigenvalues: the equations have no "
        f"root that it can tell from a pole; give a larger ridge"
    )

    def equation(log_gamma: float) -> float:
        gamma = math.exp(log_gamma)
        if gamma == 0.0:
            raise too_small
        z = float(np.sum(values / (values + gamma)))
        if z >= P:
            return math.inf
        # kappa = gamma (P - z) / P from the second equation; into the first one
        bottom = gamma * (P - z)
        if bottom == 0.0:
            raise too_small
        if math.isinf(bottom) or math.isinf(ridge * P):
            raise _beyond_float(values, ridge)
        return z + ridge * P / bottom - N

    with np.errstate(over="ignore"):
        size = (float(values.sum()) + ridge) * (1 / N + 1 / P)
    high = _log_size(values, ridge, size) + 2.0
    low = high
    while equation(low) < 0:
        low -= 1.0
    while equation(high) > 0:
        high += 1.0
        if high > 709.0:  # e^709 is nearly the largest float
            raise _beyond_float(values, ridge)
    # z < P on [low, high], except perhaps near low: halve into the region where the equation is finite.
    while math.isinf(equation(low)):
        middle = (low + high) / 2
        if not low < middle < high:
            raise too_small
        if equation(middle) > 0:
            low = middle
        else:
            high = middle
    gamma = math.exp(brentq(equation, low, high, xtol=1e-13, rtol=1e-15))
    share = values / (values + gamma)
    z, q = float(share.sum()), float(np.sum(share**2))
    kappa = gamma * (P - z) / P
    left = 1 - (q * (P - 2 * z) + z**2) / (N * (P - q)) if q < P else 0.0
    if left <= 0:
        raise too_small
    amplification = 1 / left
    bias = float(np.sum((gamma / (values + gamma) - kappa / (values + gamma) * share * P / (P - q)) * powers))
    risk = max(amplification * (bias + noise) - noise, 0.0)
    return Equivalent(risk, kappa, amplification, "" if math.isfinite(risk) else _beyond(noise))


def kept_modes(P: int | None, modes: int) -> int:
    """The number of modes kept: all for None; ValueError unless 0 <= P <= modes."""
    kept = modes if P is None else count("P", P, 0, "it counts modes")
    if kept > modes:
        raise ValueError(f"P={P} must lie in 0..{modes}, the number of modes")
    return kept


def sgd_step_limit(eigenvalues: ArrayLike, *, batch: int = 1, P: int | None = None) -> float:
    """The step below which one-pass SGD on Gaussian features is stable in mean square, and from which on it is not. Exact.

    It is the root eta in (0, 2B / ((B + 1) l_max)) of sum over the P modes trained of eta l / (2B - eta (B + 1) l) = 1, B the
    batch: smaller than the limit 2 / l_max of gradient descent, to which it tends for large batches. inf if no mode is trained.

    >>> round(sgd_step_limit([1.0]), 6)
    0.666667
    """
    values = eigenvalues_of(eigenvalues)
    batch = count("batch", batch, 1)
    lam = values[: kept_modes(P, values.size)]
    if not lam.size:
        return math.inf
    pole = 2 * (batch / (batch + 1)) / float(lam.max())
    relative = lam / lam.max()

    def excess(share: float) -> float:  # of the sum over 1, at eta = pole * share
        return float(np.sum(share * relative / (1 - share * relative))) / (batch + 1) - 1

    last = math.nextafter(1.0, 0.0)
    # For batches near 1e16 the root lies between the last float and 1.
    return pole * brentq(excess, 0.0, last, xtol=1e-300, rtol=1e-15) if excess(last) > 0 else pole


def why_sgd_diverges(eigenvalues: ArrayLike, *, eta: float, batch: int = 1, P: int | None = None) -> str:
    """Why one-pass SGD with this step diverges in mean square, and which step does not; "" where it is stable."""
    limit = sgd_step_limit(eigenvalues, batch=batch, P=P)
    if real("eta", eta, least=0, exclusive=True) < limit:
        return ""
    return (
        f"eta = {eta:g} is not below {limit:.6g}, the threshold of mean-square stability for batch {batch}: the noise of the "
        f"gradient grows faster than the steps contract; take a smaller eta or a larger batch"
    )


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
    stay in the risk. The recursion of second moments is exact for Gaussian features. inf once a diverging iteration has left
    the range of float64: :func:`why_sgd_diverges` says why, :func:`sgd_step_limit` gives the threshold. Raises ValueError for
    eta <= 0, batch < 1, noise < 0, steps that are not whole or above 1e8, P outside 0..modes, or energies whose sum with the
    noise, or whose ratio to the eigenvalues, exceeds the largest float.
    """
    values, powers = spectrum_of(eigenvalues, energies)
    kept, batch = kept_modes(P, values.size), count("batch", batch, 1)
    eta, noise = real("eta", eta, least=0, exclusive=True), real("noise", noise, least=0)
    asked = whole_steps(steps, "SGD")
    rest, total = float(powers[kept:].sum()), float(powers.sum()) + noise
    if math.isinf(total):
        raise ValueError(f"noise={noise!r} plus the sum of the energies exceeds the largest float 1.8e308; rescale both")
    if total == 0.0:  # nothing to learn and nothing to disturb
        return np.zeros(asked.shape)
    lam, moment = values[:kept], coefficients_of(values, powers)[:kept]
    with np.errstate(over="ignore", invalid="ignore"):
        keep = 1 - 2 * eta * lam + eta * eta * (1 + 1 / batch) * lam**2
        push = eta * eta / batch * lam
    wanted, risks = set(asked.reshape(-1).tolist()), {}
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(int(asked.max(initial=0)) + 1):
            risk = float(lam @ moment)
            if step in wanted:
                risks[step] = risk + rest if math.isfinite(risk) else math.inf
            moment = keep * moment + push * (risk + noise + rest)
    return np.array([risks[int(s)] for s in asked.reshape(-1)]).reshape(asked.shape)
