"""The three-term bound: closed values, never below the truth, and false as soon as one of its hypotheses is dropped."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import binom

from limitlib.blocks import plane_rotation
from limitlib.covering import dudley_integral
from limitlib.performance import collapse_depth, decompose, injected_bound, pl_bound, untied_entropy
from limitlib.performance.error_bound import CHAINING, SAMPLE

CONSTANTS = {"beta": 0.9, "q": 0.5, "initial_gap": 2.0, "loss_lipschitz": 3.0, "readout_lipschitz": 5.0, "state_bound": 7.0,
             "parameter_lipschitz": 11.0, "radius": 13.0, "dimension": 4}  # fmt: skip


def test_the_constant_is_rounded_up():
    value, error = quad(lambda u: math.sqrt(math.log1p(2 / u)), 0, 1, limit=200)
    assert value + error <= CHAINING < value + 1e-6
    assert 32.4 < SAMPLE < 32.47


def test_the_three_terms_in_closed_form():
    bound = injected_bound(N=100, P=3, K=2, **CONSTANTS)
    assert bound.optimisation == pytest.approx(2 * 0.81) and bound.architecture == pytest.approx(105 / 8)
    assert bound.sample == pytest.approx(SAMPLE * 143 * 0.2)
    assert bound.total == bound.optimisation + bound.architecture + bound.sample


def test_an_infinite_argument_removes_its_term():
    bound = injected_bound(N=math.inf, P=math.inf, K=math.inf, **CONSTANTS)
    assert (bound.optimisation, bound.architecture, bound.sample) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": 1.0}, "q=1.0 must lie in .0, 1.: at q = 1 the blocks need not have a limit"),
        ({"q": 1.2}, "the blocks must contract"),
        ({"q": math.nan}, "q=nan"),
        ({"beta": 1.0}, "beta=1.0 must lie strictly between 0 and 1"),
        ({"beta": 0.0}, "beta=0.0"),
        ({"radius": -1.0}, "radius=-1.0"),
        ({"initial_gap": math.inf}, "initial_gap=inf"),
        ({"N": 0}, "N=0 must be at least 1"),
        ({"N": math.nan}, "N=nan"),
        ({"N": 10**400}, "N is above the largest float"),
        ({"K": -1}, "K=-1 must be at least 0"),
        ({"copies": 0}, "copies=0"),
        ({"copies": math.inf}, "copies=inf must be finite"),
        ({"dimension": math.nan}, "dimension=nan"),
        ({"dimension": 2.5}, "dimension=2.5 must be a whole number"),
    ],
)
def test_a_hypothesis_that_fails_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        injected_bound(**{"N": 10, "P": 1, "K": 1, **CONSTANTS, **change})


@pytest.mark.parametrize("name", ["N", "P", "K", "q", "beta", "radius", "dimension", "copies", "state_bound"])
@pytest.mark.parametrize("value", ["a", None, [0.5], 1j])
def test_what_is_no_number_is_named(name, value):
    with pytest.raises(TypeError, match=f"{name}=.* must be a real number"):
        injected_bound(**{"N": 10, "P": 1, "K": 1, **CONSTANTS, name: value})


def test_huge_constants_give_a_huge_bound_or_none_but_never_nan():
    huge = {**CONSTANTS, "loss_lipschitz": 1e200, "readout_lipschitz": 1e200, "radius": 1e300, "parameter_lipschitz": 1e300}
    bound = injected_bound(N=math.inf, P=math.inf, K=1, **huge)
    assert (bound.architecture, bound.sample) == (0, 0)
    bound = injected_bound(N=1, P=1, K=1, **huge)
    assert (bound.architecture, bound.sample) == (math.inf, math.inf)


# ------------------------------------------------------------------------------- a problem in which every constant is known

RIDGE, Q = 0.2, 0.7
RADIUS = math.sqrt(2 * math.log(2) / RIDGE)  # the ridge of an iterate is at most the loss ln 2 of the start
KNOWN = {"beta": 1 - RIDGE / (0.25 + RIDGE), "q": Q, "initial_gap": math.log(2), "loss_lipschitz": 1.0,
         "readout_lipschitz": 1.0, "state_bound": RADIUS, "parameter_lipschitz": 1 + RIDGE * RADIUS, "radius": RADIUS,
         "dimension": 1}  # fmt: skip


def criterion(theta, share, P):
    """Ridge-regularised logistic risk of z -> q z + (1 - q) theta x, depth P, on inputs +-1; share: P(x y = 1)."""
    f = (1 - Q**P) * theta
    return share * np.logaddexp(0, -f) + (1 - share) * np.logaddexp(0, f) + RIDGE / 2 * theta**2


def descend(share, P, K):
    a, theta = 1 - Q**P, np.zeros_like(share)
    for _ in range(K):
        slope = (1 / (1 + np.exp(a * theta)) - (1 - share)) * a - RIDGE * theta
        theta = theta + slope / (0.25 + RIDGE)
    return theta


def mean_excess(N, P, K, draws=4000):
    share = np.random.default_rng(N).binomial(N, 0.9, draws) / N
    best = criterion(descend(np.array([0.9]), math.inf, 400), 0.9, math.inf)
    return float(criterion(descend(share, P, K), 0.9, P).mean() - best[0])


@pytest.mark.parametrize("N", [5, 50, 100_000_000])
@pytest.mark.parametrize("P", [1, 4, 60])
@pytest.mark.parametrize("K", [1, 6, 100])
def test_the_bound_is_never_below_the_truth(N, P, K):
    assert 0 <= mean_excess(N, P, K) <= injected_bound(N=N, P=P, K=K, **KNOWN).total


def test_no_term_can_be_dropped():
    cases = {"optimisation": (10**16, 80, 1), "architecture": (10**12, 2, 100), "sample": (20, 80, 200)}
    for term, (N, P, K) in cases.items():
        bound = injected_bound(N=N, P=P, K=K, **KNOWN)
        assert mean_excess(N, P, K) > bound.total - getattr(bound, term), term


# ------------------------------------------------------------------------------------------------------------ weight tying


def test_counting_untied_parameters_costs_the_root_of_the_depth():
    tied = injected_bound(N=100, P=1, K=1, **CONSTANTS)
    untied = injected_bound(N=100, P=1, K=1, copies=64, **CONSTANTS)
    assert untied.sample == pytest.approx(8 * tied.sample)
    assert untied.architecture == tied.architecture


@pytest.mark.parametrize("q", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("eps", [0.3, 0.01, 1e-4])
def test_the_finer_count_covers_and_does_not_grow_with_depth(q, eps):
    """States of z -> q z + theta_i, |theta_i| <= 1, fill an interval, whose covering number is known."""
    values = []
    for depth in (1, 3, 30, 1000, math.inf):
        exact = math.log(max(1, math.ceil((1 - q**depth) / (1 - q) / eps - 1e-9)))
        values.append(untied_entropy(eps, q=q, dimension=1, parameter_lipschitz=1, radius=1, depth=depth))
        assert values[-1] >= exact
    assert values == sorted(values)
    assert values[-1] == pytest.approx(values[-2], rel=1e-9)
    assert values[-1] < 1000 * math.log1p(2 / ((1 - q) * eps)), "counting parameters is worse"


@pytest.mark.parametrize("q", [0.1, 0.5, 0.8])
def test_the_closed_form_of_the_finer_count_is_above_its_integral(q):
    """T4.3b: 12 times Dudley's integral against 24 sqrt(2) / ((1 - q^1/4) sqrt((1 - sqrt q)(1 - q))), five parameters."""
    known = {"q": q, "dimension": 5, "parameter_lipschitz": 1.0, "radius": 1.0}
    integral = dudley_integral(lambda eps: untied_entropy(eps, **known), 1 / (1 - q), n=400)
    closed = 24 * math.sqrt(2 * 5) / ((1 - q**0.25) * math.sqrt((1 - math.sqrt(q)) * (1 - q)))
    assert 12 * integral.high <= closed
    tied = SAMPLE / 2 / (1 - q) * math.sqrt(5)
    assert 12 * integral.low > tied, "more parameters cost something"


