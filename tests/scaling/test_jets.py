"""Jets: derivatives against hand formulas and differences, for every operation and for the surface of every form."""

import numpy as np
import pytest
from scaling_cases import CASES, columns

from limitlib.scaling import jets
from limitlib.scaling.jets import Jet

UNARY = {
    "exp": (jets.exp, np.exp, (-2, 2)),
    "log": (jets.log, np.log, (0.2, 3)),
    "inverse": (jets.inverse, lambda a: 1 / a, (0.3, 3)),
    "expm1": (jets.expm1, np.expm1, (-2, 2)),
    "logistic": (jets.logistic, lambda a: 1 / (1 + np.exp(-a)), (-4, 4)),
    "softplus": (jets.softplus, lambda a: np.log1p(np.exp(a)), (-4, 4)),
    "negative": (lambda a: -a, lambda a: -a, (-2, 2)),
    "plus a constant": (lambda a: 1.5 + a + 2.0, lambda a: a + 3.5, (-2, 2)),
    "minus": (lambda a: 3.0 - (a - 1.0), lambda a: 4.0 - a, (-2, 2)),
    "times a constant": (lambda a: 0.5 * a * 3.0, lambda a: 1.5 * a, (-2, 2)),
    "square": (lambda a: a * a, lambda a: a**2, (-2, 2)),
    "self over self plus one": (lambda a: a / (a + 1.0), lambda a: a / (a + 1), (0.2, 3)),
}


def complex_step(f, x):
    """f' of an analytic function, exact to rounding."""
    return f(x + 1e-30j).imag / 1e-30


@pytest.mark.parametrize("name", UNARY)
def test_first_derivative_by_complex_step_second_by_differences_of_it(name):
    jet, plain, (low, high) = UNARY[name]
    x = np.random.default_rng(0).uniform(low, high, (50, 1))
    got = jet(jets.variables(x)[0])
    assert np.broadcast_to(got.value, x.shape) == pytest.approx(plain(x), rel=1e-13, abs=1e-14)
    assert np.broadcast_to(got.gradient[..., 0], x.shape) == pytest.approx(complex_step(plain, x), rel=1e-12, abs=1e-14)
    h = 1e-5
    second = (complex_step(plain, x + h) - complex_step(plain, x - h)) / (2 * h)
    assert np.broadcast_to(got.hessian[..., 0, 0], x.shape) == pytest.approx(second, rel=1e-6, abs=1e-7)


def test_products_and_quotients_by_hand():
    x, y = np.random.default_rng(1).uniform(0.5, 2, (2, 20))
    a, b = jets.variables(np.stack([x, y], axis=1))
    product, ratio = a * b, a / b
    zero, one = np.zeros_like(x), np.ones_like(x)
    assert product.gradient[:, 0] == pytest.approx(np.stack([y, x], axis=1), rel=1e-14)
    assert product.hessian[:, 0] == pytest.approx(np.array([[zero, one], [one, zero]]).transpose(2, 0, 1), rel=1e-14)
    assert ratio.gradient[:, 0] == pytest.approx(np.stack([1 / y, -x / y**2], axis=1), rel=1e-13)
    bent = np.array([[zero, -1 / y**2], [-1 / y**2, 2 * x / y**3]])
    assert ratio.hessian[:, 0] == pytest.approx(bent.transpose(2, 0, 1), rel=1e-12)


def test_log_sum_exp_has_the_covariance_of_its_shares():
    theta = np.random.default_rng(2).normal(size=(30, 3))
    got = jets.log_sum_exp(jets.variables(theta))
    shares = np.exp(theta) / np.exp(theta).sum(axis=1, keepdims=True)
    covariance = shares[:, :, None] * np.eye(3) - shares[:, :, None] * shares[:, None, :]
    assert got.value[:, 0] == pytest.approx(np.log(np.exp(theta).sum(axis=1)), rel=1e-13)
    assert got.gradient[:, 0] == pytest.approx(shares, rel=1e-13)
    assert got.hessian[:, 0] == pytest.approx(covariance, rel=1e-11, abs=1e-14)


def test_log_sum_exp_without_overflow_with_constants_and_with_an_absent_term():
    a, b = jets.variables(np.array([[800.0, -900.0]]))
    far = jets.log_sum_exp([a, b])
    assert (far.value[0, 0], far.gradient[0, 0].tolist()) == (800.0, [1.0, 0.0])
    constant = jets.log_sum_exp([a, np.array([800.0, -5.0])])
    assert constant.value[0] == pytest.approx([800 + np.log(2), 800.0])
    assert constant.gradient[0, :, 0] == pytest.approx([0.5, 1.0])
    present, absent = jets.variables(np.array([[1.0, -np.inf]]))
    got = jets.log_sum_exp([present, absent])
    assert (got.value[0, 0], got.gradient[0, 0].tolist()) == (1.0, [1.0, 0.0]) and not got.hessian.any()


def test_extreme_arguments_neither_overflow_nor_lose_the_tail():
    a = jets.variables(np.array([[-745.0], [745.0]]))[0]
    assert jets.softplus(a).value[:, 0] == pytest.approx([np.exp(-745.0), 745.0])
    assert jets.logistic(a).value[:, 0].tolist() == [0.0, 1.0]


def test_without_derivatives_the_values_are_the_same():
    theta = np.random.default_rng(3).uniform(0.5, 1, (4, 3))

    def formula(p):
        return jets.log_sum_exp([p[0], jets.exp(p[1]) * p[2]]) / (p[0] + np.arange(5.0))

    with_them, without = formula(jets.variables(theta)), formula(jets.variables(theta, derivatives=False))
    assert np.array_equal(with_them.value, without.value)
    assert without.gradient.shape[-1] == 0 and with_them.hessian.shape == (4, 5, 3, 3)


def test_an_array_on_the_left_asks_the_jet():
    a = jets.variables(np.ones((2, 1)))[0]
    assert isinstance(np.arange(3.0) * a, Jet) and (np.arange(3.0) - a).value.shape == (2, 3)


@pytest.mark.parametrize("name", CASES)
def test_surface_of_every_form_against_differences(name):
    """Gradient and Hessian of each row's value, pulled out with unit weights, at points near the true parameters."""
    law, truth = CASES[name]
    rng = np.random.default_rng(4)
    table = law.table(columns(law, rng, 12))
    means = law.means(table)
    surface = law.surface(law.centred(table, means))
    theta = law.internal(truth, means) + 0.05 * rng.normal(size=(3, law.p))
    point, unit = surface.at(theta), np.eye(12)
    assert np.allclose(point.value, surface.value(theta), rtol=1e-14, atol=0)
    slope = np.stack([point.pull(np.tile(row, (3, 1))) for row in unit], axis=1)
    bent = np.stack([point.curve(np.zeros((3, 12)), np.tile(row, (3, 1))) for row in unit], axis=1)
    for k in range(law.p):
        h = 1e-5 * np.eye(law.p)[k]
        up, down = surface.at(theta + h), surface.at(theta - h)
        first = (up.value - down.value) / 2e-5
        assert slope[..., k] == pytest.approx(first, rel=1e-6, abs=1e-7 * np.abs(point.value).max())
        pulled = [(up.pull(np.tile(row, (3, 1))) - down.pull(np.tile(row, (3, 1)))) / 2e-5 for row in unit]
        assert bent[..., k, :] == pytest.approx(np.stack(pulled, axis=1), rel=1e-5, abs=1e-6 * np.abs(slope).max())
