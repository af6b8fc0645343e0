"""Fully connected chains A_m a(... a(A_0 x + b_0) ...) + b_m: the sharpest upper bound that is worth its price.

A chain acts on the last axis of a value, or on the whole value flattened; its constant is the same for one row as for many.
Difference quotients of an activation lie between its least and largest slope, so every pair of images differs by a product of
the matrices with diagonal matrices of such slopes between them; each bound below holds for all of these products.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limitlib.bounds import Bound, Domain, WholeSpace, round_up
from limitlib.lipschitz.activations import slope_range, value_range
from limitlib.lipschitz.regions import EPS, Affine, Array, Region, affine_range, frobenius, product_up
from limitlib.lipschitz.relu_regions import relu_exact
from limitlib.lipschitz.semidefinite import sdp_upper
from limitlib.operators import operator_norm

#: Largest width at which the automatic choice sets up LipSDP, and at which Jacobians are enclosed entry by entry.
SDP_WIDTH, INTERVAL_WIDTH = 160, 512
#: Largest width at which a diagonal map is written out as a matrix.
DENSE_WIDTH = 2048
#: Largest number of hidden units for which the automatic choice enumerates the regions of a ReLU chain.
EXACT_UNITS = 20


@dataclass(frozen=True)
class Entrywise:
    """An activation function by its name and parameters (those of :func:`~limitlib.lipschitz.slope_range`)."""

    name: str
    params: tuple[tuple[str, Any], ...] = ()

    def slopes(self, lo: Array | float = -math.inf, hi: Array | float = math.inf) -> tuple[Array, Array]:
        """Certified least and largest difference quotient on intervals, by default on the whole line."""
        return slope_range(self.name, lo, hi, **dict(self.params))

    def values(self, lo: Array | float = -math.inf, hi: Array | float = math.inf) -> tuple[Array, Array]:
        """Certified least and largest value on intervals, by default on the whole line."""
        return value_range(self.name, lo, hi, **dict(self.params))


@dataclass(frozen=True, eq=False)
class Chain:
    """Affine maps with activations between them, still to be applied to points of a region."""

    region: Region
    affines: tuple[Affine, ...]
    activations: tuple[Entrywise, ...]
    flat: bool = False

    @property
    def width_in(self) -> int:
        """Number of entries of a row on which the chain acts."""
        return math.prod(self.region.shape) if self.flat else self.region.shape[-1]

    @functools.cached_property
    def widths(self) -> list[int]:
        """Number of entries of a row after each affine map."""
        found, d = [], self.width_in
        for affine in self.affines:
            d = d if affine.matrix is None else len(affine.matrix)
            found.append(d)
        return found

    @functools.cached_property
    def ranges(self) -> tuple[list[tuple[Array, Array] | None], tuple[Array, Array] | None]:
        """Slopes of every activation on the region (None: those of the whole line), and the range of the output."""
        slopes: list[tuple[Array, Array] | None] = []
        box = affine_range(self.region, self.affines[0], flat=self.flat)
        for activation, affine, d in zip(self.activations, self.affines[1:], self.widths, strict=False):
            if box is None:
                slopes.append(None)
                ends = activation.values()
                if not np.isfinite(ends).all():
                    continue
                box = np.full((1, d), ends[0]), np.full((1, d), ends[1])
            else:
                least, largest = activation.slopes(*box)
                slopes.append((least.min(axis=0), largest.max(axis=0)))
                box = activation.values(*box)
            box = affine_range(Region(box[0].shape, box=box), affine, flat=False)
        return slopes, box


def matrix_norm(A: Array, p: float) -> float:
    """Certified upper end of the norm l_p -> l_p; 0 for a matrix without rows or columns."""
    return operator_norm(A, p).upper if A.size else 0.0


def affine_norm(affine: Affine, d: int, p: float) -> float:
    """Upper bound of the norm of the linear part on rows of length d."""
    if affine.matrix is None:
        peak = 1.0 if affine.diagonal is None else float(np.abs(affine.diagonal).max(initial=0.0))
        return round_up(peak + affine.slack) if affine.slack else peak
    slack = _in_norm(affine.slack, affine.matrix.shape, p)
    norm = matrix_norm(affine.matrix, p)
    return round_up(norm + slack, 2) if slack else norm


def _in_norm(slack: float, shape: tuple[int, ...], p: float) -> float:
    """A spectral norm turned into a bound of the l_p -> l_p norm."""
    return slack if p == 2 else slack * math.sqrt(max(shape)) * (1 + 4 * EPS)


def chain_bound(
    chain: Chain,
    *,
    p: float = 2,
    method: str = "auto",
    seconds: float = 10.0,
    domain: Domain | None = None,
) -> Bound:
    """Bracket of the chain's constant l_p -> l_p on its region; ``source`` says which bound is the sharpest and what was tried.

    domain: given where the chain is applied to the network's input itself, so that the lower end counts and a local search is
    possible. method: "auto", "composition" (products of norms only), "sdp" or "exact".
    """
    slopes, _ = chain.ranges
    known = [a.slopes() if s is None else s for a, s in zip(chain.activations, slopes, strict=True)]
    if not chain.activations:
        return _linear(chain, p, domain)
    if any(not np.any(t) for t in map(_largest, known)):
        return Bound(0.0, 0.0, (p, p), WholeSpace(), "exact", None, "constant: an activation has slope 0 on the whole region")
    unmade = [d for affine, d in zip(chain.affines, chain.widths, strict=True) if affine.matrix is None]
    if len(unmade) == len(chain.affines) or max(unmade, default=0) > DENSE_WIDTH:
        return Bound(0.0, _entrywise(chain, known, p), (p, p), WholeSpace(), "certified", None, "product of norms and slopes")
    pieces = _compressed(chain, known)
    found = [(_product(pieces, p), "product of norms")]
    local = any(s is not None for s in slopes)
    width = max(max(W.shape) for W in pieces.matrices)
    if width <= INTERVAL_WIDTH and (local or p != 2):
        found.append((_interval(pieces, p), "enclosure of the Jacobians"))
    bound = Bound(0.0, min(found)[0], (p, p), WholeSpace(), "certified", None, min(found)[1])
    relu = all(a.name == "relu" for a in chain.activations) and not any(a.slack for a in chain.affines)
    units = sum(len(W) for W in pieces.matrices[:-1])
    if method == "exact" or (method == "auto" and relu and units <= EXACT_UNITS and p in (1, 2, math.inf)):
        bound = _tighter(bound, _exact(chain, p, seconds, domain, relu))
    if bound.kind != "exact" and p == 2 and (method == "sdp" or (method == "auto" and width <= SDP_WIDTH)):
        bound = _tighter(bound, _semidefinite(pieces, known))
    return bound


def _tighter(a: Bound, b: Bound) -> Bound:
    """The intersection of two brackets, with the source of the smaller upper end."""
    if b.kind == "exact":
        return dataclasses.replace(b, upper=max(b.lower, min(a.upper, b.upper)))
    best = b if b.upper < a.upper else a
    witness = a.witness if a.lower >= b.lower else b.witness
    return Bound(min(max(a.lower, b.lower), best.upper), best.upper, a.norm, a.domain, best.kind, witness, best.source)


def _linear(chain: Chain, p: float, domain: Domain | None) -> Bound:
    affine = chain.affines[0]
    if affine.matrix is None or domain is None or affine.slack:
        upper = affine_norm(affine, chain.width_in, p)
        lower = upper if domain is not None and not affine.slack and not affine.centred else 0.0
        return Bound(lower, upper, (p, p), WholeSpace(), "exact" if lower == upper else "certified", None, "norm of one matrix")
    norm = operator_norm(affine.matrix, p)
    return Bound(norm.lower, norm.upper, (p, p), WholeSpace(), norm.kind, norm.witness, f"linear: {norm.source}")


# ------------------------------------------------------------------------------------------------------- what all share


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Matrices with the dead units removed, per-unit slopes (least, largest) between them, and all rounding so far."""

    matrices: list[Array]
    least: list[Array]
    largest: list[Array]
    slack: list[float]


