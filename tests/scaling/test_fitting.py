"""Fits: what the certificate says, boundaries, other optimisers, weights, long tables, and errors by name."""

import numpy as np
import pytest
from scaling_cases import CASES, between, columns, objective_of, runs_of
from scipy.optimize import minimize

from limitlib.scaling import FORMS, LeastSquares, LogHuber, Runs, Weighted, law
from limitlib.scaling.errors import FewerRunsThanParameters, NoVariation, UnknownColumn
from limitlib.scaling.fitting import problem_of, quantiles

CHINCHILLA, TRUTH = CASES["chinchilla"]


def chinchilla_runs(seed=0, n=80, noise=0.01, **more):
    return runs_of(CHINCHILLA, TRUTH | more, np.random.default_rng(seed), n, noise)


@pytest.fixture(scope="module")
def fit():
    return CHINCHILLA.fit(chinchilla_runs())


# ---------------------------------------------------------------- the certificate


def test_certificate_fields_mean_what_they_say(fit):
    c, problem = fit.certificate, fit.problem
    o = fit.objective
    by_hand = sum(o.rho(np.array(np.log(loss) - np.log(fit.predict(P=p, N=n)))) for loss, p, n in
                  zip(fit.runs.loss, fit.runs.P, fit.runs.N, strict=True))  # fmt: skip
    assert c.value == fit.value == pytest.approx(by_hand, rel=1e-10)
    assert c.value_high_precision == pytest.approx(c.value, rel=1e-9)
    local = problem.local(fit.theta[None], problem.weight[None])
    size = np.sqrt(np.diag(local.majorant[0]))
    assert c.gradient_norm == pytest.approx(np.abs(local.gradient[0] / size).max() / np.sqrt(c.value), rel=1e-6, abs=1e-12)
    assert c.hessian_eigenvalues == pytest.approx(np.linalg.eigvalsh(local.hessian[0] / np.outer(size, size)), rel=1e-6)
    assert c.hessian_eigenvalues == tuple(sorted(c.hessian_eigenvalues)) and c.hessian_eigenvalues[0] > 0
    assert c.converged and c.boundary == () and c.decrement < 1e-9
    assert 0 < c.share_agreeing <= 1 and c.share_agreeing + c.unfinished <= 1 + 1e-12 and c.starts >= 16


def test_deterministic(fit):
    again = CHINCHILLA.fit(chinchilla_runs())
    assert again.parameters == fit.parameters and again.certificate == fit.certificate


def test_every_start_counts_once():
    for starts in (1, 4, 16, 40):
        c = CHINCHILLA.fit(chinchilla_runs(), starts=starts).certificate
        assert c.starts >= 2 * starts
        assert c.share_agreeing * c.starts == pytest.approx(round(c.share_agreeing * c.starts), abs=1e-9)


def test_order_of_rows_does_not_matter(fit):
    order = np.random.default_rng(1).permutation(len(fit.runs))
    assert CHINCHILLA.fit(fit.runs.select(order)).parameters == pytest.approx(fit.parameters, rel=1e-6)


@pytest.mark.parametrize("name", ["chinchilla", "critical", "schedule", "kaplan", "width-depth"])
def test_converged_fits_are_local_minima(name):
    made, truth = CASES[name]
    for seed in range(3):
        found = made.fit(runs_of(made, truth, np.random.default_rng(seed), 60, 0.02))
        assert found.certificate.converged
        rng, problem = np.random.default_rng(seed), found.problem
        size = np.sqrt(np.diag(problem.local(found.theta[None], problem.weight[None]).majorant[0]))
        spread = np.where(found.free, np.sqrt(found.value) / np.maximum(size, 1e-300), 0.0)
        for scale in (1e-6, 1e-4, 1e-2):
            around = found.theta + scale * spread * rng.normal(size=(200, made.p))
            f = problem.value(around, np.tile(problem.weight, (200, 1)))
            assert (f >= found.value * (1 - 1e-12)).all()


