"""From metric entropy to generalisation: Dudley's integral and what it gives, and complexities of spectral norms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.bounds import Bound, Estimate
from limitlib.checks import count, function, real
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
    best of a search is returned. Raises ValueError for n < 1 or D <= 0. T5.3; Dudley 1967.
    """
    _check_sample(n, D)
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
    :func:`chaining_bound` where that has its alpha in this range. Raises ValueError for n < 1 or D <= 0. T5.3.
    """
    _check_sample(n, D)
    radii = D * 2.0 ** (-np.arange(16 * 26 + 1) / 16)
    entropy = np.array([0.0] + [_entropy(log_N, r) for r in radii[1:]])
    reached, before = np.zeros(len(radii)), np.zeros(len(radii), dtype=int)
    for j in range(1, len(radii)):
        links = reached[:j] + (radii[:j] + radii[j]) * np.sqrt(2 * (entropy[:j] + entropy[j]) / n)
        before[j] = int(links.argmin())
        reached[j] = links[before[j]]
    end = int((reached + radii).argmin())
    value, chain = float(reached[end] + radii[end]), [end]
    while chain[-1]:
        chain.append(int(before[chain[-1]]))
    return value, radii[chain[::-1]]


def _check_sample(n: int, D: float) -> None:
    if not (1 <= n < math.inf and 1e-290 <= D < math.inf):
        raise ValueError(f"n={n!r} must be at least 1 and D={D!r} positive (1e-290 or more), both finite")


def linear_rademacher(X: ArrayLike, radius: float = 1.0, *, draws: int = 1000, rng: np.random.Generator) -> Estimate:
    """Monte-Carlo estimate of the Rademacher complexity of x -> <w, x>, |w| <= radius, on the rows of ``X`` (n, d).

    For signs s the supremum over w is radius |X's| / n: its mean over ``draws`` sign vectors, with the normal 95 % interval.
    The truth lies between radius |X|_F / (sqrt(2) n) and radius |X|_F / n (Khintchine-Kahane; Jensen). Raises ValueError for
    points that are not finite, radius < 0 or fewer than 2 draws.
    """
    x = np.asarray(X, dtype=float)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"X has shape {x.shape}; give finite points (n, d)")
    if not (math.isfinite(radius) and radius >= 0) or draws < 2:
        raise ValueError(f"radius={radius!r} must be at least 0 and draws={draws!r} at least 2")
    values = np.concatenate(
        [np.linalg.norm(rng.choice([-1.0, 1.0], (min(256, draws - i), len(x))) @ x, axis=1) for i in range(0, draws, 256)]
    ) * (radius / len(x))
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(draws)
    return Estimate(mean, mean - half, mean + half)


def _layers(weights: Sequence[ArrayLike]) -> list[Array]:
    found = [np.asarray(w, dtype=float) for w in weights]
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
    layer gives 0. Raises ValueError for weights that do not chain and unknown kinds. Bartlett et al. 2017; Neyshabur et al.
    2018.
    """
    layers = _layers(weights)
    origins = [np.zeros_like(w) for w in layers] if references is None else [np.asarray(r, dtype=float) for r in references]
    if len(origins) != len(layers) or any(
        r.shape != w.shape or not np.isfinite(r).all() for r, w in zip(origins, layers, strict=True)
    ):
        raise ValueError("references must hold one finite matrix of the same shape for each layer")
    norms = [operator_norm(w).upper for w in layers]
    product = math.prod(norms)
    if product == 0.0 or kind == "product":
        return product
    moved = [w - r for w, r in zip(layers, origins, strict=True)]
    if kind == "bartlett":
        # the rows of W are the columns of W'
        ratios = [np.linalg.norm(m, axis=1).sum() / s for m, s in zip(moved, norms, strict=True)]
        return product * float(sum(r ** (2 / 3) for r in ratios)) ** 1.5
    if kind == "neyshabur":
        return product * math.sqrt(sum((np.linalg.norm(m) / s) ** 2 for m, s in zip(moved, norms, strict=True)))
    raise ValueError(f"kind={kind!r} is unknown: choose 'bartlett', 'neyshabur' or 'product'")


def margin_bound(
    complexity: float, *, data_norm: float, margin: float, n: int, width: int, delta: float = 0.05, margin_error: float = 0.0
) -> float:
    """UPPER bound on the test error from a spectral complexity (Bartlett et al. 2017, in the form of their lemma A.8).

    margin_error: share of samples with margin below ``margin``. data_norm: Frobenius norm of the inputs (n, d). width:
    largest width. Rademacher complexity by :func:`chaining_bound` of
    log N = (2 complexity data_norm / (margin eps))^2 ln(2 width^2) / n in the root-mean-square metric, doubled, plus
    3 sqrt(ln(2 / delta) / (2 n)). It is often above 1, and then says nothing. Raises ValueError for arguments out of range.
    """
    if not (margin > 0 and data_norm >= 0 and complexity >= 0 and n >= 1 and width >= 1 and 0 < delta < 1):
        raise ValueError("need margin > 0, data_norm >= 0, complexity >= 0, n >= 1, width >= 1 and 0 < delta < 1")
    if not 0 <= margin_error <= 1:
        raise ValueError(f"margin_error={margin_error!r} is a share of the samples: give a number from 0 to 1")
    scale = (2 * complexity * data_norm / margin) ** 2 * math.log(2 * width**2) / n
    rademacher = 0.0 if scale == 0 else chaining_bound(lambda e: scale / e**2, n, 1.0)[0]
    return margin_error + 2 * rademacher + 3 * math.sqrt(math.log(2 / delta) / (2 * n))


def allocate(radii: ArrayLike, eps: float) -> tuple[Array, float]:
    """Least sum of (b_i / eps_i)^2 subject to sum eps_i = eps: the shares eps_i and the value (sum b_i^(2/3))^3 / eps^2. Exact.

    T5.5; the core of the bound of Bartlett et al. 2017. Raises ValueError for b < 0, all zero, or eps <= 0.
    """
    b = np.asarray(radii, dtype=float)
    if b.ndim != 1 or not b.size or not np.isfinite(b).all() or (b < 0).any() or not b.any():
        raise ValueError("radii must be nonnegative numbers, not all zero")
    if not eps > 0:
        raise ValueError(f"eps={eps!r} must be positive")
    share = b ** (2 / 3)
    return eps * share / share.sum(), float(share.sum() ** 3 / eps**2)


def stack_entropy(eps: float, *, s: float, parameters: int = 1) -> float:
    """Upper bound (nats) of log N(eps) of the stacks of n nonexpansive blocks T + g_i, |theta_i| <= i^-s in R^p, whatever n is.

    The layers beyond the first m whose tail is below eps / 2 get one ball each, the other m a radius eps / (2 m). It grows like
    eps^(-1/(s-1)), uniformly in depth; inf where float64 ends. Raises ValueError for eps <= 0, and for s <= 1, where the tail
    is not summable. T5.5.
    """
    if not s > 1:
        raise ValueError(f"s={s!r} must exceed 1: the radii i^-s must be summable")
    if not (eps > 0 and 1 <= parameters < math.inf):
        raise ValueError(f"eps={eps!r} must be positive and parameters={parameters!r} at least 1 and finite")
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
