"""The batched solver: its derivatives, its minima against scipy's, and that a batch is its members one by one."""

import numpy as np
import pytest
from scaling_cases import CASES, objective_of, runs_of
from scipy.optimize import approx_fprime, minimize

from limitlib.scaling import LeastSquares, LogHuber
from limitlib.scaling.fitting import problem_of
from limitlib.scaling.solver import Minima, minimise


def problem(name, objective=None, n=40, seed=0, noise=0.02):
    law, truth = CASES[name]
    runs = runs_of(law, truth, np.random.default_rng(seed), n, noise)
    made, means, _ = problem_of(law, runs, objective or objective_of(law))
    return made, law.internal(truth, means)


@pytest.mark.parametrize("objective", [LogHuber(0.5), LogHuber(0.02), LeastSquares("log"), LeastSquares("raw")])
@pytest.mark.parametrize("name", ["chinchilla", "kaplan", "sigmoid"])
def test_gradient_and_hessian_of_all_four_combinations_of_scales(name, objective):
    made, truth = problem(name, objective, noise=0.001 if name == "sigmoid" else 0.02)
    rng = np.random.default_rng(1)
    theta = truth + 0.03 * rng.normal(size=(3, made.surface.p))
    weight = rng.uniform(0, 2, (3, made.surface.n))
    local = made.local(theta, weight)
    assert local.f == pytest.approx(made.value(theta, weight), rel=1e-13)
    for b in range(3):
        gradient = approx_fprime(theta[b], lambda t, b=b: made.value(t[None], weight[[b]])[0], 1e-7)
        assert local.gradient[b] == pytest.approx(gradient, rel=1e-4, abs=1e-5 * np.abs(gradient).max())
        for k in range(made.surface.p):
            h = 1e-7 * np.eye(made.surface.p)[k]
            ends = [made.local(theta[[b]] + s * h, weight[[b]]) for s in (1, -1)]
            row = (ends[0].gradient - ends[1].gradient)[0] / 2e-7
            assert local.hessian[b, k] == pytest.approx(row, rel=1e-4, abs=1e-4 * np.abs(local.hessian[b]).max())


def test_majorant_is_positive_semidefinite_and_exceeds_the_gauss_newton_part():
    made, truth = problem("chinchilla", LogHuber(1e-3))
    local = made.local(truth[None] + 0.1, made.weight[None])
    assert np.linalg.eigvalsh(local.majorant[0])[0] >= -1e-12 * np.abs(local.majorant).max()


@pytest.mark.parametrize("name", ["chinchilla", "kaplan"])
def test_batch_equals_one_by_one(name):
    made, truth = problem(name, LogHuber(2e-2))
    rng = np.random.default_rng(2)
    theta = truth + 0.2 * rng.normal(size=(7, made.surface.p))
    weight = rng.multinomial(40, np.full(40, 1 / 40), size=7).astype(float)
    together = minimise(made, theta, weight=weight)
    for b in range(7):
        alone = minimise(made, theta[[b]], weight=weight[b])
        assert together.f[b] == pytest.approx(alone.f[0], rel=1e-9)
        assert together.converged[b] == alone.converged[0]


def test_blocks_do_not_show(monkeypatch):
    made, truth = problem("chinchilla", LogHuber(2e-2))
    theta = truth + 0.2 * np.random.default_rng(3).normal(size=(9, 5))
    whole = minimise(made, theta)
    monkeypatch.setattr("limitlib.scaling.solver.BLOCK", 2 * made.surface.n * made.surface.p)
    parts = minimise(made, theta)
    assert parts.f == pytest.approx(whole.f, rel=1e-9) and (parts.converged == whole.converged).all()


def test_a_parameter_that_is_not_free_stays_and_the_rest_is_at_its_minimum():
    made, truth = problem("chinchilla", LeastSquares())
    free = np.array([True, True, True, False, True])
    end = minimise(made, truth[None], free=free)
    assert end.theta[0, 3] == truth[3] and end.converged[0]
    gradient = made.local(end.theta, made.weight[None]).gradient[0]
    assert np.abs(gradient[free]).max() < 1e-8 * np.abs(gradient[~free]).max()
    whole = minimise(made, truth[None])
    assert whole.f[0] < end.f[0]
    each = minimise(made, np.tile(truth, (2, 1)), free=np.stack([free, np.ones(5, bool)]))
    assert each.f == pytest.approx([end.f[0], whole.f[0]], rel=1e-12)


