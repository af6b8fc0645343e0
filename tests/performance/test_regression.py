"""Exact and asymptotic risks of linear regression, each against its simulation."""

import math

import numpy as np
import pytest

from limitlib.performance import (
    PowerLawModel,
    least_squares_risk,
    one_pass_sgd_risk,
    random_features_risk,
    ridge_risk,
    sgd_step_limit,
    simulate_one_pass_sgd,
    simulate_ridge,
    why_least_squares_infinite,
    why_sgd_diverges,
)

SPECTRUM = PowerLawModel(1.5, 1.5).spectrum(2000)


def test_least_squares_in_closed_form():
    found = least_squares_risk(40, [5, 20, 30, 60, 120, 400, 2000], signal=1.0, noise=0.25)
    assert found == pytest.approx([0.036765, 0.263158, 0.833333, 0.859649, 0.793249, 0.927855, 0.985105], abs=5e-7)
    assert (least_squares_risk(40, [39, 40, 41], noise=0.25) == math.inf).all()
    assert least_squares_risk(40, [5, 39, 40], noise=0.0).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="at least 1"):
        least_squares_risk(0, 3)


@pytest.mark.parametrize("P", [5, 20, 60, 120])
def test_least_squares_against_draws(P):
    values = np.ones(P)
    drawn = simulate_ridge(values, values / P, 40, noise=0.25, draws=200, rng=np.random.default_rng([P, 3]))
    assert abs(drawn.mean - float(least_squares_risk(40, P, noise=0.25))) < 4 * drawn.standard_error


def test_ridgeless_in_the_limit():
    found = [ridge_risk(*SPECTRUM, N).risk for N in (32, 64, 128, 256, 512)]
    assert found == pytest.approx([0.582, 0.396, 0.261, 0.163, 0.0927], abs=6e-4)


def test_the_equivalent_is_ordinary_least_squares_where_that_is_unique():
    """noise P / (N - P), which differs from the exact noise P / (N - P - 1) by the -1 only."""
    values = np.full(20, 3.0)
    assert ridge_risk(values, values, 100, noise=0.5).risk == pytest.approx(0.5 * 20 / 80, rel=1e-12)
    assert ridge_risk(values, values, 20, noise=0.5).risk == math.inf  # P = N
    assert math.isfinite(ridge_risk(values, values, 20, noise=0.5, ridge=1.0).risk)


@pytest.mark.parametrize(("N", "P", "total"), [(64, 256, 0.7175), (256, 64, 0.6614), (512, 128, 0.4809), (128, 128, 3.22)])
def test_random_features(N, P, total):
    found = random_features_risk(*SPECTRUM, N, P, ridge=1e-3, noise=0.1).risk + 0.1
    assert found == pytest.approx(total, abs=6e-3 if N == P else 1e-4)


def test_many_features_are_the_kernel():
    kernel = ridge_risk(*SPECTRUM, 64, ridge=1e-2, noise=0.1)
    features = random_features_risk(*SPECTRUM, 64, 1e9, ridge=1e-2, noise=0.1)
    assert features.risk == pytest.approx(kernel.risk, rel=1e-6) and features.kappa == pytest.approx(kernel.kappa, rel=1e-6)


def test_features_against_draws():
    drawn = simulate_ridge(*PowerLawModel(1.5, 1.5).spectrum(600), 64, features=160, ridge=1e-3, noise=0.1, draws=40,
                           rng=np.random.default_rng(8))  # fmt: skip
    theory = random_features_risk(*PowerLawModel(1.5, 1.5).spectrum(600), 64, 160, ridge=1e-3, noise=0.1).risk
    assert abs(drawn.mean - theory) < 4 * drawn.standard_error


def test_ridgeless_against_draws():
    spectrum = PowerLawModel(1.5, 1.5).spectrum(600)
    drawn = simulate_ridge(*spectrum, 64, draws=40, rng=np.random.default_rng(9))
    assert abs(drawn.mean - ridge_risk(*spectrum, 64).risk) < 4 * drawn.standard_error


def test_one_pass_sgd():
    found = one_pass_sgd_risk(*SPECTRUM, [100, 1000, 3000], eta=0.1, noise=0.1, P=256)
    assert found + 0.1 == pytest.approx([0.804, 0.414, 0.3115], abs=6e-4)
    drawn = simulate_one_pass_sgd(*SPECTRUM, 300, eta=0.1, noise=0.1, P=256, draws=16, rng=np.random.default_rng(2))
    assert abs(drawn.mean - one_pass_sgd_risk(*SPECTRUM, 300, eta=0.1, noise=0.1, P=256)) < 4 * drawn.standard_error


