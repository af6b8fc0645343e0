"""What a law is to the fitter: named parameters, a surface on a table, starting points, and the way back to natural units.

Two kinds. An :class:`AdditiveLaw` is a sum of positive terms, each a product of powers and exponentials: its logarithm is a
log-sum-exp of linear functions, and for fixed exponents the amplitudes solve a small nonnegative least-squares problem
(variable projection). A :class:`FormulaLaw` is any formula written with :mod:`limitlib.scaling.jets`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib import checks
from limitlib.scaling.jets import Jet
from limitlib.scaling.objectives import Scale
from limitlib.scaling.solver import AdditiveSurface, JetSurface, Surface

Array = NDArray[np.float64]
Kind = Literal["log", "real", "logit"]

Shift = tuple[str | float, str | float, float]
#: Exponents of the grid that starts a search; the search itself is free to leave it.
EXPONENTS = np.geomspace(0.02, 2.5, 22)
#: A term that the linear problem sets to 0 starts at this share of the loss: from far below, its logarithm would climb slowly.
FAINT = 0.02


@dataclass(frozen=True)
class Parameter:
    """A parameter by its natural name. kind: "log" (positive), "real", "logit" (between 0 and 1).

    shifts: (exponent, feature, factor) for an amplitude whose term was centred: ln A = internal + sum of factor * exponent *
    mean of the feature, where the exponent is a parameter's name or a number; a number in place of a feature is its own mean.
    """

    name: str
    kind: Kind = "real"
    shifts: tuple[Shift, ...] = ()


def moved(shift: Shift, raw: Mapping[str, Any], means: Mapping[str, float]) -> Any:
    """factor * exponent * mean of one shift."""
    exponent, feature, factor = shift
    at = means[feature] if isinstance(feature, str) else feature
    return factor * at * (raw[exponent] if isinstance(exponent, str) else exponent)


@dataclass(frozen=True, eq=False)
class Law(ABC):
    """A form of scaling law; see :func:`limitlib.scaling.law` for the forms there are.

    name, formula (as text), variables (the columns it needs), parameters; floor: the name of the irreducible loss, if the law
    has one; gauge: what no data could determine and how it was fixed, in words.
    """

    name: str
    formula: str
    variables: tuple[str, ...]
    specs: tuple[Parameter, ...]
    floor: str | None = None
    gauge: str = ""
    source: str = ""

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.specs)

    @property
    def p(self) -> int:
        return len(self.specs)

    @property
    def scale(self) -> Scale:
        return "log"

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """The columns, or their logarithms (``"ln P"``), that the formula takes."""

    def table(self, columns: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Features from columns, not centred. Raises ValueError for a missing column or a value without a logarithm."""
        found = {}
        for feature in self.features:
            name = feature.removeprefix("ln ")
            if name not in columns:
                raise ValueError(f"the law {self.name!r} needs {name}=...; given: {', '.join(columns) or 'nothing'}")
            values = checks.real_array(name, columns[name])
            if np.isinf(values).any():
                raise ValueError(f"{name} must be finite: the law {self.name!r} has no value at infinity")
            if feature != name:
                checks.above(name, values, 0.0, f"the law {self.name!r} takes its logarithm")
                values = np.log(values)
            found[feature] = np.atleast_1d(values)
        return found

    @abstractmethod
    def means(self, table: Mapping[str, Array]) -> dict[str, float]:
        """Where each feature is centred; 0 where the law cannot absorb a shift."""

    def centred(self, table: Mapping[str, Array], means: Mapping[str, float]) -> dict[str, Array]:
        return {name: values - means[name] for name, values in table.items()}

    @abstractmethod
    def surface(self, table: Mapping[str, Array]) -> Surface:
        """The law on centred features."""

    @abstractmethod
    def starts(self, table: Mapping[str, Array], loss: Array, weight: Array) -> Array:
        """Starting points (S, p), the most promising first; deterministic."""

    def natural(self, theta: Array, means: Mapping[str, float]) -> dict[str, Array]:
        """Natural parameters, each (B,), of internal ones (B, p) on a table centred at ``means``."""
        raw = {s.name: theta[:, k] for k, s in enumerate(self.specs)}
        found = {}
        for s in self.specs:
            value = raw[s.name]
            for shift in s.shifts:
                value = value + moved(shift, raw, means)
            with np.errstate(over="ignore"):
                found[s.name] = np.exp(value) if s.kind == "log" else 1 / (1 + np.exp(-value)) if s.kind == "logit" else value
        return found

    def internal(self, parameters: Mapping[str, float], means: Mapping[str, float]) -> Array:
        """Internal parameters (p,) of natural ones: the inverse of :meth:`natural`."""
        unknown = set(parameters) ^ set(self.parameters)
        if unknown:
            known = ", ".join(self.parameters)
            raise ValueError(f"the law {self.name!r} has the parameters {known}; given differ in {sorted(unknown)}")
        raw: dict[str, float] = {}
        with np.errstate(divide="ignore"):
            for s in self.specs:
                value = float(parameters[s.name])
                if s.kind == "log" and value < 0:
                    raise ValueError(f"{s.name}={value!r} must not be negative in the law {self.name!r}")
                raw[s.name] = float(np.log(value)) if s.kind == "log" else value
                if s.kind == "logit":
                    raw[s.name] = float(np.log(value) - np.log1p(-value))
        for s in self.specs:
            for shift in s.shifts:
                raw[s.name] -= moved(shift, raw, means)
        return np.array([raw[s.name] for s in self.specs])

    def predict(self, parameters: Mapping[str, float], **columns: ArrayLike) -> Array:
        """Loss at given columns, broadcast together, for given natural parameters."""
        origin = dict.fromkeys(self.features, 0.0)
        return np.asarray(self.losses(self.internal(parameters, origin)[None], origin, columns)[0])

    def losses(self, theta: Array, means: Mapping[str, float], columns: Mapping[str, ArrayLike]) -> Array:
        """Losses, (B,) and then the columns' broadcast shape, of internal parameters (B, p) centred at ``means``."""
        given = {v: checks.real_array(v, columns[v]) for v in self.variables if v in columns}
        try:
            shape = np.broadcast_shapes(*[a.shape for a in given.values()])
        except ValueError:
            shapes = ", ".join(f"{v} {a.shape}" for v, a in given.items())
            raise ValueError(f"the columns must broadcast to one shape; given: {shapes}") from None
        table = self.table({v: np.broadcast_to(a, shape).ravel() for v, a in given.items()})
        with np.errstate(over="ignore"):
            value = self.surface(self.centred(table, means)).value(theta)
            return np.asarray(np.exp(value) if self.scale == "log" else value).reshape(len(theta), *shape)

    def fit(self, runs: Any, objective: Any = None, *, where: str | None = None, **options: Any) -> Any:
        """Fit to a table of runs: see :func:`limitlib.scaling.fit`."""
        from limitlib.scaling.fitting import fit

        return fit(self, runs, objective, where=where, **options)


