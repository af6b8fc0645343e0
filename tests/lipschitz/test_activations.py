"""limitlib.lipschitz.slope_range and value_range: certified ranges of activation functions and their slopes on intervals."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch

from limitlib.lipschitz import slope_range, value_range
from limitlib.lipschitz.activations import ACTIVATIONS, PAD, activation

torch.set_num_threads(1)
F = torch.nn.functional
NAMES = sorted(set(ACTIVATIONS))
TORCH = {
    "abs": torch.abs, "celu": F.celu, "elu": F.elu, "gelu": F.gelu, "gelu_erf": F.gelu, "hardsigmoid": F.hardsigmoid,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "hardswish": F.hardswish, "hardtanh": F.hardtanh,
    "identity": lambda x: x, "leaky_relu": F.leaky_relu, "logsigmoid": F.logsigmoid, "mish": F.mish,
    "prelu": lambda x: F.leaky_relu(x, 0.25), "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "relu": F.relu,
    "relu6": F.relu6, "relu_squared": lambda x: F.relu(x) ** 2, "rrelu": lambda x: F.rrelu(x, training=False),
    "selu": F.selu, "sigmoid": torch.sigmoid, "silu": F.silu, "sin": torch.sin, "softplus": F.softplus,
    "softshrink": F.softshrink, "softsign": F.softsign, "tanh": torch.tanh, "tanhshrink": F.tanhshrink,
}  # fmt: skip


def exact(name):
    """The function in multiprecision arithmetic, where its slope is not piecewise linear."""
    root = mp.sqrt(2 / mp.pi)
    return {
        "gelu_erf": lambda x: x * (1 + mp.erf(x / mp.sqrt(2))) / 2,
        "gelu_tanh": lambda x: x * (1 + mp.tanh(root * (x + mp.mpf(0.044715) * x**3))) / 2,
        "silu": lambda x: x / (1 + mp.exp(-x)),
        "quick_gelu": lambda x: x / (1 + mp.exp(-mp.mpf(1.702) * x)),
        "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "logsigmoid": lambda x: -mp.log1p(mp.exp(-x)),
        "softplus": lambda x: mp.log1p(mp.exp(x)),
        "tanhshrink": lambda x: x - mp.tanh(x),
        "sin": mp.sin,
    }[name]


SMOOTH = ["gelu_erf", "gelu_tanh", "silu", "quick_gelu", "mish", "tanh", "sigmoid", "logsigmoid", "softplus", "tanhshrink"]
SMOOTH += ["sin"]


# --- the table against other implementations


def test_every_name_is_compared():
    assert set(TORCH) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_slopes_are_those_of_torch(name):
    x = torch.linspace(-9.7, 9.7, 1201, dtype=torch.float64, requires_grad=True)
    y = TORCH[name](x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    f = activation(name)
    np.testing.assert_allclose(f.value(x.detach().numpy()), y.detach().numpy(), atol=2e-9)  # torch's SELU constants, softplus
    smooth = np.ones(1201, dtype=bool)
    for place, _, _ in f.kinks:
        smooth &= np.abs(x.detach().numpy() - place) > 1e-9
    np.testing.assert_allclose(f.slope(x.detach().numpy())[smooth], slope.numpy()[smooth], atol=2e-9)


@pytest.mark.parametrize("name", SMOOTH)
def test_certified_ends_hold_in_multiprecision_arithmetic(name):
    rng, f = np.random.default_rng(0), exact(name)
    with mp.workdps(50):
        for _ in range(25):
            a, b = sorted(rng.standard_normal(2) * math.exp(rng.uniform(-3, 3)))
            low, high = slope_range(name, a, b)
            small, large = value_range(name, a, b)
            for x in (a, b, *rng.uniform(a, b, 2), *(t for t in activation(name).slope_turns if a < t < b)):
                point = mp.mpf(float(x))
                slope, noise = mp.diff(f, point), mp.mpf("1e-30")
                assert mp.mpf(float(low)) - noise <= slope <= mp.mpf(float(high)) + noise
                assert mp.mpf(float(small)) <= f(point) <= mp.mpf(float(large))


@pytest.mark.parametrize("name", SMOOTH)
def test_turns_are_where_the_slope_turns(name):
    """Between tabulated turns the second derivative keeps its sign on a fine grid; at them it vanishes."""
    f = activation(name)
    if name == "sin":
        return
    with mp.workdps(40):
        for turn in f.slope_turns:
            assert abs(mp.diff(exact(name), mp.mpf(turn), 2)) < 1e-14
        for turn in f.value_turns:
            assert abs(mp.diff(exact(name), mp.mpf(turn))) < 1e-14
    x = np.linspace(-30, 30, 600_001)
    for turns, values in ((f.slope_turns, f.slope(x)), (f.value_turns, f.value(x))):
        steps = np.diff(values)
        signs = np.sign(np.where(np.abs(steps) < 1e-13, 0, steps))
        changes = int((np.diff(signs[signs != 0]) != 0).sum())
        assert changes == len(turns)


# --- ranges on intervals


@pytest.mark.parametrize("name", NAMES)
def test_ranges_hold_on_thousands_of_random_intervals_and_are_reached(name):
    rng = np.random.default_rng(1)
    a = rng.standard_normal(2000) * np.exp(rng.uniform(-3, 2, 2000))
    b = a + np.exp(rng.uniform(-6, 2, 2000))
    inside = a + (b - a) * np.linspace(0, 1, 201)[:, None]
    f = activation(name)
    for ranges, values in ((slope_range(name, a, b), f.slope(inside)), (value_range(name, a, b), f.value(inside))):
        interior = values[1:-1]  # at a kink on an end only the inner slope counts
        assert (ranges[0] <= interior.min(axis=0)).all() and (interior.max(axis=0) <= ranges[1]).all()
    quotients = np.diff(f.value(inside), axis=0) / np.diff(inside, axis=0)
    low, high = slope_range(name, a, b)
    noise = 1e-15 * (1 + np.abs(f.value(inside)).max(axis=0)) / (b - a) * 1000
    assert (quotients >= low - noise).all() and (quotients <= high + noise).all()
    # tight: a grid of the interval comes near both ends, up to its own coarseness (second derivatives are at most about 2)
    wide = 4 * (b - a) / 200 + 1e-12
    if not f.kinks:
        assert (f.slope(inside).max(axis=0) >= high - wide).all() and (f.slope(inside).min(axis=0) <= low + wide).all()


def test_at_an_end_that_is_a_kink_only_the_inner_slope_counts():
    low, high = slope_range("relu", [0.0, -1.0, 0.0, -1.0], [1.0, 0.0, 0.0, 1.0])
    assert low.tolist() == [1.0, 0.0, 0.0, 0.0] and high.tolist() == [1.0, 0.0, 1.0, 1.0]
    assert [float(v) for v in slope_range("hardtanh", -1.0, 1.0)] == [1.0, 1.0]
    assert [float(v) for v in slope_range("leaky_relu", -2.0, -1.0, negative_slope=0.3)] == [0.3, 0.3]
    assert [float(v) for v in slope_range("hardswish", 3.0, 5.0)] == pytest.approx([1.0, 1.0], abs=2 * PAD)


def test_dead_units_are_exactly_flat():
    assert [float(v) for v in slope_range("relu", -3.0, -1e-300)] == [0.0, 0.0]
    assert [float(v) for v in value_range("relu", -3.0, -1.0)] == [0.0, 0.0]


def test_infinite_ends_are_limits():
    assert [float(v) for v in slope_range("tanh", -math.inf, math.inf)] == [0.0, 1.0]
    assert [float(v) for v in slope_range("relu_squared", -math.inf, math.inf)] == [0.0, math.inf]
    low, high = value_range("sigmoid", -math.inf, math.inf)
    assert low == pytest.approx(0.0, abs=2 * PAD) and high == pytest.approx(1.0, abs=2 * PAD)
    assert value_range("gelu", -math.inf, 0.0)[0] == pytest.approx(-0.16997120747, abs=1e-10)
    assert [float(v) for v in value_range("silu", 0.0, math.inf)][1] == math.inf
    assert [float(v) for v in value_range("sin", -math.inf, 0.0)] == [-1.0, 1.0]


@pytest.mark.parametrize("value", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_arguments_give_finite_certified_slopes(name, value):
    low, high = slope_range(name, -value, value)
    assert not math.isnan(low) and not math.isnan(high) and low <= high
    assert value_range(name, -value, value)[0] <= value_range(name, -value, value)[1]


def test_parameters_are_those_of_torch():
    assert slope_range("elu", -1.0, 1.0, alpha=2.0)[1] == pytest.approx(2.0)
    assert slope_range("celu", -1.0, 1.0, alpha=2.0)[1] == pytest.approx(1.0)
    assert slope_range("softplus", -1.0, 1.0, beta=3.0)[1] == pytest.approx(1 / (1 + math.exp(-3.0)))
    assert slope_range("gelu", -9.0, 9.0, approximate="tanh")[1] > slope_range("gelu", -9.0, 9.0)[1]
    assert slope_range("SiLU", 0.0, 1.0) == slope_range("swish", 0.0, 1.0)
    assert [float(v) for v in slope_range("leaky_relu", -1.0, 1.0, negative_slope=-2.0)] == [-2.0, 1.0]
    assert value_range("leaky_relu", -1.0, 1.0, negative_slope=-2.0)[0] == pytest.approx(0.0, abs=2 * PAD)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: slope_range("nope", 0, 1), ValueError, "known: abs, celu"),
        (lambda: slope_range(3, 0, 1), TypeError, "name must be a word"),
        (lambda: slope_range("relu", 1, 0), ValueError, "lo must not exceed hi"),
        (lambda: slope_range("relu", math.nan, 0), ValueError, "NaN"),
        (lambda: slope_range("relu", [0, 1], [0, 1, 2]), ValueError, "shapes"),
        (lambda: slope_range("relu", 0, 1, alpha=2), TypeError, "relu takes no parameters; got alpha"),
        (lambda: slope_range("gelu", 0, 1, approximate="x"), ValueError, "approximate"),
        (lambda: slope_range("elu", 0, 1, alpha=math.inf), ValueError, "alpha must be finite"),
        (lambda: slope_range("elu", 0, 1, alpha="a"), TypeError, "alpha must be one real number"),
        (lambda: slope_range("celu", 0, 1, alpha=-1), ValueError, "alpha > 0"),
        (lambda: slope_range("softplus", 0, 1, beta=0), ValueError, "beta > 0"),
        (lambda: slope_range("hardtanh", 0, 1, min_val=2, max_val=1), ValueError, "min_val < max_val"),
        (lambda: slope_range("softshrink", 0, 1, lambd=-1), ValueError, "lambd >= 0"),
    ],
)
def test_mistakes_are_named(call, error, word):
    with pytest.raises(error, match=word):
        call()
