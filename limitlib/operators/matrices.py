"""Norms of matrices and linear operators, as brackets: an attained value below, an argument that holds in float64 above.

Rounding model, used for every certified end in this room. Let u = 2^-53 and gamma(k) = k u / (1 - k u). A float64 product of
matrices, however the sums are ordered and with or without fused operations, errs entrywise by at most gamma(k) |A| |B| for
inner dimension k (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.5); fast multiplication of
Strassen's type is excluded, and no BLAS in use applies it. Matrices are first scaled by a power of two, which rounds nothing,
so that squares neither overflow nor underflow; what underflows after that is below 2^-1000 of the norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from limitlib.bounds import EXACT_WIDTH, Bound, check_exponent, round_down, round_up, vector_norm

EPS = float(np.finfo(float).eps)
UNIT = EPS / 2  # unit roundoff u
SLACK = 1e-250  # above anything that underflow can do to a matrix whose largest entry is near 1
DENSE_LIMIT = 2**25  # a sparse matrix with more entries than this is not made dense
ENUMERATION_LIMIT = 16  # 2^15 sign vectors, one of each pair x, -x
FAILURE = 1e-6  # probability with which a probabilistic upper end may fail
STEPS = 128  # Golub-Kahan steps for an operator that is known by its products only


def operator_norm(
    A: Any, p: float = 2, q: float | None = None, *, rtol: float = 1e-6, rng: np.random.Generator | None = None
) -> Bound:
    """Bracket of the operator norm ``sup |A x|_q / |x|_p`` of a matrix; ``q`` defaults to ``p``.

    A: dense (outputs, inputs) array or tensor, scipy sparse matrix, or scipy ``LinearOperator`` (p = q = 2 only). float32 and
    integers are converted to float64 without loss. The lower end is attained: ``witness`` is the unit vector v, and the end is
    |A v|_q rounded down. The upper end, named in ``source``:

    * p = q = 2, dense: one Cholesky factorisation of s^2 I - A'A with s just above the lower end. With its rounding margin
      (Rump 2006, Verification of positive definiteness) it proves s >= |A|. Relative width at most ``rtol`` as long as that
      exceeds about n^2 1e-15; kind "certified" or, where the ends agree to 1e-9, "exact".
    * p = 1: largest column norm; q = inf: largest dual norm of a row. Exact.
    * p = inf or q = 1, the other one arbitrary: NP-hard in general. Exact by enumeration of up to 2^15 sign vectors, beyond
      that as below.
    * any other pair: the least of several inequalities (mixed norms, Riesz-Thorin interpolation, equivalence of norms) above,
      Boyd's power method below; ``rtol`` does not apply, the bracket may be wide, and it is "certified".
    * ``LinearOperator``: kind "probabilistic". With a random start, k Golub-Kahan steps miss the norm by a factor
      (1 - e)^(1/2) with probability at most 1.648 n^(1/2) exp(-e^(1/2) (2k - 1)) (Kuczynski and Wozniakowski 1992). Needs
      ``rng``; the rounding of the operator's own products is not accounted for.

    Raises ValueError for an empty or non-finite matrix, half precision, integers beyond 2^53, rtol outside (0, 1), exponents
    below 1, a missing rng, and TypeError for what is not a real matrix.

    >>> b = operator_norm([[3.0, 0.0], [0.0, 4.0]])
    >>> b.lower <= 4 <= b.upper, b.kind, operator_norm([[1, -2], [3, 4]], float("inf")).upper >= 7
    (True, 'exact', True)
    """
    q = p if q is None else q
    check_exponent("p", p)
    check_exponent("q", q)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie strictly between 0 and 1; got {rtol!r}")
    if isinstance(A, LinearOperator):
        return _operator_bound(A, p, q, rtol, rng)
    if scipy.sparse.issparse(A):
        if math.prod(A.shape) > DENSE_LIMIT:
            return _large_sparse_bound(A, p, q, rtol, rng)
        A = A.toarray()
    matrix = as_float64("A", A)
    if matrix.ndim != 2:
        raise ValueError(f"A must have two dimensions (outputs, inputs); got shape {matrix.shape}; reshape it")
    scaled, exponent = power_of_two_scaled(matrix)
    if exponent is None:
        return Bound(0.0, 0.0, (p, q), kind="exact", witness=_unit(matrix.shape[1], 0), source="the zero matrix")
    if p == q == 2:
        lower, upper, witness, source = _spectral(scaled, rtol)
    elif p == 1 or q == math.inf:
        lower, upper, witness, source = _closed_form(scaled, p, q)
    else:
        lower, upper, witness, source = _hard(scaled, p, q, rng)
    return unscaled(lower, upper, exponent, p, q, witness, source)


# ------------------------------------------------------------------------------------------------------------------- input


def as_float64(name: str, value: Any) -> np.ndarray:
    """A finite, nonempty float64 array from an array, a nested list or a torch tensor; errors call it ``name``."""
    kind = str(getattr(value, "dtype", ""))
    if "float16" in kind:  # also bfloat16
        raise ValueError(
            f"{name} holds {kind.removeprefix('torch.')} numbers, which are roundings of the trained ones; "
            "convert it with .float() (or .astype(np.float32)) to say that these are meant"
        )
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        raise TypeError(f"{name} must be an array of real numbers; got rows of different lengths") from None
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be an array of real numbers (float32, float64 or integers); got dtype {array.dtype}")
    if array.dtype.kind in "iu" and array.size and max(-int(array.min()), int(array.max())) > 2**53:
        raise ValueError(f"{name} holds integers beyond 2^53, which float64 cannot represent; scale it")
    array = array.astype(float)
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}); give at least one entry")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or inf; an operator norm needs finite numbers")
    return array


def power_of_two_scaled(A: np.ndarray) -> tuple[np.ndarray, int | None]:
    """(A / 2^e, e) with the largest entry in [1/2, 1); e is None for the zero matrix."""
    largest = np.abs(A).max()
    if largest == 0:
        return A, None
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(A, -exponent), exponent


def unscaled(lower: float, upper: float, e: int, p: float, q: float, witness: np.ndarray, source: str) -> Bound:
    def times(value: float, toward: float) -> float:
        try:
            moved = math.ldexp(value, e)
        except OverflowError:
            return toward if toward == math.inf else math.nextafter(math.inf, 0.0)
        if moved < 2.0**-1021 and math.ldexp(moved, -e) != value:  # a subnormal result was rounded
            return max(0.0, math.nextafter(moved, toward))
        return moved

    lower, upper = times(lower, -math.inf), times(upper, math.inf)
    kind = "exact" if upper - lower <= EXACT_WIDTH * upper < math.inf else "certified"
    return Bound(lower, upper, (p, q), kind=kind, witness=witness, source=source)


def _unit(n: int, i: int) -> np.ndarray:
    return np.eye(1, n, i)[0]


def gamma(k: int) -> float:
    """Relative error of k float64 operations in a row, k u / (1 - k u), rounded up."""
    return k * UNIT / (1 - k * UNIT) * (1 + 4 * EPS)


def attained(A: np.ndarray, x: np.ndarray, p: float, q: float) -> float:
    """|A x|_q / |x|_p rounded down: a certified LOWER bound on the norm of A, whose entries are of moderate size."""
    m, n = A.shape
    y = np.abs(A @ x)
    y = np.maximum(y - gamma(n + 2) * (np.abs(A) @ np.abs(x)), 0.0)
    above, below = float(vector_norm(y, q)), float(vector_norm(x, p))
    value = above * (1 - (m + 20) * EPS) / (below * (1 + (n + 20) * EPS))
    return max(0.0, round_down(value, 4))


# --------------------------------------------------------------------------------------------------------- spectral norm


def _spectral(A: np.ndarray, rtol: float) -> tuple[float, float, np.ndarray, str]:
    wide = A.shape[0] < A.shape[1]
    B = np.ascontiguousarray(A.T) if wide else A
    m, n = B.shape
    G = B.T @ B
    size = np.abs(B)
    # |B|'|B| has at most this norm: the Gram matrix errs by at most gamma(m) times it.
    entrywise = min(float(np.sum(B * B)), float(size.sum(axis=0).max() * size.sum(axis=1).max())) * (1 + 2 * (m + n) * EPS)
    gram_error = gamma(m + 1) * entrywise + SLACK

    def better(v: np.ndarray, best: tuple[float, np.ndarray]) -> tuple[float, np.ndarray]:
        x = B @ v if wide else v
        length = float(vector_norm(x, 2))
        if length == 0.0:
            return best
        x = x / length
        value = attained(A, x, 2, 2)
        return (value, x) if value > best[0] else best

    best = (-1.0, np.zeros(0))
    if n <= 96:
        v, how = np.linalg.eigh(G)[1][:, -1], "dense eigenvectors"
    else:
        v, steps = lanczos_top(lambda x: G @ x, _generic(n, 0), rtol / 8, 160)
        how = f"{steps} Lanczos steps"
    best = better(v, best)
    # The certificate cannot see differences below this (relative to the norm): no s nearer to the lower end is tried.
    blind = 4 * (n * gamma(2 * n + 10) + gram_error / max(best[0], 0.5) ** 2) + 1e-15
    tight = max(blind, 0.0 if n <= 96 else rtol / 2)
    delta, proof = tight, None
    for attempt in ("inverse", "dense", "wider"):
        factor, proof = _factor(G, best[0] * (1 + delta), gram_error)
        if proof is not None:
            break
        if attempt == "wider":
            break
        # An eigenvalue above s^2 was missed. Find some s that passes; inverse iteration with its factor magnifies the top.
        if attempt == "inverse":
            while proof is None:
                delta *= 16
                factor, proof = _factor(G, best[0] * (1 + delta), gram_error)
            v, _ = lanczos_top(
                lambda x, f=factor: scipy.linalg.cho_solve((f, True), x, check_finite=False), _generic(n, 1), rtol / 8, 40
            )
            how += ", then inverse iteration"
        else:
            v, how = np.linalg.eigh(G)[1][:, -1], how + ", then all eigenvectors (fallback)"
        best, delta = better(v, best), tight
    while proof is None:
        delta *= 4
        _, proof = _factor(G, best[0] * (1 + delta), gram_error)
    return best[0], proof, best[1], f"Cholesky certificate of s^2 I - A'A above, attained below ({how})"


def _factor(G: np.ndarray, s: float, gram_error: float) -> tuple[np.ndarray, float | None]:
    """Cholesky factor of s^2 I - G and, where it exists, a proved upper bound on the root of the true Gram's top eigenvalue.

    If floating-point Cholesky of M runs to the end, then M + E is positive semidefinite for some |E| <= c trace(M) with
    c = gamma(n + 1) / (1 - gamma(n + 1)) (Demmel; Higham, theorem 10.5; Rump 2006). Here n + 1 is more than doubled, for
    kernels that multiply by the reciprocal of a pivot.
    """
    n = len(G)
    square = s * s
    M = np.negative(G)
    diagonal = np.einsum("ii->i", M)
    diagonal += square
    if not (diagonal > 0).all():
        return M, None
    trace = float(diagonal.sum()) * (1 + 2 * n * EPS)
    factor, info = scipy.linalg.lapack.dpotrf(M.T, lower=1, overwrite_a=1, clean=0)
    if info != 0:
        return factor, None
    c = gamma(2 * n + 10)
    margin = trace * c / (1 - c) + gram_error + 4 * EPS * square + SLACK
    return factor, round_up(math.sqrt(round_up(square + margin, 4)), 2)


def _generic(n: int, seed: int) -> np.ndarray:
    """A fixed start. Its quality decides how long a search takes, never whether a bound holds."""
    return np.random.default_rng(seed).standard_normal(n)


def lanczos_top(multiply: Any, start: np.ndarray, rtol: float, max_steps: int) -> tuple[np.ndarray, int]:
    """Approximate top eigenvector of a symmetric positive semidefinite operator on R^n, and the steps taken.

    Lanczos with full reorthogonalisation; stops when the Ritz value's error estimate, the smaller
    of residual and residual^2 / gap, is below ``rtol`` of it. Nothing is claimed: whoever needs a bound certifies it.
    """
    n = len(start)
    max_steps = min(max_steps, n)
    Q = np.empty((max_steps, n))
    v = start / np.linalg.norm(start)
    alpha, beta = np.empty(max_steps), np.empty(max_steps)
    for k in range(max_steps):
        Q[k] = v
        w = multiply(v)
        alpha[k] = v @ w
        for _ in range(2):
            w = w - (Q[: k + 1] @ w) @ Q[: k + 1]
        beta[k] = np.linalg.norm(w)
        last = k == max_steps - 1 or beta[k] <= 1e-15 * abs(alpha[: k + 1]).max()
        if last or k % 8 == 7:
            values, vectors = scipy.linalg.eigh_tridiagonal(alpha[: k + 1], beta[:k])
            residual = beta[k] * abs(vectors[-1, -1])
            gap = values[-1] - values[-2] if k else 0.0
            error = residual if gap <= residual else residual * residual / gap
            if last or error <= rtol * values[-1]:
                break
        v = w / beta[k]
    return vectors[:, -1] @ Q[: k + 1], k + 1


# ----------------------------------------------------------------------------------------------------- other pairs (p, q)


def _dual(p: float) -> float:
    return math.inf if p == 1 else 1.0 if p == math.inf else p / (p - 1)


def _up(value: float, A: np.ndarray) -> float:
    """Room for the rounding of sums, powers and exponents over the sides of A."""
    return round_up(value * (1 + 2 * (sum(A.shape) + 40) * EPS), 2)


def _columns(A: np.ndarray, q: float) -> float:
    """Upper bound of |A|_{1 -> q}, exact up to rounding."""
    return _up(float(vector_norm(A.T, q).max()), A)


def _rows(A: np.ndarray, p: float) -> float:
    """Upper bound of |A|_{p -> inf}, exact up to rounding."""
    return _up(float(vector_norm(A, _dual(p)).max()), A)


def _aligned(w: np.ndarray, p: float) -> np.ndarray:
    """Columns x of unit l_p norm that maximise w'x, for the columns w."""
    scale = np.abs(w).max(axis=0)
    w = w / np.where(scale > 0, scale, 1.0)
    if p == 1:
        x = np.zeros_like(w)
        top = np.abs(w).argmax(axis=0), np.arange(w.shape[1])
        x[top] = np.where(w[top] < 0, -1.0, 1.0)
        return x
    signs = np.where(w < 0, -1.0, 1.0)
    if p == math.inf:
        return signs
    with np.errstate(under="ignore"):
        x = signs * np.abs(w) ** (_dual(p) - 1)
    x[0, scale == 0] = 1.0
    return x / vector_norm(x.T, p)


