"""Batched minimisation to the exact optimum: Newton with exact Hessians, and a majorising step where Newton has no business.

A :class:`Problem` is one objective on one table; :func:`minimise` takes B starting points at once, each with its own weights
and its own free parameters, so that the starts of a fit, the resamples of a bootstrap and the points of a profile are one
computation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limitlib.scaling.jets import Jet, variables
from limitlib.scaling.objectives import Base, Scale

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Doubles that one block of a batch holds in its gradients: few enough for a processor's cache, many for the interpreter.
BLOCK = 100_000


class Point(Protocol):
    """A law at B parameter vectors: its values, and what is needed of its derivatives."""

    @property
    def value(self) -> Array:
        """(B, n)."""

    def pull(self, c: Array) -> Array:
        """Sum over rows of c_i times the gradient, (B, p)."""

    def curve(self, square: Array, curved: Array) -> Array:
        """Sum over rows of square_i g_i g_i' + curved_i h_i, (B, p, p)."""


class Surface(Protocol):
    """A law on the n rows of one table, as a function of its p internal parameters.

    amplitudes: which parameters are logarithms of amplitudes; a long step may then be taken in the amplitude instead.
    """

    scale: Scale
    n: int
    p: int
    amplitudes: Mask

    def value(self, theta: Array) -> Array:
        """Values (B, n) at ``theta`` (B, p), on the surface's scale."""

    def at(self, theta: Array) -> Point:
        """Values with derivatives."""


@dataclass(frozen=True, eq=False)
class AdditivePoint:
    value: Array
    shares: Array
    slope: Array
    surface: AdditiveSurface

    def pull(self, c: Array) -> Array:
        return np.asarray(np.matmul(c[:, None, :], self.slope)[:, 0])

    def curve(self, square: Array, curved: Array) -> Array:
        s, p = self.surface, self.surface.p
        flat = (self.shares * curved[:, None, :]).reshape(len(curved), -1) @ s.squares
        weighted = self.slope * (square - curved)[..., None]
        return np.asarray(flat.reshape(-1, p, p) + np.matmul(np.swapaxes(weighted, 1, 2), self.slope))


class AdditiveSurface:
    """ln of a sum of m positive terms whose logarithms are linear in the parameters: ln L = LSE_j(offset_j + Z_j theta)."""

    scale: Scale = "log"

    def __init__(self, design: Array, offset: Array) -> None:
        self.design, self.offset = design, offset
        self.m, self.n, self.p = design.shape
        self.amplitudes: Mask = np.asarray(np.isin(design, (0.0, 1.0)).all(axis=(0, 1)))
        self._flat = np.ascontiguousarray(design.reshape(-1, self.p).T)
        self.squares = (design[..., :, None] * design[..., None, :]).reshape(-1, self.p**2)

    def terms(self, theta: Array) -> Array:
        """Logarithms of the terms, (B, m, n)."""
        finite = np.where(np.isfinite(theta), theta, 0.0)
        z = (finite @ self._flat).reshape(len(theta), self.m, self.n) + self.offset
        if not np.isfinite(theta).all():  # an amplitude of zero: its term is absent
            for k in np.flatnonzero(np.isneginf(theta).any(axis=0)):
                off = np.isneginf(theta[:, k])
                for j in np.flatnonzero(np.any(self.design[:, :, k] != 0, axis=1)):
                    z[off, j] = -np.inf
        return z

    def value(self, theta: Array) -> Array:
        z = self.terms(theta)
        top = z.max(axis=1)
        return np.asarray(top + np.log(np.exp(z - top[:, None]).sum(axis=1)))

    def at(self, theta: Array) -> Point:
        z = self.terms(theta)
        top = z.max(axis=1)
        shares = np.exp(z - top[:, None])
        total = shares.sum(axis=1)
        shares /= total[:, None]
        slope = np.zeros((len(theta), self.n, self.p))
        for j in range(self.m):
            used = np.flatnonzero(np.any(self.design[j] != 0, axis=0))
            slope[:, :, used] += shares[:, j, :, None] * self.design[j][:, used]
        return AdditivePoint(top + np.log(total), shares, slope, self)


@dataclass(frozen=True, eq=False)
class JetPoint:
    jet: Jet
    value: Array

    def pull(self, c: Array) -> Array:
        return np.einsum("bn,bnp->bp", c, np.broadcast_to(self.jet.gradient, (*c.shape, self.jet.gradient.shape[-1])))

    def curve(self, square: Array, curved: Array) -> Array:
        p = self.jet.gradient.shape[-1]
        slope = np.broadcast_to(self.jet.gradient, (*square.shape, p))
        hessian = np.broadcast_to(self.jet.hessian, (*square.shape, p, p))
        outer = np.matmul(np.swapaxes(slope * square[..., None], 1, 2), slope)
        return np.asarray(outer + np.einsum("bn,bnpq->bpq", curved, hessian))