def _largest(slopes: tuple[Array | float, Array | float]) -> Array:
    return np.maximum(np.abs(slopes[0]), np.abs(slopes[1]))


def _compressed(chain: Chain, slopes: Sequence[tuple[Array | float, Array | float]]) -> _Pieces:
    matrices = []
    d = chain.width_in
    for affine in chain.affines:
        matrices.append(affine.dense(d))
        d = len(matrices[-1])
    least, largest = [], []
    for k, (a, b) in enumerate(slopes):
        n = len(matrices[k])
        a, b = np.broadcast_to(a, (n,)).astype(float), np.broadcast_to(b, (n,)).astype(float)
        alive = np.flatnonzero((a != 0) | (b != 0))
        matrices[k], matrices[k + 1] = matrices[k][alive], matrices[k + 1][:, alive]
        least.append(a[alive])
        largest.append(b[alive])
    return _Pieces(matrices, least, largest, [a.slack for a in chain.affines])


def _entrywise(chain: Chain, slopes: Sequence[tuple[Array | float, Array | float]], p: float) -> float:
    """Product of the norms and of the largest slopes, without writing diagonal maps out as matrices."""
    widths = [chain.width_in, *chain.widths]
    norms = [affine_norm(affine, d, p) for affine, d in zip(chain.affines, widths, strict=False)]
    return product_up([*norms, *(float(_largest(s).max(initial=0.0)) for s in slopes)])