@dataclass(frozen=True)
class Term:
    """One positive term: amplitude * product of exp(factor * coefficient * feature).

    amplitude: the name of a positive parameter, or None for 1. powers: (feature, coefficient, factor): the coefficient is a
    parameter's name or a number; the feature ``"ln P"`` gives a power of P, ``"K"`` an exponential in K.
    """

    amplitude: str | None
    powers: tuple[tuple[str, str | float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class AdditiveLaw(Law):
    """L = sum of positive terms; parameters are amplitudes ("log") and exponents or rates ("real", or "log" for a base)."""

    terms: tuple[Term, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f for t in self.terms for f, _, _ in t.powers))

    def means(self, table: Mapping[str, Array]) -> dict[str, float]:
        bound = {f for t in self.terms if t.amplitude is None for f, _, _ in t.powers}
        return {name: 0.0 if name in bound else float(np.mean(values)) for name, values in table.items()}

    @property
    def exponents(self) -> tuple[str, ...]:
        amplitudes = {t.amplitude for t in self.terms}
        return tuple(n for n in self.parameters if n not in amplitudes)

    def arrays(self, table: Mapping[str, Array]) -> tuple[Array, Array]:
        """Design (m, n, p) and offset (m, n)."""
        n = len(next(iter(table.values())))
        column = {name: k for k, name in enumerate(self.parameters)}
        wide = np.result_type(*table.values())  # extended precision stays so
        design, offset = np.zeros((len(self.terms), n, self.p), wide), np.zeros((len(self.terms), n), wide)
        for j, term in enumerate(self.terms):
            if term.amplitude is not None:
                design[j, :, column[term.amplitude]] = 1.0
            for feature, coefficient, factor in term.powers:
                if isinstance(coefficient, str):
                    design[j, :, column[coefficient]] += factor * table[feature]
                else:
                    offset[j] += factor * coefficient * table[feature]
        return design, offset

    def surface(self, table: Mapping[str, Array]) -> Surface:
        return AdditiveSurface(*self.arrays(table))

    def grid(self, table: Mapping[str, Array]) -> Array:
        """Values of the exponents (G, e) to start from; rates are scaled to the feature's range."""
        axes = []
        for name in self.exponents:
            uses = [(f, s) for t in self.terms for f, c, s in t.powers if c == name]
            feature, sign = uses[0]
            if feature.startswith("ln "):
                axes.append(EXPONENTS if sign < 0 else -EXPONENTS)
            else:
                span = float(np.ptp(table[feature])) or 1.0
                axes.append(-np.sign(sign) * np.geomspace(0.1, 60.0, 16) / span)
        coarse = [a[:: (1, 1, 2, 2, 4)[len(axes)]] if len(axes) <= 4 else a[::4] for a in axes]
        return np.array(list(product(*coarse)))

    def starts(self, table: Mapping[str, Array], loss: Array, weight: Array) -> Array:
        if len(self.exponents) <= 4 and len(self.terms) <= 5 and all(t.amplitude for t in self.terms):
            return self._projected(table, loss, weight)
        return self._floored(table, loss, weight)

    def basis(self, table: Mapping[str, Array], grid: Array) -> Array:
        """Terms with unit amplitudes, (G, m, n)."""
        design, offset = self.arrays(table)
        where = [self.parameters.index(n) for n in self.exponents]
        return np.asarray(np.exp(np.einsum("mne,ge->gmn", design[:, :, where], grid) + offset))

    def _projected(self, table: Mapping[str, Array], loss: Array, weight: Array) -> Array:
        grid = self.grid(table)
        amplitudes, cost = amplitudes_of(self.basis(table, grid), loss, weight)
        order = np.argsort(cost[:, 0], kind="stable")[: min(len(grid), 400)]
        return self._assemble(grid[order], np.maximum(amplitudes[order, 0], FAINT * loss.mean()))

    def _assemble(self, exponents: Array, amplitudes: Array) -> Array:
        theta = np.zeros((len(exponents), self.p))
        for k, name in enumerate(self.exponents):
            theta[:, self.parameters.index(name)] = exponents[:, k]
        for j, term in enumerate(self.terms):
            theta[:, self.parameters.index(str(term.amplitude))] = np.log(amplitudes[:, j])
        return theta

    def _floored(self, table: Mapping[str, Array], loss: Array, weight: Array) -> Array:
        """For a floor and one term in many features: guess the floor, and the rest is linear in logarithms."""
        design, offset = self.arrays(table)
        column = self.parameters.index(self.floor) if self.floor else None
        big = [j for j, t in enumerate(self.terms) if t.amplitude != self.floor or self.floor is None]
        found = []
        for fraction in (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98) if self.floor else (0.0,):
            level = max(fraction, 1e-4) * loss.min()
            theta = np.zeros(self.p)
            rest = np.log(loss - level if self.floor else loss) - np.log(len(big))
            root = np.sqrt(weight)
            stacked = design[big].mean(axis=0)
            theta = np.linalg.lstsq(stacked * root[:, None], (rest - offset[big].mean(axis=0)) * root, rcond=1e-10)[0]
            if column is not None:
                theta[column] = np.log(level)
            found.append(theta)
        return np.array(found)


def amplitudes_of(basis: Array, loss: Array, weight: Array) -> tuple[Array, Array]:
    """Nonnegative amplitudes minimising sum w (1 - sum_j A_j phi_j / L)^2, exactly, for G bases and W weightings.

    basis: (G, m, n), m <= 5. weight: (n,) or (W, n). Returns amplitudes (G, W, m) and costs (G, W): the best feasible
    one of the 2^m - 1 sets of active terms, each solved by its normal equations.
    """
    weights = np.atleast_2d(weight)
    relative = basis / loss
    G, m, _ = relative.shape
    pairs = [(i, j) for i in range(m) for j in range(i, m)]
    products = np.stack([relative[:, i] * relative[:, j] for i, j in pairs], axis=1)
    gram_flat = np.einsum("gqn,wn->gwq", products, weights, optimize=True)
    right = np.einsum("gmn,wn->gwm", relative, weights, optimize=True)
    gram = np.zeros((G, len(weights), m, m))
    for q, (i, j) in enumerate(pairs):
        gram[..., i, j] = gram[..., j, i] = gram_flat[..., q]
    total = weights.sum(axis=1)
    best, cost = np.zeros((G, len(weights), m)), np.broadcast_to(total, (G, len(weights))).copy()
    size = np.sqrt(np.einsum("gwmm->gwm", gram)) + 1e-300
    scaled, target = gram / (size[..., :, None] * size[..., None, :]), right / size
    for active in product((False, True), repeat=m):
        on = np.array(active)
        if not on.any():
            continue
        both = on[:, None] & on[None, :]
        system = np.where(both, scaled, 0.0) + np.where(on, 1e-12, 1.0) * np.eye(m)
        found = np.linalg.solve(system, np.where(on, target, 0.0)[..., None])[..., 0]
        reached = total - 2 * np.sum(found * target, axis=-1) + np.einsum("gwi,gwij,gwj->gw", found, scaled, found)
        win = (found >= 0).all(axis=-1) & (reached < cost)
        best[win], cost[win] = (found / size)[win], reached[win]
    return best, cost


Formula = Callable[[Mapping[str, Jet], Mapping[str, Array]], Jet]
Starter = Callable[["FormulaLaw", Mapping[str, Array], Array, Array], Array]


@dataclass(frozen=True, eq=False)
class FormulaLaw(Law):
    """A law given by a formula in jets: ``expression(parameters, features)`` returns ln L, or L if ``on`` is "raw".

    Parameters reach the formula in their internal coordinate: a "log" parameter as its logarithm, a "logit" one as its logit;
    features reach it centred where ``shifted`` lists them.
    """

    expression: Formula = lambda p, x: next(iter(p.values()))
    starter: Starter = lambda law, table, loss, weight: np.zeros((1, law.p))
    needs: tuple[str, ...] = ()
    shifted: tuple[str, ...] = ()
    on: Scale = "log"

    @property
    def scale(self) -> Scale:
        return self.on

    @property
    def features(self) -> tuple[str, ...]:
        return self.needs

    def means(self, table: Mapping[str, Array]) -> dict[str, float]:
        return {name: float(np.mean(values)) if name in self.shifted else 0.0 for name, values in table.items()}

    def surface(self, table: Mapping[str, Array]) -> Surface:
        def formula(parameters: list[Jet]) -> Jet:
            return self.expression(dict(zip(self.parameters, parameters, strict=True)), table)

        amplitudes = np.array([s.kind == "log" for s in self.specs])
        return JetSurface(formula, len(next(iter(table.values()))), amplitudes, self.on)

    def starts(self, table: Mapping[str, Array], loss: Array, weight: Array) -> Array:
        return self.starter(self, table, loss, weight)
