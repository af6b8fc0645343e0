"""limitlib.operators.operator_norm: exact rational arithmetic, closed forms, brackets without exception, and refusals."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from limitlib.bounds import vector_norm
from limitlib.operators import matrices, operator_norm

INF = math.inf


def rng_of(seed):
    return np.random.default_rng(seed)


def orthogonal(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def with_spectrum(values, rng, rows=None):
    n = len(values)
    left = orthogonal(rows or n, rng)[:, :n]
    return (left * np.asarray(values)) @ orthogonal(n, rng).T


def holds(b, truth, tolerance=1e-13):
    return b.lower <= truth * (1 + tolerance) and truth * (1 - tolerance) <= b.upper


# --- the spectral norm, against exact arithmetic: no tolerance anywhere


def fractions(A):
    return [[Fraction(float(v)) for v in row] for row in np.atleast_2d(A)]


def exactly_below(A, s):
    """Whether s^2 I - A'A is positive definite, by exact elimination: |A| < s without rounding."""
    rows, n = fractions(A), np.shape(A)[1]
    M = [[Fraction(s) ** 2 * (i == j) - sum(r[i] * r[j] for r in rows) for j in range(n)] for i in range(n)]
    for k in range(n):
        if M[k][k] <= 0:
            return False
        for i in range(k + 1, n):
            factor = M[i][k] / M[k][k]
            for j in range(k, n):
                M[i][j] -= factor * M[k][j]
    return True


def exactly_attained(A, x, value):
    """Whether |A x| >= value |x| in exact arithmetic."""
    x = [Fraction(float(v)) for v in x]
    y = [sum(a * v for a, v in zip(row, x, strict=True)) for row in fractions(A)]
    return sum(v * v for v in y) >= Fraction(value) ** 2 * sum(v * v for v in x)


def small_matrix(rng):
    m, n = rng.integers(1, 5, size=2)
    A = rng.standard_normal((m, n))
    kind = rng.integers(0, 7)
    if kind == 1:
        A = rng.integers(-3, 4, (m, n)).astype(float)
    elif kind == 2:
        A = np.outer(A[:, 0], A[0])  # rank one
    elif kind == 3:
        A = np.triu(np.ones((m, n)), 1)  # nilpotent where square, and zero where one column
    elif kind == 4:
        A = np.eye(m, n) * A[0, 0]  # tied singular values
    elif kind == 5:
        A = A * 10.0 ** rng.integers(-9, 9, (m, n))  # badly scaled entries
    return A * 2.0 ** rng.integers(-400, 400)


def test_both_ends_hold_in_exact_arithmetic():
    rng = rng_of(0)
    for _ in range(400):
        A = small_matrix(rng)
        b = operator_norm(A)
        assert exactly_attained(A, b.witness, b.lower)
        assert b.upper == b.lower == 0 if not A.any() else exactly_below(A, b.upper)
        assert b.kind == "exact" and b.upper <= b.lower * (1 + 1e-9)


def test_the_exact_checks_can_fail():
    A = np.array([[3.0, 4.0]])
    assert not exactly_below(A, math.nextafter(5.0, 0)) and exactly_below(A, math.nextafter(5.0, 6))
    assert not exactly_attained(A, [0.6, 0.8], math.nextafter(math.nextafter(5.0, 6), 6))


def test_norms_that_are_integers():
    H = np.array([[1.0]])
    for k in range(1, 5):
        H = np.block([[H, H], [H, -H]])
        if k % 2 == 0:  # Hadamard matrices: all singular values are tied, at 4 and at 16
            b = operator_norm(H[:, : k + 3])
            assert b.lower <= 2 ** (k / 2) <= b.upper and b.is_exact
    rank_one = np.outer([3, 4, 12, 84], [8, 15, 144])  # |u| = 85, |v| = 145
    b = operator_norm(rank_one)
    assert b.lower <= 85 * 145 <= b.upper and b.is_exact
    assert operator_norm(np.ones((7, 28))).contains(14.0)
    assert operator_norm([[5]]).contains(5.0)
    assert operator_norm(np.ones((1, 49))).contains(7.0) and operator_norm(np.ones((49, 1))).contains(7.0)


