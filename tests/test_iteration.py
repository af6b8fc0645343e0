"""limitlib.iteration: certificates hold, items do not disturb each other, and failures are told in words."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import fixed_point
from scipy.special import zeta

from limitlib.bounds import Ball, Bound, Box, TokenBall
from limitlib.iteration import (
    asymptotic_lipschitz_radius,
    inexact_orbit,
    infinite_product,
    iterate,
    perturbed_error,
    products,
    residual_bound,
    rotation_residual,
    shift_residual,
)

METHODS = ["picard", "krasnoselskii_mann", "halpern", "anderson"]
QUARTER_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])


def cases(n):
    """The same n cases in every run, however slow the machine."""
    return settings(max_examples=n, deadline=None, derandomize=True)


def turn(angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def affine(rng, d, spectrum):
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    A = (Q * spectrum) @ Q.T
    b = rng.standard_normal(d)
    return A, b, np.linalg.solve(np.eye(d) - A, b)


# --- iterate: certificates


@cases(25)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.95), st.sampled_from(METHODS), st.sampled_from([1, 2, math.inf]))
def test_the_certified_error_is_never_below_the_true_error(seed, q, method, p):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    A = rng.standard_normal((d, d))
    A *= q / np.linalg.norm(A, p) * (1 - 1e-14)
    scale = 10.0 ** rng.uniform(-3, 3)
    b = scale * rng.standard_normal(d)
    truth = np.linalg.solve(np.eye(d) - A, b)
    fp = iterate(lambda x: x @ A.T + b, scale * rng.standard_normal((4, d)), method=method, contraction=q, norm=p,
                 rtol=10.0 ** rng.uniform(-12, -2), max_iter=300)  # fmt: skip
    assert np.isfinite(fp.error_bound).all()
    true_error = np.linalg.norm(fp.x - truth, p, axis=1)
    assert (true_error <= fp.error_bound + 1e-15 * np.linalg.norm(truth, p) / (1 - q)).all()  # the truth is rounded too


def test_the_bound_is_tight_where_the_slowest_mode_has_a_positive_eigenvalue():
    rng = np.random.default_rng(1)
    A, b, truth = affine(rng, 16, np.linspace(0, 0.99, 16))
    fp = iterate(lambda x: x @ A + b, np.zeros((3, 16)), contraction=0.99, rtol=0, atol=1e-8)
    error = np.linalg.norm(fp.x - truth, axis=1)
    assert fp.converged.all()
    assert (error <= fp.error_bound).all() and (fp.error_bound <= 1.1 * error).all()


def test_the_residual_is_the_one_at_the_returned_point():
    rng = np.random.default_rng(2)
    A, b, _ = affine(rng, 5, np.linspace(-0.9, 0.9, 5))

    def T(x):
        return np.einsum("bi,ij->bj", x, A) + b

    for method in METHODS:
        fp = iterate(T, rng.standard_normal((3, 5)), method=method, max_iter=200)
        # The order in which five squares are summed depends on the processor and on the layout of the array.
        np.testing.assert_allclose(fp.residual, np.linalg.norm(T(fp.x) - fp.x, axis=1), rtol=4e-16, atol=0)


def test_a_constant_map_is_solved_in_one_step_with_a_bound_of_rounding_size():
    fp = iterate(lambda x: np.full_like(x, 3.0), np.zeros((2, 4)), contraction=0.0)
    assert (fp.x == 3.0).all() and (fp.n_iter == 1).all()
    assert (fp.error_bound < 1e-12).all()


@pytest.mark.parametrize("method", METHODS)
def test_without_a_factor_there_is_no_bound(method):
    fp = iterate(lambda x: 0.5 * x + 1, np.zeros((2, 1)), method=method, max_iter=5000, rtol=1e-6)
    assert fp.error_bound is None
    assert all("no error bound: no contraction factor was given" in s for s in fp.status)


@pytest.mark.parametrize("method", METHODS)
def test_a_false_factor_is_refuted_by_the_steps(method):
    fp = iterate(lambda x: 0.97 * x + 1, np.zeros((2, 1)), method=method, contraction=0.5, max_iter=500)
    assert (fp.error_bound == math.inf).all()
    assert all("refuted by an observed ratio 0.97" in s for s in fp.status)


def test_a_factor_that_is_just_right_is_not_refuted_by_rounding():
    rng = np.random.default_rng(3)
    for q in (0.3, 0.9, 0.99):
        x0 = 100 * rng.standard_normal((20, 3))
        fp = iterate(lambda x, q=q: q * x + 1.0, x0, contraction=q, rtol=0, atol=0, max_iter=6000)
        assert np.isfinite(fp.error_bound).all()  # runs down into rounding noise
        assert (np.linalg.norm(fp.x - 1 / (1 - q), axis=1) <= fp.error_bound).all()


def test_single_precision_maps_get_a_wider_margin():
    def T(x):
        return (np.float32(0.9) * x.astype(np.float32) + np.float32(1)).astype(np.float32)

    q = float(np.float32(0.9))
    fp = iterate(T, np.array([[0.0], [50.0]]), contraction=q, rtol=0, atol=0, max_iter=400)
    assert np.isfinite(fp.error_bound).all()
    assert (np.abs(fp.x[:, 0] - 1 / (1 - q)) <= fp.error_bound).all()
    assert (fp.error_bound > 1e-7).all()


def test_a_bound_object_is_used_only_if_it_proves_a_contraction():
    def T(x):
        return 0.5 * x

    def run(bound):
        return iterate(T, np.ones(1), contraction=bound)

    assert run(Bound(0.5, 0.5, kind="exact")).error_bound < 1e-6
    assert run(Bound(0.0, 0.6)).error_bound < 1e-6
    for kind in ("estimate", "probabilistic"):
        fp = run(Bound(0.5, 0.5, kind=kind))
        assert fp.error_bound == math.inf and f"of kind {kind}" in fp.status
    fp = run(Bound(0.5, 1.2))
    assert fp.error_bound == math.inf and "1.2 of the given Bound is not below 1" in fp.status
    with pytest.raises(ValueError, match="contraction must be a Bound in norms"):
        run(Bound(0.5, 0.5, (1, 1)))


def test_a_local_factor_certifies_only_inside_its_domain():
    def T(x):  # slope at most 0.8 on [-0.4, 0.4], 2 at 1; fixed points 0 and 1
        return x**2

    local = Bound(0.0, 0.8, domain=Ball([0.0], 0.4))
    inside = iterate(T, np.array([0.3]), contraction=local)
    assert abs(inside.x[0]) <= inside.error_bound < 1e-6
    outside = iterate(T, np.array([1.0]), contraction=local)
    assert outside.residual == 0.0 and outside.error_bound == math.inf
    assert "not inside the domain" in outside.status
    # a contraction on a box that it leaves has no fixed point there: the ball test refuses it
    boxed = Bound(0.5, 0.5, domain=Box([-1.0], [1.0]))
    leaving = iterate(lambda x: 0.5 * x + 10, np.array([0.0]), contraction=boxed, max_iter=1)
    assert leaving.error_bound == math.inf
    with pytest.raises(ValueError, match="domain of vectors of length 1"):
        iterate(T, np.array([0.3]), contraction=Bound(0.0, 0.5, domain=TokenBall(1.0)))


# --- iterate: items


def cubic(x, a, b):
    """Row by row without BLAS, so that a row has the same bits in every batch."""
    return a * np.sin(x) + b - 0.1 * np.roll(x, 1, axis=1)


@cases(20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS), st.booleans())
def test_an_item_does_not_depend_on_its_batch_mates(seed, method, certified):
    rng = np.random.default_rng(seed)
    batch, d = 7, 3
    x0 = rng.standard_normal((batch, d)) * 10.0 ** rng.uniform(-6, 6, (batch, 1))
    a, b = rng.uniform(0.0, 1.3, (batch, 1)), rng.standard_normal((batch, d))
    options = dict(method=method, max_iter=300, contraction=0.9 if certified else None)
    together = iterate(cubic, x0, args=(a, b), **options)
    order = rng.permutation(batch)[:4]
    for items in (order, *[[i] for i in range(batch)]):
        part = iterate(cubic, x0[items], args=(a[items], b[items]), **options)
        for name in ("x", "n_iter", "residual", "error_bound", "status"):
            if getattr(part, name) is not None:
                np.testing.assert_array_equal(getattr(part, name), getattr(together, name)[items], err_msg=name)
        np.testing.assert_array_equal(part.rate.distance, together.rate.distance[items])


@pytest.mark.parametrize("method", ["picard", "krasnoselskii_mann", "halpern"])
def test_the_steps_are_those_of_the_plain_loop(method):
    def T(x):
        return np.cos(x)

    x0, tolerance = np.array([[0.1], [2.0], [0.739]]), 1e-3
    fp = iterate(T, x0, method=method, rtol=0, atol=tolerance)
    for i in range(len(x0)):
        x, n = x0[i], 0
        while abs(T(x) - x)[0] > tolerance:
            if method == "picard":
                x = T(x)
            elif method == "krasnoselskii_mann":
                x = x + 0.5 * (T(x) - x)
            else:
                x = x0[i] / (n + 2) + T(x) * ((n + 1) / (n + 2))
            n += 1
        assert fp.n_iter[i] == n
        np.testing.assert_allclose(fp.x[i], x, rtol=0, atol=1e-15)


def test_stopped_items_are_no_longer_evaluated_and_waste_is_bounded():
    rows = []

    def T(x, q):
        rows.append(len(x))
        return q * x

    q = np.array([[0.1], [0.5], [0.99]])
    fp = iterate(T, np.ones((3, 1)), args=(q,), rtol=0, atol=1e-10)
    assert (np.diff(rows) <= 0).all() and rows[0] == 3 and rows[-1] == 1
    needed = (fp.n_iter + 1).sum()
    assert needed <= sum(rows) <= needed * 9 / 8 + 3


def test_anderson_needs_far_fewer_evaluations_and_gives_the_same_bound():
    rng = np.random.default_rng(4)
    A, b, truth = affine(rng, 64, np.linspace(0, 0.99, 64))
    counts = {}
    for method in ("picard", "anderson"):
        calls = []
        fp = iterate(lambda x, calls=calls: calls.append(1) or x @ A + b, np.zeros((4, 64)), method=method, contraction=0.99,
                     rtol=0, atol=1e-8)  # fmt: skip
        counts[method] = len(calls)
        error = np.linalg.norm(fp.x - truth, axis=1)
        assert fp.converged.all() and (error <= fp.error_bound).all()
    assert counts["anderson"] <= 250 < 1000 < counts["picard"]


def test_anderson_in_one_dimension_is_the_secant_method():
    fp = iterate(np.cos, np.array([1.0]), method="anderson", memory=1, rtol=0, atol=1e-13)
    assert abs(fp.x[0] - 0.7390851332151607) < 1e-12 and fp.n_iter <= 7


def test_one_vector_gives_scalars():
    A = 0.5 * np.eye(2)
    fp = iterate(lambda x, c: A @ x + c, np.zeros(2), contraction=0.5, args=(np.ones(2),))
    assert fp.x.shape == (2,) and isinstance(fp.status, str) and np.ndim(fp.residual) == np.ndim(fp.n_iter) == 0
    assert fp.history.residuals.ndim == 1 and bool(fp.converged)


def test_history_is_bounded_and_holds_the_residuals():
    fp = iterate(lambda x: x @ QUARTER_TURN, np.array([[1.0, 0.0], [0.0, 0.0]]), max_iter=20_000)
    assert len(fp.history.steps) <= 512 and fp.history.steps[-1] >= 19_000
    np.testing.assert_allclose(fp.history.residuals[:, 0], math.sqrt(2), rtol=1e-14)
    assert fp.history.residuals[0, 1] == 0.0 and np.isnan(fp.history.residuals[1:, 1]).all()
    short = iterate(lambda x: 0.5 * x, np.ones((1, 1)), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(short.history.residuals[:, 0], 0.5 ** (short.history.steps + 1.0))


def test_the_observed_rate_is_the_contraction_factor_or_the_power():
    fp = iterate(lambda x: 0.8 * x, np.ones(1), rtol=0, atol=1e-10)
    assert fp.rate.factor == pytest.approx(0.8, rel=1e-9)
    fp = iterate(np.sin, np.ones(1), rtol=0, atol=0, max_iter=50_000)
    assert fp.rate.order == pytest.approx(1.5, abs=0.01)  # x_n ~ sqrt(3/n), residual ~ x^3/6
    assert "Lieder" in iterate(np.sin, np.ones(1), method="halpern", max_iter=10).rate.law


# --- iterate: traps, told in words


def test_trap_rotation():
    x0 = np.array([1.0, 0.0])
    picard = iterate(lambda x: QUARTER_TURN @ x, x0)
    assert picard.status.startswith("stalled") and "rotation" in picard.status and not picard.converged
    for method in ("krasnoselskii_mann", "halpern", "anderson"):
        fp = iterate(lambda x: QUARTER_TURN @ x, x0, method=method, rtol=0, atol=1e-6)
        assert fp.converged and np.linalg.norm(fp.x) < 1e-5, method


@pytest.mark.parametrize("method", METHODS)
def test_trap_translation(method):
    fp = iterate(lambda x: x + 1.0, np.zeros(2), method=method, max_iter=2000)
    assert fp.status.startswith("stalled: the iterates escape") and "no fixed point found" in fp.status
    assert fp.residual == pytest.approx(math.sqrt(2)) and fp.rate.distance == math.inf


def test_trap_slow_sine_has_a_small_residual_far_from_its_limit():
    fp = iterate(np.sin, np.ones(1), rtol=0, atol=1e-7, max_iter=100_000)
    assert fp.converged and fp.error_bound is None
    assert fp.x[0] > 5e4 * fp.residual  # the distance to the fixed point 0
    assert fp.rate.distance > 1e4 * fp.residual and "secant estimate of the distance" in fp.status


def test_trap_no_fixed_point_that_del2_finds():
    def T(x):
        return x + np.exp(-x)  # T x > x everywhere

    found = fixed_point(T, np.array([0.0]))
    assert found > 10  # Steffensen's method reports success
    fp = iterate(T, np.zeros(1))
    assert fp.status.startswith("reached max_iter") and "may escape to infinity" in fp.status and not fp.converged
    tempted = iterate(T, np.zeros(1), method="anderson")  # its residual is small, and only that is said
    assert tempted.error_bound is None and tempted.rate.distance > 1e5 * tempted.residual
    far = iterate(T, np.zeros(1), contraction=0.99)
    assert far.error_bound == math.inf and "refuted" in far.status


def test_trap_overflow_and_nan_keep_the_last_finite_iterate():
    fp = iterate(lambda x: 2 * x + 1, np.array([[0.0], [-1.0]]))
    assert fp.status[0].startswith("diverged: T is not finite after step 1023")
    assert np.isfinite(fp.x).all() and fp.x[0, 0] == 2.0**1023 and fp.residual[0] == math.inf
    assert fp.converged.tolist() == [False, True]  # the other item sits on its fixed point
    fp = iterate(lambda x: np.log(x - 0.5), np.ones(1), contraction=0.5)
    assert fp.status.startswith("diverged") and fp.n_iter == 1 and fp.x[0] == math.log(0.5) and fp.error_bound == math.inf


@pytest.mark.parametrize("method", METHODS)
def test_non_finite_values_end_in_the_status_for_every_method(method):
    fp = iterate(lambda x: np.where(np.abs(x) > 50, np.nan, 3 * x + 1), np.ones((3, 2)), method=method, max_iter=500)
    assert np.isfinite(fp.x).all()
    assert all(s.startswith(("diverged", "converged")) for s in fp.status)


def test_running_out_of_steps_says_so():
    fp = iterate(lambda x: 0.999 * x, np.ones(1), max_iter=10)
    assert fp.status.startswith("reached max_iter=10") and fp.n_iter == 10
    assert fp.x[0] == pytest.approx(0.999**10)


# --- iterate: arguments


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        (dict(x0=np.zeros((2, 2, 2))), ValueError, r"x0 must have shape \(batch, d\) or \(d,\)"),
        (dict(x0=np.zeros(0)), ValueError, "not empty"),
        (dict(x0=np.array([np.nan])), ValueError, "x0 must be finite"),
        (dict(x0=np.array([1j])), TypeError, "x0 must be an array of real numbers"),
        (dict(T=3), TypeError, "T must be callable"),
        (dict(T=lambda x: np.zeros(3)), ValueError, r"T must keep the shape \(2,\)"),
        (dict(T=lambda x: x + 0j), TypeError, "T must return real numbers"),
        (dict(method="newton"), ValueError, "method must be one of picard"),
        (dict(contraction=1.0), ValueError, r"contraction must lie in \[0, 1\)"),
        (dict(contraction=math.nan), ValueError, "contraction must lie in"),
        (dict(contraction="half"), TypeError, "contraction must be a number"),
        (dict(contraction=Bound(0.0, 0.5, domain=Ball([0.0] * 3, 1.0))), ValueError, "a domain of vectors of length 2"),
        (dict(norm=0.5), ValueError, "norm must be a norm exponent"),
        (dict(rtol=-1), ValueError, "rtol must be a finite number >= 0"),
        (dict(atol=math.inf), ValueError, "atol must be a finite number >= 0"),
        (dict(max_iter=0), ValueError, "max_iter must be an integer >= 1"),
        (dict(relaxation=0.5), ValueError, "relaxation must be left out for method 'picard'"),
        (dict(memory=5), ValueError, "memory and ridge belong to method='anderson'"),
        (dict(method="krasnoselskii_mann", relaxation=1.5), ValueError, r"relaxation must lie in \[0, 1\]"),
        (dict(method="krasnoselskii_mann", relaxation=lambda k: k), ValueError, "at step 2; got 2"),
        (dict(method="anderson", relaxation=0), ValueError, "its mixing"),
        (dict(method="anderson", ridge=0.0), ValueError, "ridge must be a number > 0"),
        (dict(method="anderson", memory=0), ValueError, "memory must be an integer >= 1"),
        (dict(x0=np.zeros((2, 2)), args=(np.zeros(3),)), ValueError, r"args\[0\] must have leading length 2"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, word):
    arguments = dict(T=lambda x: 0.5 * x + 1, x0=np.zeros(2)) | change
    with pytest.raises(error, match=word):
        iterate(arguments.pop("T"), arguments.pop("x0"), **arguments)


def test_a_map_that_works_in_place_is_stopped():
    def T(x):
        x *= 0.5
        return x

    with pytest.raises(ValueError, match="read-only"):
        iterate(T, np.ones(2))
    start = np.ones(2)
    iterate(lambda x: 0.5 * x, start)
    assert (start == 1).all()


def test_relaxation_may_change_from_step_to_step():
    seen = []

    def harmonic(k):
        seen.append(k)
        return 1 / (k + 1)

    fp = iterate(lambda x: x @ QUARTER_TURN, np.array([1.0, 0.0]), method="krasnoselskii_mann", relaxation=harmonic, max_iter=9)
    assert seen[:9] == list(range(1, 10)) and fp.n_iter == 9
    factors = [abs(1 + (1j - 1) / (k + 1)) for k in range(1, 10)]
    assert np.linalg.norm(fp.x) == pytest.approx(math.prod(factors))


def test_results_can_be_pickled():
    fp = pickle.loads(pickle.dumps(iterate(lambda x: 0.5 * x, np.ones((2, 1)))))
    assert type(fp).__module__ == "limitlib.iteration" and fp.converged.all()


# --- rates


def test_the_km_bound_holds_for_all_rotations_and_its_sloppy_twin_does_not():
    angles = np.geomspace(1e-3, math.pi, 20_001)
    for n, expected in ((10, 0.3744), (100, 0.1210), (1000, 0.0384)):
        worst = (2 * np.sin(angles / 2) * np.cos(angles / 2) ** n).max()
        assert worst == pytest.approx(2 * math.sqrt((n / (n + 1)) ** n / (n + 1)), rel=1e-6)
        assert worst == pytest.approx(expected, abs=5e-5)
        assert worst <= residual_bound("krasnoselskii_mann", n, diameter=2.0)
        assert worst <= residual_bound("krasnoselskii_mann", n, distance=1.0)
        assert worst > residual_bound("krasnoselskii_mann", n, diameter=1.0)  # distance in place of diameter


def test_iterate_respects_the_rates_it_names():
    slack = 1 + 1e-12  # the Halpern bound is attained, and residuals are rounded
    for angle in (0.3, 1.0, math.pi):
        for n in (1, 10, 100):
            x0, R = np.array([1.0, 0.0]), turn(angle)
            km = iterate(lambda x, R=R: R @ x, x0, method="krasnoselskii_mann", max_iter=n, rtol=0, atol=0)
            assert km.residual <= residual_bound("krasnoselskii_mann", km.n_iter, distance=1.0, diameter=2.0) * slack
            halpern = iterate(lambda x, R=R: R @ x, x0, method="halpern", max_iter=n, rtol=0, atol=0)
            assert halpern.residual <= residual_bound("halpern", halpern.n_iter, distance=1.0) * slack


def test_the_halpern_bound_is_attained_by_minus_the_identity():
    for n in (2, 10, 200):
        fp = iterate(lambda x: -x, np.ones(1), method="halpern", max_iter=n, rtol=0, atol=0)
        if fp.n_iter == n:
            assert fp.residual == pytest.approx(residual_bound("halpern", n, distance=1.0), rel=1e-12)


def test_halpern_on_a_linear_map_is_the_cesaro_mean():
    R, x0, n = turn(0.7), np.array([1.0, 2.0]), 12
    fp = iterate(lambda x: R @ x, x0, method="halpern", max_iter=n, rtol=0, atol=0)
    orbit = [np.linalg.matrix_power(R, k) @ x0 for k in range(n + 1)]
    np.testing.assert_allclose(fp.x, np.mean(orbit, axis=0), atol=1e-14)


@pytest.mark.parametrize("a", [0.5, 0.2])
def test_the_shift_of_l1_shows_the_affine_optimal_constant(a):
    # x_n is binomial, so the residual is twice the largest binomial probability; E6.2
    from scipy.stats import binom

    n = 10_000
    residual = 2 * binom.pmf(np.arange(n + 1), n, a).max()
    bound = residual_bound("krasnoselskii_mann", n, diameter=2.0, relaxation=a)
    assert residual == pytest.approx(bound / math.sqrt(2), rel=1e-4)
    if a == 0.5:
        assert residual == pytest.approx(0.0159573, abs=1e-7)


def test_rates_accept_sequences_and_start_from_the_trivial_bound():
    constant = residual_bound("krasnoselskii_mann", 50, diameter=3.0, relaxation=0.3)
    assert residual_bound("krasnoselskii_mann", 50, diameter=3.0, relaxation=[0.3] * 50) == pytest.approx(constant, rel=1e-14)
    assert residual_bound("krasnoselskii_mann", 0, diameter=3.0) == pytest.approx(3.0)
    assert residual_bound("krasnoselskii_mann", 0, distance=3.0) == pytest.approx(6.0)
    assert residual_bound("krasnoselskii_mann", 10, distance=1.0, relaxation=[0.0] * 10) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(method="krasnoselskii_mann", n=3), "needs diameter"),
        (dict(method="halpern", n=3, diameter=1.0), "needs distance"),
        (dict(method="halpern", n=3, distance=1.0, relaxation=0.5), "relaxation"),
        (dict(method="picard", n=3, diameter=1.0), "no universal rate"),
        (dict(method="anderson", n=3, diameter=1.0), "no universal rate"),
        (dict(method="newton", n=3), "method must be"),
        (dict(method="krasnoselskii_mann", n=-1, diameter=1.0), "n must be an integer >= 0"),
        (dict(method="krasnoselskii_mann", n=3, diameter=-1.0), "diameter must be"),
        (dict(method="krasnoselskii_mann", n=3, diameter=1.0, relaxation=[0.5]), "sequence of 3"),
        (dict(method="krasnoselskii_mann", n=3, diameter=1.0, relaxation=2.0), "relaxation must be"),
    ],
)
def test_rates_refuse_what_they_cannot_answer(arguments, word):
    with pytest.raises(ValueError, match=word):
        residual_bound(**arguments)


# --- inexact orbits


def test_translations_along_a_segment_attain_the_tail_bound():
    errors = (lambda i: i**-2.0, zeta(2, 4001))
    orbit = inexact_orbit(lambda i: lambda x: x + i**-2.0, np.zeros((2, 1)), n=[0, 10, 4000], errors=errors)
    limit = math.pi**2 / 6
    np.testing.assert_allclose(orbit.tail_bound, limit - orbit.x[:, 0, 0], rtol=1e-10)
    assert orbit.x[2, 0, 0] == pytest.approx(1.64468, abs=5e-6)
    assert (orbit.tail_bound >= (limit - orbit.x[:, 0, 0]) * (1 - 1e-12)).all()


def test_tail_bound_of_e22_holds_for_discontinuous_blocks():
    rng = np.random.default_rng(5)
    R, N = turn(1.0), 3000

    def T(x):
        return np.concatenate([x[:, :1], 0.5 * (x[:, 1:] + x[:, 1:] @ R.T)], axis=1)

    def block(i):
        def T_i(x):
            jump = np.sign(np.sin(1e3 * x)) * i**-1.5 / math.sqrt(3)
            return T(x) + jump

        return T_i

    x0, depths = rng.standard_normal((50, 3)), [0, 10, 100, 1000, N]
    orbit = inexact_orbit(block, x0, n=depths, reference=T, errors=(lambda i: i**-1.5, zeta(1.5, N + 1)))
    np.testing.assert_allclose(orbit.tail_bound[:4], [2.612, 0.617, 0.1995, 0.0632], atol=6e-4)
    limit = orbit.x[-1] * [1, 0, 0]  # T^inf keeps the first coordinate
    for bound, x in zip(orbit.tail_bound[:4], orbit.x[:4], strict=True):
        distance = np.linalg.norm(limit - x * [1, 0, 0], axis=1)
        assert (distance <= bound + orbit.tail_bound[-1] + np.linalg.norm(orbit.x[-1] - limit, axis=1)).all()


def test_reference_refutes_errors_that_are_too_small():
    blocks = [lambda x: x + 0.25, lambda x: x + 0.5]
    good = inexact_orbit(blocks, np.zeros(1), reference=lambda x: x, errors=([0.25, 0.5], 0.0))
    assert good.tail_bound == 0.0 and good.steps == 2
    with pytest.raises(ValueError, match=r"block 2 was seen 0.5 away from reference, more than eps_2=0.4"):
        inexact_orbit(blocks, np.zeros(1), reference=lambda x: x, errors=([0.25, 0.4], 0.0))


def test_convergence_is_observed_over_the_second_half():
    def run(block, n=4000):
        return bool(inexact_orbit(block, np.array([1.0, 0.0]), n=n).converged)

    assert run(lambda i: lambda x: 0.9 * x)
    assert not run(lambda i: lambda x: QUARTER_TURN @ x)
    assert not run(lambda i: lambda x: QUARTER_TURN @ x, n=4004)  # period 4 returns to the midpoint, and does not fool it
    assert not run(lambda i: lambda x: x + 1 / i)  # the harmonic series
    assert not run(lambda i: lambda x: x * np.nan)


def test_blocks_may_be_a_sequence_a_function_or_an_iterator():
    blocks = [lambda x: x + 1, lambda x: 2 * x, lambda x: x - 3]
    for given_blocks in (blocks, tuple(blocks), iter(blocks), lambda i: blocks[i - 1]):
        orbit = inexact_orbit(given_blocks, np.array([1.0]), n=[0, 1, 2, 3])
        assert orbit.x.ravel().tolist() == [1, 2, 4, 1] and orbit.tail_bound is None
    assert inexact_orbit(blocks, np.array([1.0])).x.tolist() == [1.0]
    assert inexact_orbit(lambda i: None, np.array([1.0]), n=0).x.tolist() == [1.0]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(blocks=iter([])), "n is needed"),
        (dict(blocks=[], n=1), "n asks for 1 blocks; blocks has 0"),
        (dict(blocks=iter([]), n=1), "blocks ended after 0"),
        (dict(blocks=[abs], n=[1, 1]), "increasing"),
        (dict(blocks=[abs], n=1.0), "n must be an integer"),
        (dict(blocks=[abs], reference=abs), "give errors"),
        (dict(blocks=[abs], errors=[1.0]), r"errors must be a pair \(eps, tail\)"),
        (dict(blocks=[abs], errors=([], 0.0)), "at least n=1"),
        (dict(blocks=[abs], errors=([-1.0], 0.0)), "numbers >= 0"),
        (dict(blocks=[abs], errors=([1.0], math.nan)), "tail must be a number >= 0"),
        (dict(blocks=[lambda x: x[:1]]), r"T_1 must keep the shape \(2,\)"),
    ],
)
def test_orbits_refuse_bad_arguments(arguments, word):
    with pytest.raises(ValueError, match=word):
        inexact_orbit(x0=np.zeros(2), **arguments)


# --- accumulated errors


@cases(30)
@given(st.integers(0, 2**32 - 1))
def test_perturbed_error_bounds_perturbed_orbits(seed):
    rng = np.random.default_rng(seed)
    n, d = 20, 3
    A = rng.standard_normal((n, d, d)) * rng.uniform(0.1, 0.9)
    kicks = rng.standard_normal((n, d)) * rng.uniform(0, 1, (n, 1))
    x = rng.standard_normal(d)
    y = x + 0.1
    bounds = perturbed_error(np.linalg.norm(A, 2, axis=(1, 2)), np.linalg.norm(kicks, axis=1), np.linalg.norm(y - x))
    for i in range(n):
        x, y = A[i] @ x, A[i] @ y + kicks[i]
        assert np.linalg.norm(y - x) <= bounds[i] * (1 + 1e-12)


def test_perturbed_error_closed_forms():
    np.testing.assert_allclose(perturbed_error(0.5, [1.0] * 60)[-1], 2.0, rtol=1e-14)
    assert perturbed_error(1.0, 1 / np.arange(1, 101))[-1] == pytest.approx((1 / np.arange(1, 101)).sum())
    assert perturbed_error([0.5, 0.0], 0.0, 4.0).tolist() == pytest.approx([2.0, 0.0])
    for arguments, word in (((-1.0, 0.0), "factors"), ((1.0, math.nan), "errors"), ((1.0, 1.0, -1.0), "e0")):
        with pytest.raises(ValueError, match=word):
            perturbed_error(*arguments)


# --- radius


@cases(40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3000), st.sampled_from([1e-200, 1.0, 1e200]))
def test_the_radius_of_a_matrix_lies_in_its_bracket(seed, d, n, scale):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-2, 2, d)
    S = rng.integers(-3, 4, (d, d)).astype(float)
    if abs(np.linalg.det(S)) < 0.5:  # integer entries: singular or at least 1
        S = np.eye(d)
    A = S @ np.diag(values) @ np.linalg.inv(S) * scale
    b = asymptotic_lipschitz_radius(A, n=n)
    truth = np.abs(values).max() * scale
    assert b.lower <= truth * (1 + 1e-10) and truth * (1 - 1e-10) <= b.upper
    assert b.ratio <= 1 + 1e-7


@cases(40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 2000))
def test_powers_alone_bracket_the_radius_and_tighten(seed, d, n):
    rng = np.random.default_rng(seed)
    A = np.triu(rng.standard_normal((d, d)))  # the spectrum is the diagonal
    A /= np.abs(np.diag(A)).max()  # so that the comparison below does not underflow
    # Far from normal, squares cancel and their rounding, which the upper end pays for, hides the powers.
    A = np.diag(np.diag(A)) + np.triu(A, 1).clip(-1, 1)
    truth = np.abs(np.diag(A)).max()
    brackets = []
    for steps in (1, n):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(products, "_eigenbasis_bracket", lambda power: (0.0, math.inf))
            brackets.append(asymptotic_lipschitz_radius(A, n=steps))
    first, last = brackets
    assert first.lower <= last.lower <= truth <= last.upper <= first.upper
    assert last.upper <= np.linalg.norm(np.linalg.matrix_power(A, n), 2) ** (1 / n) * 1.02


def test_the_radius_is_exact_in_both_norms_of_e11():
    A = np.array([[0.9, 5.0], [0.0, 0.8]])
    S = np.array([[1.0, 2.0], [0.0, 0.5]])
    for B in (A, S @ A @ np.linalg.inv(S)):
        b = asymptotic_lipschitz_radius(B, n=1000)
        assert b.lower <= 0.9 <= b.upper and b.ratio < 1 + 1e-9
        assert np.linalg.norm(B, 2) > 5


def test_closed_form_radii():
    assert asymptotic_lipschitz_radius(np.zeros((3, 3)), n=5).upper == 0.0
    assert asymptotic_lipschitz_radius([[0.0, 1.0], [0.0, 0.0]], n=2).upper == 0.0  # nilpotent
    b = asymptotic_lipschitz_radius(turn(1.0), n=64)
    assert b.lower <= 1 <= b.upper and b.ratio < 1 + 1e-9
    # a defective matrix in a basis where no computed eigenbasis helps: the powers have to do it
    S = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 3.0]])
    J = S @ (np.eye(3) + np.eye(3, k=1)) @ np.linalg.inv(S)
    coarse, fine = asymptotic_lipschitz_radius(J, n=10), asymptotic_lipschitz_radius(J, n=1000)
    assert coarse.lower <= 1 <= coarse.upper and fine.lower <= 1 <= fine.upper
    assert fine.kind == "certified" and 1 + 1e-6 < fine.ratio <= coarse.ratio < 1.1


def test_the_radius_of_a_callable_is_an_estimate_and_says_so():
    rng = np.random.default_rng(6)
    A = np.array([[0.9, 5.0], [0.0, 0.8]])
    b = asymptotic_lipschitz_radius(lambda x: x @ A.T, Ball(np.zeros(2), 1.0), n=200, rng=rng)
    assert b.kind == "estimate" and b.lower == b.upper == pytest.approx(0.9, rel=0.03)
    assert "neither side" in b.source

    # C1.2: the cube is zero although every norm sees an expansion
    def cubed(z):
        x, y = z[:, :1], z[:, 1:]
        return np.hstack([2 * np.sign(y) * np.maximum(np.abs(y) - 1, 0), 2 * np.clip(x, -0.5, 0.5)])

    assert asymptotic_lipschitz_radius(cubed, Box([-3.0, -3.0], [3.0, 3.0]), n=5, rng=rng).upper == 0.0
    # why it is no bound: tanh(1.5 x) has radius 1.5, attained at 0 only, and sampling misses it
    assert asymptotic_lipschitz_radius(lambda x: np.tanh(1.5 * x), Ball([0.0], 1.0), n=30, rng=rng).upper < 1.4


@pytest.mark.parametrize(
    ("T", "more", "word"),
    [
        (np.zeros((2, 3)), {}, "square"),
        (np.array([[np.nan]]), {}, "finite"),
        (np.eye(2), dict(n=0), "n must be an integer >= 1"),
        (np.tanh, {}, "needs rng"),
        (np.tanh, dict(rng=np.random.default_rng(0)), "a domain that can be sampled"),
        (lambda x: x * np.nan, dict(rng=np.random.default_rng(0), domain=Ball([0.0], 1.0)), "not finite"),
    ],
)
def test_radius_refuses_bad_arguments(T, more, word):
    with pytest.raises(ValueError, match=word):
        asymptotic_lipschitz_radius(T, **({"n": 3} | more))


# --- infinite products


def test_scalar_products_contain_their_limits():
    i = np.arange(2.0, 1e5)
    p = infinite_product(1 - i**-2, tail=1 / i[-1])
    assert abs(p.value - 0.5) <= p.tail_bound <= 2e-5 and p.rank_one_defect is None
    i = np.arange(1.0, 1e5)
    p = infinite_product(1 + i**-2, tail=1 / i[-1])
    assert abs(p.value - math.sinh(math.pi) / math.pi) <= p.tail_bound <= 1e-4
    p = infinite_product(1 - 1 / np.arange(2, 10**4 + 1), tail=math.inf)
    assert p.value == pytest.approx(1e-4, rel=1e-10) and p.tail_bound == math.inf  # no limit is claimed
    assert infinite_product([1e-200] * 2 + [1e200] * 2, tail=0.0).value == pytest.approx(1.0)
    assert infinite_product([2.0, 0.0], tail=5.0).tail_bound == 0.0
    assert infinite_product([-2.0] * 3, tail=0.0).value == -8.0


@cases(20)
@given(st.integers(0, 2**32 - 1))
def test_matrix_products_contain_their_limits(seed):
    rng = np.random.default_rng(seed)
    E = rng.standard_normal((400, 3, 3))
    A = np.eye(3) + E / np.linalg.norm(E, 2, axis=(1, 2))[:, None, None] / np.arange(1, 401)[:, None, None] ** 2
    limit = infinite_product(A, tail=0.0)
    direct = np.eye(3)
    for factor in A:
        direct = factor @ direct
    np.testing.assert_allclose(limit.value, direct, rtol=0, atol=1e-12)
    for m in (1, 20, 200):
        part = infinite_product(A[:m], tail=zeta(2, m + 1) * (1 + 1e-12))
        assert np.linalg.norm(limit.value - part.value, 2) <= part.tail_bound + limit.tail_bound


def test_the_rank_one_defect_sees_what_survives():
    average = np.full((2, 2), 0.5)
    assert infinite_product([0.9 * average + 0.1 * np.eye(2)] * 50, tail=math.inf).rank_one_defect < 1e-12
    assert infinite_product([turn(0.1)] * 50, tail=math.inf).rank_one_defect == pytest.approx(1.0)
    tiny = infinite_product([1e-200 * np.diag([1.0, 0.5])] * 3, tail=0.0)  # far below the smallest number
    assert tiny.rank_one_defect == pytest.approx(0.125) and (tiny.value == 0).all()


@pytest.mark.parametrize("factors", [[], [[1.0, 2.0]], np.zeros((2, 2, 3)), [np.nan]])
def test_products_refuse_bad_stacks(factors):
    with pytest.raises(ValueError, match="factors must be"):
        infinite_product(factors, tail=0.0)
    with pytest.raises(ValueError, match="tail must be"):
        infinite_product([1.0], tail=-1.0)


def test_worst_rotations_are_the_worst():
    angles = np.linspace(0, np.pi, 200_001)
    for a in (0.1, 0.5, 0.8):
        for n in (0, 1, 2, 10, 100):
            worst = rotation_residual(n, relaxation=a)
            seen = abs(1 - np.exp(1j * angles)) * abs(1 - a + a * np.exp(1j * angles)) ** n
            assert seen.max() <= worst.residual * (1 + 1e-12)
            assert worst.residual == pytest.approx(seen.max(), rel=1e-7)
            z = np.exp(1j * worst.angle)
            assert abs(1 - z) * abs(1 - a + a * z) ** n == pytest.approx(float(worst.residual), rel=1e-12)
            assert worst.residual <= residual_bound("krasnoselskii_mann", n, distance=1.0, relaxation=a)
    for n in (10**9, 10**15):  # 1/(n+1) is near rounding: the limit law, whose relative error is about 1/(4n)
        assert rotation_residual(n).residual == pytest.approx(2 / math.sqrt(math.e * (n + 0.5)), rel=1e-12)
    assert rotation_residual([5, 50], relaxation=1.0).residual.tolist() == [2.0, 2.0]  # without averaging nothing falls


def test_halpern_witness_is_attained_by_the_iteration():
    for n in (1, 2, 5, 30):
        worst = rotation_residual(n, method="halpern")
        R = turn(float(worst.angle))
        fp = iterate(lambda x, R=R: x @ R.T, np.array([1.0, 0.0]), method="halpern", max_iter=n, rtol=0, atol=0)
        assert fp.residual == pytest.approx(float(worst.residual), rel=1e-12)
        assert fp.residual <= residual_bound("halpern", n, distance=1.0)


def test_shift_witness_is_the_shift():
    for a in (0.2, 0.5, 1.0, 0.0):
        x = np.zeros(60)
        x[0] = 1.0
        for n in range(50):
            assert shift_residual(n, relaxation=a) == pytest.approx(np.abs(x - np.roll(x, 1)).sum(), rel=1e-11)
            x = (1 - a) * x + a * np.roll(x, 1)  # 60 places: nothing comes round in 50 steps
    assert shift_residual(10_000) <= residual_bound("krasnoselskii_mann", 10_000, diameter=2.0)
    assert shift_residual(10_000) > residual_bound("krasnoselskii_mann", 10_000, diameter=1.0)  # a diameter, not a radius


def test_rates_fail_without_their_hypotheses():
    """Expanding R: the averaged residual grows, and Halpern's. Not averaged: it stays."""
    x0, run = np.array([1.0, 0.0]), dict(max_iter=2000, rtol=0, atol=0)
    grown = iterate(lambda x: 1.01 * x @ turn(0.1).T, x0, method="krasnoselskii_mann", **run)
    assert grown.residual > 1e3 * residual_bound("krasnoselskii_mann", 2000, distance=1.0)
    mixed = iterate(lambda x: 1.01 * x @ turn(0.1).T, x0, method="halpern", **run)
    assert mixed.residual > 1e3 * residual_bound("halpern", 2000, distance=1.0)
    stays = iterate(lambda x: x @ turn(0.1).T, x0, **run)
    assert stays.residual == pytest.approx(2 * math.sin(0.05), rel=1e-9)
    assert stays.residual > residual_bound("krasnoselskii_mann", 2000, distance=1.0)


