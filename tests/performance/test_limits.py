"""Limits along paths: the theorems and counterexamples of chapter 5, and the refusal to judge what the values don't show."""

import math

import numpy as np
import pytest

from limitlib.bounds import Estimate
from limitlib.performance import (
    PowerLawModel,
    iterated_limit,
    judge,
    least_squares_risk,
    limit_along,
    monotone_envelope,
    ridge_risk,
)

QUADRUPLES = 4.0 ** np.arange(1, 10)


def test_the_order_of_limits():
    """P / (N + P): 0 if N goes first, 1 if P goes first."""
    n_first = iterated_limit(lambda N, P: P / (N + P), ("N", "P"))
    p_first = iterated_limit(lambda N, P: P / (N + P), ("P", "N"))
    assert n_first.status == p_first.status == "converges"
    assert n_first.limit.value == pytest.approx(0, abs=1e-2) and p_first.limit.value == pytest.approx(1, abs=1e-2)


def test_the_path_decides():
    def risk(N, P):
        return float(least_squares_risk(N, P, signal=1.0, noise=0.25))

    half = limit_along(risk, lambda n: (2 * n, n))
    assert half.status == "converges" and half.limit.value == pytest.approx(0.25, rel=1e-3)
    double = limit_along(risk, lambda n: {"N": n, "P": 2 * n})
    assert double.limit.value == pytest.approx(0.75, rel=1e-3)
    assert limit_along(risk, lambda n: (n, n)).limit == math.inf  # the mean does not exist at P = N


@pytest.mark.parametrize("seed", range(20))
def test_geometric_convergence_is_extrapolated(seed):
    rng = np.random.default_rng([seed, 5])
    limit, size, ratio = rng.normal(), rng.normal(), rng.uniform(0.1, 0.85)
    found = judge(limit + size * ratio ** np.arange(12.0), np.arange(12.0))
    assert found.status == "converges" and found.limit.low <= limit <= found.limit.high
    assert found.limit.value == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (np.arange(12.0), "diverges"),
        (2.0 ** np.arange(12), "diverges"),
        ((-1.0) ** np.arange(12), "oscillates"),
        (np.log(np.arange(2.0, 14.0)), "undecided"),  # it diverges, but twelve equally spaced values don't show it
        (np.full(12, 3.0), "converges"),
        (np.full(12, np.inf), "diverges"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, np.inf, 1], "undecided"),
        (np.random.default_rng(0).normal(size=12), "undecided"),
        (1.7e308 * (-1.0) ** np.arange(12), "undecided"),  # the increments overflow
        (np.full(12, -1.7e308), "converges"),
    ],
)
def test_the_words(values, status):
    assert judge(values, np.arange(12.0)).status == status


def test_an_inner_limit_that_is_missing_is_named():
    found = iterated_limit(lambda N, P: (-1.0) ** (N.bit_length()) + 1 / P, ("N", "P"))
    assert found.status == "undecided" and "oscillates at P=8" in found.reason


def test_bad_input():
    with pytest.raises(ValueError, match="at least 7 increasing"):
        limit_along(lambda n: n, lambda n: (n,), n=[1, 2, 3])
    with pytest.raises(ValueError, match="E is NaN at"):
        limit_along(lambda n: math.nan, lambda n: (n,))
    with pytest.raises(ValueError, match="name each variable once"):
        iterated_limit(lambda N: N, ("N", "N"))
    with pytest.raises(ValueError, match="at least 7 increasing"):
        iterated_limit(lambda N, P: N, ("N", "P"), n=[8, 4, 2, 1, 0, -1, -2])


def test_an_estimate_is_no_bound():
    assert isinstance(limit_along(lambda n: 1 / n, lambda n: (n,)).limit, Estimate)


def test_an_iterated_estimate_carries_the_doubt_of_its_inner_limits():
    """The inner extrapolations are off by more than the outer interval is wide; the truth must not fall out of it."""
    for order, truth in ((("N", "P"), 0.0), (("P", "N"), 1.0)):
        found = iterated_limit(lambda N, P: P / (N + P), order).limit
        assert found.low <= truth <= found.high


