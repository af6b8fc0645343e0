"""Lower bounds of Lipschitz constants by ascent: quotients of pairs of points, which need no derivative to be true.

A derivative computed at a kink may be one that the map has nowhere. What is reported is therefore always the quotient
|f(a) - f(b)| / |a - b| of two points of the domain, less an allowance for the rounding of f, or the Jacobian of a region that
certainly exists.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import Ball, Bound, Box, Domain, Shell, TokenBall, WholeSpace, check_exponent, vector_norm
from limitlib.lipschitz.piecewise import relu_network
from limitlib.lipschitz.relu_regions import Attained
from limitlib.lipschitz.semidefinite import check_weights
from limitlib.operators import operator_norm

Array = NDArray[np.float64]
ALLOWANCE = 2.0**-33  # a million ulps: share of |f(a)| + |f(b)| that the rounding of f may have added to the difference
Pull = Callable[[Array], Array]  # cotangents of the values -> cotangents of the points
Found = tuple[float, tuple[Array, Array] | None, str]
REGION_NORMS = ((2, 2), (1, 1), (1, 2), (1, math.inf), (2, math.inf), (math.inf, math.inf))
CROWD = 8  # points looked at for each pair that ascends
CLOSE = 1e-3  # distance of close pairs, as a share of the first distance
INSIDE = 1 - 1e-9  # points are pulled this far into the domain


@dataclass(frozen=True, eq=False)
class Pair:
    """Where a lower bound is attained. a, b: two points of the domain. point: their midpoint. direction: (a - b) / |a - b|."""

    a: Array
    b: Array
    point: Array
    direction: Array


def ascent_lower(
    f: Callable[[Any], Any],
    domain: Domain,
    *,
    restarts: int = 48,
    steps: int = 60,
    rng: np.random.Generator,
    norm: tuple[float, float] = (2, 2),
    shape: int | tuple[int, ...] | None = None,
    scale: float = 1.0,
    dtype: Any = "float64",
) -> Bound:
    """LOWER bound of the Lipschitz constant of ``f`` on a domain: the largest quotient of two points that a search finds.

    f: a torch module or function, or a numpy function, from points ``(n, *shape)`` to values ``(n, ...)``, point by point.
    Modules are copied to ``dtype`` and evaluation mode. domain: Ball, Box, TokenBall, Shell or WholeSpace. shape: of one point,
    needed where the domain names no dimension. norm: (p, q), of flattened points and values. restarts, steps: of the ascent.
    scale: typical size of starting points where the domain is unbounded.

    The ascent moves pairs of close points; numpy functions are differentiated by differences, which only steers it. A torch
    Sequential of Linear and ReLU layers is searched by as many walks from region to region instead, in the norms (2, 2),
    (1, q), (p, inf). Kind ``certified``, upper end inf. ``witness`` is a :class:`Pair` of points of the
    domain (in a shell, with the segment between them) whose quotient is the lower end up to rounding: for the ascent it
    is reduced by 2^-33 of the values' size over the distance, far more than float64 evaluation of a network errs, and for torch
    maps it is never above the larger slope at the two points, since differences inside a map may cancel.
    Raises ValueError or TypeError for bad shapes, norms, domains, half precision, or values that are not finite.

    >>> bound = ascent_lower(np.sin, Ball([2.0], 2.5), rng=np.random.default_rng(0))
    >>> 0.9999 < bound.lower <= 1
    True
    """
    p, q = _check(norm, restarts, steps, scale, rng)
    point_shape = _point_shape(domain, shape)
    values, exact_slopes = _values(f, dtype, point_shape)
    found = _by_regions(f, domain, (p, q), restarts, rng)
    if found is None:
        found = _by_ascent(values, exact_slopes, domain, (p, q), point_shape, restarts, steps, scale, rng)
    lower, ends, source = found
    pair = None
    if ends is not None:
        a, b = (x.reshape(point_shape) for x in ends)
        pair = Pair(a, b, 0.5 * (a + b), (a - b) / float(vector_norm((a - b).reshape(-1), 2)))
    return Bound(lower, math.inf, (p, q), domain, "certified", pair, source)


def _by_ascent(
    values: Callable[[Array], tuple[Array, Pull]],
    exact_slopes: bool,
    domain: Domain,
    norm: tuple[float, float],
    shape: tuple[int, ...],
    restarts: int,
    steps: int,
    scale: float,
    rng: np.random.Generator,
) -> Found:
    """A population of close pairs x +- reach v that moves up the gradient and along its own differences, if that gains.

    v follows the power iteration. The gradient is that of pairs ever closer, so that it sees the bends of such maps as ReLU.
    """
    p, q = norm
    x, v, h = _starts(domain, shape, CROWD * restarts, scale, rng)
    best, ends = 0.0, None

    def turned(x: Array, v: Array, reach: float) -> tuple[Array, Array, Array, Array]:
        """Midpoints in the domain, their quotients, the next directions, and the way up."""
        nonlocal best, ends
        a, b = _inside(domain, x, v, reach, shape)
        ya, pull_a = values(a)
        yb, pull_b = values(b)
        w = _dual_direction(ya - yb, q)
        ga, gb = pull_a(w), pull_b(w)
        quotient = np.where(_both_inside(domain, a, b, shape), _quotients(a, b, ya, yb, p, q), 0.0)
        if exact_slopes:  # cancellation inside the map may make a quotient too large; the slopes at its ends do not suffer
            length = vector_norm(a - b, p)
            along = np.maximum(np.sum(ga * (a - b), axis=1), np.sum(gb * (a - b), axis=1)) / np.where(length > 0, length, 1.0)
            quotient = np.minimum(quotient, np.maximum(along, 0.0))
        top = int(np.argmax(quotient))
        if quotient[top] > best:
            best, ends = float(quotient[top]), (a[top].copy(), b[top].copy())
        turn, climb = _primal_direction(ga + gb, p), ga - gb
        turn = np.where(np.abs(turn).sum(axis=1, keepdims=True) > 0, turn, v)
        size = vector_norm(climb, 2)[:, None]
        return 0.5 * (a + b), quotient, turn, climb / np.where(size > 0, size, 1.0)

    close = CLOSE * h
    for _ in range(4):
        x, value, v, _ = turned(x, v, close)
    order = np.argsort(-value)[:restarts]
    x, v, value = x[order], v[order], value[order]
    for step in range(steps):
        wide = h * CLOSE ** (step / steps)
        if step % 2 and restarts > 2:
            first, second = rng.integers(restarts, size=(2, restarts))
            moved = x + rng.uniform(-1, 1, (restarts, 1)) * (x[first] - x[second])
        else:
            moved = x + wide * turned(x, v, wide)[3]
        moved, _, way, _ = turned(moved, v, close)
        moved, gained, way, _ = turned(moved, way, close)
        better = gained > value
        x, v = np.where(better[:, None], moved, x), np.where(better[:, None], way, v)
        value = np.maximum(value, gained)
    turned(x, v, close)
    turned(x, v, 0.1 * close)
    return best, ends, f"largest quotient of {restarts} pairs after {steps} steps of ascent"


# ------------------------------------------------------------------------------------------------------------------- checks


def _check(norm: tuple[float, float], restarts: int, steps: int, scale: float, rng: Any) -> tuple[float, float]:
    if not isinstance(norm, tuple) or len(norm) != 2:
        raise ValueError(f"norm must be a pair such as (2, 2); got {norm!r}")
    for p in norm:
        check_exponent("norm", p)
    if restarts < 1 or steps < 0:
        raise ValueError(f"restarts={restarts} must be at least 1 and steps={steps} at least 0")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale={scale} must be positive and finite")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy Generator such as np.random.default_rng(0); got {rng!r}")
    return norm


def _point_shape(domain: Domain, shape: int | tuple[int, ...] | None) -> tuple[int, ...]:
    given = (shape,) if isinstance(shape, int) else None if shape is None else tuple(shape)
    if isinstance(domain, Ball | Box):
        size = len(domain.center if isinstance(domain, Ball) else domain.lo)
        if given is not None and math.prod(given) != size:
            raise ValueError(f"shape={shape} has {math.prod(given)} entries; the domain lives in {size} dimensions")
        return given or (size,)
    if not isinstance(domain, TokenBall | Shell | WholeSpace):
        raise TypeError(f"domain must be Ball, Box, TokenBall, Shell or WholeSpace; got {domain!r}")
    if given is None or not given or min(given) < 1:
        raise ValueError(f"shape={shape}: domain {domain!r} names no dimension; give the shape of one point, such as (d,)")
    if isinstance(domain, TokenBall) and len(given) < 2:
        raise ValueError(f"shape={shape}: points of TokenBall are token matrices; give (tokens, d)")
    return given


# ----------------------------------------------------------------------------------------------------------- maps and slopes

def _values(
    f: Callable[[Any], Any], dtype: Any, shape: tuple[int, ...]
) -> tuple[Callable[[Array], tuple[Array, Pull]], bool]:
    """f as a map from flat points (n, d) to flat values (n, k) and the pull-back of cotangents; whether that one is exact."""
    torch_map = _torch_values(f, dtype, shape)
    if torch_map is not None:
        return torch_map, True

    def plain(points: Array) -> Array:
        y = np.asarray(f(points.reshape(-1, *shape)), dtype=float)
        return _finite(y.reshape(len(points), -1) if y.ndim else y, points)

    def numeric(points: Array) -> tuple[Array, Pull]:
        y = plain(points)

        def pull(w: Array) -> Array:
            n, d = points.shape
            eps = 1e-6 * (1e-3 + np.abs(points).max(axis=1))
            moved = np.repeat(points[:, None], 2 * d, axis=1)
            moved[:, np.arange(d), np.arange(d)] += eps[:, None]
            moved[:, d + np.arange(d), np.arange(d)] -= eps[:, None]
            z = np.asarray(f(moved.reshape(-1, *shape)), dtype=float).reshape(n, 2 * d, -1)
            return np.nan_to_num(np.einsum("nk,ndk->nd", w, z[:, :d] - z[:, d:]) / (2 * eps[:, None]))

        return y, pull

    return numeric, False


def _finite(y: Array, points: Array) -> Array:
    if y.ndim != 2 or len(y) != len(points):
        raise ValueError(f"f maps {len(points)} points to shape {y.shape}; it must keep the first dimension, one value a point")
    if not np.isfinite(y).all():
        raise ValueError("f has values that are NaN or infinite in the domain; choose a smaller domain or a smaller scale")
    return y


def _torch_values(f: Any, dtype: Any, shape: tuple[int, ...]) -> Callable[[Array], tuple[Array, Pull]] | None:
    try:
        import torch
    except ImportError:
        return None
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if kind not in (torch.float32, torch.float64):
        raise TypeError(f"dtype={dtype!r}; give float64 or float32")
    if isinstance(f, torch.nn.Module):
        half = [n for n, w in f.named_parameters() if w.dtype in (torch.float16, torch.bfloat16)]
        if half:
            raise TypeError(f"f has the half-precision weight {half[0]!r}; convert with .float(), which is exact")
        f = copy.deepcopy(f).to("cpu", kind).eval().requires_grad_(False)
    else:
        try:
            with torch.enable_grad():
                probe = f(torch.zeros(2, *shape, dtype=kind, requires_grad=True))
        except Exception:  # a numpy function says so in many ways; real mistakes show again below
            return None
        if not isinstance(probe, torch.Tensor):
            return None

    def call(points: Array) -> tuple[Array, Pull]:
        with torch.enable_grad():
            x = torch.tensor(points, dtype=kind).reshape(-1, *shape).requires_grad_(True)
            y = f(x)
        if not isinstance(y, torch.Tensor):
            raise TypeError(f"f returns {type(y).__name__}; give a map from a tensor to a tensor")
        flat = y.reshape(len(points), -1) if y.ndim and len(y) == len(points) else y

        def pull(w: Array) -> Array:
            if not y.requires_grad:
                return np.zeros_like(points)
            (g,) = torch.autograd.grad(flat, x, torch.tensor(w, dtype=kind), allow_unused=True)
            return np.zeros_like(points) if g is None else np.nan_to_num(g.double().reshape(len(points), -1).numpy())

        return _finite(flat.detach().double().numpy(), points), pull

    return call


def _quotients(a: Array, b: Array, ya: Array, yb: Array, p: float, q: float) -> Array:
    """Quotients less the allowance for the rounding of f, of the differences and of the norms; 0 where two points coincide."""
    distance = vector_norm(a - b, p) * (1 + 2.0**-40)
    rise = vector_norm(ya - yb, q) * (1 - 2.0**-40) - ALLOWANCE * (vector_norm(ya, q) + vector_norm(yb, q))
    safe = np.where(distance > 0, distance, 1.0)
    return np.where(distance > 0, np.maximum(rise, 0.0) / safe, 0.0)


def _dual_direction(y: Array, q: float) -> Array:
    """w with w . y = |y|_q and dual norm at most 1, for each row."""
    size = vector_norm(y, q)[:, None]
    if q == 1:
        return np.sign(y)
    if q == math.inf:
        w = np.zeros_like(y)
        top = np.abs(y).argmax(axis=1)
        w[np.arange(len(y)), top] = np.sign(y[np.arange(len(y)), top])
        return w
    scaled = y / np.where(size > 0, size, 1.0)
    return np.sign(scaled) * np.abs(scaled) ** (q - 1)


def _primal_direction(g: Array, p: float) -> Array:
    """v with g . v = the dual norm of g and |v|_p = 1, for each row; 0 where g is."""
    dual = math.inf if p == 1 else 1.0 if p == math.inf else p / (p - 1)
    return _dual_direction(g, dual)


# ------------------------------------------------------------------------------------------------------------------ domains


def _starts(
    domain: Domain, shape: tuple[int, ...], restarts: int, scale: float, rng: np.random.Generator
) -> tuple[Array, Array, float]:
    """Midpoints (n, d), directions (n, d) and the first distance."""
    d = math.prod(shape)
    v = rng.standard_normal((restarts, d))
    v /= vector_norm(v, 2)[:, None]
    if isinstance(domain, Ball):
        if domain.radius == 0:
            raise ValueError(f"domain {domain!r} is one point, where no two points differ; give it a positive size")
        return domain.sample(restarts, rng), v, 0.3 * domain.radius
    if isinstance(domain, Box):
        sides = domain.hi - domain.lo
        if not sides.any():
            raise ValueError(f"domain {domain!r} is one point, where no two points differ; give it a positive size")
        return domain.sample(restarts, rng), v, 0.15 * float(sides.max())
    x = rng.standard_normal((restarts, *shape))
    if isinstance(domain, TokenBall):
        if domain.R == 0:
            raise ValueError(f"domain {domain!r} is one point, where no two points differ; give it a positive size")
        radius = domain.R * np.where(rng.random((restarts, *shape[:-1], 1)) < 0.5, 1.0, rng.random((restarts, *shape[:-1], 1)))
        x = x / vector_norm(x, 2)[..., None] * radius
        return x.reshape(restarts, d), v, 0.3 * domain.R
    if isinstance(domain, Shell):
        width = math.sqrt(shape[-1]) * scale
        top = min(domain.r_max, max(2 * domain.r_min, domain.r_min + width))
        radius = domain.r_min + (top - domain.r_min) * rng.random((restarts, *shape[:-1], 1)) ** 3
        x = x / vector_norm(x, 2)[..., None] * radius
        return x.reshape(restarts, d), v, 0.1 * (top if domain.r_min == 0 else min(top, domain.r_min))
    return x.reshape(restarts, d) * scale * rng.choice([0.1, 0.3, 1.0, 3.0, 10.0], (restarts, 1)), v, 0.5 * scale


def _inside(domain: Domain, x: Array, v: Array, reach: float, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The pairs x +- reach v, moved into the domain where they are not."""
    if isinstance(domain, Shell):  # not convex: midpoints keep so far from both walls that the segment stays between them
        reach = min(reach, (domain.r_max - domain.r_min) / 4)
        tokens = x.reshape(-1, *shape)
        mean = np.mean(tokens, axis=-1, keepdims=True) if domain.centred else 0.0
        size = vector_norm(tokens - mean, 2)[..., None]
        low, high = domain.r_min * (2 - INSIDE) + reach, domain.r_max * INSIDE - reach
        wanted = np.clip(size, low, max(low, high))
        x = (mean + (tokens - mean) * wanted / np.where(size > 0, size, 1.0)).reshape(x.shape)
    a, b = x + reach * v, x - reach * v
    if isinstance(domain, Box):
        return np.clip(a, domain.lo, domain.hi), np.clip(b, domain.lo, domain.hi)
    if isinstance(domain, Ball):
        return _pulled(domain, a), _pulled(domain, b)
    if isinstance(domain, TokenBall):
        return _shortened(domain, a, shape), _shortened(domain, b, shape)
    return a, b


