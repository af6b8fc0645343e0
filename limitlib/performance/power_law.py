"""The exactly solvable performance function: a power-law spectrum, learned mode by mode by gradient descent.

Mode ``j`` has eigenvalue ``j^-a`` and carries the energy ``j^-b`` of the target. A model of size P keeps the modes up to P,
K steps of gradient descent with step ``eta`` shrink the error of mode j by ``(1 - eta j^-a)^K``, and N samples with noise
variance ``noise`` add the variance ``noise / N`` to every mode that has been learned. No series is cut: sums are taken term
by term up to a cutoff and by the Euler-Maclaurin formula beyond it. Theorems T6.4 and T6.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from limitlib.checks import above, at_least, count, real

Array = NDArray[np.float64]

CUTOFF = 64  # terms summed one by one
ORDER = 8  # Euler-Maclaurin corrections: derivatives of order 1, 3, ..., 2 ORDER - 1
CHUNK = 25_000  # elements treated at a time, so that memory stays bounded


@dataclass(frozen=True)
class Exponents:
    """Error ~ K^-steps (P, N large), P^-width (K, N large), N^-data (training stopped in time); C^-compute on the frontier.

    ``frontier_width``: the best size grows like C^frontier_width when C = P K. ``data`` is 0 for a <= 1/2: the first step of an
    infinite model adds infinite variance there, so no time to stop makes the error fall with N. Exact asymptotic exponents.
    """

    steps: float
    width: float
    data: float
    compute: float
    frontier_width: float


@dataclass(frozen=True)
class Prefactors:
    """Exact asymptotic constants: error ~ steps K^-kappa, width P^-(b-1), and variance ~ (noise / N) variance K^(1/a).

    ``variance`` is inf for a <= 1/2, where the variance of an infinite model is infinite after one step.
    """

    steps: float
    width: float
    variance: float


@dataclass(frozen=True)
class Frontier:
    """Compute-optimal size P, steps K = C / P and error for every budget C; arrays of the shape of C. Exact up to rounding."""

    C: Array
    P: Array
    K: Array
    error: Array


@dataclass(frozen=True)
class PowerLawModel:
    """The model's error in closed form in N, P and K: gradient descent on a power-law spectrum, mode by mode.

        E = sum_{j<=P} j^-b (1 - eta j^-a)^(2K) + sum_{j>P} j^-b + noise/N sum_{j<=P} (1 - (1 - eta j^-a)^K)^2

    Mode j has the eigenvalue j^-a and the energy j^-b of the target; the sums are what K steps leave, what a model of P modes
    lacks, and the variance of what it learned from N samples.

    a > 0: decay of the eigenvalues. b > 1: decay of the energies. 0 < eta < 1: step size. noise >= 0: variance of a sample.
    Raises ValueError outside these ranges: for b <= 1 the target has infinite energy, and for eta >= 1 the first mode is
    learned in one step or overshoots.

    >>> model = PowerLawModel(1.5, 2.0)
    >>> round(float(model.error(K=0)), 6)
    1.644934
    """

    a: float
    b: float
    eta: float = 0.5
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("a", "b", "eta", "noise"):
            object.__setattr__(self, name, real(name, getattr(self, name)))
        if self.a <= 0:
            raise ValueError(f"a={self.a} must be positive: eigenvalues j^-a have to decay")
        if self.b <= 1:
            raise ValueError(f"b={self.b} must exceed 1: with energies j^-b the target has infinite energy otherwise")
        if not 0 < self.eta < 1:
            raise ValueError(f"eta={self.eta} must lie strictly between 0 and 1, since the largest eigenvalue is 1")
        if self.noise < 0:
            raise ValueError(f"noise={self.noise} must be at least 0: it is a variance")

    # ------------------------------------------------------------------------------------------------------------ the error

    def error(self, N: ArrayLike = math.inf, P: ArrayLike = math.inf, K: ArrayLike = math.inf) -> Array:
        """The error E(N, P, K), broadcast over its arguments; float64, relative error below 1e-9 (above 1e-290).

        N > 0: samples. P: whole numbers >= 0. K >= 0: steps, not necessarily whole. All may be inf. The result is inf where
        the variance is, and :meth:`why_infinite` says why. Raises ValueError for anything outside these ranges and where
        eta^(-(b-1)/a) leaves the range of float64, TypeError for what is no number. Theorem T6.4.
        """
        n, p, k = above("N", N, 0), _sizes(P), at_least("K", K, 0)
        n, p, k = np.broadcast_arrays(n, p, k)
        found = np.empty(n.shape)
        flat, parts = found.reshape(-1), [v.reshape(-1) for v in (n, p, k)]
        for start in range(0, flat.size, CHUNK):
            cut = slice(start, start + CHUNK)
            flat[cut] = self._error(*(v[cut] for v in parts))
        return found

    def _error(self, n: Array, p: Array, k: Array) -> Array:
        total = self._learned(p, k) + np.where(np.isfinite(p), special.zeta(self.b, np.where(np.isfinite(p), p, 0.0) + 1), 0.0)
        rows = np.isfinite(n) & (k > 0) & (p > 0) if self.noise else np.zeros(n.shape, dtype=bool)
        if rows.any():
            with np.errstate(over="ignore"):
                total[rows] += self.noise * self._variance(p[rows], k[rows]) / n[rows]
        return total

    def why_infinite(self, N: float = math.inf, P: float = math.inf, K: float = math.inf) -> str:
        """Why E(N, P, K) is inf, and what would make it finite, in words; "" where it is finite. Scalars, as in :meth:`error`.

        >>> PowerLawModel(1.5, 2.0, noise=1.0).why_infinite(N=100, P=50)
        ''
        """
        error = self.error(N, P, K)
        if error.shape != ():
            raise ValueError(f"N, P and K must be single numbers, since the reason is one sentence; got shape {error.shape}")
        if np.isfinite(error):
            return ""
        if math.isinf(float(P)) and math.isinf(float(K)):
            return (
                f"P = inf and K = inf: infinitely many modes are fitted to the noise and each adds the variance noise/N = "
                f"{self.noise / float(N):g}; stop after finitely many steps (stopping_time), or keep finitely many modes"
            )
        if math.isinf(float(P)) and self.a <= 0.5:
            return (
                f"P = inf and a = {self.a:g} <= 1/2: already the first step adds a variance proportional to sum j^(-2a), "
                f"which diverges; take a > 1/2 or keep finitely many modes"
            )
        return f"the variance noise/N = {self.noise:g}/{float(N):g} per mode leaves the range of float64; take a larger N"

    def _learned(self, p: Array, k: Array) -> Array:
        """Sum over j <= P of j^-b (1 - eta j^-a)^(2K)."""
        found = np.zeros(p.shape)
        rows = np.isfinite(k)  # after infinitely many steps nothing is left in the modes kept
        p, steps = p[rows], 2 * k[rows]
        log_rate = np.log1p(-self.eta * np.arange(1.0, CUTOFF + 1) ** -self.a)
        total = _head(lambda j: j**-self.b * np.exp(steps * log_rate[j - 1]), p)
        beyond = p > CUTOFF
        p, steps = p[beyond], steps[beyond]
        kappa = (self.b - 1) / self.a
        if not p.size:
            found[rows] = total
            return found
        if self.eta * CUTOFF**-self.a == 0.0:  # a is so large that these modes are never learned
            total[beyond] += special.zeta(self.b, CUTOFF + 1) - special.zeta(self.b, p + 1)
            found[rows] = total
            return found
        whole = _beta(kappa, steps + 1, scale=-kappa * math.log(self.eta)) / self.a
        if not np.isfinite(whole).all():
            raise ValueError(
                f"eta={self.eta:g} to the power -(b-1)/a = -{kappa:g} leaves the range of float64, and the sum beyond mode "
                f"{CUTOFF} needs it; take a larger eta, a smaller (b-1)/a, or P <= {CUTOFF}"
            )

        def integral_beyond(x: Any) -> Array:
            # Substituting u = x^-a turns the integral from x to infinity into an incomplete beta function.
            x = np.asarray(x, dtype=float)
            u = self.eta * x**-self.a  # 0 for x = inf
            return np.where(steps * u < 1e-18, x ** (1 - self.b) / (self.b - 1), special.betainc(kappa, steps + 1, u) * whole)

        series = partial(_power_series, self.a, self.b, self.eta, steps)
        total[beyond] += integral_beyond(CUTOFF) - integral_beyond(p) + _corrections(series, p)
        found[rows] = total
        return found

    def _variance(self, p: Array, k: Array) -> Array:
        """Sum over j <= P of (1 - (1 - eta j^-a)^K)^2."""
        found = np.where(np.isinf(k), p, np.where(np.isinf(p) & (self.a <= 0.5), np.inf, np.nan))
        rows = np.isnan(found)
        p, k = p[rows], k[rows]
        log_rate = np.log1p(-self.eta * np.arange(1.0, CUTOFF + 1) ** -self.a)
        total = _head(lambda j: np.expm1(k * log_rate[j - 1]) ** 2, p)
        beyond = p > CUTOFF
        p, k = p[beyond], k[beyond]
        if self.eta * CUTOFF**-self.a == 0.0:  # a is so large that the modes beyond are never learned
            found[rows] = total
            return found

        def series(x: Any) -> list[Array]:
            learned = [-c for c in _power_series(self.a, 0.0, self.eta, k, x)]
            learned[0] = -np.expm1(k * np.log1p(-self.eta * np.asarray(x, dtype=float) ** -self.a))  # keeps its digits if small
            square: list[Any] = [learned[0] ** 2] + [0.0] * (2 * ORDER - 1)
            for i in range(1, 2 * ORDER, 2):  # the formula asks for odd derivatives only
                square[i] = 2 * sum(learned[j] * learned[i - j] for j in range((i + 1) // 2))
            return square

        total[beyond] += _variance_integral(self.a, self.eta, p, k) + _corrections(series, p)
        found[rows] = total
        return found

    # ---------------------------------------------------------------------------------------------------------- asymptotics

    def exponents(self) -> Exponents:
        """The exponents of T6.4 and T6.5, exact."""
        a, b = self.a, self.b
        return Exponents((b - 1) / a, b - 1, (b - 1) / b if a > 0.5 else 0.0, (b - 1) / (1 + a), 1 / (1 + a))

    def prefactors(self) -> Prefactors:
        """The constants in front of the power laws of T6.4, exact."""
        a, kappa = self.a, (self.b - 1) / self.a
        with np.errstate(over="ignore"):
            steps = float(np.exp(special.gammaln(kappa) - kappa * math.log(2 * self.eta)) / a)
        return Prefactors(steps, 1 / (self.b - 1), variance_constant(a) * self.eta ** (1 / a) if a > 0.5 else math.inf)

    def scaling_function(self, x: ArrayLike) -> Array:
        """Phi(x), the limit of E(P, K) K^kappa with P = x K^(1/a), for x > 0. T6.4 (3).

        It behaves like x^(1-b) / (b - 1) for small x (size is the bottleneck) and tends to the steps' prefactor for large x.
        Raises ValueError for x <= 0.
        """
        x = above("x", x, 0, "it is P / K^(1/a)")
        kappa = (self.b - 1) / self.a
        with np.errstate(over="ignore"):  # beyond the range of float64 the value is inf
            learned = self.prefactors().steps * special.gammaincc(kappa, 2 * self.eta * x**-self.a)
            return np.asarray(learned + x ** (1 - self.b) / (self.b - 1))

    def crossover(self, P: ArrayLike) -> Array:
        """Steps P^a / (2 eta) after which a model of size P leaves the power law for an exponential. T6.4 (4).

        P: whole numbers >= 0, any shape; inf gives inf. Raises ValueError for anything else.
        """
        with np.errstate(over="ignore"):
            return np.asarray(_sizes(P) ** self.a / (2 * self.eta))

    def frontier(self, C: ArrayLike) -> Frontier:
        """The size P (whole) and steps K = C / P of least error E(inf, P, K) for each budget C = P K >= 1. T6.5.

        Near the minimum the error is flat, so sizes beyond about 1e8 are exact to half the digits of float64 only, the error
        to all of them. Raises ValueError for a budget below 1 or not finite.
        """
        budget = at_least("C", C, 1, "a budget buys one mode and one step at least")
        if np.isinf(budget).any():
            raise ValueError("C must be finite: the frontier of an infinite budget is P = K = inf")
        if not budget.size:
            return Frontier(budget, budget.copy(), budget.copy(), budget.copy())
        flat = budget.reshape(-1)

        def error(size: Array) -> Array:
            return self.error(P=size, K=flat[:, None] / size)

        low, high = np.ones(flat.size), np.maximum(1.0, np.floor(flat))
        while True:
            # The error falls and then rises along the budget line: keep the two neighbours of the best of 17 sizes.
            sizes = np.rint(np.exp(np.linspace(np.log(low), np.log(high), 17, axis=1)))
            best = error(sizes).argmin(axis=1)
            rows = np.arange(flat.size)
            below, above = sizes[rows, np.maximum(best - 1, 0)], sizes[rows, np.minimum(best + 1, 16)]
            if (below == low).all() and (above == high).all():
                break
            low, high = below, above
        width = (high - low).max()
        if width < 4096:  # every whole size between the two
            window = np.minimum(low[:, None] + np.arange(int(width) + 1), high[:, None])
        else:  # sizes near 1e15, where float64 tells neither sizes nor errors apart any further
            window = sizes
        values = error(window)
        best = values.argmin(axis=1)
        size, least = window[rows, best], values[rows, best]
        shape = budget.shape
        return Frontier(budget, size.reshape(shape), (flat / size).reshape(shape), least.reshape(shape))

    def stopping_time(self, N: ArrayLike) -> Array:
        """Steps K (a real number) at which the error of an infinite model on N samples is least. T6.4 (6).

        inf where nothing is lost by going on (noise = 0 or N infinite); 0 for a <= 1/2, where the first step already adds
        infinite variance. Found by refining a grid in log K, to about 1e-7 relative. Raises ValueError for N <= 0.
        """
        samples = above("N", N, 0, "without a sample there is nothing to stop")
        if self.noise == 0:
            return np.full(samples.shape, np.inf)
        if self.a <= 0.5:
            return np.where(np.isinf(samples), np.inf, 0.0)
        flat = samples.reshape(-1)
        finite = flat[np.isfinite(flat)]
        found = np.full(flat.size, np.inf)
        if finite.size:
            kappa, front = self.exponents().steps, self.prefactors()
            signal = np.log(finite / self.noise)
            # Many samples: the asymptotic rule. Few: a first small step already pays less than it costs, K ~ N / noise.
            late = (np.log(kappa * self.a * front.steps / front.variance) + signal) * self.a / self.b
            early = signal - math.log(self.eta)
            low, high = np.minimum(late, early) - 8.0, np.maximum(late, early) + 8.0
            low, high = np.clip(low, -740.0, 680.0), np.clip(high, -730.0, 690.0)  # exp of them stays in float64
            rows = np.arange(finite.size)
            while (high - low).max() > 1e-9 * (1 + np.abs(high).max()):
                steps = np.linspace(low, high, 17, axis=1)
                best = self.error(N=finite[:, None], K=np.exp(steps)).argmin(axis=1)
                low, high = steps[rows, np.maximum(best - 1, 0)], steps[rows, np.minimum(best + 1, 16)]
            found[np.isfinite(flat)] = np.exp((low + high) / 2)
        return found.reshape(samples.shape)

    def spectrum(self, modes: int) -> tuple[Array, Array]:
        """Eigenvalues j^-a and energies j^-b of the first modes, each of shape (modes,). Raises ValueError for modes < 1."""
        j = np.arange(1.0, count("modes", modes, 1) + 1)
        return j**-self.a, j**-self.b

    def effective_dimension(self, ridge: ArrayLike) -> Array:
        """d_eff = sum over j of 1 / (1 + ridge j^a), the modes that a ridge penalty leaves free; inf for a <= 1. T6.4 (6).

        Raises ValueError for ridge <= 0. Relative error below 1e-9.
        """
        ridge = above("ridge", ridge, 0, "without it every mode is free")
        if self.a <= 1:
            return np.full(ridge.shape, np.inf)
        return _ridge_sum(self.a, ridge)


def variance_constant(a: float) -> float:
    """V_a = (1/a) Gamma(-1/a) (2^(1/a) - 2), with V_1 = 2 ln 2; inf for a <= 1/2. Exact up to rounding. T6.4 (6).

    >>> round(variance_constant(1.5), 4)
    1.1053
    """
    if real("a", a, least=0, exclusive=True) <= 0.5:
        return math.inf
    s = 1 / a  # written so that the removable singularity at a = 1 is harmless, and the pole at a = 1/2 keeps its digits
    return 2 * math.gamma((2 * a - 1) / a if a < 1 else 2 - s) * math.log(2) * float(special.exprel((s - 1) * math.log(2)))


# ------------------------------------------------------------------------------------------------------------------ sums


def _sizes(P: ArrayLike) -> Array:
    sizes = at_least("P", P, 0)
    broken = np.isfinite(sizes) & (sizes != np.floor(sizes))
    if broken.any():
        raise ValueError(f"P counts modes, so it must be whole; got {sizes[broken].flat[0]:g}")
    return sizes


def _head(term: Callable[[int], Array], p: Array) -> Array:
    """Sum of term(j) over j <= min(p, CUTOFF)."""
    total = np.zeros(p.shape)
    if p.size:
        shortest = p.min()
        for j in range(1, int(min(p.max(), CUTOFF)) + 1):
            total += term(j) if j <= shortest else np.where(j <= p, term(j), 0.0)
    return total


def _beta(first: float, second: Array, *, scale: float) -> Array:
    """e^scale times Euler's beta function for second >= 1 up to any size, in one exponential.

    Differences of log-gammas would lose the digits of their size.
    """
    shift = 20.0
    z = second + shift
    stirling = [special.bernoulli(10)[2 * i] / (2 * i * (2 * i - 1)) for i in range(1, 6)]
    correction = sum(c * ((z + first) ** (1 - 2 * i) - z ** (1 - 2 * i)) for i, c in enumerate(stirling, 1))
    grows = (z + first - 0.5) * np.log1p(first / z) + first * np.log(z) - first + correction  # log Gamma(z + first) / Gamma(z)
    with np.errstate(over="ignore"):
        ratio = np.exp(special.gammaln(first) - grows + scale)
        for i in range(int(shift)):
            ratio = ratio * (1 + first / (second + i))
    return ratio


def _binomials(power: float) -> list[float]:
    """Taylor coefficients of (1 + t)^power."""
    found = [1.0]
    for i in range(1, 2 * ORDER):
        found.append(found[-1] * (power - i + 1) / i)
    return found


def _power_series(a: float, b: float, eta: float, steps: Array, x: Any) -> list[Array]:
    """Taylor coefficients in t of f(x (1 + t)) for f(x) = x^-b (1 - eta x^-a)^steps."""
    w = eta * np.asarray(x, dtype=float) ** -a
    inner = [1 - w] + [-w * c for c in _binomials(-a)[1:]]
    logs: list[Any] = [np.log1p(-w)]
    for i in range(1, 2 * ORDER):
        lower = sum(k * logs[k] * inner[i - k] for k in range(1, i))
        logs.append((inner[i] - lower / i) / inner[0])
    slope = [steps * logs[i] + b * (-1) ** i / i for i in range(1, 2 * ORDER)]
    found = [np.asarray(x, dtype=float) ** -b * np.exp(steps * logs[0])]
    gone = found[0] == 0.0  # then the coefficients vanish too, though the factors below may overflow
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(1, 2 * ORDER):
            product = sum(k * slope[k - 1] * found[i - k] for k in range(1, i + 1)) / i
            found.append(np.where(gone, 0.0, product))
    return found


def _ridge_series(a: float, ridge: Array, x: float) -> list[Array]:
    """Taylor coefficients in t of 1 / (1 + ridge (x (1 + t))^a)."""
    small = x**-a / ridge  # of which 1 / (1 + 1/small) is taken: neither overflows
    found = [small / (1 + small)]
    inner = [c / (1 + small) for c in _binomials(a)]
    for i in range(1, 2 * ORDER):
        found.append(-sum(inner[k] * found[i - k] for k in range(1, i + 1)))
    return found


def _end(series: list[Array], x: Any) -> Array:
    """What the Euler-Maclaurin formula takes from one end: f/2 and the odd derivatives with the Bernoulli numbers."""
    numbers = special.bernoulli(2 * ORDER)
    return series[0] / 2 + sum(
        numbers[2 * k] / (2 * k) * series[2 * k - 1] * np.asarray(x, dtype=float) ** -(2 * k - 1) for k in range(1, ORDER + 1)
    )


def _corrections(series: Callable[[Any], list[Array]], p: Array) -> Array:
    """Sum over CUTOFF < j <= P minus the integral, from the Taylor coefficients at both ends; nothing comes from P = inf."""
    finite = np.isfinite(p)
    far = np.where(finite, p, CUTOFF)
    return np.where(finite, _end(series(far), far), 0.0) - _end(series(CUTOFF), CUTOFF)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
#: Of z = -K log(1 - eta x^-a): above it 1 - e^-z is 1 in float64.
SATURATED = 45.0
#: Of z and of eta x^-a: below it a dozen terms of a power series are enough.
SMALL = 0.05


def _variance_integral(a: float, eta: float, p: Array, k: Array) -> Array:
    """Integral of (1 - (1 - eta x^-a)^K)^2 from CUTOFF to P: a flat part, a quadrature in log x, and a power series."""
    if not p.size:
        return np.zeros(0)
    with np.errstate(divide="ignore"):
        turns = [np.clip((eta / w) ** (1 / a), CUTOFF, p)
                 for w in (-np.expm1(-SATURATED / k), np.minimum(-np.expm1(-SMALL / k), SMALL))]  # fmt: skip
    flat_end, series_start = turns
    low, high = np.log(flat_end), np.log(series_start)
    middle, rows = np.zeros_like(k), high > low
    half, some = (high[rows] - low[rows]) / 2, k[rows]
    centre, sums = low[rows] + half, np.zeros_like(some)
    for node, weight in zip(NODES.tolist(), WEIGHTS.tolist(), strict=True):  # one vector at a time stays in the cache
        log_x = centre + node * half
        sums += weight * np.exp(log_x) * np.expm1(some * np.log1p(-eta * np.exp(-a * log_x))) ** 2
    middle[rows] = sums * half
    w = eta * series_start**-a
    with np.errstate(invalid="ignore"):
        span = np.log(p / series_start)
    terms, rest = [k * w], np.zeros_like(k)  # of 1 - (1 - w)^K, by powers of w
    for m in range(2, 15):
        square = sum(terms[i] * terms[m - 2 - i] for i in range(m - 1))
        terms.append(terms[-1] * (m - 1 - k) / m * w)
        grows = 1 - a * m
        with np.errstate(invalid="ignore", over="ignore"):
            length = np.where(np.isinf(p), -1 / grows if grows else np.inf, span * special.exprel(grows * span))
        rest += square * series_start * length
    return (flat_end - CUTOFF) + middle + rest


def _ridge_sum(a: float, ridge: Array) -> Array:
    share = [float(j) ** -a / ridge for j in range(1, CUTOFF + 1)]
    head = sum(x / (1 + x) for x in share)
    if float(CUTOFF) ** -a == 0.0:  # nothing is left beyond
        return np.asarray(head)
    s = 1 / a
    integral = special.betainc(1 - s, s, share[-1] / (1 + share[-1])) * special.beta(1 - s, s) * s * ridge**-s
    return head + integral - _end(_ridge_series(a, ridge, float(CUTOFF)), CUTOFF)
