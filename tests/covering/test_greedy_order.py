"""The farthest-point order is that of the plain loop, bit for bit, with ties, copies and all scales."""

import math

import numpy as np
import pytest

from limitlib.covering import greedy_order
from limitlib.covering.greedy import METRICS, distances


def plain_loop(x, count, start, p):
    near, order, radii = distances(x, x[start], p), [start], [math.inf]
    taken = np.zeros(len(x), dtype=bool)
    taken[start] = True
    while len(order) < count:
        best = int(np.where(taken, -1.0, near).argmax())
        order.append(best)
        radii.append(near[best])
        taken[best] = True
        near = np.minimum(near, distances(x, x[best], p))
    return np.array(order), np.array(radii), near.max()


@pytest.mark.parametrize("kind", ["general", "lattice", "copies", "far from the origin"])
@pytest.mark.parametrize("d", [1, 2, 3, 8, 9, 40])
def test_it_is_the_plain_loop(kind, d):
    for seed in range(12):
        rng = np.random.default_rng([seed, d, 3])
        n = int(rng.integers(1, 300))
        x = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-30, 30)
        if kind == "lattice":
            x = np.round(x / np.abs(x).max() * 2)
        elif kind == "copies":
            x[n // 2 :] = x[: n - n // 2]
        elif kind == "far from the origin":
            x += 1e3 * np.abs(x).max()
        metric = ["l1", "l2", "linf"][seed % 3]
        start, k = int(rng.integers(n)), int(rng.integers(1, n + 1))
        found = greedy_order(x, k=k, start=start, metric=metric)
        order, radii, last = plain_loop(x, k, start, METRICS[metric])
        assert found.indices.tolist() == order.tolist()
        assert found.radii.tolist() == radii.tolist()
        assert found.cover.tolist() == [*radii[1:], last]


def test_prefixes_cover_and_are_separated():
    x = np.random.default_rng(1).normal(size=(200, 3))
    order = greedy_order(x)
    for k in (1, 2, 10, 60):
        to_all = np.array([distances(x, x[i], 2) for i in order.indices[:k]])
        assert to_all.min(axis=0).max() == order.cover[k - 1]
        between = to_all[:, order.indices[:k]][~np.eye(k, dtype=bool)]
        assert k == 1 or between.min() >= order.radii[k - 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(X=[]), "at least one point"),
        (dict(X=[[math.nan]]), "NaN or an infinity in row 0"),
        (dict(X=[[1.0]], k=2), "k=2 must lie between"),
        (dict(X=[[1.0]], k=0), "k=0 must be at least 1"),
        (dict(X=[[1.0], [2.0]], k=1.9), "k=1.9 must be a whole number"),
        (dict(X=[[1.0], [2.0]], start=0.5), "start=0.5 must be a whole number"),
        (dict(X=[[1.0]], start=-1), "start=-1 must be at least 0"),
        (dict(X=[[1.0]], start=1), "start=1 must be the index"),
        (dict(X=[[1.0]], metric="cosine"), "metric='cosine' is unknown"),
    ],
)
def test_bad_input(options, said):
    with pytest.raises(ValueError, match=said):
        greedy_order(**options)


@pytest.mark.parametrize("unit", [-1000, -600, -410, 450, 600, 1000])
@pytest.mark.parametrize("d", [1, 2, 9])
def test_radii_carry_the_unit_of_length_exactly(d, unit):
    x = np.round(np.random.default_rng([d, 32]).normal(size=(200, d)), 2)
    for metric in METRICS:
        one, other = greedy_order(x, metric=metric), greedy_order(np.ldexp(x, unit), metric=metric)
        assert one.indices.tolist() == other.indices.tolist()
        assert np.ldexp(one.radii, unit).tolist() == other.radii.tolist()
        assert np.ldexp(one.cover, unit).tolist() == other.cover.tolist()


@pytest.mark.filterwarnings("error")
def test_a_distance_above_the_largest_float_is_infinite():
    assert greedy_order([[-1.5e308, 0.0], [1.5e308, 0.0]]).radii.tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(X=[[1.0 + 2j]]), "X="),
        (dict(X=[["a"]]), "X="),
        (dict(X=[[1.0], [2.0]], k=True), "k=True"),
        (dict(X=[[1.0], [2.0]], start=True), "start=True"),
        (dict(X=[[1.0]], metric=[]), "metric="),
    ],
)
def test_what_is_not_real_is_refused(options, said):
    with pytest.raises(TypeError, match=said):
        greedy_order(**options)