def _product(pieces: _Pieces, p: float) -> float:
    norms = [_with_slack(matrix_norm(pieces.matrices[0], p), pieces.slack[0], pieces.matrices[0].shape, p)]
    for W, a, b, slack in zip(pieces.matrices[1:], pieces.least, pieces.largest, pieces.slack[1:], strict=True):
        t = _largest((a, b))
        peak = float(t.max(initial=0.0))
        if t.size and t.min() < 0.9 * peak:
            scaled = W * t
            extra = 2 * EPS * frobenius(scaled) + slack * peak
            norms.append(_with_slack(matrix_norm(scaled, p), extra, W.shape, p))
        else:
            norms += [peak, _with_slack(matrix_norm(W, p), slack, W.shape, p)]
    return product_up(norms)


def _with_slack(norm: float, slack: float, shape: tuple[int, ...], p: float) -> float:
    return norm if slack == 0.0 else round_up(norm + _in_norm(slack, shape, p), 2)


def _interval(pieces: _Pieces, p: float) -> float:
    """Norm of an entrywise enclosure M +- E of all products; it shrinks to the Jacobian's norm with the region."""
    first = pieces.matrices[0]
    M, E = first, np.full(first.shape, pieces.slack[0])
    for W, a, b, slack in zip(pieces.matrices[1:], pieces.least, pieces.largest, pieces.slack[1:], strict=True):
        m = (a / 2 + b / 2)[:, None]
        r = (np.maximum(b - m[:, 0], m[:, 0] - a) * (1 + 4 * EPS))[:, None]
        middle = m * M
        size = np.abs(W) @ (np.abs(middle) + (np.abs(m) + r) * E + r * np.abs(M))
        spread = np.abs(W) @ ((np.abs(m) + r) * E + r * np.abs(M))
        reach = slack * np.abs((np.abs(m) + r) * (np.abs(M) + E)).sum(axis=0, keepdims=True)
        M = W @ middle
        E = (spread + reach) * (1 + 8 * EPS) + (W.shape[1] + 16) * EPS * size + np.nextafter(0, 1)
    if p in (1, math.inf):
        return matrix_norm(np.abs(M) + E, p) * (1 + 2 * EPS)
    return round_up(matrix_norm(M, p) + matrix_norm(E, p))


def _semidefinite(pieces: _Pieces, slopes: Sequence[tuple[Array | float, Array | float]]) -> Bound:
    """LipSDP-Neuron after every unit's largest slope has been moved into the next matrix, so that all share one sector."""
    matrices, ratio, slack = [pieces.matrices[0]], [], list(pieces.slack)
    for k, (a, b) in enumerate(zip(pieces.least, pieces.largest, strict=True)):
        t = _largest((a, b))
        ratio += [float((a / t).min()), float((b / t).max())] if t.size else []
        W = pieces.matrices[k + 1]
        if np.all(t == 1.0):
            matrices.append(W)
        else:
            matrices.append(W * t)
            slack[k + 1] = slack[k + 1] * float(t.max(initial=0.0)) + 2 * EPS * frobenius(matrices[-1])
    low, high = min(ratio), max(ratio)
    sector = (max(-1.0, math.nextafter(low, -math.inf)) if low not in (0.0, 1.0) else low, min(1.0, math.nextafter(high, 2.0)))
    bound = sdp_upper(matrices, slopes=sector)
    size = [frobenius(W) for W in matrices]
    # All products of |W_k| + slack_k less the product of |W_k|: what the roundings above can add to the norm.
    extra = 0.0
    if any(slack) and all(size):
        extra = product_up(size) * math.expm1(math.fsum(math.log1p(s / n) for s, n in zip(slack, size, strict=True)))
    elif any(slack):
        extra = product_up(n + s for n, s in zip(size, slack, strict=True))
    upper = round_up(bound.upper + extra * (1 + 1e-6), 2) if extra else bound.upper
    return Bound(0.0, upper, (2, 2), WholeSpace(), "certified", None, f"LipSDP-Neuron ({bound.source})")


def _exact(chain: Chain, p: float, seconds: float, domain: Domain | None, relu: bool) -> Bound:
    if not relu:
        raise ValueError("method='exact' needs a fully connected ReLU network without folded layers; use method='auto'")
    weights, biases, d = [], [], chain.width_in
    for affine in chain.affines:
        weights.append(affine.dense(d))
        d = len(weights[-1])
        biases.append(np.zeros(d) if affine.shift is None else np.broadcast_to(affine.shift, (d,)).astype(float))
    bound = relu_exact(weights, biases, WholeSpace() if domain is None else domain, norm=(p, p), max_seconds=seconds)
    if domain is not None:
        return bound
    return Bound(0.0, bound.upper, (p, p), WholeSpace(), "certified", None, bound.source)
