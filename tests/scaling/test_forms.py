"""Every form of law: exact recovery, the way between natural and internal parameters, and errors with names."""

import numpy as np
import pytest
from scaling_cases import CASES, DOMAINS, columns, objective_of, runs_of

from limitlib.scaling import FORMS, LeastSquares, Runs, law


def test_every_form_has_a_case():
    assert {made.name for made, _ in CASES.values()} == set(FORMS)


@pytest.mark.parametrize("name", CASES)
def test_noise_free_recovery(name):
    made, truth = CASES[name]
    for seed in range(2):
        runs = runs_of(made, truth, np.random.default_rng(100 + seed), 120)
        fit = made.fit(runs, objective_of(made))
        assert fit.parameters == pytest.approx(truth, rel=1e-8)
        assert fit.certificate.converged and not fit.certificate.boundary


@pytest.mark.parametrize("name", CASES)
def test_natural_parameters_and_back_at_any_centre(name):
    made, truth = CASES[name]
    table = made.table(columns(made, np.random.default_rng(1), 10))
    for means in (made.means(table), dict.fromkeys(made.features, 0.0)):
        theta = made.internal(truth, means)
        back = made.natural(theta[None], means)
        assert {k: float(v[0]) for k, v in back.items()} == pytest.approx(truth, rel=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_predictions_do_not_depend_on_the_centre_or_on_the_shape(name):
    made, truth = CASES[name]
    given = columns(made, np.random.default_rng(2), 6)
    flat = made.predict(truth, **given)
    means = made.means(made.table(given))
    assert made.losses(made.internal(truth, means)[None], means, given)[0] == pytest.approx(flat, rel=1e-10)
    square = made.predict(truth, **{k: v.reshape(2, 3) for k, v in given.items()})
    assert np.array_equal(square.ravel(), flat)
    first = made.predict(truth, **{k: float(v[0]) for k, v in given.items()})
    assert first.shape == () and first == pytest.approx(flat[0], rel=1e-14)


def test_predictions_by_hand():
    P, N = 1e9, 2e10
    assert law("chinchilla").predict(dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28), P=P, N=N) == pytest.approx(
        1.69 + 406.4 * P**-0.34 + 410.7 * N**-0.28, rel=1e-13
    )
    assert law("kaplan").predict(dict(P_c=6.4e13, N_c=1.8e13, alpha_P=0.076, alpha_N=0.103), P=P, N=N) == pytest.approx(
        ((6.4e13 / P) ** (0.076 / 0.103) + 1.8e13 / N) ** 0.103, rel=1e-13
    )
    paper = law("paper").predict(dict(E=1.0, A_N=900.0, A_P=2.0, A_K=1.0, lip=0.9, beta=0.99), N=1e6, P=12, K=100)
    assert paper == pytest.approx(1 + 0.9 + 2 * 0.9**12 + 0.99**100, rel=1e-13)
    d = 1e9 + 1e9 * 5 * (1 - np.exp(-3 / 5))
    repeated = law("repetition").predict(CASES["repetition"][1], P=P, N=4e9, unique=1e9)
    assert repeated == pytest.approx(1.7 + 400 * P**-0.34 + 900 * d**-0.31, rel=1e-13)
    moved = law("transfer").predict(CASES["transfer"][1], P=P, N=1e8)
    assert moved == pytest.approx(1.7 + 400 * P**-0.34 + 900 * (1e8 + 2e3 * 1e8**0.5 * P**0.3) ** -0.31, rel=1e-13)
    several = law("multilingual").predict(CASES["multilingual"][1], P=P, N=N, N2=1e11)
    assert several == pytest.approx(1.7 + 400 * P**-0.34 + 900 * (N + 0.2e11) ** -0.31, rel=1e-13)
    a, b, c, d0, start, top = CASES["experts"][1].values()
    hat = 1 / (1 / (16 - 1 + 1 / (1 / start - 1 / top)) + 1 / top)
    sparse = law("experts").predict(CASES["experts"][1], P=P, experts=16)
    assert np.log(sparse) == pytest.approx(a * np.log(P) + b * np.log(hat) + c * np.log(P) * np.log(hat) + d0, rel=1e-12)
    x = 1e20
    broken = 1.2 + 1e3 * x**-0.15 * (1 + (x / 1e19) ** (1 / 0.4)) ** (-0.2 * 0.4)
    assert law("broken").predict(CASES["broken"][1], C=x) == pytest.approx(broken, rel=1e-12)
    shares = dict(zip(DOMAINS, [0.5, 0.3, 0.2, 0.0, 0.0], strict=True))
    exponential = law("mixing-exponential", domains=DOMAINS).predict(CASES["mixing-exponential"][1], **shares)
    assert exponential == pytest.approx(1.5 + np.exp(0.5 * 0.5 + 0.3 * 0.2 - 0.2), rel=1e-13)
    powered = law("mixing-power", domains=DOMAINS).predict(CASES["mixing-power"][1], **shares)
    product = 0.51**-0.5 * 0.31**-0.2 * 0.21**-0.1 * 0.01 ** (-0.3 + 0.1)
    assert powered == pytest.approx(1.5 + 0.2 * product, rel=1e-12)