def test_the_finer_count_needs_a_contraction():
    known = {"q": 0.5, "dimension": 1, "parameter_lipschitz": 1.0, "radius": 1.0}
    with pytest.raises(ValueError, match="only a contraction forgets its early layers"):
        untied_entropy(0.1, **{**known, "q": 1.0})
    for eps in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="eps="):
            untied_entropy(eps, **known)
    for change in ({"depth": 0}, {"depth": 2.5}, {"dimension": math.nan}, {"radius": math.inf}, {"parameter_lipschitz": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(change))}="):
            untied_entropy(0.1, **{**known, **change})


def test_the_finer_count_at_its_edges():
    known = {"q": 0.5, "dimension": 1, "parameter_lipschitz": 1.0, "radius": 1.0}
    assert untied_entropy(0.1, **{**known, "radius": 0}) == 0 and untied_entropy(math.inf, **known) == 0
    assert untied_entropy(0.1, **{**known, "q": 0}) == pytest.approx(math.log1p(20)), "the last layer alone"
    assert untied_entropy(1e-320, **known) == math.inf


@pytest.mark.parametrize("q", [0.3, 0.9, 0.999, 1 - 1e-6])
@pytest.mark.parametrize("eps", [1e4, 1.0, 1e-3])
def test_the_integral_over_the_early_layers_is_above_their_sum_and_near_it(q, eps):
    for depth in (64, 65, 500, 100_000):
        s = math.sqrt(q)
        exact = np.log1p(2 / ((1 - s) * eps) * s ** np.arange(depth, dtype=float)).sum()
        found = untied_entropy(eps, q=q, dimension=1, parameter_lipschitz=1, radius=1, depth=depth)
        assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-4)