def test_thousands_of_random_matrices():
    rng = rng_of(1)
    for _ in range(2000):
        m, n = rng.integers(1, 13, size=2)
        A = rng.standard_normal((m, n)) * 10.0 ** rng.integers(-150, 150)
        b = operator_norm(A)
        assert holds(b, np.linalg.svd(A / np.abs(A).max(), compute_uv=False)[0] * np.abs(A).max()) and b.is_exact


# --- the spectral norm of larger matrices, where Lanczos and the Cholesky certificate do the work

SPECTRA = {
    "random-like": np.linspace(0, 1, 160),
    "tied": np.r_[np.ones(80), np.linspace(0, 0.9, 80)],
    "all tied": np.ones(160),
    "clustered": 1 - 1e-7 * np.arange(160),
    "evenly near 1": np.linspace(0.999, 1, 160),
    "one": np.r_[1.0, np.zeros(159)],
    "one, hidden": np.r_[1.0, np.full(159, 1 - 1e-5)],
    "graded": 10.0 ** -np.arange(160),
}


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150, 1e30])
@pytest.mark.parametrize("name", SPECTRA)
def test_difficult_spectra(name, scale):
    A = with_spectrum(SPECTRA[name], rng_of(2), rows=170) * scale
    for matrix in (A, A.T):
        b = operator_norm(matrix)
        truth = np.linalg.svd(matrix / scale, compute_uv=False)[0] * scale
        assert holds(b, truth) and b.upper <= b.lower * (1 + 1e-6)
        attained = np.linalg.norm(matrix / scale @ b.witness) * scale
        assert b.lower <= attained <= truth * (1 + 1e-13) and np.linalg.norm(b.witness) == pytest.approx(1, abs=1e-12)


def test_the_certificate_refuses_every_s_below_the_norm():
    A = with_spectrum(np.linspace(0, 1, 150), rng_of(3))
    G = A.T @ A
    for excess in (-0.5, -1e-3, -1e-6, -1e-9):
        assert matrices._factor(G, 1 + excess, 0.0)[1] is None
    for excess in (1e-9, 1e-6, 1e-3):
        assert 1 <= matrices._factor(G, 1 + excess, 0.0)[1] <= (1 + excess) * (1 + 1e-10)


def test_a_top_direction_that_the_search_cannot_see_is_found_through_the_certificate():
    """The start of the search is known, so the top right vector can be put orthogonal to it."""
    n = 150
    start = matrices._generic(n, 0)
    basis = np.linalg.qr(np.column_stack([start, rng_of(4).standard_normal((n, n - 1))]))[0]
    for second in (0.5, 0.99, 1 - 1e-5):
        A = second * np.outer(basis[:, 0], basis[:, 0]) + np.outer(basis[:, 1], basis[:, 1])
        b = operator_norm(A)
        assert holds(b, 1.0) and b.upper <= b.lower * (1 + 1e-6)


def test_a_failed_search_costs_width_never_truth(monkeypatch):
    A = with_spectrum(np.linspace(0, 1, 150), rng_of(5))

    def poor(multiply, start, rtol, max_steps):
        return start / np.linalg.norm(start), 1

    monkeypatch.setattr(matrices, "lanczos_top", poor)
    b = operator_norm(A)
    assert holds(b, 1.0) and b.upper <= b.lower * (1 + 1e-6) and "fallback" in b.source


def test_rtol_is_kept():
    A = rng_of(6).standard_normal((200, 220))
    for rtol in (1e-2, 1e-4, 1e-8):
        b = operator_norm(A, rtol=rtol)
        assert holds(b, np.linalg.svd(A, compute_uv=False)[0]) and b.upper <= b.lower * (1 + rtol)


