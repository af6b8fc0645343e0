"""The simulations beside the closed forms: descent step by step, the sequence model, and input that makes no sense."""

import math

import numpy as np
import pytest

from limitlib.performance import (
    PowerLawModel,
    Simulated,
    gradient_descent_risk,
    least_squares_risk,
    one_pass_sgd_risk,
    simulate_one_pass_sgd,
    simulate_ridge,
    simulate_sequence_model,
)

MODEL = PowerLawModel(1.5, 2.0, noise=0.5)
SPECTRUM = MODEL.spectrum(400)


def test_descent_step_by_step_is_the_closed_form():
    steps = np.array([[0, 1, 7], [100, 1000, 3000]])
    for P in (3, 50, 400):
        tail = float(MODEL.error(P=400)) - 0.0  # beyond the 400 modes of the spectrum
        exact = PowerLawModel(1.5, 2.0).error(P=P, K=steps)
        assert gradient_descent_risk(*SPECTRUM, steps, eta=0.5, P=P) + tail == pytest.approx(exact, rel=1e-12)


def test_descent_diverges_beyond_two_over_the_largest_eigenvalue():
    assert gradient_descent_risk([1.0, 0.1], [1.0, 1.0], 200, eta=1.9) < 1.0
    assert gradient_descent_risk([1.0, 0.1], [1.0, 1.0], 200, eta=2.0) == 1.0  # the first mode swings for ever
    assert gradient_descent_risk([1.0, 0.1], [1.0, 1.0], 5000, eta=2.2) == math.inf


@pytest.mark.parametrize(("N", "P", "K"), [(10, 20, 5), (30, 100, 60), (5, 300, 300), (1000, 7, 900)])
def test_the_sequence_model_against_its_closed_form(N, P, K):
    drawn = simulate_sequence_model(MODEL, N, P, K, draws=400, rng=np.random.default_rng([N, P, K]))
    assert abs(drawn.z(float(MODEL.error(N, P, K)))) < 4
    assert abs(drawn.z(float(PowerLawModel(1.5, 2.0).error(N, P, K)))) > 6  # without the noise term it would not fit


def test_without_noise_every_draw_is_exact():
    for N in (math.inf, 10):
        drawn = simulate_sequence_model(PowerLawModel(1.5, 2.0), N, 50, 40, draws=3, rng=np.random.default_rng(0))
        assert drawn.values == pytest.approx(float(PowerLawModel(1.5, 2.0).error(P=50, K=40)), rel=1e-12)


def test_at_as_many_samples_as_modes_the_median_stands_where_the_mean_does_not():
    """C3.2's pole: the mean of independent batches of draws scatters over decades, the median does not."""
    values = np.ones(30)
    runs = [simulate_ridge(values, values / 30, 30, noise=0.25, draws=200, rng=np.random.default_rng([s, 5])) for s in range(8)]
    means, medians = [r.mean for r in runs], [r.median for r in runs]
    assert least_squares_risk(30, 30, noise=0.25) == math.inf
    assert max(means) > 5 * min(means) and max(medians) < 2 * min(medians)