def test_a_factor_next_to_one_costs_nothing():
    values = [untied_entropy(0.1, q=1 - h, dimension=1, parameter_lipschitz=1, radius=1) for h in (1e-3, 1e-9, 1e-15)]
    assert values == sorted(values) and all(map(math.isfinite, values))


# ------------------------------------------------------------------------------------------------------- collapse and memory


def test_collapse_depth_against_a_run():
    depth = collapse_depth(1.0, 0.1, 0.9)
    assert depth == pytest.approx(21.8543453, abs=1e-6)
    x, n = np.array([1.0, 0.0]), 0
    while np.linalg.norm(x) > 0.1:
        x, n = 0.9 * plane_rotation(1.0) @ x, n + 1
    assert n == math.ceil(depth)


def test_collapse_depth_at_its_edges():
    assert collapse_depth(1.0, 0.1, 1.0) == math.inf
    assert collapse_depth(0.05, 0.1, 1.0) == 0 and collapse_depth(1.0, 0.1, 0.0) == 0
    assert collapse_depth(1.0, 0.1, 0.9, constant=3) > collapse_depth(1.0, 0.1, 0.9)
    with pytest.raises(ValueError, match="an expanding block need not collapse"):
        collapse_depth(1.0, 0.1, 1.1)
    for name, arguments in {"margin": (1.0, 0.0, 0.9), "distance": (math.nan, 0.1, 0.9), "q": (1.0, 0.1, math.nan)}.items():
        with pytest.raises(ValueError, match=f"{name}="):
            collapse_depth(*arguments)
    with pytest.raises(ValueError, match="constant=inf"):
        collapse_depth(0.0, 0.1, 0.9, constant=math.inf)
    with pytest.raises(TypeError, match="distance='far'"):
        collapse_depth("far", 0.1, 0.9)


