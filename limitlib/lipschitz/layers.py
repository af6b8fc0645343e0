"""Constants of the standard layers, each with the reason for its upper end and the point that attains its lower one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from limitlib.bounds import (
    Ball,
    Bound,
    Box,
    Domain,
    Shell,
    TokenBall,
    WholeSpace,
    round_down,
    round_up,
    vector_norm,
)
from limitlib.lipschitz.activations import ACTIVATIONS, PAD, activation, canonical, slope_range
from limitlib.lipschitz.pooling import (
    Array,
    Norm,
    adaptive_avg_pool,
    avg_pool,
    bracket,
    global_avg_pool,
    max_pool,
    nonnegative,
    sizes_of,
    whole_number,
)
from limitlib.operators import operator_norm
from limitlib.operators.matrices import as_float64


def layer_bound(name: str, *, domain: Domain | None = None, norm: Norm = (2, 2), **params: Any) -> Bound:
    """Bracket of the Lipschitz constant of one standard layer on a domain (the whole space unless one is named).

    name: one of the words that the error for an unknown word lists; spelling and parameters follow torch's functions.

    * activations (``slope_range`` gives the slopes; on a Ball, Box or TokenBall only the slopes that occur there count);
      any norm ``(p, q)`` with ``q >= p``. All other layers: ``(2, 2)``.
    * ``rms_norm(weight, eps, d)``, ``layer_norm(weight, eps, d)``: ``1/sqrt(eps)`` times the gain on the whole space, attained
      at 0 and at constant vectors; on ``Shell(r_min)``, for layer_norm ``Shell(r_min, centred=True)``, the gain over
      ``sqrt(r_min^2 / d + eps)``. A plain Shell holds constant vectors, so it helps layer_norm nothing.
    * ``batch_norm(weight, running_var, eps)`` in evaluation mode, ``group_norm(num_groups, num_channels, weight, eps, size)``,
      ``instance_norm(num_channels, weight, eps, size)``, ``normalize(eps)`` (division by the larger of norm and eps).
    * ``softmax(d, temperature)``: 1/2. ``log_softmax(d)``: ``sqrt(d)``.
    * ``max_pool(kernel_size, stride, padding, dilation, input_size, ceil_mode)``: the root of the largest number of windows
      that share an entry, counted at the borders if ``input_size`` is given. ``avg_pool(kernel_size, stride, padding,
      input_size, ceil_mode, count_include_pad)``, ``adaptive_avg_pool(output_size, input_size)``,
      ``global_avg_pool(input_size)``.
    * ``embedding(weight, on="span")``: the operator norm on all of space; ``on="tokens"``: the constant on one-hot rows, the
      largest distance of two rows over the square root of 2.
    * ``dropout``, ``flatten``, ``identity``, ``zero_pad``: 1.

    Gains and variances may be tensors; biases do not matter. layer_norm without ``d`` and gains means two or more features, and
    softmax two or more entries. A ball of radius 0 stands for its limit. The kind is "exact" where both ends agree, else
    "certified". Raises ValueError for an unknown name or impossible values, TypeError for unknown parameters.
    Sources: Kim et al. 2021 (normalisation), Gao and Pavel 2017 (softmax); proofs in the private functions.

    >>> layer_bound("max_pool", kernel_size=3, stride=1).upper, layer_bound("softmax").upper
    (3.0, 0.5)
    """
    space = WholeSpace() if domain is None else domain
    if not isinstance(space, Domain):
        raise TypeError(f"domain must be a Domain such as WholeSpace() or Shell(r_min); got {domain!r}")
    word = canonical(name)
    word = _SPELLINGS.get(word.replace("_", "").rstrip("123").removesuffix("d").rstrip("123"), word)
    if word in ACTIVATIONS:
        return _pointwise(word, space, norm, params)
    if word not in _LAYERS:
        raise ValueError(f"name={name!r} is no known layer; known: {', '.join(sorted({*_LAYERS, *ACTIVATIONS}))}")
    if norm != (2, 2):
        raise ValueError(f"norm={norm!r}: {word} is bounded in the Euclidean norms only; use (2, 2)")
    rule = _LAYERS[word]
    try:
        inspect.signature(rule).bind(space, **params)
    except TypeError as error:
        raise TypeError(f"{word}: {error}; parameters: {', '.join(list(inspect.signature(rule).parameters)[1:])}") from None
    return rule(space, **params)


# -------------------------------------------------------------------------------------------------------- pointwise layers


def _pointwise(word: str, domain: Domain, norm: Norm, params: dict[str, Any]) -> Bound:
    """A diagonal Jacobian has norm max |slope| from l_p to l_q for q >= p, attained along one coordinate."""
    p, q = norm
    if isinstance(p, str) or isinstance(q, str) or not q >= p:
        raise ValueError(f"norm={norm!r}: pointwise layers need numbers p <= q; use (2, 2)")
    outer, inner = _intervals(domain)
    steepest = _steepest(word, *outer, params)
    lower = 0.0
    if inner is not None:
        reached = _steepest(word, *inner, params)
        # The padding of slope_range is at most PAD * max(1, slope), outward; twice that inward is attained.
        slack = 0.0 if activation(word, **params).linear or reached == math.inf else 2 * PAD * max(1.0, reached)
        lower = max(0.0, reached - slack)
    where = "" if inner is not None else "; lower end left at 0, since this domain need not hold the steepest point"
    return bracket(lower, steepest, domain, f"largest slope of {word} that occurs on the domain{where}", norm=(p, q))


def _steepest(word: str, lo: Array, hi: Array, params: dict[str, Any]) -> float:
    low, high = slope_range(word, lo, hi, **params)
    return float(np.maximum(np.abs(low), np.abs(high)).max())


def _intervals(domain: Domain) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
    """Intervals that hold the coordinates, and intervals that each one does run through (None where not known)."""
    if isinstance(domain, Box):
        moving = domain.lo < domain.hi
        return (domain.lo, domain.hi), (domain.lo[moving], domain.hi[moving]) if moving.any() else None
    if isinstance(domain, Ball):
        (low, below), (high, above) = _sum(-domain.center, domain.radius), _sum(domain.center, domain.radius)
        outer = -np.where(below > 0, np.nextafter(low, math.inf), low), np.where(above > 0, np.nextafter(high, math.inf), high)
        inner = np.where(below < 0, np.nextafter(low, -math.inf), low), np.where(above < 0, np.nextafter(high, -math.inf), high)
        if domain.radius == 0:
            return outer, None
        return outer, (np.minimum(-inner[0], domain.center), np.maximum(inner[1], domain.center))
    R = domain.R if isinstance(domain, TokenBall) else math.inf
    if isinstance(domain, Shell):
        R = math.inf if domain.centred else domain.r_max
    ends = np.array(-R), np.array(R)
    return ends, ends if isinstance(domain, WholeSpace) or (isinstance(domain, TokenBall) and R > 0) else None


def _sum(a: Array, b: float) -> tuple[Array, Array]:
    """Rounded sum, and exactly what rounding left over (Knuth): ends of intervals then move only where they must."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