def test_what_the_runs_do_not_determine_is_not_converged():
    """No repeated data: R_star moves nothing. Scores that a step separates: the slope grows without end."""
    runs = chinchilla_runs()
    nothing_repeated = Runs.from_arrays(runs.loss, P=runs.P, N=runs.N, unique=runs.N, run="=row")
    assert not law("repetition").fit(nothing_repeated).certificate.converged
    x = np.linspace(1, 4, 40)
    step = Runs.from_arrays(np.where(x < 2.5, 0.9, 0.1), nll=x, run="=row", unit="=score")
    ends = law("sigmoid", floor=0.1, ceiling=0.9).fit(step, LeastSquares("raw"))
    assert ends.value < 1e-20 and not ends.certificate.converged


# ---------------------------------------------------------------- boundaries


def test_a_floor_of_0_is_named_where_the_data_have_none():
    rng = np.random.default_rng(2)
    given = columns(CHINCHILLA, rng, 80)
    loss = CHINCHILLA.predict(TRUTH | {"E": 0.0}, **given) - 0.05  # a floor below 0 would fit exactly
    found = CHINCHILLA.fit(Runs.from_arrays(loss, **given, run="=row"))
    assert found.certificate.boundary == ("E",) and found.parameters["E"] == 0.0 and found.certificate.converged
    lifted = dict(found.parameters, E=1e-3)
    assert found.objective_at(lifted) > found.value
    without = law("chinchilla", floor=False).fit(found.runs)
    assert found.value == pytest.approx(without.value, rel=1e-9)
    positive = CHINCHILLA.fit(Runs.from_arrays(loss + 0.5, **given, run="=row"))  # negative control
    assert positive.certificate.boundary == () and positive.parameters["E"] > 0.1


def test_other_parameters_at_their_boundary():
    rng = np.random.default_rng(3)
    runs = chinchilla_runs(noise=0.0)
    other = Runs.from_arrays(runs.loss, P=runs.P, N=runs.N, N2=between(rng, 1e8, 1e11, 80), run="=row")
    useless = law("multilingual").fit(other)
    assert useless.certificate.boundary == ("tau",) and useless.parameters["tau"] == 0.0
    rates = Runs.from_arrays(runs.loss, P=runs.P, K=runs.N, lr=rng.choice([0.0, 0.5, 1.0], 80), run="=row")
    annealed = law("schedule").fit(rates)
    assert annealed.certificate.boundary == ("H",) and annealed.certificate.converged
    assert annealed.parameters["a_P"] == pytest.approx(0.34, rel=1e-8)


# ---------------------------------------------------------------- beside other optimisers


@pytest.mark.parametrize("delta", [1e-3, 1e-4])
@pytest.mark.parametrize("name", ["chinchilla", "over-training", "critical"])
def test_never_above_many_starts_of_scipy(name, delta):
    made, truth = CASES[name]
    runs = runs_of(made, truth, np.random.default_rng(5), 60, 0.01)
    found = made.fit(runs, LogHuber(delta))
    problem, means, _ = problem_of(made, runs, LogHuber(delta))
    centre, rng = made.internal(truth, means), np.random.default_rng(6)

    def both(t):
        with np.errstate(all="ignore"):
            local = problem.local(t[None], problem.weight[None])
        return local.f[0], local.gradient[0]

    starts = centre + rng.normal(size=(4, made.p)) * 0.3
    options = {"ftol": 1e-13, "gtol": 1e-10, "maxiter": 300}
    ends = [minimize(both, s, jac=True, method="L-BFGS-B", options=options).fun for s in starts]
    assert found.value <= min(ends) * (1 + 1e-9)


@pytest.mark.parametrize("name", [c for c in CASES if c not in ("multimodal", "transfer")])  # those two take long
def test_never_above_the_truth(name):
    made, truth = CASES[name]
    found = made.fit(runs_of(made, truth, np.random.default_rng(7), 60, 0.01), objective_of(made))
    assert found.value <= found.objective_at(truth) * (1 + 1e-12)
    assert found.objective_at(found.parameters) == pytest.approx(found.value, rel=1e-6)


