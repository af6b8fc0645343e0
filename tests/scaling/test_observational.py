"""Capabilities and the sigmoid law: closed forms, exact recovery, certificates, intervals over families, arguments."""

import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from limitlib.scaling.observational import capabilities, per_family, sigmoid_law


def low_rank(rng, n=40, d=6, rank=1, noise=0.0):
    scores = rng.uniform(0.1, 0.9, (n, rank)) @ rng.dirichlet(np.ones(rank), d).T
    return np.clip(scores * np.linspace(0.5, 1.0, d) + noise * rng.normal(size=(n, d)), 0, 1)


def sigmoid(x, w, b, floor=0.0, ceiling=1.0):
    return floor + (ceiling - floor) / (1 + np.exp(-(x @ np.atleast_1d(w) + b)))


# ---------------------------------------------------------------- capabilities


def test_rank_one_scores_are_one_component_and_holes_are_filled_exactly():
    rng = np.random.default_rng(0)
    table = low_rank(rng)
    holes = table.copy()
    holes[rng.random(table.shape) < 0.1] = np.nan
    holes[0, :3] = np.nan
    found = capabilities(holes, components=1)
    assert found.explained[0] == pytest.approx(1.0)
    np.testing.assert_allclose(found.imputed, table, atol=1e-6)
    assert found.components[0].sum() > 0
    np.testing.assert_allclose(found.values @ found.components + found.centre, table, atol=1e-6)


def test_components_agree_with_an_eigendecomposition():
    table = low_rank(np.random.default_rng(1), rank=3, noise=0.02)
    found = capabilities(table, components=3)
    values, vectors = np.linalg.eigh(np.cov(table.T))
    np.testing.assert_allclose(found.explained, values[::-1] / values.sum(), atol=1e-12)
    np.testing.assert_allclose(np.abs(found.components @ vectors[:, ::-1][:, :3]), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(found.transform(table), found.values, atol=1e-12)


def test_standardising_gives_equal_weight():
    table = low_rank(np.random.default_rng(2), rank=2, noise=0.01)
    scaled = table * np.array([1, 1, 1, 1, 1, 0.01])
    plain, equal = capabilities(scaled, components=2), capabilities(scaled, components=2, standardise=True)
    np.testing.assert_allclose(equal.explained, capabilities(table, standardise=True).explained, atol=1e-10)
    assert abs(plain.components[0, 5]) < 0.02 < abs(equal.components[0, 5])


def test_a_new_model_with_holes_is_placed_like_the_old_ones():
    rng = np.random.default_rng(3)
    table = low_rank(rng, n=60)
    found = capabilities(table[:40], components=1)
    holes = table[40:].copy()
    holes[:, 2] = np.nan
    np.testing.assert_allclose(found.transform(holes), found.transform(table[40:]), atol=1e-8)


def test_filling_is_the_limit_of_the_published_iteration():
    """Filling a new model's holes in one least-squares step is the limit of projecting and filling in turn."""
    rng = np.random.default_rng(4)
    table = low_rank(rng, rank=2, noise=0.05)
    found = capabilities(table[:30], components=2)
    row = table[30:31].copy()
    row[0, [1, 4]] = np.nan
    mean, spread, middle, axes = found.filling
    standard = (row - mean) / spread
    filled = np.where(np.isnan(standard), 0.0, standard)
    for _ in range(5000):
        filled = np.where(np.isnan(standard), middle + (filled - middle) @ axes.T @ axes, standard)
    np.testing.assert_allclose(found.transform(row), (filled * spread + mean - found.centre) @ found.components.T, atol=1e-8)


def test_filled_scores_stay_within_bounds():
    table = np.array([[0.1, 0.1, 0.2], [0.5, 0.5, 0.4], [0.9, 0.97, 0.9], [1.0, np.nan, 1.0], [0.3, 0.2, 0.3]])
    assert capabilities(table, components=1).imputed.max() <= 1.0
    assert capabilities(table, components=1, bounds=(0.0, 0.9)).imputed[3, 1] <= 0.9


def test_lines_per_family():
    x = np.array([1, 2, 3, 1, 2, 3, 1, 2, np.nan])
    y = np.array([2, 4, 6, 1, 1, 4, 0, 1, 5.0])
    lines = {line.family: line for line in per_family(x, y, list("aaabbbccc"))}
    assert set(lines) == {"a", "b"}
    assert (lines["a"].slope, lines["a"].intercept, lines["a"].r2) == pytest.approx((2.0, 0.0, 1.0))
    assert lines["b"].r2 == pytest.approx(np.corrcoef(x[3:6], y[3:6])[0, 1] ** 2)


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (np.ones((4, 2)), {"components": 1}, "constant"),
        ([[np.nan, 1.0], [np.nan, 2.0]], {"components": 1}, "empty"),
        (np.eye(3), {"components": 4}, "at most 3"),
        (np.ones(3), {}, "table"),
    ],
)
def test_bad_scores(table, options, words):
    with pytest.raises(ValueError, match=words):
        capabilities(table, **options)


