"""Limits of a performance function E(N, P, K) along paths and one variable after the other.

Finitely many values never prove a limit. The status is a numerical judgement by a stated rule, the limit an estimate.
Where E itself accepts infinite arguments, ask it for the exact value instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.bounds import Estimate

Array = NDArray[np.float64]

STATUSES = ("converges", "diverges", "oscillates", "undecided")
TAIL = 5  # increments that are looked at
SHRINK = 0.9  # convergence: every increment of the tail is at most this part of the one before
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
    level of rounding; the estimate extrapolates them as a geometric series, and its interval reaches from the last value to
    twice the extrapolated distance. *oscillates*: they change sign and don't shrink. *diverges*: they have one sign and don't
    shrink, or the values are infinite. Anything else is *undecided*. Raises ValueError for too few or unordered n, and where
    E gives NaN.
    """
    index = np.asarray(n, dtype=float)
    if index.ndim != 1 or index.size < TAIL + 2 or not (np.diff(index) > 0).all():
        raise ValueError(f"n must hold at least {TAIL + 2} increasing numbers; got {index!r}")
    values = np.array([_evaluate(E, path(_whole(i))) for i in index])
    return judge(values, index)


def _whole(number: float) -> Any:
    return int(number) if float(number).is_integer() else float(number)


def _evaluate(E: Callable[..., Any], point: Mapping[str, Any] | Sequence[Any]) -> float:
    value = float(E(**point) if isinstance(point, Mapping) else E(*point))
    if math.isnan(value):
        raise ValueError(f"E is NaN at {point!r}; leave such points out of the path")
    return value


def judge(values: ArrayLike, n: ArrayLike) -> PathLimit:
    """The rule of :func:`limit_along` for values that are already at hand; both of shape (m,), m >= 7."""
    seen, index = np.asarray(values, dtype=float), np.asarray(n, dtype=float)
    last = seen[-1]
    if np.isinf(seen[-TAIL:]).all() and len(set(seen[-TAIL:])) == 1:
        return PathLimit(seen, index, float(last), "diverges", "the last values are infinite")
    if np.isinf(seen).any():
        return PathLimit(seen, index, None, "undecided", "some values are infinite and some are not")
    steps = np.diff(seen)[-TAIL:]
    sizes = np.abs(steps)
    floor = 64 * np.finfo(float).eps * np.abs(seen[-TAIL:]).max()
    if (sizes <= floor).all():
        limit = Estimate(float(last), float(last - floor), float(last + floor))
        return PathLimit(seen, index, limit, "converges", "the last values agree to rounding")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sizes[1:] / sizes[:-1]
    same = (steps > 0).all() or (steps < 0).all()
    if (ratios <= SHRINK).all():
        ratio = math.copysign(float(ratios[-1]), 1.0 if same else -1.0)
        ahead = float(steps[-1]) * ratio / (1 - ratio)
        low, high = sorted((float(last), float(last) + 2 * ahead))
        return PathLimit(seen, index, Estimate(float(last) + ahead, low, high), "converges",
                         f"each of the last {TAIL} increments is at most {SHRINK} times the one before")  # fmt: skip
    if same and (ratios >= 1).all():
        return PathLimit(seen, index, math.copysign(math.inf, steps[-1]), "diverges", "increments of one sign do not shrink")
    if not same and sizes[-1] >= SHRINK * sizes.max() and sizes.min() > floor:
        return PathLimit(seen, index, None, "oscillates", "increments that change sign and do not shrink")
    return PathLimit(seen, index, None, "undecided", "the increments shrink too slowly, or not steadily, for a judgement")


def iterated_limit(
    E: Callable[..., Any], order: Sequence[str], *, n: ArrayLike = DOUBLINGS, reach: float = 1.0
) -> PathLimit:
    """One variable after the other: ``order=("K", "P")`` takes the limit in K first, for each P, and then in P.

    E takes exactly the variables of ``order`` as keywords. The last variable runs over ``n``; an inner one over
    ``n * m**reach``, where m is the largest of the variables held fixed, since an inner limit is seen only far beyond them
    (raise ``reach`` where E changes at K ~ P^2, say). Each inner limit is an estimate by the rule of :func:`limit_along`;
    where one diverges its value is infinite, and where one oscillates or is undecided the whole is undecided and the reason
    says at which point. Raises ValueError for an empty order, a repeated variable or reach < 0.
    """
    names = tuple(order)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"order={order!r} must name each variable once, the one whose limit is taken first at the beginning")
    if not reach >= 0:
        raise ValueError(f"reach={reach!r} must be at least 0")
    return _iterate(E, names, np.asarray(n, dtype=float), reach, {})


def _iterate(E: Callable[..., Any], order: tuple[str, ...], n: Array, reach: float, fixed: dict[str, Any]) -> PathLimit:
    outer = order[-1]
    index = np.rint(n * max(fixed.values(), default=1) ** reach)
    if len(order) == 1:
        return limit_along(E, lambda i: {**fixed, outer: i}, n=index)
    values: list[float] = []
    for i in index:
        inner = _iterate(E, order[:-1], n, reach, {**fixed, outer: _whole(i)})
        if inner.limit is None:
            where = ", ".join(f"{k}={v:g}" for k, v in {**fixed, outer: i}.items())
            reason = f"the limit in {', '.join(order[:-1])} is {inner.status} at {where}: {inner.reason}"
            return PathLimit(np.array(values), index[: len(values)], None, "undecided", reason)
        values.append(inner.limit.value if isinstance(inner.limit, Estimate) else inner.limit)
    return judge(values, index)