def test_a_single_draw_has_no_standard_error():
    single = simulate_ridge(*SPECTRUM, 20, draws=1, rng=np.random.default_rng(0))
    assert math.isfinite(single.mean)
    with pytest.raises(ValueError, match="draws=1 gives no standard error"):
        _ = single.standard_error
    pair = Simulated(np.array([1.0, 3.0]))
    assert pair.standard_error == pytest.approx(1.0) and pair.z(0.0) == pytest.approx(2.0)


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: simulate_sequence_model(MODEL, 2.5, 5, 5, draws=3, rng=RNG), ValueError, "N=2.5 must be a whole number"),
        (lambda: simulate_sequence_model(MODEL, 0, 5, 5, draws=3, rng=RNG), ValueError, "N=0 must be at least 1"),
        (lambda: simulate_sequence_model(MODEL, math.nan, 5, 5, draws=3, rng=RNG), ValueError, "N=nan must be finite"),
        (lambda: simulate_sequence_model(MODEL, 5, 5, 2.5, draws=3, rng=RNG), ValueError, "K=2.5 must be a whole number"),
        (lambda: simulate_sequence_model(MODEL, 5, math.inf, 5, draws=3, rng=RNG), ValueError, "P=inf must be finite"),
        (lambda: simulate_sequence_model(MODEL, 5, 5, 5, draws=0, rng=RNG), ValueError, "draws=0 must be at least 1"),
        (lambda: simulate_sequence_model(MODEL, 5, 5, 5, draws=3, rng=7), TypeError, "numpy Generator"),
        (lambda: simulate_sequence_model("model", 5, 5, 5, draws=3, rng=RNG), TypeError, "must be a PowerLawModel"),
        (lambda: simulate_ridge(*SPECTRUM, 2.5, draws=3, rng=RNG), ValueError, "N=2.5 must be a whole number"),
        (lambda: simulate_ridge(*SPECTRUM, 20, draws=0, rng=RNG), ValueError, "draws=0 must be at least 1"),
        (lambda: simulate_ridge(*SPECTRUM, 20, draws=3, rng=None), TypeError, "numpy Generator"),
        (lambda: simulate_ridge(*SPECTRUM, 20, ridge=-1.0, draws=3, rng=RNG), ValueError, "ridge=-1.0 must be at least 0"),
        (lambda: simulate_ridge(*SPECTRUM, 20, features=0, draws=3, rng=RNG), ValueError, "features=0 must be at least 1"),
        (lambda: simulate_ridge([], [], 20, draws=3, rng=RNG), ValueError, "vectors of one length"),
        (lambda: simulate_ridge(["a"], ["b"], 20, draws=3, rng=RNG), TypeError, "must hold real numbers"),
        (lambda: simulate_one_pass_sgd(*SPECTRUM, -1, eta=0.1, draws=3, rng=RNG), ValueError, "steps=-1 must be at least 0"),
        (lambda: simulate_one_pass_sgd(*SPECTRUM, 5, eta=-0.1, draws=3, rng=RNG), ValueError, "eta=-0.1 must be positive"),
        (lambda: gradient_descent_risk(*SPECTRUM, 2.5, eta=0.1), ValueError, "steps must be whole"),
        (lambda: gradient_descent_risk(*SPECTRUM, [1, -2], eta=0.1), ValueError, "steps must be at least 0"),
        (lambda: gradient_descent_risk(*SPECTRUM, 2, eta=0.0), ValueError, "eta=0.0 must be positive"),
        (lambda: gradient_descent_risk(*SPECTRUM, 2, eta=0.1, P=401), ValueError, "lie in 0..400"),
    ],
)
def test_bad_input_is_named(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_descent_keeps_the_digits_of_a_small_risk():
    found = gradient_descent_risk([1.0], [1.0], [150, 200, 300], eta=0.2)
    assert found == pytest.approx([0.8**300, 0.8**400, 0.8**600], rel=1e-12, abs=0)


def test_steps_that_would_never_end_are_refused():
    for risk in (gradient_descent_risk, one_pass_sgd_risk):
        with pytest.raises(ValueError, match="steps must be at most 1e"):
            risk([1.0], [1.0], 1e300, eta=0.1)
    with pytest.raises(ValueError, match="steps must be at most"):
        simulate_one_pass_sgd([1.0], [1.0], 10**9, eta=0.1, draws=1, rng=RNG)


def test_extreme_simulations():
    assert (simulate_one_pass_sgd([1.0], [1.0], 300, eta=1e3, draws=3, rng=np.random.default_rng(0)).values == math.inf).all()
    spectrum, rng = ([1.0, 0.5, 0.2], [1.0, 1.0, 1.0]), np.random.default_rng
    tiny = simulate_ridge(*spectrum, 20, ridge=1e-300, features=2, draws=2, rng=rng(0))
    assert tiny.values == pytest.approx(simulate_ridge(*spectrum, 20, features=2, draws=2, rng=rng(0)).values, rel=1e-12)
    with pytest.raises(ValueError, match="a Gram matrix would overflow"):
        simulate_ridge([1e308], [1.0], 3, ridge=1.0, draws=2, rng=RNG)
    for values, said in (([1.0, 1.0], "all equal to 1"), ([1.0, math.inf], "a draw that diverged")):
        with pytest.raises(ValueError, match=said):
            Simulated(values).z(1.0)