def test_sgd_with_large_batches_is_gradient_descent():
    values, powers = PowerLawModel(1.5, 2.0).spectrum(50)
    found = one_pass_sgd_risk(values, powers, [0, 1, 25], eta=0.5, batch=10**12)
    exact = [np.sum(powers * (1 - 0.5 * values) ** (2 * k)) for k in (0, 1, 25)]
    assert found == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_sgd_diverges_exactly_from_its_threshold_on(seed):
    """Against the spectral radius of the recursion of second moments, written out as a matrix."""
    rng = np.random.default_rng([seed, 17])
    values, batch = rng.uniform(0.01, 3, rng.integers(1, 30)), int(rng.integers(1, 20))
    limit = sgd_step_limit(values, batch=batch)

    def radius(eta):
        keep = 1 - 2 * eta * values + eta**2 * (1 + 1 / batch) * values**2
        return abs(np.linalg.eigvals(np.diag(keep) + eta**2 / batch * np.outer(values, values))).max()

    assert radius(limit * 0.999) < 1 < radius(limit * 1.001)
    assert limit < 2 / values.max()  # stricter than gradient descent


def test_too_large_a_step_diverges_and_says_so():
    assert sgd_step_limit([1.0]) == pytest.approx(2 / 3, rel=1e-14)  # m <- (1 - 2 eta + 3 eta^2) m
    assert one_pass_sgd_risk([1.0], [1.0], 20_000, eta=0.7) == math.inf
    assert one_pass_sgd_risk([1.0], [1.0], 20_000, eta=0.66) < 1e-9
    assert why_sgd_diverges([1.0], eta=0.66) == ""
    assert "not below 0.666667" in why_sgd_diverges([1.0], eta=0.7)
    assert sgd_step_limit([1.0, 0.5], batch=10**9) == pytest.approx(2.0, rel=1e-8)
    assert sgd_step_limit([1.0], P=0) == math.inf


@pytest.mark.parametrize("seed", range(20))
def test_the_equivalents_solve_their_equations(seed):
    """Put the effective ridge back into the equations, in another form, from tiny to huge samples, ridges and spectra."""
    rng = np.random.default_rng([seed, 29])
    values, powers = PowerLawModel(rng.uniform(0.3, 4), rng.uniform(1.01, 5)).spectrum(int(rng.integers(2, 800)))
    N, P, ridge = 10 ** rng.uniform(-1, 6), 10 ** rng.uniform(0, 6), 10 ** rng.uniform(-9, 4)
    found = ridge_risk(values, powers, N, ridge=ridge, noise=0.5)
    kappa = found.kappa
    assert np.sum(values / (values + kappa)) + ridge / kappa == pytest.approx(N, rel=1e-9)
    slope = np.sum(values / (values + kappa) ** 2) + ridge / kappa**2  # -dN/dkappa; N/(kappa slope) is the amplification
    assert found.amplification == pytest.approx(N / (kappa * slope), rel=1e-7)
    bias = np.sum(powers * (kappa / (values + kappa)) ** 2)
    assert found.risk == pytest.approx(found.amplification * (bias + 0.5) - 0.5, rel=1e-9, abs=1e-12)
    features = random_features_risk(values, powers, N, P, ridge=ridge, noise=0.5)
    assert math.isfinite(features.risk) and features.amplification >= 1 - 1e-12


