"""Propagation of a certificate through a network: every value knows its constant from the input and the set it lies in.

The rules for torch's layers and for the blocks of Hugging Face models are written with the operations of :class:`Walker`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from limitlib.bounds import Ball, Bound, Box, Domain, Shell, TokenBall, WholeSpace, multiply_up, round_up
from limitlib.lipschitz.attention import attention_bound
from limitlib.lipschitz.chains import Chain, Entrywise, affine_norm, chain_bound, matrix_norm
from limitlib.lipschitz.feedforward import gated_mlp_bound
from limitlib.lipschitz.layers import layer_bound
from limitlib.lipschitz.regions import EPS, Affine, Array, NormShells, Region, frobenius, product_up


class UnsupportedLayer(TypeError):
    """A layer, function or setting for which no rule is known; names its path in the network, what it is, and the way out."""

    def __init__(self, path: str, what: str, fix: str) -> None:
        super().__init__(f"{path or 'the network itself'}: {what}; {fix}")
        self.path, self.what, self.fix = path, what, fix


@dataclass(frozen=True, eq=False)
class Value:
    """A value inside the network: affine maps and activations, still to be applied, of a source with a known constant.

    upper: bound of the constant from the network's input to the source. chain: what is still to be applied, and the source's
    region. shape: of the value itself, with the batch axis of length 1 if there is one. is_input: the source is the input.
    paths: the layers in the chain. source: tells whether two values come from the same source.
    """

    upper: float
    chain: Chain
    shape: tuple[int, ...]
    is_input: bool = False
    paths: tuple[str, ...] = ()
    source: object = field(default_factory=object)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is left to apply."""
        return not self.chain.activations and self.chain.affines[0].is_identity

    @property
    def linear_part(self) -> Affine | None:
        """The affine map still to be applied, where there is no activation."""
        return None if self.chain.activations else self.chain.affines[0]


def plain(upper: float, region: Region, *, is_input: bool = False) -> Value:
    """A value without anything left to apply."""
    return Value(upper, Chain(region, (Affine(),), ()), region.shape, is_input)


