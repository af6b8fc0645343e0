"""limitlib.lipschitz.sdp_upper: never below a slope pattern, proved by its multipliers, close to the best there is."""

import itertools
import math

import numpy as np
import pytest

from limitlib.lipschitz import Multipliers, sdp_upper
from limitlib.lipschitz.semidefinite import SlopeProblem, chain_problem, fast_start


def chain(rng, sizes):
    return [rng.standard_normal((o, i)) / math.sqrt(i) for i, o in itertools.pairwise(sizes)]


def formal(weights, slopes=(0.0, 1.0)):
    """Largest norm over all patterns of extreme slopes: a lower end of what sdp_upper bounds."""
    widths = [len(w) for w in weights[:-1]]
    patterns = np.array(list(itertools.product(slopes, repeat=sum(widths))))
    J = np.broadcast_to(weights[0], (len(patterns), *weights[0].shape))
    for W, D in zip(weights[1:], np.split(patterns, np.cumsum(widths)[:-1], axis=1), strict=True):
        J = W @ (D[:, :, None] * J)
    return float(np.linalg.norm(J, 2, axis=(1, 2)).max())


def matrix_of(weights, multipliers, rho):
    """The matrix inequality of the whole chain, written down block by block; slopes in [0, 1]."""
    if multipliers.transposed:
        weights = [w.T for w in reversed(weights)]
    values = multipliers.values[::-1] if multipliers.transposed else multipliers.values
    sizes = [weights[0].shape[1], *(len(v) for v in values)]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    M = np.zeros((ends[-1], ends[-1]))
    M[: ends[1], : ends[1]] = rho * np.eye(sizes[0])
    for k, v in enumerate(values):
        here, before = slice(ends[k + 1], ends[k + 2]), slice(ends[k], ends[k + 1])
        M[here, here] += np.diag(v)
        M[here, before] -= 0.5 * v[:, None] * weights[k]
        M[before, here] -= 0.5 * (v[:, None] * weights[k]).T
    M[ends[-2] :, ends[-2] :] -= weights[-1].T @ weights[-1]
    return M


# --- closed forms


def test_networks_whose_best_bound_is_known():
    assert sdp_upper([[[1.0], [-1.0]], [[1.0, 1.0]]]).upper == pytest.approx(1.0, rel=1e-5)  # |x|
    assert sdp_upper([[[3.0, 4.0]], [[2.0], [0.0]]]).upper == pytest.approx(10.0, rel=1e-5)  # one neuron
    assert sdp_upper([np.eye(4), np.eye(4), np.diag([1.0, 2, 3, 4])]).upper == pytest.approx(4.0, rel=1e-5)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    assert sdp_upper([Q, Q.T]).upper == pytest.approx(1.0, rel=1e-5)


def test_one_matrix_has_its_own_norm():
    A = np.random.default_rng(1).standard_normal((3, 6))
    bound = sdp_upper([A])
    assert bound.lower <= np.linalg.norm(A, 2) * (1 + 1e-15) and bound.upper == pytest.approx(np.linalg.norm(A, 2), rel=1e-8)


@pytest.mark.parametrize(
    "weights",
    [
        [np.zeros((2, 2)), np.eye(2)],
        [np.eye(2), np.zeros((1, 2))],
        [np.diag([1.0, 0.0]), np.diag([0.0, 1.0])],
        [np.diag([1.0, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 0.0]])],
    ],
)
def test_maps_that_zeros_make_constant(weights):
    bound = sdp_upper(weights)
    assert bound.lower == bound.upper == 0 and bound.is_exact


# --- never too low, proved, and tight


def test_never_below_any_pattern_and_close_to_the_best_one():
    ratios = []
    rng = np.random.default_rng(2)
    for k in range(120):
        weights = chain(rng, [int(rng.integers(1, 6)), *[[9], [5, 4], [3, 3, 3]][k % 3], int(rng.integers(1, 6))])
        upper, truth = sdp_upper(weights).upper, formal(weights)
        assert upper >= truth * (1 - 1e-14)
        assert upper <= np.prod([np.linalg.norm(w, 2) for w in weights]) * (1 + 1e-8)
        ratios.append(upper / truth)
    assert np.median(ratios) < 1.005


def test_sampled_slopes_never_exceed_it():
    rng = np.random.default_rng(3)
    weights = chain(rng, [12, 20, 15, 4])
    upper = sdp_upper(weights).upper
    for _ in range(300):
        J = weights[0]
        for W in weights[1:]:
            J = W @ (rng.choice([0, 1, rng.random()], len(J))[:, None] * J)
        assert np.linalg.norm(J, 2) <= upper


@pytest.mark.parametrize("slopes", [(-1.0, 1.0), (0.3, 1.0), (-0.2, 1.1), (0.5, 2.0), (-1.0, 0.0), (1.0, 1.0), (-2.0, -1.0)])
def test_other_intervals_of_slopes(slopes):
    rng = np.random.default_rng(4)
    for sizes in ([3, 6, 2], [2, 4, 4, 3], [4, 3, 3, 2, 1]):
        weights = chain(rng, sizes)
        bound = sdp_upper(weights, slopes=slopes)
        assert bound.upper >= formal(weights, slopes) * (1 - 1e-14)
        steep = max(map(abs, slopes)) ** (len(weights) - 1)
        assert bound.upper <= steep * np.prod([np.linalg.norm(w, 2) for w in weights]) * (1 + 1e-8)
        if slopes == (0.3, 1.0):
            assert bound.upper < 1.2 * formal(weights, slopes)


