"""Slopes and values of activation functions on an interval, certified.

Every function here is monotone, and has a monotone derivative, between finitely many tabulated points, so its range over
an interval is read off the ends and the tabulated points inside. Values are padded outward by ``PAD`` of their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, expit

Array = NDArray[np.float64]
Scalar = Callable[[Array], Array]

# Outward padding: each formula below takes at most a few dozen correctly rounded operations, without cancellation beyond
# the absolute size it is padded by; the tests compare with multiprecision arithmetic.
PAD = 1e-14

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
GELU_CUBIC = 0.044715
ROOT_2, ROOT_2_OVER_PI = math.sqrt(2.0), math.sqrt(2.0 / math.pi)


@dataclass(frozen=True)
class Activation:
    """One activation function, entry by entry.

    slope_turns: where the derivative stops being monotone. value_turns: where the function does. kinks: jumps of the
    derivative, each ``(place, slope from the left, slope from the right)``; between kinks the derivative is ``slope``.
    limits: exact bounds of all slopes, where they are plain numbers. linear: piecewise linear, so slopes are not rounded.
    exact: values are not rounded either.
    """

    value: Scalar
    slope: Scalar
    slope_turns: tuple[float, ...] = ()
    value_turns: tuple[float, ...] = ()
    kinks: tuple[tuple[float, float, float], ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    linear: bool = False
    exact: bool = False


def _phi(x: Array) -> Array:
    return np.exp(-0.5 * np.square(np.clip(x, -39.0, 39.0))) / math.sqrt(2 * math.pi)


def _silu_slope(x: Array) -> Array:
    s = expit(x)
    return s + np.clip(x, -750.0, 750.0) * s * expit(-x)


def _gelu_tanh_parts(x: Array) -> tuple[Array, Array]:
    x = np.clip(x, -30.0, 30.0)  # beyond, tanh is +-1 in float64 and the derivative's second term underflows
    return ROOT_2_OVER_PI * (x + GELU_CUBIC * x**3), ROOT_2_OVER_PI * (1 + 3 * GELU_CUBIC * x**2)


def _gelu_tanh_slope(x: Array) -> Array:
    u, du = _gelu_tanh_parts(x)
    s = expit(2 * u)  # (1 + tanh u) / 2
    return s + 2 * np.clip(x, -30.0, 30.0) * s * expit(-2 * u) * du


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _mish_slope(x: Array) -> Array:
    t = np.tanh(_softplus(x))
    return t + np.clip(x, -750.0, 750.0) * (1 - t) * (1 + t) * expit(x)


def _mish_gate(x: Array) -> Array:
    return x * np.tanh(_softplus(x))


def _piecewise(
    breaks: tuple[float, ...], slopes: tuple[float, ...], value: Scalar, turns: tuple[float, ...] = ()
) -> Activation:
    """Piecewise linear: ``slopes[i]`` holds between ``breaks[i-1]`` and ``breaks[i]``."""
    table = np.array(slopes)
    kinks = tuple((b, slopes[i], slopes[i + 1]) for i, b in enumerate(breaks))
    exact = all(s in (-1.0, 0.0, 1.0) for s in slopes)
    return Activation(value, lambda x: table[np.searchsorted(np.array(breaks), x)], (), turns, kinks, linear=True, exact=exact)


def _leaky(slope: float) -> Activation:
    return _piecewise((0.0,), (slope, 1.0), lambda x: np.where(x > 0, x, slope * x), (0.0,) if slope < 0 else ())


def _elu(alpha: float, scale: float = 1.0, width: float = 1.0) -> Activation:
    """``scale * x`` above zero, ``scale * alpha * (exp(x / width) - 1)`` below."""

    def value(x: Array) -> Array:
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / width))

    def slope(x: Array) -> Array:
        return scale * np.where(x > 0, 1.0, alpha / width * np.exp(np.minimum(x, 0.0) / width))

    turns = (0.0,) if alpha < 0 else ()
    steepest = scale * alpha / width
    limits = (min(0.0, steepest), max(1.0, steepest) if scale == 1.0 else math.inf)
    return Activation(value, slope, (), turns, ((0.0, steepest, scale),), limits)


def _silu(rate: float) -> Activation:
    """``x * sigmoid(rate * x)``; its slope does not depend on the rate except through ``rate * x``."""
    turn, low = SILU_TURN / rate, SILU_LOW / rate
    return Activation(lambda x: x * expit(rate * x), lambda x: _silu_slope(rate * x), (-turn, turn), (low,))


# Zeros of the second derivative (turns of the slope) and of the first (minima), to all digits of float64. Errors of one
# unit in the last place move the slope at its turn by its square only.
SILU_TURN, SILU_LOW = 2.399357280515467668, -1.278464542761073795
GELU_TANH_TURN, GELU_TANH_LOW, GELU_LOW = 1.418504008790828356, -0.7524614220710162585, -0.7517915246935644575
MISH_TURNS, MISH_LOW = (-2.256376396360793120, 1.490571179485428459), -1.192431214515495212

CONSTANT_PARAMS: dict[str, tuple[str, ...]] = {
    "leaky_relu": ("negative_slope",),
    "prelu": ("weight",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "gelu": ("approximate",),
    "softplus": ("beta",),
    "hardtanh": ("min_val", "max_val"),
    "softshrink": ("lambd",),
}


def _softplus_beta(beta: float) -> Activation:
    return Activation(lambda x: _softplus(beta * x) / beta, lambda x: expit(beta * x), limits=(0.0, 1.0))


def _hardtanh(low: float, high: float) -> Activation:
    if not low < high:
        raise ValueError(f"min_val={low}, max_val={high}: need min_val < max_val")
    return _piecewise((low, high), (0.0, 1.0, 0.0), lambda x: np.clip(x, low, high))


def _hardswish_slope(x: Array) -> Array:
    return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * x + 3) / 6))


_PLAIN: dict[str, Activation] = {
    "identity": Activation(lambda x: x, np.ones_like, linear=True, exact=True),
    "abs": _piecewise((0.0,), (-1.0, 1.0), np.abs, (0.0,)),
    "relu": _piecewise((0.0,), (0.0, 1.0), lambda x: np.maximum(x, 0.0)),
    "relu6": _piecewise((0.0, 6.0), (0.0, 1.0, 0.0), lambda x: np.clip(x, 0.0, 6.0)),
    "relu_squared": Activation(lambda x: np.maximum(x, 0.0) ** 2, lambda x: 2 * np.maximum(x, 0.0), limits=(0.0, math.inf)),
    "rrelu": _leaky((1 / 8 + 1 / 3) / 2),  # in evaluation mode, torch's default range
    "selu": _elu(SELU_ALPHA, SELU_SCALE),
    "silu": _silu(1.0),
    "quick_gelu": _silu(1.702),
    "gelu_erf": Activation(
        lambda x: 0.5 * x * (1 + erf(x / ROOT_2)),
        lambda x: 0.5 * (1 + erf(x / ROOT_2)) + np.clip(x, -39.0, 39.0) * _phi(x),
        (-ROOT_2, ROOT_2),
        (GELU_LOW,),
    ),
    "gelu_tanh": Activation(
        lambda x: x * expit(2 * _gelu_tanh_parts(x)[0]), _gelu_tanh_slope, (-GELU_TANH_TURN, GELU_TANH_TURN), (GELU_TANH_LOW,)
    ),
    "mish": Activation(_mish_gate, _mish_slope, MISH_TURNS, (MISH_LOW,)),
    "tanh": Activation(np.tanh, lambda x: (1 - np.tanh(x)) * (1 + np.tanh(x)), (0.0,), limits=(0.0, 1.0)),
    "sigmoid": Activation(expit, lambda x: expit(x) * expit(-x), (0.0,), limits=(0.0, 0.25)),
    "logsigmoid": Activation(lambda x: -_softplus(-x), lambda x: expit(-x), limits=(0.0, 1.0)),
    "softsign": Activation(lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2, (0.0,), limits=(0.0, 1.0)),
    "tanhshrink": Activation(lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2, (0.0,), limits=(0.0, 1.0)),
    "hardsigmoid": Activation(  # a sixth is no float, so its slope is padded like a rounded one
        lambda x: np.clip((x + 3) / 6, 0.0, 1.0),
        lambda x: np.where(np.abs(x) < 3, 1 / 6, 0.0),
        kinks=((-3.0, 0.0, 1 / 6), (3.0, 1 / 6, 0.0)),
        limits=(0.0, math.inf),
    ),
    "hardswish": Activation(
        lambda x: x * np.clip(x + 3, 0.0, 6.0) / 6,
        _hardswish_slope,
        (),
        (-1.5,),
        ((-3.0, 0.0, -0.5), (3.0, 1.5, 1.0)),
        (-0.5, 1.5),
    ),
    "sin": Activation(np.sin, np.cos),  # infinitely many turns: see _sine_range
}
ALIASES = {"swish": "silu", "linear": "identity", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
ALIASES |= {"leakyrelu": "leaky_relu", "quickgelu": "quick_gelu", "gelutanh": "gelu_tanh", "relu2": "relu_squared"}

ACTIVATIONS = tuple(sorted({*_PLAIN, *CONSTANT_PARAMS}))


def canonical(name: str) -> str:
    """The spelling used here: lower case, aliases resolved."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a word such as 'gelu'; got {name!r}")
    word = name.strip().lower().replace("-", "_").replace(" ", "_")
    return ALIASES.get(word, word)


