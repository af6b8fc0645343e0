"""Accuracy against loss: closed forms, size and power of the one-curve test in simulation, coverage, limits."""

import math

import numpy as np
import pytest

from limitlib.scaling.panel import Curve, emergence, loss_of_accuracy, resolution, standard_error

SEEDS = range(60)


def logistic(loss, slope=1.2, middle=3.4, top=0.75):
    return top / (1 + np.exp(slope * (loss - middle)))


def runs(rng, *, deviation=0.0, correlation=0.0, scatter=0.005, groups=8, steps=20, items=2000):
    """Groups that fall along overlapping loss curves; odd ones score ``deviation`` above the curve, even ones below."""
    table = {"acc": [], "nll": [], "size": []}
    for g in range(groups):
        loss = 4 - 2.6 * g / (groups - 1) + 4 * np.exp(-np.arange(steps) / 4) + rng.normal(0, 0.02, steps)
        noise = rng.normal(size=steps)
        for k in range(1, steps):
            noise[k] = correlation * noise[k - 1] + math.sqrt(1 - correlation**2) * noise[k]
        p = np.clip(logistic(loss) + scatter * noise + (deviation if g % 2 else -deviation), 0, 1)
        table["acc"] += list(rng.binomial(items, p) / items)
        table["nll"] += list(loss)
        table["size"] += [f"{g}m"] * steps
    return table


def measure(table, rng=None, **options):
    options = {"score": "acc", "against": "nll", "group": "size", "draws": 199, **options}
    return emergence(table, rng=rng or np.random.default_rng(0), **options)


