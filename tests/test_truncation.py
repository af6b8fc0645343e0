"""limitlib.iteration, finite width: exact cases first, then bounds above the truth, then every hypothesis dropped."""

import math

import numpy as np
import pytest
from scipy.special import gammainc, zeta

from limitlib.iteration import (
    rank_one_truncation_error,
    residual_truncation_bound,
    truncated_orbit,
    truncation_bound,
)


def unit(d, power=1.0):
    u = np.arange(1.0, d + 1) ** -power
    return u / np.linalg.norm(u)


def nonexpansive(rng, d):
    """x - W' relu(W x + b) with |W| <= 1."""
    W = rng.standard_normal((d, d)) * np.arange(1.0, d + 1) ** -0.7
    W /= np.linalg.norm(W, 2) * (1 + 1e-12)
    b = rng.standard_normal(d) / 10
    return lambda x: x - np.maximum(x @ W.T + b, 0) @ W


# --- truncated_orbit


def test_a_truncated_orbit_is_the_orbit_of_the_truncated_matrix():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6)) / 4
    B = np.linalg.qr(rng.standard_normal((6, 3)))[0]
    x = rng.standard_normal((4, 6))
    run = truncated_orbit(lambda i: lambda z: z @ A.T, x, B, n=5)
    cut = B @ B.T @ A @ B @ B.T
    np.testing.assert_allclose(run.full[5], x @ np.linalg.matrix_power(A, 5).T, atol=1e-13)
    np.testing.assert_allclose(run.truncated[5], x @ B @ B.T @ np.linalg.matrix_power(cut, 5).T, atol=1e-13)
    np.testing.assert_allclose(run.tails, np.linalg.norm(run.full @ (np.eye(6) - B @ B.T), axis=-1), atol=1e-13)
    assert run.error.shape == (6, 4) and run.increment_tails.shape == (5, 4)
    assert (run.error >= run.tails - 1e-12).all()


def test_a_width_means_the_first_coordinates():
    rng = np.random.default_rng(1)
    T, x = nonexpansive(rng, 12), rng.standard_normal(12)
    by_width, by_basis = (truncated_orbit([T] * 4, x, b, n=4) for b in (5, np.eye(12)[:, :5]))
    np.testing.assert_allclose(by_width.error, by_basis.error, atol=1e-13)
    assert truncated_orbit([T] * 4, x, 12, n=4).error.max() == 0.0


@pytest.mark.parametrize("basis, said", [
    (0, "basis must be an integer >= 1"), (-3, "basis must be an integer >= 1"), (True, "basis must be an integer"),
    (9, "the width 9 exceeds the dimension 4"), (2.5, "basis must be an integer"), (np.eye(3), r"d=4 and 1 <= P <= d"),
    (np.ones((4, 2)), "not orthonormal"),
    (np.full((4, 1), math.nan), "basis must hold finite"), (1j * np.eye(4), "basis must hold real"),
    (np.empty((4, 0)), "1 <= P <= d"),
])  # fmt: skip
def test_a_wrong_basis_is_refused(basis, said):
    with pytest.raises(ValueError, match=said):
        truncated_orbit(lambda i: lambda x: x, np.ones(4), basis, n=1)


def test_a_wrong_stack_is_refused():
    with pytest.raises(ValueError, match="n asks for 3 blocks; blocks has 1"):
        truncated_orbit([lambda x: x], np.ones(4), 2, n=3)
    with pytest.raises(ValueError, match="T_1 must keep the shape"):
        truncated_orbit([lambda x: x[:2]], np.ones(4), 2, n=1)
    with pytest.raises(ValueError, match="x0 must be finite"):
        truncated_orbit([lambda x: x], np.array([math.nan]), 1, n=1)
    with pytest.raises(ValueError, match="image under T_2 must hold finite numbers"):
        truncated_orbit([lambda x: x, lambda x: x * math.nan], np.ones(4), 2, n=2)
    with pytest.raises(ValueError, match="image under T_1 must hold real numbers"):
        truncated_orbit([lambda x: x * 1j], np.ones(4), 2, n=1)
    with pytest.raises(ValueError, match="blocks must be a sequence"):
        truncated_orbit(None, np.ones(4), 2, n=1)


def test_a_block_that_works_in_place_does_not_change_the_record():
    def double(x):
        x *= 2
        return x

    assert truncated_orbit([double] * 3, np.ones(3), 1, n=3).full[:, 0].tolist() == [1.0, 2.0, 4.0, 8.0]


# --- T7.1


