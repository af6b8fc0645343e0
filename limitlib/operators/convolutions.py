"""The norm of a convolution as an operator on images of a given size, not of its flattened kernel.

The upper end rests on a torus. A zero-padded convolution on n positions is a compression of the convolution on a torus that
is long enough (n + the reach of the kernel), so its norm is at most that of the torus, which is exactly the largest norm of
a small matrix, the symbol, over the torus's frequencies. With a stride s, the symbols of s aliased frequencies stand side by
side. The grid of the image itself is too short: for zero padding its largest symbol is not an upper bound.

The torus may be twisted: what comes round along some axes is multiplied by -1. On the image it meets zeros only, so every twist
gives an upper bound, from frequencies halfway between the others. A kernel that peaks at frequency zero, which an image with
zeros around it cannot have, is bounded much better so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limitlib.bounds import Bound, round_down, round_up, vector_norm
from limitlib.operators.matrices import (
    EPS,
    SLACK,
    as_float64,
    gamma,
    lanczos_top,
    operator_norm,
    power_of_two_scaled,
    unscaled,
)

MATERIALISE = 2**22, 2**32  # entries of the explicit matrix of one group, multiplications for all Gram matrices: at once
MATERIALISE_IF_WIDE = 2**24, 2**35  # the same where the torus leaves a bracket wider than one per cent
TWIST_IF_WIDER = 1.002  # upper / lower beyond which twisted tori are tried
CHUNK = 2**22  # complex numbers held at once


def conv_norm(
    weight: Any,
    input_shape: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    padding_mode: str = "zeros",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    rtol: float = 1e-4,
) -> Bound:
    """Bracket of the l2 norm of a convolution (as in torch.nn.Conv1d, 2d, 3d) on inputs of a given spatial size.

    weight: ``(outputs, inputs / groups, *kernel)``, array or tensor. input_shape: the spatial sizes, without channels.
    padding: numbers, "valid" or "same" (stride 1; an odd total pads more at the end, as torch does); padding_mode "zeros" or
    "circular". The bias plays no part. Of several groups the largest norm counts: they act on separate channels.

    Small operators are written out as matrices (relative width at most 1e-6, mostly kind "exact"), and so are larger ones, up
    to some 4000 x 4000, where the torus leaves more than one per cent. Others: the upper end is the norm on a torus, proved by
    Cholesky factorisations of s^2 I - C'C for the symbols C at all frequencies; the lower end is attained by ``witness``, an
    input of unit norm and shape ``(inputs, *input_shape)``. Both are rounded outward; kind "certified". The width is that of
    torus against image: it shrinks as the image grows. ``rtol`` bounds what is lost on top. A large circular convolution
    whose stride does not divide the image gets the upper end of stride 1, which is wide; ``source`` says so.

    A transposed convolution has the norm of its adjoint: pass its weight as it is, and its OUTPUT size as input_shape.
    Raises ValueError for shapes that do not fit, an empty output, half precision or non-finite weights, and an unknown mode.

    >>> b = conv_norm([[[1.0, 1.0]]], 100, padding_mode="circular", padding="same")
    >>> b.lower <= 2 <= b.upper, b.upper < 2.00001
    (True, True)
    """
    W = as_float64("weight", weight)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie strictly between 0 and 1; got {rtol!r}")
    job = _job(W, input_shape, stride, padding, padding_mode, dilation, groups)
    scaled, exponent = power_of_two_scaled(job.weight)
    if exponent is None:
        x = np.zeros((groups * job.inputs, *job.sizes))
        x.flat[0] = 1.0
        return Bound(0.0, 0.0, kind="exact", witness=x, source="the zero kernel")
    job = job.with_weight(scaled)
    if job.fits(*MATERIALISE):
        lower, upper, x, source = _materialised(job)
    else:
        lower, upper, x, source = _torus(job, rtol)
        if upper > 1.01 * lower and job.fits(*MATERIALISE_IF_WIDE):
            lower, upper, x, source = _materialised(job)
    return unscaled(lower, upper, exponent, 2, 2, x, source)


# -------------------------------------------------------------------------------------------------------------- geometry


@dataclass(frozen=True)
class _Job:
    """One convolution: weight (groups, outputs, inputs, taps); taps are offsets (taps, dims) of the read position."""

    weight: np.ndarray
    offsets: np.ndarray
    sizes: tuple[int, ...]
    out_sizes: tuple[int, ...]
    stride: tuple[int, ...]
    reach: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    circular: bool

    @property
    def outputs(self) -> int:
        return self.weight.shape[1]

    @property
    def inputs(self) -> int:
        return self.weight.shape[2]

    def fits(self, entries: int, work: int) -> bool:
        """Whether the explicit matrices have at most so many entries each, and their Gram matrices cost at most so much."""
        sides = self.inputs * math.prod(self.sizes), self.outputs * math.prod(self.out_sizes)
        return math.prod(sides) <= entries and len(self.weight) * math.prod(sides) * min(sides) <= work

    @property
    def repeats(self) -> int:
        """How often one output value can occur: circular padding beyond "same" computes some positions again."""
        if not self.circular:
            return 1
        axes = zip(self.out_sizes, self.stride, self.sizes, strict=True)
        return math.prod(int(np.bincount(np.arange(out) * s % n).max()) for out, s, n in axes)

    def with_weight(self, weight: np.ndarray) -> _Job:
        return _Job(weight, *(getattr(self, name) for name in list(self.__dataclass_fields__)[1:]))

    def read(self, tap: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each axis: output positions whose tap reads an input position, and that input position."""
        found = []
        for a, (n, out) in enumerate(zip(self.sizes, self.out_sizes, strict=True)):
            positions = np.arange(out) * self.stride[a] - self.before[a] + self.offsets[tap, a]
            if self.circular:
                found.append((np.arange(out), positions % n))
            else:
                inside = (positions >= 0) & (positions < n)
                found.append((np.flatnonzero(inside), positions[inside]))
        return found