# ----------------------------------------------------------------------------------------------------------- normalisation


def _rms_norm(domain: Domain, weight: Any = None, eps: float = 1e-5, d: int | None = None) -> Bound:
    """g x / rho with rho^2 = |x|^2/d + eps has J = diag(g) (I - x x'/(d rho^2)) / rho, so |J| <= max|g| / rho.

    Off a ball |x| < r the constant is max|g| / rho(r) although the complement is not convex: inside, replace the map by the
    linear map g x / rho(r). The two agree where |x| = r, each has slopes at most max|g| / rho(r), so the glued map has that
    constant along every segment. The pair r e, -r e with e the coordinate of the largest gain attains it.
    """
    gain, d = _gain(weight, d)
    largest = float(np.abs(gain).max())
    return _normaliser("rms_norm", domain, gain, d, nonnegative("eps", eps), (largest, largest), centred=False)


def _layer_norm(domain: Domain, weight: Any = None, eps: float = 1e-5, d: int | None = None) -> Bound:
    """With P = I - 11'/d the map is g Px / rho(Px), so its constant is |diag(g) P| / rho, by the proof for RMS norm.

    At constant vectors rho = sqrt(eps) and the Jacobian is diag(g) P / sqrt(eps). One feature: the map is constant.
    """
    gain, d = _gain(weight, d)
    return _normaliser("layer_norm", domain, gain, d, nonnegative("eps", eps), _centred_norm(gain, d), centred=True)


