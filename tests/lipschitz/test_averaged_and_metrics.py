"""limitlib.lipschitz: closed forms, then lower <= truth <= upper over random cases, then a control for every hypothesis."""

import math

import numpy as np
import pytest

from limitlib.lipschitz import (
    ConvexPotentialLayer,
    adapted_distance,
    adapted_factor,
    averaged_composition,
    dahlquist_constant,
    separated_set,
)

J = np.array([[0.0, -1.0], [1.0, 0.0]])


def folding(points):
    """The map of counterexample C1.2: its third power is 0, its derivative at (0, 2) has eigenvalues +-2."""
    x, y = points.T
    return np.column_stack([2 * np.sign(y) * np.maximum(np.abs(y) - 1, 0), 2 * np.clip(x, -0.5, 0.5)])


def circle(a, b):
    gap = np.abs(a - b) % 1
    return np.minimum(gap, 1 - gap)


# ------------------------------------------------------------------ Dahlquist constant


@pytest.mark.parametrize(
    ("A", "mu"),
    [(J, 0.0), (-2 * np.eye(3), -2.0), ([[1.0, 4.0], [0.0, 1.0]], 3.0), ([[-1.0, 0.0], [0.0, -5.0]], -1.0)],
)
def test_dahlquist_closed_forms(A, mu):
    assert dahlquist_constant(A) == pytest.approx(mu, abs=1e-14)


def test_dahlquist_is_the_limit_of_the_quotient_from_above():
    rng = np.random.default_rng(1)
    for _ in range(20):
        A = rng.standard_normal((5, 5))
        mu = dahlquist_constant(A)
        quotient = [(np.linalg.norm(np.eye(5) + h * A, 2) - 1) / h for h in (1, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)]
        assert np.all(np.diff(quotient) < 1e-9)
        assert mu - 1e-9 <= quotient[-1] <= mu + 1e-4
        assert abs(mu) <= np.linalg.norm(A, 2)


def test_dahlquist_bounds_the_flow_and_the_spectral_abscissa_does_not():
    A = np.array([[-1.0, 10.0], [0.0, -1.0]])
    flow = [np.exp(-t) * np.linalg.norm([[1.0, 10 * t], [0.0, 1.0]], 2) for t in np.linspace(0.01, 3, 50)]
    bound = [math.exp(t * dahlquist_constant(A)) for t in np.linspace(0.01, 3, 50)]
    assert np.all(np.array(flow) <= bound)
    abscissa = [math.exp(-t) for t in np.linspace(0.01, 3, 50)]
    assert np.any(np.array(flow) > abscissa)


def test_dahlquist_is_translation_covariant_and_subadditive():
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((2, 6, 6))
    assert dahlquist_constant(A + 3 * np.eye(6)) == pytest.approx(dahlquist_constant(A) + 3, abs=1e-12)
    assert dahlquist_constant(A + B) <= dahlquist_constant(A) + dahlquist_constant(B) + 1e-12


@pytest.mark.parametrize("A", [np.zeros((2, 3)), np.zeros(4), np.zeros((0, 0)), [[np.nan]], [[np.inf]]])
def test_dahlquist_refuses(A):
    with pytest.raises(ValueError, match="A "):
        dahlquist_constant(A)


# ------------------------------------------------------------------ averaged maps


def smallest_averagedness(z):
    """Of multiplication by the complex number z, from |1 - z|^2 <= 2 a Re(1 - z)."""
    return np.abs(1 - z) ** 2 / (2 * np.real(1 - z))


def test_averaged_composition_bounds_rotations_and_is_approached():
    rng = np.random.default_rng(3)
    for first, second in [(0.3, 0.6), (0.5, 0.5), (0.05, 0.9), *rng.uniform(0.05, 0.95, (10, 2))]:
        theta, eta = rng.uniform(-np.pi, np.pi, (2, 20_000))
        z = (1 - first + first * np.exp(1j * theta)) * (1 - second + second * np.exp(1j * eta))
        bound = averaged_composition(first, second)
        assert smallest_averagedness(z).max() <= bound + 1e-9
        worst = 1e-3 * np.linalg.solve([[first, first * second], [first * second, second]], [first, second])
        z = np.prod([1 - a + a * np.exp(1j * w) for a, w in zip((first, second), worst, strict=True)])
        assert smallest_averagedness(z) == pytest.approx(bound, abs=1e-5)
        assert bound > max(first, second)


