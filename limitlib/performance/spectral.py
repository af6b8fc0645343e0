"""Error of a linear iteration from the spectral measure of its start: T6.3, exponential or power law.

For ``T = I - A`` with ``0 <= A <= I`` on a Hilbert space and a start e_0 let nu be the spectral measure of A at e_0, a measure
on [0, 1] of total mass ``|e_0|^2``. Then ``E(K) = |T^K e_0|^2`` is the integral of ``(1-u)^(2K)`` with respect to nu. The point
u = 0 is criticality: what lies there never decays, a gap above it means an exponential, and mass that accumulates there
like u^kappa means K^-kappa. Closed forms by beta functions; nothing is integrated numerically.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from limitlib.checks import at_least, real, real_array

Array = NDArray[np.float64]

CHUNK = 4_000_000  # exponentials evaluated at a time
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


@dataclass(frozen=True)
class PowerLawMass:
    """Part of a spectral measure: with ``u = gap + (1 - gap) v``, mass ``weight v^kappa`` of [gap, u] for 0 <= v <= 1.

    With ``log`` the mass is ``weight v^kappa (1 + kappa ln(1/v))``, a power law with a slowly varying factor. kappa > 0,
    weight >= 0, 0 <= gap < 1, all finite, log a bool; ValueError or TypeError otherwise.
    """

    kappa: float
    weight: float = 1.0
    gap: float = 0.0
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("kappa", "weight", "gap"):
            object.__setattr__(self, name, real(name, getattr(self, name)))
        if not isinstance(self.log, bool):
            raise TypeError(f"log={self.log!r} must be True or False")
        if self.kappa <= 0:
            raise ValueError(f"kappa={self.kappa} must be positive; mass exactly at 0 is an atom, atoms=[0.0]")
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} must be at least 0: it is a mass")
        if not 0 <= self.gap < 1:
            raise ValueError(f"gap={self.gap} must lie in [0, 1); all mass at u = 1 is an atom, atoms=[1.0]")

    def mass(self, u: ArrayLike) -> Array:
        """Mass of [0, u], exact. NaN gives NaN."""
        v = np.clip((real_array("u", u, nan=True) - self.gap) / (1 - self.gap), 0.0, 1.0)
        factor = 1 + self.kappa * -np.log(np.where(v > 0, v, 1.0)) if self.log else 1.0
        return self.weight * v**self.kappa * factor

    def error(self, K: ArrayLike) -> Array:
        """Integral of (1-u)^(2K), exact: ``weight (1-gap)^(2K) kappa B(kappa, 2K+1)``; with ``log`` a digamma factor.

        Raises ValueError for K < 0 or NaN.
        """
        steps = _doubled(K)
        finite = np.where(np.isinf(steps), 0.0, steps)
        with np.errstate(over="ignore"):  # a huge number of steps above a gap: exp(-inf) = 0 is what is meant
            decay = finite * math.log1p(-self.gap)
        value = np.exp(decay - _log_gamma_ratio(finite + 1, self.kappa) + math.lgamma(self.kappa + 1))
        if self.log:
            value = value * self.kappa * (special.digamma(finite + 1 + self.kappa) - special.digamma(self.kappa))
        return np.where(np.isinf(steps), 0.0, self.weight * value)


@dataclass(frozen=True)
class DecayLaw:
    """How E(K) ends: exact statements of T6.3 about the limit K -> infinity.

    ``kind``: "exponential", "power law", "power law with logarithm", or "constant" (nothing lies outside u = 0). ``limit`` is
    nu({0}), the limit of E. ``gap`` is the infimum of the support of nu on (0, 1] (inf for "constant"), and the exponential
    rate of E - limit is ``rate = -2 ln(1 - gap)`` (0 without a gap, inf if the rest lies at u = 1). ``exponent`` is kappa of
    ``nu((0, u]) ~ prefactor u^kappa``, times ln(1/u) in the logarithmic case; inf with a gap, where ``prefactor`` is NaN.
    """

    kind: str
    limit: float
    gap: float
    rate: float
    exponent: float
    prefactor: float

    def leading(self, K: ArrayLike) -> Array:
        """Leading term of ``E(K) - limit``: ``prefactor Gamma(kappa+1) (2K)^-kappa``, times ln(2K) in the logarithmic case.

        Raises ValueError where there is no power law, or for K <= 0.
        """
        if not self.kind.startswith("power law"):
            raise ValueError(f"the law is {self.kind!r}: it has no power-law leading term; see gap and rate")
        steps = _doubled(K)
        if not (steps > 0).all():
            raise ValueError("K must be positive in the leading term")
        slow = np.log(steps) if self.kind.endswith("logarithm") else 1.0
        return self.prefactor * np.exp(math.lgamma(self.exponent + 1) - self.exponent * np.log(steps)) * slow


@dataclass(frozen=True, eq=False)
class SpectralMeasure:
    """A measure on [0, 1]: power-law parts and atoms.

    parts: any number of :class:`PowerLawMass`. atoms: positions in [0, 1], shape (n,); weights: their masses >= 0, shape (n,).
    Kept sorted by position, read-only. Raises ValueError or TypeError, naming the argument. Source: T6.3.

    >>> nu = SpectralMeasure(parts=[PowerLawMass(1.0)])
    >>> round(float(nu.error(100)), 12), nu.law().kind
    (0.004975124378, 'power law')
    """

    parts: tuple[PowerLawMass, ...] = ()
    atoms: Any = ()
    weights: Any = ()

    def __post_init__(self) -> None:
        if isinstance(self.parts, PowerLawMass):
            raise TypeError("parts must be a list of PowerLawMass objects; put the one you have into a list")
        parts = tuple(self.parts)
        for part in parts:
            if not isinstance(part, PowerLawMass):
                raise TypeError(f"parts must hold PowerLawMass objects; got {part!r}")
        atoms, weights = (
            real_array(name, value, nan=True).copy() for name, value in (("atoms", self.atoms), ("weights", self.weights))
        )
        if atoms.ndim != 1 or atoms.shape != weights.shape:
            raise ValueError(f"atoms and weights must be two lists of one length; got shapes {atoms.shape}, {weights.shape}")
        for name, values, high in (("atoms", atoms, 1.0), ("weights", weights, np.finfo(float).max / max(1, weights.size))):
            bad = values[~((values >= 0) & (values <= high))]
            if bad.size:
                what = "lie in [0, 1]; rescale the operator by a step size" if name == "atoms" else "be finite masses >= 0"
                raise ValueError(f"{name} must {what}; got {bad[0]!r}")
        order = np.argsort(atoms, kind="stable")
        atoms, weights = atoms[order], weights[order]
        atoms.flags.writeable = weights.flags.writeable = False
        for name, value in (("parts", parts), ("atoms", atoms), ("weights", weights)):
            object.__setattr__(self, name, value)

    @classmethod
    def of_matrix(cls, A: ArrayLike, x: ArrayLike) -> SpectralMeasure:
        """Spectral measure of a symmetric matrix A, 0 <= A <= I, at x: atoms at its eigenvalues.

        Shapes: A (d, d); x (d,), or (d, m) for m starts whose energies are added. Exact up to rounding; eigenvalues within
        ``8 d eps`` of 0 are put at 0. Raises ValueError unless A is finite, symmetric, and 0 <= A <= I up to rounding;
        TypeError for complex arrays.
        """
        A, x = real_array("A", A, nan=True), real_array("x", x, nan=True)
        if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.size or not np.isfinite(A).all():
            raise ValueError(f"A must be a finite square matrix, at least 1 by 1, without NaN; got shape {A.shape}")
        if x.ndim not in (1, 2) or len(x) != len(A) or not np.isfinite(x).all():
            raise ValueError(f"x must be finite, of shape ({len(A)},) or ({len(A)}, m); got {x.shape}")
        slack = 8 * len(A) * float(np.finfo(float).eps)
        if np.abs(A - A.T).max() > slack:
            raise ValueError("A must be symmetric: without self-adjointness T6.3 fails")
        values, vectors = np.linalg.eigh((A + A.T) / 2)
        if values[0] < -slack or values[-1] > 1 + slack:
            raise ValueError(f"A must have its spectrum in [0, 1]; it lies in [{values[0]:.6g}, {values[-1]:.6g}]; scale A")
        values = np.where(values < slack, 0.0, np.minimum(values, 1.0))
        return cls(atoms=values, weights=((vectors.T @ x.reshape(len(x), -1)) ** 2).sum(axis=1))

    def mass(self, u: ArrayLike) -> Array:
        """nu([0, u]), exact up to rounding. Raises ValueError for NaN."""
        u = real_array("u", u)
        sums = np.concatenate([[0.0], np.cumsum(self.weights)])
        return sum((part.mass(u) for part in self.parts), sums[np.searchsorted(self.atoms, u, side="right")])

    def error(self, K: ArrayLike) -> Array:
        """E(K), the integral of (1-u)^(2K) with respect to nu, for real K >= 0 or inf. Exact up to rounding; shape of K.

        Relative error below 1e-9 for K up to 1e12 and kappa up to 50. Raises ValueError for K < 0 or NaN.
        """
        k = _doubled(K) / 2
        flat, found = k.reshape(-1), np.zeros(k.size)
        inside = self.atoms < 1  # at u = 1 one step removes everything
        log_rate, weights = 2 * np.log1p(-self.atoms[inside]), self.weights[inside]
        length = max(1, CHUNK // max(1, weights.size))
        for start in range(0, flat.size, length):
            steps = flat[start : start + length]
            with np.errstate(over="ignore"):  # exp(-inf) = 0 is what is meant
                powers = np.exp(np.where(np.isinf(steps), 0.0, steps)[:, None] * log_rate)
            found[start : start + length] = np.where(np.isinf(steps), self.limit, powers @ weights)
        found += np.where(flat == 0, self.weights[~inside].sum(), 0.0)
        return found.reshape(k.shape) + sum((part.error(k) for part in self.parts), np.zeros(k.shape))

    @property
    def limit(self) -> float:
        """nu({0}) = lim E(K)."""
        return float(self.weights[self.atoms == 0].sum())

    def law(self) -> DecayLaw:
        """The law of E(K) - nu({0}) as K -> infinity, by T6.3; exact."""
        parts = [part for part in self.parts if part.weight > 0]
        ends = [part.gap for part in parts] + self.atoms[(self.atoms > 0) & (self.weights > 0)][:1].tolist()
        if not ends:
            return DecayLaw("constant", self.limit, math.inf, math.inf, math.inf, math.nan)
        gap = min(ends)
        if gap > 0:
            rate = math.inf if gap == 1 else -2 * math.log1p(-gap)
            return DecayLaw("exponential", self.limit, gap, rate, math.inf, math.nan)
        critical = [part for part in parts if part.gap == 0]
        kappa = min(part.kappa for part in critical)
        slowest = [part for part in critical if part.kappa == kappa]
        logs = [part for part in slowest if part.log]
        front = sum(part.weight for part in logs) * kappa if logs else sum(part.weight for part in slowest)
        kind = "power law with logarithm" if logs else "power law"
        return DecayLaw(kind, self.limit, 0.0, 0.0, kappa, front)


def _doubled(K: ArrayLike) -> Array:
    """2K as an array; 2K beyond the largest float counts as inf."""
    k = at_least("K", K, 0, "it counts steps")
    with np.errstate(over="ignore"):
        return 2 * k


def _log_gamma_ratio(x: Array, kappa: float) -> Array:
    """ln Gamma(x + kappa) - ln Gamma(x) for x >= 1, without the cancellation of two huge logarithms."""
    far = x >= 32
    big = np.where(far, x, 32.0)
    total = kappa * np.log(big) + (big + kappa - 0.5) * np.log1p(kappa / big) - kappa
    for i, c in enumerate(STIRLING):
        total = total + c * ((big + kappa) ** -(2 * i + 1) - big ** -(2 * i + 1))
    near = np.where(far, 1.0, x)
    return np.where(far, total, special.gammaln(near + kappa) - special.gammaln(near))
