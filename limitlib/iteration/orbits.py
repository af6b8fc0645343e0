"""Rates that are known, orbits whose blocks change from step to step, and how their errors add up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limitlib.bounds import check_exponent, multiply_up, round_up, vector_norm
from limitlib.iteration.checks import EPS, EVALUATION, check_count, check_start

Map = Callable[[np.ndarray], Any]


def residual_bound(
    method: str,
    n: int,
    *,
    diameter: float | None = None,
    distance: float | None = None,
    relaxation: float | Sequence[float] | np.ndarray | None = None,
) -> float:
    """Upper bound of ``|x_n - R x_n|`` after ``n`` steps with a nonexpansive ``R``, from the tight known rates.

    ``krasnoselskii_mann``, with ``relaxation`` a constant a (default 1/2) or the sequence a_1..a_n: with ``diameter`` of a
    convex set that ``R`` maps into itself, in any normed space, ``diameter / sqrt(pi sum a(1-a))`` (Cominetti, Soto, Vaisman;
    Bravo and Cominetti show that the constant is optimal); with ``distance`` to a fixed point, in a Hilbert space,
    ``distance / sqrt((n+1) a (1-a))``, n terms for a sequence. ``halpern``, weights 1/(k+2), Hilbert space:
    ``2 distance / (n+1)`` (Lieder). Where both data are given the smaller bound is returned. The residual is that of ``R``; the
    averaged map (1-a)I + aR has a times as much. Units: those of ``diameter`` and ``distance``. Source: T6.1. Raises ValueError
    where a needed argument is missing or no rate is known.

    >>> round(residual_bound("krasnoselskii_mann", 100, diameter=2.0), 4)
    0.2257
    """
    n = check_count("n", n, 0)
    for name, value in (("diameter", diameter), ("distance", distance)):
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number >= 0; got {value!r}")
    if method == "halpern":
        if distance is None:
            raise ValueError("halpern needs distance=|x_0 - x*| to a fixed point (Hilbert space); a diameter is not enough")
        if relaxation is not None:
            raise ValueError(f"relaxation: the Halpern rate is for the weights 1/(k+2) only; got {relaxation!r}")
        return round_up(2 * distance / (n + 1), 2)
    if method in ("picard", "anderson"):
        raise ValueError(
            f"method {method!r} has no universal rate for nonexpansive maps (a rotation never converges); "
            "write the map as (1-a)I + aR and use method='krasnoselskii_mann'"
        )
    if method != "krasnoselskii_mann":
        raise ValueError(f"method must be 'krasnoselskii_mann' or 'halpern'; got {method!r}")
    if diameter is None and distance is None:
        raise ValueError("krasnoselskii_mann needs diameter (of the convex set) or distance (to a fixed point, Hilbert space)")
    a = np.asarray(0.5 if relaxation is None else relaxation, dtype=float)
    if a.ndim > 1 or (a.ndim == 1 and a.size != n) or not ((a >= 0) & (a <= 1)).all():
        raise ValueError(f"relaxation must be a number in [0, 1] or a sequence of {n} of them; got {relaxation!r}")
    weights = a * (1 - a)
    total = float(weights) * n if a.ndim == 0 else math.fsum(weights)
    candidates = []
    if diameter is not None:  # never more than the diameter itself
        candidates.append(diameter if total * math.pi <= 1 else diameter / math.sqrt(math.pi * total))
    if distance is not None:  # never more than |x - p| + |p - R x|
        terms = total + float(weights) if a.ndim == 0 else total
        candidates.append(2 * distance if terms <= 0.25 else distance / math.sqrt(terms))
    return round_up(min(candidates), 8)


@dataclass(frozen=True)
class Orbit:
    """Points ``S_m x = T_m ... T_1 x`` of an inexact orbit.

    ``steps`` is the depth m, or the array of depths asked for; ``x`` the points, with the depths as leading axis in the second
    case. ``tail_bound`` is an upper bound of ``|lim S_n x - T^inf S_m x|`` for each depth and start (T2.1), None without
    ``errors``. ``converged`` is an observation for each start, not a proof: the box that the second half of the run fills has
    diameter at most ``atol``.
    """

    x: np.ndarray
    steps: int | np.ndarray
    tail_bound: np.ndarray | None
    converged: np.ndarray


def inexact_orbit(
    blocks: Sequence[Map] | Iterable[Map] | Callable[[int], Map],
    x0: np.ndarray,
    *,
    n: int | Sequence[int] | np.ndarray | None = None,
    reference: Map | None = None,
    errors: tuple[Any, float] | None = None,
    norm: float = 2,
    atol: float = 1e-8,
) -> Orbit:
    """Apply T_1, then T_2, ..., T_n to a batch of starts, with the tail bound of T2.1 where the data for it are given.

    Shapes: ``x0`` is ``(batch, d)`` or ``(d,)``; each block maps a batch to a batch. ``blocks`` is a sequence, an iterator, or
    a function ``i -> T_i`` (i = 1, 2, ...). ``n``: the depth, or increasing depths at which S_n x is kept (0 is x0 itself); it
    may be left out for a sequence. ``errors = (eps, tail)``: ``eps`` the array eps_1, eps_2, ... (at least n of them) or a
    function that maps the integer array 1..n to it, with ``|T_i x - T x| <= eps_i`` for all x, and ``tail`` an upper bound of
    the sum of all later ones. For a nonexpansive T with convergent orbits, ``tail_bound``, the sum of eps_i over i > m, then
    bounds ``|S_inf x - T^inf S_m x|``, and ``2 tail_bound + |T^(n-m) S_m x - T^inf S_m x|`` bounds ``|S_inf x - S_n x|``. A
    tail of inf claims nothing. With T as ``reference`` the errors are checked at every step of the orbit. That T is
    nonexpansive and has convergent orbits is the caller's hypothesis; it is not checked. Source: T2.1 with errors that do not
    grow with x.

    Raises ValueError if ``n`` is missing or exceeds the blocks, or where an observed error contradicts ``eps``.

    >>> import numpy as np
    >>> orbit = inexact_orbit(lambda i: lambda x: x + 1 / i**2, np.zeros(1), n=[0, 1, 2], errors=([1, 1 / 4], 0.395))
    >>> orbit.x.ravel().tolist(), orbit.tail_bound.round(3).tolist()
    ([0.0, 1.0, 1.25], [1.645, 0.645, 0.395])
    """
    x, single = check_start(x0)
    x = x[0] if single else x
    check_exponent("norm", norm)
    if n is None:
        if not isinstance(blocks, Sequence):
            raise ValueError("n is needed where blocks is not a sequence, since there is no last block")
        n = len(blocks)
    depths = np.atleast_1d(n)
    if depths.ndim != 1 or depths.dtype.kind not in "iu" or not depths.size or depths[0] < 0 or (np.diff(depths) <= 0).any():
        raise ValueError(f"n must be an integer >= 0 or increasing integers >= 0; got {n!r}")
    last = int(depths[-1])
    if isinstance(blocks, Sequence) and len(blocks) < last:
        raise ValueError(f"n asks for {last} blocks; blocks has {len(blocks)}")
    if reference is not None and errors is None:
        raise ValueError("reference is used to check errors; give errors=(eps, tail)")
    eps, tails = (None, None) if errors is None else _tail_sums(errors, last)

    source = map(blocks, itertools.count(1)) if callable(blocks) else iter(blocks)
    kept = np.empty((len(depths), *x.shape))
    wanted = iter(depths.tolist() + [-1])
    following, row = next(wanted), 0
    low, high = x.copy(), x.copy()  # the box that the second half of the orbit fills
    for i in range(last + 1):
        if i > 0:
            T = next(source, None)
            if T is None:
                raise ValueError(f"n asks for {last} blocks; blocks ended after {i - 1}")
            image = np.asarray(T(x), dtype=float)
            if image.shape != x.shape:
                raise ValueError(f"blocks: T_{i} must keep the shape {x.shape}; it returned {image.shape}")
            if reference is not None and eps is not None:
                _check_error(i, image, np.asarray(reference(x), dtype=float), eps[i - 1], norm)
            x = image
        if i == last // 2:
            low[...] = high[...] = x
        elif i > last // 2:
            np.minimum(low, x, out=low)
            np.maximum(high, x, out=high)
        if i == following:
            kept[row] = x
            following, row = next(wanted), row + 1
    with np.errstate(invalid="ignore"):
        converged = vector_norm(high - low, norm) <= atol  # False for NaN
    if np.ndim(n) == 0:
        return Orbit(kept[0], last, None if tails is None else tails[last], converged)
    return Orbit(kept, depths, None if tails is None else tails[depths], converged)


def _tail_sums(errors: Any, last: int) -> tuple[np.ndarray, np.ndarray]:
    """eps_1.. and, for m = 0..last, the sum of eps_i over i > m, rounded up."""
    if not isinstance(errors, tuple) or len(errors) != 2:
        raise ValueError(f"errors must be a pair (eps, tail), tail bounding the sum of all later errors; got {errors!r}")
    eps, tail = errors
    eps = np.asarray(eps(np.arange(1, last + 1)) if callable(eps) else eps, dtype=float)
    if eps.ndim != 1 or eps.size < last or not (eps >= 0).all():
        raise ValueError(f"errors: eps must hold at least n={last} numbers >= 0; got an array of shape {eps.shape}")
    if not tail >= 0:
        raise ValueError(f"errors: tail must be a number >= 0 (inf if unknown); got {tail!r}")
    sums = np.cumsum(np.concatenate([[tail], eps[::-1]]))[::-1] * (1 + (eps.size + 2) * EPS)
    return eps, sums[: last + 1]


def _check_error(i: int, image: np.ndarray, exact: np.ndarray, eps: float, norm: float) -> None:
    seen = vector_norm(image - exact, norm)
    if (seen <= eps).all():
        return
    size = vector_norm(image, norm) + vector_norm(exact, norm)
    if (seen - eps > EVALUATION * image.shape[-1] * EPS * size).any():
        raise ValueError(f"errors: block {i} was seen {np.max(seen):.6g} away from reference, more than eps_{i}={eps:.6g}")


def perturbed_error(factors: Any, errors: Any, e0: float = 0.0) -> np.ndarray:
    """Upper bounds e_1..e_n of the accumulated error of perturbed steps, e_i = factor_i e_(i-1) + error_i, rounded up.

    If block i has Lipschitz constant at most ``factors[i]`` and is evaluated with error at most ``errors[i]``, then e_i bounds
    the distance of the perturbed from the exact orbit, which started ``e0`` apart. Scalars are repeated. Source: telescoping,
    T2.5. Raises ValueError for negative or NaN entries.

    >>> perturbed_error([0.5, 0.5], 1.0).round(12).tolist()
    [1.0, 1.5]
    """
    q, eps = np.broadcast_arrays(np.atleast_1d(np.asarray(factors, float)), np.atleast_1d(np.asarray(errors, float)))
    for name, values in (("factors", q), ("errors", eps), ("e0", np.asarray(e0, float))):
        if values.ndim > 1 or not (values >= 0).all():
            raise ValueError(f"{name} must be numbers >= 0, in one dimension; got {values!r}")
    total, result = float(e0), np.empty(q.size)
    for i, (factor, error) in enumerate(zip(q.tolist(), eps.tolist(), strict=True)):
        carried = multiply_up(factor, total)
        total = round_up(carried + error) if carried and error else carried + error
        result[i] = total
    return result
