"""Stacks of finite width: a stack cut to P directions beside the stack itself, and how far apart they can come.

Pi is an orthogonal projection of rank P, tau(z) = |z - Pi z| the part of a state that width P cannot hold, and every block T is
replaced by Pi T Pi. Norms are Euclidean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limitlib.bounds import vector_norm
from limitlib.iteration.checks import EPS, check_count, check_start

Map = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class TruncatedOrbit:
    """States z_k = T_k ... T_1 x of a stack, those y_k of the stack of finite width, and what lies between, k = 0..n.

    full, truncated: ``(n + 1, ..., d)``; y_0 = Pi x. error: |y_k - z_k|, ``(n + 1, ...)``, the truth for this start.
    tails: tau(z_k), ``(n + 1, ...)``, input of :func:`truncation_bound`, never above ``error``. increment_tails:
    tau(z_k - z_(k-1)) for k = 1..n, ``(n, ...)``, input of :func:`residual_truncation_bound`. All are computed in float64 and
    are not rounded to either side.
    """

    full: np.ndarray
    truncated: np.ndarray
    error: np.ndarray
    tails: np.ndarray
    increment_tails: np.ndarray


def truncated_orbit(
    blocks: Sequence[Map] | Callable[[int], Map], x0: np.ndarray, basis: int | np.ndarray, *, n: int
) -> TruncatedOrbit:
    """Run n blocks at full width from ``x0`` and at finite width from Pi x0: z_k = T_k z_(k-1) and y_k = Pi T_k y_(k-1).

    Shapes: ``x0`` is ``(d,)`` or ``(batch, d)``; a block maps states to states of the same shape. ``blocks`` is a sequence or a
    function ``i -> T_i`` (i = 1, 2, ...). ``basis``: a width P, meaning the first P coordinates, or a ``(d, P)`` array with
    orthonormal columns. Since y_(k-1) lies in the range of Pi, this is Pi T Pi; for a residual block I + F it is I + Pi F Pi.
    Raises ValueError for a width outside 1..d, columns that are not orthonormal to 1e-8, too few blocks, or a block that
    changes the shape or returns NaN, inf or anything but real numbers. A block may work in place: it is given a copy. Source:
    section 7 of the theory, before T7.1.

    >>> import numpy as np
    >>> shift = lambda x: np.roll(x, 1)
    >>> truncated_orbit(lambda i: shift, np.eye(4)[0], 2, n=2).error.tolist()
    [0.0, 0.0, 1.0]
    """
    x, single = check_start(x0)
    x = x[0] if single else x
    n = check_count("n", n, 0)
    project = _projection(basis, x.shape[-1])
    if not callable(blocks) and not isinstance(blocks, Sequence):
        raise ValueError(f"blocks must be a sequence of maps or a function i -> T_i; got {blocks!r}")
    if isinstance(blocks, Sequence) and len(blocks) < n:
        raise ValueError(f"n asks for {n} blocks; blocks has {len(blocks)}")
    full, cut = np.empty((n + 1, *x.shape)), np.empty((n + 1, *x.shape))
    full[0], cut[0] = x, project(x)
    for i in range(1, n + 1):
        T = blocks[i - 1] if isinstance(blocks, Sequence) else blocks(i)
        for states, after in ((full, lambda image: image), (cut, project)):
            image = _finite(f"blocks: the image under T_{i}", T(states[i - 1].copy()))
            if image.shape != x.shape:
                raise ValueError(f"blocks: T_{i} must keep the shape {x.shape}; it returned {image.shape}")
            states[i] = after(image)

    def tail(z: np.ndarray) -> np.ndarray:
        return vector_norm(z - project(z), 2)

    return TruncatedOrbit(full, cut, vector_norm(cut - full, 2), tail(full), tail(np.diff(full, axis=0)))


def _projection(basis: Any, d: int) -> Callable[[np.ndarray], np.ndarray]:
    """The orthogonal projection on the first coordinates or on the span of orthonormal columns."""
    if np.ndim(basis) == 0:
        width = check_count("basis", basis, 1)
        if width > d:
            raise ValueError(f"basis: the width {width} exceeds the dimension {d} of the states; give at most {d}")
        kept = np.arange(d) < width
        return lambda z: np.where(kept, z, 0.0)
    B = _finite("basis", basis)
    if B.ndim != 2 or B.shape[0] != d or not 1 <= B.shape[1] <= d:
        raise ValueError(f"basis must be a width or an array (d, P) with d={d} and 1 <= P <= d; got shape {B.shape}")
    defect = np.abs(B.T @ B - np.eye(B.shape[1])).max()
    if not defect <= 1e-8:
        raise ValueError(f"basis: its columns are not orthonormal (B'B - I has an entry {defect:.3g}); use numpy.linalg.qr")
    return lambda z: (z @ B) @ B.T


def truncation_bound(tails: Any, *, factor: float = 1.0, orthogonal: bool = True) -> np.ndarray:
    """UPPER bounds a_0..a_n of the truncation error of a nonexpansive or contracting stack at each depth, from its tails.

    ``tails``: tau(z_0), ..., tau(z_n) along the full orbit, shape ``(n + 1, ...)``. ``factor``: q <= 1 with Lip(T_i) <= q for
    all blocks. ``orthogonal=True``, for orthogonal projections of a Hilbert space: a_k^2 = (q a_(k-1))^2 + tau(z_k)^2, that is
    the root of the sum of q^(2(n-k)) tau(z_k)^2; attained by permutations of coordinates. ``orthogonal=False``, for projections
    of norm 1 in any normed space: a_k = q a_(k-1) + tau(z_k). The arithmetic here is rounded up, for numbers above 1e-300; the
    rounding of ``tails`` is not known here. Source: T7.1. Raises ValueError for tails that are empty, negative, NaN or inf and
    for a factor outside [0, 1]: an expanding block needs :func:`residual_truncation_bound`.

    >>> truncation_bound([3.0, 4.0]).round(12).tolist(), truncation_bound([3.0, 4.0], orthogonal=False).round(12).tolist()
    ([3.0, 5.0], [3.0, 7.0])
    """
    tau = _nonnegative("tails", tails)
    if np.ndim(factor) or not 0 <= _finite("factor", factor) <= 1:
        raise ValueError(
            f"factor={factor!r} must lie in [0, 1]: T7.1 is about nonexpansive blocks; where Lip(T_i - I) is known, "
            "use residual_truncation_bound"
        )
    result, total = np.empty_like(tau), np.zeros(tau.shape[1:])
    for k, tail in enumerate(tau):
        total = np.hypot(factor * total, tail) if orthogonal else factor * total + tail
        result[k] = total
    return result * (1 + 4 * EPS * (1 + _column(tau)))


def residual_truncation_bound(initial_tail: Any, increment_tails: Any, lipschitz: Any) -> np.ndarray:
    """UPPER bounds a_0..a_n of the truncation error of blocks I + F_i at each depth: a_k = (1 + L_k) a_(k-1) + t_k.

    ``initial_tail``: tau(x), shape ``(...)``. ``increment_tails``: t_k = tau(F_k(z_(k-1))), shape ``(n, ...)``. ``lipschitz``:
    L_k >= Lip(F_k), a number or shape ``(n,)``. If the L_k and the t_k have finite sums, a_n stays below
    exp(sum L) (tau(x) + sum t) at every depth. The arithmetic here is rounded up, for numbers above 1e-300, and an overflow
    gives inf. Source: T7.4. Raises ValueError for negative entries, NaN or inf, or where the lengths differ.

    >>> residual_truncation_bound(0.1, [0.2, 0.0], [1.0, 0.5]).round(12).tolist()
    [0.1, 0.4, 0.6]
    """
    t = _nonnegative("increment_tails", increment_tails, least=0)
    L, first = _finite("lipschitz", lipschitz), _finite("initial_tail", initial_tail)
    for name, array in (("lipschitz", L), ("initial_tail", first)):
        if (array < 0).any():
            raise ValueError(f"{name} must hold numbers >= 0; got {array.min()}")
    if first.shape != t.shape[1:]:
        raise ValueError(f"initial_tail has shape {first.shape}; increment_tails asks for {t.shape[1:]}")
    if L.ndim > 1 or (L.ndim == 1 and L.size != len(t)):
        raise ValueError(f"lipschitz must be a number or hold {len(t)} of them, one for each block; got shape {L.shape}")
    result = np.empty((len(t) + 1, *first.shape))
    result[0] = first
    with np.errstate(over="ignore"):
        for k, (growth, tail) in enumerate(zip(np.broadcast_to(1 + L, len(t)), t, strict=True)):
            result[k + 1] = growth * result[k] + tail
    return result * (1 + 4 * EPS * (1 + _column(result)))


def rank_one_truncation_error(tau: Any, n: Any, *, steps: Any = 1.0) -> np.ndarray:
    """EXACT error, up to rounding, of n truncated blocks (1 - h_i) I + h_i uu' that start at their fixed point u.

    ``tau`` in [0, 1): tau(u) for the unit vector u. ``n``: depth or array of depths, broadcast with ``tau``. ``steps``: h in
    [0, 1], one number or h_1, h_2, ... (at least max n). The default h = 1 is the projection T = uu' of C7.2. The stack itself
    keeps u; at finite width the share prod (1 - h_i tau^2) of Pi u is left, so the error is the root of
    tau^2 + (1 - tau^2)(1 - share)^2. It stays small at every depth if the steps have a finite sum and tends to 1 if not.
    Source: C7.2, C7.4. Raises ValueError for arguments outside these ranges.

    >>> rank_one_truncation_error(0.1, [0, 1, 100]).round(4).tolist()
    [0.1, 0.1005, 0.6385]
    """
    t, depth, h = _finite("tau", tau), np.asarray(n), _finite("steps", steps)
    if not ((t >= 0) & (t < 1)).all():
        raise ValueError(f"tau must lie in [0, 1): the part of the unit vector u outside the truncation; got {tau!r}")
    if depth.dtype.kind not in "iu" or (depth < 0).any():
        raise ValueError(f"n must be an integer >= 0 or an array of them; got {n!r}")
    if h.ndim > 1 or not ((h >= 0) & (h <= 1)).all() or (h.ndim == 1 and h.size < depth.max(initial=0)):
        least = depth.max(initial=0)
        raise ValueError(f"steps must be a number in [0, 1] or at least n={least} of them in a row; got {steps!r}")
    if h.ndim == 0:
        exponent = depth * np.log1p(-h * t**2)
    elif t.ndim == 0:
        exponent = np.concatenate([[0.0], np.cumsum(np.log1p(-h * t**2))])[depth]
    else:
        raise ValueError("tau must be one number where steps is a sequence; call once for each tau")
    return np.hypot(t, np.sqrt(1 - t**2) * -np.expm1(exponent))


def _finite(name: str, values: Any) -> np.ndarray:
    """A float64 array of finite real numbers; ValueError that says ``name`` otherwise."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be an array of real numbers; got rows of different lengths") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers; got {values!r} of dtype {array.dtype}")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers; got NaN or inf")
    return array


def _nonnegative(name: str, values: Any, *, least: int = 1) -> np.ndarray:
    array = _finite(name, values)
    if array.ndim == 0 or len(array) < least or not (array >= 0).all():
        raise ValueError(f"{name} must be an array of numbers >= 0 with the depth as first axis; got {values!r}")
    return array


def _column(values: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... along the first axis, shaped to multiply ``values``."""
    return np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