def test_a_permutation_attains_the_bound_at_every_depth():
    """Chain k of coordinates is in the truncation except at step k: each step loses one entry for good."""
    n, rng = 6, np.random.default_rng(2)
    chains = np.arange((n + 1) * (n + 2)).reshape(n + 1, n + 2)
    order = np.empty(chains.size, dtype=int)
    for chain in chains:
        order[np.roll(chain, -1)] = chain  # the entry at chain[i] moves to chain[i + 1]
    outside = chains[np.arange(n + 1), np.arange(n + 1)]
    basis = np.eye(chains.size)[:, np.setdiff1d(np.arange(chains.size), outside)]
    x = np.zeros(chains.size)
    x[chains[:, 0]] = rng.uniform(0.1, 1, n + 1)
    run = truncated_orbit(lambda i: lambda z: z[order], x, basis, n=n)
    np.testing.assert_allclose(run.tails, x[chains[:, 0]], atol=1e-15)
    np.testing.assert_allclose(run.error, truncation_bound(run.tails), rtol=1e-13)
    assert run.error[-1] < 0.7 * truncation_bound(run.tails, orthogonal=False)[-1]


@pytest.mark.parametrize("seed", range(12))
def test_the_bound_is_never_below_the_error(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 40))
    T, q = nonexpansive(rng, d), float(rng.choice([1.0, 0.9, 0.3]))
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0][:, : int(rng.integers(1, d))]
    run = truncated_orbit(lambda i: lambda x: q * T(x), rng.standard_normal((3, d)), basis, n=40)
    root, plain = truncation_bound(run.tails, factor=q), truncation_bound(run.tails, factor=q, orthogonal=False)
    assert (run.error <= root + 1e-12).all() and (root <= plain * (1 + 1e-12)).all()
    if q < 1:
        assert (root <= run.tails.max(axis=0) / math.sqrt(1 - q * q) * (1 + 1e-9)).all()


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_holds_for_stacks_of_different_blocks_with_ties(seed):
    """Sorting, absolute values, permutations and affine maps on integer starts, projections of every rank."""
    rng = np.random.default_rng(seed)
    d, n, q = int(rng.integers(1, 7)), int(rng.integers(0, 12)), float(rng.choice([0.0, 0.6, 1.0]))

    def block():
        kind, order, A = rng.integers(5), rng.permutation(d), rng.standard_normal((d, d))
        A, c = A / (np.linalg.norm(A, 2) * (1 + 1e-12)), rng.integers(-1, 2, d)
        return (np.sort, np.abs, lambda x: x[order], lambda x: A @ x + c, lambda x: np.maximum(x, c))[kind]

    made = [block() for _ in range(n)]
    stack = [lambda x, T=T: q * T(x) for T in made]
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0] if rng.integers(2) else np.eye(d)[:, rng.permutation(d)]
    run = truncated_orbit(stack, rng.integers(-2, 3, d).astype(float), basis[:, : int(rng.integers(1, d + 1))], n=n)
    assert (run.error <= truncation_bound(run.tails, factor=q) + 1e-12).all()


def test_an_expanding_map_breaks_the_bound_of_nonexpansive_ones():
    rng = np.random.default_rng(3)
    A = 1.5 * np.linalg.qr(rng.standard_normal((30, 30)))[0]
    x = rng.standard_normal(30) / np.arange(1.0, 31)
    run = truncated_orbit(lambda i: lambda z: z @ A.T, x, 25, n=12)
    assert run.error[-1] > 1.1 * truncation_bound(run.tails)[-1]
    with pytest.raises(ValueError, match=r"factor=1.5 must lie in \[0, 1\].*residual_truncation_bound"):
        truncation_bound(run.tails, factor=1.5)


def test_the_uniform_bound_of_contractions_is_lost_as_the_factor_tends_to_one():
    tau, n = 0.0778, np.arange(20_001)
    worst = [(q**n * rank_one_truncation_error(tau, n)).max() for q in (0.9, 0.99, 0.999, 0.9999)]
    assert (np.array(worst) <= tau / np.sqrt(1 - np.array([0.9, 0.99, 0.999, 0.9999]) ** 2)).all()
    assert worst[0] == pytest.approx(tau) and worst[-1] > 0.9 and (np.diff(worst) > 0).all()


@pytest.mark.parametrize("tails", [[-1.0], [math.nan], [math.inf], 1.0, [0.1, -0.0001], [], "abc", [[1.0], [1.0, 2.0]], None])
def test_wrong_tails_are_refused(tails):
    with pytest.raises(ValueError, match="tails must"):
        truncation_bound(tails)


@pytest.mark.parametrize("factor", [-0.1, 1.0001, math.nan, "1", None, [0.5]])
def test_a_wrong_factor_is_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        truncation_bound([1.0, 1.0], factor=factor)


