"""Covering and packing numbers: exact against exhaustive search, brackets around the exact value."""

import itertools
import math

import numpy as np
import pytest

from limitlib.covering import brackets, covering_number, entropy_profile, greedy_order, packing_number
from limitlib.covering.greedy import METRICS, distances


def table(x, metric):
    return np.array([distances(x, c, METRICS[metric]) for c in x])


def exhaustive(D, eps):
    n = len(D)
    subsets = [list(c) for k in range(1, n + 1) for c in itertools.combinations(range(n), k)]
    covering = next(len(c) for c in subsets if (D[c].min(axis=0) <= eps).all())
    packing = max(len(c) for c in subsets if all(D[a, b] > eps for a, b in itertools.combinations(c, 2)))
    separated = max(len(c) for c in subsets if all(D[a, b] >= eps for a, b in itertools.combinations(c, 2)))
    return covering, packing, separated


@pytest.mark.parametrize("seed", range(20))
def test_exact_against_exhaustive_search(seed):
    rng = np.random.default_rng([seed, 8])
    x = rng.normal(size=(int(rng.integers(1, 10)), int(rng.integers(1, 4))))
    if seed % 3 == 0:
        x = np.round(x)  # ties and copies
    metric, eps = ["l1", "l2", "linf"][seed % 3], float(rng.choice([0.3, 0.7, 1.0, 2.0]))
    covering, packing, separated = exhaustive(table(x, metric), eps)
    found = covering_number(x, eps, metric=metric)
    assert found.lower == found.upper == covering
    assert (table(x, metric)[found.centers].min(axis=0) <= eps).all()
    assert covering_number(x, eps, metric=metric, exact=False).contains(covering)
    assert packing_number(x, eps, metric=metric).lower == packing == packing_number(x, eps, metric=metric).upper
    assert packing_number(x, eps, metric=metric, exact=False).contains(packing)
    assert packing_number(x, eps, metric=metric, strict=False).lower == separated
    ambient = covering_number(x, eps, metric=metric, centers="ambient")
    assert ambient.lower <= covering  # its truth is at most that of centres in the set


@pytest.mark.parametrize("d", [2, 5, 30])
@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_brackets_hold_the_exact_count_of_128_points(d, share):
    x = np.random.default_rng([d, 9]).normal(size=(128, d))
    eps = share * float(np.median(table(x, "l2")))
    exact = covering_number(x, eps)
    assert exact.is_exact
    assert covering_number(x, eps, exact=False).contains(exact.upper)
    packing = packing_number(x, eps)
    assert packing.is_exact and packing_number(x, eps, exact=False).contains(packing.lower)
    # P(2 eps) <= N(eps) <= P(eps): T5.1
    assert packing_number(x, 2 * eps).lower <= exact.lower and exact.upper <= packing.lower


def cloud(kind, n, d, rng):
    x = rng.normal(size=(n, d))
    if kind == "lattice":
        return np.round(2 * x)  # many distances equal the radius
    if kind == "copies":
        x[n // 2 :] = x[: n - n // 2]
    return x


@pytest.mark.parametrize("kind", ["general", "lattice", "copies"])
@pytest.mark.parametrize("metric", ["l1", "l2", "linf"])
@pytest.mark.parametrize("d", [1, 3, 10])
def test_large_sets_are_bracketed_by_witnesses(kind, metric, d):
    """The centres cover, the packing is separated, and no ball about a point of the set holds two packed points."""
    rng = np.random.default_rng([d, len(metric), len(kind)])
    x = cloud(kind, 700, d, rng)
    distance = table(x, metric)
    for eps in (1.0, float(np.quantile(distance, 0.3)), float(distance.max()) / 2):
        found = covering_number(x, eps, metric=metric)
        assert (distance[found.centers].min(axis=0) <= eps).all() and len(found.centers) == found.upper
        packed = distance[np.ix_(found.packing, found.packing)][~np.eye(len(found.packing), dtype=bool)]
        assert (packed > 2 * eps).all() and len(found.packing) <= found.lower <= found.upper


@pytest.mark.parametrize("seed", range(12))
def test_the_searches_for_large_sets_hold_the_exact_count(seed):
    """The parts of a bracket, each against the integer program, on sets small enough for one."""
    rng = np.random.default_rng([seed, 77])
    x, p = cloud(["general", "lattice", "copies"][seed % 3], 120, int(rng.integers(1, 7)), rng), [1.0, 2.0, np.inf][seed % 3]
    metric = {1.0: "l1", 2.0: "l2", np.inf: "linf"}[p]
    eps = float(np.quantile(table(x, metric), rng.uniform(0.02, 0.6))) or 0.1
    exact, order = covering_number(x, eps, metric=metric), greedy_order(x, metric=metric)
    assert exact.is_exact
    assert brackets.fractional_packing(x, eps, p, order, enough=10**6) <= exact.lower
    cover = brackets.best_cover(x, eps, p, order, enough=0)
    assert len(cover) >= exact.upper and (table(x, metric)[cover].min(axis=0) <= eps).all()
    assert len(cover) <= 1.2 * exact.upper + 1


def test_ambient_centres_save_balls():
    """Four corners of a square lie in one ball about its centre, which is not one of them."""
    x = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
    assert covering_number(x, 1.5).upper == 4
    assert covering_number(x, 1.5, centers="ambient").lower == 1


def test_a_profile_falls_and_holds_the_single_counts():
    x = np.random.default_rng(3).normal(size=(500, 3))
    eps = np.geomspace(0.2, 4, 8)
    profile = entropy_profile(x, eps)
    assert (np.diff(profile.lower) <= 0).all() and (np.diff(profile.upper) <= 0).all()
    assert (profile.lower <= profile.upper).all() and profile.ratio <= 2
    for e, low, high in zip(eps, profile.lower, profile.upper, strict=True):
        single = covering_number(x, e)
        assert low >= single.lower and high <= single.upper
    small = entropy_profile(x[:60], eps)
    assert (small.lower == small.upper).all()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_sample_of_the_ball_lies_between_the_volumes(d):
    rng = np.random.default_rng([d, 4])
    x = rng.normal(size=(4000, d))
    x *= rng.random((4000, 1)) ** (1 / d) / np.linalg.norm(x, axis=1)[:, None]
    found = covering_number(x, 0.5)
    assert found.lower <= (1 + 2 / 0.5) ** d and found.upper >= 0.5**-d


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covering_number([[1.0]], 0.0), "eps=0.0 must be a positive"),
        (lambda: covering_number([[1.0]], math.nan), "must be a positive"),
        (lambda: covering_number([], 1.0), "at least one point"),
        (lambda: covering_number([[math.inf]], 1.0), "NaN or an infinity"),
        (lambda: covering_number([[1.0]], 1.0, centers="moon"), "centers='moon' is unknown"),
        (lambda: covering_number([[1.0]], 1.0, exact="maybe"), "exact='maybe'"),
        (lambda: entropy_profile([[1.0]], []), "give a list of radii"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