def test_every_infinity_has_its_reason():
    assert "|P - N| <= 1 (N = 40, P = 41)" in why_least_squares_infinite(40, 41, noise=0.25)
    assert why_least_squares_infinite(40, 42, noise=0.25) == "" == why_least_squares_infinite(40, 40, noise=0.0)
    pole = ridge_risk(np.ones(20), np.ones(20), 20, noise=0.5)
    assert pole.risk == math.inf and "P = N: 20 eigenvalues" in pole.reason
    assert ridge_risk(np.ones(20), np.ones(20), 20).risk == 0.0  # no noise: nothing to amplify
    assert ridge_risk(*SPECTRUM, 64, noise=1.0).reason == ""
    assert random_features_risk(*SPECTRUM, 64, 64, ridge=1e-3, noise=1.0).reason == ""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ridge_risk([1.0, -1.0], [1.0, 1.0], 5), "eigenvalues must be positive"),
        (lambda: ridge_risk([1.0, math.nan], [1.0, 1.0], 5), "eigenvalues must not be NaN"),
        (lambda: ridge_risk([1.0, math.inf], [1.0, 1.0], 5), "eigenvalues must be positive and finite"),
        (lambda: ridge_risk([1.0], [-1.0], 5), "energies must be nonnegative"),
        (lambda: ridge_risk([1.0], [1.0], math.inf), "N=inf must be finite"),
        (lambda: ridge_risk([1.0], [1.0], 5, noise=math.nan), "noise=nan must be finite"),
        (lambda: random_features_risk([1.0], [1.0], 5, math.nan, ridge=1.0), "P=nan must be finite"),
        (lambda: least_squares_risk(math.nan, 3), "N must not be NaN"),
        (lambda: least_squares_risk(40, 3, noise=-1.0), "noise=-1.0 must be at least 0"),
        (lambda: least_squares_risk(40, 3, signal=-1.0), "signal=-1.0 must be at least 0"),
        (lambda: one_pass_sgd_risk([1.0], [1.0], 2.5, eta=0.1), "steps must be whole"),
        (lambda: one_pass_sgd_risk([1.0], [1.0], -1, eta=0.1), "steps must be at least 0"),
        (lambda: one_pass_sgd_risk([1.0], [1.0], 5, eta=0.1, batch=0), "batch=0 must be at least 1"),
        (lambda: one_pass_sgd_risk([1.0], [1.0], 5, eta=math.nan), "eta=nan must be finite"),
        (lambda: sgd_step_limit([1.0], batch=0), "batch=0 must be at least 1"),
        (lambda: ridge_risk([], [], 5), "vectors of one length"),
        (lambda: ridge_risk([1.0], [1.0], 0), "N=0 must be positive"),
        (lambda: ridge_risk([1.0], [1.0], 5, ridge=-1), "must be at least 0"),
        (lambda: random_features_risk([1.0], [1.0], 5, 5, ridge=0.0), "ridge=0.0 must be positive"),
        (lambda: one_pass_sgd_risk([1.0], [1.0], 5, eta=0.0), "eta=0.0 must be positive"),
        (lambda: one_pass_sgd_risk([1.0], [1.0], 5, eta=0.1, P=2), "lie in 0..1"),
    ],
)
def test_bad_input(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_ridge_too_small_for_float64_is_named():
    values, powers = PowerLawModel(1.5, 2.0).spectrum(50)
    pole = ridge_risk(values, powers, 50, ridge=1e-300, noise=1.0)
    assert pole.risk == math.inf and "give a larger ridge" in pole.reason
    for N in (10, 50):  # the search for a root went on for ever
        with pytest.raises(ValueError, match="ridge=1e-300 is too small"):
            random_features_risk(values, powers, N, N, ridge=1e-300, noise=0.1)
    with pytest.raises(ValueError, match="must not both be inf"):
        least_squares_risk(math.inf, math.inf)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ridge_risk([1e308, 1e308], [1, 1], 5, ridge=1.0), "eigenvalues between 1e.308"),
        (lambda: random_features_risk([1e308, 1e308], [1, 1], 5, 6, ridge=1.0), "eigenvalues between 1e.308"),
        (lambda: ridge_risk([1.0], [1.0], 1e5, ridge=1e-323), "outside the range of float64"),
        (lambda: sgd_step_limit([]), "^eigenvalues must be a vector"),
        (lambda: least_squares_risk(40.5, 5), "N must be whole"),
        (lambda: why_least_squares_infinite([40], [40]), "must be single numbers"),
        (lambda: one_pass_sgd_risk([1, 0.5], [1e308, 1e308], 3, eta=0.1), "energies up to 1e.308"),
        (lambda: one_pass_sgd_risk([1.0], [1e308], 3, eta=0.1, noise=1e308), "noise=1e.308 plus"),
        (lambda: one_pass_sgd_risk([1e-5], [1e308], 3, eta=0.1), "energies / eigenvalues"),
    ],
)
def test_what_leaves_the_range_of_float64_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_numbers_at_the_edge_of_float64():
    assert one_pass_sgd_risk([1.0], [1.0], [0, 1, 3], eta=1e200).tolist() == [1.0, math.inf, math.inf]
    assert sgd_step_limit([1.0], batch=10**16) == pytest.approx(2.0, rel=1e-15)
    assert sgd_step_limit([1e308, 1e308]) == pytest.approx(5e-309, rel=1e-9)
    assert least_squares_risk(40, 5, noise=1e308) == pytest.approx(1e308 * (5 / 34), rel=1e-15)
    assert "exceed the largest float" in why_least_squares_infinite(40, 38, noise=1e308)