def test_log_n_is_not_taken_for_convergent():
    """Its increments shrink by less than 0.9 when n grows by equal steps from 1; per unit of log n they don't shrink."""
    n = np.arange(1.0, 8)
    steps = np.diff(np.log(n))
    assert (steps[1:] <= 0.9 * steps[:-1])[-4:].all() and judge(np.log(n), n).status == "undecided"
    assert limit_along(lambda n: math.log(n), lambda n: (n,)).status == "diverges"


def test_a_value_that_is_reached_is_a_limit():
    assert judge([5, 4, 3, 2, 1, 1, 1], np.arange(1.0, 8)).status == "undecided"
    found = judge([9, 5, 3, 2, 1.5, 1.5, 1.5], np.arange(1.0, 8))
    assert found.status == "converges" and found.limit.value == 1.5


def test_an_unsteady_ratio_widens_the_interval():
    """Increments that shrink by 0.8 and once by 0.5: continued at 0.5 the limit is missed, at 0.8 it is 0."""
    values = [10 * 0.8**k for k in range(8)]
    values.append(values[-1] - 0.5 * (values[-2] - values[-1]))
    found = judge(values, 2.0 ** np.arange(9))
    assert found.limit.value > 0.8 and found.limit.low <= values[-1] - 4 * (values[-2] - values[-1]) + 1e-12


def test_no_rule_sees_beyond_the_last_n():
    """The negative control of the judgement itself: a limit that is announced and does not exist."""
    fooled = limit_along(lambda n: 1 / n + n / 1e12, lambda n: (n,))
    assert fooled.status == "converges"
    assert limit_along(lambda n: 1 / n + n / 1e12, lambda n: (n,), n=2.0 ** np.arange(20, 50)).limit == math.inf


@pytest.mark.parametrize("grid", [2.0 ** np.arange(3, 15), QUADRUPLES, 10.0 ** np.arange(1, 10)])
@pytest.mark.parametrize("power", [-4, -2, -1, -0.5, 0.1])
def test_slower_than_every_power_is_not_judged(grid, power):
    """Powers of log n, and log log n: the ratios of the increments rise towards 1, and a geometric series stops short."""
    for values in (np.log(grid + 1) ** power, np.log(np.log(grid + 2))):
        found = judge(values, grid)
        assert found.status == "undecided" and found.limit is None


@pytest.mark.parametrize("seed", range(30))
def test_a_sum_of_powers_is_still_judged_and_its_limit_lies_inside(seed):
    """Steadily rising ratios are refused; ratios that settle, as for c n^-p + d n^-2p, are not."""
    rng = np.random.default_rng([seed, 8])
    limit, p = rng.normal(), rng.uniform(0.2, 1.5)
    found = judge(limit + QUADRUPLES**-p + rng.uniform(0, 1) * QUADRUPLES ** (-2 * p), QUADRUPLES)
    assert found.status == "converges" and found.limit.low <= limit <= found.limit.high


def test_sequences_that_fool_the_judgement():
    """A swing whose period grows, seen near its turning point, is announced as a limit; a late plateau as divergence."""
    assert limit_along(lambda n: math.sin(math.log(n) / 2), lambda n: (n,)).status == "converges"
    assert limit_along(lambda n: math.tanh(n / 1e12), lambda n: (n,)).limit == math.inf
    assert judge([1, 1, 1, 1, 1, 1, 1, 1, 2], 2.0 ** np.arange(9)).status == "undecided"  # a plateau that has just ended


@pytest.mark.parametrize(
    ("values", "n", "said"),
    [
        (np.ones(6), np.arange(6), "vectors of one length"),
        ([1, 2, 3, 4, 5, 6, math.nan], range(7), "NaN"),
        (np.ones(7), [1, 2, 3, 3, 4, 5, 6], "increasing"),
        (np.ones(7), [1, 2, 3, 4, 5, 6, math.inf], "finite"),
        (np.ones(7), [1, 2, 3, 4, 5, math.nan, 7], "increasing"),
    ],
)
def test_judge_refuses(values, n, said):
    with pytest.raises(ValueError, match=said):
        judge(values, n)