def test_the_ends_of_the_float_range():
    tiny = np.full((3, 3), 5e-324)
    assert operator_norm(tiny).lower <= 1.5e-323 <= operator_norm(tiny).upper < 3e-323
    huge = operator_norm(np.full((3, 3), 1e308))  # the norm, 3e308, is not a float64
    assert huge.upper == INF and huge.lower > 1e308 and huge.kind == "certified"
    mixed = np.diag([1e200, 1e-200])
    assert operator_norm(mixed).contains(1e200) and operator_norm(mixed).is_exact


def test_zero():
    b = operator_norm(np.zeros((3, 5)))
    assert (b.lower, b.upper, b.kind, b.witness.shape) == (0, 0, "exact", (5,))
    assert operator_norm(np.zeros((3, 5)), INF, 1).upper == 0


# --- other norms


def test_closed_forms_for_one_and_infinity():
    rng = rng_of(7)
    for _ in range(300):
        m, n = rng.integers(1, 9, size=2)
        A = rng.standard_normal((m, n))
        truths = {
            (1, 1): np.abs(A).sum(0).max(),
            (INF, INF): np.abs(A).sum(1).max(),
            (1, INF): np.abs(A).max(),
            (1, 2): np.sqrt((A * A).sum(0)).max(),
            (2, INF): np.sqrt((A * A).sum(1)).max(),
            (1, 3): (np.abs(A) ** 3).sum(0).max() ** (1 / 3),
            (3, INF): (np.abs(A) ** 1.5).sum(1).max() ** (2 / 3),
        }
        for (p, q), truth in truths.items():
            b = operator_norm(A, p, q)
            assert holds(b, truth) and b.is_exact and b.norm == (p, q)
            x = b.witness
            assert np.linalg.norm(A @ x, q) >= b.lower * np.linalg.norm(x, p)


@pytest.mark.parametrize(("p", "q"), [(INF, 1), (INF, 2), (2, 1), (INF, 3), (3, 1)])
def test_enumeration_agrees_with_a_loop_over_signs(p, q):
    rng = rng_of(8)
    for m, n in [(1, 1), (4, 1), (1, 6), (5, 4), (7, 9)]:
        A = rng.standard_normal((m, n))
        if p == INF:
            vertices = np.stack(np.meshgrid(*[[-1.0, 1.0]] * n, indexing="ij"), -1).reshape(-1, n)
            truth = np.linalg.norm(vertices @ A.T, q, axis=1).max()
        else:  # |A|_{p->1} is the largest dual norm of A'y over signs y
            vertices = np.stack(np.meshgrid(*[[-1.0, 1.0]] * m, indexing="ij"), -1).reshape(-1, m)
            truth = np.linalg.norm(vertices @ A, p / (p - 1), axis=1).max()
        b = operator_norm(A, p, q)
        assert holds(b, truth) and b.is_exact and "sign vectors" in b.source


PAIRS = [(3, 3), (1.5, 1.5), (4, 2), (2, 4), (1.2, 7), (7, 1.2), (2, 1.5), (1.5, 2), (1.0001, 50), (30, 1.001), (2, 3), (5, 2)]


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_brackets_of_hard_norms_hold_and_the_lower_end_is_nearly_reached(p, q):
    rng = rng_of(9)
    angle = np.linspace(0, np.pi, 4001)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    circle /= np.linalg.norm(circle, p, axis=1, keepdims=True)
    for _ in range(60):
        A = rng.standard_normal((rng.integers(1, 6), 2)) * 10.0 ** rng.integers(-40, 40)
        b = operator_norm(A, p, q)
        sampled = np.linalg.norm(circle @ (A / b.upper).T, q, axis=1).max() * b.upper
        assert sampled * (1 - 1e-13) <= b.upper and b.lower >= sampled * (1 - 1e-6)
        # The spacing of the grid is about 1e-3: the maximum is flat, so the true norm is little above the sample.
        assert b.lower <= sampled * (1 + 1e-4)


