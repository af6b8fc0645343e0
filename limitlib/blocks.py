"""Example stacks of blocks: rotations, and the two constructions that make theorem T2.2 an equivalence.

A block maps states of shape (..., d) to states of the same shape; a stack is a callable ``i -> T_i`` for i = 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Block = Callable[[Array], Array]
Stack = Callable[[int], Block]


def plane_rotation(angle: float) -> Array:
    """The matrix, shape (2, 2), that turns the plane by ``angle`` radians counterclockwise."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def linear(matrix: ArrayLike, shift: ArrayLike = 0.0) -> Block:
    """The affine block x -> A x + b on states of shape (..., d)."""
    A, b = np.asarray(matrix, dtype=float), np.asarray(shift, dtype=float)
    return lambda x: x @ A.T + b


def triangle_wave(tau: ArrayLike) -> Array:
    """The wave of period 2 and slope +-1 that is 0 at even and 1 at odd whole numbers."""
    return np.abs((np.asarray(tau, dtype=float) + 1.0) % 2.0 - 1.0)


@dataclass(frozen=True)
class SegmentWalk:
    """The stack of T2.2(B): T_i = T + gamma(t_i) - gamma(t_{i-1}), whose run from p is S_n p = gamma(t_n) exactly.

    t: positions, shape (n + 1,), t[0] = 0. points: gamma(t), shape (n + 1, d), all fixed by T.
    Calling the walk with i gives T_i.
    """

    block: Block
    t: Array
    points: Array

    def __call__(self, i: int) -> Block:
        shift = self.points[i] - self.points[i - 1]
        return lambda x: self.block(x) + shift


def segment_walk(block: Block, limit: Block, p: ArrayLike, q: ArrayLike, errors: ArrayLike, *, order: float = 2) -> SegmentWalk:
    """The stack within ``errors`` of a nonexpansive block that walks to and fro between two fixed points (T2.2(B)).

    block: the nonexpansive T. limit: its limit T^oo, which pulls the segment from p to q onto the fixed points.
    errors: eps_1, ..., eps_n >= 0. order: of the norm for which T is nonexpansive (2, 1 or inf).
    The walk oscillates for ever if the errors have no finite sum, and settles if they have.
    Raises ValueError if p = q, if p or q is not fixed by T, or if an error is negative.
    """
    p, q, eps = (np.asarray(v, dtype=float) for v in (p, q, errors))
    gap = float(np.linalg.norm(p - q, ord=order))
    if gap == 0:
        raise ValueError("p = q; T2.2(B) needs two different fixed points of the block")
    for name, point in (("p", p), ("q", q)):
        if not np.allclose(block(point), point, rtol=0, atol=1e-12 * max(1.0, gap)):
            raise ValueError(f"{name} = {point} is not fixed: the block sends it to {block(point)}")
    if eps.ndim != 1 or (eps < 0).any():
        raise ValueError("errors must be one row of numbers >= 0")
    t = triangle_wave(np.concatenate([[0.0], np.cumsum(np.minimum(eps / gap, 0.25))]))
    return SegmentWalk(block, t, limit(p + t[:, None] * (q - p)))


@dataclass(frozen=True)
class SpectralStages:
    """The stack of T2.2(D): T = diag(factors), pushed along one axis after another and then left alone.

    factors: eigenvalues 2^(-1/L_k) of T, shape (stages,). lengths: L_k, the layers of push k.
    peaks: the layer at which push k ends. troughs: the layer at which the norm has then fallen to the rest level.
    pushes, axes: size and axis of the push at each layer, shape (n,). Calling the object with i gives T_i.
    The coordinates of later stages are still 0, so these n layers do exactly what those of the infinite diagonal do.
    """

    factors: Array
    lengths: NDArray[np.int64]
    peaks: NDArray[np.int64]
    troughs: NDArray[np.int64]
    pushes: Array
    axes: NDArray[np.int64]

    def __call__(self, i: int) -> Block:
        push = np.zeros_like(self.factors)
        push[self.axes[i - 1]] = self.pushes[i - 1]
        return lambda x: self.factors * x + push


def spectral_stages(errors: Callable[[int], float], stages: int, *, rest: float = 0.25) -> SpectralStages:
    """The oscillating stack of T2.2(D) for errors without finite sum, its first ``stages`` pushes, run from 0.

    errors: i -> eps_i. rest: the norm at which the next push may begin, in (0, 1/4].
    Push k adds min(eps_i, 1) along axis k until these sum to 1, in L_k layers; the eigenvalue 2^(-1/L_k) keeps at least
    half of it. So the norm is >= 1/2 at every peak and <= rest at every trough, although 0 is the only fixed point.
    Raises ValueError for fewer than 1 stage, a rest level outside (0, 1/4], or a push that a million layers do not bring
    to 1 (errors with a finite sum).
    """
    if stages < 1:
        raise ValueError(f"stages is {stages}; give at least 1")
    if not 0 < rest <= 0.25:
        raise ValueError(f"rest is {rest}; the proof needs a level in (0, 1/4]")
    factors, x = np.zeros(stages), np.zeros(stages)
    pushes: list[float] = []
    axes: list[int] = []
    marks: list[tuple[int, int, int]] = []
    for k in range(stages):
        start, total = len(pushes), 0.0
        while total < 1.0:
            if len(pushes) - start == 1_000_000:
                raise ValueError(f"errors: push {k + 1} sums to {total:.3g} after 1e6 layers; give a divergent series")
            pushes.append(min(errors(len(pushes) + 1), 1.0))
            total += pushes[-1]
        peak = len(pushes)
        factors[k] = 2.0 ** (-1.0 / (peak - start))
        for size in pushes[start:]:
            x = factors * x
            x[k] += size
        while np.linalg.norm(x) > rest:
            x = factors * x
            pushes.append(0.0)
        marks.append((peak - start, peak, len(pushes)))
        axes += [k] * (len(pushes) - start)
    lengths, peaks, troughs = np.array(marks, dtype=np.int64).T
    return SpectralStages(factors, lengths, peaks, troughs, np.array(pushes), np.array(axes, dtype=np.int64))