def _tuple(name: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    given = (value,) * dims if np.ndim(value) == 0 else tuple(value)
    if len(given) != dims or any(isinstance(v, bool) or not isinstance(v, int | np.integer) or v < least for v in given):
        raise ValueError(f"{name} must be an integer >= {least}, or {dims} of them for this kernel; got {value!r}")
    return tuple(int(v) for v in given)


def _job(W: np.ndarray, input_shape: Any, stride: Any, padding: Any, mode: str, dilation: Any, groups: int) -> _Job:
    if W.ndim < 3:
        raise ValueError(f"weight must have shape (outputs, inputs / groups, *kernel); got {W.shape}")
    dims = W.ndim - 2
    kernel = W.shape[2:]
    sizes = _tuple("input_shape", input_shape, dims, 1)
    strides, dilations = _tuple("stride", stride, dims, 1), _tuple("dilation", dilation, dims, 1)
    if isinstance(groups, bool) or not isinstance(groups, int | np.integer) or groups < 1 or W.shape[0] % groups:
        raise ValueError(f"groups must be a positive integer that divides the {W.shape[0]} outputs; got {groups!r}")
    if mode not in ("zeros", "circular"):
        raise ValueError(f"padding_mode must be 'zeros' or 'circular'; got {mode!r}")
    reach = tuple(d * (k - 1) for d, k in zip(dilations, kernel, strict=True))
    if padding == "same":
        if any(s != 1 for s in strides):
            raise ValueError(f"padding='same' needs stride 1; got stride={stride!r}; give the padding in numbers")
        before = tuple(r // 2 for r in reach)
        after = tuple(r - b for r, b in zip(reach, before, strict=True))
    elif isinstance(padding, str):
        if padding != "valid":
            raise ValueError(f"padding must be a number, 'same' or 'valid'; got {padding!r}")
        before = after = (0,) * dims
    else:
        before = after = _tuple("padding", padding, dims, 0)
    if mode == "circular" and any(p > n for p, n in zip((*before, *after), sizes * 2, strict=True)):
        raise ValueError(f"padding {padding!r} wraps around more than once for input_shape {sizes}; use at most that size")
    room = [n + b + a - r for n, b, a, r in zip(sizes, before, after, reach, strict=True)]
    if min(room) < 1:
        raise ValueError(f"input_shape {sizes} with padding {padding!r} is smaller than the kernel; enlarge one of them")
    out_sizes = tuple((r - 1) // s + 1 for r, s in zip(room, strides, strict=True))
    offsets = np.array(list(itertools.product(*(d * np.arange(k) for d, k in zip(dilations, kernel, strict=True)))))
    weight = W.reshape(groups, W.shape[0] // groups, W.shape[1], -1)
    return _Job(weight, offsets, sizes, out_sizes, strides, reach, before, after, mode == "circular")


# ------------------------------------------------------------------------------------------------------- small: a matrix


def _materialised(job: _Job) -> tuple[float, float, np.ndarray, str]:
    groups, outputs, inputs, taps = job.weight.shape
    lower, upper, witness = -1.0, 0.0, np.zeros(0)
    for g in range(groups):
        matrix = np.zeros((outputs, *job.out_sizes, inputs, *job.sizes))
        for tap in range(taps):
            grids = np.meshgrid(*(np.arange(len(o)) for o, _ in job.read(tap)), indexing="ij")
            out = tuple(o[i] for (o, _), i in zip(job.read(tap), grids, strict=True))
            read = tuple(r[i] for (_, r), i in zip(job.read(tap), grids, strict=True))
            # Advanced indices around slices come first: the block has shape (positions, outputs, inputs).
            index: tuple[Any, ...] = (slice(None), *out, slice(None), *read)
            matrix[index] += job.weight[g, :, :, tap]
        b = operator_norm(matrix.reshape(outputs * math.prod(job.out_sizes), -1))
        upper = max(upper, b.upper)
        if b.lower > lower:
            lower = b.lower
            witness = np.zeros((groups, inputs, *job.sizes))
            witness[g] = b.witness.reshape(inputs, *job.sizes)
    if job.circular and any(r >= n for r, n in zip(job.reach, job.sizes, strict=True)):
        # Several taps meet in one entry, whose sum is rounded.
        slip = gamma(taps + 2) * job.repeats * float(np.sqrt(np.square(job.weight).sum((1, 2))).sum(-1).max())
        lower, upper = max(0.0, round_down(lower - slip)), round_up(upper + slip)
    source = f"written out as a matrix for each of {groups} group(s): Cholesky certificate above, attained below"
    return lower, upper, witness.reshape(-1, *job.sizes), source


# ---------------------------------------------------------------------------------------------------------- large: torus


def _torus(job: _Job, rtol: float) -> tuple[float, float, np.ndarray, str]:
    lengths, stride, factor = _torus_sizes(job)
    straight = (0,) * len(lengths)
    top = _largest_symbol(job, lengths, stride, straight, rtol)
    single = job.with_weight(job.weight[top.group : top.group + 1])
    x, steps = _best_image(single, top)
    lower = _attained(single, x)
    upper, best = top.upper * factor, straight
    for twist in () if job.circular else list(itertools.product((1, 0), repeat=len(lengths)))[:-1]:
        if upper > TWIST_IF_WIDER * lower:
            upper, best = min((upper, best), (_largest_symbol(job, lengths, stride, twist, rtol).upper, twist))
    upper = round_up(upper, 2)
    shape = "x".join(f"{m}{' (twisted)' if t else ''}" for m, t in zip(lengths, best, strict=True))
    source = f"norm on a torus of {shape} positions, by Cholesky certificates at all frequencies, above"
    if factor > 1:
        source += f" (times {factor:.4g}, since circular padding repeats outputs)"
    if stride != job.stride:
        source += f" (for stride {stride}, since stride {job.stride} does not divide the circle: wide)"
    witness = np.zeros((len(job.weight), job.inputs, *job.sizes))
    witness[top.group] = x / vector_norm(x.reshape(-1), 2)
    return lower, upper, witness.reshape(-1, *job.sizes), f"{source}; attained below ({steps} Lanczos steps)"


def _torus_sizes(job: _Job) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Lengths and strides of a torus on which the convolution is, up to a factor, a compression of the torus's."""
    if job.circular:
        # Where the stride does not divide the length, reading every position on the torus contains reading some.
        stride = tuple(s if n % s == 0 else 1 for n, s in zip(job.sizes, job.stride, strict=True))
        return job.sizes, stride, math.sqrt(job.repeats) * (1 + 2 * EPS) if job.repeats > 1 else 1.0
    lengths = []
    for n, s, reach, before, after in zip(job.sizes, job.stride, job.reach, job.before, job.after, strict=True):
        # No read may wrap into the image, and outputs must not coincide. Outputs that see only padding are zero anyway.
        b, a = min(before, reach), min(after, reach)
        least = n + max(b, a, b + a - reach)
        lengths.append(s * math.ceil(least / s))
    return tuple(lengths), job.stride, 1.0


@dataclass
class _Top:
    """Largest symbol: certified ``upper`` over all frequencies; group, aliased frequencies and vectors of the best one."""

    value: float = 0.0
    upper: float = 0.0
    group: int = 0
    angles: Any = None  # (aliases, dims), radians per position
    vectors: Any = None  # (inputs, aliases), complex


def _largest_symbol(
    job: _Job, lengths: tuple[int, ...], stride: tuple[int, ...], twist: tuple[int, ...], rtol: float
) -> _Top:
    top = _Top()
    taps, dims = job.offsets.shape
    # Angles, exponentials and the sum over taps err by this much in Frobenius norm.
    symbol_error = gamma(8 * taps + 40 * dims + 40) * float(np.sqrt(np.square(np.abs(job.weight).sum(-1)).sum((1, 2)).max()))
    for angles, C in _symbols(job, lengths, stride, twist):
        groups, count, outputs, width = C.shape
        wide = outputs <= width
        H = np.conj(np.swapaxes(C, -1, -2))
        G = (C @ H if wide else H @ C).reshape(groups * count, min(outputs, width), -1)
        side = G.shape[-1]
        squares = np.einsum("kii->k", G).real
        theta = _rayleigh(G)
        gram_error = gamma(8 * max(outputs, width) + 20) * float(squares.max()) + SLACK

        def improve(candidates: np.ndarray, G: np.ndarray = G, C: np.ndarray = C, angles: np.ndarray = angles) -> None:
            values, vectors = np.linalg.eigh(G[candidates])
            k = int(values[:, -1].argmax())
            value = math.sqrt(max(values[k, -1], 0.0))
            if value > top.value:
                group, frequency = divmod(int(candidates[k]), C.shape[1])
                v = vectors[k, :, -1]
                v = np.conj(C[group, frequency].T) @ v if C.shape[2] <= C.shape[3] else v
                top.value, top.group, top.angles = value, group, angles[frequency]
                top.vectors = v.reshape(job.inputs, -1)

        if theta.max() > top.value**2 * (1 - 0.1):
            improve(theta.argsort()[-4:])
        for attempt in range(60):
            s = top.value * (1 + rtol / 2 * 4 ** max(0, attempt - 2)) + 1e-12
            proof = _above_all(G, s, gram_error, side)
            if proof is not None:
                top.upper = max(top.upper, proof)
                break
            if attempt == 0:  # the search missed some frequency: look at every one
                improve(np.arange(len(G)))
    top.upper = round_up(top.upper + symbol_error, 2)
    return top


def _symbols(
    job: _Job, lengths: tuple[int, ...], stride: tuple[int, ...], twist: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Angles (k, aliases, dims) and symbols (groups, k, outputs, inputs * aliases), block by block."""
    groups, outputs, inputs, taps = job.weight.shape
    coarse = [m // s for m, s in zip(lengths, stride, strict=True)]
    aliases = np.array(list(itertools.product(*(c * np.arange(s) for c, s in zip(coarse, stride, strict=True)))))
    # A real kernel: the symbol at -f is the conjugate of that at f, so half of the last axis is enough.
    half = [*coarse[:-1], (coarse[-1] + 1) // 2 if twist[-1] else coarse[-1] // 2 + 1]
    count = math.prod(half)
    flat = job.weight.transpose(3, 0, 1, 2).reshape(taps, -1).astype(complex)
    block = max(1, CHUNK // (flat.shape[1] * len(aliases)))
    for start in range(0, count, block):
        base = np.stack(np.unravel_index(np.arange(start, min(count, start + block)), half), axis=1)
        # Frequencies in half steps, as integers modulo the length: the angles are then correct to a few roundings.
        doubled = 2 * (base[:, None, :] + aliases) + np.array(twist)
        turns = np.zeros((*doubled.shape[:2], taps))
        for axis, m in enumerate(lengths):
            turns += ((doubled[..., axis, None] * job.offsets[:, axis]) % (2 * m)) / (2 * m)
        C = np.exp(2j * np.pi * turns).reshape(-1, taps) @ flat / math.sqrt(len(aliases))
        C = C.reshape(len(base), len(aliases), groups, outputs, inputs).transpose(2, 0, 3, 4, 1)
        yield np.pi * doubled / np.array(lengths), C.reshape(groups, len(base), outputs, inputs * len(aliases))


def _rayleigh(G: np.ndarray) -> np.ndarray:
    """Rayleigh quotients of Hermitian matrices (k, r, r) after some power steps: where to look for the largest."""
    rng = np.random.default_rng(0)
    V = rng.standard_normal((1, G.shape[-1], 2)) + 1j * rng.standard_normal((1, G.shape[-1], 2))
    V = np.broadcast_to(V, (len(G), *V.shape[1:]))
    for _ in range(12):
        V = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-150)
        V = G @ V
    return np.linalg.norm(V, axis=1).max(axis=-1)


def _above_all(G: np.ndarray, s: float, gram_error: float, side: int) -> float | None:
    """A proved upper bound on the roots of all top eigenvalues, near s, if s^2 I - G passes Cholesky everywhere.

    The margin is that of matrices.py; a complex operation counts as at most eight real ones.
    """
    square = s * s
    M = -G
    np.einsum("kii->ki", M)[...] += square
    diagonal = np.einsum("kii->ki", M).real
    if not (diagonal > 0).all():
        return None
    try:
        np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        return None
    c = gamma(16 * side + 80)
    trace = float(diagonal.sum(axis=1).max()) * (1 + 2 * side * EPS)
    return round_up(math.sqrt(round_up(square + trace * c / (1 - c) + gram_error + 4 * EPS * square + SLACK, 4)), 2)


# ------------------------------------------------------------------------------------------------------------ lower end


def _apply(job: _Job, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The convolution of one group: x (inputs, *sizes) -> (outputs, *out_sizes)."""
    pad = [(0, 0), *zip(job.before, job.after, strict=True)]
    padded = np.pad(x, pad, mode="wrap" if job.circular else "constant")
    y = np.zeros((job.outputs, math.prod(job.out_sizes)))
    for tap, offset in enumerate(job.offsets):
        y += weight[:, :, tap] @ padded[(slice(None), *_window(job, offset))].reshape(job.inputs, -1)
    return y.reshape(job.outputs, *job.out_sizes)


def _adjoint(job: _Job, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    lengths = [n + b + a for n, b, a in zip(job.sizes, job.before, job.after, strict=True)]
    padded = np.zeros((job.inputs, *lengths))
    y = y.reshape(job.outputs, -1)
    for tap, offset in enumerate(job.offsets):
        padded[(slice(None), *_window(job, offset))] += (weight[:, :, tap].T @ y).reshape(job.inputs, *job.out_sizes)
    for axis, (n, b, a) in enumerate(zip(job.sizes, job.before, job.after, strict=True), start=1):
        padded = np.moveaxis(padded, axis, 0)
        core = padded[b : b + n]
        if job.circular:
            core = core.copy()
            core[n - b :] += padded[:b]
            core[:a] += padded[b + n :]
        padded = np.moveaxis(core, 0, axis)
    return padded


def _window(job: _Job, offset: np.ndarray) -> tuple[slice, ...]:
    return tuple(
        slice(int(o), int(o) + s * (out - 1) + 1, s) for o, s, out in zip(offset, job.stride, job.out_sizes, strict=True)
    )


def _best_image(job: _Job, top: _Top) -> tuple[np.ndarray, int]:
    """Lanczos on the true operator, from the torus's best wave under a window that vanishes outside the image."""
    weight = job.weight[0]
    shape = (job.inputs, *job.sizes)
    positions = np.stack(np.meshgrid(*(np.arange(n) for n in job.sizes), indexing="ij"), axis=-1)
    waves = np.exp(1j * (positions @ top.angles.T + 0.7))  # the phase keeps the real part away from zero
    start = np.einsum("ia,...a->i...", top.vectors, waves).real
    if not job.circular:
        for axis, n in enumerate(job.sizes):
            start = start * np.sin(np.pi * (np.arange(n) + 1) / (n + 1)).reshape(-1, *[1] * (len(job.sizes) - 1 - axis))
    start = start.reshape(-1) / np.abs(start).max()
    start += 1e-3 * np.random.default_rng(0).standard_normal(start.size)
    max_steps = min(60, max(4, 2**26 // start.size))

    def gram(v: np.ndarray) -> np.ndarray:
        return _adjoint(job, _apply(job, v.reshape(shape), weight), weight).reshape(-1)

    v, steps = lanczos_top(gram, start, 1e-5, max_steps)
    return v.reshape(shape), steps


def _attained(job: _Job, x: np.ndarray) -> float:
    """|C x| / |x| rounded down: a certified lower bound."""
    terms = job.inputs * len(job.offsets)
    y = np.abs(_apply(job, x, job.weight[0]))
    y = np.maximum(y - gamma(2 * terms + 4) * _apply(job, np.abs(x), np.abs(job.weight[0])), 0.0)
    above, below = float(vector_norm(y.reshape(-1), 2)), float(vector_norm(x.reshape(-1), 2))
    value = above * (1 - (y.size + 20) * EPS) / (below * (1 + (x.size + 20) * EPS))
    return max(0.0, round_down(value, 4))