def test_a_matrix_and_its_transpose_have_brackets_that_meet():
    rng = rng_of(10)
    for p, q in PAIRS:
        for _ in range(10):
            A = rng.standard_normal(rng.integers(1, 20, size=2))
            a, b = operator_norm(A, p, q), operator_norm(A.T, q / (q - 1), p / (p - 1))
            assert max(a.lower, b.lower) <= min(a.upper, b.upper)


def test_hard_norms_too_large_to_enumerate_say_so():
    A = rng_of(11).standard_normal((30, 25))
    for p, q in [(INF, 1), (INF, 2), (2, 1)]:
        b = operator_norm(A, p, q)
        assert b.kind == "certified" and "NP-hard" in b.source and 1 < b.ratio < 2
        x = b.witness
        assert np.linalg.norm(A @ x, q) >= b.lower * np.linalg.norm(x, p)
    # A signed permutation of a nonnegative rank-one matrix: its norm from l_inf to l_1 is the sum of all entries' sizes.
    signs = rng_of(12).choice([-1.0, 1.0], (2, 30))
    B = signs[0][:, None] * np.ones((30, 30)) * signs[1]
    assert operator_norm(B, INF, 1).lower == pytest.approx(900, rel=1e-12) and operator_norm(B, INF, 1).upper >= 900


def test_exponents_whose_powers_underflow():
    """0.4^10001 is no float64, but the norm is at least 0.4."""
    v = np.array([[0.4, 0.3]])
    assert vector_norm(v, 10001.0) == pytest.approx([0.4], rel=1e-15)
    assert operator_norm(v.T, 3, 10001).contains(0.4) and operator_norm(v, 10001 / 10000, 7).contains(0.4)


def test_interpolation_beats_equivalence_of_norms():
    A = rng_of(13).standard_normal((40, 40))
    equivalences = 40 ** (1 / 6) * operator_norm(A).upper, 40 ** (2 / 3) * operator_norm(A, 1).upper
    assert operator_norm(A, 3).upper < 0.9 * min(equivalences)


# --- operators known by products, and sparse matrices


def test_a_linear_operator_gets_a_probabilistic_bracket():
    for seed in range(20):
        rng = rng_of(seed)
        A = rng.standard_normal((rng.integers(2, 400), rng.integers(2, 400))) * 10.0 ** rng.integers(-200, 200)
        b = operator_norm(aslinearoperator(A), rng=rng)
        truth = np.linalg.norm(A / np.abs(A).max(), 2) * np.abs(A).max()
        assert holds(b, truth, 1e-12) and b.kind == "probabilistic" and b.ratio < 1.01
        assert "probability" in b.source and b.witness.shape == (A.shape[1],)


def test_the_probability_is_that_of_the_theorem(monkeypatch):
    """Few steps and a failure probability of one half: it must not be exceeded, and without the margin all would fail."""
    monkeypatch.setattr(matrices, "FAILURE", 0.5)
    monkeypatch.setattr(matrices, "STEPS", 12)
    d = np.linspace(0, 1, 2000)
    A = LinearOperator((2000, 2000), matvec=lambda x: d * np.ravel(x), rmatvec=lambda x: d * np.ravel(x), dtype=float)
    found = [operator_norm(A, rng=rng_of(seed)) for seed in range(200)]
    assert np.mean([b.upper < 1 for b in found]) <= 0.5
    assert np.mean([b.lower < 1 - 1e-4 for b in found]) > 0.9


