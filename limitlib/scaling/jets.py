"""Values with exact first and second derivatives, batched: what lets a law be one formula and still be fitted by Newton.

A :class:`Jet` is a function of p parameters at n rows of data for B parameter vectors at once: value (B, n), gradient
(B, n, p), Hessian (B, n, p, p). Sizes of 1 broadcast. Arithmetic is forward-mode differentiation of second order, exact up to
rounding; no step size is involved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def outer(a: Array, b: Array) -> Array:
    return a[..., :, None] * b[..., None, :]


@dataclass(frozen=True, eq=False)
class Jet:
    """Value (B, n), gradient (B, n, p) and Hessian (B, n, p, p) of one quantity."""

    value: Array
    gradient: Array
    hessian: Array

    __array_ufunc__ = None  # so that array * jet asks the jet

    def through(self, value: Array, first: Array, second: Array) -> Jet:
        """f(self) from f, f' and f'' at ``self.value`` (chain rule)."""
        curved = second[..., None, None] * outer(self.gradient, self.gradient)
        return Jet(value, first[..., None] * self.gradient, first[..., None, None] * self.hessian + curved)

    def __add__(self, other: Jet | Array | float) -> Jet:
        if isinstance(other, Jet):
            return Jet(self.value + other.value, self.gradient + other.gradient, self.hessian + other.hessian)
        value = self.value + other
        return Jet(value, self.gradient, self.hessian)

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet(-self.value, -self.gradient, -self.hessian)

    def __sub__(self, other: Jet | Array | float) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Array | float) -> Jet:
        return (-self) + other

    def __mul__(self, other: Jet | Array | float) -> Jet:
        if not isinstance(other, Jet):
            factor = np.asarray(other, dtype=float)
            return Jet(self.value * factor, self.gradient * factor[..., None], self.hessian * factor[..., None, None])
        cross = outer(self.gradient, other.gradient)
        curved = self.value[..., None, None] * other.hessian + other.value[..., None, None] * self.hessian
        slope = self.value[..., None] * other.gradient + other.value[..., None] * self.gradient
        return Jet(self.value * other.value, slope, curved + cross + np.swapaxes(cross, -1, -2))

    __rmul__ = __mul__

    def __truediv__(self, other: Jet) -> Jet:
        return self * inverse(other)


def variables(theta: Array, *, derivatives: bool = True) -> list[Jet]:
    """The p parameters themselves as jets; ``theta`` has shape (B, p). Without derivatives, gradients are of length 0."""
    batch, p = theta.shape
    eye = np.eye(p) if derivatives else np.zeros((p, 0))
    flat = np.zeros((1, 1, *eye.shape[1:] * 2))
    return [Jet(theta[:, k, None], np.broadcast_to(eye[k], (batch, 1, eye.shape[1])), flat) for k in range(p)]


def exp(a: Jet) -> Jet:
    value = np.exp(a.value)
    return a.through(value, value, value)


def log(a: Jet) -> Jet:
    first = 1.0 / a.value
    return a.through(np.log(a.value), first, -first * first)


def inverse(a: Jet) -> Jet:
    value = 1.0 / a.value
    return a.through(value, -value * value, 2.0 * value**3)


def expm1(a: Jet) -> Jet:
    slope = np.exp(a.value)
    return a.through(np.expm1(a.value), slope, slope)


def logistic(a: Jet) -> Jet:
    value = 0.5 * (1.0 + np.tanh(0.5 * a.value))
    first = value * (1.0 - value)
    return a.through(value, first, first * (1.0 - 2.0 * value))


def softplus(a: Jet) -> Jet:
    """ln(1 + e^a), without overflow."""
    first = 0.5 * (1.0 + np.tanh(0.5 * a.value))
    return a.through(np.logaddexp(0.0, a.value), first, first * (1.0 - first))


def log_sum_exp(given: Sequence[Jet | Array]) -> Jet:
    """ln(sum of e^term), without overflow; a term of -inf is absent, an array is a constant."""
    some = next(t for t in given if isinstance(t, Jet))
    terms = [t if isinstance(t, Jet) else Jet(np.atleast_2d(t), 0.0 * some.gradient, 0.0 * some.hessian) for t in given]
    values = np.stack(np.broadcast_arrays(*[t.value for t in terms]))
    top = values.max(axis=0)
    shares = np.exp(values - top)
    total = shares.sum(axis=0)
    shares /= total
    slope: Array = np.asarray(sum(s[..., None] * t.gradient for s, t in zip(shares, terms, strict=True)))
    curved = sum(
        s[..., None, None] * (t.hessian + outer(t.gradient, t.gradient)) for s, t in zip(shares, terms, strict=True)
    )
    return Jet(top + np.log(total), slope, np.asarray(curved) - outer(slope, slope))