def activation(name: str, **params: Any) -> Activation:
    """The activation function of that name; ValueError for an unknown name, TypeError for an unknown parameter."""
    word = canonical(name)
    if word not in ACTIVATIONS:
        raise ValueError(f"name={name!r} is no known activation; known: {', '.join(ACTIVATIONS)}")
    allowed = CONSTANT_PARAMS.get(word, ())
    for key in params:
        if key not in allowed:
            raise TypeError(f"{word} takes {', '.join(allowed) or 'no parameters'}; got {key}")
    if word == "gelu":
        form = params.get("approximate", "none")
        if form not in ("none", "tanh"):
            raise ValueError(f"approximate={form!r}: use 'none' (the error function) or 'tanh'")
        return _PLAIN["gelu_tanh" if form == "tanh" else "gelu_erf"]
    numbers = {key: _finite(key, value) for key, value in params.items()}
    if word in ("leaky_relu", "prelu"):
        return _leaky(numbers.get("negative_slope", numbers.get("weight", 0.01 if word == "leaky_relu" else 0.25)))
    if word == "elu":
        return _elu(numbers.get("alpha", 1.0))
    if word == "celu":
        alpha = numbers.get("alpha", 1.0)
        if not alpha > 0:
            raise ValueError(f"alpha={alpha}: celu needs alpha > 0")
        return _elu(alpha, 1.0, alpha)
    if word == "softplus":
        beta = numbers.get("beta", 1.0)
        if not beta > 0:
            raise ValueError(f"beta={beta}: softplus needs beta > 0")
        return _softplus_beta(beta)
    if word == "hardtanh":
        return _hardtanh(numbers.get("min_val", -1.0), numbers.get("max_val", 1.0))
    if word == "softshrink":
        width = numbers.get("lambd", 0.5)
        if not width >= 0:
            raise ValueError(f"lambd={width}: softshrink needs lambd >= 0")
        return _piecewise((-width, width), (1.0, 0.0, 1.0), lambda x: x - np.clip(x, -width, width))
    return _PLAIN[word]