def test_bad_families_and_columns():
    with pytest.raises(ValueError, match="equally long"):
        per_family([1, 2], [1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="fitted to 6"):
        capabilities(low_rank(np.random.default_rng(0))).transform(np.ones((2, 3)))


# ---------------------------------------------------------------- the sigmoid law


@pytest.mark.parametrize("seed", range(6))
def test_noise_free_recovery(seed):
    rng = np.random.default_rng(seed)
    p = 1 + seed % 3
    x = rng.normal(size=(40, p)) * rng.uniform(0.1, 10, p)
    w, b, floor = rng.normal(size=p) / x.std(axis=0), rng.normal(), rng.uniform(0.02, 0.18)
    fit = sigmoid_law(x, sigmoid(x, w, b, floor))
    np.testing.assert_allclose(fit.weights, w, rtol=1e-7)
    assert (fit.bias, fit.floor) == pytest.approx((b, floor), abs=1e-7)
    assert fit.certificate.value < 1e-16 and fit.certificate.boundary == ""


@pytest.mark.parametrize("seed", range(8))
def test_the_optimum_is_certified_and_no_other_search_is_lower(seed):
    rng = np.random.default_rng(100 + seed)
    x = rng.normal(size=(45, 3))
    y = np.clip(sigmoid(x, [1.5, 0.5, -1.0], -1.0, 0.1) + 0.08 * rng.normal(size=45), 0, 1)
    fit = sigmoid_law(x, y)
    proof = fit.certificate
    assert proof.gradient_norm < 1e-8 and proof.hessian_eigenvalues.min() > 0
    assert proof.value == pytest.approx(0.5 * ((fit.predict(x) - y) ** 2).sum(), rel=1e-12)
    for _ in range(10):
        start = np.concatenate([3 * rng.normal(size=4), [0.1]])
        other = least_squares(
            lambda t: sigmoid(x, t[:3], t[3], t[4]) - y, start, bounds=([-np.inf] * 4 + [0], [np.inf] * 4 + [0.2])
        )  # fmt: skip
        assert proof.value <= other.cost * (1 + 1e-9)


def test_the_floor_stops_at_its_bounds():
    x = np.linspace(-3, 3, 30)[:, None]
    high = sigmoid_law(x, sigmoid(x, 2.0, 0.0, 0.4))
    assert high.floor == 0.2 and high.certificate.boundary == "floor at its upper bound"
    low = sigmoid_law(x, np.clip(sigmoid(x, 2.0, 0.0) - 0.03, 0, 1))
    assert low.floor == 0.0 and low.certificate.boundary == "floor at its lower bound"
    fixed = sigmoid_law(x, sigmoid(x, 2.0, 0.0, 0.4), floor=0.4)
    assert fixed.floor == 0.4 and fixed.certificate.boundary == "" and len(fixed.certificate.hessian_eigenvalues) == 2


def test_a_step_is_named():
    x = np.linspace(-1, 1, 20)
    fit = sigmoid_law(x, (x > 0).astype(float))
    assert fit.certificate.boundary == "step"
    assert fit.certificate.value < 1e-12 and np.isfinite(fit.weights).all()


def test_units_of_the_predictors_do_not_matter():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 2))
    y = np.clip(sigmoid(x, [1.0, 2.0], 0.3, 0.05) + 0.05 * rng.normal(size=40), 0, 1)
    one, two = sigmoid_law(x, y), sigmoid_law(x * [1e6, 1e-3] + [5e6, 1.0], y)
    np.testing.assert_allclose(one.predict(x), two.predict(x * [1e6, 1e-3] + [5e6, 1.0]), atol=1e-7)


