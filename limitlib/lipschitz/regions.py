"""What is known of the values inside a network: the sets they lie in, and the affine maps still to be applied to them.

Everything holds for pairs of points: if x and y lie in the domain, their images lie in the region, and differences of the
images are bounded. So the sets need not be convex.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import Ball, Box, Domain, Shell, TokenBall, WholeSpace, multiply_up, round_up, vector_norm

Array = NDArray[np.float64]
EPS = float(np.finfo(float).eps)
TINY = math.ulp(0.0)


@dataclass(frozen=True, eq=False)
class NormShells(Domain):
    """Inputs whose tokens, on entering the normalisation layers of a network, lie in the shell named for that layer.

    shells: path of a layer, or of a block that holds it, or "" for every layer, -> Shell; the longest path counts.
    inputs: a condition on the inputs themselves. The set depends on the network, so it answers no membership question alone.

    >>> NormShells({"": Shell(2.0), "mlp.norm": Shell(0.5)}).shell_of("mlp.norm").r_min
    0.5
    """

    shells: Mapping[str, Shell]
    inputs: Domain = field(default_factory=WholeSpace)

    def __post_init__(self) -> None:
        for path, shell in self.shells.items():
            if not isinstance(path, str) or not isinstance(shell, Shell):
                raise TypeError(f"shells must map paths to Shell(r_min, ...); got {path!r}: {shell!r}")
        object.__setattr__(self, "shells", dict(self.shells))

    def shell_of(self, path: str) -> Shell | None:
        """The shell that counts for the layer at this path, or None."""
        fitting = [p for p in self.shells if p == "" or path == p or path.startswith(p + ".")]
        return self.shells[max(fitting, key=len)] if fitting else None

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        raise ValueError("membership in NormShells depends on the network; look at the tokens that enter its layers")

    def _key(self) -> tuple[Any, ...]:
        return (tuple(sorted(self.shells.items(), key=lambda item: item[0])), self.inputs)

    def __hash__(self) -> int:
        return hash(self._key())


# ----------------------------------------------------------------------------------------------------------------- affine


@dataclass(frozen=True, eq=False)
class Affine:
    """x -> A P diag(g) x + b on the last axis, or on the whole value flattened; ``None`` stands for the identity.

    matrix: shape (out, in), the projection already multiplied in. diagonal: shape (in,), used while there is no matrix.
    shift: shape (out,) or None. centred: inputs have mean 0, which a later matrix may use. slack: upper bound of the spectral
    norm of the rounding error in ``matrix`` or ``diagonal``. shift_error: the same for ``shift``, entry by entry.
    """

    matrix: Array | None = None
    diagonal: Array | None = None
    shift: Array | None = None
    centred: bool = False
    slack: float = 0.0
    shift_error: Array | float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether nothing is left to apply."""
        return self.matrix is None and self.diagonal is None and self.shift is None

    def then(self, W: Array, b: Array | None, wrong: float = 0.0) -> Affine:
        """First this map, then x -> W x + b, with the rounding of the product accounted for; W has error ``wrong`` already."""
        shift, error = self._moved(lambda v: W @ v, lambda v: np.abs(W) @ np.broadcast_to(v, (W.shape[1],)), W.shape[1], b)
        size = frobenius(W)
        if self.matrix is not None:
            made = W @ self.matrix
            other = frobenius(self.matrix)
            slack = size * self.slack + (W.shape[1] + 4) * EPS * size * (other + self.slack) + wrong * (other + self.slack)
            # What underflows loses at most the smallest number in each of these products.
            slack += TINY * made.size * W.shape[1] if size > 0 and other > 0 else 0.0
            return Affine(made, None, shift, False, round_up(slack, 8), error)
        made, slack = W, (size + wrong) * self.slack + wrong
        if self.diagonal is not None:
            made = W * self.diagonal
            peak = float(np.abs(self.diagonal).max(initial=0.0))
            slack += 2 * EPS * frobenius(made) + wrong * peak + (TINY * made.size if size > 0 and peak > 0 else 0.0)
        if self.centred:
            # The input has mean 0: subtracting each row's mean changes nothing and can only lower the norm.
            slack += (W.shape[1] + 8) * EPS * frobenius(made)
            made = made - made.mean(axis=1, keepdims=True)
        return Affine(made, None, shift, False, round_up(slack, 8), error)

    def scaled(self, g: Array | float, b: Array | None, wrong: float = 0.0) -> Affine:
        """First this map, then x -> g * x + b entry by entry; g a number or a vector, of relative error ``wrong`` already."""
        g = np.asarray(g, dtype=float)
        shift, error = self._moved(lambda v: g * v, lambda v: np.abs(g) * v, 1, b)
        peak = float(np.abs(g).max(initial=0.0))
        if self.matrix is not None:
            made = self.matrix * (g[:, None] if g.ndim else g)
            slack = peak * self.slack + (2 * EPS + wrong) * frobenius(made) + (TINY * made.size if peak > 0 else 0.0)
            return Affine(made, None, shift, False, round_up(slack, 8), error)
        made = g if self.diagonal is None else g * self.diagonal
        slack = wrong * float(np.abs(made).max(initial=0.0))
        if self.diagonal is not None:
            slack += peak * self.slack + 2 * EPS * float(np.abs(made).max(initial=0.0)) + (TINY if peak > 0 else 0.0)
        return Affine(None, made, shift, self.centred, round_up(slack, 8), error)

    def shifted(self, b: Array) -> Affine:
        """First this map, then x -> x + b."""
        shift, error = self._moved(lambda v: v, lambda v: v, 1, b)
        return Affine(self.matrix, self.diagonal, shift, self.centred, self.slack, error)

    def _moved(
        self, apply: Callable[[Array], Array], apply_abs: Callable[[Any], Any], terms: int, b: Array | None
    ) -> tuple[Array | None, Array | float]:
        """The new shift and the bound of its rounding error."""
        if self.shift is None:
            return b, 0.0
        moved = apply(self.shift)
        error = apply_abs(self.shift_error + (terms + 4) * EPS * np.abs(self.shift)) + np.nextafter(0, 1)
        return (moved, error) if b is None else (moved + b, error + EPS * np.abs(moved + b))

    def dense(self, d: int) -> Array:
        """The matrix, shape (out, d), materialised."""
        if self.matrix is not None:
            return self.matrix
        return np.eye(d) if self.diagonal is None else np.diag(np.broadcast_to(self.diagonal, (d,)))