# ---------------------------------------------------------------------------------------------------- T3.1: uniformity


def test_uniform_inner_limits_agree_in_every_order_and_along_every_path():
    """T3.1: an error of the form a(N) + b(P) has uniform inner limits."""

    def additive(N, P):
        return 0.5 + N**-0.5 + P**-1.0

    for order in (("N", "P"), ("P", "N")):
        assert iterated_limit(additive, order).limit.value == pytest.approx(0.5, abs=1e-6)
    for power in (1, 2, 3):
        assert limit_along(additive, lambda n, q=power: (n, n**q)).limit.value == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("gamma", [0.25, 1.0, 3.0])
def test_without_uniformity_the_order_decides_and_every_ray_differs(gamma):
    """C3.1: sup over P of |P / (N + P) - 0| is 1 for every N, so T3.1 does not apply, and its conclusion fails."""

    def share(N, P):
        return P / (N + P)

    assert share(1e3, 1e9) > 1 - 1e-5  # the gap to the inner limit 0, at a P of its own for each N
    assert limit_along(share, lambda n: (n, gamma * n)).limit.value == pytest.approx(gamma / (1 + gamma), abs=1e-12)


def test_a_contraction_whose_constant_depends_on_the_size():
    """C3.3: (1 - P^-a)^K. Steps first: 0. Size first: 1. Along K = c P^a: e^-c."""

    def worst(P, K):
        return (1 - 1 / P) ** K

    assert worst(10, 1e6) < 1e-300 and worst(1e6, 10) == pytest.approx(0.99999, abs=1e-9)
    assert iterated_limit(worst, ("K", "P")).limit.value == 0.0
    assert iterated_limit(worst, ("P", "K")).limit.value == pytest.approx(1.0, abs=1e-6)
    assert limit_along(worst, lambda n: (n, 2 * n)).limit.value == pytest.approx(math.exp(-2), abs=1e-6)


def test_agreeing_iterated_limits_do_not_make_a_limit():
    """N^2 P / (N^4 + P^2): both iterated limits and every ray give 0, the parabola P = N^2 gives 1/2."""

    def ridge(N, P):
        return N**2 * P / (N**4 + P**2)

    for order in (("N", "P"), ("P", "N")):
        assert iterated_limit(ridge, order, reach=2.0).limit.value == pytest.approx(0.0, abs=1e-6)
    assert limit_along(ridge, lambda n: (n, 5 * n)).limit.value == pytest.approx(0.0, abs=1e-6)
    assert limit_along(ridge, lambda n: (n, n**2)).limit.value == 0.5


# -------------------------------------------------------------------------------------------------- T3.2: the envelope


@pytest.mark.parametrize("seed", range(10))
def test_the_envelope_is_the_minimum_over_lower_corners(seed):
    rng = np.random.default_rng([seed, 6])
    shape = tuple(rng.integers(1, 6, size=rng.integers(1, 4)))
    values = rng.normal(size=shape)
    values[rng.random(shape) < 0.2] = np.inf
    found = monotone_envelope(values)
    for where in np.ndindex(shape):
        assert found[where] == values[tuple(slice(0, i + 1) for i in where)].min()


def test_the_envelope_is_monotone_and_changes_nothing_that_is():
    rng = np.random.default_rng(4)
    found = monotone_envelope(rng.normal(size=(6, 5, 4)))
    assert all((np.diff(found, axis=axis) <= 0).all() for axis in range(3))
    assert (monotone_envelope(found) == found).all()


