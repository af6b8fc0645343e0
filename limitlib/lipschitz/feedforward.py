"""Two-layer perceptrons, plain and gated, on tokens of bounded size: certified bounds of their Lipschitz constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import Bound, TokenBall, WholeSpace, vector_norm
from limitlib.lipschitz.activations import slope_range, value_range
from limitlib.operators import operator_norm
from limitlib.operators.matrices import as_float64

Array = NDArray[np.float64]
Hidden = Callable[[Array], tuple[Array, Array]]
EPS = float(np.finfo(float).eps)
WRITTEN_OUT = 2e7  # d * entries of the first matrix up to which Jacobians are written out for the lower end
INFLATE = 1 + 1e-13  # a few dozen operations on nonnegative numbers


def mlp_bound(
    W1: Any, W2: Any, activation: str = "gelu", *, b1: Any = None, R: float = math.inf, **params: Any
) -> Bound:
    """Bracket of the Lipschitz constant of ``x -> W2 act(W1 x + b1)`` on ``|x| <= R`` (token by token), Euclidean norms.

    W1 (hidden, d), W2 (out, hidden), b1 (hidden,). activation, params: as for ``slope_range``. With R finite each hidden unit
    counts with the slopes that its inputs allow. Upper end certified: with D the diagonal of slopes, D = C + E with fixed C and
    ``|E| <= diag(e)``, the least of ``|W2 S| |S^-1 diag(max|slope|) W1|`` for a balancing diagonal S or S = I, and of
    ``|W2 C W1| + |W2 S| |S^-1 diag(e) W1|``. Lower end: a Jacobian norm, attained at the point ``witness``.
    Raises ValueError or TypeError for shapes that do not fit, NaN or inf, half precision, a negative R.

    >>> mlp_bound(np.eye(2), np.eye(2), "relu").upper < 1 + 1e-9
    True
    """
    A, B = _matrix("W1", W1), _matrix("W2", W2)
    if B.shape[1] != len(A):
        raise ValueError(f"W2 has shape {B.shape}; give (out, {len(A)}), one column for each row of W1")
    b, R = _vector("b1", b1, len(A)), _radius(R)
    lo, hi = _reach(A, b, R)
    low, high = slope_range(activation, lo, hi, **params)
    steep = np.maximum(np.abs(low), np.abs(high))
    domain = TokenBall(R) if math.isfinite(R) else WholeSpace()
    if not np.isfinite(steep).all():
        return Bound(0.0, math.inf, (2, 2), domain, source=f"slopes of {activation} are unbounded there; name a finite R")
    upper, source = _sandwich(B, [(steep, A)]), "largest slopes between the two matrices"
    middle, spread = (low + high) / 2, (high - low) / 2 * INFLATE + EPS * steep
    if middle.any() and (spread < 0.9 * steep).any():
        product = (B * middle) @ A
        error = (len(A) + 8) * EPS * _length(B) * _length(steep[:, None] * A)
        split = (_norm(product) + error + _sandwich(B, [(spread, A)])) * INFLATE
        if split < upper:
            upper, source = split, "middle slopes as one matrix, plus their spread"

    def hidden(x: Array) -> Hidden:
        g, error = _affine(A, b, x)
        slope = _middle(*slope_range(activation, g - error, g + error, **params))
        return lambda v: _times(*slope, *_affine(A, np.zeros(len(A)), v))

    lower, point = _attained(hidden, B, A, R)
    return Bound(lower, upper, (2, 2), domain, "certified", point, source)


def gated_mlp_bound(
    Wg: Any,
    Wu: Any,
    Wd: Any,
    R: float,
    activation: str = "silu",
    *,
    bg: Any = None,
    bu: Any = None,
    bd: Any = None,
    **params: Any,
) -> Bound:
    """Bracket of the Lipschitz constant of ``x -> Wd (act(Wg x + bg) * (Wu x + bu))`` on ``|x| <= R`` (token by token).

    SwiGLU for "silu", GEGLU for "gelu". Wg, Wu (hidden, d), Wd (out, hidden), biases (hidden,); bd moves nothing. The map grows
    quadratically, so on the whole space (R = inf) the answer is inf, unless a factor is constant. Upper end certified: the
    Jacobian is Wd (D1 Wg + D2 Wu), D1 = act'(g) u and D2 = act(g); their largest entries on the ball, unit by unit, between
    norms of balanced matrices, or the lengths of u and act(g) where those are smaller. Lower end: a Jacobian norm, attained at
    ``witness``. Raises ValueError or TypeError for shapes that do not fit, NaN or inf, half precision, a negative R.

    >>> b = gated_mlp_bound(np.eye(2), np.eye(2), np.eye(2), 1.0)
    >>> b.lower <= b.upper < 1.7
    True
    """
    G, U, D = _matrix("Wg", Wg), _matrix("Wu", Wu), _matrix("Wd", Wd)
    if U.shape != G.shape:
        raise ValueError(f"Wu has shape {U.shape} but Wg has {G.shape}; give both as (hidden, d)")
    if D.shape[1] != len(G):
        raise ValueError(f"Wd has shape {D.shape}; give (out, {len(G)}), one column for each row of Wg")
    b, c, R = _vector("bg", bg, len(G)), _vector("bu", bu, len(G)), _radius(R)
    if bd is not None:
        _vector("bd", bd, len(D))
    lo, hi = _reach(G, b, R)
    low, high = slope_range(activation, lo, hi, **params)
    steep = np.maximum(np.abs(low), np.abs(high))
    values = value_range(activation, lo, hi, **params)
    open_gate = np.maximum(np.abs(values[0]), np.abs(values[1]))
    up = np.maximum(np.abs(_reach(U, c, R)[0]), np.abs(_reach(U, c, R)[1]))
    with np.errstate(invalid="ignore"):
        # A unit counts only where its row is not zero, and zero times infinity is zero: a constant factor stays constant.
        first = np.where((steep == 0) | (up == 0) | ~G.any(axis=1), 0.0, steep * up * INFLATE)
        second = np.where(~U.any(axis=1), 0.0, open_gate * INFLATE)
    live = D.any(axis=0)
    first, second = np.where(live, first, 0.0), np.where(live, second, 0.0)
    domain = TokenBall(R) if math.isfinite(R) else WholeSpace()
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        why = "a product of two functions of x: not globally Lipschitz; name a finite R"
        return Bound(0.0, math.inf, (2, 2), domain, source=why)
    upper, source = _sandwich(D, [(first, G), (second, U)]), "largest gate and up values, unit by unit"
    if math.isfinite(R):
        # The other way round: |u| is short as a vector, and |Wg dx| has entries of at most the longest row of Wg.
        at_zero = max(abs(float(v)) for v in value_range(activation, 0.0, 0.0, **params)) * math.sqrt(len(G))
        through = slope_range(activation, np.minimum(lo, 0.0), np.maximum(hi, 0.0), **params)
        climb = float(np.abs(through).max())
        up_length = (_norm(U) * R + _length(c)) * INFLATE
        gate_length = min((climb * (_norm(G) * R + _length(b)) + at_zero) * INFLATE, _length(open_gate))
        rows = float(steep.max()) * up_length * _longest_row(G) + gate_length * _longest_row(U)
        other = _norm(D) * rows * INFLATE
        if other < upper:
            upper, source = other, "lengths of the gate and up vectors"

    def hidden(x: Array) -> Hidden:
        (g, eg), (u, eu) = _affine(G, b, x), _affine(U, c, x)
        slope = _times(*_middle(*slope_range(activation, g - eg, g + eg, **params)), u, eu)
        gate = _middle(*value_range(activation, g - eg, g + eg, **params))

        def along(v: Array) -> tuple[Array, Array]:
            t1, e1 = _times(*slope, *_affine(G, np.zeros(len(G)), v))
            t2, e2 = _times(*gate, *_affine(U, np.zeros(len(G)), v))
            return t1 + t2, (e1 + e2) * INFLATE + 2 * EPS * np.abs(t1 + t2)

        return along

    lower, point = _attained(hidden, D, np.concatenate([G, U]), R)
    return Bound(lower, upper, (2, 2), domain, "certified", point, source)


# ------------------------------------------------------------------------------------------------------------- upper bounds


def _sandwich(B: Array, parts: list[tuple[Array, Array]]) -> float:
    """Upper bound of |sum_i B D_i A_i| over all diagonal |D_i| <= diag(a_i).

    It is |B S| sum_i |S^-1 diag(a_i) A_i| for any diagonal S > 0: S = I, or the S that makes the columns of B S as long as the
    rows behind them; the choice is made by estimates.
    """
    rows = sum(a * vector_norm(A, 2) for a, A in parts)
    columns = vector_norm(B.T, 2)
    live = (rows > 0) & (columns > 0)
    if not live.any():
        return 0.0
    B, rows, columns = B[:, live], np.asarray(rows)[live], columns[live]
    parts = [(a[live], A[live]) for a, A in parts]
    with np.errstate(over="ignore", under="ignore"):
        S = np.exp((np.log(rows) - np.log(columns)) / 2)
    S = np.clip(S / np.median(S), 1e-100, 1e100)

    def value(s: Array, norm: Callable[[Array], float]) -> float:
        return norm(B * s) * sum(norm((a / s)[:, None] * A) for a, A in parts if a.any())

    best = min((np.ones(len(S)), S), key=lambda s: value(s, _estimate))
    return value(best, _norm) * INFLATE


def _estimate(A: Array, steps: int = 8) -> float:
    """A few power steps: good enough to choose a scaling, never used as a bound."""
    size = float(np.abs(A).max()) or 1.0
    A, v = A / size, 1.0 + np.sin(np.arange(A.shape[1]) ** 2.0)
    for _ in range(steps):
        v = (A @ (v / (np.linalg.norm(v) or 1.0))) @ A
    return math.sqrt(float(np.linalg.norm(v))) * size


def _norm(A: Array) -> float:
    """Operator norm, rounded up; entries that are products of two floats are covered too."""
    return operator_norm(A).upper * (1 + 2 * EPS) + EPS * _length(A) if A.any() else 0.0


def _length(A: Array) -> float:
    """Frobenius norm, rounded up."""
    return float(vector_norm(A.ravel(), 2)) * (1 + (A.size + 8) * EPS)


def _longest_row(A: Array) -> float:
    return float(vector_norm(A, 2).max()) * (1 + (A.shape[1] + 8) * EPS)


def _reach(A: Array, b: Array, R: float) -> tuple[Array, Array]:
    """Ends, rounded outward, of the intervals that the entries of A x + b run through for |x| <= R."""
    rows = vector_norm(A, 2) * (1 + (A.shape[1] + 8) * EPS)
    with np.errstate(invalid="ignore"):
        reach = np.where(rows == 0, 0.0, rows * R)
    slack = 4 * EPS * np.abs(b)
    return b - reach * (1 + 4 * EPS) - slack, b + reach * (1 + 4 * EPS) + slack


# ------------------------------------------------------------------------------------------------------------- lower bounds


def _affine(A: Array, b: Array, x: Array) -> tuple[Array, Array]:
    """A x + b and a bound of its rounding error, entry by entry."""
    exact = not (x.any() or b.any())
    size = np.abs(A) @ np.abs(x) + np.abs(b)
    return A @ x + b, np.zeros(len(A)) if exact else (A.shape[1] + 6) * EPS * size


def _middle(low: Array, high: Array) -> tuple[Array, Array]:
    middle = low / 2 + high / 2
    return middle, np.maximum(high - middle, middle - low) + 2 * EPS * np.abs(middle)


def _times(a: Array, ea: Array, b: Array, eb: Array) -> tuple[Array, Array]:
    """Product of two numbers that are known up to ea and eb, with its error."""
    return a * b, (np.abs(a) * eb + ea * np.abs(b) + ea * eb + EPS * np.abs(a * b)) * (1 + 8 * EPS)


def _attained(
    hidden: Callable[[Array], Hidden], B: Array, A: Array, R: float
) -> tuple[float, Array | None]:
    """Largest certain |J(x) v| / |v| over a few points: 0, and both ends of the ball along the steepest inputs.

    ``hidden(x)(v)`` is the hidden part of J(x) v, before B, and its error. v is the steepest direction of the Jacobian, or,
    where that would be dear, of A; how it was found does not matter, the last product counts.
    """
    d = A.shape[1]
    A = A / (float(np.abs(A).max()) or 1.0)
    v = 1.0 + np.sin(np.arange(d) ** 2.0)
    for _ in range(20):
        v = (A @ v) @ A
        v /= np.linalg.norm(v) or 1.0
    reach = R * (1 - 1e-12) if math.isfinite(R) else 1.0
    best, place = 0.0, None
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for x in (np.zeros(d), reach * v, -reach * v):
            along, w = hidden(x), v
            if d * A.size <= WRITTEN_OUT:
                J = np.stack([B @ along(e)[0] for e in np.eye(d)], axis=1)
                if not np.isfinite(J).all() or not J.any():
                    continue
                w = np.linalg.svd(J / np.abs(J).max(), full_matrices=False)[2][0]
            t, error = along(w)
            size = float(vector_norm(B @ t, 2))
            lost = float(vector_norm(np.abs(B) @ (error + (B.shape[1] + 6) * EPS * np.abs(t)), 2))
            value = (size - lost * (1 + 1e-6)) / float(np.linalg.norm(w)) * (1 - (d + B.shape[0] + 16) * EPS)
            if value > best:
                best, place = value, x
    return (best, place) if best < math.inf else (0.0, None)


# ------------------------------------------------------------------------------------------------------------------- input


def _matrix(name: str, value: Any) -> Array:
    A = as_float64(name, value)
    if A.ndim != 2:
        raise ValueError(f"{name} has shape {A.shape}; give a matrix (outputs, inputs) as torch.nn.Linear holds it")
    return A


def _vector(name: str, value: Any, size: int) -> Array:
    if value is None:
        return np.zeros(size)
    b = as_float64(name, value)
    if b.shape != (size,):
        raise ValueError(f"{name} has shape {b.shape}; give ({size},)")
    return b


def _radius(R: Any) -> float:
    try:
        number = float(R)
    except (TypeError, ValueError):
        raise TypeError(f"R must be one real number; got {R!r}") from None
    if not number >= 0:
        raise ValueError(f"R={number} must not be negative; it bounds the Euclidean norm of a token")
    return number