def test_averaged_composition_known_value_and_symmetry():
    assert averaged_composition(0.5, 0.5) == pytest.approx(2 / 3, abs=1e-15)
    assert averaged_composition(0.2, 0.7) == averaged_composition(0.7, 0.2)


@pytest.mark.parametrize(("first", "second", "name"), [(0, 0.5, "first"), (0.5, 1.0, "second"), (math.nan, 0.5, "first")])
def test_averaged_composition_refuses(first, second, name):
    with pytest.raises(ValueError, match=name):
        averaged_composition(first, second)


# ------------------------------------------------------------------ convex potential layer


def random_layer(rng, gain, sigma=None):
    W = rng.standard_normal((6, 6))
    extra = {} if sigma is None else {"sigma": sigma}
    return ConvexPotentialLayer(W, rng.standard_normal(6), gain / np.linalg.norm(W, 2) ** 2, **extra)


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.9, 2.0, 2.2, 3.0])
def test_layer_bound_holds_and_is_attained(gain):
    rng = np.random.default_rng(int(10 * gain))
    for sigma in (None, np.tanh):
        layer = random_layer(rng, gain, sigma)
        assert layer.gain == pytest.approx(gain, rel=1e-12)
        x, y = rng.standard_normal((2, 5000, 6))
        ratios = np.linalg.norm(layer(x) - layer(y), axis=1) / np.linalg.norm(x - y, axis=1)
        assert ratios.max() <= layer.upper + 1e-12
    layer = random_layer(rng, gain)
    top = np.linalg.svd(layer.weight)[2][0] * 0.1
    sides = [np.linalg.solve(layer.weight, level - layer.bias) for level in (50.0, -50.0)]
    attained = max(np.linalg.norm(layer(p + top) - layer(p)) / np.linalg.norm(top) for p in sides)
    assert attained == pytest.approx(layer.upper, abs=1e-10)


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.9])
def test_layer_is_averaged_with_half_its_gain_and_not_with_less(gain):
    rng = np.random.default_rng(5)
    layer = random_layer(rng, gain)
    x = rng.standard_normal((2000, 6))
    x[0] = np.linalg.solve(layer.weight, 50.0 - layer.bias)
    y = rng.standard_normal((2000, 6))
    y[0] = x[0] + 0.1 * np.linalg.svd(layer.weight)[2][0]

    def defect(alpha):
        step, image = x - y, layer(x) - layer(y)
        total = (image**2).sum(1) + (1 - alpha) / alpha * ((step - image) ** 2).sum(1)
        return float(np.max(total / (step**2).sum(1) - 1))

    assert layer.averagedness == pytest.approx(gain / 2)
    assert defect(layer.averagedness) <= 1e-10
    assert defect(0.9 * layer.averagedness) > 0.05


def test_layer_beyond_gain_two_is_not_averaged_and_shapes_pass_through():
    layer = random_layer(np.random.default_rng(0), 2.5)
    assert layer.averagedness is None
    assert layer(np.zeros(6)).shape == (6,)
    assert layer(np.zeros((3, 4, 6))).shape == (3, 4, 6)


def test_a_decreasing_nonlinearity_breaks_the_bound():
    layer = random_layer(np.random.default_rng(0), 1.0, sigma=np.negative)
    x = np.linalg.svd(layer.weight)[2][0]
    assert np.linalg.norm(layer(x) - layer(0 * x)) > 1.9 * layer.upper


@pytest.mark.parametrize(("W", "b", "h"), [(np.eye(2), np.zeros(3), 1.0), (np.zeros(2), np.zeros(2), 1.0)])
def test_layer_refuses_shapes(W, b, h):
    with pytest.raises(ValueError, match="weight"):
        ConvexPotentialLayer(W, b, h)


