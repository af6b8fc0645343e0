"""limitlib.blocks: the stacks of T2.2 keep their promises, and stop working when a hypothesis is dropped."""

from dataclasses import replace

import numpy as np
import pytest

from limitlib import blocks
from limitlib.iteration import inexact_orbit


def disc(x):
    return x / np.maximum(1.0, np.linalg.norm(x, axis=-1, keepdims=True))


def fold(x):
    """A retraction, nonexpansive in the sup norm, whose fixed points are the graph of |x|: no straight segment."""
    return np.stack([x[..., 0], np.abs(x[..., 0])], axis=-1)


def run(stack, x0, n, **known):
    return inexact_orbit(stack, np.asarray(x0, dtype=float), n=np.arange(n + 1), **known).x


def harmonic(n):
    return 1.0 / np.arange(1, n + 1)


def test_plane_rotation_turns_by_the_angle():
    np.testing.assert_allclose(blocks.plane_rotation(np.pi / 2) @ [1, 0], [0, 1], atol=1e-15)
    step = blocks.linear(blocks.plane_rotation(1.0))(np.array([1.0, 0.0])) - [1.0, 0.0]
    assert np.linalg.norm(step) == pytest.approx(2 * np.sin(0.5), abs=1e-15)


def test_triangle_wave_at_quarters():
    np.testing.assert_allclose(blocks.triangle_wave([0, 0.25, 1, 1.75, 2, 3.5]), [0, 0.25, 1, 0.25, 0, 0.5])


@pytest.mark.parametrize(
    ("block", "p", "q", "order"),
    [(disc, [-0.5, 0.0], [0.5, 0.0], 2), (fold, [-1.0, 1.0], [1.0, 1.0], np.inf)],
    ids=["disc", "fold"],
)
def test_segment_walk_keeps_its_promises(block, p, q, order):
    eps = 1.5 * harmonic(3000)
    walk = blocks.segment_walk(block, block, p, q, eps, order=order)
    states = run(walk, p, 3000, reference=block, errors=(eps + 1e-14, np.inf), norm=order)  # refuses a block too far off
    np.testing.assert_allclose(states, walk.points, atol=1e-10)
    np.testing.assert_allclose(block(walk.points), walk.points, atol=1e-15)
    shifts = np.linalg.norm(np.diff(walk.points, axis=0), ord=order, axis=1)
    assert (shifts <= eps + 1e-14).all()  # 1e-14: a few units in the last place of the accumulated wave
    turns = np.flatnonzero((walk.t[1:-1] - walk.t[:-2]) * (walk.t[2:] - walk.t[1:-1]) < 0)
    assert len(turns) >= 4
    late = walk.t[turns[1] :]
    assert late.min() < 0.25 and late.max() > 0.75


def test_segment_walk_is_isometric_along_the_fixed_points():
    """The proof's first line: in the sup norm the pulled segment is a geodesic, although it is bent."""
    walk = blocks.segment_walk(fold, fold, [-1.0, 1.0], [1.0, 1.0], harmonic(50), order=np.inf)
    lengths = np.abs(walk.points[:, None] - walk.points[None]).max(axis=-1)
    np.testing.assert_allclose(lengths, 2 * np.abs(walk.t[:, None] - walk.t[None]), atol=1e-14)


def test_the_straight_segment_is_not_enough():
    """Negative control: without the limit's pull the fold's walk leaves the fixed points and the run is another."""
    walk = blocks.segment_walk(fold, lambda x: x, [-1.0, 1.0], [1.0, 1.0], harmonic(50), order=np.inf)
    assert np.abs(run(walk, [-1.0, 1.0], 50) - walk.points).max() > 0.1


def test_segment_walk_refuses_a_run_with_smaller_errors():
    """The walk really uses its errors: half of them are refuted by the run."""
    walk = blocks.segment_walk(disc, disc, [-0.5, 0.0], [0.5, 0.0], harmonic(50))
    with pytest.raises(ValueError, match="more than eps"):
        run(walk, [-0.5, 0.0], 50, reference=disc, errors=(harmonic(50) / 8, np.inf))


def test_segment_walk_settles_when_the_errors_are_summable():
    """Negative control: eps_i = 1/i^2 moves less than its tail 1/n after layer n."""
    walk = blocks.segment_walk(disc, disc, [-0.5, 0.0], [0.5, 0.0], harmonic(20000) ** 2)
    assert np.ptp(walk.t[1000:]) <= 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"q": [-0.5, 0.0]}, "p = q"), ({"q": [2.0, 0.0]}, "q = .* not fixed"), ({"errors": [0.1, -0.1]}, "errors must")],
)
def test_segment_walk_refuses(changes, message):
    arguments = {"p": [-0.5, 0.0], "q": [0.5, 0.0], "errors": harmonic(5)} | changes
    with pytest.raises(ValueError, match=message):
        blocks.segment_walk(disc, disc, **arguments)


def test_spectral_stages_oscillate_with_zero_as_the_only_fixed_point():
    stages = blocks.spectral_stages(lambda i: 1 / i, 4)
    assert (stages.factors < 1).all()
    n = len(stages.pushes)
    known = {"reference": lambda x: stages.factors * x, "errors": (harmonic(n), np.inf)}
    norms = np.linalg.norm(run(stages, np.zeros(4), n, **known), axis=1)
    assert (norms[stages.peaks] >= 0.5).all() and (norms[stages.troughs] <= 0.25).all()


def test_spectral_stage_lengths_at_rest_one_fifth():
    """E2.7: lengths 1, 8, 48, 280 for eps_i = 1/i; the next two, 1615 and 9301, are checked in the notebook."""
    assert blocks.spectral_stages(lambda i: 1 / i, 4, rest=0.2).lengths.tolist() == [1, 8, 48, 280]


def test_a_spectral_gap_ends_the_oscillation():
    """Negative control: with every eigenvalue below .9 the same pushes peak lower and lower, as T2.2(C) says."""
    stages = blocks.spectral_stages(lambda i: 1 / i, 4)
    gapped = replace(stages, factors=np.minimum(stages.factors, 0.9))
    norms = np.linalg.norm(run(gapped, np.zeros(4), len(stages.pushes)), axis=1)
    assert norms[stages.peaks[-1]] < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((lambda i: 1 / i, 0), "stages is 0"), ((lambda i: i**-2.0, 2), "divergent series")],
)
def test_spectral_stages_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        blocks.spectral_stages(*arguments)


def test_spectral_stages_refuse_a_rest_level_above_a_quarter():
    with pytest.raises(ValueError, match="rest is"):
        blocks.spectral_stages(lambda i: 1 / i, 1, rest=0.3)