def test_self_adjoint_bound_needs_self_adjointness():
    """T6.2: |T^n (I-T)| <= n^n/(n+1)^(n+1) for 0 <= T <= I; a nilpotent block about 1/2 breaks it."""
    n, d = 64, 128
    T = 0.5 * (np.eye(d) + np.eye(d, k=-1))
    size = lambda A: np.linalg.norm(np.linalg.matrix_power(A, n) @ (np.eye(d) - A), 2)  # noqa: E731
    bound = (n / (n + 1)) ** n / (n + 1)
    assert np.linalg.norm(T, 2) <= 1 and size(T) > 5 * bound
    assert size((T + T.T) / 2) <= bound


def test_nonlinear_critical_points():
    """T6.6: the exact orbits, and the sign of the coefficient."""
    x, y, grown = 0.5, 0.5, 0.1
    for _ in range(1000):
        x, y = x / math.sqrt(1 + 2 * x * x), y / (1 + y)
    assert x == pytest.approx(0.5 / math.sqrt(1 + 500), rel=1e-12) and y == pytest.approx(0.5 / 501, rel=1e-12)
    steps = 0
    while grown < 1:
        grown, steps = grown + grown**3, steps + 1
    assert 40 < steps < 60  # x - c x^p would take for ever


@pytest.mark.parametrize(("call", "message"), [
    (lambda: rotation_residual(-1), "whole numbers"),
    (lambda: rotation_residual(1.5), "whole numbers"),
    (lambda: rotation_residual(3, method="picard"), "method"),
    (lambda: rotation_residual(3, relaxation=1.5), "relaxation"),
    (lambda: shift_residual(math.nan), "whole numbers"),
    (lambda: shift_residual(3, relaxation=math.nan), "relaxation"),
])  # fmt: skip
def test_witnesses_reject(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("relaxation", ["0.5", [0.1, 0.2], None, 0.5 + 1j])
def test_witnesses_need_a_number(relaxation):
    with pytest.raises(TypeError, match=r"relaxation=.* must be a real number"):
        rotation_residual(3, relaxation=relaxation)
    with pytest.raises(TypeError, match=r"relaxation=.* must be a real number"):
        shift_residual(3, relaxation=relaxation)