class JetSurface:
    """Any formula, written with :mod:`limitlib.scaling.jets`."""

    def __init__(self, formula: Callable[[list[Jet]], Jet], n: int, amplitudes: Mask, scale: Scale) -> None:
        self.formula, self.n, self.p, self.scale = formula, n, len(amplitudes), scale
        self.amplitudes = amplitudes

    def value(self, theta: Array) -> Array:
        return np.array(np.broadcast_to(self.formula(variables(theta, derivatives=False)).value, (len(theta), self.n)))

    def at(self, theta: Array) -> Point:
        jet = self.formula(variables(theta))
        return JetPoint(jet, np.array(np.broadcast_to(jet.value, (len(theta), self.n))))


@dataclass(frozen=True, eq=False)
class Local:
    """Objective, gradient, exact Hessian and the Hessian of a majorising quadratic, at B points."""

    f: Array
    gradient: Array
    hessian: Array
    majorant: Array

    @property
    def finite(self) -> Mask:
        """Which of the points have finite derivatives."""
        both = np.isfinite(self.hessian) & np.isfinite(self.majorant)
        return np.asarray(np.isfinite(self.gradient).all(axis=1) & both.all(axis=(1, 2)))

    def select(self, some: Mask) -> Local:
        return Local(self.f[some], self.gradient[some], self.hessian[some], self.majorant[some])


class Problem:
    """An objective on one table; y: (n,) logarithms of the losses if the objective's scale is "log", else the losses."""

    def __init__(self, surface: Surface, y: Array, objective: Base, weight: Array) -> None:
        self.surface, self.y, self.objective, self.weight = surface, y, objective, weight

    def rounding(self, weight: Array) -> Array:
        """What f (B,) is at residuals of about 3e-16 of a logarithm, or of the typical loss on the raw scale."""
        with np.errstate(over="ignore"):
            size = 1.0 if self.objective.scale == "log" else self.y**2
        return np.asarray(1e-31 * np.sum(weight * size, axis=-1))

    def _convert(self, value: Array) -> Array:
        if self.surface.scale == self.objective.scale:
            return value
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return np.exp(value) if self.objective.scale == "raw" else np.log(value)

    def residuals(self, theta: Array) -> Array:
        return self.y - self._convert(self.surface.value(theta))

    def value(self, theta: Array, weight: Array) -> Array:
        """Objective (B,) at ``theta`` (B, p) under weights (B, n); inf where the law has no value."""
        with np.errstate(over="ignore", invalid="ignore"):
            f = np.einsum("bn,bn->b", weight, self.objective.rho(self.residuals(theta)))
        return np.where(np.isfinite(f), f, np.inf)

    def local(self, theta: Array, weight: Array) -> Local:
        point, o = self.surface.at(theta), self.objective
        value = self._convert(point.value)
        r = self.y - value
        psi = weight * o.slope(r)
        bend, major = weight * o.curvature(r), weight * o.majorant(r)
        if self.surface.scale == o.scale:
            first, second = np.ones_like(value), np.zeros_like(value)
        elif o.scale == "raw":
            first = second = value
        else:
            first = 1.0 / point.value
            second = -first * first
        hessian = point.curve(bend * first**2 - psi * second, -psi * first)
        majorant = point.curve(major * first**2, np.zeros_like(value))
        return Local(np.einsum("bn,bn->b", weight, o.rho(r)), -point.pull(psi * first), hessian, majorant)


@dataclass(frozen=True, eq=False)
class Minima:
    """End points (B, p), objectives (B,), how far Newton would still lower each (B,), and whether it was within rounding."""

    theta: Array
    f: Array
    decrement: Array
    converged: Mask

    @staticmethod
    def joined(parts: Sequence[Minima]) -> Minima:
        return Minima(*(np.concatenate([getattr(q, f.name) for q in parts]) for f in fields(Minima)))

    def replaced(self, at: NDArray[np.intp], other: Minima) -> Minima:
        """With the end points ``at`` taken from another, in its order."""
        both = Minima.joined([self, other])
        index = np.arange(len(self.f))
        index[at] = len(self.f) + np.arange(len(other.f))
        return Minima(*(getattr(both, f.name)[index] for f in fields(Minima)))

    def least(self, other: Minima) -> Minima:
        """The lower of two end points, one by one."""
        at = np.flatnonzero(other.f < self.f)
        return self.replaced(at, Minima(*(getattr(other, f.name)[at] for f in fields(Minima))))


