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


@pytest.mark.parametrize("seed", range(20))
def test_on_a_line_every_count_is_exact(seed):
    """Against the integer program, which does not know that the points lie on a line: a second, constant coordinate."""
    rng = np.random.default_rng([seed, 11])
    x = rng.normal(size=(int(rng.integers(1, 100)), 1))
    x = np.round(x, 1) if seed % 2 else x
    eps = float(rng.choice([0.1, 0.2, 0.35, 1.0]))
    plane = np.column_stack([x, np.ones(len(x))])
    line, other = covering_number(x, eps), covering_number(plane, eps)
    assert line.lower == line.upper == other.upper == len(line.centers)
    assert (np.abs(x[line.centers] - x.T).min(axis=0) <= eps).all()
    for strict in (True, False):
        assert packing_number(x, eps, strict=strict).lower == packing_number(plane, eps, strict=strict).upper
    ambient = covering_number(x, eps, centers="ambient")
    assert ambient.is_exact and ambient.lower == len(ambient.packing)  # on a line both sides of T5.1 meet
    assert covering_number(plane, eps, centers="ambient").contains(ambient.lower)


def test_a_line_of_many_points():
    x = np.random.default_rng(12).random((20_000, 1))
    found = entropy_profile(x, [1e-4, 1e-3, 1e-2, 0.1])
    assert found.ratio == 1 and found.upper[-1] == 5
    assert covering_number(x, 0.1, centers="ambient").upper == 5


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


UNITS = [-1074, -600, -565, -410, 0, 450, 600, 1020]  # powers of 2; at most others squares leave float64


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("metric", ["l1", "l2", "linf"])
@pytest.mark.parametrize("d", [1, 2, 10])
def test_the_unit_of_length_does_not_matter(d, metric, unit):
    """Lattices hold many distances that equal the radius, and whole numbers that survive every power of two."""
    x = np.random.default_rng([d, 31]).integers(-4, 5, (150, d)).astype(float)
    y = np.ldexp(x, unit)
    for eps in (1.0, 2.0, 5.0):
        e = math.ldexp(eps, unit)
        for n in (60, 150):
            for centers in ("set", "ambient"):
                one, other = (covering_number(*a, metric=metric, centers=centers) for a in ((x[:n], eps), (y[:n], e)))
                assert (one.lower, one.upper) == (other.lower, other.upper)
            for strict in (True, False):
                one, other = (packing_number(*a, metric=metric, strict=strict) for a in ((x[:n], eps), (y[:n], e)))
                assert (one.lower, one.upper) == (other.lower, other.upper)
    radii = np.array([1.0, 2.0, 4.0])
    one, other = entropy_profile(x, radii, metric=metric), entropy_profile(y, np.ldexp(radii, unit), metric=metric)
    assert one.lower.tolist() == other.lower.tolist() and one.upper.tolist() == other.upper.tolist()
    assert other.eps.tolist() == np.ldexp(radii, unit).tolist()


@pytest.mark.parametrize("d", [1, 2])
def test_tiny_and_huge_points_and_radii(d):
    x = np.array([[0.0] * d, [1.0] + [0.0] * (d - 1), [2.0] + [0.0] * (d - 1), [9.0] + [0.0] * (d - 1)])
    for unit in (1e-170, 1e-300, 1e160, 1e300):
        assert covering_number(x * unit, 1.5 * unit).upper == 2
        assert covering_number(x * unit, 1.5 * unit).lower == 2
        assert packing_number(x * unit, 1.5 * unit).lower == 3
    assert covering_number(x * 1e-170, 1e300).upper == 1 == packing_number(x * 1e-170, 1e300).upper
    assert covering_number(x * 1e300, 1e-300).lower == 4 == packing_number(x * 1e300, 1e-300).lower
    assert covering_number(x * 0, 1e-320).upper == 1 == covering_number(x, 1e308).upper


@pytest.mark.parametrize("count", [covering_number, packing_number, entropy_profile])
def test_what_is_not_real_is_refused(count):
    x = [[0.0, 1.0], [1.0, 0.0]]
    for bad in (np.array(x) + 1j, [["a", "b"]], None, [[None, 1.0]], np.array(x) > 0, [[10**400, 1]]):
        with pytest.raises(TypeError, match="X="):
            count(bad, 1.0)
    for bad in (None, "1", True, 1j):
        with pytest.raises(TypeError, match="eps="):
            count(x, bad)
    with pytest.raises((TypeError, ValueError), match="eps"):
        count(x, 10**400)
    for bad in ([], None, 2):
        with pytest.raises(TypeError, match="metric="):
            count(x, 1.0, metric=bad)


def test_words_and_flags_are_not_guessed():
    x = [[0.0, 1.0], [1.0, 0.0]]
    for call, said in (
        (lambda: packing_number(x, 1.0, strict="no"), "strict='no'"),
        (lambda: packing_number(x, 1.0, exact=None), "exact=None"),
        (lambda: covering_number(x, 1.0, exact=[]), "exact="),
        (lambda: covering_number(x, 1.0, centers=[]), "centers="),
    ):
        with pytest.raises(TypeError, match=said):
            call()
    assert covering_number(x, 1.0, exact=np.True_).is_exact


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covering_number([[1.0]], 0.0), "eps=0.0 must be positive"),
        (lambda: covering_number([[1.0]], math.nan), "eps=nan must be finite"),
        (lambda: covering_number([[1.0, 2.0], [3.0]], 1.0), "X must be an array, but its rows differ in length"),
        (lambda: entropy_profile([[1.0]], [1.0, math.nan]), "eps=nan must be finite"),
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