# --- C7.2 and its residual form


@pytest.mark.parametrize("P", [10, 100])
def test_the_closed_form_of_the_rank_one_example(P):
    u = unit(2000)
    tau = math.sqrt(1 - np.sum(u[:P] ** 2))
    run = truncated_orbit(lambda i: lambda x: (x @ u) * u, u, P, n=300)
    np.testing.assert_allclose(run.error, rank_one_truncation_error(tau, np.arange(301)), atol=1e-12)
    assert (run.error <= truncation_bound(run.tails)).all()  # the usable depth tau^-2 of T7.1 is of the right order


def test_truncation_moves_the_radius_below_one_and_depth_erases():
    tau = np.sqrt(zeta(2, np.array([11, 101, 1001])) / zeta(2))
    at = np.round(tau**-2).astype(int)
    np.testing.assert_allclose(rank_one_truncation_error(tau, at), [0.6634, 0.6354, 0.6326], atol=5e-5)
    assert (rank_one_truncation_error(tau, 10 * at) > 0.9999).all()
    assert rank_one_truncation_error(tau, 10**9) == pytest.approx(1.0)
    fixed_depth = rank_one_truncation_error(np.sqrt(zeta(2, 10.0 ** np.arange(1, 7) + 1) / zeta(2)), 100)
    assert (np.diff(fixed_depth) < 0).all() and fixed_depth[-1] < 1e-3


def test_the_truncated_shift_is_nilpotent_though_it_has_no_fixed_point():
    """C7.2 (b); without self-adjointness, T7.5 fails: Fix T = {0}, and the error does not fall with the width."""
    for P in (3, 6):
        cut = np.eye(2 * P + 1, k=-1)
        assert np.linalg.matrix_power(cut, 2 * P).any() and not np.linalg.matrix_power(cut, 2 * P + 1).any()
        place = np.abs(np.arange(8 * P) - 4 * P)
        run = truncated_orbit(lambda i: lambda x: np.roll(x, 1), (place == 0) * 1.0, np.eye(8 * P)[:, place <= P], n=2 * P)
        assert run.error[: P + 1].max() == 0 and run.error[P + 1 :].min() == 1


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_residual_steps_toward_a_fixed_point(power):
    u, i = unit(300), np.arange(1.0, 401)
    h = i**-power
    tau = math.sqrt(1 - np.sum(u[:20] ** 2))
    blocks = lambda k: lambda x: (1 - h[k - 1]) * x + h[k - 1] * (x @ u) * u  # noqa: E731
    run = truncated_orbit(blocks, u, 20, n=400)
    np.testing.assert_allclose(run.error, rank_one_truncation_error(tau, np.arange(401), steps=h), atol=1e-12)


def test_summable_steps_keep_their_closed_form_and_others_lose_everything():
    tau, h = 0.3, np.arange(1.0, 100_001)
    deep = rank_one_truncation_error(tau, 100_000, steps=h**-2)
    share = math.sin(math.pi * tau) / (math.pi * tau)
    assert deep == pytest.approx(math.hypot(tau, math.sqrt(1 - tau**2) * (1 - share)), abs=1e-5)
    lost = [rank_one_truncation_error(tau, n, steps=1 / h) for n in (10, 1000, 100_000)]
    assert lost[0] < lost[1] < lost[2] and lost[2] > 0.65


@pytest.mark.parametrize("arguments, said", [
    (dict(tau=1.0, n=1), "tau must lie in"), (dict(tau=-0.1, n=1), "tau must lie in"), (dict(tau=math.nan, n=1), "tau must"),
    (dict(tau=0.1, n=-1), "n must be an integer"), (dict(tau=0.1, n=1.5), "n must be an integer"),
    (dict(tau=0.1, n=3, steps=[0.5]), "at least n=3"), (dict(tau=0.1, n=1, steps=1.5), "steps must be"),
    (dict(tau=[0.1, 0.2], n=1, steps=[0.5]), "one number where steps"),
])  # fmt: skip
def test_wrong_arguments_of_the_closed_form_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        rank_one_truncation_error(**arguments)


# --- T7.3, T7.5, T7.6


def test_commuting_truncations_lose_no_more_than_they_lost_at_the_start():
    rng = np.random.default_rng(5)
    slopes = rng.uniform(0, 1, 50)
    x = rng.standard_normal((6, 50))
    run = truncated_orbit(lambda i: lambda z: np.sin(slopes * z), x, 20, n=100)
    np.testing.assert_allclose(run.error, run.tails, atol=1e-15)
    assert (run.error <= run.tails[0] * (1 + 1e-12)).all()