def slope_range(name: str, lo: ArrayLike, hi: ArrayLike, **params: Any) -> tuple[Array, Array]:
    """Certified smallest and largest slope of an activation on ``[lo, hi]``, entry by entry.

    lo, hi: arrays of one shape (numbers allowed), ``lo <= hi``, infinities allowed. At a kink inside the interval both
    one-sided slopes count, at an end of the interval only the inner one. Returns two arrays of that shape: a lower bound of
    the smallest and an upper bound of the largest slope, padded by 1e-14. params: those of torch's module of that name.
    Raises ValueError for an unknown name, ``lo > hi`` or NaN.

    >>> low, high = slope_range("relu", [-1.0, 0.0, -2.0], [1.0, 1.0, -1.0])
    >>> low.tolist(), high.tolist()
    ([0.0, 1.0, 0.0], [1.0, 1.0, 0.0])
    """
    f = activation(name, **params)
    low_end, high_end = _interval(lo, hi)
    if canonical(name) == "sin":
        return _sine_range(low_end, high_end, 0.0)
    left, right = _finite_end(low_end, f.slope), _finite_end(high_end, f.slope)
    # At an end that is a kink only the slope from inside counts (both, where the interval is the kink alone).
    for place, before, after in f.kinks:
        left = np.where(low_end == place, np.where(high_end == place, min(before, after), after), left)
        right = np.where(high_end == place, np.where(low_end == place, max(before, after), before), right)
    candidates = [left, right]
    for turn in f.slope_turns:
        at_turn = np.float64(f.slope(np.array(turn)))
        candidates.append(np.where((low_end < turn) & (turn < high_end), at_turn, left))
    for place, before, after in f.kinks:
        inside = (low_end < place) & (place < high_end)
        candidates += [np.where(inside, before, left), np.where(inside, after, left)]
    low, high = np.min(candidates, axis=0), np.max(candidates, axis=0)
    return (low, high) if f.linear else tuple(np.clip(_padded(low, high), *f.limits))  # type: ignore[return-value]