def test_outliers_move_least_squares_and_not_huber():
    runs = chinchilla_runs(noise=0.002)
    loss = runs.loss.copy()
    loss[::9] *= 3.0
    spoilt = Runs.from_arrays(loss, P=runs.P, N=runs.N, run="=row")
    huber, squares = CHINCHILLA.fit(spoilt), CHINCHILLA.fit(spoilt, LeastSquares())
    at = dict(P=1e9, N=2e10)
    assert huber.predict(**at) == pytest.approx(CHINCHILLA.predict(TRUTH, **at), rel=5e-3)
    assert abs(squares.predict(**at) / CHINCHILLA.predict(TRUTH, **at) - 1) > 0.05


# ---------------------------------------------------------------- objectives, weights, rows


def test_raw_least_squares_in_any_unit():
    runs = chinchilla_runs()
    base = CHINCHILLA.fit(runs, LeastSquares("raw"))
    for unit in (1e-6, 1e6):
        scaled = Runs.from_arrays(unit * runs.loss, P=runs.P, N=runs.N, run="=row", unit="=scaled")
        found = CHINCHILLA.fit(scaled, LeastSquares("raw"))
        assert found.certificate.converged and found.parameters["alpha"] == pytest.approx(base.parameters["alpha"], rel=1e-7)
        assert found.value == pytest.approx(base.value * unit**2, rel=1e-9)
        exact = Runs.from_arrays(
            unit * CHINCHILLA.predict(TRUTH, P=runs.P, N=runs.N), P=runs.P, N=runs.N, run="=row", unit="=scaled"
        )
        found = CHINCHILLA.fit(exact, LeastSquares("raw"))
        assert found.certificate.converged and found.parameters["alpha"] == pytest.approx(0.34, rel=1e-8)


def test_residuals_are_on_the_scale_of_the_objective(fit):
    assert fit.residuals == pytest.approx(np.log(fit.runs.loss / fit.predict(P=fit.runs.P, N=fit.runs.N)), abs=1e-12)
    raw = CHINCHILLA.fit(fit.runs, LeastSquares("raw"))
    assert raw.residuals == pytest.approx(fit.runs.loss - raw.predict(P=fit.runs.P, N=fit.runs.N), abs=1e-11)


def test_weights_of_runs_and_of_the_objective_multiply():
    runs = chinchilla_runs()
    w = np.random.default_rng(8).integers(1, 4, 80).astype(float)
    given = dict(P=runs.P, N=runs.N, run="=row")
    by_runs = CHINCHILLA.fit(Runs.from_arrays(runs.loss, **given, weight=w))
    by_array = CHINCHILLA.fit(runs, Weighted(LogHuber(), w))
    by_name = CHINCHILLA.fit(Runs.from_arrays(runs.loss, **given, w=w), Weighted(LogHuber(), "w"))
    both = CHINCHILLA.fit(Runs.from_arrays(runs.loss, **given, weight=w), Weighted(LogHuber(), w))
    assert [by_array.value, by_name.value] == pytest.approx([by_runs.value] * 2, rel=1e-12)
    assert both.value == pytest.approx(CHINCHILLA.fit(runs, Weighted(LogHuber(), w**2)).value, rel=1e-12)


def test_rows_of_weight_0_are_as_good_as_absent(fit):
    keep = np.arange(80) < 50
    part = CHINCHILLA.fit(fit.runs.select(keep))
    weighted = CHINCHILLA.fit(fit.runs, Weighted(LogHuber(), keep.astype(float)))
    assert weighted.value == pytest.approx(part.value, rel=1e-9)
    assert weighted.parameters == pytest.approx(part.parameters, rel=1e-5)


def test_where_selects_rows(fit):
    part = CHINCHILLA.fit(fit.runs, where="P < 2e9")
    assert len(part.runs) == int((fit.runs.P < 2e9).sum()) < 80
    assert part.value == CHINCHILLA.fit(fit.runs.select(fit.runs.P < 2e9)).value