@pytest.mark.parametrize("seed", range(40))
def test_no_readout_beats_the_floor_of_a_plain_stack(seed):
    """T4.2 (c), predictions real: the best readout of slope at most L, by linear programming, on random stacks."""
    rng = np.random.default_rng(seed)
    d, n, depth, q, slope = rng.integers(1, 4), rng.integers(2, 6), rng.integers(0, 6), rng.uniform(0.1, 1), rng.uniform(0.1, 9)
    W, shift = rng.standard_normal((d, d)), rng.standard_normal(d)
    W *= q / np.linalg.norm(W, 2)
    encoded, y, weight = rng.standard_normal((n, d)), rng.standard_normal(n), rng.dirichlet(np.ones(n))
    z = encoded
    for _ in range(depth):
        z = np.tanh(z @ W.T + shift) if seed % 2 else z @ W.T + shift
    rows, right = [], []
    for i in range(n):
        for sign in (1, -1):  # the absolute error of f_i is at most the variable n + i
            rows.append(sign * np.eye(2 * n)[i] - np.eye(2 * n)[n + i])
            right.append(sign * y[i])
        for j in range(n):
            rows.append(np.eye(2 * n)[i] - np.eye(2 * n)[j])
            right.append(slope * np.linalg.norm(z[i] - z[j]))
    best = linprog(np.append(np.zeros(n), weight), rows, right, bounds=[(None, None)] * n + [(0, None)] * n).fun
    diameter = max(np.linalg.norm(a - b) for a in encoded for b in encoded)
    constant = min(np.sum(weight * abs(y - c)) for c in y)
    assert best >= constant - slope * diameter * q**depth / 2 - 1e-9


def test_the_floor_of_a_plain_stack_is_attained():
    """Two points, labels +-1, a multiple of the identity: the floor of T4.2 (c) with D/2 is the risk of an affine readout."""
    apart, slope = 0.9**30, 10.0
    assert slope * apart < 2
    assert np.mean([abs(sign * slope * apart / 2 - sign) for sign in (1, -1)]) == pytest.approx(1 - slope * apart / 2)


@pytest.mark.parametrize("seed", range(40))
def test_parameters_move_the_state_by_no_more_than_the_geometric_series(seed):
    """T4.3a on random injected stacks in which the parameters add to the state or turn it; attained by the first kind."""
    rng = np.random.default_rng(seed)
    d, q, depth = rng.integers(1, 4), rng.uniform(0, 0.95), rng.integers(1, 12)
    turn, x = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.standard_normal(d)
    x /= np.linalg.norm(x)
    a, b = rng.standard_normal((2, d))

    def block(z, theta):
        return q * np.cos(theta @ x) * (turn @ z) + x if seed % 2 else q * z + theta

    constant = q / (1 - q) if seed % 2 else 1.0  # |z| <= D = 1/(1 - q) in the first case
    g = h = np.zeros(d)
    for _ in range(depth):
        g, h = block(g, a), block(h, b)
    allowed = (1 - q**depth) / (1 - q) * constant * np.linalg.norm(a - b)
    assert np.linalg.norm(g - h) <= allowed * (1 + 1e-12)
    if not seed % 2:
        assert np.linalg.norm(g - h) == pytest.approx(allowed)


@pytest.mark.parametrize("seed", range(20))
def test_an_injected_stack_is_a_plain_one_with_constant_one(seed):
    """T4.2a: nonexpansive in max(|z|, l |x| / (1 - q)), nearly attained; with a smaller weight on x it expands."""
    rng = np.random.default_rng(seed)
    q, slope = rng.uniform(0, 0.95), 10 ** rng.uniform(-2, 2)
    z, w, x, y = rng.standard_normal((4, 1000)) * 10 ** rng.uniform(-3, 1, 1000)

    def ratio(weight, z, w, x, y):
        after = np.maximum(abs(q * (z - w) + slope * (x - y)), weight * abs(x - y))
        return (after / np.maximum(abs(z - w), weight * abs(x - y))).max()

    full = slope / (1 - q)
    assert 1 - 1e-12 <= ratio(full, z, w, x, y) <= 1 + 1e-12
    assert ratio(0.9 * full, np.array([0.9 * full]), np.zeros(1), np.ones(1), np.zeros(1)) > 1