def _normaliser(
    name: str, domain: Domain, gain: Array, d: int | None, eps: float, size: tuple[float, float], *, centred: bool
) -> Bound:
    if d == 1 and centred:
        return bracket(0.0, 0.0, domain, "layer_norm of one feature is constant")
    if size[1] == 0.0:
        return bracket(0.0, 0.0, domain, f"{name} with zero gain is constant")
    r, reason, attained = _least_norm(domain, d, centred)
    if r > 0 and d is None:
        raise ValueError(f"d (the number of features) is needed by {name} on {domain!r}; give d or the gain vector as weight")
    # Each of the few operations below errs by half an ulp, hence 8 ulps outward.
    if math.isinf(r):
        return bracket(0.0, 0.0, domain, f"{name} infinitely far out")
    rho = math.sqrt(eps) if r == 0 else math.hypot(r / math.sqrt(d or 1), math.sqrt(eps))
    if rho == 0.0:
        return bracket(math.inf if attained else 0.0, math.inf, domain, f"{name} with eps=0 is not continuous at {reason}")
    upper = round_up(size[1] / rho, 8)
    lower = max(0.0, round_down(size[0] / rho, 8)) if attained else 0.0
    if not attained and isinstance(domain, Ball | Box):
        middle = domain.center if isinstance(domain, Ball) else (domain.lo + domain.hi) / 2
        lower = _attained_by_norm_layer(middle, gain, d or middle.size, eps, centred)
    why = f"gain {size[1]:.6g} / sqrt(eps), {reason}"
    if r > 0:
        why = f"gain {size[1]:.6g} over sqrt(r^2/d + eps), r = {r:.6g} ({reason})"
    return bracket(lower, upper, domain, why)


def _least_norm(domain: Domain, d: int | None, centred: bool) -> tuple[float, str, bool]:
    """(lower bound of the norm that the layer divides by, its reason, whether the constant is attained on the domain)."""
    what = "centred norm" if centred else "norm"
    if isinstance(domain, Shell):
        if domain.r_min == 0:
            return 0.0, "a shell without a hole", True
        if centred and not domain.centred:
            return 0.0, "a plain Shell holds constant vectors; use Shell(r_min, centred=True)", True
        # x orthogonal to the steepest direction and centred needs three features; the pair r e, -r e needs e centred.
        return domain.r_min, f"least {what} on the shell", centred or not domain.centred or (d is not None and d >= 3)
    if isinstance(domain, Ball | Box):
        lo = domain.lo if isinstance(domain, Box) else domain.center
        tokens = 1 if d is None else lo.size // d
        if d is not None and lo.size != tokens * d:
            raise ValueError(f"domain has {lo.size} coordinates, not a multiple of d={d} features")
        if isinstance(domain, Box) and not centred:
            hi = domain.hi
            nearest = np.clip(0.0, lo, hi).reshape(tokens, -1)
            r = float(vector_norm(nearest, 2).min())
            return r * (1 - (nearest.shape[1] + 8) * 2**-52), f"least {what} in the box", False
        center, radius = as_ball(domain)
        rows = center.reshape(tokens, -1)
        size = vector_norm(rows - rows.mean(axis=1, keepdims=True) if centred else rows, 2)
        room = float((size - radius - (rows.shape[1] + 8) * 2**-52 * (vector_norm(rows, 2) + radius)).min())
        if room > 0:
            return room, f"least {what} in the ball", False
        return 0.0, f"the domain may hold a point of {what} 0", False
    where = "constant vectors" if centred else "0"
    return 0.0, f"attained at {where}", isinstance(domain, WholeSpace | TokenBall)