def test_weights_equal_repeated_rows():
    made, truth = problem("chinchilla", LogHuber(1e-2))
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 4, made.surface.n)
    law, _ = CASES["chinchilla"]
    runs = runs_of(law, CASES["chinchilla"][1], np.random.default_rng(0), 40, 0.02)
    table = law.centred(law.table(runs.columns), law.means(law.table(runs.columns)))
    repeated = type(made)(law.surface({k: np.repeat(v, counts) for k, v in table.items()}), np.repeat(made.y, counts),
                          made.objective, np.ones(counts.sum()))  # fmt: skip
    weighted = minimise(made, truth[None], weight=counts.astype(float))
    longer = minimise(repeated, truth[None])
    assert weighted.f[0] == pytest.approx(longer.f[0], rel=1e-12)
    assert weighted.theta[0] == pytest.approx(longer.theta[0], rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_converged_means_that_no_small_step_lowers_the_objective(name):
    made, truth = problem(name, n=60, noise=0.01)
    rng = np.random.default_rng(5)
    ends = minimise(made, truth + 0.05 * rng.normal(size=(4, made.surface.p)))
    assert ends.converged.any()
    for theta, f in zip(ends.theta[ends.converged], ends.f[ends.converged], strict=True):
        size = 1 / np.sqrt(np.diag(made.local(theta[None], made.weight[None]).majorant[0]) + 1e-300)
        for scale in (1e-5, 1e-3):
            step = scale * np.sqrt(f) * np.minimum(size, 1e3) * rng.normal(size=(200, made.surface.p))
            around = made.value(theta + step, np.tile(made.weight, (200, 1)))
            assert (around >= f * (1 - 1e-12)).all()


@pytest.mark.parametrize("objective", [LogHuber(1e-3), LogHuber(1e-2), LeastSquares("log"), LeastSquares("raw")])
def test_never_above_scipy_from_the_same_start(objective):
    for seed in range(3):
        made, truth = problem("chinchilla", objective, n=50, seed=seed)
        start = truth + 0.3 * np.random.default_rng(seed).normal(size=5)
        ours = minimise(made, np.stack([start, truth])).f.min()

        def both(t, made=made):
            local = made.local(t[None], made.weight[None])
            return local.f[0], local.gradient[0]

        theirs = min(minimize(both, s, jac=True, method=m).fun for s in (start, truth) for m in ("BFGS", "L-BFGS-B"))
        assert ours <= theirs * (1 + 1e-9)


def test_a_start_without_a_value_stays_where_it_is_and_does_not_disturb_the_others():
    made, truth = problem("kaplan")
    bad = np.full(4, 1e4)
    ends = minimise(made, np.stack([truth, bad, truth]))
    assert ends.converged.tolist() == [True, False, True] and np.isinf(ends.f[1])
    assert ends.f[0] == pytest.approx(minimise(made, truth[None]).f[0], rel=1e-12)


def test_a_saddle_and_a_flat_valley_are_not_converged():
    """Two equal terms with equal exponents: a saddle by symmetry. A constant column: amplitude and exponent trade off."""
    law, _ = CASES["chinchilla"]
    x = np.linspace(16, 23, 30)
    y = np.log(1.7 + np.exp(6 - 0.34 * x))
    table = {"ln P": x - x.mean(), "ln N": x - x.mean()}
    made, *_ = problem("chinchilla")
    twin = type(made)(law.surface(table), y, LeastSquares(), np.ones(30))
    saddle = minimise(twin, np.array([[0.5, -1.5, -1.5, 0.3, 0.3]]))
    assert not saddle.converged[0]
    flat = type(made)(law.surface({**table, "ln P": np.zeros(30)}), y, LeastSquares(), np.ones(30))
    assert not minimise(flat, np.array([[0.5, -1.5, -1.5, 0.3, 0.3]])).converged[0]


def test_minima_are_joined_and_compared_one_by_one():
    a = Minima(np.zeros((2, 1)), np.array([1.0, 2.0]), np.zeros(2), np.array([True, True]))
    b = Minima(np.ones((2, 1)), np.array([0.5, 3.0]), np.zeros(2), np.array([False, True]))
    least = a.least(b)
    assert (least.f.tolist(), least.theta[:, 0].tolist(), least.converged.tolist()) == ([0.5, 2.0], [1.0, 0.0], [False, True])
    assert Minima.joined([a, b]).f.tolist() == [1.0, 2.0, 0.5, 3.0]
