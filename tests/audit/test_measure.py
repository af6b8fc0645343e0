"""Measures of clouds of states: closed forms, and brackets against brute force."""

import itertools
import math

import numpy as np
import pytest

from limitlib.audit import (
    angular_cover,
    condensing_profile,
    effective_rank,
    entropy_numbers,
    farthest_point_radii,
    greedy_cover,
    mean_cosine,
    pair_ratios,
    relative_increment,
)


def smallest_radius(points, k):
    """e_k by trying every choice of k centers."""
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return min(gaps[list(c)].min(0).max() for c in itertools.combinations(range(len(points)), min(k, len(points))))


def smallest_cover(points, radius):
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) <= radius
    return next(k for k in range(1, len(points) + 1)
                if any(gaps[list(c)].any(0).all() for c in itertools.combinations(range(len(points)), k)))  # fmt: skip


@pytest.mark.parametrize("d", [1, 2, 5, 16])
def test_effective_rank_of_a_cross_polytope_is_its_dimension(d):
    cloud = np.vstack([np.eye(d), -np.eye(d)])
    assert effective_rank(cloud) == pytest.approx(d, rel=1e-12)
    for scale in (1e-30, 1e30, 1e150):
        assert effective_rank(scale * cloud) == pytest.approx(d, rel=1e-12)


def test_effective_rank_is_the_exponential_of_the_entropy_of_the_spectrum():
    variances = np.array([4.0, 2.0, 1.0, 1.0])
    cloud = np.vstack([np.diag(np.sqrt(variances)), -np.diag(np.sqrt(variances))])
    p = variances / variances.sum()
    assert effective_rank(cloud) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-12)
    assert effective_rank(cloud + 7.0) == pytest.approx(effective_rank(cloud), rel=1e-9)  # a shift changes nothing


def test_effective_rank_takes_the_smaller_gram_matrix_for_few_points():
    few = np.random.default_rng(0).standard_normal((5, 40))
    assert effective_rank(few) == pytest.approx(effective_rank(np.hstack([few, np.zeros((5, 1))])), rel=1e-10)
    assert effective_rank(few) <= 4 + 1e-9  # five points span four dimensions about their mean
    assert effective_rank(np.vstack([few] * 20)) == pytest.approx(effective_rank(few), rel=1e-9)


def test_mean_cosine_by_closed_form_and_by_pairs():
    assert mean_cosine(np.eye(3)) == 0.0
    assert mean_cosine(np.ones((5, 4))) == pytest.approx(1.0, abs=1e-15)
    assert mean_cosine(np.array([[1.0, 0.0], [-2.0, 0.0]])) == -1.0
    cloud = np.random.default_rng(1).standard_normal((30, 7))
    unit = cloud / np.linalg.norm(cloud, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i, j in itertools.combinations(range(30), 2)]
    assert mean_cosine(cloud) == pytest.approx(np.mean(pairs), abs=1e-14)


def test_greedy_covers_and_packings_enclose_the_covering_number():
    rng = np.random.default_rng(2)
    wide = 0
    for _ in range(60):
        cloud = rng.standard_normal((9, 2))
        radius = rng.uniform(0.2, 2.0)
        found, truth = greedy_cover(cloud, radius), smallest_cover(cloud, radius)
        assert found.lower <= truth <= found.upper
        gaps = np.linalg.norm(cloud[:, None] - cloud[found.centers][None], axis=-1)
        assert gaps.min(1).max() <= radius
        packed = cloud[found.packing]
        assert all(np.linalg.norm(a - b) > 2 * radius for a, b in itertools.combinations(packed, 2))
        wide += not found.is_exact
    assert wide  # a bracket, not a lucky identity


def test_chunks_and_products_change_no_decision(monkeypatch):
    """Against a loop over measured distances, with many gaps that equal the radius exactly."""
    import limitlib.audit.measure as measure

    def plain(cloud, gap):
        chosen, alive = [], np.ones(len(cloud), dtype=bool)
        while alive.any():
            chosen.append(int(np.argmax(alive)))
            alive &= np.linalg.norm(cloud - cloud[chosen[-1]], axis=1) > gap
        return chosen

    monkeypatch.setattr(measure, "CHUNK", 7)
    rng = np.random.default_rng(8)
    for radius in (1.0, 0.5, 2.0):
        grid = rng.integers(0, 4, (60, 3)).astype(float)
        assert greedy_cover(grid, radius).centers.tolist() == plain(grid, radius)
        cloud = 1e6 + rng.standard_normal((60, 3))
        assert greedy_cover(cloud, radius).packing.tolist() == plain(cloud, 2 * radius)


