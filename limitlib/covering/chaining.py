"""From metric entropy to generalisation: Dudley's integral and what it gives, and complexities of spectral norms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.bounds import Bound, Estimate, round_up
from limitlib.checks import count, function, generator, real, real_array, word
from limitlib.covering.closed_forms import ratio
from limitlib.covering.greedy import in_range
from limitlib.operators import operator_norm

Array = NDArray[np.float64]

SUMMED = 4096  # so many layers of a stack are summed one by one


@dataclass(frozen=True)
class Interval:
    """An enclosure of an integral of a monotone function: ``low <= integral <= high``, up to rounding."""

    low: float
    high: float


def dudley_integral(
    log_N: Callable[[float], float | Bound], upper: float, *, lower: float = 0.0, n: int = 4000
) -> Interval:
    """Enclosure of the integral of sqrt(log N(eps)) from ``lower`` to ``upper``, by sums over ``n`` steps.

    log_N: nonincreasing, in nats (its upper end, where it gives a Bound). The steps are geometric; the enclosure rests on
    monotonicity alone. With lower = 0 the part below ``upper * 1e-12`` is the one assumption: that log_N goes on as the power
    law of the decade above it. That part is counted in full for the power law, doubled where the exponent is small, and
    ``high`` is inf where the power law is not integrable (exponent 2 and above, or less than 1e-9 below). ``high`` is inf
    as well where log_N is. Raises ValueError unless 0 <= lower < upper and n is a whole number, 1 or more, or for log_N
    negative, NaN or increasing; TypeError for what is no real number, or no function.
    """
    function("log_N", log_N)
    upper, lower, n = real("upper", upper), real("lower", lower), count("n", n, 1)
    if not 0 <= lower < upper:
        raise ValueError(f"need 0 <= lower < upper < inf; got lower={lower!r}, upper={upper!r}")
    start = lower if lower > 0 else upper * 1e-12
    if start == 0.0:
        raise ValueError(f"upper={upper!r} is too small for lower=0: upper * 1e-12 is 0 in float64; take a larger unit")
    grid = np.geomspace(start, upper, n + 1)
    grid[0], grid[-1] = start, upper
    heights = np.sqrt([_entropy(log_N, e) for e in grid])
    if (heights[1:] > heights[:-1] + 1e-9 * (1 + heights[:-1])).any():
        raise ValueError("log_N increases with eps; a metric entropy does not")
    steps = np.diff(grid)
    if math.isinf(heights[0]):
        low = math.inf if math.isinf(heights[1]) else float(steps @ heights[1:])
        return Interval(low, math.inf)
    low, high = float(steps @ heights[1:]), float(steps @ heights[:-1])
    if lower == 0.0:
        high += _below(*(float(start * 10**k * math.sqrt(_entropy(log_N, start * 10**k))) for k in range(2)))
    return Interval(low, high)


def _below(here: float, above: float) -> float:
    """Integral from 0 to e of the power law h with e h(e) = ``here`` and 10 e h(10 e) = ``above``, or more; inf if infinite."""
    if here == 0.0:
        return 0.0
    if here >= above * (1 - 1e-9):
        return math.inf
    # h is a power e^(a - 1) with here / above = 10^-a, and the integral is here / a; the margin pays for rounding in a.
    return max(2 * here / (1 - here / above), here * math.log(10) / -math.log(here / above) * (1 + 1e-6))


def _entropy(log_N: Callable[[float], float | Bound], eps: float) -> float:
    found = log_N(float(eps))
    value = found.upper if isinstance(found, Bound) else float(found)
    if not value >= 0:
        raise ValueError(f"log_N({eps!r}) is {value!r}; a metric entropy is at least 0")
    return value


def chaining_bound(log_N: Callable[[float], float | Bound], n: int, D: float) -> tuple[float, float]:
    """Dudley's bound on the Rademacher complexity of a class that one ball of radius D holds, on n samples, and its alpha.

    inf over 0 < alpha <= D / 2 of 4 alpha + 12 / sqrt(n) times the integral of sqrt(log N) from alpha to D / 2, N in the
    root-mean-square metric of the sample, centres anywhere; a class of diameter D will do. An upper bound for each alpha; the
    best of a search is returned. Raises ValueError for n that is not a whole number, 1 or more, and for D <= 0; TypeError for
    what is no real number, or no function. T5.3; Dudley 1967.
    """
    n, D = _sample(log_N, n, D)
    grid = np.geomspace(D * 1e-8, D / 2, 1601)
    heights = np.sqrt([_entropy(log_N, e) for e in grid])
    above = np.append(np.cumsum((np.diff(grid) * heights[:-1])[::-1])[::-1], 0.0)  # upper sums
    values = 4 * grid + 12 / math.sqrt(n) * above
    best = int(values.argmin())
    return float(values[best]), float(grid[best])


def best_chain(log_N: Callable[[float], float | Bound], n: int, D: float) -> tuple[float, Array]:
    """The chaining bound without Dudley's constants: the best chain of nets, and the radii of its nets (levels,).

    Upper bound on the Rademacher complexity of a class that one ball of radius D holds. For radii D = r_0 > r_1 > ... > r_J it
    is r_J plus the sum of (r_j + r_(j-1)) sqrt(2 (log N(r_j) + log N(r_(j-1))) / n), where log N(r_0) = 0. The shortest path
    over the radii D 2^(-i/16) down to D 2^-26; these hold the halvings of Dudley's proof, so the value is never above that of
    :func:`chaining_bound` where that has its alpha in this range. Raises as :func:`chaining_bound`. T5.3.
    """
    n, D = _sample(log_N, n, D)
    radii = D * 2.0 ** (-np.arange(16 * 26 + 1) / 16)
    entropy = np.array([0.0] + [_entropy(log_N, r) for r in radii[1:]])
    reached, before = np.zeros(len(radii)), np.zeros(len(radii), dtype=int)
    for j in range(1, len(radii)):
        links = reached[:j] + (radii[:j] + radii[j]) * np.sqrt(2 * (entropy[:j] + entropy[j]) / float(n))
        before[j] = int(links.argmin())
        reached[j] = links[before[j]]
    end = int((reached + radii).argmin())
    value, chain = float(reached[end] + radii[end]), [end]
    while chain[-1]:
        chain.append(int(before[chain[-1]]))
    return value, radii[chain[::-1]]


def _sample(log_N: Callable[[float], float | Bound], n: int, D: float) -> tuple[int, float]:
    function("log_N", log_N)
    samples, radius = count("n", n, 1), real("D", D, least=0, exclusive=True)
    if not 1e-290 <= radius <= 1e300:
        raise ValueError(f"D={D!r} must lie between 1e-290 and 1e300: its parts and multiples must be floats; change the unit")
    return samples, radius


def linear_rademacher(X: ArrayLike, radius: float = 1.0, *, draws: int = 1000, rng: np.random.Generator) -> Estimate:
    """Monte-Carlo estimate of the Rademacher complexity of x -> <w, x>, |w| <= radius, on the rows of ``X`` (n, d).

    For signs s the supremum over w is radius |X's| / n: its mean over ``draws`` sign vectors, with the normal 95 % interval.
    The truth lies between radius |X|_F / (sqrt(2) n) and radius |X|_F / n (Khintchine-Kahane; Jensen). Raises ValueError for
    points that are not finite, radius < 0 or draws that are not a whole number, 2 or more; TypeError for what is not real and
    for an rng that is no Generator.
    """
    x, source = real_array("X", X, nan=True), generator(rng)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"X has shape {x.shape}; give finite points (n, d)")
    radius, draws = real("radius", radius, least=0), count("draws", draws, 2)
    x, unit = in_range(x)
    values = np.concatenate(
        [np.linalg.norm(source.choice([-1.0, 1.0], (min(256, draws - i), len(x))) @ x, axis=1) for i in range(0, draws, 256)]
    ) * (radius / len(x))
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(draws)
    with np.errstate(over="ignore"):  # inf where the result exceeds float64
        return Estimate(*(float(np.ldexp(v, unit)) for v in (mean, mean - half, mean + half)))


def _layers(weights: Sequence[ArrayLike]) -> list[Array]:
    found = [real_array("weights", w, nan=True) for w in weights]
    if not found or any(w.ndim != 2 or not w.size or not np.isfinite(w).all() for w in found):
        raise ValueError("weights must be finite matrices (outputs, inputs), one for each layer, at least one")
    if any(a.shape[0] != b.shape[1] for a, b in itertools.pairwise(found)):
        raise ValueError(f"weights have the shapes {[w.shape for w in found]}; each layer takes the outputs of the one before")
    return found


def spectral_complexity(
    weights: Sequence[ArrayLike], kind: str = "bartlett", *, references: Sequence[ArrayLike] | None = None
) -> float:
    """Spectral complexity of a network with 1-Lipschitz activations, rounded up (spectral norms are certified upper ends).

    "bartlett": product of |W_i| times (sum of (|W_i' - M_i'|_{2,1} / |W_i|)^(2/3))^(3/2), M_i the ``references``, default 0.
    "neyshabur": product of |W_i| times (sum of |W_i - M_i|_F^2 / |W_i|^2)^(1/2). "product": the product alone. A zero
    layer gives 0. Layers of any scale: inf only where the result itself exceeds float64. Raises ValueError for weights that do
    not chain or are not finite and for unknown kinds, TypeError for what is not real. Bartlett et al. 2017; Neyshabur et al.
    2018.
    """
    word("kind", kind, ("bartlett", "neyshabur", "product"))
    layers = _layers(weights)
    given = [np.zeros_like(w) for w in layers] if references is None else references
    origins = [real_array("references", r, nan=True) for r in given]
    if len(origins) != len(layers) or any(
        r.shape != w.shape or not np.isfinite(r).all() for r, w in zip(origins, layers, strict=True)
    ):
        raise ValueError("references must hold one finite matrix of the same shape for each layer")
    ulps = 4 * (max(sum(w.shape) for w in layers) + len(layers) + 8)  # above the rounding of all that follows
    # Every number is a float of moderate size times a power of 2.
    product, exponent = 1.0, 0
    ratios: list[tuple[float, int]] = []
    for w, r in zip(layers, origins, strict=True):
        scaled, power = _unit(w)
        norm = operator_norm(scaled).upper
        if norm == 0.0:
            return 0.0
        product, carry = math.frexp(product * norm)
        exponent += carry + power
        spare = 2 if max(np.abs(w).max(), np.abs(r).max()) > 2.0**1000 else 0  # so that the difference is finite
        moved, own = _unit(np.ldexp(w, -spare) - np.ldexp(r, -spare))
        rows = np.linalg.norm(moved, axis=1)  # the rows of W are the columns of W'
        size, carry = math.frexp(float(rows.sum() if kind == "bartlett" else np.linalg.norm(rows)) / norm)
        if size > 0.0:
            ratios.append((size, carry + own + spare - power))
    if kind == "product":
        return _times_power_up(round_up(product, ulps), exponent)
    if not ratios:
        return 0.0
    top = max(e for _, e in ratios)
    terms = [math.ldexp(m, e - top) for m, e in ratios]
    total = sum(t ** (2 / 3) for t in terms) ** 1.5 if kind == "bartlett" else math.sqrt(sum(t**2 for t in terms))
    return _times_power_up(round_up(product * total, ulps), exponent + top)


def _unit(matrix: Array) -> tuple[Array, int]:
    """(matrix / 2^e, e) with the largest entry in [1/2, 1), or e = 0 for zeros; entries 10^300 below it may vanish."""
    exponent = int(np.frexp(np.abs(matrix).max())[1])
    return np.ldexp(matrix, -exponent), exponent


def _times_power_up(value: float, exponent: int) -> float:
    """value 2^exponent rounded up: inf above the largest float, and never 0."""
    try:
        found = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return found if math.ldexp(found, -exponent) >= value else math.nextafter(found, math.inf)


def margin_bound(
    complexity: float, *, data_norm: float, margin: float, n: int, width: int, delta: float = 0.05, margin_error: float = 0.0
) -> float:
    """UPPER bound on the test error from a spectral complexity (Bartlett et al. 2017, in the form of their lemma A.8).

    margin_error: share of samples with margin below ``margin``. data_norm: Frobenius norm of the inputs (n, d). width:
    largest width. Rademacher complexity by :func:`chaining_bound` of
    log N = (2 complexity data_norm / (margin eps))^2 ln(2 width^2) / n in the root-mean-square metric, doubled, plus
    3 sqrt(ln(2 / delta) / (2 n)). It is often above 1, and then says nothing. Raises ValueError naming the argument that is
    out of range, or not whole (n, width); complexity may be inf. TypeError for what is no real number.
    """
    complexity = real("complexity", complexity, least=0, finite=False)
    data_norm, margin = real("data_norm", data_norm, least=0), real("margin", margin, least=0, exclusive=True)
    n, width, delta = count("n", n, 1), count("width", width, 1), real("delta", delta)
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta!r} must lie strictly between 0 and 1")
    if not 0 <= real("margin_error", margin_error) <= 1:
        raise ValueError(f"margin_error={margin_error!r} is a share of the samples: give a number from 0 to 1")
    steep = 0.0 if 0.0 in (complexity, data_norm) else ratio((2.0, complexity, data_norm), margin)
    scale = steep * steep * math.log(2 * width**2) / n
    rademacher = 0.0 if scale == 0 else chaining_bound(lambda e: scale / e**2, n, 1.0)[0]
    return margin_error + 2 * rademacher + 3 * math.sqrt(math.log(2 / delta) / (2 * n))


def allocate(radii: ArrayLike, eps: float) -> tuple[Array, float]:
    """Least sum of (b_i / eps_i)^2 subject to sum eps_i = eps: the shares eps_i and the value (sum b_i^(2/3))^3 / eps^2. Exact.

    The value is inf or 0 where it leaves float64. T5.5; the core of the bound of Bartlett et al. 2017. Raises ValueError for
    b < 0, all zero, not finite, or eps <= 0; TypeError for what is not real.
    """
    b = real_array("radii", radii, nan=True)
    if b.ndim != 1 or not b.size or not np.isfinite(b).all() or (b < 0).any() or not b.any():
        raise ValueError("radii must be nonnegative numbers, not all zero")
    mantissa, exponent = math.frexp(real("eps", eps, least=0, exclusive=True))
    share = b ** (2 / 3)
    total, power = math.frexp(float(share.sum()))
    with np.errstate(over="ignore"):
        value = float(np.ldexp(total**3 / mantissa**2, 3 * power - 2 * exponent))
    return np.ldexp(mantissa * share / share.sum(), exponent), value


def stack_entropy(eps: float, *, s: float, parameters: int = 1) -> float:
    """Upper bound (nats) of log N(eps) of the stacks of n nonexpansive blocks T + g_i, |theta_i| <= i^-s in R^p, whatever n is.

    The layers beyond the first m whose tail is below eps / 2 get one ball each, the other m a radius eps / (2 m). It grows like
    eps^(-1/(s-1)), uniformly in depth. It is inf where m = (2 / ((s - 1) eps))^(1/(s-1)) or m / eps exceeds e^700, the range of
    float64: for s near 1 at every eps that is not large (s = 1.01 at eps = 0.1, where m is about 10^330), although the entropy
    is finite. Raises ValueError for eps <= 0, for parameters that are not a whole number, 1 or more, and for s <= 1, where the
    tail is not summable; TypeError for what is no real number. T5.5.
    """
    if not real("s", s) > 1:
        raise ValueError(f"s={s!r} must exceed 1: the radii i^-s must be summable")
    eps, parameters = real("eps", eps, least=0, exclusive=True), count("parameters", parameters, 1)
    # The tail beyond m is at most m^(1-s) / (s - 1).
    log_m = (math.log(2) - math.log(s - 1) - math.log(eps)) / (s - 1)
    if max(log_m, log_m - math.log(eps)) > 700:
        return math.inf  # more layers, or a smaller radius, than float64 can hold
    m = max(1.0, np.ceil((2 / ((s - 1) * eps)) ** (1 / (s - 1))))
    scale = 4 * m / eps
    total = np.log1p(scale * np.arange(1.0, min(m, SUMMED) + 1) ** -s).sum()
    if m > SUMMED:
        # The terms are convex in i: each is at most its integral over [i - 1/2, i + 1/2], and trapezoids lie above that.
        u = np.geomspace(SUMMED + 0.5, m + 0.5, 2049)
        heights = np.log1p(scale * u**-s)
        total += float(np.diff(u) @ (heights[1:] + heights[:-1])) / 2
    return parameters * float(total)
