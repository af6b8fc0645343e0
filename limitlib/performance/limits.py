"""Limits of a performance function E(N, P, K) along paths and one variable after the other; its monotone envelope.

Finitely many values never prove a limit. The status is a numerical judgement by a stated rule, the limit an estimate.
Where E itself accepts infinite arguments, ask it for the exact value instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.bounds import Estimate
from limitlib.checks import function, real, real_array, returned

Array = NDArray[np.float64]

STATUSES = ("converges", "diverges", "oscillates", "undecided")
TAIL = 5  # increments that are looked at
SHRINK = 0.9  # convergence: every increment of the tail is at most this part of the one before
SLOPE_SHRINK = 0.99  # and, per unit of log n, at most this part
RISE = 0.02  # relative growth of 1 / (1 - ratio) over the tail from which a steady rise of the ratios towards 1 is believed
DOUBLINGS = tuple(2**i for i in range(3, 15))


@dataclass(frozen=True)
class PathLimit:
    """Values along a path, and what they suggest.

    values: E at each n, float64. n: the indices. limit: an :class:`~limitlib.bounds.Estimate` (converges), ``inf`` or ``-inf``
    (diverges), or None. status: "converges", "diverges", "oscillates" or "undecided". reason: the rule that decided, in words.
    """

    values: Array
    n: Array
    limit: Estimate | float | None
    status: str
    reason: str


def limit_along(
    E: Callable[..., Any], path: Callable[[Any], Mapping[str, Any] | Sequence[Any]], *, n: ArrayLike = DOUBLINGS
) -> PathLimit:
    """E along a path to infinity, ``path(n) = (N, P, K)`` or a mapping of E's arguments, for increasing ``n``.

    n: at least 7 increasing numbers; they should grow geometrically, since power laws then shrink by a constant factor.
    The judgement rests on the last five increments. *converges*: each is at most 0.9 times the one before, or all are at the
    level of rounding; the estimate extrapolates them as a geometric series by the last ratio, and its interval reaches from
    the last value to twice the extrapolated distance, or as far as the slowest of the ratios seen would lead if that is
    farther. The increments per unit of log n must shrink too, so that log n itself, whose increments shrink when n grows by
    equal steps, is not taken for convergent; and their ratios must not rise towards 1 (1 / (1 - ratio) growing by ever equal
    amounts), since then a geometric series stops short of the limit, if there is one: 1/log n and log log n. *oscillates*:
    they change sign and don't shrink. *diverges*: they have one sign and don't shrink, or the values are infinite. Anything
    else is *undecided*. What happens beyond the last n can't be seen: 1/n + n/10^12 is judged convergent, so is
    sin(log(n)/2) near an extreme, and tanh(n/10^12) is judged to diverge. Raises ValueError for too few, unordered or
    infinite n, and where E gives NaN; TypeError where E or path is no function or gives no number or no arguments.
    """
    function("E", E)
    function("path", path)
    index = _indices(n)
    values = np.array([_evaluate(E, path(_whole(i))) for i in index])
    return judge(values, index)


def _indices(n: ArrayLike) -> Array:
    index = real_array("n", n, nan=True)
    if index.ndim != 1 or index.size < TAIL + 2 or not (np.isfinite(index).all() and (np.diff(index) > 0).all()):
        raise ValueError(f"n must hold at least {TAIL + 2} increasing numbers, all finite; got {index!r}")
    return index


def _whole(number: float) -> Any:
    return int(number) if float(number).is_integer() else float(number)


def _evaluate(E: Callable[..., Any], point: Mapping[str, Any] | Sequence[Any]) -> float:
    if not isinstance(point, Mapping | Sequence) or isinstance(point, str):
        raise TypeError(f"path must give (N, P, K) or a mapping of E's arguments; it gives {point!r}")
    value = E(**point) if isinstance(point, Mapping) else E(*point)
    if np.shape(value) in ((), (1,)) and isinstance(value, float | np.ndarray | np.floating) and np.isnan(value).all():
        raise ValueError(f"E is NaN at {point!r}; leave such points out of the path")
    return returned(f"E at {point!r}", value, finite=False)


def judge(values: ArrayLike, n: ArrayLike) -> PathLimit:
    """The rule of :func:`limit_along` for values that are already at hand; both of shape (m,), m >= 7, n increasing.

    Raises ValueError for another shape, for n that does not increase or is not finite, and for NaN among the values.
    """
    seen, index = real_array("values", values, nan=True), real_array("n", n, nan=True)
    if seen.ndim != 1 or seen.shape != index.shape or seen.size < TAIL + 2:
        raise ValueError(f"values and n must be vectors of one length, at least {TAIL + 2}; got {seen.shape} and {index.shape}")
    index = _indices(index)
    if np.isnan(seen).any():
        raise ValueError("values must not hold NaN; leave such points out of the path")
    last = seen[-1]
    if np.isinf(seen[-TAIL:]).all() and len(set(seen[-TAIL:])) == 1:
        return PathLimit(seen, index, float(last), "diverges", "the last values are infinite")
    if np.isinf(seen).any():
        return PathLimit(seen, index, None, "undecided", "some values are infinite and some are not")
    with np.errstate(over="ignore"):
        steps = np.diff(seen)[-TAIL:]
    if not np.isfinite(steps).all():
        return PathLimit(seen, index, None, "undecided", "the increments exceed the largest float")
    sizes = np.abs(steps)
    floor = 64 * np.finfo(float).eps * np.abs(seen[-TAIL:]).max()
    if (sizes <= floor).all():
        limit = Estimate(float(last), float(last - floor), float(last + floor))
        return PathLimit(seen, index, limit, "converges", "the last values agree to rounding")
    shrinks = (sizes[1:] <= SHRINK * sizes[:-1]).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = sizes / np.diff(np.log(np.maximum(index[-TAIL - 1 :], 0.0)))
        flattens = (slopes[1:] <= SLOPE_SHRINK * slopes[:-1]).all() if index[-TAIL - 1] > 0 else True
    same = (steps > 0).all() or (steps < 0).all()
    if shrinks and flattens:
        shrunk = np.divide(sizes[1:], sizes[:-1], out=np.zeros(TAIL - 1), where=sizes[:-1] > 0)
        inverse = 1 / (1 - shrunk)  # settles where the increments are geometric in the end; grows steadily for 1/log n
        rises = np.diff(inverse)
        if rises.min() > 0 and rises[-1] >= SHRINK * rises[0] and inverse[-1] > (1 + RISE) * inverse[0]:
            return PathLimit(seen, index, None, "undecided", "the increments shrink by less each time, as for 1/log n")
        ratio, slowest = math.copysign(float(shrunk[-1]), 1.0 if same else -1.0), float(shrunk.max())
        ahead = float(steps[-1]) * ratio / (1 - ratio)
        reach = max(2 * abs(ahead), float(sizes[-1]) * slowest / (1 - slowest))
        low, high = sorted((float(last), float(last) + math.copysign(reach, ahead)))
        return PathLimit(seen, index, Estimate(float(last) + ahead, low, high), "converges",
                         f"each of the last {TAIL} increments is at most {SHRINK} times the one before")  # fmt: skip
    if same and (sizes[1:] >= (1 - 1e-9) * sizes[:-1]).all():  # equal increments carry rounding errors
        return PathLimit(seen, index, math.copysign(math.inf, steps[-1]), "diverges", "increments of one sign do not shrink")
    if not same and sizes[-1] >= SHRINK * sizes.max() and sizes.min() > floor:
        return PathLimit(seen, index, None, "oscillates", "increments that change sign and do not shrink")
    return PathLimit(seen, index, None, "undecided", "the increments shrink too slowly, or not steadily, for a judgement")


def iterated_limit(E: Callable[..., Any], order: Sequence[str], *, n: ArrayLike = DOUBLINGS, reach: float = 1.0) -> PathLimit:
    """One variable after the other: ``order=("K", "P")`` takes the limit in K first, for each P, and then in P.

    E takes exactly the variables of ``order`` as keywords. The last variable runs over ``n``; an inner one over
    ``n * m**reach``, where m is the largest of the variables held fixed, since an inner limit is seen only far beyond them
    (raise ``reach`` where E changes at K ~ P^2, say). Each inner limit is an estimate by the rule of :func:`limit_along`, and
    the widest of the last inner intervals is added on both sides of the outer one. Where an inner limit diverges its value
    is infinite; where one oscillates or is undecided the whole is undecided and the reason says at which point. Raises
    ValueError for an empty order, a repeated variable, reach < 0, or too few or unordered n.
    """
    function("E", E)
    names = tuple(order)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"order={order!r} must name each variable once, the one whose limit is taken first at the beginning")
    reach = real("reach", reach, least=0)
    return _iterate(E, names, _indices(n), reach, {})


def _iterate(E: Callable[..., Any], order: tuple[str, ...], n: Array, reach: float, fixed: dict[str, Any]) -> PathLimit:
    outer = order[-1]
    index = np.rint(n * max(fixed.values(), default=1) ** reach)
    if len(order) == 1:
        return limit_along(E, lambda i: {**fixed, outer: i}, n=index)
    values: list[float] = []
    doubts: list[float] = []
    for i in index:
        inner = _iterate(E, order[:-1], n, reach, {**fixed, outer: _whole(i)})
        if inner.limit is None:
            where = ", ".join(f"{k}={v:g}" for k, v in {**fixed, outer: i}.items())
            reason = f"the limit in {', '.join(order[:-1])} is {inner.status} at {where}: {inner.reason}"
            return PathLimit(np.array(values), index[: len(values)], None, "undecided", reason)
        known = inner.limit if isinstance(inner.limit, Estimate) else Estimate(inner.limit, inner.limit, inner.limit)
        values.append(known.value)
        doubts.append(max(known.high - known.value, known.value - known.low) if math.isfinite(known.value) else 0.0)
    found, doubt = judge(values, index), max(doubts[-TAIL - 1 :])
    if isinstance(found.limit, Estimate):
        found = replace(found, limit=Estimate(found.limit.value, found.limit.low - doubt, found.limit.high + doubt))
    return found


def monotone_envelope(values: ArrayLike) -> Array:
    """The best value so far: at each index the minimum over all indices that are nowhere larger. Theorem T3.2.

    values: E on a grid with increasing arguments, one axis for each variable, any number of axes; inf is allowed. The result
    has the same shape, is nonincreasing along every axis, at most ``values``, and has the same minimum. It is exact for the
    grid. Of the envelope over all whole numbers it is an upper bound, since that has more points to choose from. Raises
    ValueError for no axis, no values, or NaN.

    >>> monotone_envelope([[3.0, 5.0], [4.0, 1.0]]).tolist()
    [[3.0, 3.0], [3.0, 1.0]]
    """
    found = real_array("values", values, nan=True)
    if found.ndim == 0 or not found.size:
        raise ValueError(f"values must hold E on a grid, one axis for each variable; got the shape {found.shape}")
    if np.isnan(found).any():
        raise ValueError("values must not hold NaN: the minimum over a lower corner would not be defined")
    for axis in range(found.ndim):
        found = np.minimum.accumulate(found, axis=axis)
    return found
