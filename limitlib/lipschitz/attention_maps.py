"""Multi-head softmax attention as a map of token matrices, with its derivative: the source of lower ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Heads:
    """Weights of every head, (out, in) as in torch; biases of keys, values and outputs move nothing and are left out.

    q, k: (heads, dh, d). v: (heads, dv, d). o: (heads, out, dv). bq: (heads, dh). scale: factor of the scores. causal: token i
    sees tokens 1..i.
    """

    q: Array
    k: Array
    v: Array
    o: Array
    bq: Array
    scale: float
    causal: bool

    @property
    def d(self) -> int:
        return self.q.shape[2]


class Linearised:
    """Attention at one point X (tokens, d): the attention matrices, and products with the Jacobian and its transpose."""

    def __init__(self, heads: Heads, X: Array) -> None:
        self.heads, self.X = heads, X
        self.Q = X @ heads.q.transpose(0, 2, 1) + heads.bq[:, None, :]
        self.K = X @ heads.k.transpose(0, 2, 1)
        self.V = X @ heads.v.transpose(0, 2, 1)
        self.scores = heads.scale * (self.Q @ self.K.transpose(0, 2, 1))
        if heads.causal:
            n = len(X)
            self.scores = np.where(np.tril(np.ones((n, n), dtype=bool)), self.scores, -math.inf)
        self.P = np.exp(self.scores - self.scores.max(axis=2, keepdims=True))
        self.P /= self.P.sum(axis=2, keepdims=True)

    def value(self) -> Array:
        """The output (tokens, out), up to a constant that biases add."""
        return ((self.P @ self.V) @ self.heads.o.transpose(0, 2, 1)).sum(axis=0)

    def jvp(self, D: Array) -> Array:
        """J D for directions of shape (..., tokens, d)."""
        h, D = self.heads, D[..., None, :, :]
        dS = (D @ h.q.transpose(0, 2, 1)) @ self.K.transpose(0, 2, 1)
        dS = h.scale * (dS + self.Q @ np.swapaxes(D @ h.k.transpose(0, 2, 1), -1, -2))
        dP = self.P * (dS - (self.P * dS).sum(axis=-1, keepdims=True))
        out = dP @ self.V + self.P @ (D @ h.v.transpose(0, 2, 1))
        return (out @ h.o.transpose(0, 2, 1)).sum(axis=-3)

    def vjp(self, G: Array) -> Array:
        """J' G for cotangents of shape (tokens, out)."""
        h = self.heads
        gV = G @ h.o
        gP = gV @ self.V.transpose(0, 2, 1)
        gS = h.scale * self.P * (gP - (self.P * gP).sum(axis=-1, keepdims=True))
        grown = (gS @ self.K) @ h.q + (gS.transpose(0, 2, 1) @ self.Q) @ h.k + (self.P.transpose(0, 2, 1) @ gV) @ h.v
        return grown.sum(axis=0)

    def top(self, start: Array, steps: int) -> tuple[float, Array, Array]:
        """(|J v|, v, J v / |J v|) after power steps on J'J from a start of any size; v has length one."""
        v = start / np.linalg.norm(start)
        for _ in range(steps):
            w = self.vjp(self.jvp(v))
            size = np.linalg.norm(w)
            if not 0 < size < math.inf:
                break
            v = w / size
        image = self.jvp(v)
        reached = float(np.linalg.norm(image))
        return reached, v, image / (reached or 1.0)

    def dense(self) -> Array:
        """The Jacobian, shape (tokens * out, tokens * d)."""
        n, d = self.X.shape
        return self.jvp(np.eye(n * d).reshape(n * d, n, d)).reshape(n * d, -1).T

    def score_error(self) -> float:
        """Bound of the rounding error of the scores: inner products of lengths d and dh, in Frobenius norms."""
        h = self.heads
        x = float(np.linalg.norm(self.X, axis=1).max()) * (1 + 1e-9)
        size = max(
            abs(h.scale) * (np.linalg.norm(q) * x + np.linalg.norm(b)) * np.linalg.norm(k) * x
            for q, k, b in zip(h.q, h.k, h.bq, strict=True)
        )
        return float((3 * h.d + 3 * h.q.shape[1] + 40) * EPS * size)

    def product_error(self) -> float:
        """Bound of the rounding error of ``jvp`` as an operator, Frobenius to Frobenius; inf where the scores are too large.

        Scores that are off by e change P by the factor exp(2 e). Every summand of J D is at most the product of the Frobenius
        norms named below times |D|, enters a few products with P, and carries at most g relative rounding errors.
        """
        h, n = self.heads, len(self.X)
        x = float(np.linalg.norm(self.X, axis=1).max()) * (1 + 1e-9)
        g = (3 * h.d + 3 * h.q.shape[1] + 3 * h.v.shape[1] + 2 * n + len(h.q) + 60) * EPS
        weight = 3 * self.score_error() + (n + 20) * EPS
        if not weight < 0.1:
            return math.inf
        total = 0.0
        for q, k, v, o, b in zip(h.q, h.k, h.v, h.o, h.bq, strict=True):
            a = abs(h.scale) * np.linalg.norm(k)
            bend = 4 * x * a * (2 * np.linalg.norm(q) * x + np.linalg.norm(b))
            total += float(np.linalg.norm(o) * np.linalg.norm(v) * (1 + bend))
        return 8 * (weight + g) * math.sqrt(n) * total


def attained(heads: Heads, X: Array, steps: int = 40) -> float:
    """A Jacobian norm at X, attained along one direction and rounded down by the error of the product."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        here = Linearised(heads, X)
        size, _, _ = here.top(start_direction(X.shape), steps)
        value = size - here.product_error()
    return value if 0 < value < math.inf else 0.0


def start_direction(shape: tuple[int, ...]) -> Array:
    """A fixed direction without symmetries, seldom orthogonal to anything."""
    k = np.arange(1.0, math.prod(shape) + 1)
    return (1.0 + np.sin(k * k)).reshape(shape)


def ascend(heads: Heads, X: Array, project: Callable[[Array], Array], size: float, steps: int) -> tuple[float, Array]:
    """Climb with the Jacobian norm over the domain; returns (attained value rounded down, point).

    For fixed unit v and w the gradient of X -> <w, J(X) v> is the derivative of J(X)'w along v, since the second derivative is
    symmetric; a difference quotient of it gives a direction, and a step counts only if the norm grew.
    """
    X = project(X)
    best, v, w = Linearised(heads, X).top(start_direction(X.shape), 20)
    stride, h = 0.5 * size, 1e-5 * size
    for _ in range(steps):
        gradient = Linearised(heads, X + h * v).vjp(w) - Linearised(heads, X - h * v).vjp(w)
        length = np.linalg.norm(gradient)
        if not 0 < length < math.inf or stride < 1e-4 * size:
            break
        candidate = project(X + stride / length * gradient)
        reached, v2, w2 = Linearised(heads, candidate).top(v, 4)
        if reached > best:
            X, best, v, w, stride = candidate, reached, v2, w2, 1.6 * stride
        else:
            stride /= 2
    here = Linearised(heads, X)
    value = here.top(v, 40)[0] - here.product_error()
    return (value, X) if 0 < value < math.inf else (0.0, X)
