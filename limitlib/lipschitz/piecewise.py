"""A ReLU network as a piecewise affine map: its affine forms region by region, each with a bound of its rounding errors.

Inputs are shifted and scaled to unit size, u = (x - center) / unit, and every hidden row to entries in [1/2, 1), by powers of
two, so that scaling rounds nothing. Jacobians are taken here with respect to inputs in one common unit, ``unit / relative``;
``2**exponent`` turns them into the true ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import Ball, Box, Domain, WholeSpace
from limitlib.lipschitz.polyhedra import UnitDomain, holds

Array = NDArray[np.float64]
Signs = NDArray[np.int8]
EPS = float(np.finfo(float).eps)
RANGE = 300  # largest spread, in powers of two, of units and of biases over rows
WALK_WORK = 5 * 10**7  # multiplications that one step of a walk from region to region may cost
EXACT_WORK = 200_000  # rational products that a region test may cost


def gamma(k: int) -> float:
    """Relative error of k rounded operations, with room for the rounding of the bound itself."""
    return 1.01 * k * EPS


@dataclass(frozen=True, eq=False)
class Forms:
    """Pre-activations of a layer as affine forms A u + c on a cell; error: (width, d + 1), of the entries of (A, c).

    before: the signs of the layers before, which name the cell.
    """

    A: Array
    c: Array
    error: Array
    before: tuple[Signs, ...] = ()

    def rows(self) -> Array:
        """(A, c) side by side."""
        return np.column_stack([self.A, self.c])


def largest_norm(J: Array, norm: tuple[float, float]) -> Array:
    """Norms of a stack of matrices (count, out, in), to rounding; for (2, 2), (1, q) and (p, inf)."""
    p, q = norm
    if p == q == 2:
        if min(J.shape[1:]) == 1:
            return np.sqrt(np.square(J).sum(axis=(1, 2)))
        return np.linalg.norm(J, 2, axis=(1, 2))
    if p == 1:
        return np.linalg.norm(J, q, axis=1).max(axis=1)
    return np.linalg.norm(J, {1: np.inf, 2: 2, np.inf: 1}[p], axis=2).max(axis=1)


def interval_norm(size: Array, norm: tuple[float, float]) -> float:
    """Upper bound of the norm of every matrix with entries at most ``size`` in absolute value."""
    if norm == (2.0, 2.0):
        rows, columns = size.sum(axis=1).max(), size.sum(axis=0).max()
        value = min(math.sqrt(rows * columns), math.sqrt(np.square(size).sum()))
    else:
        value = float(largest_norm(size[None], norm)[0])
    return value * (1 + gamma(size.size + 8))


@dataclass(eq=False)
class ReluNetwork:
    """weights: scaled matrices; weights[0] acts on u. c0, error0: the first affine forms. free: inputs that vary.

    exact_first: scaled rows on the inputs that are fixed, and their values, for rational arithmetic.
    """

    weights: list[Array]
    biases: list[Array]
    c0: Array
    error0: Array
    domain: Domain
    unit_domain: UnitDomain
    center: Array
    unit: Array
    relative: Array
    free: NDArray[np.intp]
    fixed: Array
    exponent: int
    exact_first: tuple[Array, Array]
    _exact: dict[bytes, list[list[Fraction]]] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        return len(self.free)

    @property
    def widths(self) -> list[int]:
        return [len(w) for w in self.weights[:-1]]

    @property
    def jacobian_cost(self) -> int:
        """Multiplications for one Jacobian."""
        return self.inputs * sum(w.size for w in self.weights[1:])

    @property
    def walkable(self) -> bool:
        """Whether the Jacobians of all neighbours of a region can be compared."""
        return sum(self.widths) * self.jacobian_cost <= WALK_WORK

    # ---------------------------------------------------------------------------------------------------- coordinates

    def to_input(self, u: Array) -> Array:
        """The point of the input space with unit coordinates u."""
        x = self.fixed.copy()
        x[self.free] = self.center + self.unit * u
        return x

    def to_output(self, J: Array) -> Array:
        """A Jacobian in true units; zero where a coordinate is fixed."""
        full = np.zeros((len(J), len(self.fixed)))
        full[:, self.free] = np.ldexp(J, self.exponent)
        return full

    def first(self) -> Array:
        """The first matrix on inputs in their common unit."""
        return self.weights[0] / self.relative

    def unscaled(self, forms: Forms) -> tuple[Array, Array]:
        """Gradients of the forms with respect to inputs in their common unit, and their errors."""
        return forms.A / self.relative, forms.error[:, :-1] / self.relative

    # ----------------------------------------------------------------------------------------------------------- forms

    def first_forms(self) -> Forms:
        return Forms(self.weights[0], self.c0, self.error0)

    def next_forms(self, forms: Forms, signs: Signs, layer: int) -> Forms:
        """Pre-activations of ``layer`` where the layer before has the given signs."""
        on = signs > 0
        W = self.weights[layer][:, on]
        A, c = W @ forms.A[on], W @ forms.c[on] + self.biases[layer]
        size = np.column_stack([np.abs(forms.A[on]), np.abs(forms.c[on])])
        absW = np.abs(W)
        error = absW @ (forms.error[on] * (1 + 1e-12) + gamma(W.shape[1] + 3) * size)
        error[:, -1] += 2 * EPS * np.abs(self.biases[layer]) * np.any(absW @ size, axis=1)
        before = (*forms.before, signs)
        lost = np.flatnonzero((np.abs(A) <= 4 * error[:, :-1]).all(axis=1) & error.any(axis=1))
        if len(lost) and self.exact_cost(layer) <= EXACT_WORK:  # cancellation left no digit: are these forms constant?
            exact = self._exact_forms(before, layer)
            middle = [Fraction(float(x)) / Fraction(float(w)) for x, w in zip(self.center, self.unit, strict=True)]
            for i in lost:
                A[i] = [float(g) for g in exact[i][:-1]]
                c[i] = float(exact[i][-1] + sum((g * x for g, x in zip(exact[i], middle, strict=False)), Fraction(0)))
                error[i] = 2 * EPS * np.append(np.abs(A[i]), abs(c[i]))
        return Forms(A, c, error, before)

    def exact_cost(self, layer: int) -> int:
        """Multiplications for the rational forms of a layer."""
        return self.inputs * sum(w.size for w in self.weights[1 : layer + 1])

    def jacobian(self, pattern: Sequence[Signs]) -> tuple[Array, Array]:
        """Jacobian under a pattern, shape (out, d), and bounds of the errors of its entries."""
        A, E = self.unscaled(self.first_forms())
        A, E = A.copy(), E * 0.0
        for signs, W in zip(pattern, self.weights[1:], strict=True):
            on = signs > 0
            absW = np.abs(W[:, on])
            E = absW @ (E[on] * (1 + 1e-12) + gamma(absW.shape[1] + 2) * np.abs(A[on]))
            A = W[:, on] @ A[on]
        return A, E

    def sharp_jacobian(self, pattern: Sequence[Signs]) -> tuple[Array, Array]:
        """The same without cancellation: by rational arithmetic where the error bounds are not small against the entries."""
        J, E = self.jacobian(pattern)
        if interval_norm(E, (2.0, 2.0)) <= 1e-11 * np.abs(J).max() or self.jacobian_cost > EXACT_WORK:
            return J, E
        below = self._exact_forms(pattern, len(self.widths) - 1) if self.widths else []
        entries = [[Fraction(0)] * self.inputs for _ in self.weights[-1]]
        for row, w in zip(entries, self.weights[-1], strict=True):
            for j in np.flatnonzero(pattern[-1] > 0):
                factor = Fraction(float(w[j]))
                row[:] = [r + factor * v for r, v in zip(row, below[j], strict=False)]
        J = np.array([[float(v) for v in row] for row in entries]) / self.relative
        return J, 2 * EPS * np.abs(J)

    def jacobians(self, patterns: Sequence[NDArray[Any]]) -> Array:
        """Jacobians of many patterns, each layer's signs of shape (count, width); no error bounds."""
        J = np.broadcast_to(self.first(), (len(patterns[0]), *self.weights[0].shape))
        for signs, W in zip(patterns, self.weights[1:], strict=True):
            J = W @ (J * (signs > 0)[:, :, None])
        return J

    def cell(self, pattern: Sequence[Signs]) -> tuple[Array, Array]:
        """All inequalities of a full pattern, and their errors; neurons with a constant form are left out."""
        rows, errors, forms = [], [], self.first_forms()
        for layer, signs in enumerate(pattern):
            if layer:
                forms = self.next_forms(forms, pattern[layer - 1], layer)
            live = forms.A.any(axis=1)
            rows.append((signs[:, None] * forms.rows())[live])
            errors.append(forms.error[live])
        return np.vstack(rows), np.vstack(errors)

    # ---------------------------------------------------------------------------------------------------------- points

    def sample(self, rng: np.random.Generator) -> Array:
        """Points of the domain in unit coordinates; on the whole space, at many distances."""
        d, count = self.inputs, int(min(1500, max(16, 2 * 10**7 // max(self.jacobian_cost, 1))))
        directions = rng.standard_normal((count, d))
        if self.unit_domain.bounded:
            if self.unit_domain.p == math.inf:
                points = rng.uniform(-1, 1, (count, d)) * self.unit_domain.radius
            else:
                size = np.linalg.norm(directions, self.unit_domain.p, axis=1, keepdims=True)
                points = directions / size * rng.uniform(0, 1, (count, 1)) ** (1 / d) * self.unit_domain.radius[0]
            return points * (1 - 1e-6)
        return directions * rng.choice([0.1, 0.3, 1.0, 3.0, 30.0, 1e4], (count, 1))

    def patterns(self, points: Array) -> list[Signs]:
        """Signs at many points, one array (count, width) for each layer, without proof."""
        z, found = points @ self.weights[0].T + self.c0, []
        for layer in range(len(self.widths)):
            if layer:
                z = np.maximum(z, 0) @ self.weights[layer].T + self.biases[layer]
            found.append(np.where(z > 0, 1, -1).astype(np.int8))
        return found

    def pattern_at(self, u: Array) -> tuple[Signs, ...] | None:
        """The signs at u if u is certainly interior to a region and to the domain, else None."""
        if not self.unit_domain.contains(u) or not self._in_domain(self.to_input(u)):
            return None
        forms = self.first_forms()
        found: list[Signs] = []
        for layer in range(len(self.widths)):
            if layer:
                forms = self.next_forms(forms, found[-1], layer)
            z = forms.A @ u + forms.c
            size = np.append(np.abs(u), 1.0)
            slack = (len(size) + 4) * EPS * (np.abs(forms.rows()) @ size) + 1.01 * (forms.error @ size)
            constant = ~forms.A.any(axis=1) & ~forms.error[:, :-1].any(axis=1)
            if not (constant | (np.abs(z) > slack)).all():
                return None
            found.append(np.where(z > 0, 1, -1).astype(np.int8))
        return tuple(found)

    def _in_domain(self, x: Array) -> bool:
        """Whether all points within rounding of x are interior to the domain, as far as its inputs vary."""
        if not isinstance(self.domain, Box):
            return bool(self.domain.inner_radius(x, 2) > 0)
        x, lo, hi = x[self.free], self.domain.lo[self.free], self.domain.hi[self.free]
        slack = 4 * EPS * np.abs(x)
        return bool(((x - slack > lo) & (x + slack < hi)).all())

    def satisfies(self, rows: Array, error: Array, u: Array) -> bool:
        """Whether u satisfies all inequalities for certain."""
        return holds(rows, error, u)

    # ---------------------------------------------------------------------------------------------------------- ranges

    def range_of(self, forms: Forms) -> tuple[Array, Array]:
        """Enclosures of the pre-activations over the domain, outward by more than their rounding errors."""
        reach = np.append(self.unit_domain.radius, 1.0)
        constant = ~forms.A.any(axis=1) & ~forms.error[:, :-1].any(axis=1)
        if not self.unit_domain.bounded:
            spread = np.where(constant, 0.0, math.inf)
        elif self.unit_domain.p == 2:
            spread = self.unit_domain.radius[0] * np.sqrt(np.square(forms.A).sum(axis=1))
        elif self.unit_domain.p == 1:
            spread = self.unit_domain.radius[0] * np.abs(forms.A).max(axis=1)
        else:
            spread = np.abs(forms.A) @ self.unit_domain.radius
        noise = gamma(2 * len(reach) + 8) * (np.abs(forms.rows()) @ reach) + 1.01 * (forms.error @ reach)
        noise = np.where(constant, 1.01 * forms.error[:, -1], noise)
        return forms.c - spread - noise, forms.c + spread + noise

    def later_signs(self, forms: Forms, signs: Signs, layer: int) -> list[Signs]:
        """Signs in the layers after ``layer`` that intervals decide, 0 where they do not."""
        low, high = self.range_of(forms)
        found: list[Signs] = []
        low = np.where(signs > 0, np.maximum(low, 0), 0.0)
        high = np.where(signs < 0, 0.0, np.maximum(high, 0))
        for k in range(layer + 1, len(self.widths)):
            W, b = self.weights[k], self.biases[k]
            up, down = np.maximum(W, 0), np.minimum(W, 0)
            z_low = b + _times(up, low) + _times(down, high)
            z_high = b + _times(up, high) + _times(down, low)
            noise = gamma(W.shape[1] + 8) * (np.abs(b) + _times(np.abs(W), high))
            noise = np.where(np.isfinite(noise), noise, 0.0) + np.where(_times(np.abs(W), high) == 0, 0.0, 2 * EPS * np.abs(b))
            finite_low = gamma(W.shape[1] + 8) * (np.abs(b) + _times(np.abs(W), low))
            z_low, z_high = z_low - noise - finite_low, z_high + noise * (z_high != b) + finite_low * (z_high != b)
            now = np.where(z_low > 0, 1, np.where(z_high <= 0, -1, 0)).astype(np.int8)
            found.append(now)
            low, high = np.where(now < 0, 0.0, np.maximum(z_low, 0)), np.where(now < 0, 0.0, np.maximum(z_high, 0))
        return found

    def _interval_forms(self, forms: Forms, signs: Signs, layer: int, later: list[Signs]) -> tuple[Array, Array]:
        """Enclosure of the Jacobian over all slopes that the signs allow."""
        A, E = self.unscaled(forms)
        low, high = A - E, A + E
        for k, now in enumerate([signs, *later]):
            low = np.where((now > 0)[:, None], low, np.where((now < 0)[:, None], 0.0, np.minimum(low, 0)))
            high = np.where((now > 0)[:, None], high, np.where((now < 0)[:, None], 0.0, np.maximum(high, 0)))
            W = self.weights[layer + k + 1]
            up, down = np.maximum(W, 0), np.minimum(W, 0)
            noise = gamma(W.shape[1] + 4) * (np.abs(W) @ np.maximum(np.abs(low), np.abs(high)))
            low, high = up @ low + down @ high - noise, up @ high + down @ low + noise
        return low, high

    def interval_upper(self, forms: Forms, signs: Signs, layer: int, later: list[Signs], norm: tuple[float, float]) -> float:
        """Upper bound of the norms of all Jacobians that the signs allow: entrywise, and neuron by neuron in the last layer."""
        low, high = self._interval_forms(forms, signs, layer, later)
        size = np.maximum(np.abs(low), np.abs(high))
        best = interval_norm(size, norm)
        if layer + 1 == len(self.widths):
            A, E = self.unscaled(forms)
            W = self.weights[-1]
            on, open_ = signs > 0, signs == 0
            fixed = W[:, on] @ A[on] + 0.5 * W[:, open_] @ A[open_]
            error = np.abs(W) @ (E + gamma(W.shape[1] + 4) * np.abs(A))
            p, q = norm
            if q == math.inf:  # row by row: |fixed| + half the sum of the open neurons' parts
                dual = {1: np.inf, 2: 2, np.inf: 1}[p]
                rows = np.linalg.norm(np.abs(fixed) + error, dual, axis=1)
                rows = rows + 0.5 * np.abs(W[:, open_]) @ np.linalg.norm(A[open_], dual, axis=1)
                rows = np.minimum(rows, np.linalg.norm(size, dual, axis=1))
                best = min(best, float(rows.max()) * (1 + gamma(W.size + self.inputs + 16)))
            elif p == 1:  # column by column
                columns = np.linalg.norm(np.abs(fixed) + error, q, axis=0)
                columns = columns + 0.5 * np.linalg.norm(W[:, open_], q, axis=0) @ np.abs(A[open_])
                columns = np.minimum(columns, np.linalg.norm(size, q, axis=0))
                best = min(best, float(columns.max()) * (1 + gamma(W.size + self.inputs + 16)))
        return best

    def interval_guess(
        self, forms: Forms, signs: Signs, layer: int, free: NDArray[np.intp], norm: tuple[float, float]
    ) -> tuple[Signs, Array]:
        """Signs of free neurons that enlarge the entry or row in which the bound is attained, and a size for each neuron."""
        A, _ = self.unscaled(forms)
        after = np.abs(self.weights[-1])
        for W in reversed(self.weights[layer + 2 : -1] if layer + 2 < len(self.weights) else []):
            after = after @ np.abs(W)
        if layer + 1 < len(self.weights) - 1:
            after = after @ np.abs(self.weights[layer + 1])
        score = after.sum(axis=0)[free] * np.abs(A[free]).sum(axis=1)
        if layer + 1 < len(self.widths):
            return np.ones(len(free), dtype=np.int8), score
        W, p, q = self.weights[-1], *norm
        on = signs > 0
        base = W[:, on] @ A[on]
        low = base + sum_of(np.minimum(0, W[:, free, None] * A[None, free]))
        high = base + sum_of(np.maximum(0, W[:, free, None] * A[None, free]))
        size = np.maximum(np.abs(low), np.abs(high))
        middle = np.where(np.abs(high) >= np.abs(low), 1.0, -1.0)
        weight = np.ones_like(size) if p == math.inf or q == 1 else size
        if q == math.inf:
            dual = {1: np.inf, 2: 2, np.inf: 1}[p]
            row = int(np.argmax(np.linalg.norm(size, dual, axis=1)))
            pull = W[row, free] * (A[free] @ (middle[row] * weight[row]))
        else:
            column = int(np.argmax(np.linalg.norm(size, q, axis=0)))
            pull = A[free, column] * ((middle[:, column] * weight[:, column]) @ W[:, free])
        return np.where(pull > 0, 1, -1).astype(np.int8), np.abs(pull) + 1e-9 * score

    # -------------------------------------------------------------------------------------------------- rational forms
    # Rows (g, h) in the coordinates x / unit, without rounding.

    def exact_rows(
        self, before: Sequence[Signs], names: list[tuple[int, int, int]], sides: Array
    ) -> list[list[Fraction]]:
        """Inequalities (layer, neuron, sign) of a cell and sides of the domain; [] if they would cost too much."""
        if self.exact_cost(max((layer for layer, _, _ in names), default=0)) > EXACT_WORK:
            return []
        rows = []
        for layer, neuron, sign in names:
            row = self._exact_forms(before, layer)[neuron] if layer else self._exact_first(neuron)
            rows.append([sign * v for v in row])
        return rows + [self._exact_side(side) for side in sides]

    def _exact_side(self, side: Array) -> list[Fraction]:
        """A side of a box or cross-polytope, s . (x - center) + radius > 0 for a vector of signs s; or 1 > 0."""
        signs = [int(s) for s in np.sign(side[:-1])]
        g = [s * Fraction(float(w)) for s, w in zip(signs, self.unit, strict=True)]
        if isinstance(self.domain, Box):
            j = next(i for i, s in enumerate(signs) if s)
            wall = self.domain.lo if signs[j] > 0 else self.domain.hi
            return [*g, -signs[j] * Fraction(float(wall[self.free[j]]))]
        if isinstance(self.domain, Ball) and any(signs):
            h = Fraction(float(self.domain.radius))
            for s, c in zip(signs, self.domain.center, strict=True):
                h -= s * Fraction(float(c))
            return [*g, h]
        return [*g, Fraction(1)]

    def _exact_first(self, neuron: int) -> list[Fraction]:
        rows, still = self.exact_first
        h = Fraction(float(self.biases[0][neuron]))
        h += sum((Fraction(float(w)) * Fraction(float(x)) for w, x in zip(rows[neuron], still, strict=True)), Fraction(0))
        return [Fraction(float(w)) for w in self.weights[0][neuron]] + [h]

    def _exact_forms(self, before: Sequence[Signs], layer: int) -> list[list[Fraction]]:
        key = bytes([layer]) + b"".join(s.tobytes() for s in before[:layer])
        if key not in self._exact:
            if layer == 0:
                found = [self._exact_first(i) for i in range(len(self.weights[0]))]
            else:
                below = self._exact_forms(before, layer - 1)
                on = np.flatnonzero(before[layer - 1] > 0)
                found = []
                for w, b in zip(self.weights[layer], self.biases[layer], strict=True):
                    row = [Fraction(0)] * self.inputs + [Fraction(float(b))]
                    for j in on:
                        if w[j]:
                            factor = Fraction(float(w[j]))
                            row = [r + factor * v for r, v in zip(row, below[j], strict=True)]
                    found.append(row)
            if len(self._exact) > 200:
                self._exact.clear()
            self._exact[key] = found
        return self._exact[key]


def sum_of(stack: Array) -> Array:
    """Sum over the neurons of a stack (out, neurons, in)."""
    return stack.sum(axis=1)


def _times(W: Array, v: Array) -> Array:
    """W @ v with 0 * inf = 0."""
    finite = np.isfinite(v)
    if finite.all():
        return W @ v
    product = W @ np.where(finite, v, 0.0)
    wild = W[:, ~finite]
    return np.where((wild > 0).any(axis=1), math.inf, np.where((wild < 0).any(axis=1), -math.inf, product))


# -------------------------------------------------------------------------------------------------------------- construction


def check_biases(biases: Sequence[Any] | None, weights: list[Array]) -> list[Array]:
    """One float64 vector for each matrix."""
    if biases is None:
        return [np.zeros(len(w)) for w in weights]
    given = list(biases)
    if len(given) != len(weights):
        raise ValueError(f"biases has {len(given)} entries for {len(weights)} matrices; give one vector or None for each")
    found = []
    for k, (bias, weight) in enumerate(zip(given, weights, strict=True)):
        if bias is None:
            found.append(np.zeros(len(weight)))
            continue
        detach = getattr(bias, "detach", None)
        vector = np.asarray(detach().cpu().double().numpy() if detach is not None else bias)
        if vector.dtype.kind not in "fiub" or vector.dtype == np.float16:
            raise TypeError(f"biases[{k}] has dtype {vector.dtype}; give real numbers of at least float32")
        vector = vector.astype(float)
        if vector.shape != (len(weight),):
            raise ValueError(f"biases[{k}] has shape {vector.shape}; weights[{k}] has {len(weight)} outputs")
        if not np.isfinite(vector).all():
            raise ValueError(f"biases[{k}] holds a NaN or an infinity; give finite entries")
        found.append(vector)
    return found


def relu_network(weights: list[Array], biases: Sequence[Any] | None, domain: Domain) -> ReluNetwork | str:
    """The network in unit coordinates, or why its numbers are out of range; errors name what does not fit."""
    vectors = check_biases(biases, weights)
    d = weights[0].shape[1]
    fixed, free = np.zeros(d), np.arange(d)
    center, radius, p = np.zeros(d), np.zeros(d), 0.0
    if isinstance(domain, Box | Ball):
        size = len(domain.lo) if isinstance(domain, Box) else len(domain.center)
        if size != d:
            raise ValueError(f"domain lives in {size} dimensions; weights[0] has {d} inputs")
        if isinstance(domain, Box):
            free = np.flatnonzero(domain.lo < domain.hi)
            fixed = domain.lo.copy()
            center = 0.5 * domain.lo + 0.5 * domain.hi
            radius = np.maximum(domain.hi - center, center - domain.lo) * (1 + 4 * EPS)
            p = math.inf
        else:
            if domain.p not in (1, 2, math.inf):
                raise ValueError(f"domain is a ball of the l_{domain.p} norm; relu_exact knows p = 1, 2 and inf")
            free = np.arange(d) if domain.radius > 0 else free[:0]
            center, radius, p = domain.center.copy(), np.full(d, domain.radius), float(domain.p if d > 1 else math.inf)
            fixed = center.copy()
        if len(free) == 0:
            raise ValueError(f"domain {domain!r} is one point, where no two points differ; give it a positive size")
    elif not isinstance(domain, WholeSpace):
        raise TypeError(f"domain must be WholeSpace(), Ball or Box; got {domain!r}")
    constant, moving = np.delete(weights[0], free, axis=1), weights[0][:, free]
    still = np.delete(fixed, free)
    center, radius = center[free], radius[free]

    # Units: powers of two just above the half-widths, or the distance of the farthest hyperplane from 0.
    if p:
        powers = np.frexp(radius if p == math.inf else radius.max(initial=0.0, keepdims=True))[1]
        powers = np.broadcast_to(powers, len(free)).astype(np.int64)
    else:
        sizes = np.abs(moving).max(axis=1)
        ratio = np.frexp(np.abs(vectors[0]))[1] - np.frexp(np.where(sizes > 0, sizes, 1.0))[1]
        useful = (sizes > 0) & (vectors[0] != 0)
        powers = np.full(len(free), int(ratio[useful].max()) if useful.any() else 0, dtype=np.int64)
    if np.ptp(powers) > RANGE or np.abs(powers).max() > 900:
        return "the sides of the domain differ, or lie from 1, by too many powers of two"
    scaled, offsets = [], []
    tops = powers
    for k, matrix in enumerate([moving, *weights[1:]]):
        mantissa, exponent = np.frexp(matrix)
        exponent = np.where(mantissa == 0, -(10**6), exponent + tops)
        last = k == len(weights) - 1
        top = exponent.max(axis=1) if not last else np.full(len(matrix), exponent.max())
        top = np.where(top <= -(10**5), 0, top)
        scaled.append(np.ldexp(mantissa, np.maximum(exponent - top[:, None], -2000)))
        mantissa, exponent = np.frexp(vectors[k])
        shift = np.where(mantissa == 0, 0, exponent - top)
        if not last and shift.max(initial=0) > RANGE:
            return "a bias exceeds its row by too many powers of two"
        offsets.append(np.ldexp(mantissa, np.maximum(shift, -2000)) if not last else np.zeros(len(matrix)))
        if k == 0:
            first_top = top
        tops = top
    unit, relative = np.ldexp(1.0, powers), np.ldexp(1.0, powers - powers.max())
    exponent = int(tops[0] - powers.max())
    still_rows = np.ldexp(constant, -first_top[:, None])
    middle = center / unit
    c0 = offsets[0] + scaled[0] @ middle + still_rows @ still
    size = np.abs(offsets[0]) + np.abs(scaled[0]) @ np.abs(middle) + np.abs(still_rows) @ np.abs(still)
    if not np.isfinite(size).all():
        return "the domain lies too far from 0 for the rows of the first matrix"
    error = np.zeros((len(moving), len(free) + 1))
    if center.any() or still.any():
        error[:, -1] = gamma(d + 4) * size
    inner = UnitDomain(p, radius / unit if p else np.ones(len(free)))
    return ReluNetwork(
        scaled, offsets, c0, error, domain, inner, center, unit, relative, free, fixed, exponent, (still_rows, still)
    )
