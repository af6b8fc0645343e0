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

Array = NDArray[np.float64]


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
    parameters that are missing, unknown or out of range.

    >>> round(covering_bound("lipschitz", 0.25).upper / math.log(2), 9)
    3.0
    """
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r} is unknown: choose one of {', '.join(_KINDS)}")
    radius = float(eps)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"eps={eps!r} must be a positive, finite radius")
    compute, metric, needed, optional = _KINDS[kind]
    missing = [n for n in needed if n not in parameters]
    unknown = [n for n in parameters if n not in needed + optional]
    if missing or unknown:
        what = f"needs {', '.join(missing)}" if missing else f"does not take {', '.join(unknown)}"
        raise ValueError(f"kind={kind!r} {what}; its parameters are {', '.join(needed + optional)}")
    lower, upper, source = compute(radius, **parameters)
    lower, upper = max(0.0, round_down(lower, 64)), max(0.0, round_up(upper, 64))
    exact = upper - lower <= 1e-10 * upper
    return Bound(lower, upper, (metric, "nats"), kind="exact" if exact else "certified", source=source)


def _check(at_least: float = 0.0, strict: bool = True, **named: float) -> None:
    for name, value in named.items():
        fine = value > at_least if strict else value >= at_least
        if not (math.isfinite(value) and fine):
            raise ValueError(f"{name}={value!r} must be finite and {'above' if strict else 'at least'} {at_least:g}")


def _pieces(ratio: float) -> int:
    """ceil(ratio), where a ratio within rounding of a whole number counts as that number."""
    nearest = round(ratio)
    return int(nearest) if nearest and abs(ratio - nearest) <= 4 * math.ulp(ratio) else math.ceil(ratio)


def _interval(eps: float, length: float) -> tuple[float, float, str]:
    _check(length=length)
    value = math.log(_pieces(length / (2 * eps)))
    return value, value, "intervals of length 2 eps"


def _cube(eps: float, d: int, side: float) -> tuple[float, float, str]:
    _check(side=side)
    _check(1, strict=False, d=d)
    value = d * math.log(_pieces(side / (2 * eps)))
    return value, value, "a grid of cubes; a grid of separated points"


def _ball(eps: float, d: int, radius: float = 1.0) -> tuple[float, float, str]:
    _check(radius=radius)
    _check(1, strict=False, d=d)
    if eps >= radius:
        return 0.0, 0.0, "one ball"
    if d == 1:
        return _interval(eps, 2 * radius)
    return d * math.log(radius / eps), d * math.log1p(2 * radius / eps), "volumes of balls (T5.2)"


def _cap(d: int, sine_squared: float) -> float:
    """log of the share of the sphere of R^d within an angle below a right one, given the square of its sine."""
    return math.log(0.5) + math.log(special.betainc((d - 1) / 2, 0.5, sine_squared))


def _sphere(eps: float, d: int, radius: float = 1.0) -> tuple[float, float, str]:
    _check(radius=radius)
    _check(2, strict=False, d=d)
    chord = eps / radius
    if chord >= 1:
        return 0.0, 0.0, "one ball"
    # A ball of radius eps meets the sphere in a cap whose half-angle has at most the sine eps.
    lower = -_cap(d, chord**2)
    # Centres of a maximal packing with chords above eps: caps of half the angle are disjoint.
    half = math.asin(chord / 2)
    return lower, -_cap(d, math.sin(half) ** 2), "measure of caps; disjoint caps of a maximal packing"


def _ellipsoid(eps: float, axes: ArrayLike) -> tuple[float, float, str]:
    b = np.sort(np.asarray(axes, dtype=float).reshape(-1))[::-1]
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
    _check(constant=constant, length=length)
    pieces = _pieces(constant * length / eps)
    value = max(pieces - 1, 0) * math.log(2)
    return value, value, "paths of slope +-1: 2^(ceil(1/eps) - 1) (T5.4)"


def _parametric(eps: float, d: int, constant: float, radius: float) -> tuple[float, float, str]:
    _check(constant=constant, radius=radius)
    _check(1, strict=False, d=d)
    spread = constant * radius
    return 0.0, 0.0 if eps >= spread else d * math.log1p(2 * spread / eps), "image of a covering of the parameters (T5.3)"


def _linear(eps: float, X: ArrayLike, radius: float) -> tuple[float, float, str]:
    _check(radius=radius)
    matrix = np.asarray(X, dtype=float)
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
    for s in constants:
        _check(constants=s)
    # An error in layer i reaches the output multiplied by the constants of the later layers; every layer gets an equal share.
    after = [math.prod(constants[i + 1 :]) for i in range(len(classes))]
    total = 0.0
    for factor, entropy in zip(after, classes, strict=True):
        found = entropy(eps / (len(classes) * factor))
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
    Raises ValueError unless 0 < eps <= 1, and for values of f that are missing or not finite. T5.4.
    """
    if not 0 < eps <= 1:
        raise ValueError(f"eps={eps!r} must lie in (0, 1]")
    intervals = _pieces(1 / eps)
    knots = np.minimum(eps * np.arange(intervals + 1), 1.0)
    values = np.asarray(f(knots), dtype=float)
    if values.shape != knots.shape or not np.isfinite(values).all():
        raise ValueError(f"f gave shape {values.shape} at {len(knots)} points; it must give one finite value for each")
    slopes: list[int] = []
    heights = [0.0, 0.0]
    for k in range(1, intervals):
        up = values[k + 1] >= heights[-1]
        slopes.append(1 if up else -1)
        heights.append(heights[-1] + slopes[-1] * float(knots[k + 1] - knots[k]))
    return tuple(slopes), lambda t: np.interp(np.asarray(t, dtype=float), knots, heights)