def _closed_form(A: np.ndarray, p: float, q: float) -> tuple[float, float, np.ndarray, str]:
    if p == 1:
        upper, source = _columns(A, q), "largest column norm"
        x = _unit(A.shape[1], int(vector_norm(A.T, q).argmax()))
    else:
        upper, source = _rows(A, p), "largest dual norm of a row"
        row = A[vector_norm(A, _dual(p)).argmax()]
        x = _aligned(row[:, None], p)[:, 0]
    return attained(A, x, p, q), upper, x, source


def _hard(A: np.ndarray, p: float, q: float, rng: np.random.Generator | None) -> tuple[float, float, np.ndarray, str]:
    m, n = A.shape
    if p == math.inf and n <= ENUMERATION_LIMIT:
        upper, x = _over_signs(A, q)
        return attained(A, x, p, q), upper, x, f"all {2 ** (n - 1)} sign vectors, the extreme points of the cube"
    if q == 1 and m <= ENUMERATION_LIMIT:
        upper, y = _over_signs(A.T, _dual(p))
        x = _aligned((A.T @ y)[:, None], p)[:, 0]
        return attained(A, x, p, q), upper, x, f"all {2 ** (m - 1)} sign vectors of the dual"
    spectral = operator_norm(A)
    uppers = list(_inequalities(A, p, q, spectral.upper))
    upper, why = min(uppers)
    lower, x = _boyd(A, p, q, spectral.witness, rng or np.random.default_rng(0))
    if p == math.inf or q == 1:
        why += " (the norm is NP-hard, and the matrix too large to enumerate)"
    return lower, upper, x, f"{why} above, Boyd's power method below"


