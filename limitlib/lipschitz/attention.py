"""Multi-head softmax attention on a stated domain: certified bounds of its Lipschitz constant, Frobenius to Frobenius.

Notation of the proofs, for one head: tokens x_1..x_n; scores s_ij = u_i . x_j + (terms that do not depend on j) with
u_i = M x_i + c, M = scale Wk'Wq, c = scale Wk'bq (the bias of the keys drops out, since softmax ignores shifts of a row); P_i
the softmax of row i; m_i and C_i mean and covariance of the tokens under P_i; z_ij = x_j - m_i. The head is W = Wo Wv times
sum_j P_ij x_j, so its derivative along dx is W B dx with

    (B dx)_i = sum_j P_ij dx_j + sum_j P_ij z_ij (u_i . dx_j) + C_i M dx_i.

Below rho bounds every |x_j - center| for one center, U every |u_i|, a = |M|, beta = U rho, and p_i bounds every P_ij of row i.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import EXACT_WIDTH, Ball, Bound, Box, Domain, Shell, TokenBall, WholeSpace, multiply_up, vector_norm
from limitlib.lipschitz.attention_maps import EPS, Heads, Linearised, ascend, attained
from limitlib.lipschitz.layers import as_ball
from limitlib.operators import operator_norm
from limitlib.operators.matrices import as_float64

Array = NDArray[np.float64]

# Formulas below are sums and products of a few thousand nonnegative floats: relative errors stay below 1e-12 by far.
INFLATE = 1 + 1e-11
CELLS = 256  # subdivisions of [1/2, 1] for the largest attention weight of a row
DENSE = 600  # largest tokens * d for which the Jacobian at the centre is written out
WORK = 3e7  # heads * tokens^2 * d up to which Jacobian products are affordable


def attention_bound(
    Wq: Any,
    Wk: Any,
    Wv: Any,
    Wo: Any = None,
    domain: Domain | None = None,
    *,
    heads: int = 1,
    kv_heads: int | None = None,
    causal: bool = False,
    scale: float | None = None,
    tokens: int | None = None,
    bq: Any = None,
    bk: Any = None,
    bv: Any = None,
    rotary: bool = False,
    rng: np.random.Generator | None = None,
) -> Bound:
    """Bracket of the Lipschitz constant of self-attention ``X (tokens, d) -> Y``, both in the Frobenius norm.

    Weights (out, in) as in ``torch.nn.Linear``: Wq (heads * dh, d), Wk (kv_heads * dh, d), Wv (kv_heads * dv, d),
    Wo (out, heads * dv) or None for heads side by side; each key head serves heads / kv_heads query heads in a row. bq, bk, bv:
    vectors; bv moves nothing, bk only with rotary positions. scale: factor of the scores, 1/sqrt(dh) unless given. tokens: the
    largest number of tokens; the bound holds for every smaller number. rotary: queries and keys of each token are turned by any
    orthogonal matrices first (rotary positions, whole or partial).

    domain: ``TokenBall(R)``; ``Shell`` with finite r_max (as the token ball that holds it, whose convexity proves the bound);
    ``Ball`` or ``Box`` about a flattened token matrix (local: as the radius tends to 0, the bound tends to the Jacobian norm at
    the centre while tokens * d <= 600); ``WholeSpace()``: inf, as dot-product attention is not globally Lipschitz (Kim et al.
    2021), unless the scores do not depend on the tokens or there is one token.

    The upper end is certified; ``source`` names the inequality that won. The lower end is a Jacobian norm, attained at the
    point ``witness``: equal tokens, the centre of a Ball or Box, or, with ``rng``, the best point of a short ascent. Raises
    ValueError or TypeError, by name, for shapes that do not fit, NaN or inf, half precision and a missing ``tokens``.
    Proofs: T1.8 and the private functions; compare Castin et al. 2024.

    >>> b = attention_bound(np.eye(2), np.eye(2), np.eye(2), domain=TokenBall(0.5), tokens=4)
    >>> b.lower <= b.upper < 1.6
    True
    """
    space = WholeSpace() if domain is None else domain
    if not isinstance(space, Domain):
        raise TypeError(f"domain must be a Domain such as TokenBall(R) or Ball(center, radius); got {domain!r}")
    block = _weights(Wq, Wk, Wv, Wo, bq, bk, bv, heads, kv_heads, causal, scale, rotary)
    n = _token_count(tokens, space, block.heads.d)
    total, norms = block.norm_of_sum(), block.head_norms
    zero = np.zeros((n, block.heads.d))

    if norms.max() == 0.0:
        return Bound(0.0, 0.0, (2, 2), space, "exact", zero, "the values are multiplied by zero")
    if n == 1:
        return _bound(total.lower, total.upper, space, zero, "one token: the linear map Wo Wv")
    if block.constant_scores:
        low, high = _average_norm(n, causal)
        why = "scores do not depend on the tokens: a linear map, averaging times Wo Wv"
        return _bound(total.lower * low, multiply_up(total.upper, high), space, zero, why)

    region = _region(space, block, n)
    if region is None:
        point = zero if isinstance(space, WholeSpace) else None
        lower = total.lower * _average_norm(n, causal and not rotary)[0] if point is not None else 0.0
        why = "tokens of any size: dot-product attention is not globally Lipschitz (Kim et al. 2021); name a TokenBall"
        return _bound(lower, math.inf, space, point, why)
    upper, why = _upper(block, region, n, total.upper)
    lower, point = _lower(block, space, region, n, total.lower, rng)
    return _bound(lower, upper, space, point, why)


def _bound(lower: float, upper: float, domain: Domain, witness: Any, source: str) -> Bound:
    lower = max(0.0, lower * (1 - 4 * EPS))
    exact = lower == upper or upper - lower <= EXACT_WIDTH * upper < math.inf
    return Bound(lower, upper, (2, 2), domain, "exact" if exact else "certified", witness, source)


# ------------------------------------------------------------------------------------------------------------------- input


@dataclass(frozen=True, eq=False)
class _Block:
    """Checked weights, and the few norms that the bounds need; ``split``: heads side by side, without an output matrix."""

    heads: Heads
    bk: Array
    split: bool
    rotary: bool
    factors: tuple[Array, ...]  # (out, k) matrices with the norms, single and side by side, of Wo_h Wv_h
    factor_error: float  # what rounding may have taken from any norm of the factors side by side

    def norm_of_sum(self) -> Bound:
        """Of the matrix that equal tokens see: the sum of Wo_h Wv_h, or the Wv_h below each other."""
        h = self.heads
        if self.split:
            return operator_norm(h.v.reshape(-1, h.d))
        # Values that several query heads share are added up by one product.
        product = np.concatenate(list(h.o), axis=1) @ h.v.reshape(-1, h.d)
        error = (h.v.shape[0] * h.v.shape[1] + 4) * EPS * float(np.linalg.norm(h.o) * np.linalg.norm(h.v))
        b = operator_norm(product)
        return Bound(max(0.0, b.lower - error), (b.upper + error) * (1 + 4 * EPS))

    @functools.cached_property
    def head_norms(self) -> Array:
        """Upper bounds of |Wo_h Wv_h|."""
        return np.array([(_norm(F) + self.factor_error) * (1 + 2 * EPS) if F.any() else 0.0 for F in self.factors])

    @functools.cached_property
    def score_norms(self) -> Array:
        """Upper bounds of |M_h| for each head; with rotary positions, of the product of the two norms."""
        h = self.heads
        pairs = zip(h.k, h.q, strict=True)
        found = [multiply_up(_norm(k), _norm(q)) if self.rotary else _product_norm(k.T, q) for k, q in pairs]
        return np.array([multiply_up(abs(h.scale), a) for a in found])

    @property
    def shift_norms(self) -> Array:
        """Upper bounds of |c_h|, the length of the constant part of u."""
        h = self.heads
        error = (h.q.shape[1] + 8) * EPS
        shift = [_length(k.T @ b) + error * _length(k) * _length(b) for k, b in zip(h.k, h.bq, strict=True)]
        if self.rotary:  # the turn keeps the length of bq only
            shift = [multiply_up(_norm(k), _length(b) * (1 + error)) for k, b in zip(h.k, h.bq, strict=True)]
        return np.array([multiply_up(abs(h.scale), c) for c in shift])

    @property
    def constant_scores(self) -> bool:
        """Whether no score depends on a token (then the attention matrix is constant and uniform)."""
        h = self.heads
        if h.scale == 0.0:
            return True
        if self.rotary:
            return not (h.q.any() or h.bq.any()) or not (h.k.any() or self.bk.any())
        # A product that rounds to zero need not be zero; only disjoint nonzero rows make it so for certain.
        return not (h.k.any(axis=2) & (h.q.any(axis=2) | (h.bq != 0))).any()


def _weights(
    Wq: Any, Wk: Any, Wv: Any, Wo: Any, bq: Any, bk: Any, bv: Any, heads: int, kv_heads: int | None, causal: bool,
    scale: float | None, rotary: bool,
) -> _Block:  # fmt: skip
    kv_heads = heads if kv_heads is None else kv_heads
    for name, count in (("heads", heads), ("kv_heads", kv_heads)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name}={count!r} must be a positive integer")
    if heads % kv_heads:
        raise ValueError(f"kv_heads={kv_heads} must divide heads={heads}")
    q, k, v = (as_float64(name, W) for name, W in (("Wq", Wq), ("Wk", Wk), ("Wv", Wv)))
    for name, W, count in (("Wq", q, heads), ("Wk", k, kv_heads), ("Wv", v, kv_heads)):
        if W.ndim != 2 or W.shape[0] % count:
            raise ValueError(f"{name} has shape {W.shape}; give (heads * width, d) with {count} heads")
        if W.shape[1] != q.shape[1]:
            raise ValueError(f"{name} takes {W.shape[1]} features but Wq takes {q.shape[1]}; self-attention needs one d")
    d, dh, dv = q.shape[1], q.shape[0] // heads, v.shape[0] // kv_heads
    if k.shape[0] != kv_heads * dh:
        raise ValueError(f"Wk has shape {k.shape}; give ({kv_heads * dh}, {d}), {kv_heads} heads of the queries' width {dh}")
    biases = []
    for name, b, size in (("bq", bq, heads * dh), ("bk", bk, kv_heads * dh), ("bv", bv, kv_heads * dv)):
        vector = np.zeros(size) if b is None else as_float64(name, b)
        if vector.shape != (size,):
            raise ValueError(f"{name} has shape {vector.shape}; give ({size},)")
        biases.append(vector)
    factor = 1 / math.sqrt(dh) if scale is None else float(scale)
    if not math.isfinite(factor):
        raise ValueError(f"scale={factor} must be finite")
    serves = heads // kv_heads
    K, V, B = (np.repeat(a.reshape(kv_heads, w, -1), serves, axis=0) for a, w in ((k, dh), (v, dv), (biases[1], dh)))
    if Wo is None:
        o = np.zeros((heads, heads * dv, dv))
        o[np.arange(heads)[:, None], np.arange(heads * dv).reshape(heads, dv), np.arange(dv)] = 1.0
    else:
        out = as_float64("Wo", Wo)
        if out.ndim != 2 or out.shape[1] != heads * dv:
            raise ValueError(f"Wo has shape {out.shape}; give (out, {heads * dv}), the width of all heads together")
        o = out.reshape(out.shape[0], heads, dv).transpose(1, 0, 2)
    # V' = Q R with orthonormal Q: Wo_h V_h has the norms of Wo_h R'. Householder's R belongs to a matrix within 20 d dv eps.
    Rs = [_triangle(w.T).T if dv < d else w for w in V]
    factors = tuple(R if Wo is None else oh @ R for oh, R in zip(o, Rs, strict=True))
    sizes = [(1.0 if Wo is None else _length(oh)) * _length(w) for oh, w in zip(o, V, strict=True)]
    error = (20 * d * dv + 8) * EPS * math.sqrt(math.fsum(s * s for s in sizes))
    shared = Heads(q.reshape(heads, dh, d), K, V, o, biases[0].reshape(heads, dh), factor, bool(causal))
    return _Block(shared, B[..., 0], Wo is None, bool(rotary), factors, error)


def _token_count(tokens: int | None, domain: Domain, d: int) -> int:
    if isinstance(domain, Ball | Box):
        size = (domain.center if isinstance(domain, Ball) else domain.lo).size
        if size % d or (tokens is not None and tokens * d != size):
            raise ValueError(f"domain has {size} coordinates; give a flattened token matrix, tokens * d with d={d}")
        return size // d
    if tokens is None:
        raise ValueError("tokens is needed on this domain: the bound grows with the number of tokens; give the largest one")
    if isinstance(tokens, bool) or not isinstance(tokens, int | np.integer) or tokens < 1:
        raise ValueError(f"tokens={tokens!r} must be a positive integer")
    return int(tokens)


def _length(A: Array) -> float:
    """Frobenius norm, rounded up."""
    return float(vector_norm(A.ravel(), 2)) * (1 + (A.size + 8) * EPS)


def _norm(A: Array) -> float:
    """Operator norm, rounded up."""
    return operator_norm(A).upper if A.any() else 0.0


def _triangle(A: Array) -> Array:
    """The factor R of A = QR."""
    return np.asarray(np.linalg.qr(A, mode="r"))


def _product_norm(A: Array, B: Array) -> float:
    """Upper bound of |A B|; for a short inner dimension through R factors, |Q1 R1 (Q2 R2)'| = |R1 R2'|."""
    sizes = _length(A) * _length(B)
    if sizes == 0.0:
        return 0.0
    (m, k), n = A.shape, B.shape[1]
    error = (k + 4) * EPS
    if 2 * k <= min(m, n):
        A, B = _triangle(A), _triangle(B.T).T
        error += 20 * (m + n) * k * EPS
    return (_norm(A @ B) + error * sizes) * (1 + 4 * EPS)


# ----------------------------------------------------------------------------------------------------------------- regions


@dataclass(frozen=True, eq=False)
class _Region:
    """What a domain says: sizes of tokens, their spread, and a centre with a radius for local domains."""

    radius: float  # every |x_j|
    spread: float  # every |x_j - center|, for one center
    middle: Array | None = None  # (tokens, d)
    reach: float = 0.0  # Frobenius distance from the middle
    inner: float = 0.0  # the radius of a Ball, in its own norm


def _region(domain: Domain, block: _Block, n: int) -> _Region | None:
    """None where the tokens are not bounded."""
    d = block.heads.d
    if isinstance(domain, TokenBall) and math.isfinite(domain.R):
        return _Region(domain.R, domain.R)
    if isinstance(domain, Shell):
        return _Region(domain.r_max, domain.r_max) if math.isfinite(domain.r_max) and not domain.centred else None
    if isinstance(domain, Ball | Box):
        center, reach = as_ball(domain)
        X = center.reshape(n, d)
        slack = 1 + (d + 16) * EPS
        far = float(vector_norm(X, 2).max()) * slack + reach
        if isinstance(domain, Box):
            corner = np.maximum(np.abs(domain.lo), np.abs(domain.hi)).reshape(n, d)
            far = min(far, float(vector_norm(corner, 2).max()) * slack)
        spread = float(vector_norm(X - X.mean(axis=0), 2).max()) * slack + reach
        return _Region(far * slack, min(spread * slack + n * EPS * far, far * slack), X, reach, getattr(domain, "radius", 0.0))
    if isinstance(domain, WholeSpace | TokenBall):
        return None
    raise ValueError(f"domain {domain!r} is not supported; use TokenBall(R), Shell(r_min, r_max), Ball or Box")


# ------------------------------------------------------------------------------------------------------------- upper bounds


def _upper(block: _Block, region: _Region, n: int, total: float) -> tuple[float, str]:
    """The least of the inequalities proved below."""
    h = block.heads
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        a = block.score_norms
        U = (a * region.radius + block.shift_norms) * INFLATE
        beta = U * region.spread * INFLATE
        logits, bend = beta, a * (region.spread * region.spread) * INFLATE
        if block.rotary:
            kq = [(multiply_up(abs(h.scale), _norm(q)), _norm(k), _norm(q), _norm(k)) for q, k in zip(h.q, h.k, strict=True)]
            keys = np.array([k[1] * region.radius + _length(b) for k, b in zip(kq, block.bk, strict=True)])
            queries = np.array([k[2] * region.radius + _length(b) for k, b in zip(kq, h.bq, strict=True)])
            logits = abs(h.scale) * keys * queries * INFLATE
            bend = region.spread * np.array([k[0] for k in kq]) * keys * INFLATE
        if not np.isfinite(beta).all():
            return math.inf, "the scores overflow float64 on this domain"
        peaks = [_peaks(s, n, h.causal) for s in logits]
        rows = np.array([_mixing(b, p, block.rotary) for b, p in zip(beta, peaks, strict=True)])
        options = [(_combined(block, rows + bend), f"attention weights at most {max(p[-1] for p in peaks):.4g}")]
        apart = np.array([_from_uniform(s, b, n, h.causal) for s, b in zip(logits, beta, strict=True)])
        if (apart < rows).any():  # else it cannot win
            average = multiply_up(total, _average_norm(n, h.causal)[1])
            options.append((average + _combined(block, apart + bend), "distance from uniform attention"))
        if region.middle is not None and not block.rotary:
            options += _local(block, region, n, a)
    value, why = min(options, key=lambda option: option[0])
    value = value * INFLATE if math.isfinite(value) else math.inf
    return value, f"{why}; largest score spread {2 * float(logits.max()):.4g}, {len(h.q)} heads, {n} tokens"


def _peaks(logit: float, n: int, causal: bool) -> Array:
    """Bounds p_i of the weights of row i when its scores differ by at most 2 logit: p(k) = 1 / (1 + (k - 1) exp(-2 logit)).

    Here k tokens are seen. For rows that see fewer tokens than the n of the statement the same bound holds with fewer and
    larger terms, whose sum over the rows does not exceed the one for n rows, since k p(k) grows with k and S(p)/p of
    ``_mixing`` does not grow with p.
    """
    ratio = math.exp(-2 * min(logit * INFLATE, 400.0)) / INFLATE
    seen = np.arange(1.0, n + 1) if causal else np.full(n, float(n))
    return np.minimum(1.0, INFLATE / (1 + (seen - 1) * ratio))


def _mixing(beta: float, peaks: Array, rotary: bool) -> float:
    """Bound of the first two terms of B, dx -> sum_j P_ij (dx_j + z_ij (u_i . dx_j)), Frobenius to Frobenius.

    Fix a row, let d_j = |dx_j|, t = P_ij, and let pi be the row's largest weight. With kappa = 1 for pi <= 1/2 and
    4 pi (1 - pi) beyond, the variance of the tokens in any direction, and their total variance, is at most rho^2 kappa: tokens
    lie in a ball of radius rho, and one of them has weight pi. Also |z_ij| <= 2 rho (1 - t). Let e = |sum_j P_ij dx_j| and
    c = |sum_j P_ij z_ij (u_i . dx_j)|. Then, by Cauchy-Schwarz with weights P,

        (A) c^2 <= beta^2 kappa (sum_j P_ij d_j^2 - e^2)                        a covariance of x with u_i . dx
        (B) c^2 <= U^2 sum_j P_ij |z_ij| sum_j P_ij |z_ij| d_j^2 <= beta^2 sqrt(kappa) sum_j P_ij 2 (1 - P_ij) d_j^2.

    So (e + c)^2 <= (1 + theta) e^2 + (1 + 1/theta) (mu A + (1 - mu) B) <= sum_j phi(P_ij) d_j^2 for all theta > 0, mu in [0,
    1], with phi(t) = t [ max((1 + 1/theta) mu beta^2 kappa, 1 + theta) + (1 + 1/theta) (1 - mu) beta^2 sqrt(kappa) 2 (1 - t) ].
    The weights of a row are pi and numbers up to min(pi, 1 - pi) <= 1/2, where phi grows. Summing over rows, the square of the
    norm is at most the sum over rows of S(p_i), S(p) the largest value over pi <= p of the least over theta and mu of
    max(phi(pi), phi(min(pi, 1 - pi))). For p <= 1/2 that is p (1 + beta^2) (mu = 1, theta = beta^2). With rotary positions u
    depends on j too, which loses the -e^2 in (A).
    """
    if beta > 1e100:  # squares of squares would overflow below; the crude form is as good there, up to a constant
        return (1 + beta) * math.sqrt(math.fsum(peaks)) * INFLATE
    first = (1 + beta) ** 2 if rotary else 1 + beta * beta
    below = np.minimum(peaks, 0.5) * first
    if peaks.max() <= 0.5:
        return math.sqrt(math.fsum(below)) * INFLATE
    edges = np.linspace(0.5, 1.0, CELLS + 1)
    low, high = edges[:-1], edges[1:]
    kappa = 4 * low * (1 - low) + EPS
    theta = (beta * np.geomspace(0.02, 50.0, 33))[:, None, None]
    mu = np.linspace(0.0, 1.0, 9)[None, :, None]
    theta = np.maximum(theta, 1e-100)
    part, rest = (1 + 1 / theta) * mu * beta * beta * kappa, (1 + 1 / theta) * (1 - mu) * beta * beta * np.sqrt(kappa)
    level = part + 1 + theta if rotary else np.maximum(part, 1 + theta)
    small = 1 - low  # the other weights, at most 1/2
    phi = np.maximum(high * (level + 2 * rest * (1 - low)), small * (level + 2 * rest * (1 - small)))
    exact = high * ((1 + beta * np.sqrt(kappa)) ** 2 if rotary else 1 + beta * beta * kappa)
    S = np.maximum.accumulate(np.minimum(phi.min(axis=(0, 1)), exact))
    cell = np.clip(np.ceil((peaks - 0.5) * 2 * CELLS).astype(int) - 1, 0, CELLS - 1)
    values = np.where(peaks <= 0.5, below, np.maximum(0.5 * first, S[cell]))
    return math.sqrt(math.fsum(values)) * INFLATE


def _from_uniform(logit: float, beta: float, n: int, causal: bool) -> float:
    """Bound of the first two terms of B less uniform averaging.

    Weights whose logarithms differ by at most 2 logit are within 2 tanh(logit / 2) of uniform ones in l_1, and each within
    max(p - 1/k, 1/k - 1/(1 + (k - 1) exp(2 logit))) of 1/k; Schur's test turns rows and columns into a norm. The covariance
    term is at most beta times the root of the column sums of P.
    """
    peaks = _peaks(logit, n, causal)
    seen = np.arange(1.0, n + 1) if causal else np.full(n, float(n))
    growth = math.exp(2 * min(logit * INFLATE, 300.0)) * INFLATE
    column = math.fsum(np.maximum(peaks - 1 / seen, 1 / seen - 1 / (1 + (seen - 1) * growth)) + 4 * EPS)
    row = 2 * math.tanh(min(logit * INFLATE / 2, 20.0)) * INFLATE
    return (math.sqrt(row * column) + beta * math.sqrt(math.fsum(peaks))) * INFLATE


def _average_norm(n: int, causal: bool) -> tuple[float, float]:
    """Bracket of the norm of uniform attention: 1, or for causal attention that of the n x n Cesaro matrix, below 2 (Hardy)."""
    if not causal:
        return 1.0, 1.0
    counts, v = np.arange(1.0, n + 1), np.ones(n)
    if n <= 256:
        b = operator_norm(np.tril(np.ones((n, n))) / counts[:, None])
        return b.lower * (1 - 4 * EPS), b.upper * (1 + 4 * EPS)
    for _ in range(50):
        v = np.cumsum((np.cumsum(v) / counts / counts)[::-1])[::-1]
        v /= np.linalg.norm(v)
    return float(np.linalg.norm(np.cumsum(v) / counts)) * (1 - 4 * n * EPS), 2.0


def _combined(block: _Block, sizes: Array) -> float:
    """Bound of |sum_h W_h y_h| / |dx| when |y_h| <= sizes_h |dx|.

    For weights tau_h > 0: |sum W_h y_h| <= |[tau_h W_h]| sqrt(sum |y_h|^2 / tau_h^2). tau_h^2 = sizes_h / |W_h| already beats
    the sum of |W_h| sizes_h; a few steps of the optimality condition tau_h^2 = sizes_h / |W_h' v|, v the top left singular
    vector, improve it. Heads side by side without an output matrix are orthogonal: the root of the sum of squares.
    """
    norms = block.head_norms
    if len(norms) == 1:
        return multiply_up(float(norms[0]), float(sizes[0]))
    if block.split:
        return _length(norms * sizes)
    live = (norms > 0) & (sizes > 0)
    if not live.any():
        return 0.0
    L, F = sizes[live], [f for f, alive in zip(block.factors, live, strict=True) if alive]
    trials = [np.ones(len(L)), L / norms[live]]
    for _ in range(5):
        square = trials[-1]
        side = np.concatenate([math.sqrt(s) * f for s, f in zip(square, F, strict=True)], axis=1)
        v = np.linalg.svd(side, full_matrices=False)[0][:, 0] if min(side.shape) <= 64 else _left_vector(side)
        reach = np.array([np.linalg.norm(v @ f) for f in F])
        trials.append(np.sqrt(square * L / np.maximum(reach, 1e-3 * norms[live])))  # half a step: whole ones oscillate

    def value(square: Array, exact: bool) -> float:
        side = np.concatenate([math.sqrt(s) * f for s, f in zip(square, F, strict=True)], axis=1)
        if exact:
            size = _norm(side) + block.factor_error * math.sqrt(float(square.max())) * (1 + 4 * EPS)
        else:
            size = float(np.linalg.norm(_left_vector(side) @ side))
        return size * math.sqrt(float((L * L / square).sum())) * INFLATE

    best = min(trials, key=lambda square: value(square, False))
    return min(value(best, True), float(norms @ sizes) * INFLATE)


def _left_vector(A: Array, steps: int = 6) -> Array:
    """Nearly the top left singular vector: good enough to choose weights, never used as a bound."""
    v = A @ (1.0 + np.sin(np.arange(A.shape[1]) ** 2.0))
    for _ in range(steps):
        v = A @ (v @ A)
        v /= np.linalg.norm(v) or 1.0
    return v


def _local(block: _Block, region: _Region, n: int, a: Array) -> list[tuple[float, str]]:
    """Two bounds about a centre X0, on |X - X0| <= r.

    Weights: scores of a row change against each other by at most D_i = sqrt(2) |u_i| r + 2 a rho r, so P_ij is at most
    q_ij = 1 / (1 + (1/P0_ij - 1) exp(-D_i)), and |u_i| grows by at most a r. Jacobian: |J(X0)| + r sup |second derivative|.
    """
    h, r, rho = block.heads, region.reach, region.spread
    assert region.middle is not None
    here = Linearised(h, region.middle)
    if not np.isfinite(here.P).all():
        return []
    noise = 2 * here.score_error() + (n + 20) * EPS
    firsts, seconds = [], []
    for i in range(len(h.q)):
        u = h.scale * (here.Q[i] @ h.k[i])
        size = float(np.linalg.norm(h.q[i]) * region.radius + np.linalg.norm(h.bq[i]))
        error = 8 * (h.d + h.q.shape[1] + 8) * EPS * abs(h.scale) * np.linalg.norm(h.k[i]) * size
        u0 = np.linalg.norm(u, axis=1) + error
        drift = (math.sqrt(2) * u0 * r + 2 * a[i] * rho * r + noise)[:, None] * INFLATE
        # Weights that underflowed are not zero; those that a causal mask forbids are.
        P = np.clip(here.P[i] * (1 + noise), 1e-300, 1.0)
        q = P * np.exp(np.minimum(drift, 650.0))
        q = np.where(drift > 650.0, 1.0, np.minimum(1.0, q / (1 - P + q))) * INFLATE  # 1 / (1 + (1/P - 1) exp(-drift))
        if h.causal:
            q = np.tril(q)
        U = (u0 + a[i] * r)[:, None] * INFLATE
        first, second = _near(q, U, rho, float(a[i]))
        firsts.append(first)
        seconds.append(second)
    found = [(_combined(block, np.array(firsts)), "attention weights near the centre")]
    if n * h.d <= DENSE:
        J = here.dense()
        error = here.product_error() * math.sqrt(n * h.d)
        if math.isfinite(error) and np.isfinite(J).all():
            top_of_it = _norm(J) + error + r * _combined(block, np.array(seconds))
            found.append((top_of_it, "Jacobian at the centre plus radius times second derivative"))
    return found


def _near(q: Array, U: Array, rho: float, a: float) -> tuple[float, float]:
    """Bounds of B and of the second derivative where weights are at most q_ij and |u_i| at most U_i.

    If t, the sum of all but one of the q_ij, is below 1/2, one weight exceeds 1 - t, and kappa_i = 4 t (1 - t) as in
    ``_mixing``; else kappa_i = 1. By (A) there, column sums of q_ij (1 + (U_i rho)^2 kappa_i) bound the first two terms of B,
    and a rho^2 kappa_i the third.

    Along dx let h_i = |dx_i|, and v_i the standard deviation of |dx| under P_i (of each coordinate, summed): v_i^2 <= sum_j
    r_ij |dx_j|^2 with r = q, or, since one token j* may stand for the mean, r_ij = 2 q_ij and r_ij* = 2 t. The second
    derivative of row i is 2 Cov(dx, ds) + 2 Cov(x, M dx_i . dx) + the third cumulant of (x, ds, ds), where ds_j = u_i . dx_j +
    M dx_i . x_j has standard deviation at most U v_i + a h_i sigma, sigma^2 = rho^2 kappa. So it is at most (2U + 2 rho U^2)
    v_i^2 + (4 a sigma + 4 rho sigma a U) v_i h_i + 2 rho sigma^2 a^2 h_i^2. Summing squares over rows, with v_i^2 <= p, the
    largest r, and sum v_i^2 <= N, its largest column sum, sqrt(pN), sqrt(p) and 1 take the places of v^2, v h and h^2. (A
    symmetric bilinear map of a Hilbert space has its norm on the diagonal.)
    """
    rows = np.arange(len(q))
    place = q.argmax(axis=1)
    rest = q.copy()
    rest[rows, place] = 0.0
    t = rest.sum(axis=1) * INFLATE
    kappa = np.where(t < 0.5, 4 * t * (1 - t), 1.0) * INFLATE
    first = math.sqrt(float((q * (1 + (U * rho) ** 2 * kappa[:, None])).sum(axis=0).max())) + a * rho * rho * float(kappa.max())
    centred = 2 * rest
    centred[rows, place] = 2 * t
    r = np.where((t < 0.25)[:, None], centred, q)
    p, N, top, sigma = float(r.max()), float(r.sum(axis=0).max()), float(U.max()), rho * math.sqrt(float(kappa.max()))
    second = (2 * top + 2 * rho * top**2) * math.sqrt(p * N)
    second += (4 * a * sigma + 4 * rho * sigma * a * top) * math.sqrt(p) + 2 * rho * sigma**2 * a**2
    return first * INFLATE, second * INFLATE


# ------------------------------------------------------------------------------------------------------------- lower bounds


def _lower(
    block: _Block, domain: Domain, region: _Region, n: int, total: float, rng: np.random.Generator | None
) -> tuple[float, Array | None]:
    """Attained Jacobian norm and its point.

    Where all tokens are equal, z_ij and C_i vanish and attention averages: uniformly without rotary positions, and in any case
    it leaves equal changes equal, so that the sum of the heads acts on them.
    """
    h = block.heads
    found: list[tuple[float, Array | None]] = []
    cheap = len(h.q) * n * n * h.d <= WORK and not block.rotary
    if region.middle is not None:
        if cheap:
            found.append((attained(h, region.middle), region.middle))
    else:
        X = np.zeros((n, h.d))
        if isinstance(domain, Shell):
            X[:, 0] = max(domain.r_min, domain.r_max * (1 - 1e-9))
        found.append((total * _average_norm(n, h.causal and not block.rotary)[0], X))
    if rng is not None and cheap and region.spread > 0:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            found += [_climb(h, domain, region, n, rng) for _ in range(6)]
    return max(found, key=lambda pair: pair[0], default=(0.0, None))


def _climb(h: Heads, domain: Domain, region: _Region, n: int, rng: np.random.Generator) -> tuple[float, Array | None]:
    inner, outer = (domain.r_min, domain.r_max) if isinstance(domain, Shell) else (0.0, region.radius)

    def project(X: Array) -> Array:
        if isinstance(domain, Box):
            return np.clip(X, domain.lo.reshape(n, h.d), domain.hi.reshape(n, h.d))
        if region.middle is not None:
            away = X - region.middle
            size = float(vector_norm(away.ravel(), domain.p if isinstance(domain, Ball) else 2))
            return region.middle + away * min(1.0, region.inner * (1 - 1e-9) / size if size else 1.0)
        size = np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
        return X * np.clip(size, inner * (1 + 1e-9), max(outer * (1 - 1e-9), inner)) / size

    start = rng.standard_normal((n, h.d)) * rng.uniform(0.2, 2.0) * region.radius / math.sqrt(h.d)
    if region.middle is not None:
        start = region.middle + region.reach * rng.standard_normal((n, h.d)) / math.sqrt(n * h.d)
    elif rng.random() < 0.5:  # two clusters, where variances are large
        start = start[rng.integers(0, 2, n)]
    value, X = ascend(h, start, project, region.spread, 60)
    return (value, X) if domain.contains(X if region.middle is None else X.ravel()).all() else (0.0, None)
