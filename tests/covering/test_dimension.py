"""Intrinsic dimensions of known sets, curves and fractals among them: intervals that cover, and where they don't."""

import math

import numpy as np
import pytest

from limitlib.covering import intrinsic_dimension
from limitlib.covering.dimension import _nearest


def circle(n, rng):
    t = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(t), np.sin(t)])


def interval(n, rng):
    return rng.random((n, 1))


def sphere(n, rng, d=2):
    x = rng.normal(size=(n, d + 1))
    return x / np.linalg.norm(x, axis=1)[:, None]


def gaussian(n, rng):
    return rng.normal(size=(n, 5)) @ rng.normal(size=(5, 20))


def cantor(n, rng):
    return (2 * rng.integers(0, 2, (n, 30)) @ 3.0 ** -np.arange(1, 31))[:, None]


def sierpinski(n, rng):
    corners = np.array([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]])
    return np.einsum("nkc,k->nc", corners[rng.integers(0, 3, (n, 40))], 2.0 ** -np.arange(1, 41))


SETS = [(circle, 1), (interval, 1), (sphere, 2), (gaussian, 5), (cantor, math.log(2, 3)), (sierpinski, math.log2(3))]


@pytest.mark.parametrize(("draw", "d"), SETS)
def test_two_nn_covers(draw, d):
    """40 samples: an interval at 95 % misses 6 or more of them with a probability of 1.4 %; 80 % is all that is asserted."""
    found = [intrinsic_dimension(draw(500, np.random.default_rng([s, 20]))) for s in range(40)]
    assert sum(f.low <= d <= f.high for f in found) >= 32
    assert np.mean([f.value for f in found]) == pytest.approx(d, rel=0.06)
    assert all(f.low < f.value < f.high for f in found)


@pytest.mark.parametrize("method", ["mle", "correlation"])
@pytest.mark.parametrize(("draw", "d"), [(circle, 1), (interval, 1), (sphere, 2), (sierpinski, math.log2(3))])
def test_wider_neighbourhoods_cover_where_there_is_no_corner(method, draw, d):
    found = [intrinsic_dimension(draw(600, np.random.default_rng([s, 21])), method) for s in range(30)]
    assert sum(f.low <= d <= f.high for f in found) >= 24
    assert np.std([f.value for f in found]) < 0.05 * d


@pytest.mark.parametrize(("draw", "d"), [(circle, 1), (interval, 1), (cantor, math.log(2, 3)), (sierpinski, math.log2(3))])
def test_boxes_of_curves_and_fractals(draw, d):
    found = intrinsic_dimension(draw(4000, np.random.default_rng(22)), "box")
    assert found.low <= d <= found.high and found.value == pytest.approx(d, rel=0.1)


@pytest.mark.parametrize("method", ["two_nn", "mle", "correlation", "box"])
def test_units_copies_and_order_do_not_matter(method):
    x = sphere(800, np.random.default_rng(23))
    found = intrinsic_dimension(x, method)
    scaled = intrinsic_dimension(1e-20 * x[::-1], method)
    assert scaled.value == pytest.approx(found.value, rel=1e-9)
    assert intrinsic_dimension(np.repeat(x, 3, axis=0), method) == found


def test_more_confidence_is_a_wider_interval():
    x = sphere(500, np.random.default_rng(24))
    low, high = (intrinsic_dimension(x, confidence=c) for c in (0.5, 0.99))
    assert high.low < low.low < low.high < high.high


def test_in_ten_dimensions_a_thousand_points_are_few():
    """The hypothesis that the set looks alike at the scales seen, dropped: most points are near a face of the cube."""
    found = [intrinsic_dimension(np.random.default_rng([s, 25]).random((1000, 10))) for s in range(20)]
    assert np.mean([f.value for f in found]) < 9.2  # a standard error is 0.07
    assert sum(f.high < 10 for f in found) > 5  # 1 in 40 would be right


def test_neighbours_in_high_dimension_are_those_of_the_plain_table():
    rng = np.random.default_rng(26)
    for offset in (0.0, 1e4):
        x = rng.normal(size=(700, 40)) + offset
        far, who = _nearest(x, 5, 2.0)
        table = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
        np.fill_diagonal(table, np.inf)
        assert np.allclose(far, np.sort(table, axis=1)[:, :5], rtol=1e-9, atol=0)
        assert np.allclose(np.take_along_axis(table, who, axis=1), far, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: intrinsic_dimension(np.ones((100, 2))), "X holds 1 distinct points"),
        (lambda: intrinsic_dimension(np.full((100, 2), np.nan)), "NaN or an infinity"),
        (lambda: intrinsic_dimension(np.arange(100.0)), "as \\(points, coordinates\\)"),
        (lambda: intrinsic_dimension(np.arange(100.0)[:, None]), "lies on a lattice"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 2)), "hausdorff"), "method='hausdorff' is unknown"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 2)), confidence=1.0), "confidence=1.0"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 2)), metric="cosine"), "metric='cosine'"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 2)), "mle", neighbors=2), "neighbors=2"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 2)), "mle", neighbors=2.5), "neighbors=2.5 must be"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 2)), "mle", neighbors=99), "neighbors=99 must lie"),
        (lambda: intrinsic_dimension(np.random.default_rng(0).random((99, 9)), "box"), "more points"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize("method", ["two_nn", "mle", "correlation", "box"])
@pytest.mark.parametrize("unit", [-900, -600, 600, 1000])
def test_the_unit_of_length_does_not_matter(method, unit):
    x = np.round(circle(1500, np.random.default_rng(27)), 9)
    assert intrinsic_dimension(np.ldexp(x, unit), method) == intrinsic_dimension(x, method)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(X=np.exp(1j * np.arange(100.0))[:, None]), "X="),
        (dict(confidence=None), "confidence=None"),
        (dict(method=2), "method=2"),
        (dict(neighbors=True), "neighbors=True"),
    ],
)
def test_what_is_not_real_is_refused(change, said):
    with pytest.raises(TypeError, match=said):
        intrinsic_dimension(**{"X": np.random.default_rng(0).random((99, 2)), **change})


def disc(n, rng):
    return circle(n, rng) * np.sqrt(rng.random((n, 1)))


def cloud(n, rng):
    return rng.normal(size=(n, 2))


@pytest.mark.parametrize(
    ("method", "draw"), [("box", disc), ("box", cloud), ("mle", disc), ("mle", cloud), ("correlation", disc)]
)
def test_tails_and_boundaries_bias_the_estimates(method, draw):
    """The hypothesis of a set filled evenly up to its edge, dropped: a disc and a Gaussian cloud in the plane."""
    found = [intrinsic_dimension(draw(2000, np.random.default_rng([s, 28])), method) for s in range(20)]
    values = [f.value for f in found]
    assert abs(np.mean(values) - 2) > 3 * np.std(values) / math.sqrt(20)
    assert method != "box" or not any(f.low <= 2 <= f.high for f in found)