def as_ball(domain: Ball | Box) -> tuple[Array, float]:
    """Centre and radius, rounded up, of a Euclidean ball that holds the domain."""
    if isinstance(domain, Box):
        center = domain.lo / 2 + domain.hi / 2
        half = np.maximum(domain.hi - center, center - domain.lo)
        return center, float(vector_norm(half, 2)) * (1 + (center.size + 8) * 2**-52)
    d = domain.center.size
    return domain.center, domain.radius * d ** max(0.0, 0.5 - 1 / domain.p) * (1 if domain.p <= 2 else 1 + 2**-48)


def _attained_by_norm_layer(x: Array, gain: Array, d: int, eps: float, centred: bool) -> float:
    """|J v| / |v| at x (the steepest token), v from a few power steps on J'J; rounded down."""
    best = 0.0
    gain = np.broadcast_to(gain, (d,))
    for row in x.reshape(-1, d):
        y = row - row.mean() if centred else row
        rho2 = float(y @ y) / d + eps

        def project(v: Array) -> Array:
            return v - v.mean() if centred else v

        def apply(v: Array, y: Array = y, rho2: float = rho2) -> Array:
            v = project(v)
            return v - y * (y @ v) / (d * rho2)

        v = gain * (1 + 1e-3 * np.cos(np.arange(d)))  # any start will do; this one is seldom orthogonal to the answer
        for _ in range(30):
            v = apply(gain * (gain * apply(v)))
            size = np.linalg.norm(v)
            if not size > 0:
                break
            v = v / size
        size = np.linalg.norm(v)
        if size > 0:
            # I - yy'/(d rho^2) may cancel nearly everything, so the error is absolute.
            lost = (8 * d + 40) * 2**-52 * float(np.abs(gain).max())
            best = max(best, (float(np.linalg.norm(gain * apply(v)) / size) - lost) / math.sqrt(rho2))
    return best * (1 - 2**-48)


def _centred_norm(gain: Array, d: int | None) -> tuple[float, float]:
    """Bracket of |diag(g) (I - 11'/d)|: the largest root s of sum_i 1/(s^2 - g_i^2) = 0, or max|g| where that one is tied.

    v orthogonal to 1 maximises sum g_i^2 v_i^2 at v_i = c / (s^2 - g_i^2). Interlacing puts s^2 between the two largest g_i^2,
    where the sum decreases from +inf to -inf, so its sign at t tells on which side of t the root lies.
    """
    size = np.sort(np.abs(gain).ravel())[::-1]
    if size.size == 1:  # one gain for all features
        alone = d == 1
        return (0.0, 0.0) if alone else (float(size[0]), float(size[0]))
    if size[0] == 0.0:
        return 0.0, 0.0
    g = size / size[0]
    a, b = float(g[1]), 1.0  # the root lies in [a, b]

    def sign(t: float) -> int:
        terms = 1 / ((t - g) * (t + g))
        error = (g.size + 16) * 2**-52 * float(np.abs(terms) @ (1 + 2 * (t + g) / np.maximum(np.abs(t - g), 1e-300)))
        total = float(terms.sum())
        return 0 if abs(total) <= error else (1 if total > 0 else -1)

    if a < b:
        for _ in range(200):
            t = (a + b) / 2
            side = sign(t) if a < t < b else 0
            if side == 0:
                break
            a, b = (t, b) if side > 0 else (a, t)
    return max(0.0, round_down(a * size[0], 4)), round_up(b * size[0], 4)