def test_without_commuting_the_error_exceeds_the_tail_of_the_input():
    u = unit(2000)
    run = truncated_orbit(lambda i: lambda x: (x @ u) * u, u, 100, n=1650)
    assert run.error[-1] > 12 * run.tails[0]


def test_a_critical_block_without_fixed_points_is_followed_at_every_depth():
    """The lazy walk, spectrum up to 1, cut to |j| <= P: the largest error over all depths halves when P is quadrupled."""
    middle = 300
    place = np.abs(np.arange(2 * middle + 1) - middle)
    walk = lambda x: 0.5 * x + 0.25 * (np.roll(x, 1) + np.roll(x, -1))  # noqa: E731
    worst = []
    for P in (5, 20):
        run = truncated_orbit(lambda i: walk, (place == 0) * 1.0, np.eye(place.size)[:, place <= P], n=8 * (P + 1) ** 2)
        worst.append(run.error.max())
        assert run.error.argmax() == pytest.approx(4.9 * (P + 1) ** 2, rel=0.05)
    assert worst[1] < 0.55 * worst[0]


def test_beyond_the_crossover_a_commuting_truncation_is_relatively_useless():
    j, P = np.arange(1.0, 200_001), 400  # sum against integral: off by order 1/n, and n >= 801
    for share in (0.1, 1.0, 10.0):
        n = round(share * (P + 0.5) ** 1.5)
        energy = j**-2 * (1 - 0.5 * j**-1.5) ** (2 * n)
        relative = (energy[P:].sum() + zeta(2, 200_001)) / (energy.sum() + zeta(2, 200_001))
        assert relative == pytest.approx(gammainc(2 / 3, share), rel=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_a_truncation_without_the_fixed_point_lets_go_of_it_at_the_bracketed_rate(seed):
    rng = np.random.default_rng(seed)
    d, P, t = 60, int(rng.integers(5, 55)), float(rng.uniform(0, 0.95))
    Q = np.linalg.qr(np.column_stack([rng.standard_normal(d) * unit(d), rng.standard_normal((d, d - 1))]))[0]
    T = (Q * np.concatenate([[1.0], rng.uniform(0, t, d - 1)])) @ Q.T
    lost = np.sum(Q[P:, 0] ** 2)
    radius = np.linalg.eigvalsh(T[:P, :P])[-1]
    assert 1 - lost - 1e-12 <= radius <= 1 - (1 - t) * lost + 1e-12 < 1
    for n in (1, 7, 100):
        kept = np.linalg.norm(np.linalg.matrix_power(T[:P, :P], n) @ Q[:P, 0]) / np.linalg.norm(Q[:P, 0])
        assert (1 - lost) ** n - 1e-12 <= kept <= (1 - (1 - t) * lost) ** n + 1e-12


def test_depth_leaves_what_is_fixed_and_lies_in_the_truncation():
    """T7.5: T_P^n tends to the projection on Fix T within ran Pi, here the complete pairs (exercise 10.3 (c))."""
    d, P = 12, 7
    T = np.kron(np.eye(d // 2), np.full((2, 2), 0.5))
    left = np.linalg.matrix_power(T[:P, :P], 200)
    assert np.abs(left - np.pad(np.kron(np.eye(3), np.full((2, 2), 0.5)), (0, 1))).max() < 1e-12


@pytest.mark.parametrize("seed", range(12))
def test_the_retuned_truncation_stays_below_its_bound_at_every_depth(seed):
    """T7.6: r fixed directions and a remainder of norm q, eigenvalues of both signs."""
    rng = np.random.default_rng(seed)
    d, q = 12, float(rng.choice([0.0, 0.5, 0.9]))
    r, P = int(rng.integers(1, 4)), int(rng.integers(4, 12))
    frame = np.linalg.qr(rng.standard_normal((d, d)) * unit(d)[:, None])[0]
    V, R = frame[:, :r], (frame[:, r:] * rng.uniform(-q, q, d - r)) @ frame[:, r:].T
    Pi = np.diag((np.arange(d) < P) * 1.0)
    B = np.linalg.qr(Pi @ V)[0]
    inner = Pi - B @ B.T
    own = B @ B.T + inner @ R @ inner
    assert np.linalg.norm(own, 2) <= 1 + 1e-12 and np.sum(np.linalg.eigvalsh(own) > 1 - 1e-12) >= r
    x = rng.standard_normal(d)
    T = V @ V.T + R
    error, tails, z, y, rest = [], [], x, Pi @ x, x - V @ V.T @ x
    for _ in range(200):
        error.append(np.linalg.norm(y - z))
        tails.append(np.linalg.norm(rest - inner @ rest))
        z, y, rest = T @ z, own @ y, R @ rest
    assert max(error) <= np.linalg.norm(V[P:], 2) * np.linalg.norm(x) + max(tails) / math.sqrt(1 - q * q) + 1e-12


def test_a_truncation_that_contains_the_fixed_point_keeps_it_for_ever():
    rng = np.random.default_rng(7)
    d, v = 80, unit(80)
    Q = np.linalg.qr(np.column_stack([v, rng.standard_normal((d, d - 1))]))[0]
    T = (Q * np.concatenate([[1.0], np.full(d - 1, 0.9)])) @ Q.T
    plain = np.eye(d)[:, :20]
    with_v = np.linalg.qr(np.column_stack([v, plain]))[0]
    x = v + 0.1 * unit(d, 2.0)
    deep = {name: truncated_orbit(lambda i: lambda z: z @ T, x, basis, n=2000).error[-1]
            for name, basis in (("plain", plain), ("with v", with_v))}  # fmt: skip
    assert deep["plain"] > 0.9 and deep["with v"] < 1e-12


def test_the_retuned_projection_is_off_by_the_largest_tail():
    rng = np.random.default_rng(8)
    U = np.linalg.qr(rng.standard_normal((50, 3)) * unit(50)[:, None])[0]
    W = np.linalg.qr(np.where(np.arange(50)[:, None] < 15, U, 0.0))[0]
    off = np.linalg.norm(W @ W.T - U @ U.T, 2)
    assert off == pytest.approx(np.linalg.norm(U[15:], 2), abs=1e-12)


# --- T7.4


def residual(rng, d, sizes):
    """F_i = size_i U_i tanh(V_i' x) with orthonormal columns: Lip(F_i) <= size_i."""

    def frame():
        return np.linalg.qr(rng.standard_normal((d, 4)) * unit(d)[:, None])[0]

    made = [(s, frame(), frame()) for s in sizes]
    return lambda i: lambda x: x + made[i - 1][0] * np.tanh(x @ made[i - 1][2]) @ made[i - 1][1].T


@pytest.mark.parametrize("seed", range(6))
def test_the_residual_bound_is_never_below_the_error(seed):
    rng = np.random.default_rng(seed)
    sizes = 1.5 * np.arange(1.0, 41) ** -2
    x = rng.standard_normal((3, 30))
    run = truncated_orbit(residual(rng, 30, sizes), x, int(rng.integers(1, 30)), n=40)
    bound = residual_truncation_bound(run.tails[0], run.increment_tails, sizes * (1 + 1e-12))
    assert (run.error <= bound + 1e-12).all()
    total = math.exp(sizes.sum()) * (run.tails[0] + run.increment_tails.sum(axis=0))
    assert (bound <= total * (1 + 1e-9)).all()


def test_the_residual_bound_is_attained_by_growing_blocks():
    """F(x) = L x with all of x outside the truncation: nothing is kept, and the state grows by 1 + L."""
    run = truncated_orbit(lambda i: lambda x: 1.5 * x, np.array([0.0, 1.0]), 1, n=5)
    bound = residual_truncation_bound(run.tails[0], np.zeros(5), 0.5)
    np.testing.assert_allclose(run.error, bound, rtol=1e-12)


def test_without_summability_the_error_grows_with_depth():
    rng = np.random.default_rng(9)
    x = rng.standard_normal(30) / np.arange(1.0, 31)
    summable, constant = (truncated_orbit(residual(np.random.default_rng(10), 30, sizes), x, 10, n=60).error
                          for sizes in (np.arange(1.0, 61) ** -2, np.ones(60)))  # fmt: skip
    assert summable[-1] < 1.2 * summable[5] and constant[-1] > 2 * constant[5]


@pytest.mark.parametrize("arguments, said", [
    ((-0.1, [0.1], 0.1), "initial_tail must hold"), ((0.1, [math.nan], 0.1), "increment_tails must hold"),
    ((0.1, [-0.1], 0.1), "increment_tails must be"), ((0.1, 0.1, 0.1), "increment_tails must be"),
    ((0.1, [0.1, 0.2], [0.1, 0.2, 0.3]), "hold 2 of them"), ((0.1, [0.1], -1.0), "lipschitz must hold"),
    ((0.1, [0.1, 0.2], [0.1]), "hold 2 of them"), ((0.1, [0.1], math.inf), "lipschitz must hold finite"),
    (([0.1, 0.2], [0.1], 0.1), r"initial_tail has shape \(2,\)"),
])  # fmt: skip
def test_wrong_arguments_of_the_residual_bound_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        residual_truncation_bound(*arguments)
