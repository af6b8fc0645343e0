"""Powers and infinite products of operators, with rounding errors carried along."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from limitlib.bounds import EXACT_WIDTH, Bound, Domain, WholeSpace, multiply_up, round_up, vector_norm
from limitlib.iteration.checks import EPS, check_count

Map = Callable[[np.ndarray], Any]


class _Scaled:
    """A matrix ``2^exponent (P + E)`` with ``|E|_F <= error``: products that neither overflow nor lose track of rounding."""

    def __init__(self, P: np.ndarray, error: float = 0.0, exponent: int = 0) -> None:
        # Scaling by a power of two is exact, except where entries far below the largest become subnormal.
        shift = math.frexp(max(float(np.abs(P).max()), error))[1]
        self.P, self.error, self.exponent = np.ldexp(P, -shift), math.ldexp(error, -shift), exponent + shift
        self.least = float(np.abs(self.P[self.P != 0]).min(initial=1.0))
        if self.least < 1e-300:
            self.error += 1e-290
        self.size = float(np.linalg.norm(self.P)) * (1 + P.size * EPS)

    def __matmul__(self, other: _Scaled) -> _Scaled:
        d = len(self.P)
        rounding = (d + 2) * EPS * float(np.linalg.norm(np.abs(self.P) @ np.abs(other.P))) * (1 + 4 * d * d * EPS)
        if self.least * other.least < 1e-300:  # single products may underflow
            rounding += 1e-290
        error = rounding + self.size * other.error + self.error * other.size + self.error * other.error
        return _Scaled(self.P @ other.P, error * (1 + 8 * EPS), self.exponent + other.exponent)

    def norm(self) -> float:
        """Upper bound of the spectral norm of P + E; the SVD is taken to be right to 8 d eps |P|_F."""
        return (float(np.linalg.norm(self.P, 2)) + 8 * len(self.P) * EPS * self.size + self.error) * (1 + 4 * EPS)

    def root(self, value: float, k: int, *, up: bool) -> float:
        """The k-th root of ``2^exponent value``, rounded outward."""
        if value <= 0:
            return 0.0
        power = (math.log2(value) + self.exponent) / k
        slack = 8 * EPS * (1 + abs(power))
        return math.exp2(power) * (1 + slack if up else 1 - slack)

    def narrow(self, k: int, lower: float, upper: float) -> tuple[float, float]:
        """Narrow a bracket of the spectral radius of T, this being T^k: ``(|trace T^k| / d)^(1/k) <= rho <= |T^k|^(1/k)``."""
        d = len(self.P)
        trace = abs(math.fsum(np.diag(self.P))) * (1 - EPS) - math.sqrt(d) * (1 + EPS) * self.error
        return max(lower, self.root(trace / d, k, up=False)), min(upper, self.root(self.norm(), k, up=True))


def asymptotic_lipschitz_radius(
    T: Any, domain: Domain | None = None, *, n: int, rng: np.random.Generator | None = None
) -> Bound:
    """Bracket of ``rho(T) = lim Lip(T^k)^(1/k)``, the norm-independent radius of T1.1, from powers up to ``n``.

    For a square matrix, where rho is the spectral radius, the bracket is certified. Every power gives an upper end
    ``|T^k|^(1/k)`` (T1.1: rho is their infimum) and a lower end ``(|trace T^k| / d)^(1/k)``; the powers k = 1, 2, 4, ... and n
    are taken, so the cost grows like log n. A computed eigenbasis whose residual is bounded (T1.2: an equivalent norm) gives
    both ends to nearly full accuracy unless the matrix is close to a defective one. ``domain`` and ``rng`` are not needed.

    For a callable (batch, d) -> (batch, d) only an estimate is possible: ratios over pairs sampled in ``domain`` (a Ball or
    Box) bound Lip(T^k)^(1/k) from below, while that number bounds rho from above. So both ends of the answer are the same
    number, its kind is "estimate", and it bounds rho from neither side. Raises ValueError for a non-square or non-finite
    matrix, or where a callable comes without a bounded domain or a generator.

    >>> b = asymptotic_lipschitz_radius([[0.9, 5.0], [0.0, 0.8]], n=1000)
    >>> b.kind, b.lower <= 0.9 <= b.upper
    ('exact', True)
    """
    n = check_count("n", n, 1)
    if callable(T):
        return _sampled_radius(T, domain, n, rng)
    A = np.asarray(T, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.size or not np.isfinite(A).all():
        raise ValueError(f"T must be a finite square matrix or a callable; got an array of shape {A.shape}")
    square, k, product = _Scaled(A), 1, None
    lower, upper = _eigenbasis_bracket(square)
    while True:
        lower, upper = square.narrow(k, lower, upper)
        if n & k:
            product = square if product is None else product @ square
        if 2 * k > n:
            break
        square, k = square @ square, 2 * k
    assert product is not None  # n >= 1 has a binary digit
    lower, upper = product.narrow(n, lower, upper)
    kind = "exact" if upper - lower <= EXACT_WIDTH * upper else "certified"
    source = f"least of |T^k|^(1/k), k up to {n}, and of the norm of an eigenbasis (T1.1, T1.2)"
    return Bound(lower, upper, (2, 2), domain or WholeSpace(), kind, None, source)


def _eigenbasis_bracket(A: _Scaled) -> tuple[float, float]:
    """Bracket of the spectral radius from a computed eigenbasis V, W = V^-1, by Bauer and Fike with all rounding bounded.

    V^-1 A V = D + E with |E| <= |W (A V - V D)| / (1 - |I - W V|), if the latter norm is below 1. Each eigenvalue then lies
    within |E| of D, and the discs that hang together with that of the largest |D_ii| contain at least one eigenvalue.
    """
    d = len(A.P)
    try:
        values, V = np.linalg.eig(A.P)
        W = np.linalg.inv(V)
    except np.linalg.LinAlgError:
        return 0.0, math.inf
    if not (np.isfinite(W).all() and np.isfinite(values).all()):
        return 0.0, math.inf
    unit = 8 * (d + 4) * EPS  # a complex product of d terms, with room to spare
    P, absV, absW, absD = np.abs(A.P), np.abs(V), np.abs(W), np.abs(values)
    residual = np.abs(A.P @ V - V * values) + unit * (P @ absV + absV * absD) + A.error * np.linalg.norm(absV)
    defect = float(np.linalg.norm(np.abs(np.eye(d) - W @ V) + unit * (absW @ absV + np.eye(d)))) * (1 + unit)
    if not defect < 1:
        return 0.0, math.inf
    radius = float(np.linalg.norm(absW @ residual)) * (1 + 2 * unit) / (1 - defect) * (1 + unit)
    top = float(absD.max())
    lower, upper = max(0.0, top * (1 - unit) - (2 * d - 1) * radius), top * (1 + unit) + radius
    return A.root(lower, 1, up=False), A.root(upper, 1, up=True)


def _sampled_radius(T: Map, domain: Domain | None, n: int, rng: np.random.Generator | None, pairs: int = 256) -> Bound:
    if rng is None or domain is None:
        raise ValueError("a callable T needs rng=np.random.default_rng(seed) and a domain that can be sampled, Ball or Box")
    x = domain.sample(2 * pairs, rng)
    y = domain.sample(2 * pairs, rng)
    y[pairs:] = x[pairs:] + 1e-4 * (y[pairs:] - x[pairs:])  # half of the pairs far apart, half close together
    start = vector_norm(y - x)
    smallest = math.inf
    used = 0
    for k in range(1, n + 1):
        x, y = np.asarray(T(x), dtype=float), np.asarray(T(y), dtype=float)
        distance = vector_norm(y - x)
        told = np.isfinite(distance) & (distance > 1e4 * EPS * vector_norm(x)) & (start > 0)  # the rest is rounding
        if not told.any():
            if k == 1 or (distance == 0).all():
                smallest = 0.0 if (distance == 0).all() else smallest
            break
        smallest, used = min(smallest, float((distance[told] / start[told]).max() ** (1 / k))), k
    source = (
        f"least over k <= {used} of the largest (|T^k x - T^k y| / |x - y|)^(1/k) over {2 * pairs} sampled pairs; "
        "each term is a lower bound of Lip(T^k)^(1/k) >= rho, so rho is bounded from neither side (T1.1)"
    )
    if math.isinf(smallest):
        raise ValueError(f"T gave no usable distances on {domain!r}; its values are not finite there")
    return Bound(smallest, smallest, (2, 2), domain, "estimate", None, source)


@dataclass(frozen=True)
class ProductLimit:
    """Partial product of an infinite product and how far it is from the limit.

    ``value`` is the product of the given factors, later ones on the left; ``tail_bound`` an upper bound of the distance from it
    to the limit (spectral norm for matrices), rounding included. ``rank_one_defect`` is sigma_2 / sigma_1 of the value (an
    estimate): 0 means that only one direction of the input survives; None for scalar factors.
    """

    value: Any
    tail_bound: float
    rank_one_defect: float | None


def infinite_product(factors: Any, *, tail: float) -> ProductLimit:
    """Product of the given factors with a certified distance to the limit of the infinite product.

    Shapes: ``factors`` is ``(n,)`` or ``(n, d, d)``; the product is ``A_n ... A_1``. ``tail`` is an upper bound of the sum of
    ``|A_i - I|`` over all later factors (spectral norm); the limit is then within ``|A_n ... A_1| (e^tail - 1)``. A tail of inf
    is allowed and claims nothing. Raises ValueError for an empty or non-finite stack or a negative tail.

    >>> p = infinite_product([1 - i**-2.0 for i in range(2, 1001)], tail=1 / 1000)
    >>> abs(p.value - 0.5) <= p.tail_bound <= 1e-3
    True
    """
    A = np.asarray(factors, dtype=float)
    if A.ndim not in (1, 3) or not A.size or (A.ndim == 3 and A.shape[1] != A.shape[2]) or not np.isfinite(A).all():
        raise ValueError(f"factors must be a finite stack of shape (n,) or (n, d, d), not empty; got shape {A.shape}")
    if not tail >= 0:
        raise ValueError(f"tail must be a number >= 0 (inf if unknown); got {tail!r}")
    growth = math.expm1(tail) * (1 + 4 * EPS) if tail < 700 else math.inf
    if A.ndim == 1:
        mantissas, exponents = np.frexp(A)
        exponent = int(exponents.sum())
        while mantissas.size > 1:  # by short runs, so that nothing underflows on the way
            runs = np.concatenate([mantissas, np.ones(-mantissas.size % 512)]).reshape(-1, 512).prod(axis=1)
            mantissas, exponents = np.frexp(runs)
            exponent += int(exponents.sum())
        try:
            value = math.ldexp(float(mantissas[0]), exponent)
        except OverflowError:
            value = math.copysign(math.inf, mantissas[0])
        bound = multiply_up(abs(value), growth) + abs(value) * (A.size + 8) * EPS
        if mantissas[0] and abs(value) < 1e-300:  # the last scaling may have rounded among subnormal numbers
            bound += 1e-323
        return ProductLimit(value, round_up(bound, 4), None)
    product = _Scaled(A[0])
    for factor in A[1:]:
        product = _Scaled(factor) @ product
    singular = np.linalg.svd(product.P, compute_uv=False)
    defect = float(singular[1] / singular[0]) if len(singular) > 1 and singular[0] > 0 else 0.0
    with np.errstate(over="ignore", under="ignore"):
        value = np.ldexp(product.P, product.exponent)
        bound = multiply_up(product.norm(), growth) + product.error
        bound = float(np.ldexp(round_up(bound, 4), product.exponent))
    return ProductLimit(value, bound, defect)