def test_layer_refuses_nan_and_takes_lists():
    with pytest.raises(ValueError, match="bias"):
        ConvexPotentialLayer(np.eye(1), np.array([math.nan]), 1.0)
    assert ConvexPotentialLayer([[2.0]], [0.0], 0.25).gain == 1.0


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_layer_refuses_steps(step):
    with pytest.raises(ValueError, match="step"):
        ConvexPotentialLayer(np.eye(2), np.zeros(2), step)


# ------------------------------------------------------------------ adapted distance


def test_adapted_distance_contracts_the_folding_map_with_the_factor_of_the_theorem():
    rng = np.random.default_rng(7)
    x, y = rng.uniform(-5, 5, (2, 5000, 2))
    low, high = rng.uniform(1, 1.25, (2, 100))
    for rate in (0.05, 0.1, 0.5, 2.0):
        d = adapted_distance(folding, rate, terms=3)
        bound = adapted_factor(rate, [1, 2, 4])
        assert np.max(d(folding(x), folding(y)) / d(x, y)) <= bound + 1e-12
        zero = np.zeros(100)
        steep = np.column_stack([zero, low]), np.column_stack([zero, high])
        assert np.max(d(folding(steep[0]), folding(steep[1])) / d(*steep)) == pytest.approx(bound, abs=1e-9)


def test_adapted_distance_of_a_linear_map_is_below_the_rate():
    A = np.array([[0.9, 5.0], [0.0, 0.8]])
    turn = np.linspace(0, np.pi, 200)
    x = np.column_stack([np.cos(turn), np.sin(turn)])
    d = adapted_distance(lambda z: z @ A.T, 0.95, terms=800)
    assert np.max(d(x @ A.T, 0 * x) / d(x, 0 * x)) < 0.95
    assert np.all(np.linalg.norm(x, axis=1) <= d(x, 0 * x) + 1e-12)


def test_a_rate_below_the_radius_does_not_contract():
    A = np.diag([0.9, 0.5])
    x = np.array([[1.0, 0.0]])
    d = adapted_distance(lambda z: z @ A.T, 0.8, terms=200)
    assert d(x @ A.T, 0 * x)[0] / d(x, 0 * x)[0] == pytest.approx(0.9)


def test_adapted_refuses():
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="rate"):
            adapted_distance(folding, rate, terms=3)
        with pytest.raises(ValueError, match="rate"):
            adapted_factor(rate, [1, 2])
    with pytest.raises(ValueError, match="terms"):
        adapted_distance(folding, 0.1, terms=0)
    for powers in ([], [2.0, 1.0], [1.0, -1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="powers"):
            adapted_factor(0.5, powers)


# ------------------------------------------------------------------ separated sets


def test_separated_counts_of_the_doubling_map_are_the_closed_form():
    size = 8_009  # prime, fine enough for the exact count up to four steps
    points = np.arange(size)
    orbits = np.array([points * 2**k % size / size for k in range(4)])
    counts = [len(separated_set(orbits[:n], 0.1, circle)) for n in range(1, 5)]
    assert counts == [9, 19, 39, 79]


def test_separated_counts_of_an_isometry_do_not_grow():
    points = np.arange(2_003) / 2_003
    orbits = np.array([(points + k * math.sqrt(2)) % 1 for k in range(8)])
    assert {len(separated_set(orbits[:n], 0.1, circle)) for n in range(1, 9)} == {9}


def test_separated_set_is_separated_and_spans():
    rng = np.random.default_rng(4)
    orbits = rng.uniform(0, 1, (3, 400))

    def line(a, b):
        return np.abs(a - b)

    chosen = separated_set(orbits, 0.3, line)
    apart = np.abs(orbits[:, chosen][:, :, None] - orbits[:, chosen][:, None]).max(0)
    assert np.all(apart[~np.eye(len(chosen), dtype=bool)] > 0.3)
    assert np.all(np.abs(orbits[:, :, None] - orbits[:, chosen][:, None]).max(0).min(1) <= 0.3)


def test_separated_set_refuses():
    with pytest.raises(ValueError, match="eps"):
        separated_set(np.zeros((1, 3)), 0.0, circle)