def over_seeds(**kinds):
    """The measurements of 60 simulated panels of 2000 items."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found.append(measure(runs(rng, **kinds), rng, n_items=2000, ceiling=0.75))
    return found


@pytest.fixture(scope="module")
def one_law():
    return over_seeds()


# ---------------------------------------------------------------- closed forms


def test_a_noiseless_logistic_is_measured_to_its_closed_form():
    loss = np.tile(np.linspace(1.0, 6.0, 40), 3)
    table = {"acc": logistic(loss, 2.0, 3.0, 1.0), "nll": loss, "size": np.repeat(list("abc"), 40)}
    found = measure(table, ceiling=1.0)
    assert found.threshold.value == pytest.approx(3.0, abs=0.01)
    assert found.width.value == pytest.approx(2 * math.log(9) / 2.0, abs=0.05)
    assert found.threshold.low <= found.threshold.value <= found.threshold.high
    assert found.one_curve.overlap == 1.0
    assert found.one_curve.spread < 1e-6


def test_a_floor_moves_the_midpoint():
    loss = np.tile(np.linspace(1.0, 6.0, 40), 3)
    table = {"acc": 0.25 + 0.75 * logistic(loss, 2.0, 3.0, 1.0), "nll": loss, "size": np.repeat(list("abc"), 40)}
    assert measure(table, ceiling=1.0, chance=0.25).threshold.value == pytest.approx(3.0, abs=0.01)
    assert measure(table, ceiling=1.0).threshold.value > 3.2


def test_a_score_that_rises_with_the_axis():
    axis = np.tile(np.linspace(-3.0, 3.0, 30), 2)
    table = {"acc": logistic(-axis, 2.0, 0.0, 1.0), "nll": axis, "size": np.repeat(list("ab"), 30)}
    found = measure(table, ceiling=1.0)
    assert found.threshold.value == pytest.approx(0.0, abs=0.01)
    assert found.width.value == pytest.approx(math.log(9), abs=0.05)
    assert any("few" in note for note in found.notes)


def test_standard_error_and_resolution():
    assert standard_error(0.5, 10**6) == pytest.approx(0.5e-3, rel=1e-5)
    assert standard_error(0.0, 100) == pytest.approx(math.sqrt(0.5 * 100.5 / (101**2 * 102)))
    assert resolution(0.5, 10**6) == pytest.approx((1.959964 + 0.841621) * math.sqrt(2) * 0.5e-3, rel=1e-5)


def test_resolution_is_what_a_test_of_two_proportions_sees():
    rng = np.random.default_rng(1)
    gap = resolution(0.5, 1000)
    a, b = rng.binomial(1000, 0.5 - gap / 2, 20_000) / 1000, rng.binomial(1000, 0.5 + gap / 2, 20_000) / 1000
    z = (b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / 1000)
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.80, abs=0.015)


def test_loss_of_accuracy_undoes_exact_match():
    per_token = np.array([0.02, 0.1, 0.5])
    loss, error = loss_of_accuracy(np.exp(-20 * per_token), length=20)
    np.testing.assert_allclose(loss, per_token, rtol=1e-12)
    assert error is None
    loss, error = loss_of_accuracy([0.0, 0.5], length=2, n_items=400)
    assert math.isinf(loss[0]) and math.isinf(error[0])
    assert error[1] == pytest.approx(standard_error(0.5, 400) / (0.5 * 2))


def test_the_curve_goes_on_as_a_line():
    curve = measure(runs(np.random.default_rng(3))).curve
    assert isinstance(curve, Curve)
    outer = curve.knots[0] - np.array([0.5, 1.0, 1.5])
    np.testing.assert_allclose(np.diff(curve.predict(outer), 2), 0, atol=1e-12)


# ---------------------------------------------------------------- the test for one curve


def test_size_when_one_law_holds(one_law):
    assert np.mean([e.one_curve.p_value <= 0.05 for e in one_law]) <= 0.15
    assert np.mean([e.one_curve.p_value for e in one_law]) > 0.35


def test_power_against_a_deviation_of_half_a_point():
    found = over_seeds(deviation=0.005)
    assert np.mean([e.one_curve.p_value <= 0.05 for e in found]) >= 0.8
    assert np.median([e.one_curve.spread for e in found]) == pytest.approx(0.005, rel=0.3)
    assert np.median([e.one_curve.spread_null for e in found]) < 0.005


def test_the_negative_control_is_rejected():
    table = runs(np.random.default_rng(5), deviation=0.02)
    one = measure(table, n_items=2000).one_curve
    assert one.p_value == 1 / 200 and one.p_sampling == 1 / 200
    assert one.held_out_rms > 2 * one.sampling_rms


def test_sampling_alone_is_recognised():
    found = over_seeds(scatter=0.0)
    assert np.mean([e.one_curve.p_sampling <= 0.05 for e in found]) <= 0.12
    assert np.median([e.one_curve.residual_rms / e.one_curve.sampling_rms for e in found]) == pytest.approx(1, abs=0.1)


def test_correlated_scatter_is_more_than_sampling():
    """What the docstring warns of: a run that drifts looks like a size of its own."""
    found = over_seeds(scatter=0.02, correlation=0.8)
    assert np.mean([e.one_curve.p_sampling <= 0.05 for e in found]) > 0.9
    assert np.mean([e.one_curve.p_value <= 0.05 for e in found]) > 0.3


def test_the_interval_of_the_threshold_covers(one_law):
    assert np.mean([e.threshold.low <= 3.4 <= e.threshold.high for e in one_law]) >= 0.85


def test_each_group_is_predicted_without_itself():
    table = runs(np.random.default_rng(7))
    before = measure(table).one_curve.held_out
    table["acc"] = [1 - a if s == "3m" else a for a, s in zip(table["acc"], table["size"], strict=True)]
    after, own = measure(table).one_curve.held_out, np.array(table["size"]) == "3m"
    np.testing.assert_array_equal(before[own], after[own])
    assert not np.allclose(before[~own], after[~own])


def test_separate_ranges_are_named():
    loss = np.concatenate([np.linspace(5, 4, 20), np.linspace(3, 2, 20), np.linspace(1.5, 1, 20)])
    table = {"acc": logistic(loss), "nll": loss, "size": np.repeat(list("abc"), 20)}
    found = measure(table)
    assert found.one_curve.overlap == 0 and any("hardly" in note for note in found.notes)


def test_same_generator_same_answer():
    table = runs(np.random.default_rng(8))
    one, two = (measure(table, np.random.default_rng(4), n_items=2000) for _ in range(2))
    assert one.one_curve.p_value == two.one_curve.p_value and one.threshold == two.threshold


# ---------------------------------------------------------------- chance, ceilings, arguments


def test_guessing_is_named():
    rng = np.random.default_rng(9)
    table = runs(rng)
    table["acc"] = list(rng.binomial(500, 0.25, len(table["nll"])) / 500)
    found = measure(table, n_items=500, chance=0.25)
    assert found.at_chance and found.threshold is None and found.width is None
    assert any("at chance" in note for note in found.notes)
    assert not measure(runs(rng), n_items=2000, chance=0.25).at_chance
    table["acc"] = [0.0] * len(table["nll"])
    assert measure(table, n_items=500).at_chance


def test_what_is_not_reached_is_not_given():
    table = runs(np.random.default_rng(10))
    far = measure(table, ceiling=2.0)
    assert far.threshold is None and any("midpoint" in note for note in far.notes)
    near = measure(table, ceiling=1.0)
    assert near.threshold is not None and near.width is None and any("90 %" in note for note in near.notes)
    table["acc"] = [a / 10 for a in table["acc"]]
    below = measure(table, chance=0.25)
    assert below.threshold is None and any("below chance" in note for note in below.notes)


def test_ties_in_the_loss():
    loss = np.tile([5.0] * 15 + list(np.linspace(4, 2, 5)), 4)
    table = {"acc": logistic(loss), "nll": loss, "size": np.repeat(list("abcd"), 20)}
    assert measure(table).one_curve.residual_rms < 0.02


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"acc": [50.0] * 160}, ValueError, r"\[0, 1\].*100"),
        ({"nll": [np.inf] * 160}, ValueError, "finite"),
        ({"nll": [1.0] * 160}, ValueError, "constant"),
        ({"nll": [np.nan] * 160}, ValueError, "NaN"),
        ({"size": ["a"] * 160}, ValueError, "one group"),
        ({"acc": [0.5] * 159}, ValueError, "equally long"),
    ],
)
def test_bad_columns(change, error, words):
    with pytest.raises(error, match=words):
        measure({**runs(np.random.default_rng(0)), **change})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"score": "accuracy"}, KeyError, "it has: acc, nll, size"),
        ({"chance": 1.0}, ValueError, "below 1"),
        ({"chance": 0.25, "ceiling": 0.25}, ValueError, "above 0.25"),
        ({"n_items": 1}, ValueError, "at least 2"),
        ({"draws": 10}, ValueError, "at least 99"),
        ({"rng": 5}, TypeError, "Generator"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        measure(runs(np.random.default_rng(0)), **options)


def test_too_few_rows_and_bad_scores():
    short = {"acc": [0.1, 0.2] * 5, "nll": list(range(10)), "size": list("ab") * 5}
    with pytest.raises(ValueError, match="at least 24"):
        measure(short)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        loss_of_accuracy([1.5])