def test_without_monotonicity_there_is_no_limit_and_the_envelope_has_one():
    """T3.2 needs monotone E: the noisy model has a larger error at a larger P, and paths with different limits."""
    model = PowerLawModel(1.5, 1.5, noise=0.25)
    sizes = 2.0 ** np.arange(13)
    raw = model.error(sizes[:, None, None], sizes[None, :, None], np.append(sizes, np.inf))
    best = monotone_envelope(raw)
    rises = [(np.diff(raw, axis=axis) > 0).any() for axis in range(3)]
    assert rises == [False, True, True] and raw[:, -1, -1].max() > 1000
    assert all((np.diff(best, axis=axis) <= 0).all() for axis in range(3))
    diagonal = best[range(13), range(13), range(13)]
    assert raw[12, 12, 13] == pytest.approx(0.25, abs=0.05) and diagonal[-1] < raw[12, 12, 13] / 2
    with pytest.raises(ValueError, match="one axis for each variable"):
        monotone_envelope(3.0)
    with pytest.raises(ValueError, match="must not hold NaN"):
        monotone_envelope([1.0, math.nan])


# -------------------------------------------------------------------------------- T3.3: all functionals, or only one


def test_one_functional_is_not_enough():
    """C3.4: the norm of a rotating state is constant and the state has no limit; the distance to a point tells."""
    angle = np.arange(2000.0)
    states = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert np.ptp(np.linalg.norm(states, axis=1)) < 1e-12
    assert np.ptp(states[:, 0]) == pytest.approx(2.0, abs=1e-6)
    assert np.ptp(np.linalg.norm(states[1000:] - [1.0, 0.0], axis=1)) == pytest.approx(2.0, abs=1e-3)
    assert np.linalg.norm(states[1001:] - states[1000:-1], axis=1) == pytest.approx(2 * math.sin(0.5), abs=1e-9)


def test_a_discontinuous_performance_can_jump_although_the_states_converge():
    """C3.4: (-1)^n / n tends to 0; the accuracy of its sign swings between 0 and 1."""
    n = np.arange(1.0, 1001)
    states = (-1.0) ** n / n
    accuracy = (states > 0).astype(float)
    assert judge(states[::111], n[::111]).values[-1] == pytest.approx(0, abs=2e-3)
    assert judge(accuracy, n).status == "oscillates"


# ------------------------------------------------------------------------------- T3.4: every path of the solvable model


def fitted(P, K, a):
    return min(P, K ** (1 / a))


@pytest.mark.parametrize("seed", range(40))
def test_the_variance_lies_between_its_bounds(seed):
    """T3.4 (b): (1 - e^-eta)^2 / 2 <= V / min(P, K^(1/a)) <= (4a - 1) / (2a - 1) for a > 1/2, P >= 1, K >= 1."""
    rng = np.random.default_rng([seed, 7])
    a, eta = 0.5 + 10 ** rng.uniform(-1, 0.5), rng.uniform(0.01, 0.99)
    P, K = np.floor(10 ** rng.uniform(0, 5)), 10 ** rng.uniform(0, 6)
    j = np.arange(1.0, P + 1)
    V = np.sum(np.expm1(K * np.log1p(-eta * j**-a)) ** 2)
    assert (1 - math.exp(-eta)) ** 2 / 2 <= V / fitted(P, K, a) <= (4 * a - 1) / (2 * a - 1)
    model = PowerLawModel(a, 2.0, eta=eta, noise=1.0)
    assert float(model.error(1.0, P, K) - model.error(math.inf, P, K)) == pytest.approx(V, rel=1e-8)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        (lambda N: (N, N, np.inf), 0.25),
        (lambda N: (N, N // 2, np.inf), 0.125),
        (lambda N: (N, N, float(N) ** 3), 0.25),  # K far beyond P^a instead of infinity
        (lambda N: (N, round(N**0.5), float(N) ** 0.75), 0.0),
        (lambda N: (N, np.inf, float(N) ** 0.75), 0.0),
        (lambda N: (N, N**3, float(N) ** 0.75), 0.0),
        (lambda N: (N, np.floor(N**1.3), np.inf), math.inf),
        (lambda N: (N, np.inf, float(N) ** 2), math.inf),
    ],
)
def test_the_path_decides_in_the_solvable_model(path, limit):
    found = limit_along(PowerLawModel(1.5, 1.5, noise=0.25).error, path, n=QUADRUPLES)
    if math.isinf(limit):
        assert found.status == "diverges" and found.limit == limit
    else:
        assert found.status == "converges" and found.limit.value == pytest.approx(limit, abs=2e-3)
        assert found.limit.low <= limit <= found.limit.high