def value_range(name: str, lo: ArrayLike, hi: ArrayLike, **params: Any) -> tuple[Array, Array]:
    """Certified smallest and largest value of an activation on ``[lo, hi]``, entry by entry.

    Shapes, parameters and errors as for :func:`slope_range`; an infinite end gives the limit there.

    >>> low, high = value_range("gelu", -1.0, 2.0)
    >>> f"{low:.4f} {high:.4f}"
    '-0.1700 1.9545'
    """
    f = activation(name, **params)
    low_end, high_end = _interval(lo, hi)
    if canonical(name) == "sin":
        return _sine_range(low_end, high_end, -0.5 * math.pi)
    left, right = _finite_end(low_end, f.value), _finite_end(high_end, f.value)
    candidates = [left, right]
    for turn in f.value_turns:
        candidates.append(np.where((low_end < turn) & (turn < high_end), np.float64(f.value(np.array(turn))), left))
    low, high = np.min(candidates, axis=0), np.max(candidates, axis=0)
    return (low, high) if f.exact else _padded(low, high)


def _padded(low: Array, high: Array) -> tuple[Array, Array]:
    def pad(x: Array) -> Array:
        return PAD * np.maximum(1.0, np.abs(np.where(np.isinf(x), 0.0, x)))

    return low - pad(low), high + pad(high)


def _sine_range(lo: Array, hi: Array, shift: float) -> tuple[Array, Array]:
    """Range of cos(x + shift) over intervals: 1 where a multiple of 2 pi lies inside, -1 where an odd multiple of pi does."""
    with np.errstate(invalid="ignore"):
        a, b = lo + shift, hi + shift
        margin = 1e-12 * (1 + np.abs(a) + np.abs(b))
        top = np.floor((b + margin) / (2 * math.pi)) >= np.ceil((a - margin) / (2 * math.pi))
        low = np.floor((b + margin - math.pi) / (2 * math.pi)) >= np.ceil((a - margin - math.pi) / (2 * math.pi))
        endless = ~np.isfinite(a) | ~np.isfinite(b) | (margin > 1e-3)
        ends = np.stack([np.cos(np.where(endless, 0.0, a)), np.cos(np.where(endless, 0.0, b))])
        slack = np.where(endless, 0.0, margin)
    smallest, largest = np.maximum(ends.min(axis=0) - slack, -1.0), np.minimum(ends.max(axis=0) + slack, 1.0)
    return np.where(endless | low, -1.0, smallest), np.where(endless | top, 1.0, largest)


def _finite_end(x: Array, f: Scalar) -> Array:
    """f at x, and its limit at infinite x (which plain formulas turn into inf times zero)."""
    far = np.isinf(x)
    with np.errstate(over="ignore", under="ignore"):
        inner = np.asarray(f(np.where(far, np.sign(x) * 1e30, x)), dtype=float)
    if not far.any():
        return inner
    # At +-1e30 every slope here has reached its limit, or grows beyond bounds; so has every value.
    outer = np.where(np.abs(inner) >= 1e20, np.copysign(math.inf, inner), inner)
    return np.where(far, outer, inner)


def _interval(lo: ArrayLike, hi: ArrayLike) -> tuple[Array, Array]:
    try:
        low, high = np.broadcast_arrays(np.asarray(lo, dtype=float), np.asarray(hi, dtype=float))
    except ValueError:
        raise ValueError(f"lo and hi have shapes {np.shape(lo)} and {np.shape(hi)}; give arrays of one shape") from None
    if np.isnan(low).any() or np.isnan(high).any():
        raise ValueError("lo and hi must not hold NaN")
    if (low > high).any():
        raise ValueError(f"lo must not exceed hi; got lo={low[low > high].flat[0]}, hi={high[low > high].flat[0]}")
    return low, high


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be one real number; got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite; got {number}")
    return number