def minimise(
    problem: Problem,
    theta: Array,
    *,
    weight: Array | None = None,
    free: Mask | None = None,
    iterations: int = 200,
    tolerance: float = 1e-14,
) -> Minima:
    """Minimise from B starting points at once.

    theta: (B, p) starts. weight: (n,) or (B, n), by default the problem's. free: (p,) or (B, p), False where a parameter
    stays as it starts. A point has converged when Newton's predicted decrease is below ``tolerance`` of its objective (or the
    residuals are at rounding) and the Hessian in the free parameters is positive definite there.
    """
    batch, p = theta.shape
    per = max(1, BLOCK // max(1, problem.surface.n * p))
    weights = np.broadcast_to(problem.weight if weight is None else weight, (batch, problem.surface.n))
    frees = np.broadcast_to(np.ones(p, bool) if free is None else free, (batch, p))
    with np.errstate(all="ignore"):  # where a law overflows it has no value, and no step goes there
        parts = [
            _block(problem, theta[i : i + per].copy(), weights[i : i + per], frees[i : i + per], iterations, tolerance)
            for i in range(0, batch, per)
        ]
    return Minima.joined(parts)


def _block(problem: Problem, theta: Array, weight: Array, free: Mask, iterations: int, tolerance: float) -> Minima:
    batch = len(theta)
    f, decrement = problem.value(theta, weight), np.full(batch, np.inf)
    converged = np.zeros(batch, bool)
    running = np.flatnonzero(np.isfinite(f))
    rounding = problem.rounding(weight)
    for _ in range(iterations):
        if not running.size:
            break
        here, w = theta[running], weight[running]
        local = problem.local(here, w)
        usable = local.finite
        if not usable.all():
            running, here, w = running[usable], here[usable], w[usable]
            local = local.select(usable)
        if not running.size:
            break
        newton, majorised, drop, convex = _steps(local, free[running])
        decrement[running] = drop
        done = convex & (drop <= tolerance * local.f + rounding[running])
        # One more whole step where it costs nothing: quadratic convergence takes it to rounding.
        last = here[done] + newton[done]
        polished = problem.value(last, w[done])
        better = (polished <= f[running[done]]) & (np.abs(newton[done]).max(axis=1) < 0.1)
        at = running[done][better]
        theta[at], f[at] = last[better], polished[better]
        converged[running[done]] = True
        keep = ~done
        running = running[keep]
        if not running.size:
            break
        moved = _search(problem, theta, f, running, w[keep], newton[keep], majorised[keep])
        # Nothing lowers it any more: at the minimum up to the rounding of f, or stuck.
        converged[running] = ~moved & convex[keep] & (drop[keep] <= 1e-10 * f[running])
        running = running[moved]
    return Minima(theta, f, decrement, converged)


def _steps(local: Local, free: Mask) -> tuple[Array, Array, Array, Mask]:
    """Newton's step (with the signs of bad curvatures turned), the majorising step, predicted decrease, convexity."""
    both = free[:, :, None] & free[:, None, :]
    eye = np.eye(free.shape[1])
    gradient = np.where(free, local.gradient, 0.0)
    major = np.where(both, local.majorant, eye)
    size = np.sqrt(np.maximum(np.einsum("bpp->bp", major), 1e-300))
    scale = size[:, :, None] * size[:, None, :]
    sloped = gradient / size
    bend, basis = np.linalg.eigh(np.where(both, local.hessian / scale, eye))
    along = np.einsum("bpq,bp->bq", basis, sloped)
    floor = np.maximum(1e-13 * np.abs(bend).max(axis=1, keepdims=True), 1e-20)  # sum |r| of a linear law has no curvature
    convex = bend[:, 0] > floor[:, 0]
    safe = np.maximum(np.abs(bend), floor)
    drop = 0.5 * np.sum(along**2 / safe, axis=1)
    newton = -np.einsum("bpq,bq->bp", basis, along / safe) / size
    damped = np.where(both, major / scale, eye) + 1e-9 * eye
    majorised = -np.linalg.solve(damped, sloped[..., None])[..., 0] / size
    return np.where(free, newton, 0.0), np.where(free, majorised, 0.0), drop, convex


def _search(
    problem: Problem, theta: Array, f: Array, running: NDArray[np.intp], weight: Array, newton: Array, majorised: Array
) -> Mask:
    """Move each running point to the best of its candidates; shorten where none is lower. False where nothing helps."""
    start, best = theta[running], f[running].copy()
    moved = np.zeros(len(running), bool)
    target = start.copy()
    # Gauss-Newton is linear in an amplitude, not in its logarithm: A + dA = A (1 + da).
    bent = np.where(problem.surface.amplitudes, np.log1p(np.maximum(majorised, -0.95)), majorised)
    steps = np.stack([newton, majorised, bent])
    longest = np.abs(steps).max(axis=2, keepdims=True)
    trials = start + steps * np.minimum(1.0, 8.0 / np.maximum(longest, 1e-300))
    found = problem.value(trials.reshape(-1, start.shape[1]), np.concatenate([weight] * 3)).reshape(3, -1)
    for trial, tried in zip(trials, found, strict=True):
        win = tried < best
        target[win], best[win], moved[win] = trial[win], tried[win], True
    short = 0.5
    while not moved.all() and short > 1e-7:
        stuck = np.flatnonzero(~moved)
        for step in (newton, majorised):
            trial = start[stuck] + short * step[stuck]
            tried = problem.value(trial, weight[stuck])
            win = tried < best[stuck]
            at = stuck[win]
            target[at], best[at], moved[at] = trial[win], tried[win], True
        short *= 0.25
    theta[running], f[running] = target, best
    return moved
