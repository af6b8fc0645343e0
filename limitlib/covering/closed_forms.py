"""Metric entropy in closed form: brackets of log N(eps) for balls, spheres, ellipsoids and classes of functions.

Numbers are natural logarithms (nats), since the counts themselves overflow; ``exp`` of an end bounds the count. Covers are by
closed balls whose centres may lie anywhere (for classes of functions: any function). T5.2 to T5.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from limitlib.bounds import Bound, round_down, round_up
from limitlib.checks import count, function, real, real_array, word

Array = NDArray[np.float64]

INTERVALS = 10_000_000  # of the net of lipschitz_net, at most


def covering_bound(kind: str, eps: float, **parameters: Any) -> Bound:
    """Bracket of the metric entropy log N(eps) (nats) of a set or class that is known in closed form.

    kind and parameters:

    * "interval" (length): exact. "cube" (d, side; sup norm): exact.
    * "ball" (d, radius): any norm; volumes. T5.2.
    * "sphere" (d, radius): the unit sphere of R^d and its multiples, Euclidean; measure of caps.
    * "ellipsoid" (axes): Euclidean; volumes of its sections and of its fattened sections.
    * "lipschitz" (constant=1, length=1): functions on an interval with f(0) = 0, sup norm; exact, with the covering in
      :func:`lipschitz_net`. T5.4, Kolmogorov and Tikhomirov 1959.
    * "parametric" (d, constant, radius): a class that depends on a parameter of a ball in R^d through a map with this
      Lipschitz constant; upper end only. T5.3.
    * "linear" (X, radius): x -> <w, x> with |w| <= radius, in the root-mean-square metric of the rows of X (n, d).
    * "composition" (constants, classes): F_n o ... o F_1, classes a list of functions eps -> log N or Bound, constants the
      Lipschitz constants of the later classes; upper end only. T5.5.

    ``norm`` of the result is (metric, "nats"). kind "exact" or "certified". Raises ValueError for eps <= 0, unknown kinds, and
    parameters that are missing, unknown, out of range or not whole (d); TypeError for what is not real (complex numbers,
    strings, bools, None) and for classes that are no functions. An end is inf where it exceeds float64.

    >>> round(covering_bound("lipschitz", 0.25).upper / math.log(2), 9)
    3.0
    """
    radius = real("eps", eps, least=0, exclusive=True)
    compute, metric, needed, optional = _KINDS[word("kind", kind, _KINDS)]
    missing = [n for n in needed if n not in parameters]
    unknown = [n for n in parameters if n not in needed + optional]
    if missing or unknown:
        what = f"needs {', '.join(missing)}" if missing else f"does not take {', '.join(unknown)}"
        raise ValueError(f"kind={kind!r} {what}; its parameters are {', '.join(needed + optional)}")
    lower, upper, source = compute(radius, **parameters)
    lower, upper = max(0.0, round_down(lower, 64)), max(0.0, round_up(upper, 64))
    exact = upper < math.inf and upper - lower <= 1e-10 * upper
    return Bound(lower, upper, (metric, "nats"), kind="exact" if exact else "certified", source=source)


def _positive(name: str, value: float) -> float:
    return real(name, value, least=0, exclusive=True)


def ratio(above: Sequence[float], below: float) -> float:
    """Product of positive numbers over a positive one, as float64 computes it, but without overflow on the way; inf beyond."""
    value, exponent = 1.0, 0
    for factor in above:
        mantissa, power = math.frexp(factor)
        value, exponent = value * mantissa, exponent + power
    mantissa, power = math.frexp(below)
    try:
        return math.ldexp(value / mantissa, exponent - power)
    except OverflowError:
        return math.inf


def _log_ratio(above: Sequence[float], below: float) -> float:
    found = ratio(above, below)
    return math.log(found) if 1e-300 < found < math.inf else sum(map(math.log, above)) - math.log(below)


def _pieces(number: float) -> int:
    """ceil(number), where one within rounding of a whole number counts as that."""
    nearest = round(number)
    return int(nearest) if nearest and abs(number - nearest) <= 4 * math.ulp(number) else math.ceil(number)


def _log_pieces(length: Sequence[float], eps: float) -> float:
    """log of the number of intervals of length 2 eps that cover one whose length is a product."""
    pieces = ratio(length, eps) / 2
    return math.log(max(_pieces(pieces), 1)) if pieces < math.inf else _log_ratio(length, eps) - math.log(2)


def _interval(eps: float, length: float) -> tuple[float, float, str]:
    value = _log_pieces((_positive("length", length),), eps)
    return value, value, "intervals of length 2 eps"


def _cube(eps: float, d: int, side: float) -> tuple[float, float, str]:
    value = count("d", d, 1) * _log_pieces((_positive("side", side),), eps)
    return value, value, "a grid of cubes; a grid of separated points"


def _ball(eps: float, d: int, radius: float = 1.0) -> tuple[float, float, str]:
    radius, d = _positive("radius", radius), count("d", d, 1)
    if eps >= radius:
        return 0.0, 0.0, "one ball"
    if d == 1:
        value = _log_pieces((2.0, radius), eps)
        return value, value, "intervals of length 2 eps"
    return d * _log_ratio((radius,), eps), d * _log_one_plus((2.0, radius), eps), "volumes of balls (T5.2)"


def _log_one_plus(above: Sequence[float], below: float) -> float:
    """log(1 + ratio)."""
    found = ratio(above, below)
    return math.log1p(found) if found < math.inf else _log_ratio(above, below)


def _cap(d: int, sine_squared: float, log_sine: float) -> float:
    """log of the share of the sphere of R^d within an angle below a right one, given its sine."""
    share = float(special.betainc((d - 1) / 2, 0.5, sine_squared))
    if min(share, sine_squared) > 1e-290:
        return math.log(0.5) + math.log(share)
    # The integral of t^(a - 1) (1 - t)^(-1/2) up to x = sine^2 is x^a / a times that of e^-u (1 - x e^(-u/a))^(-1/2) over
    # u > 0. The share is tiny, so x^a is, and the root is nearly constant where e^-u is not: forty nodes give all digits.
    a = (d - 1) / 2
    nodes, weights = np.polynomial.laguerre.laggauss(40)
    integral = float(weights @ (-np.expm1(2 * log_sine - nodes / a)) ** -0.5)
    # log B(a, 1/2); for large a the next term of the series is below 1e-15
    beta = special.betaln(a, 0.5) if a < 1000 else math.log(math.pi / a) / 2 + math.log1p((1 / 8 + 1 / (128 * a)) / a)
    return math.log(0.5) + 2 * a * log_sine - math.log(a) - float(beta) + math.log(integral)


def _sphere(eps: float, d: int, radius: float = 1.0) -> tuple[float, float, str]:
    radius, d = _positive("radius", radius), count("d", d, 2)
    chord = eps / radius
    if chord >= 1:
        return 0.0, 0.0, "one ball"
    log_chord = _log_ratio((eps,), radius)
    # A ball of radius eps meets the sphere in a cap whose half-angle has at most the sine eps.
    lower = -_cap(d, chord**2, log_chord)
    # Centres of a maximal packing with chords above eps: caps of half the angle are disjoint.
    half = math.asin(chord / 2)
    upper = -_cap(d, math.sin(half) ** 2, log_chord - math.log(2))
    return lower, upper, "measure of caps; disjoint caps of a maximal packing"


def _ellipsoid(eps: float, axes: ArrayLike) -> tuple[float, float, str]:
    b = np.sort(real_array("axes", axes, nan=True).reshape(-1))[::-1]
    if not b.size or not np.isfinite(b).all() or (b < 0).any():
        raise ValueError("axes must be nonnegative, finite half-lengths, at least one")
    if b[0] <= eps:
        return 0.0, 0.0, "one ball"
    lower = float((np.log(b[b > eps]) - math.log(eps)).sum())
    rest = np.append(b[1:], 0.0)
    upper = math.inf
    for k in np.flatnonzero((rest < eps) & (b > 0)):
        # The section by the first k + 1 axes misses no point by more than rest[k]; r-balls packed in it fatten it by r. The
        # fattened section lies in the ellipsoid with squared axes (1 + t) b^2 + (1 + 1/t) r^2, t > 0 (support functions).
        r = math.sqrt(eps - rest[k]) * math.sqrt(eps + rest[k]) / 2
        long, wide = np.log(b[: k + 1]), math.log(r)
        log_t = np.linspace(wide - long[0], wide - long[k], 17)[:, None]
        volumes = np.logaddexp(np.logaddexp(0, log_t) + 2 * (long - wide), np.logaddexp(0, -log_t)).sum(axis=1) / 2
        upper = min(upper, float(volumes.min()))
    return lower, max(upper, lower), "volume of the section of long axes; volumes of fattened sections"


def _lipschitz(eps: float, constant: float = 1.0, length: float = 1.0) -> tuple[float, float, str]:
    pieces = ratio((_positive("constant", constant), _positive("length", length)), eps)
    if math.isinf(pieces):
        return math.nextafter(math.inf, 0.0) / 2, math.inf, "more than 2^(1e308) paths"
    value = max(_pieces(pieces) - 1, 0) * math.log(2)
    return value, value, "paths of slope +-1: 2^(ceil(1/eps) - 1) (T5.4)"


def _parametric(eps: float, d: int, constant: float, radius: float) -> tuple[float, float, str]:
    spread = (_positive("constant", constant), _positive("radius", radius))
    d = count("d", d, 1)
    upper = 0.0 if eps >= math.prod(spread) else d * _log_one_plus((2.0, *spread), eps)
    return 0.0, upper, "image of a covering of the parameters (T5.3)"


def _linear(eps: float, X: ArrayLike, radius: float) -> tuple[float, float, str]:
    radius = _positive("radius", radius)
    matrix = real_array("X", X, nan=True)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise ValueError(f"X has shape {matrix.shape}; give finite points (n, d)")
    axes = radius * np.linalg.svd(matrix, compute_uv=False) / math.sqrt(len(matrix))
    lower, upper, source = _ellipsoid(eps, axes)
    return lower, upper, f"the class is an ellipsoid with axes radius * singular values / sqrt(n); {source}"


def _composition(
    eps: float, constants: Sequence[float], classes: Sequence[Callable[[float], Any]]
) -> tuple[float, float, str]:
    if not classes or len(constants) != len(classes):
        raise ValueError(f"constants has {len(constants)} entries and classes {len(classes)}; give one of each per layer")
    steep = [_positive("constants", s) for s in constants]
    # An error in layer i reaches the output multiplied by the constants of the later layers; every layer gets an equal share.
    total = 0.0
    for i, entropy in enumerate(classes):
        function("classes", entropy)
        factor = len(classes) * math.prod(steep[i + 1 :])
        share = eps / factor if 0 < factor < math.inf else 0.0
        if not 0 < share < math.inf:
            raise ValueError(f"eps={eps!r}, constants={constants!r}: layer {i} has a radius beyond float64; rescale layers")
        found = entropy(share)
        total += found.upper if isinstance(found, Bound) else float(found)
    return 0.0, total, "radii add along the layers, an equal share to each (T5.5)"


_KINDS: dict[str, tuple[Callable[..., tuple[float, float, str]], str, tuple[str, ...], tuple[str, ...]]] = {
    "interval": (_interval, "l2", ("length",), ()),
    "cube": (_cube, "linf", ("d", "side"), ()),
    "ball": (_ball, "own", ("d",), ("radius",)),
    "sphere": (_sphere, "l2", ("d",), ("radius",)),
    "ellipsoid": (_ellipsoid, "l2", ("axes",), ()),
    "lipschitz": (_lipschitz, "sup", (), ("constant", "length")),
    "parametric": (_parametric, "sup", ("d", "constant", "radius"), ()),
    "linear": (_linear, "rms", ("X", "radius"), ()),
    "composition": (_composition, "sup", ("constants", "classes"), ()),
}


def lipschitz_net(f: Callable[[Array], Array], eps: float) -> tuple[tuple[int, ...], Callable[[ArrayLike], Array]]:
    """The centre of the Kolmogorov-Tikhomirov covering that is within eps of f, for f on [0, 1] with f(0) = 0, |slope| <= 1.

    Returns its slopes (+1 or -1 on each interval of length eps after the first, on which it is 0) and the centre as a function.
    There are 2^(ceil(1/eps) - 1) slopes in all. |f - centre| <= eps everywhere if f is as assumed, which is not checked.
    Raises ValueError unless 1e-7 <= eps <= 1, the net having 1 / eps intervals, and for values of f that are missing or not
    finite; TypeError for what is not real or no function. T5.4.
    """
    function("f", f)
    if not 0 < real("eps", eps) <= 1:
        raise ValueError(f"eps={eps!r} must lie in (0, 1]")
    if 1 / eps > INTERVALS:
        raise ValueError(f"eps={eps!r} asks for {1 / eps:.3g} intervals; take eps of 1e-7 or more")
    intervals = _pieces(1 / eps)
    knots = np.minimum(eps * np.arange(intervals + 1), 1.0)
    values = real_array("f(knots)", f(knots), nan=True)
    if values.shape != knots.shape or not np.isfinite(values).all():
        raise ValueError(f"f gave shape {values.shape} at {len(knots)} points; it must give one finite value for each")
    slopes: list[int] = []
    heights = [0.0, 0.0]
    for k in range(1, intervals):
        up = values[k + 1] >= heights[-1]
        slopes.append(1 if up else -1)
        heights.append(heights[-1] + slopes[-1] * float(knots[k + 1] - knots[k]))
    return tuple(slopes), lambda t: np.interp(real_array("t", t, nan=True), knots, heights)