def test_without_nonexpansiveness_there_is_no_collapse():
    """C2.4: tanh(1.5 x) has slope below 0.9 away from 0, and its limit depends on the input all the same."""
    x = np.array([-0.5, 0.5])
    for _ in range(200):
        x = np.tanh(1.5 * x)
    assert x[1] - x[0] > 1.7


def test_at_q_one_an_injected_stack_has_no_limit():
    z = 0.0
    for _ in range(100):
        z = z + 0.5
    assert z == 50.0


# ------------------------------------------------------------------------------------------------------ Polyak-Lojasiewicz


def least_squares(rng, rank):
    A = rng.standard_normal((30, rank)) @ rng.standard_normal((rank, 10)) / math.sqrt(rank)
    return A, rng.standard_normal(30)


@pytest.mark.parametrize("rank", [10, 6, 1])
@pytest.mark.parametrize("seed", range(5))
def test_pl_is_never_below_gradient_descent(rank, seed):
    A, b = least_squares(np.random.default_rng(seed), rank)
    curvature = np.linalg.svd(A, compute_uv=False)[:rank] ** 2 / 30
    floor = np.sum((A @ np.linalg.lstsq(A, b, rcond=None)[0] - b) ** 2) / 60
    x, gaps = np.zeros(10), []
    for _ in range(101):
        gaps.append(np.sum((A @ x - b) ** 2) / 60 - floor)
        x = x - A.T @ (A @ x - b) / 30 / curvature[0]
    known = {"L": curvature[0] * (1 + 1e-12), "K": np.arange(101)}
    assert (gaps <= pl_bound(gaps[0], mu=curvature[-1] * (1 - 1e-12), **known) + 1e-13).all()
    if rank == 10:
        assert (gaps > 2 * pl_bound(gaps[0], mu=curvature.mean(), **known)).any(), "the mean curvature is no PL constant"


def test_pl_needs_a_possible_constant():
    for mu in (0.0, 2.0):
        with pytest.raises(ValueError, match="must be positive and at most L"):
            pl_bound(1.0, mu=mu, L=1.0, K=3)
    for gap in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"gap={gap}"):
            pl_bound(gap, mu=0.5, L=1.0, K=3)
    with pytest.raises(ValueError, match="L=inf"):
        pl_bound(1.0, mu=0.5, L=math.inf, K=3)
    with pytest.raises(ValueError, match="K must not be NaN"):
        pl_bound(1.0, mu=0.5, L=1.0, K=math.nan)
    with pytest.raises(TypeError, match="K='many'"):
        pl_bound(1.0, mu=0.5, L=1.0, K="many")
    assert pl_bound(2.0, mu=0.5, L=1.0, K=[0, 1, 2]) == pytest.approx([2, 1, 0.5])


def test_a_factor_that_moves_with_the_size_breaks_the_bound():
    """C3.3, f = sum of x_i^2 / (2 i): the factor read off at P = 10 is false at P = 1000, for the distance and for the gap."""
    x = 1.0  # the slowest of 1000 directions, curvature 1/1000
    for _ in range(100):
        x -= x / 1000
    assert x > 3e4 * 0.9**100
    gap = x**2
    assert gap > 1e4 * pl_bound(1.0, mu=0.1, L=1.0, K=100)
    assert gap <= pl_bound(1.0, mu=0.001, L=1.0, K=100)


# ------------------------------------------------------------------------------------------------- the pointwise inequality


def test_the_pointwise_inequality_fails_on_nearly_half_of_the_samples():
    """S1: a class of one hypothesis, loss Bernoulli(0.3), 100 samples."""
    failing = 0.0
    for hits in range(101):
        parts = decompose(lambda _: 0.3, lambda _, r=hits / 100: r, trained=0, minimiser=0, best=0)
        three = parts.optimisation + parts.architecture + parts.generalisation + parts.approximation
        failing += binom.pmf(hits, 100, 0.3) * (parts.excess > three + 1e-12)
    assert failing == pytest.approx(binom.sf(30, 100, 0.3), abs=1e-12)
    assert failing == pytest.approx(0.450876, abs=1e-6)