def _batch_norm(domain: Domain, running_var: Any, weight: Any = None, eps: float = 1e-5) -> Bound:
    """In evaluation mode a diagonal linear map: the largest |g| / sqrt(var + eps)."""
    var = as_float64("running_var", running_var)
    if (var < 0).any():
        raise ValueError(f"running_var must not be negative; got {var.min()}")
    gain = np.ones_like(var) if weight is None else as_float64("weight", weight)
    if gain.shape != var.shape:
        raise ValueError(f"weight has shape {gain.shape}, running_var {var.shape}; give one gain for each variance")
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.where(gain == 0, 0.0, np.abs(gain) / np.sqrt(var + nonnegative("eps", eps)))
    top = float(slopes.max())
    return bracket(round_down(top, 4), round_up(top, 4), domain, "linear in evaluation mode: largest |gain| / sqrt(var + eps)")


def _group_norm(
    domain: Domain, num_groups: int, num_channels: int, weight: Any = None, eps: float = 1e-5, size: int | Sequence[int] = 1
) -> Bound:
    """Each group is a layer norm of its own channels and places, and the groups are blocks side by side: the largest one."""
    if num_groups < 1 or num_channels % num_groups:
        raise ValueError(f"num_groups={num_groups} must divide num_channels={num_channels}")
    places = math.prod(sizes_of("size", size))
    gain = np.ones(num_channels) if weight is None else as_float64("weight", weight)
    if gain.shape != (num_channels,):
        raise ValueError(f"weight has shape {gain.shape}; give one gain for each of {num_channels} channels")
    eps = nonnegative("eps", eps)
    ends = [(0.0, 0.0)]
    if places * num_channels // num_groups > 1:
        # Two places of one channel tie the largest gain, so more places change nothing.
        ends = [_centred_norm(np.repeat(g, min(places, 2)), None) for g in gain.reshape(num_groups, -1)]
    low, high = max(a for a, _ in ends), max(b for _, b in ends)
    if high == 0.0:
        return bracket(0.0, 0.0, domain, "one entry for each group, or zero gain: constant")
    if eps == 0.0:
        return bracket(0.0, math.inf, domain, "eps=0: not continuous where a group is constant")
    attained = isinstance(domain, WholeSpace | TokenBall)
    lower = max(0.0, round_down(low / math.sqrt(eps), 4)) if attained else 0.0
    why = "largest group gain / sqrt(eps), attained at constant groups"
    return bracket(lower, round_up(high / math.sqrt(eps), 4), domain, why)


def _instance_norm(
    domain: Domain, num_channels: int, weight: Any = None, eps: float = 1e-5, size: int | Sequence[int] = 1
) -> Bound:
    """Group norm with one channel in each group."""
    return _group_norm(domain, num_channels, num_channels, weight, eps, size)


def _normalize(domain: Domain, eps: float = 1e-12) -> Bound:
    """x / max(|x|, eps) is the projection on the ball of radius eps, over eps; off |x| < r, projection on that ball over r."""
    eps = nonnegative("eps", eps)
    r = domain.r_min if isinstance(domain, Shell) and not domain.centred else 0.0
    size = max(eps, r)
    if size == 0.0:
        return bracket(0.0, math.inf, domain, "eps=0: not continuous at 0")
    attained = isinstance(domain, WholeSpace | Shell) or (isinstance(domain, TokenBall) and domain.R > 0)
    top = 1 / size
    return bracket(round_down(top, 2) if attained else 0.0, round_up(top, 2), domain, "projection on a ball, over its radius")


# ------------------------------------------------------------------------------------------------------- softmax and pooling


def _softmax(domain: Domain, d: int | None = None, temperature: float = 1.0) -> Bound:
    """J = diag(p) - pp' has row sums 2 p_i (1 - p_i) of moduli, so |J| <= 1/2 (Gershgorin); two equal entries attain it."""
    t = nonnegative("temperature", temperature)
    if t == 0.0:
        return bracket(0.0, math.inf, domain, "temperature 0: not continuous at ties")
    if whole_number("d", d, 2) == 1:
        return bracket(0.0, 0.0, domain, "softmax of one entry is constant")
    top, attained = 0.5 / t, isinstance(domain, WholeSpace) or (d == 2 and isinstance(domain, TokenBall) and domain.R > 0)
    exact = t == 2.0 ** round(math.log2(t))
    lower = (top if exact else round_down(top)) if attained else 0.0
    return bracket(lower, top if exact else round_up(top), domain, "1/2 over the temperature: Gershgorin for diag(p) - pp'")