def test_an_angular_cover_sees_directions_only():
    rays = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    assert angular_cover(rays).upper == 3
    assert angular_cover(rays, 3.0).upper == 1  # the sphere's diameter is 2
    with pytest.raises(ValueError, match="zero vector"):
        angular_cover(np.zeros((2, 3)))


def test_farthest_point_radii_enclose_the_entropy_numbers():
    rng = np.random.default_rng(3)
    for _ in range(40):
        cloud = rng.standard_normal((8, 3)) * rng.uniform(0.1, 10)
        found = entropy_numbers(cloud, 8)
        truth = np.array([smallest_radius(cloud, k) for k in found.k])
        assert (found.lower <= truth).all() and (truth <= found.upper).all()
        nearest = np.sort(np.linalg.norm(cloud[:, None] - cloud + 1e9 * np.eye(8)[..., None], axis=-1).min(1))
        assert found.lower[2] >= nearest[4] * (1 - 1e-9)  # the fifth smallest: five of eight points are no centers
    line = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    assert farthest_point_radii(line, 9).tolist() == [4.0, 2.0, 1.0, 1.0, 0.0]


def test_the_condensing_profile_of_a_scaling_holds_its_factor():
    cloud = np.random.default_rng(4).standard_normal((50, 3))
    for factor in (0.1, 1.0, 3.0):
        profile = condensing_profile(cloud, factor * cloud, 20)
        assert (profile.lower <= factor).all() and (factor <= profile.upper).all()
    shrunk = condensing_profile(cloud, 0.2 * cloud, 20)
    assert (shrunk.upper < 1).all()  # condensing is proved
    grown = condensing_profile(cloud, 9 * cloud, 20)
    assert (grown.lower > 1).all()  # and so is its failure


def test_the_condensing_profile_encloses_the_truth_on_small_sets():
    rng = np.random.default_rng(5)
    for _ in range(30):
        before = rng.standard_normal((7, 2))
        after = before @ rng.standard_normal((2, 2))
        profile = condensing_profile(before, after, 6)
        truth = [smallest_radius(after, k) / smallest_radius(before, k) for k in profile.k]
        assert (profile.lower <= truth).all() and (truth <= profile.upper).all()


def test_the_condensing_profile_stops_where_the_points_run_out():
    twice = np.repeat(np.array([[0.0], [1.0]]), 3, axis=0)
    assert len(condensing_profile(twice, twice, 6).lower) == 1  # two balls of radius zero cover two places


def test_pair_ratios_of_a_linear_map_lie_between_its_singular_values():
    rng = np.random.default_rng(6)
    A, x = rng.standard_normal((4, 4)), rng.standard_normal((20, 4))
    ratios, s = pair_ratios(x, x @ A.T), np.linalg.svd(A, compute_uv=False)
    assert len(ratios) == 190 and s[-1] * (1 - 1e-12) <= ratios.min() and ratios.max() <= s[0] * (1 + 1e-12)
    assert pair_ratios(x.reshape(20, 2, 2), (3 * x).reshape(20, 2, 2)) == pytest.approx(np.full(190, 3.0))
    assert len(pair_ratios(np.array([[0.0], [0.0], [1.0]]), np.zeros((3, 1)))) == 2  # equal points have no ratio
    with pytest.raises(ValueError, match="equal points"):
        pair_ratios(np.ones((3, 2)), np.ones((3, 2)))


def test_the_relative_increment_is_a_mean_of_ratios():
    x = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert relative_increment(x, 1.5 * x) == 0.5
    assert relative_increment(x, x + np.array([[3.0, 0.0], [0.0, 0.0]])) == 1.5


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: effective_rank(np.ones((3, 2))), "all equal"),
        (lambda: effective_rank(np.ones(3)), "shape"),
        (lambda: effective_rank(np.array([[np.nan], [1.0]])), "NaN"),
        (lambda: mean_cosine(np.ones((1, 2))), "at least 2"),
        (lambda: greedy_cover(np.ones((2, 2)), 0.0), "radius"),
        (lambda: greedy_cover(np.ones((2, 2)), math.nan), "radius"),
        (lambda: farthest_point_radii(np.ones((2, 2)), 0), "k must"),
        (lambda: farthest_point_radii(np.ones((2, 2)), 1, start=2), "start"),
        (lambda: condensing_profile(np.ones((2, 2)), np.ones((3, 2)), 2), "same points"),
        (lambda: pair_ratios(np.eye(2), np.eye(3)), "same points"),
        (lambda: relative_increment(np.zeros((1, 2)), np.ones((1, 2))), "zero vector"),
        (lambda: relative_increment(np.ones((1, 2)), np.ones((1, 3))), "one shape"),
    ],
)
def test_bad_input_is_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()