def test_steeper_intervals_bound_more():
    weights = chain(np.random.default_rng(5), [4, 8, 6, 2])
    uppers = [sdp_upper(weights, slopes=s).upper for s in [(0.5, 1.0), (0.0, 1.0), (-0.1, 1.0), (-1.0, 1.0)]]
    assert uppers == sorted(uppers)


@pytest.mark.parametrize("sizes", [[2, 7, 1], [6, 5, 4, 3], [3, 4, 4, 9]])
def test_the_multipliers_are_a_proof_that_anyone_can_check(sizes):
    weights = chain(np.random.default_rng(6), sizes)
    weights[0][1] *= 30
    bound = sdp_upper(weights)
    proof = bound.witness
    assert isinstance(proof, Multipliers) and proof.slopes == (0.0, 1.0) and [len(v) for v in proof.values] == sizes[1:-1]
    assert all((v > 0).all() for v in proof.values)
    for claim, proved in [(1 + 1e-9, True), (1 - 1e-3, False)]:
        M = matrix_of(weights, proof, (claim * bound.upper) ** 2)
        unit = 1 / np.sqrt(np.abs(M.diagonal()))
        assert (np.linalg.eigvalsh(unit[:, None] * M * unit)[0] >= -1e-12) == proved
    assert proof.optimum <= bound.upper <= proof.optimum * (1 + 1e-5)


def test_a_deep_chain_reaches_the_optimum_too():
    weights = chain(np.random.default_rng(7), [6, *[8] * 10, 2])
    bound = sdp_upper(weights)
    assert "LipSDP" in bound.source and bound.upper <= bound.witness.optimum * (1 + 1e-5)
    assert bound.upper < 0.05 * np.prod([np.linalg.norm(w, 2) for w in weights])


def test_without_steps_or_time_the_start_is_returned_and_named():
    weights = chain(np.random.default_rng(8), [5, 9, 7, 3])
    best = sdp_upper(weights)
    for hurried in (sdp_upper(weights, iters=0), sdp_upper(weights, max_seconds=0)):
        assert hurried.upper > best.upper and "LipSDP" not in hurried.source
        assert hurried.upper <= np.prod([np.linalg.norm(w, 2) for w in weights]) * (1 + 1e-8)


def test_the_certificate_refuses_what_is_not_a_proof():
    problem = chain_problem(chain(np.random.default_rng(9), [3, 5, 2]), (0.0, 1.0))
    rho, (ones,) = fast_start([problem.C[:, :3], problem.O[:, 3:]], (0.0, 1.0))
    rho *= 1 + 1e-9
    assert problem.proves(rho, ones) and np.linalg.eigvalsh(problem.matrix(rho, ones))[0] > 0
    assert not problem.proves(rho, -ones) and not problem.proves(math.nan, ones) and not problem.proves(rho, ones * np.nan)
    rough = SlopeProblem(problem.C, problem.O, problem.slopes, np.full_like(problem.C, 0.5), None)
    assert not rough.proves(rho, ones)  # the same matrix, its entries known to half a unit only


# --- scales and dtypes


def test_scales_dtypes_and_ties():
    rng = np.random.default_rng(10)
    weights = chain(rng, [3, 6, 5, 2])
    truth = sdp_upper(weights).upper
    for factors in [(1e30, 1e-30, 1.0), (1e150, 1e-150, 1e100), (1e-150, 1e-100, 1e200), (1e-120, 1e-120, 1.0)]:
        scaled = sdp_upper([f * w for f, w in zip(factors, weights, strict=True)])
        assert scaled.upper / math.prod(factors) == pytest.approx(truth, rel=1e-5)
    rows = 10.0 ** rng.uniform(-80, 80, 6)  # moved from one layer to the next, neuron by neuron
    assert sdp_upper([rows[:, None] * weights[0], weights[1] / rows, weights[2]]).upper == pytest.approx(truth, rel=1e-5)
    assert sdp_upper([1e200 * w for w in weights]).upper == math.inf
    assert 0 < sdp_upper([1e-200 * w for w in weights]).upper < 1e-300
    single = [w.astype(np.float32) for w in weights]
    assert sdp_upper(single).upper == pytest.approx(truth, rel=1e-5)
    integers = [np.array([[1, 2], [2, 1], [1, 2]]), np.array([[1, -1, 1]])]  # tied rows
    assert formal(integers) <= sdp_upper(integers).upper < 1.01 * formal(integers)
    ones = [np.ones((4, 3)), np.ones((4, 4)), np.ones((2, 4))]  # rank one, no cancellation: the product of norms is exact
    assert sdp_upper(ones).upper == pytest.approx(math.sqrt(12) * 4 * math.sqrt(8), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (dict(weights=[]), ValueError, "empty"),
        (dict(weights=3), TypeError, "list of matrices"),
        (dict(weights=[np.ones(3)]), ValueError, r"weights\[0\] has shape \(3,\)"),
        (dict(weights=[np.eye(2), np.eye(3)]), ValueError, r"weights\[1\]"),
        (dict(weights=[np.array([[np.inf]])]), ValueError, "infinity"),
        (dict(weights=[np.eye(2, dtype=np.float16)]), TypeError, r"\.float\(\)"),
        (dict(weights=[np.array([["a"]])]), TypeError, "dtype"),
        (dict(weights=[np.eye(2)], slopes=(1, 0)), ValueError, "in order"),
        (dict(weights=[np.eye(2)], slopes=1), TypeError, "pair"),
        (dict(weights=[np.eye(2)], iters=-1), ValueError, "iters"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        sdp_upper(**arguments)
