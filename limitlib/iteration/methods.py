"""How each method goes from an iterate x, its image y = T x and f = y - x to the next iterate; items may drop out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from limitlib.iteration.checks import check_count

Relaxation = float | Callable[[int], float] | None

LAWS = {
    "picard": "none for a nonexpansive T; q^n if T is a proved q-contraction (Banach)",
    "krasnoselskii_mann": "|x_n - T x_n| <= diam / sqrt(pi sum a(1-a)) if T is nonexpansive on a convex set (T6.1)",
    "halpern": "|x_n - T x_n| <= 2 |x_0 - x*| / (n+1) if T is nonexpansive on a Hilbert space (Lieder 2021)",
    "anderson": "none: a heuristic",
}


class Picard:
    """x <- Tx. The driver keeps images and iterates in one buffer, so there is nothing left to do."""

    longest_block = 16  # steps between two residual checks, at most

    def step(self, x: np.ndarray, y: np.ndarray, f: np.ndarray, n: int, out: np.ndarray) -> None:
        pass

    def keep(self, mask: np.ndarray) -> None:
        pass


class KrasnoselskiiMann:
    """x <- (1-a) x + a Tx."""

    longest_block = 16

    def __init__(self, relaxation: Callable[[int], float]) -> None:
        self.relaxation = relaxation

    def step(self, x: np.ndarray, y: np.ndarray, f: np.ndarray, n: int, out: np.ndarray) -> None:
        np.multiply(f, self.relaxation(n + 1), out=out)
        out += x

    def keep(self, mask: np.ndarray) -> None:
        pass


class Halpern:
    """x <- x0/(n+2) + (n+1)/(n+2) Tx, the classical weights."""

    longest_block = 16

    def __init__(self, start: np.ndarray) -> None:
        self.start = start

    def step(self, x: np.ndarray, y: np.ndarray, f: np.ndarray, n: int, out: np.ndarray) -> None:
        np.multiply(y, (n + 1) / (n + 2), out=out)
        out += self.start / (n + 2)

    def keep(self, mask: np.ndarray) -> None:
        self.start = self.start[mask]


class Anderson:
    """Anderson acceleration, type II: every item has its own window and its own small least-squares problem."""

    longest_block = 4  # the step is dear, so checks are a small part, and evaluations past the end are saved

    def __init__(self, start: np.ndarray, memory: int, ridge: float, mixing: float) -> None:
        batch, d = start.shape
        self.ridge, self.mixing = ridge * np.eye(memory), mixing
        self.x, self.f = np.zeros((batch, d)), np.zeros((batch, d))
        self.df, self.dz = np.zeros((batch, memory, d)), np.zeros((batch, memory, d))  # of f, of x + mixing f
        self.gram = np.zeros((batch, memory, memory))
        self.best = np.full(batch, math.inf)

    def step(self, x: np.ndarray, y: np.ndarray, f: np.ndarray, n: int, out: np.ndarray) -> None:
        np.multiply(f, self.mixing, out=out)
        out += x
        if n > 0:
            out -= self._correction(x, f, (n - 1) % self.df.shape[1])
        self.x[:], self.f[:] = x, f

    def _correction(self, x: np.ndarray, f: np.ndarray, column: int) -> np.ndarray:
        change = f - self.f
        self.df[:, column] = change
        self.dz[:, column] = x - self.x + self.mixing * change
        products = self.df @ np.stack([change, f], axis=-1)  # (batch, memory, 2)
        self.gram[:, column, :] = self.gram[:, :, column] = products[:, :, 0]
        target = products[:, :, 1]
        size = np.einsum("bi,bi->b", f, f)
        restart = size > 100 * self.best  # the residual grew tenfold: forget the window, take a plain step
        if restart.any():
            for window in (self.df, self.dz, self.gram, target):
                window[restart] = 0.0
        self.best = np.where(restart, size, np.minimum(self.best, size))
        # Columns are scaled to length 1, so that the ridge is relative; an empty column then has coefficient 0.
        scale = np.sqrt(np.einsum("bii->bi", self.gram))
        scale[scale == 0] = 1.0
        system = self.gram / scale[:, :, None]
        system /= scale[:, None, :]
        system += self.ridge
        weights = np.linalg.solve(system, (target / scale)[:, :, None])[:, :, 0] / scale
        return (weights[:, None, :] @ self.dz)[:, 0]

    def keep(self, mask: np.ndarray) -> None:
        for name in ("x", "f", "df", "dz", "gram", "best"):
            setattr(self, name, getattr(self, name)[mask])


Method = Picard | KrasnoselskiiMann | Halpern | Anderson


def choose(method: str, start: np.ndarray, relaxation: Relaxation, memory: int | None, ridge: float | None) -> Method:
    """The method by name. Options that it does not have are refused, never ignored."""
    if method not in LAWS:
        raise ValueError(f"method must be one of {', '.join(LAWS)}; got {method!r}")
    if method != "anderson" and (memory is not None or ridge is not None):
        raise ValueError(f"memory and ridge belong to method='anderson'; got {memory!r} and {ridge!r} with {method!r}")
    if method in ("picard", "halpern"):
        if relaxation is not None:
            raise ValueError(f"relaxation must be left out for method {method!r}; got {relaxation!r}; see krasnoselskii_mann")
        return Halpern(start) if method == "halpern" else Picard()
    if method == "krasnoselskii_mann":
        return KrasnoselskiiMann(_relaxation_rule(0.5 if relaxation is None else relaxation))
    mixing = 1.0 if relaxation is None else relaxation
    if callable(mixing) or not 0 < mixing <= 1:
        raise ValueError(f"relaxation of method 'anderson' is its mixing, a number in (0, 1]; got {relaxation!r}")
    ridge = 1e-12 if ridge is None else ridge
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be a number > 0, relative to columns of length 1 (try 1e-12); got {ridge!r}")
    return Anderson(start, check_count("memory", 10 if memory is None else memory, 1), float(ridge), float(mixing))


def _relaxation_rule(relaxation: Any) -> Callable[[int], float]:
    def checked(a: Any, where: str = "") -> float:
        if not 0 <= a <= 1:
            raise ValueError(f"relaxation must lie in [0, 1]{where}; got {a!r}")
        return float(a)

    if callable(relaxation):
        return lambda k: checked(relaxation(k), f" at step {k}")
    constant = checked(relaxation)
    return lambda k: constant