@pytest.mark.parametrize("a", [0.51, 1.0, 3.0])
@pytest.mark.parametrize("eta", [1e-6, 0.5, 1 - 1e-6])
def test_the_variance_bounds_hold_at_the_edges(a, eta):
    """T3.4 (b) at one mode, at one step, just below a whole number of fitted modes, and far beyond the last mode."""
    for P in (1.0, 2.0, 1000.0):
        for K in (1.0, 2**a * (1 - 1e-9), 2**a, 1e12):
            V = np.sum(np.expm1(K * np.log1p(-eta * np.arange(1.0, P + 1) ** -a)) ** 2)
            share = V / fitted(P, K, a)
            assert (1 - math.exp(-eta)) ** 2 / 2 <= share * (1 + 1e-9) and share <= (4 * a - 1) / (2 * a - 1) * (1 + 1e-9)


@pytest.mark.parametrize("a", [0.3, 0.5, 0.8, 2.0])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_every_value_is_the_limit_along_some_path(a, gamma):
    """T3.4 (d), for every a > 0 and with finite K: P = gamma N, K = P^(2a)."""
    model, N = PowerLawModel(a, 3.0, eta=0.5, noise=0.25), 4.0**16
    assert float(model.error(N, gamma * N, (gamma * N) ** (2 * a))) == pytest.approx(0.25 * gamma, rel=1e-3)


def test_without_noise_there_is_a_net_limit():
    """T3.4 needs noise > 0: without it E = B, which is nonincreasing in every variable, and no path diverges."""
    quiet = PowerLawModel(1.5, 1.5)
    for path in ((4.0**9, np.inf, np.inf), (4.0**9, 4.0**20, 4.0**20), (1.0, 4.0**20, np.inf)):
        assert float(quiet.error(*path)) < 1e-3


def test_early_stopping_needs_eigenvalues_that_decay_fast_enough():
    """T3.4 (b) drops out for a <= 1/2: K^(1/a) / N -> 0 and the error grows all the same, if P is large enough."""
    slow = PowerLawModel(0.4, 1.5, noise=0.25)
    assert slow.error(100.0, np.inf, 1.0) == math.inf
    found = limit_along(slow.error, lambda N: (N, N**4, N**0.2), n=4.0 ** np.arange(2, 9))
    assert found.status == "diverges"  # K^(1/a) = N^(1/2)
    repaired = limit_along(slow.error, lambda N: (N, round(N**0.5), N**0.2), n=4.0 ** np.arange(2, 12))
    assert repaired.values[-1] < repaired.values[0] / 2  # P / N -> 0 still repairs it


def test_the_order_of_limits_in_the_solvable_model():
    model = PowerLawModel(1.5, 1.5, noise=0.25)
    found = model.error(100, [10, 100, 1000, 10_000])
    tail = np.array([0.617038855339886, 0.199501249981772, 0.0632297457679, 0.0199995000187])
    assert found == pytest.approx(0.25 * np.array([0.1, 1, 10, 100]) + tail, abs=1e-9)
    assert found[-1] > 20
    assert iterated_limit(lambda N, P: model.error(N, P), ("P", "N")).limit == math.inf
    first_data = iterated_limit(lambda N, P: model.error(N, P), ("N", "P")).limit
    assert first_data.low <= 0 <= first_data.high and first_data.value == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("a", [2.0, 3.0])
def test_fitting_noise_exactly_costs_a_factor(a):
    """Ridgeless regression on noise of variance 1, equivalent: a N / (N + 1/2) as P goes first, 1 as N goes first."""
    spectrum = PowerLawModel(a, 2.0).spectrum(200_000)[0]
    for N in (16, 64):
        found = ridge_risk(spectrum, np.zeros(spectrum.size), N, noise=1.0).risk + 1
        assert found == pytest.approx(a * N / (N + 0.5), rel=2e-3)
    few = ridge_risk(spectrum[:16], np.zeros(16), 10**6, noise=1.0).risk + 1
    assert few == pytest.approx(1.0, abs=1e-4)