def _log_softmax(domain: Domain, d: int) -> Bound:
    """J = I - 1p' projects obliquely, so |J| = |1| |p| = sqrt(d) |p| for d >= 2; the supremum has p a unit vector."""
    n = whole_number("d", d, 2)
    if n == 1:
        return bracket(0.0, 0.0, domain, "log-softmax of one entry is constant")
    root = math.sqrt(n)
    exact = math.isqrt(n) ** 2 == n
    lower = (root if exact else round_down(root)) if isinstance(domain, WholeSpace) else 1.0
    return bracket(lower, root if exact else round_up(root), domain, "|I - 1p'| = sqrt(d) |p|")


def _embedding(domain: Domain, weight: Any, on: str = "span") -> Bound:
    """One-hot rows are at distance 0 or sqrt(2), so only distances of rows count; on all of space, the operator norm does."""
    W = as_float64("weight", weight)
    if W.ndim != 2:
        raise ValueError(f"weight has shape {W.shape}; give (words, features)")
    if on == "span":
        b = operator_norm(W)
        return Bound(b.lower, b.upper, (2, 2), domain, b.kind, b.witness, f"operator norm of the table ({b.source})")
    if on != "tokens":
        raise ValueError(f"on={on!r}: use 'span' (all of space) or 'tokens' (one-hot rows)")
    words = W.shape[0]
    W = W - W.mean(axis=0)
    error = (W.shape[1] + words + 16) * 2**-51
    reach = float(vector_norm(W, 2).max())
    diameter, upper = 0.0, 2 * reach
    if words <= 4096:
        for start in range(0, words, 256):  # differences row by row, since a Gram matrix would cancel
            part = W[start : start + 256]
            diameter = max(diameter, *(float(vector_norm(part[i] - W[start + i :], 2).max()) for i in range(len(part))))
        upper = diameter
    else:
        far = W[int(vector_norm(W, 2).argmax())]
        diameter = float(vector_norm(W - far, 2).max())
    slack = error * reach
    root = math.sqrt(2)
    why = "largest distance of two rows / sqrt(2)"
    if words > 4096:
        why += " (bounded by twice the largest distance from the mean, above 4096 words)"
    return bracket(max(0.0, round_down((diameter - slack) / root, 4)), round_up((upper + slack) / root, 4), domain, why)


def _one(domain: Domain) -> Bound:
    """Dropout in evaluation mode, reshaping and padding with zeros move no distance."""
    return bracket(1.0, 1.0, domain, "an isometry")


# ------------------------------------------------------------------------------------------------------------------ helpers


def _gain(weight: Any, d: int | None) -> tuple[Array, int | None]:
    if weight is None:
        return np.ones(1), None if d is None else whole_number("d", d, 1)
    gain = as_float64("weight", weight).ravel()
    if d is not None and gain.size not in (1, d):
        raise ValueError(f"weight has {gain.size} gains but d={d}; give one for each feature")
    return gain, gain.size if d is None else d


_LAYERS: dict[str, Callable[..., Bound]] = {
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "normalize": _normalize,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "adaptive_avg_pool": adaptive_avg_pool,
    "global_avg_pool": global_avg_pool,
    "embedding": _embedding,
    "dropout": lambda domain: _one(domain),
    "flatten": lambda domain: _one(domain),
    "zero_pad": lambda domain: _one(domain),
}
# torch's class names, in lower case, without underscores and without a trailing 1d, 2d or 3d
_SPELLINGS = {word.replace("_", ""): word for word in _LAYERS}