def _both_inside(domain: Domain, a: Array, b: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if isinstance(domain, WholeSpace):
        return np.ones(len(a), dtype=bool)
    flat = isinstance(domain, Ball | Box)
    both = [domain.contains(x if flat else x.reshape(-1, *shape)) for x in (a, b)]
    return np.logical_and(*both).reshape(len(a), -1).all(axis=1)


def _pulled(ball: Ball, x: Array) -> Array:
    way = x - ball.center
    if ball.p == math.inf:
        return ball.center + np.clip(way, -ball.radius * INSIDE, ball.radius * INSIDE)
    size = vector_norm(way, ball.p)[:, None]
    return ball.center + way * np.minimum(1.0, ball.radius * INSIDE / np.where(size > 0, size, 1.0))


def _shortened(ball: TokenBall, x: Array, shape: tuple[int, ...]) -> Array:
    tokens = x.reshape(-1, *shape)
    size = vector_norm(tokens, 2)[..., None]
    return (tokens * np.minimum(1.0, ball.R * INSIDE / np.where(size > 0, size, 1.0))).reshape(x.shape)


# ---------------------------------------------------------------------------------------------------------- ReLU networks


def _linear_relu_chain(f: Any) -> tuple[list[Any], list[Any]] | None:
    """Weights and biases of a torch Sequential that alternates Linear and ReLU, else None."""
    try:
        from torch import nn
    except ImportError:
        return None
    if isinstance(f, nn.Linear):
        return [f.weight], [f.bias]
    if not isinstance(f, nn.Sequential):
        return None
    layers = [m for m in f.modules() if not isinstance(m, nn.Sequential | nn.Identity)]
    if len(layers) % 2 == 0 or not all(type(m) is (nn.ReLU if k % 2 else nn.Linear) for k, m in enumerate(layers)):
        return None
    return [m.weight for m in layers[::2]], [m.bias for m in layers[::2]]


def _by_regions(
    f: Any, domain: Domain, norm: tuple[float, float], walks: int, rng: np.random.Generator
) -> Found | None:
    """The largest Jacobian norm over the regions that the walks reach, with a pair in the region; None for other maps."""
    chain = _linear_relu_chain(f)
    if chain is None or not isinstance(domain, Ball | Box | WholeSpace) or norm not in REGION_NORMS:
        return None
    if isinstance(domain, Ball) and domain.p not in (1, 2, math.inf):
        return None
    network = relu_network(check_weights(chain[0]), chain[1], domain)
    if isinstance(network, str) or not network.walkable:
        return None
    attained = Attained(network, norm)
    attained.explore(network.sample(rng), math.inf, walks=walks)
    if attained.best is None:
        return None
    u, pattern = attained.best
    point, J = network.to_input(u), network.to_output(network.jacobian(pattern)[0])
    v = np.asarray(operator_norm(J, *norm).witness)
    # Half of the way to the nearest wall, of the region and of the domain.
    rows, _ = network.cell(pattern)
    slack, slope = rows[:, :-1] @ u + rows[:, -1], np.abs(rows[:, :-1] @ (v[network.free] / network.unit))
    reach = 0.5 * float((slack[slope > 0] / slope[slope > 0]).min(initial=math.inf))
    if not isinstance(domain, Box):
        reach = min(reach, 0.5 * float(domain.inner_radius(point, 2)) / float(vector_norm(v, 2)))
    elif v.any():
        room = np.minimum(point - domain.lo, domain.hi - point)[v != 0] / np.abs(v[v != 0])
        reach = min(reach, 0.5 * float(room.min()))
    reach = reach if math.isfinite(reach) else 1.0 + float(vector_norm(point, 2))
    source = f"Jacobian of a region that certainly exists, the best that {walks} walks from region to region reached"
    return math.ldexp(attained.lower, network.exponent), (point + reach * v, point - reach * v), source