def _over_signs(A: np.ndarray, q: float) -> tuple[float, np.ndarray]:
    """Certified upper bound of |A|_{inf -> q}, attained at a sign vector up to rounding, and that vector."""
    m, n = A.shape
    error = float(vector_norm(gamma(n + 2) * np.abs(A).sum(axis=1), q))
    bits = np.arange(n - 1)
    best, arg = -1.0, np.ones(n)
    block = max(1, min(2 ** (n - 1), 2**21 // m))
    for start in range(0, 2 ** (n - 1), block):
        codes = np.arange(start, min(start + block, 2 ** (n - 1)))
        signs = np.ones((len(codes), n))
        signs[:, 1:] -= 2.0 * ((codes[:, None] >> bits) & 1)
        values = vector_norm(signs @ A.T, q)
        k = int(values.argmax())
        if values[k] > best:
            best, arg = float(values[k]), signs[k]
    return _up(best + error, A), arg


def _inequalities(A: np.ndarray, p: float, q: float, spectral: float) -> Iterator[tuple[float, str]]:
    """Upper bounds of |A|_{p -> q}, 1 < p and q < inf, each with its reason."""
    m, n = A.shape
    x, y = 1 / p, 1 / q
    yield _up(float(vector_norm(vector_norm(A, _dual(p)), q)), A), "l_q norm of the rows' dual norms"
    yield _up(float(vector_norm(vector_norm(A.T, q), _dual(p))), A), "dual norm of the columns' l_q norms"
    yield _up(n ** max(0.0, 0.5 - x) * spectral * m ** max(0.0, y - 0.5), A), "equivalence with the spectral norm"
    if p <= q:
        yield from _interpolations(A, x, y, spectral)
    for r in {p, q}:
        # |A|_{p->q} <= |I|_{p->r} |A|_{r->r} |I|_{r->q}
        factor = n ** max(0.0, 1 / r - x) * m ** max(0.0, y - 1 / r)
        norms = {1.0: _columns(A, 1), math.inf: _rows(A, math.inf), 2.0: spectral}
        upper = norms[r] if r in norms else min(_interpolations(A, 1 / r, 1 / r, spectral))[0]
        yield _up(factor * upper, A), f"equivalence with the norm l_{r:g} -> l_{r:g}"


def _interpolations(A: np.ndarray, x: float, y: float, spectral: float) -> Iterator[tuple[float, str]]:
    """Riesz-Thorin for x = 1/p >= y = 1/q, between pairs whose norm is known and the same over real and complex vectors."""
    source = "Riesz-Thorin interpolation"

    def exponent(reciprocal: float) -> float:
        return 1 / reciprocal if reciprocal > 1e-12 else math.inf

    for t in np.linspace(1 - x, 1 - y, 5):  # between (1, 1/b) and (1/a, inf)
        a = min(1.0, max(0.0, (x - (1 - t)) / t)) if t > 0 else 0.0
        b = min(1.0, y / (1 - t)) if t < 1 else 0.0
        upper = _columns(A, exponent(b)) ** (1 - t) * _rows(A, exponent(a)) ** t
        yield _up(float(upper), A), source
    # From (1/2, 1/2) through (x, y) to the edge where 1/p = 1 or 1/q = 0.
    reach = min(0.5 / (x - 0.5) if x > 0.5 else math.inf, 0.5 / (0.5 - y) if y < 0.5 else math.inf)
    if 1 <= reach < math.inf:
        a, b = 0.5 + reach * (x - 0.5), 0.5 + reach * (y - 0.5)
        if -1e-12 <= a <= 1 + 1e-12 and -1e-12 <= b <= 1 + 1e-12:
            edge = _columns(A, exponent(b)) if a > 1 - 1e-12 else _rows(A, exponent(max(a, 0.0)))
            yield _up(spectral ** (1 - 1 / reach) * edge ** (1 / reach), A), source


def _boyd(A: np.ndarray, p: float, q: float, start: np.ndarray, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Best attained value and its vector: the power method of Boyd (1974) from several starts; it never decreases the value."""
    n = A.shape[1]
    largest = vector_norm(A.T, q).argsort()[-4:]
    rows = A[vector_norm(A, 1).argsort()[-4:]]
    X = np.column_stack([start, np.eye(n)[:, largest], np.sign(rows).T, rng.standard_normal((n, 16))])
    X[:, ~X.any(axis=0)] = 1.0
    X = X / vector_norm(X.T, p)
    value = np.zeros(X.shape[1])
    for _ in range(100):
        Y = A @ X
        old, value = value, vector_norm(Y.T, q)
        if (value <= old * (1 + 1e-13)).all():
            break
        X = _aligned(A.T @ _aligned(Y, _dual(q)), p)
    x = X[:, int(vector_norm((A @ X).T, q).argmax())]
    return attained(A, x, p, q), x


# -------------------------------------------------------------------------------------------- operators known by products


def _large_sparse_bound(A: Any, p: float, q: float, rtol: float, rng: np.random.Generator | None) -> Bound:
    if p == q == 2:
        return _operator_bound(aslinearoperator(A), p, q, rtol, rng)
    if p != 1 and q != math.inf:
        raise ValueError(f"A: the norm {(p, q)} needs a dense matrix, and this shape {A.shape} is too large; use a smaller one")
    # |A|_{1 -> q} is the largest column norm; |A|_{p -> inf} that of the transpose from 1 to the dual of p.
    columns, r = (A.tocsc(), q) if p == 1 else (A.T.tocsc(), _dual(p))
    best, where = 0.0, 0
    for j in range(0, columns.shape[1], 64):
        sizes = vector_norm(as_float64("A", columns[:, j : j + 64].toarray()).T, r)
        if sizes.max() > best:
            best, where = float(sizes.max()), j + int(sizes.argmax())
    if p == 1:
        x = _unit(columns.shape[1], where)
    else:
        x = _aligned(columns[:, [where]].toarray(), p)[:, 0]
    margin = 2 * (sum(A.shape) + 40) * EPS
    source = "largest column norm" if p == 1 else "largest dual norm of a row"
    return Bound(max(0.0, best * (1 - margin)), best * (1 + margin), (p, q), kind="certified", witness=x, source=source)


def _operator_bound(A: LinearOperator, p: float, q: float, rtol: float, rng: np.random.Generator | None) -> Bound:
    if not p == q == 2:
        raise ValueError(f"A: of a LinearOperator only the norm p = q = 2 is bounded; got {(p, q)}; give the matrix")
    if rng is None:
        raise ValueError("rng: the upper end for a LinearOperator rests on a random start; pass np.random.default_rng(seed)")
    if np.dtype(A.dtype or float).kind == "c":
        raise TypeError("A must be a real operator; got a complex one")
    m, n = A.shape
    if min(m, n) == 0:
        raise ValueError(f"A is empty (shape {A.shape}); give at least one entry")
    small = min(m, n)
    forward, back = (A.matvec, A.rmatvec) if n <= m else (A.rmatvec, A.matvec)
    logarithm = math.log(1.648 * math.sqrt(small) / FAILURE)
    wanted = math.ceil((logarithm / math.sqrt(2 * rtol) + 1) / 2)
    value, v, steps = _golub_kahan(forward, back, small, min(wanted, STEPS, small), rng)
    if value == 0.0:
        return Bound(0.0, 0.0, kind="probabilistic", witness=_unit(n, 0), source="A maps a random vector to zero")
    x = v if n <= m else forward(v)
    x = x / vector_norm(x, 2)
    lower = float(vector_norm(_finite(A.matvec(x)), 2)) / float(vector_norm(x, 2)) * (1 - (m + n + 40) * EPS)
    rounding = 1 + 1e-10 + (m + n) * EPS
    if steps == small:
        upper, source = value * rounding, f"{steps} Golub-Kahan steps from a random start span the space with probability one"
    else:
        missed = (logarithm / (2 * steps - 1)) ** 2
        upper = value / math.sqrt(1 - missed) * rounding if missed < 1 else math.inf
        source = f"{steps} Golub-Kahan steps from a random start (Kuczynski, Wozniakowski 1992)"
        source += f"; the upper end fails with probability at most {FAILURE:g}"
    return Bound(lower, max(upper, lower), kind="probabilistic", witness=x, source=source)


def _finite(y: Any) -> np.ndarray:
    y = np.asarray(y, dtype=float).reshape(-1)
    if not np.isfinite(y).all():
        raise ValueError("A returned NaN or inf for a finite vector; an operator norm needs finite numbers")
    return y


def _golub_kahan(forward: Any, back: Any, n: int, steps: int, rng: np.random.Generator) -> tuple[float, np.ndarray, int]:
    """Largest |A v| over the Krylov space of a random start, its v, and the number of steps; forms no squares."""

    def orthogonal(w: np.ndarray, basis: list[np.ndarray]) -> np.ndarray:
        Q = np.array(basis)
        for _ in range(2):
            w = w - (Q @ w) @ Q
        return w

    def random_direction(basis: list[np.ndarray], size: int) -> np.ndarray:
        w = rng.standard_normal(size)
        w = orthogonal(w, basis) if basis else w
        return w / vector_norm(w, 2)

    V: list[np.ndarray] = [random_direction([], n)]
    U: list[np.ndarray] = []
    alpha: list[float] = []
    beta: list[float] = []
    for k in range(steps):
        u = _finite(forward(V[k]))
        scale = max([float(vector_norm(u, 2)), *alpha, *beta])
        if scale == 0.0:
            return 0.0, V[0], steps
        u = orthogonal(u, U) if U else u
        a = float(vector_norm(u, 2))
        if a <= 1e-15 * scale:  # V[k] is mapped into what is known already: an arbitrary new output direction, weight zero
            a, u = 0.0, random_direction(U, u.size) if u.size > k else np.zeros_like(u)
        else:
            u = u / a
        alpha.append(a)
        U.append(u)
        if k == steps - 1:
            break
        w = orthogonal(_finite(back(u)), V)
        b = float(vector_norm(w, 2))
        if b <= 1e-15 * scale:  # the Krylov space is complete; go on in a new direction, which can only help
            b, w = 0.0, random_direction(V, n)
        else:
            w = w / b
        beta.append(b)
        V.append(w)
    scale = max(alpha + beta)
    bidiagonal = np.diag(np.array(alpha) / scale) + np.diag(np.array(beta) / scale, 1)
    _, values, right = np.linalg.svd(bidiagonal)
    return float(values[0] * scale), right[0] @ np.array(V), steps