def test_shares_of_different_shapes_broadcast_and_are_normalised():
    made, truth = CASES["mixing-exponential"]
    some = dict(zip(DOMAINS, [0.5, [[0.1], [0.2]], 0.2, [0.0, 0.1, 0.2], 0.0], strict=True))
    grid = made.predict(truth, **some)
    assert grid.shape == (2, 3)
    doubled = made.predict(truth, **{k: 2 * np.asarray(v) for k, v in some.items()})
    assert doubled == pytest.approx(grid, rel=1e-14)


def test_a_finished_run_has_no_learning_rate_term():
    made, truth = CASES["schedule"]
    cold, hot = made.predict(truth, P=1e9, K=1e4, lr=[0.0, 0.5])
    assert cold == pytest.approx(1.8 + 100 * 1e9**-0.3 + 3 * 1e4**-0.3, rel=1e-14)
    assert hot - cold == pytest.approx(0.1, rel=1e-12)


def test_schedule_recovers_from_a_few_hot_points_among_many_finished_ones():
    made, truth = CASES["schedule"]
    rng = np.random.default_rng(3)
    given = columns(made, rng, 200)
    given["lr"] = np.where(rng.random(200) < 0.04, 0.5, 0.0)
    runs = Runs.from_arrays(made.predict(truth, **given), **given, run="=row")
    assert made.fit(runs).parameters == pytest.approx(truth, rel=1e-8)


def test_kaplan_takes_large_losses():
    """Negative control of a start at loss^(1/alpha), which overflows for losses of 1e6."""
    made, truth = CASES["kaplan"]
    runs = runs_of(made, truth, np.random.default_rng(4), 60)
    scaled = Runs.from_arrays(1e6 * runs.loss, P=runs.P, N=runs.N, run="=row", unit="=millionths")
    fit = made.fit(scaled)
    assert fit.value < 1e-20 and fit.parameters["alpha_N"] == pytest.approx(0.103, rel=1e-8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: law("chincilla"), ValueError, "name='chincilla' is unknown: choose one of power"),
        (lambda: law("chinchilla", depth=3), TypeError, "depth"),
        (lambda: law("additive", variables=("P", "P")), ValueError, "must be distinct"),
        (lambda: law("critical", variables="NPX"), ValueError, "must be letters among N, P, K"),
        (lambda: law("paper", variables=""), ValueError, "must be letters among N, P, K"),
        (lambda: law("broken", breaks=0), ValueError, "breaks=0 must be at least 1"),
        (lambda: law("sigmoid", floor=1.5), ValueError, "floor=1.5 must lie between 0 and 1"),
        (lambda: law("mixing-power", domains=["a"]), ValueError, "at least two distinct"),
        (lambda: law("mixing-power", domains=DOMAINS, offset=0.0), ValueError, "offset=0.0 must be positive"),
        (lambda: law("chinchilla").predict(dict(E=1.0), P=1e9, N=1e9), ValueError, r"given differ in \['A', 'B'"),
        (lambda: law("power").predict(dict(E=-1.0, A=1.0, alpha=0.1), C=1.0), ValueError, "E=-1.0 must not be negative"),
        (lambda: law("power").predict(dict(E=1.0, A=1.0, alpha=0.1)), ValueError, "needs C=...; given: nothing"),
        (lambda: law("power").predict(dict(E=1.0, A=1.0, alpha=0.1), C=0.0), ValueError, "C must be positive"),
        (lambda: law("power").predict(dict(E=1.0, A=1.0, alpha=0.1), C=np.nan), ValueError, "C must not be NaN"),
        (lambda: law("power").predict(dict(E=1.0, A=1.0, alpha=0.1), C=np.inf), ValueError, "C must be finite"),
        (
            lambda: law("chinchilla").predict(CASES["chinchilla"][1], P=[1e9, 2e9], N=[1e9, 2e9, 3e9]),
            ValueError,
            r"broadcast to one shape; given: P \(2,\), N \(3,\)",
        ),
        (lambda: law("schedule").predict(CASES["schedule"][1], P=1.0, K=1.0), ValueError, "needs lr=..."),
        (lambda: law("experts").internal({**CASES["experts"][1], "E_max": 1.0}, {"ln P": 0.0}), ValueError, "E_max=1.0"),
        (
            lambda: law("mixing-power", domains=["a", "b"]).predict(dict(E=1.0, A=1.0, t_a=0.0, t_b=0.0), a=0.0, b=0.0),
            ValueError,
            "sum to 0 in a row",
        ),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_scores_may_be_0_and_losses_may_not():
    x = np.linspace(1, 4, 30)
    made = law("sigmoid")
    exact = made.predict(CASES["sigmoid"][1], nll=x)
    assert made.fit(Runs.from_arrays(exact, nll=x, run="=row", unit="=score"), LeastSquares("raw")).certificate.converged
