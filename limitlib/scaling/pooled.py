"""A mixing law in which the domains pool: L = (sum_j w_j r_j^a)^-gamma, with weights w_j > 0 and diminishing returns a.

Each share r_j of a mixture adds w_j r_j^a of effective data for the target, and the loss is a power of the sum. Shares may be
exactly 0, where logarithms of shares cannot be taken. The law has no irreducible loss. For a <= 1 it is convex in the shares:
a power of negative exponent of a concave function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from limitlib import checks
from limitlib.scaling.laws import Law, Parameter
from limitlib.scaling.objectives import Scale

Array = NDArray[np.float64]

#: Stands for the logarithm of a share of 0: its power then underflows to 0, and so does every derivative.
ABSENT = -1e5


def check_domains(domains: Sequence[str]) -> None:
    """ValueError unless at least two distinct columns of shares are listed."""
    if isinstance(domains, str) or len(domains) < 2 or len(set(domains)) != len(domains):
        raise ValueError(f"domains={domains!r} must list at least two distinct columns of shares")


def shares_of(law: str, domains: Sequence[str], columns: Mapping[str, ArrayLike]) -> Array:
    """Shares (m, n) of the domains, normalised row by row; ValueError for a missing or negative share, or a row of zeros."""
    missing = [d for d in domains if d not in columns]
    if missing:
        raise ValueError(f"the law {law!r} needs the shares {', '.join(missing)}; given: {', '.join(columns)}")
    shares = np.stack(np.broadcast_arrays(*(np.atleast_1d(checks.at_least(d, columns[d], 0.0)) for d in domains)))
    total = shares.sum(axis=0)
    if (total <= 0).any():
        raise ValueError("the shares of a mixture sum to 0 in a row; give shares that sum to 1")
    return np.asarray(shares / total)


@dataclass(frozen=True, eq=False)
class PooledLaw(Law):
    """See :func:`mixing_pooled`. Internal parameters: ln w_j, ln gamma and, if it is fitted, ln a."""

    saturating: bool = True

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(f"ln {v}" for v in self.variables)

    def table(self, columns: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Logarithms of the shares, normalised row by row; ValueError for a missing or negative share, or a row of zeros."""
        shares = shares_of(self.name, self.variables, columns)
        logs = np.where(shares > 0, np.log(np.where(shares > 0, shares, 1.0)), ABSENT)
        return dict(zip(self.features, logs, strict=True))

    def means(self, table: Mapping[str, Array]) -> dict[str, float]:
        return dict.fromkeys(table, 0.0)

    def surface(self, table: Mapping[str, Array]) -> PooledSurface:
        return PooledSurface(np.stack([table[f] for f in self.features], axis=1), self.saturating)

    def starts(self, table: Mapping[str, Array], loss: Array, weight: Array) -> Array:
        """For guessed exponents the law is linear in the weights; those that come out too small are raised."""
        logs, root, found = np.stack([table[f] for f in self.features], axis=1), np.sqrt(weight), []
        for gamma in (0.05, 0.08, 0.12, 0.2, 0.4):
            for a in (0.5, 0.65, 0.8, 1.0) if self.saturating else (1.0,):
                powers, pool = np.exp(a * logs), loss ** (-1 / gamma)
                relative = powers * (root / pool)[:, None]
                weights = np.linalg.lstsq(relative, root, rcond=1e-10)[0]
                weights = np.maximum(weights, 0.1 * pool.min())
                cost = float(np.sum(weight * (np.log(loss) + gamma * np.log(powers @ weights)) ** 2))
                found.append((cost, *np.log(weights), np.log(gamma), *([np.log(a)] if self.saturating else [])))
        return np.array(sorted(found))[:, 1:]


