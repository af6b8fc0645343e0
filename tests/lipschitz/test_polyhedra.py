"""limitlib.lipschitz.polyhedra: inhabited or empty, each with a proof, and never the wrong one."""

import math
from fractions import Fraction

import numpy as np
import pytest

from limitlib.lipschitz.polyhedra import UnitDomain, find_point, holds

SPACE = UnitDomain(0, np.ones(3))


def exactly(rows):
    """The rational rows of a cell given in float64, with the sides of a unit box."""
    return lambda indices, sides: [[Fraction(float(v)) for v in row] for row in (*rows[indices], *sides)]


def decide(G, h, domain, *, exact=True):
    G, h = np.asarray(G, dtype=float), np.asarray(h, dtype=float)
    rows = np.column_stack([G, h])
    return find_point(G, h, np.zeros_like(rows), domain, exactly(rows) if exact else None)


def count_cells(G, h, domain):
    """Cells of a hyperplane arrangement, one hyperplane after the other; every answer must be a proof."""
    cells = [[]]
    for i in range(len(G)):
        split = []
        for cell in cells:
            for sign in (1, -1):
                signs = np.array([*cell, sign])
                verdict = decide(signs[:, None] * G[: i + 1], signs * h[: i + 1], domain)
                assert verdict.status != "unknown"
                if verdict.status == "inside":
                    split.append([*cell, sign])
        cells = split
    return len(cells)


@pytest.mark.parametrize(("n", "d"), [(7, 1), (7, 2), (6, 3), (5, 5)])
def test_hyperplanes_in_general_position_cut_space_into_the_known_number_of_cells(n, d):
    rng = np.random.default_rng(n)
    G, h = rng.standard_normal((n, d)), rng.standard_normal(n)
    assert count_cells(G, h, UnitDomain(0, np.ones(d))) == sum(math.comb(n, i) for i in range(d + 1))


@pytest.mark.parametrize(("n", "d"), [(6, 2), (6, 3)])
def test_hyperplanes_through_the_origin_cut_it_into_fewer(n, d):
    G = np.random.default_rng(n).standard_normal((n, d))
    assert count_cells(G, np.zeros(n), UnitDomain(0, np.ones(d))) == 2 * sum(math.comb(n - 1, i) for i in range(d))


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_in_a_ball_lines_through_its_middle_meet_and_distant_ones_do_not(p):
    domain = UnitDomain(p, np.full(2, 0.75))
    G = np.random.default_rng(1).standard_normal((5, 2))
    assert count_cells(G, np.zeros(5), domain) == 10
    assert count_cells(G, 10 * np.linalg.norm(G, axis=1), domain) == 1


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_half_space_meets_a_ball_exactly_when_it_is_nearer_than_the_radius(p):
    g = np.array([3.0, 4.0])
    dual = {1: 4.0, 2: 5.0, math.inf: 7.0}[p]  # the largest g . u in the unit ball
    domain = UnitDomain(p, np.full(2, 0.5))
    for shift in (0.9, 0.999, 0.999999):
        assert decide([g], [-0.5 * dual * shift], domain).status == "inside"
    for shift in (1.000001, 1.1, 100.0):
        assert decide([g], [-0.5 * dual * shift], domain).status == "empty"


def test_points_are_inside_and_conflicts_conflict():
    rng = np.random.default_rng(2)
    seen = {"inside": 0, "empty": 0}
    for _ in range(300):
        d, n = rng.integers(1, 5), rng.integers(1, 9)
        domain = UnitDomain(rng.choice([0, 1, 2, math.inf]), np.full(d, 0.8))
        G, h = rng.standard_normal((n, d)), 0.5 * rng.standard_normal(n)
        verdict = decide(G, h, domain)
        seen[verdict.status] += 1
        if verdict.status == "inside":
            assert (G @ verdict.point + h > 0).all() and domain.contains(verdict.point)
        else:
            part = verdict.conflict
            assert decide(G[part], h[part], domain).status == "empty"
    assert min(seen.values()) > 50


def test_touching_half_spaces_need_rational_arithmetic_and_get_it():
    thirds = np.array([[1 / 3, 2 / 3], [-2 / 3, -4 / 3]])  # the second is the first times -2, exactly
    assert decide(thirds, [1.0, -2.0], UnitDomain(0, np.ones(2))).status == "empty"
    assert decide(thirds, [1.0, -2.0], UnitDomain(0, np.ones(2)), exact=False).status == "unknown"
    assert decide(thirds, [1.0, math.nextafter(-2.0, 0)], UnitDomain(0, np.ones(2))).status != "empty"  # a sliver, far out
    box = UnitDomain(math.inf, np.ones(2))
    assert decide([[1.0, 1.0]], [-2.0], box).status == "empty"  # touches the corner (1, 1)
    assert decide([[1.0, 1.0]], [-2.0], box, exact=False).status == "unknown"


def test_errors_of_the_rows_make_it_undecided_not_wrong():
    G, h = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.0, -1e-9])  # empty by 1e-9
    for p in (2, math.inf):
        domain = UnitDomain(p, np.ones(2))
        assert find_point(G, h, np.zeros((2, 3)), domain).status == "empty"
        assert find_point(G, h, np.full((2, 3), 1e-8), domain).status == "unknown"
    assert find_point(G, h + 2e-9, np.zeros((2, 3)), domain).status == "inside"
    assert find_point(G, h + 2e-9, np.full((2, 3), 1e-8), domain).status == "unknown"


def test_thin_cells_are_found_by_the_linear_program():
    for width in (1e-5, 1e-7, 1e-8):
        verdict = decide([[1.0, 0.3], [-1.0, -0.3]], [0.0, width], UnitDomain(math.inf, np.ones(2)))
        assert verdict.status == "inside"


def test_holds_refuses_equality_and_accepts_slack():
    row, none = np.array([[1.0, -1.0]]), np.zeros((1, 2))
    assert not holds(row, none, np.array([1.0]))
    assert holds(row, none, np.array([1.0 + 1e-12]))
    assert not holds(row, none, np.array([np.inf]))
    assert decide(np.empty((0, 3)), np.empty(0), SPACE).status == "inside"