def models(rng, families=20, each=4, family_noise=0.15, noise=0.05):
    """Models of one law in a capability; each family has a shift of its own, in the argument of the sigmoid."""
    x = rng.normal(size=families)[:, None] * 0.8 + np.linspace(-1.5, 1.5, each)
    shift = family_noise * 4 * rng.normal(size=(families, 1)) + noise * 4 * rng.normal(size=(families, each))
    y = sigmoid(x[..., None], 2.0, -0.5)
    return x.ravel(), np.clip(y + y * (1 - y) * shift, 0, 1).ravel(), np.repeat(np.arange(families), each)


def test_intervals_cover_models_of_new_families():
    covered = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y, family = models(rng)
        new, truth, _ = models(rng)
        low, high = sigmoid_law(x, y).intervals(new, family, level=0.9, draws=199, rng=rng)
        assert (low <= high).all() and low.min() >= 0 and high.max() <= 1
        covered.append(np.mean((truth >= low) & (truth <= high)))
    assert 0.84 <= np.mean(covered) <= 0.98


def test_ignoring_families_gives_intervals_that_are_too_narrow():
    """Negative control: one shift shared by a family, resampled as if models were independent."""
    wide, narrow = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x, y, family = models(rng, families=6, each=12, family_noise=0.3, noise=0.0)
        fit, middle = sigmoid_law(x, y), np.array([0.25])
        for kind, codes in ((wide, family), (narrow, np.arange(len(y)))):
            low, high = fit.intervals(middle, codes, level=0.8, draws=199, rng=rng)
            kind.append(float((high - low)[0]))
    assert np.mean(wide) > 1.1 * np.mean(narrow)


def test_intervals_are_reproducible():
    x, y, family = models(np.random.default_rng(1))
    fit = sigmoid_law(x, y)
    one, two = (fit.intervals([0.0, 1.0], family, draws=99, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (np.arange(9.0), np.full(9, 50.0), {}, "percentages"),
        (np.arange(9.0), np.full(8, 0.5), {}, "row for each score"),
        (np.ones(9), np.full(9, 0.5), {}, "constant"),
        (np.arange(3.0), np.full(3, 0.5), {}, "at least 4"),
        (np.arange(9.0), np.full(9, 0.5), {"floor": 0.5, "ceiling": 0.4}, "ordered"),
    ],
)
def test_bad_arguments(x, y, options, words):
    with pytest.raises(ValueError, match=words):
        sigmoid_law(x, y, **options)


def test_bad_intervals():
    x, y, family = models(np.random.default_rng(1))
    fit = sigmoid_law(x, y)
    with pytest.raises(ValueError, match="too few"):
        fit.intervals([0.0], family > 9, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="the fit has 80"):
        fit.intervals([0.0], family[:5], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="below 1"):
        fit.intervals([0.0], family, level=1.0, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="must have 1 columns"):
        fit.predict(np.ones((2, 2)))
    assert math.isfinite(fit.bias)