def test_operators_of_low_rank_and_zero():
    u = np.linspace(1, 2, 300)
    project = lambda x: u * (u @ np.ravel(x))  # noqa: E731
    one = LinearOperator((300, 300), matvec=project, rmatvec=project, dtype=float)
    assert holds(operator_norm(one, rng=rng_of(0)), u @ u, 1e-12)
    assert operator_norm(aslinearoperator(np.zeros((4, 6))), rng=rng_of(0)).upper == 0
    shift = aslinearoperator(np.eye(50, k=1))  # nilpotent, 49 singular values tied at one
    assert holds(operator_norm(shift, rng=rng_of(0)), 1.0, 1e-12)


def test_sparse_matrices(monkeypatch):
    S = scipy.sparse.random(60, 90, density=0.1, random_state=rng_of(0), format="csr")
    dense = S.toarray()
    for p, q in [(2, 2), (1, 2), (2, INF), (INF, INF)]:
        assert operator_norm(S, p, q).upper == operator_norm(dense, p, q).upper
    monkeypatch.setattr(matrices, "DENSE_LIMIT", 10)
    assert operator_norm(S, rng=rng_of(0)).kind == "probabilistic"
    assert holds(operator_norm(S, rng=rng_of(0)), np.linalg.norm(dense, 2), 1e-12)
    for p, q in [(1, 1), (1, 2), (2, INF), (INF, INF), (3, INF)]:
        big, small = operator_norm(S, p, q), operator_norm(dense, p, q)
        assert max(big.lower, small.lower) <= min(big.upper, small.upper)
        assert np.linalg.norm(dense @ big.witness, q) == pytest.approx(big.lower * np.linalg.norm(big.witness, p))
    with pytest.raises(ValueError, match="needs a dense matrix"):
        operator_norm(S, 2, 1)


# --- input


@pytest.mark.parametrize(
    "convert",
    [
        lambda A: A.astype(int),
        lambda A: A.astype(np.float32),
        lambda A: A.tolist(),
        torch.tensor,
        lambda A: torch.nn.Parameter(torch.tensor(A).float()),
    ],
)
def test_other_types_are_converted_exactly(convert):
    A = np.array([[1.0, 2.0, 2.0], [4.0, -8.0, 1.0]])
    assert operator_norm(convert(A)) == operator_norm(A)


@pytest.mark.parametrize(
    ("A", "error", "words"),
    [
        (np.zeros((0, 3)), ValueError, "A is empty"),
        ([[1.0, math.nan]], ValueError, "NaN or inf"),
        ([[1.0, INF]], ValueError, "NaN or inf"),
        ([1.0, 2.0], ValueError, "two dimensions"),
        ([[1.0], [1.0, 2.0]], TypeError, "different lengths"),
        (np.ones((2, 2), np.float16), ValueError, r"convert it with .float\(\)"),
        (torch.ones(2, 2, dtype=torch.bfloat16), ValueError, r"bfloat16 .* convert it with .float\(\)"),
        (np.ones((2, 2), complex), TypeError, "complex"),
        ([["a"]], TypeError, "real numbers"),
        ([[2**60 + 1]], ValueError, "2\\^53"),
        (aslinearoperator(np.ones((2, 2))), ValueError, "rng"),
    ],
)
def test_bad_matrices_are_named(A, error, words):
    with pytest.raises(error, match=words):
        operator_norm(A)


def test_bad_arguments_are_named():
    for p, q, words in [(0.5, 2, "p must be"), (2, "fro", "q must be")]:
        with pytest.raises(ValueError, match=words):
            operator_norm(np.eye(2), p, q)
    with pytest.raises(ValueError, match="rtol"):
        operator_norm(np.eye(2), rtol=0)
    with pytest.raises(ValueError, match="only the norm p = q = 2"):
        operator_norm(aslinearoperator(np.eye(2)), 1, rng=rng_of(0))
    broken = LinearOperator((2, 2), matvec=lambda x: x * math.nan, rmatvec=lambda x: x, dtype=float)
    with pytest.raises(ValueError, match="returned NaN"):
        operator_norm(broken, rng=rng_of(0))