class PooledSurface:
    """ln L = -gamma ln sum_j exp(ln w_j + a l_j) on logarithms l of shares, (n, m)."""

    scale: Scale = "log"

    def __init__(self, logs: Array, saturating: bool) -> None:
        self.logs, self.saturating = logs, saturating
        self.n, self.m = logs.shape
        self.p = self.m + 1 + saturating
        self.amplitudes = np.arange(self.p) < self.m

    def pool(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """ln of the pool (B, n), the share of each domain in it (B, n, m), gamma and a (each (B, 1))."""
        gamma = np.exp(theta[:, self.m, None])
        a = np.exp(theta[:, self.m + 1, None]) if self.saturating else np.ones_like(gamma)
        z = theta[:, None, : self.m] + a[..., None] * self.logs
        top = z.max(axis=2)
        parts = np.exp(z - top[..., None])
        total = parts.sum(axis=2)
        return top + np.log(total), parts / total[..., None], gamma, a

    def value(self, theta: Array) -> Array:
        pool, _, gamma, _ = self.pool(theta)
        return np.asarray(-gamma * pool)

    def at(self, theta: Array) -> PooledPoint:
        pool, parts, gamma, a = self.pool(theta)
        value = -gamma * pool
        mean = np.einsum("bnm,nm->bn", parts, self.logs)
        slope = np.concatenate([-gamma[..., None] * parts, value[..., None]], axis=2)
        if self.saturating:
            slope = np.concatenate([slope, (-gamma * a * mean)[..., None]], axis=2)
        return PooledPoint(value, slope, parts, mean, gamma, a, self)


@dataclass(frozen=True, eq=False)
class PooledPoint:
    value: Array
    slope: Array
    parts: Array
    mean: Array
    gamma: Array
    a: Array
    surface: PooledSurface

    def pull(self, c: Array) -> Array:
        return np.asarray(np.matmul(c[:, None, :], self.slope)[:, 0])

    def curve(self, square: Array, curved: Array) -> Array:
        s, m = self.surface, self.surface.m
        found = np.matmul(np.swapaxes(self.slope * square[..., None], 1, 2), self.slope)
        scale = -self.gamma * curved
        sums = np.einsum("bn,bnm->bm", scale, self.parts)
        found[:, :m, :m] -= np.matmul(np.swapaxes(self.parts * scale[..., None], 1, 2), self.parts)
        found[:, np.arange(m), np.arange(m)] += sums
        by_gamma = self.pull(curved)
        found[:, m, :] += by_gamma
        found[:, :, m] += by_gamma
        found[:, m, m] -= by_gamma[:, m]
        if s.saturating:
            apart = s.logs - self.mean[..., None]
            cross = self.a * np.einsum("bn,bnm,bnm->bm", scale, self.parts, apart)
            found[:, :m, m + 1] += cross
            found[:, m + 1, :m] += cross
            spread = np.einsum("bnm,bnm->bn", self.parts, apart**2)
            found[:, m + 1, m + 1] += np.einsum("bn,bn->b", scale, self.a * self.mean + self.a**2 * spread)
        return np.asarray(found)


def mixing_pooled(domains: Sequence[str], *, saturating: bool = True) -> Law:
    """L = (sum_j w_j r_j^a)^-gamma over the shares r of these domains; ``saturating=False`` holds a at 1.

    Any constant factor of the loss is in the weights, so there is no gauge to fix. Raises ValueError unless ``domains`` lists
    at least two distinct columns. Source: this project.
    """
    check_domains(domains)
    specs: list[Any] = [*(Parameter(f"w_{d}", "log") for d in domains), Parameter("gamma", "log")]
    if saturating:
        specs.append(Parameter("a", "log"))
    power = "^a" if saturating else ""
    return PooledLaw(
        "mixing-pooled", f"L = (sum_j w_j r_j{power})^-gamma, r = shares that sum to 1", tuple(domains), tuple(specs),
        saturating=saturating,
    )  # fmt: skip


@dataclass(frozen=True)
class BestMixture:
    """A mixture that minimises a mean of pooled laws. shares: by domain, summing to 1. loss: the mean there (an estimate).

    gap: an upper bound on how far the loss lies above the least possible one, from the tangent plane at ``shares`` (the
    mean is convex where every a <= 1); nan where some a > 1.
    """

    shares: dict[str, float]
    loss: float
    gap: float
    kind: str = "estimate"


def best_mixture(law: Law, parameters: Sequence[Mapping[str, float]]) -> BestMixture:
    """The shares that minimise the mean loss over targets, one set of natural parameters of a pooled law for each target.

    Raises TypeError for another law, ValueError without a target.
    """
    if not isinstance(law, PooledLaw):
        raise TypeError(f'law={law!r} must be law("mixing-pooled", ...)')
    if not parameters:
        raise ValueError("parameters must hold at least one target's parameters")
    weights = np.array([[p[f"w_{d}"] for d in law.variables] for p in parameters])
    gamma = np.array([p["gamma"] for p in parameters])
    a = np.array([p.get("a", 1.0) for p in parameters])

    def at(z: Array) -> tuple[float, Array, Array]:
        """The mean at the shares softmax(z), its gradient in z, and the shares."""
        r = np.exp(z - z.max())
        r /= r.sum()
        powers = weights * r ** a[:, None]
        pool = powers.sum(axis=1)
        loss = pool**-gamma
        by_log = -(gamma * loss / pool * a) @ powers / len(gamma)
        return float(loss.mean()), by_log - r * by_log.sum(), r

    found = optimize.minimize(lambda z: at(z)[:2], np.zeros(len(law.variables)), jac=True, method="BFGS",
                              options={"gtol": 1e-9, "maxiter": 5000})  # fmt: skip
    loss, by_z, r = at(found.x)
    # With g the gradient in the shares, by_z = r (g - g.r): the tangent plane at r is least at the corner of the smallest g_j.
    gap = float(-np.min(by_z / r)) if (a <= 1).all() else float("nan")
    return BestMixture(dict(zip(law.variables, r.tolist(), strict=True)), loss, gap)