def frobenius(W: Array) -> float:
    """Frobenius norm, rounded up."""
    return round_up(float(vector_norm(np.ravel(W))), 16 + W.size // 64) if W.size else 0.0


# ----------------------------------------------------------------------------------------------------------------- regions


@dataclass(frozen=True, eq=False)
class Region:
    """A set that contains a value: any of a ball, a box and a bound of every row's Euclidean norm (rows: last axis).

    shape: of the value. radius: of every row, computed when asked for. box: (lo, hi), each of the value's shape.
    ball: as a :class:`Ball` about the flattened centre; only the input of a network has one.
    """

    shape: tuple[int, ...]
    radius_of: Callable[[], float] | float = math.inf
    box: tuple[Array, Array] | None = None
    ball: Ball | None = None

    @property
    def radius(self) -> float:
        """Upper bound of the Euclidean norm of every row."""
        bounds = [self.radius_of() if callable(self.radius_of) else self.radius_of]
        if self.box is not None:
            bounds.append(float(round_up(vector_norm(np.maximum(*map(np.abs, self.box))).max(), 16 + self.shape[-1])))
        if self.ball is not None:
            rows = vector_norm(self.ball.center.reshape(-1, self.shape[-1])).max()
            stretch = self.ball.center.size ** max(0.0, 0.5 - 1 / self.ball.p)
            bounds.append(round_up(float(rows + stretch * self.ball.radius), 32 + self.shape[-1]))
        return min(bounds)

    @property
    def is_local(self) -> bool:
        """Whether anything at all is known of single entries."""
        return self.box is not None or self.ball is not None


def input_region(domain: Domain, shape: tuple[int, ...]) -> Region:
    """The region of the inputs themselves. Raises ValueError if the domain's dimension is not that of the inputs."""
    size = math.prod(shape)
    if isinstance(domain, NormShells):
        return input_region(domain.inputs, shape)
    if isinstance(domain, Shell):
        return Region(shape, math.inf if domain.centred else domain.r_max)
    if isinstance(domain, TokenBall):
        return Region(shape, domain.R)
    for name, known in (("center", getattr(domain, "center", None)), ("lo", getattr(domain, "lo", None))):
        if known is not None and known.size != size:
            raise ValueError(
                f"domain: {name} has {known.size} entries, an input of shape {shape} has {size}; "
                "give a domain of the input's size, or say input_shape="
            )
    if isinstance(domain, Ball):
        return Region(shape, ball=domain)
    if isinstance(domain, Box):
        return Region(shape, box=(domain.lo.reshape(shape), domain.hi.reshape(shape)))
    if isinstance(domain, WholeSpace):
        return Region(shape)
    raise TypeError(f"domain must be WholeSpace, Ball, Box, TokenBall, Shell or NormShells; got {domain!r}")


def affine_range(region: Region, affine: Affine, *, flat: bool) -> tuple[Array, Array] | None:
    """Entrywise range of an affine map of a region's points, outward rounded; None where nothing is known."""
    shape = (1, -1) if flat else (-1, region.shape[-1])
    d = math.prod(region.shape) if flat else region.shape[-1]
    shift = 0.0 if affine.shift is None else affine.shift
    found: list[tuple[Array, Array]] = []

    def apply(x: Array) -> Array:
        if affine.matrix is not None:
            return x @ affine.matrix.T
        return x if affine.diagonal is None else x * affine.diagonal

    def apply_abs(x: Array) -> Array:
        if affine.matrix is not None:
            return x @ np.abs(affine.matrix).T
        return x if affine.diagonal is None else x * np.abs(affine.diagonal)

    def widen(middle: Array, spread: Array, size: Array) -> None:
        spread = spread * (1 + 8 * EPS) + (d + 8) * EPS * size + affine.shift_error + np.nextafter(0, 1)
        found.append((middle - spread, middle + spread))

    def slack(rows: Array) -> Array:
        return affine.slack * vector_norm(rows)[..., None]

    if region.box is not None:
        lo, hi = (v.reshape(shape) for v in region.box)
        centre = lo / 2 + hi / 2
        half = np.maximum(hi - centre, centre - lo) * (1 + 4 * EPS)
        size = apply_abs(np.abs(centre) + half) + np.abs(shift)
        widen(apply(centre) + shift, apply_abs(half) + slack(np.abs(centre) + half), size)
    if region.ball is not None:
        centre = region.ball.center.reshape(shape)
        lengths = row_norms(affine, d, dual(region.ball.p)) * region.ball.radius
        # Rounding errors are relative to |A| |x|: entries of x are at most |centre| + radius.
        size = apply_abs(np.abs(centre) + region.ball.radius) + np.abs(shift)
        widen(apply(centre) + shift, lengths + slack(np.abs(centre) + region.ball.radius), size)
    radius = region.radius_of() if callable(region.radius_of) else region.radius_of
    if radius < math.inf and not flat:
        lengths = row_norms(affine, d, 2) * radius
        size = lengths + np.abs(shift)
        widen(np.zeros_like(lengths)[None] + shift, (lengths + affine.slack * radius)[None], size[None])
    if not found:
        return None
    lo, hi = found[0]
    for a, b in found[1:]:
        lo, hi = np.maximum(lo, a), np.minimum(hi, b)
    return lo, np.maximum(lo, hi)


def row_norms(affine: Affine, d: int, p: float) -> Array:
    """l_p norm of every row of the matrix, rounded up, shape (out,)."""
    if affine.matrix is not None:
        return vector_norm(affine.matrix, p) * (1 + (d + 16) * EPS)
    return np.ones(d) if affine.diagonal is None else np.abs(np.broadcast_to(affine.diagonal, (d,)))


def dual(p: float) -> float:
    """The exponent q with 1/p + 1/q = 1."""
    return math.inf if p == 1 else 1.0 if p == math.inf else p / (p - 1)


def product_up(values: Any) -> float:
    """Product of nonnegative numbers, rounded up; factors of 1 are exact."""
    total = 1.0
    for v in values:
        total = float(v) if total == 1.0 else total if v == 1.0 else multiply_up(total, float(v))
    return total