def test_a_long_table_gives_the_same_optimum_as_without_thinning(monkeypatch):
    runs = chinchilla_runs(n=6000)
    thinned = CHINCHILLA.fit(runs)
    monkeypatch.setattr("limitlib.scaling.fitting.MANY_ROWS", 10_000)
    direct = CHINCHILLA.fit(runs)
    assert thinned.value == pytest.approx(direct.value, rel=1e-9) and thinned.certificate.converged
    assert thinned.parameters == pytest.approx(direct.parameters, rel=1e-4)
    assert thinned.certificate.starts >= 16


def test_a_long_table_with_few_weighted_rows():
    """Negative control of thinning blindly: of the rows that count, hardly any would be left."""
    runs = chinchilla_runs(n=30_000)
    rows = np.random.default_rng(9).choice(30_000, 40, replace=False)
    w = np.zeros(30_000)
    w[rows] = 1.0
    found = CHINCHILLA.fit(runs, Weighted(LogHuber(), w))
    assert found.value == pytest.approx(CHINCHILLA.fit(runs.select(np.sort(rows))).value, rel=1e-9)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: FORMS["chinchilla"]().fit(r, "huber"), TypeError, "objective='huber' must be"),
        (lambda r: CHINCHILLA.fit(r, starts=0), ValueError, "starts=0 must be at least 1"),
        (lambda r: CHINCHILLA.fit(r, Weighted(LogHuber(), "w")), ValueError, "weights='w' is no column"),
        (lambda r: CHINCHILLA.fit(r, Weighted(LogHuber(), np.ones(3))), ValueError, r"shape \(3,\); give one weight for each"),
        (lambda r: CHINCHILLA.fit(r, Weighted(LogHuber(), np.zeros(80))), ValueError, "all weights are 0"),
        (lambda r: CHINCHILLA.fit(r, Weighted(LogHuber(), np.arange(80) < 1)), TypeError, "weights"),
        (lambda r: CHINCHILLA.fit(r, Weighted(LogHuber(), (np.arange(80) < 3) * 1.0)), FewerRunsThanParameters, "3 runs"),
        (lambda r: CHINCHILLA.fit(r.select(np.arange(4))), FewerRunsThanParameters, "4 runs"),
        (lambda r: law("critical").fit(r), UnknownColumn, "'K'"),
        (lambda r: CHINCHILLA.fit(Runs.from_arrays(r.loss, P=np.full(80, 1e9), N=r.N, run="=row")), NoVariation, "P is 1e"),
        (lambda r: CHINCHILLA.fit(Runs.from_arrays(np.full(80, 2.0), P=r.P, N=r.N, run="=row")), NoVariation, "loss is 2"),
        (lambda r: CHINCHILLA.fit(r).boot(0, rng=np.random.default_rng(0)), ValueError, "n=0"),
        (lambda r: CHINCHILLA.fit(r).boot(10, rng=0), TypeError, "rng=0"),
        (lambda r: CHINCHILLA.fit(r).boot(10, by="size", rng=np.random.default_rng(0)), ValueError, "by='size'"),
        (lambda r: CHINCHILLA.fit(r).boot(10, rng=np.random.default_rng(0)).interval("gamma"), ValueError, "name='gamma'"),
        (lambda r: CHINCHILLA.fit(r).boot(10, rng=np.random.default_rng(0)).interval("beta", 1.0), ValueError, "level=1.0"),
        (lambda r: CHINCHILLA.fit(r).objective_at({"E": 1.0}), ValueError, "given differ in"),
        (lambda r: CHINCHILLA.fit(r).predict(P=1e9), ValueError, "needs N=..."),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(chinchilla_runs())


def test_quantiles_of_draws_that_are_infinite():
    assert quantiles(np.full(50, np.inf), 0.95) == (np.inf, np.inf)
    low, high = quantiles(np.append(np.zeros(90), np.full(10, np.inf)), 0.95)
    assert low == 0 and high == np.inf
