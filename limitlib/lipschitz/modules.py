"""Certificates of torch modules: one bracket for a network, and one for each of its blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.bounds import Ball, Bound, Box, Domain, Shell, WholeSpace, check_exponent, multiply_up, round_up
from limitlib.lipschitz.ascent import ascent_lower
from limitlib.lipschitz.graphs import walk_module
from limitlib.lipschitz.regions import NormShells, Region, input_region
from limitlib.lipschitz.stacks import block_map, entering_norms, find_blocks, float64_copy
from limitlib.lipschitz.torch_rules import DROPOUTS, class_name
from limitlib.lipschitz.walker import Value, Walker, plain
from limitlib.operators import jacobian_norm

if TYPE_CHECKING:
    from torch import nn

#: Attention classes whose rotations are float32 numbers whatever they are given.
SINGLE_PRECISION = ("DeepseekV2Attention", "LlamaAttention", "MistralAttention", "Qwen2Attention")
EVERYWHERE = WholeSpace()
METHODS = ("auto", "exact", "sdp", "composition")


@dataclass(frozen=True)
class BlockBound:
    """One row of an audit: a path in the model, the bracket of that block or layer, and its share of the product's logarithm.

    share_of_log is log(upper) over the sum of all these logarithms, negative where a block below 1 takes away from a product
    above 1. Where uppers are 0, these share 1 and the others have 0; likewise where some are infinite; if
    the sum is 0, all have 0.
    """

    name: str
    bound: Bound
    share_of_log: float


def lipschitz(
    module: nn.Module,
    domain: Domain = EVERYWHERE,
    *,
    norm: tuple[float, float] = (2, 2),
    method: str = "auto",
    budget: float | None = None,
    tokens: int | None = None,
    input_shape: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
) -> Bound:
    """Bracket of the Lipschitz constant of a torch module (in evaluation mode) on a domain, from its weights.

    domain: WholeSpace(); Ball or Box of flattened inputs; TokenBall(R) for token matrices; Shell(r_min, r_max, centred): inputs
    in the shell whose tokens also enter EVERY normalisation layer inside it; NormShells names a shell for each such layer. On a
    domain of tokens the norm (2, 2) is that of the whole token matrix (Frobenius). norm: (p, q), input and output exponents;
    normalisation layers and attention in (2, 2) only. method: "auto" takes, for every fully connected chain, the least of the
    product of the norms, LipSDP and, for small ReLU chains, the exact constant; "composition" products only; "sdp" and "exact"
    insist (the exact one is for fully connected ReLU networks). budget: seconds for the exact search and for the lower end,
    together (default 10). tokens: length of the token matrix, needed where tokens attend to each other. input_shape: without
    the batch axis, needed for convolutions. rng: for the search of the lower end; without it that end is 0 unless exact.

    The upper end is certified: weights are converted to float64 without loss, every step is rounded outward. ``source`` says
    what was done. The module is not changed. Raises UnsupportedLayer (a TypeError) for what has no rule, ValueError for half
    precision, NaN or inf in weights, random layers in training mode, and shapes that do not fit.

    >>> from torch import nn
    >>> lipschitz(nn.Sequential(nn.Flatten(), nn.Dropout()).eval(), input_shape=(2, 3)).upper
    1.0
    """
    p, q = _check_norm(norm)
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown: choose one of {', '.join(METHODS)}")
    if budget is not None and not budget > 0:
        raise ValueError(f"budget={budget!r} must be a positive number of seconds")
    check_module(module)
    shape = find_shape(module, domain, tokens, input_shape)
    known = NormShells({"": domain}, domain) if isinstance(domain, Shell) else domain
    seconds = 10.0 if budget is None else float(budget)
    deadline = time.monotonic() + seconds
    found: list[tuple[Bound, Walker, Value]] = []
    for r in dict.fromkeys((p, q)):
        walk = Walker(known, r, method, deadline)
        y = walk_module(walk, module, "", plain(1.0, input_region(known, shape), is_input=True))
        bound = bracket(walk, y, domain)
        if method == "exact" and bound.kind != "exact" and not (y.is_input and not y.is_plain):
            raise ValueError("method='exact' is for fully connected ReLU networks; use method='auto'")
        if p != q:
            # |y|_q <= n^(1/q - 1/p) |y|_p for q < p, else |y|_q <= |y|_p; n is the output's size, or the input's.
            n = math.prod(y.shape) if r == p else math.prod(shape)
            factor = round_up(n ** max(0.0, 1 / q - 1 / p), 8)
            bound = Bound(0.0, multiply_up(bound.upper, factor), (p, q), domain, "certified" if bound.upper else "exact")
        found.append((bound, walk, y))
    bound, walk, y = min(found, key=lambda item: item[0].upper)
    source = describe(walk, bound, known)
    if bound.kind == "exact" or rng is None:
        return replace(bound, source=source)
    return two_sided(bound, attained(module, known, shape, (p, q), rng), source, "the network")


def bracket(walk: Walker, y: Value, domain: Domain) -> Bound:
    """The bound of a whole network, two-sided where it is one chain applied to the input."""
    norm = (walk.p, walk.p)
    if y.is_input and y.is_plain:
        return Bound(1.0, 1.0, norm, domain, "exact")
    if y.is_input:
        whole = walk.chain_of(y)
        return Bound(whole.lower, whole.upper, norm, domain, whole.kind, whole.witness)
    upper = walk.settle(y).upper
    return Bound(0.0, upper, norm, domain, "exact" if upper == 0 else "certified")


def describe(walk: Walker, bound: Bound, domain: Domain) -> str:
    """What the source of a bound says."""
    parts = list(walk.reasons) if math.isinf(bound.upper) else []
    parts += list(walk.notes)
    steps = len(walk.steps)
    if steps > 1:
        parts.insert(0, f"composition of {steps} bounds along the graph")
    if isinstance(domain, NormShells):
        parts.append("inputs: tokens entering every normalisation layer lie in its shell")
    return "; ".join(parts) or "isometries only"


# ------------------------------------------------------------------------------------------------------------------ checks


def _check_norm(norm: Any) -> tuple[float, float]:
    if not isinstance(norm, tuple | list) or len(norm) != 2:
        raise ValueError(f"norm must be a pair (input, output) such as (2, 2); got {norm!r}")
    for p in norm:
        check_exponent("norm", p)
        if p not in (1, 2, math.inf):
            raise ValueError(f"norm={tuple(norm)!r}: networks are bounded for exponents 1, 2 and inf")
    return norm[0], norm[1]


def check_module(module: Any) -> None:
    """Refuse what is no module, weights that are not finite float32 or float64 numbers, and randomness."""
    import torch
    from torch import nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module; got {type(module).__name__}")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta:
            raise ValueError(f"{name} is on the meta device and holds no numbers; load the weights")
        if tensor.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"{name} is {str(tensor.dtype).removeprefix('torch.')}; convert with .float(), which loses nothing"
            )
        if tensor.is_complex() or tensor.is_quantized:
            raise ValueError(f"{name} is {tensor.dtype}; only real float32 and float64 weights are bounded")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or inf; load a sound checkpoint")
    for name, m in module.named_modules():
        random = (class_name(m) in DROPOUTS and m.p > 0) or class_name(m) == "RReLU"
        moving = hasattr(m, "running_var") or hasattr(m, "weight_u") or type(m).__name__ == "_SpectralNorm"
        if m.training and (random or moving):
            raise ValueError(f"{name or 'the module'} ({type(m).__name__}) is in training mode; call .eval() first")


def attends(module: nn.Module) -> bool:
    """Whether tokens attend to each other."""
    return any("Attention" in type(m).__name__ for m in module.modules())


def find_shape(module: nn.Module, domain: Domain, tokens: int | None, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of an input, with a batch axis of length 1 except for attention that expects tokens first."""
    first = tokens_first(module)
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int | np.integer) or tokens < 1):
        raise ValueError(f"tokens={tokens!r} must be a positive whole number")
    if input_shape is not None:
        shape = tuple(int(n) for n in input_shape)
        if not shape or min(shape) < 1:
            raise ValueError(f"input_shape={tuple(input_shape)!r} must hold positive whole numbers, without the batch axis")
        return shape if first else (1, *shape)
    inner = domain.inputs if isinstance(domain, NormShells) else domain
    width = features(module)
    if tokens is None and attends(module):
        raise ValueError("tokens is needed where tokens attend to each other: say tokens=64, the length of the sequences")
    if isinstance(inner, Ball | Box):
        size = inner.center.size if isinstance(inner, Ball) else inner.lo.size
        if tokens is not None and size % tokens == 0:
            shape = (int(tokens), size // int(tokens))
        elif width is not None and size % width == 0 and size > width:
            shape = (size // width, width)
        else:
            shape = (size,)
    elif width is None:
        raise ValueError(
            "input_shape is needed: say the shape of one input without the batch axis, such as input_shape=(3, 32, 32)"
        )
    else:
        shape = (width,) if tokens is None else (int(tokens), width)
    return shape if first else (1, *shape)


def tokens_first(module: nn.Module) -> bool:
    """Whether an attention layer takes (tokens, batch, d), so that inputs go without a batch axis."""
    return any(class_name(m) == "MultiheadAttention" and not m.batch_first for m in module.modules())


def features(module: nn.Module) -> int | None:
    """The number of features that the first layer with a fixed number takes, or None."""
    m: Any
    for m in module.modules():
        name = class_name(m)
        if name == "Ensemble":
            return m.width
        if name.startswith("Conv") and name != "Conv1D":
            return None
        for attribute in ("in_features", "embed_dim", "hidden_size"):
            if isinstance(getattr(m, attribute, None), int | np.integer):
                return int(getattr(m, attribute))
        if name == "Conv1D" and hasattr(m, "nx"):
            return int(m.nx)
        if hasattr(m, "normalized_shape"):
            return int(m.normalized_shape[-1])
        if name.endswith("RMSNorm") and hasattr(m, "weight"):
            return int(m.weight.numel())
        if name == "BatchNorm1d":
            return int(m.num_features)
    return None


# -------------------------------------------------------------------------------------------------------------- the audit


def audit(
    model: nn.Module,
    domain: Domain | Mapping[str, Domain] | Sequence[Domain] = EVERYWHERE,
    *,
    by: str = "block",
    tokens: int | None = None,
    states: Mapping[str, Any] | Sequence[Any] | None = None,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[BlockBound]:
    """A bracket, Frobenius to Frobenius, for every block of a model (``by="layer"``: for every layer in them, upper ends only).

    domain: a Shell(r_min, r_max, centred) says that the tokens entering every normalisation layer lie in it; one domain for all
    blocks, one for each by position, or a mapping from paths of blocks, or of normalisation layers in them, to Shells (the
    longest path counts). Where a block ends with a normalisation (BERT), its bounded output is the domain of the next one.
    tokens: length of the sequences; taken from the states if they are given. states: what enters each block, arrays or tensors
    (points, tokens, d), by position or by path; the lower end is the largest Jacobian norm at these points, in float64, over
    those whose tokens lie strictly inside the shells (``witness``: the token matrix and the direction). Without states: 0.
    rng: for the random starts of the lower ends, default_rng(0) if None. progress: called as (done, all, path) after each one.

    An infinite upper end has its reason in ``source``: tokens without a bound, top-k routing. Raises what
    :func:`lipschitz` raises, and ValueError for states or domains that do not fit the blocks.
    """
    if by not in ("block", "layer"):
        raise ValueError(f"by={by!r} is unknown: choose 'block' or 'layer'")
    check_module(model)
    blocks = find_blocks(model)
    domains = domains_of(domain, [name for name, _ in blocks])
    points = states_of(states, [name for name, _ in blocks])
    rng = np.random.default_rng(0) if rng is None else rng
    rows: list[tuple[str, Bound]] = []
    carried = embedded(model)
    for i, (name, block) in enumerate(blocks):
        state = points.get(name)
        shape = block_shape(block, name, carried, tokens, state, first=i == 0)
        region = input_region(domains[name], shape)
        # The tighter of what the domain says of the inputs and what the block before has left.
        if math.isfinite(known := carried.radius) and carried.shape[-1] == shape[-1]:
            region = Region(shape, min(known, region.radius), region.box, region.ball)
        walk = Walker(domains[name], 2, "auto", time.monotonic() + 10.0, separate=by == "layer")
        if region.radius < input_region(domains[name], shape).radius:
            walk.note(f"on inputs that the layers before can put out: tokens of norm at most {known:.6g}")
        y = walk_module(walk, block, name, plain(1.0, region, is_input=not math.isfinite(known)))
        if by == "layer":
            walk.settle(y)
            rows += layer_rows(walk, domains[name])
        else:
            rows.append((name, block_bound(model, name, walk, bracket(walk, y, domains[name]), state, rng)))
        carried = Region(y.shape, carried_radius(y))
        if progress is not None:
            progress(i + 1, len(blocks), name)
    shares = shares_of_log([b.upper for _, b in rows])
    return [BlockBound(name, bound, share) for (name, bound), share in zip(rows, shares, strict=True)]


def shares_of_log(uppers: Sequence[float]) -> list[float]:
    """Each upper end's part of the logarithm of their product; see :class:`BlockBound` for zeros and infinities."""
    for extreme in (0.0, math.inf):
        if extreme in uppers:
            return [1.0 / uppers.count(extreme) if u == extreme else 0.0 for u in uppers]
    logs = [math.log(u) for u in uppers]
    total = math.fsum(logs)
    return [v / total if total else 0.0 for v in logs]


def domains_of(domain: Any, names: list[str]) -> dict[str, Domain]:
    """One domain for each block."""
    if isinstance(domain, Mapping):
        wrong = [k for k, d in domain.items() if not isinstance(d, Shell)]
        if wrong:
            raise TypeError(f"domain: a mapping names Shells; {wrong[0]!r} has {domain[wrong[0]]!r}")
        # A path without its model's prefix counts for every block: "ln_1" is not accepted, since it would never match.
        stray = [
            k for k in domain if k and not any(k == n or k.startswith(n + ".") or n.startswith(k + ".") or not n for n in names)
        ]
        if stray:
            raise ValueError(f"domain: {stray[0]!r} is the path of no block; the blocks are {', '.join(names)}")
        return {n: NormShells(domain, domain.get(n, domain.get("", WholeSpace()))) for n in names}
    if isinstance(domain, Domain):
        made = NormShells({"": domain}, domain) if isinstance(domain, Shell) else domain
        return {n: made for n in names}
    if isinstance(domain, Sequence) and len(domain) == len(names):
        return {n: domains_of(d, [n])[n] for n, d in zip(names, domain, strict=True)}
    raise ValueError(
        f"domain must be a Domain, one for each of the {len(names)} blocks, or a mapping from paths to Shells; got {domain!r}"
    )


def states_of(states: Any, names: list[str]) -> dict[str, np.ndarray]:
    """States by path, as float64 arrays (points, tokens, d)."""
    if states is None:
        return {}
    if not isinstance(states, Mapping):
        if len(states) < len(names):
            raise ValueError(f"states has {len(states)} entries for {len(names)} blocks; give what enters each block")
        states = dict(zip(names, states, strict=False))
    made = {}
    for name, x in states.items():
        if name not in names:
            raise ValueError(f"states: {name!r} is no block; the blocks are {', '.join(names)}")
        array = x.detach().cpu().double().numpy() if hasattr(x, "detach") else np.asarray(x, dtype=float)
        if array.ndim != 3 or not array.size or not np.isfinite(array).all():
            raise ValueError(f"states[{name!r}] has shape {array.shape}; give finite numbers of shape (points, tokens, d)")
        made[name] = array
    return made


def block_shape(
    block: nn.Module, name: str, carried: Region, tokens: int | None, state: np.ndarray | None, *, first: bool
) -> tuple[int, ...]:
    """The shape of the block's input: from the states, else from the block before and from the first layer."""
    if state is not None:
        if tokens is not None and state.shape[1] != tokens:
            raise ValueError(f"tokens={tokens}, but the states that enter {name!r} have {state.shape[1]} tokens")
        shape = state.shape[1:]
        return shape if tokens_first(block) else (1, *shape)
    if not first and features(block) is None:
        return carried.shape
    if not first and tokens is None and not attends(block):
        return carried.shape
    return find_shape(block, WholeSpace(), tokens, None)


def carried_radius(y: Value) -> float:
    """Bound of the rows of a block's output where it comes cheaply: after a normalisation."""
    affine = y.linear_part
    source = y.chain.region.radius_of
    if affine is None or affine.matrix is not None or callable(source) or not math.isfinite(source):
        return math.inf  # a radius that is a function would cost norms of all matrices before
    size = 1.0 if affine.diagonal is None else float(np.abs(affine.diagonal).max())
    shift = 0.0 if affine.shift is None else float(np.linalg.norm(affine.shift))
    return round_up((size + affine.slack) * source + shift, 16 + y.shape[-1])


def embedded(model: nn.Module) -> Region:
    """The tokens that leave the embeddings: bounded where these end with a LayerNorm (BERT)."""
    for path, m in model.named_modules():
        if path.split(".")[-2:] == ["embeddings", "LayerNorm"] and class_name(m) == "LayerNorm":
            gain, bias = (t.detach().cpu().double().numpy() for t in (m.weight, m.bias))
            radius = math.sqrt(gain.size) * float(np.abs(gain).max()) + float(np.linalg.norm(bias))
            return Region((gain.size,), round_up(radius, 16 + gain.size))
    return Region((1,))


def layer_rows(walk: Walker, domain: Domain) -> list[tuple[str, Bound]]:
    """Upper ends by layer; the parts of one layer (a norm and its gain) are multiplied."""
    merged: dict[str, float] = {}
    for path, upper in walk.steps:
        merged[path] = multiply_up(merged.get(path, 1.0), upper)
    return [
        (path, Bound(0.0, upper, domain=domain, source="this layer on the values that reach it"))
        for path, upper in merged.items()
    ]


def block_bound(
    model: nn.Module, name: str, walk: Walker, bound: Bound, state: np.ndarray | None, rng: np.random.Generator
) -> Bound:
    """The bracket of one block, its lower end attained at the states."""
    source = describe(walk, bound, bound.domain)
    low = Bound(0.0, math.inf, source="no states given")
    if state is not None:
        low = lower_at_states(block_map(model, name), name, bound.domain, state, rng)
    return two_sided(bound, low, source, name)


def two_sided(bound: Bound, low: Bound, source: str, what: str) -> Bound:
    """The upper end of one bound and the better of two lower ends."""
    if bound.kind == "exact" or (low.lower <= bound.lower and bound.lower > 0):
        return replace(bound, source=source)
    if low.lower > bound.upper * (1 + 1e-9):
        raise AssertionError(
            f"{what}: {low.lower!r} is attained although the upper bound is {bound.upper!r}; please report this"
        )
    lower = min(low.lower, bound.upper)
    return replace(bound, lower=lower, witness=low.witness, source=f"{source}; lower end: {low.source}")


# ------------------------------------------------------------------------------------------------------------- lower ends


def attained(
    module: nn.Module, known: Domain, shape: tuple[int, ...], norm: tuple[float, float], rng: np.random.Generator
) -> Bound:
    """An attained lower end: quotients of pairs by ascent, or Jacobian norms where membership depends on the network."""
    points = shape if tokens_first(module) else shape[1:]
    tokenwise = attends(module)
    if isinstance(known, NormShells):
        if norm != (2, 2) or len(points) > 2:
            return Bound(0.0, math.inf, norm, source="none sought for this norm and shape")
        f = block_map(module, "")
        x = shell_points(known, points if len(points) == 2 else (1, *points), rng)
        found = lower_at_states(f, "", known, x, rng)
        return found
    f = block_map(module, "") if tokenwise else single_member(module)
    large = sum(p.numel() for p in module.parameters()) > 100_000
    return ascent_lower(
        f,
        known,
        restarts=4 if large else 32,
        steps=20 if large else 80,
        rng=rng,
        norm=norm,
        shape=points,
        scale=float64_scale(known),
    )


def single_member(module: nn.Module) -> Any:
    """A float64 copy of the network; of an ensemble of one member, that member."""
    twin = float64_copy(module)
    return (lambda x: twin(x)[0]) if class_name(module) == "Ensemble" else twin


def float64_scale(domain: Domain) -> float:
    """Size of starting points where the domain is unbounded."""
    return 1.0 if not isinstance(domain, Shell) else max(1.0, domain.r_min)


def shell_points(domain: NormShells, shape: tuple[int, ...], rng: np.random.Generator, n: int = 16) -> np.ndarray:
    """Token matrices (n, tokens, d) whose tokens have lengths from a little above the shells' inner radius to twice that."""
    inner = max([s.r_min for s in domain.shells.values()] + [getattr(domain.inputs, "r_min", 0.0)])
    outer = min(getattr(domain.inputs, "r_max", math.inf), getattr(domain.inputs, "R", math.inf))
    x = rng.standard_normal((n, *shape))
    x -= x.mean(axis=-1, keepdims=True) * (shape[-1] > 1)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    low = inner * 1.001 if inner > 0 else min(1.0, outer) / 2
    return x * np.minimum(low * rng.uniform(1.0, 2.0, (n, 1, 1)), 0.999 * outer)


def lower_at_states(f: Any, name: str, domain: Domain, state: np.ndarray, rng: np.random.Generator) -> Bound:
    """Largest Jacobian norm of a block over the states (points, tokens, d) that lie strictly inside the domain."""
    import torch

    x = torch.from_numpy(state)
    inside = strictly_inside(f, x, name, domain)
    if not inside.any():
        return Bound(0.0, math.inf, source=f"all {len(x)} states lie outside the domain")
    found = jacobian_norm(f, x[torch.from_numpy(inside)], rng=rng, point_dims=2).bound()
    # DeepSeek's rotations are computed in float32 whatever they are given.
    rough = any(type(m).__name__ in SINGLE_PRECISION for m in f.module.modules())
    lower = found.lower * (1 - 1e-5) if rough else found.lower
    left = "" if inside.all() else f"; {int((~inside).sum())} other states lie outside the domain"
    source = f"Jacobian norm, {found.source}{', less 1e-5 for rotations in float32' if rough else ''}{left}"
    return Bound(lower, math.inf, kind=found.kind, witness=found.witness, source=source)


def strictly_inside(f: Any, x: Any, name: str, domain: Domain) -> np.ndarray:
    """Which states (points, tokens, d) lie in the interior of the domain, shells of normalisation layers included."""
    inner = domain.inputs if isinstance(domain, NormShells) else domain
    points = x.flatten(1).numpy() if isinstance(inner, Ball | Box) else x.numpy()
    inside = (inner.inner_radius(points) > 0).reshape(len(x), -1).all(axis=1)
    if isinstance(domain, NormShells):
        for path, (lengths, centred) in entering_norms(f, x).items():
            shell = domain.shell_of(".".join(filter(None, (name, path))))
            if shell is not None:
                size = centred if shell.centred else lengths
                inside &= ((size > shell.r_min * (1 + 1e-9)) & (size < shell.r_max * (1 - 1e-9))).all(axis=1)
    return np.asarray(inside)