@dataclass
class Walker:
    """One propagation: the domain, the norm, the method, and a record of every step.

    separate: every layer on its own, nothing folded. steps: (path, upper bound of that layer on the values that reach it), in
    order of evaluation. notes: what the source says. reasons: why an upper bound is infinite.
    """

    domain: Domain
    p: float = 2
    method: str = "auto"
    deadline: float = math.inf
    separate: bool = False
    steps: list[tuple[str, float]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    settled: dict[int, tuple[Value, Value]] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------ bookkeeping

    def note(self, text: str, path: str = "") -> None:
        """Something the source of the bound must say, once."""
        self.notes.setdefault(text)

    def record(self, path: str, upper: float, reason: str = "") -> float:
        """Keep the constant of one layer on its region; an infinite one keeps its reason."""
        self.steps.append((path, upper))
        if math.isinf(upper) and reason:
            self.reasons.setdefault(f"{path or 'the network'}: {reason}")
        return upper

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def shell_at(self, path: str) -> Shell | None:
        """The shell that tokens entering the normalisation layer at this path lie in."""
        return self.domain.shell_of(path) if isinstance(self.domain, NormShells) else None

    # -------------------------------------------------------------------------------------------------- the chain

    def settle(self, x: Value) -> Value:
        """Apply what is left to apply: the same value as the source of a new chain, its constant multiplied in."""
        if x.is_plain and x.shape == x.chain.region.shape:
            return x
        if id(x) not in self.settled:
            if x.is_plain:
                made = plain(x.upper, self.region(x), is_input=x.is_input)
            else:
                bound = self.chain_of(x)
                made = plain(product_up((x.upper, bound.upper)), self.region(x))
                if x.paths:
                    self.record(x.paths[0] if len(set(x.paths)) == 1 else f"{x.paths[0]} to {x.paths[-1]}", bound.upper)
            self.settled[id(x)] = (x, made)  # the key is an address: keep the object alive
        return self.settled[id(x)][1]

    def chain_of(self, x: Value) -> Bound:
        """Bracket of what is left to apply; two-sided where it is applied to the network's input itself."""
        single = x.chain.flat or one_row(x.chain.region.shape)
        domain: Domain | None = None
        if x.is_input and (isinstance(self.domain, WholeSpace) or (single and isinstance(self.domain, Ball | Box))):
            domain = self.domain
        elif x.is_input and not x.chain.flat and isinstance(self.domain, TokenBall):
            domain = Ball(np.zeros(x.chain.width_in), self.domain.R)  # each row ranges over this ball
        bound = chain_bound(x.chain, p=self.p, method=self.method, seconds=min(10.0, self.seconds_left), domain=domain)
        if x.paths:
            self.note(f"{', '.join(dict.fromkeys(x.paths))}: {bound.source}")
        return bound

    def region(self, x: Value) -> Region:
        """The set in which a value lies."""
        source = x.chain.region
        if x.is_plain:
            return self.moved_region(source, x.shape)
        box = x.chain.ranges[1]
        if box is not None and box[0].size == math.prod(x.shape):
            box = box[0].reshape(x.shape), box[1].reshape(x.shape)
        elif box is not None and box[0].shape[-1] == x.shape[-1] and not x.chain.flat:
            box = np.broadcast_to(box[0], x.shape), np.broadcast_to(box[1], x.shape)
        else:
            box = None
        return Region(x.shape, functools.partial(self.chain_radius, x), box)

    def moved_region(self, region: Region, shape: tuple[int, ...]) -> Region:
        """The same numbers under another shape; rows are known only if the last axis stayed."""
        if shape == region.shape:
            return region
        box = None if region.box is None else (region.box[0].reshape(shape), region.box[1].reshape(shape))
        if shape[-1] == region.shape[-1]:
            return Region(shape, region.radius_of, box, region.ball)
        rows = math.prod(region.shape[:-1])
        return Region(shape, lambda: round_up(region.radius * math.sqrt(rows), 4), box, region.ball)

    def chain_radius(self, x: Value) -> float:
        """Upper bound of every row's Euclidean norm, by the norms of the matrices."""
        if x.chain.flat and math.prod(x.shape) != x.shape[-1]:
            return math.inf
        if x.chain.flat:
            rows = math.prod(x.chain.region.shape[:-1])
            radius = round_up(x.chain.region.radius * math.sqrt(rows), 4)
        else:
            radius = x.chain.region.radius
        for k, (affine, d) in enumerate(zip(x.chain.affines, x.chain.widths, strict=True)):
            if math.isfinite(radius):
                width = x.chain.width_in if k == 0 else x.chain.widths[k - 1]
                shift = 0.0 if affine.shift is None else _length(np.broadcast_to(affine.shift, (d,)), affine.shift_error)
                radius = round_up(multiply_up(affine_norm(affine, width, 2), radius) + shift, 2)
            if k == len(x.chain.activations):
                return radius
            activation = x.chain.activations[k]
            low, high = activation.values()
            at_zero = max(abs(float(v)) for v in activation.values(0.0, 0.0))
            steep = max(abs(float(s)) for s in activation.slopes())
            ends = max(abs(float(low)), abs(float(high))) * math.sqrt(d)
            offset = 0.0 if at_zero <= 2e-14 else at_zero * math.sqrt(d) * (1 + 4 * EPS)
            # f(0) is 0 for most activations; its certified range is padded by 1e-14, which is added back here.
            offset = max(offset, 2e-14 * math.sqrt(d) if at_zero else 0.0)
            radius = (
                min(round_up(ends, 4), round_up(steep * radius + offset, 4)) if math.isfinite(radius) else round_up(ends, 4)
            )
        raise AssertionError("a chain has one affine map more than activations")

    def affine(self, x: Value, path: str, W: Array, b: Array | None, *, flat: bool = False, wrong: float = 0.0) -> Value:
        """x -> W x + b on the last axis, or on the whole value flattened (then the result is flat); W has error ``wrong``."""
        size = math.prod(x.shape) if flat else x.shape[-1]
        if W.shape[1] != size:
            where = "a value" if flat else "rows"
            raise ValueError(f"{path}: a matrix of shape {W.shape} meets {where} of {size} entries; check input_shape")
        if self.separate:
            x = self.settle(x)
        if not x.is_plain:
            kept = x.chain.flat == flat or one_row(x.shape if x.chain.flat else x.chain.region.shape)
            x = x if kept else self.settle(x)
        if x.is_plain:
            x = self.settle(x)
            x = replace(x, chain=replace(x.chain, flat=flat))
        last = x.chain.affines[-1]
        made = last.then(W, b, wrong)
        if made.matrix is not None and not (np.isfinite(made.matrix).all() and math.isfinite(made.slack)):
            x = self.settle(x)
            x = replace(x, chain=replace(x.chain, flat=flat))
            made = Affine().then(W, b, wrong)
        chain = Chain(x.chain.region, (*x.chain.affines[:-1], made), x.chain.activations, flat or x.chain.flat)
        shape = (*x.shape[:-1], len(W))
        if flat:
            shape = (1, len(W)) if len(x.shape) > 1 else (len(W),)
        return replace(x, chain=chain, shape=shape, paths=(*x.paths, path))

    def scale(self, x: Value, path: str, g: Array | float, b: Array | None = None, *, wrong: float = 0.0) -> Value:
        """x -> g * x + b; g and b numbers or vectors as long as a row (or as the whole value, where the chain is flat)."""
        if x.is_plain or self.separate:
            x = self.settle(x)
        d = x.chain.widths[-1]
        g = np.asarray(g, dtype=float)
        if g.ndim and g.size != d:
            g = np.broadcast_to(g, x.shape).ravel()
        if b is not None:
            b = np.broadcast_to(b, (d,) if np.size(b) in (1, d) else x.shape).ravel().astype(float)
        last = x.chain.affines[-1]
        made = last.shifted(b) if b is not None and np.all(g == 1.0) else last.scaled(g, b, wrong)
        return replace(x, chain=replace(x.chain, affines=(*x.chain.affines[:-1], made)), paths=(*x.paths, path))

    def flat(self, x: Value) -> Value:
        """The value as one row: later maps act on all entries."""
        if x.chain.flat:
            return x
        if not (x.is_plain or one_row(x.chain.region.shape)):
            x = self.settle(x)
        if x.is_plain:
            x = self.settle(x)
        return replace(x, chain=replace(x.chain, flat=True))

    def activation(self, x: Value, path: str, entry: Entrywise) -> Value:
        """An entrywise activation."""
        if entry.name == "identity":
            return x
        if not np.isfinite(entry.slopes()).all():
            raise UnsupportedLayer(
                path, f"{entry.name} has unbounded slopes", "replace it by an activation with bounded slopes"
            )
        if x.is_plain or self.separate:
            x = self.settle(x)
        chain = Chain(x.chain.region, (*x.chain.affines, Affine()), (*x.chain.activations, entry), x.chain.flat)
        return replace(x, chain=chain, paths=(*x.paths, path))

    # ------------------------------------------------------------------------------------------- single operations

    def lipschitz_layer(self, x: Value, upper: float, region: Region, path: str, reason: str = "") -> Value:
        """A layer of which only the constant and the output region are known."""
        x = self.settle(x)
        self.record(path, upper, reason)
        return plain(product_up((x.upper, upper)), region)

    def normalise(
        self, x: Value, path: str, *, kind: str, eps: float, gain: Array | None, bias: Array | None, axes: int = 1
    ) -> Value:
        """LayerNorm or RMSNorm over the last axes, on the shell that the domain names for this layer."""
        if self.p != 2:
            raise UnsupportedLayer(path, f"{kind} in the norm {self.p}", "normalisation layers are bounded in norm=(2, 2) only")
        x = self.settle(x)
        d = math.prod(x.shape[-axes:])
        centred = kind == "LayerNorm"
        shell = self.shell_at(path)
        upper = layer_bound("layer_norm" if centred else "rms_norm", domain=shell, eps=eps, d=d).upper
        if shell is None or shell.r_min == 0:
            self.note("normalisation layers on the whole space: 1/sqrt(eps)")
        elif centred and not shell.centred:
            self.note("LayerNorm on a plain shell: constant vectors stay in, so 1/sqrt(eps); use Shell(r_min, centred=True)")
        self.record(path, upper, "normalisation without eps is steep near zero: name Shell(r_min)")
        region = Region((*x.shape[:-axes], d), round_up(math.sqrt(d), 2))
        chain = Chain(region, (Affine(centred=centred),), ())
        made = Value(product_up((x.upper, upper)), chain, region.shape)
        if gain is not None or bias is not None:
            made = self.scale(made, path, 1.0 if gain is None else gain.reshape(-1), None if bias is None else bias.reshape(-1))
        return made if axes == 1 else self.reshape(made, x.shape)

    def add(self, x: Value, y: Value, sign: float = 1.0) -> Value:
        """x + y or x - y: affine maps of one source are added, otherwise the constants are."""
        if x.shape != y.shape:
            return self.add_broadcast(x, y)
        a, b = x.linear_part, y.linear_part
        same = x.source is y.source and x.chain.flat == y.chain.flat
        if same and a is not None and b is not None and x.chain.widths[-1] <= 4096:
            d = x.chain.width_in
            A, B = a.dense(d), sign * b.dense(d)
            shift: Array | None = None
            if a.shift is not None or b.shift is not None:
                total = (0.0 if a.shift is None else a.shift) + sign * (0.0 if b.shift is None else b.shift)
                shift = np.broadcast_to(total, (len(A),)).astype(float)
            slack = round_up(a.slack + b.slack + EPS * math.sqrt(A.size) * float(np.abs(A + B).max(initial=0.0)), 8)
            error = a.shift_error + b.shift_error + (0.0 if shift is None else EPS * np.abs(shift))
            made = Affine(A + B, None, shift, False, slack, error)
            return replace(x, chain=replace(x.chain, affines=(made,)))
        x, y = self.settle(x), self.settle(y)
        r, s = x.chain.region, y.chain.region
        box = None
        if r.box is not None and s.box is not None:
            lo, hi = s.box if sign > 0 else (-s.box[1], -s.box[0])
            box = np.nextafter(r.box[0] + lo, -math.inf), np.nextafter(r.box[1] + hi, math.inf)
        region = Region(x.shape, lambda: round_up(r.radius + s.radius), box)
        return plain(round_up(x.upper + y.upper), region)

    def add_broadcast(self, x: Value, y: Value) -> Value:
        """x + y with broadcasting: the constant of a value that is repeated k times grows by the k-th root for l_k norms."""
        shape = tuple(np.broadcast_shapes(x.shape, y.shape))
        return self.add(self.expand(x, shape), self.expand(y, shape))

    def expand(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Repetition along axes of length 1."""
        if x.shape == shape:
            return x
        x = self.settle(x)
        copies = math.prod(shape) // max(1, math.prod(x.shape))
        factor = 1.0 if self.p == math.inf else round_up(copies ** (1 / self.p), 2)
        box = None
        if x.chain.region.box is not None:
            box = np.broadcast_to(x.chain.region.box[0], shape), np.broadcast_to(x.chain.region.box[1], shape)
        radius: Any = x.chain.region.radius_of if x.shape[-1] == shape[-1] else math.inf
        return plain(product_up((x.upper, factor)), Region(shape, radius, box))

    def multiply(self, x: Value, y: Value, path: str) -> Value:
        """x * y entry by entry: needs the largest entry of both on the domain."""
        shape = tuple(np.broadcast_shapes(x.shape, y.shape))
        x, y = self.settle(self.expand(x, shape)), self.settle(self.expand(y, shape))
        peak_x, peak_y = peak(x.chain.region), peak(y.chain.region)
        parts = multiply_up(peak_y, x.upper), multiply_up(peak_x, y.upper)
        upper = round_up(sum(parts))
        if math.isinf(upper):
            self.record(path, upper, "a product of two unbounded values has no Lipschitz constant; bound the inputs")
        region = Region(shape, lambda: multiply_up(x.chain.region.radius, peak_y))
        return plain(upper, region)

    def concatenate(self, parts: Sequence[Value], axis: int) -> Value:
        """Values side by side: affine maps of one source are stacked, otherwise the l_p norm of the constants."""
        rank = len(parts[0].shape)
        axis %= rank
        shape = list(parts[0].shape)
        shape[axis] = sum(x.shape[axis] for x in parts)
        first = parts[0]
        same = all(x.source is first.source and not x.chain.flat for x in parts)
        if axis == rank - 1 and same and all(x.linear_part is not None for x in parts):
            d = first.chain.width_in
            stacked = np.concatenate([x.chain.affines[0].dense(d) for x in parts])
            shifts = [
                np.broadcast_to(0.0 if x.chain.affines[0].shift is None else x.chain.affines[0].shift, (x.shape[-1],))
                for x in parts
            ]
            errors = [np.broadcast_to(x.chain.affines[0].shift_error, (x.shape[-1],)) for x in parts]
            slack = round_up(math.fsum(x.chain.affines[0].slack for x in parts), 4)
            made = Affine(stacked, None, np.concatenate(shifts), False, slack, np.concatenate(errors))
            return replace(first, chain=replace(first.chain, affines=(made,)), shape=tuple(shape))
        settled = [self.settle(x) for x in parts]
        boxes = [x.chain.region.box for x in settled]
        box = None
        if all(b is not None for b in boxes):
            box = tuple(np.concatenate([b[i] for b in boxes if b is not None], axis=axis) for i in (0, 1))
        radii = [x.chain.region for x in settled]
        radius = (
            (lambda: round_up(math.hypot(*(r.radius for r in radii)), 4))
            if axis == rank - 1
            else (lambda: max(r.radius for r in radii))
        )
        return plain(self.gather([x.upper for x in settled]), Region(tuple(shape), radius, box))  # type: ignore[arg-type]

    def gather(self, uppers: Sequence[float]) -> float:
        """l_p norm of constants, rounded up."""
        top = max(uppers)
        if self.p == math.inf or top in (0.0, math.inf):
            return top
        return round_up(top * math.fsum((u / top) ** self.p for u in uppers) ** (1 / self.p), 16)

    def constant(self, c: Array | float) -> Value:
        """A value that does not depend on the input."""
        c = np.asarray(c, dtype=float)
        return plain(0.0, Region(c.shape, box=(c, c)))

    def scatter(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Entries in another order and shape, without repetition."""
        x = self.settle(x)
        return plain(x.upper, Region(shape))

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        """The same numbers in the same order under another shape."""
        if shape == x.shape:
            return x
        if x.is_plain or x.chain.flat:
            return replace(x, shape=shape)
        if shape[-1] == x.shape[-1]:
            return replace(x, shape=shape)
        if one_row(x.chain.region.shape):
            return replace(x, shape=shape, chain=replace(x.chain, flat=True))
        x = self.settle(x)
        return replace(x, shape=shape)

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        """Axes in another order: an isometry; what is still to be applied to rows may stay if rows stay rows."""
        order = [k % len(x.shape) for k in order]
        shape = tuple(x.shape[k] for k in order)
        if [k for k in order if x.shape[k] != 1] == sorted(k for k in order if x.shape[k] != 1):
            return self.reshape(x, shape)
        if not x.is_plain and not x.chain.flat and order[-1] == len(order) - 1 and x.chain.region.box is None:
            region = Region(tuple(x.chain.region.shape), x.chain.region.radius_of)
            if len(region.shape) == len(order):
                moved = tuple(region.shape[k] for k in order)
                return Value(x.upper, replace(x.chain, region=Region(moved, region.radius_of)), shape)
        x = self.settle(x)
        region = x.chain.region
        box = None if region.box is None else (region.box[0].transpose(order), region.box[1].transpose(order))
        same_rows = order[-1] == len(order) - 1
        known = region.radius_of if same_rows else math.inf
        ball = None
        if region.ball is not None:
            ball = Ball(region.ball.center.reshape(region.shape).transpose(order).ravel(), region.ball.radius, region.ball.p)
        return plain(x.upper, Region(shape, known, box, ball))

    def select(self, x: Value, index: Any, shape: tuple[int, ...]) -> Value:
        """Some of the entries: a projection. Rows of a matrix still to be applied are selected with them."""
        tail = index[-1] if isinstance(index, tuple) else None
        affine = x.linear_part
        rest_full = isinstance(index, tuple) and all(i == slice(None) for i in index[:-1])
        if rest_full and len(index) == len(x.shape) and isinstance(tail, slice) and affine is not None and not x.chain.flat:
            shift = None if affine.shift is None else np.broadcast_to(affine.shift, (x.shape[-1],))[tail]
            error = np.broadcast_to(affine.shift_error, (x.shape[-1],))[tail]
            made = Affine(affine.dense(x.chain.width_in)[tail], None, shift, False, affine.slack, error)
            return replace(x, chain=replace(x.chain, affines=(made,)), shape=shape)
        x = self.settle(x)
        region = x.chain.region
        box = None if region.box is None else (region.box[0][index].reshape(shape), region.box[1][index].reshape(shape))
        return plain(x.upper, Region(shape, region.radius_of if shape and shape[-1] <= region.shape[-1] else math.inf, box))

    # ---------------------------------------------------------------------------------------------------- attention

    def attention(
        self,
        x: Value,
        path: str,
        *,
        q: tuple[Array, Array | None],
        k: tuple[Array, Array | None],
        v: tuple[Array, Array | None],
        o: tuple[Array, Array | None] | None,
        heads: int,
        kv_heads: int | None = None,
        causal: bool = False,
        scale: float | None = None,
        rotary: bool = False,
    ) -> Value:
        """Multi-head self-attention of tokens along the last axis but one; weights (out, in) with biases."""
        if self.p != 2:
            raise UnsupportedLayer(path, f"attention in the norm {self.p}", "attention is bounded in norm=(2, 2) only")
        tokens = math.prod(x.shape[:-1])
        affine, source = x.linear_part, x
        if affine is None or x.chain.flat or (affine.matrix is not None and affine.matrix.shape[0] < affine.matrix.shape[1]):
            source = self.settle(x)
            affine = source.linear_part
        assert affine is not None
        region = source.chain.region
        parts = [affine.then(W, b) for W, b in (q, k, v)]
        values = parts[2].dense(x.shape[-1])
        radius = region.radius
        near = self.domain if source.is_input and affine.is_identity and isinstance(self.domain, Ball) else None
        domain: Domain = near if near is not None and near.p == 2 else WholeSpace() if math.isinf(radius) else TokenBall(radius)
        bound = attention_bound(
            parts[0].matrix, parts[1].matrix, parts[2].matrix, None if o is None else o[0], domain,
            heads=heads, kv_heads=kv_heads, causal=causal, scale=scale, tokens=tokens,
            bq=parts[0].shift, bk=parts[1].shift, bv=parts[2].shift, rotary=rotary,
        )  # fmt: skip
        upper = bound.upper
        if math.isfinite(upper) and (wrong := _relative_error(parts)):
            # The folded matrices carry rounding errors. The bound is at most this polynomial with positive coefficients in
            # Frobenius norms and lengths of biases, of degree 5, so the errors add at most 6 times their relative size of it.
            # The largest weight p is no polynomial of the logits; its logarithm moves by 2 (1 - p) <= 2 (n - 1) exp(-2 logit)
            # times what they move by, so by some 2 log n times their relative error: the factor 8 leaves room for it.
            size = [frobenius(part.dense(x.shape[-1])) for part in parts]
            logit = multiply_up(size[0] * radius + _length(parts[0].shift), size[1]) * (1.0 if scale is None else abs(scale))
            crude = product_up([size[2] * radius + _length(parts[2].shift) + size[2], 1.0 if o is None else frobenius(o[0])])
            crude *= 1 + math.sqrt(tokens) * (1 + 4 * (1 + radius) * (1 + logit))
            upper = round_up(upper + 8 * wrong * crude, 4)
        self.record(path, upper, bound.source)
        shape = (*x.shape[:-1], len(values) if o is None else len(o[0]))

        def out_radius() -> float:
            value = round_up(multiply_up(matrix_norm(values, 2), radius) + _length(parts[2].shift), 4)
            groups = 1 if kv_heads in (None, heads) else heads // int(kv_heads or 1)
            value = round_up(value * math.sqrt(heads), 4) if groups else value
            return value if o is None else round_up(multiply_up(matrix_norm(o[0], 2), value) + _length(o[1]), 4)

        return plain(product_up((source.upper, upper)), Region(shape, out_radius))

    def gated(
        self, x: Value, path: str, *, gate: tuple[Array, Array | None], up: tuple[Array, Array | None],
        down: tuple[Array, Array | None], activation: Entrywise,
    ) -> Value:  # fmt: skip
        """x -> Wd (act(Wg x) * Wu x), row by row."""
        affine, source = x.linear_part, x
        if affine is None or x.chain.flat:
            source = self.settle(x)
            affine = source.linear_part
        assert affine is not None
        radius = source.chain.region.radius
        g, u = affine.then(*gate), affine.then(*up)
        bound = gated_mlp_bound(
            g.matrix, u.matrix, down[0], radius, activation.name, bg=g.shift, bu=u.shift, bd=down[1], **dict(activation.params)
        )
        upper = bound.upper
        if math.isfinite(upper) and (wrong := _relative_error([g, u])):
            # As in attention: a polynomial of degree 4 in the sizes of the three matrices and of their inputs.
            sizes = [frobenius(part.matrix) * (1 + radius) + _length(part.shift) for part in (g, u) if part.matrix is not None]
            upper = round_up(upper + 8 * wrong * 4 * product_up([*sizes, frobenius(down[0]), 2.0]), 4)
        self.record(path, upper, bound.source)
        shape = (*x.shape[:-1], len(down[0]))

        def out_radius() -> float:
            if math.isinf(radius):
                return math.inf
            sizes = [
                round_up(multiply_up(affine_norm(part, x.shape[-1], 2), radius) + _length(part.shift), 4) for part in (g, u)
            ]
            steep = max(abs(float(s)) for s in activation.slopes())
            return round_up(product_up([matrix_norm(down[0], 2), steep, *sizes]) + _length(down[1]), 4)

        return plain(product_up((source.upper, upper)), Region(shape, out_radius))


def one_row(shape: tuple[int, ...]) -> bool:
    """Whether a value has only one row, so that acting on rows is acting on all of it."""
    return math.prod(shape) == shape[-1]


def _relative_error(parts: Sequence[Affine]) -> float:
    """Largest rounding error of folded matrices and shifts, relative to the Frobenius norm or the length."""
    found = [0.0]
    for part in parts:
        size = 0.0 if part.matrix is None else frobenius(part.matrix)
        found.append(part.slack / size if size else 0.0)
        length = _length(part.shift)
        found.append(
            float(np.linalg.norm(np.broadcast_to(part.shift_error, (len(part.shift),)))) / length
            if length and part.shift is not None
            else 0.0
        )
    return max(found)


def _length(b: Array | None, error: Array | float = 0.0) -> float:
    return 0.0 if b is None else round_up(float(np.linalg.norm(np.abs(b) + error)), 8 + b.size // 16)


def peak(region: Region) -> float:
    """Upper bound of the largest entry."""
    box = math.inf if region.box is None else float(max(np.abs(region.box[0]).max(), np.abs(region.box[1]).max()))
    return min(box, region.radius)
