"""The bootstrap: every resample at its optimum, by run against by row, coverage, and boundaries that a resample may leave."""

import numpy as np
import pytest
from scaling_cases import CASES, runs_of
from scipy.stats import binom

from limitlib.scaling import LeastSquares, LogHuber, Runs, Weighted

CHINCHILLA, TRUTH = CASES["chinchilla"]


def chinchilla_runs(seed=0, n=80, noise=0.01, **more):
    return runs_of(CHINCHILLA, TRUTH | more, np.random.default_rng(seed), n, noise)


@pytest.fixture(scope="module")
def fit():
    return CHINCHILLA.fit(chinchilla_runs())


def test_resamples_end_at_their_own_optima(fit):
    boot = fit.boot(40, rng=np.random.default_rng(0))
    weights = np.random.default_rng(0).multinomial(80, np.full(80, 1 / 80), size=40)
    for b in range(0, 40, 5):
        alone = CHINCHILLA.fit(fit.runs, Weighted(LogHuber(), weights[b].astype(float)))
        assert boot.f[b] == pytest.approx(alone.value, rel=1e-7)
    assert boot.converged.mean() >= 0.95 and boot.clusters == 80 and boot.kind == "estimate"


def test_bootstrap_by_generator_predictions_and_intervals(fit):
    boot, again = (fit.boot(30, rng=np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(boot.theta, again.theta)
    assert not np.array_equal(boot.theta, fit.boot(30, rng=np.random.default_rng(2)).theta)
    assert boot.predict(P=[1e9, 2e9], N=1e10).shape == (30, 2)
    one = {k: float(v[3]) for k, v in boot.parameters.items()}
    assert boot.predict(P=1e9, N=1e10)[3] == pytest.approx(CHINCHILLA.predict(one, P=1e9, N=1e10), rel=1e-10)
    narrow, wide = boot.interval("alpha", 0.5), boot.interval("alpha", 0.9)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1] and boot.intervals["alpha"] == boot.interval("alpha")


def width(fit, by):
    low, high = fit.boot(60, by=by, rng=np.random.default_rng(3)).interval("alpha")
    return high - low


def test_copied_checkpoints_do_not_narrow_the_interval_by_run():
    """Each run 9 times with the same noise: by run nothing changes; by row (negative control) the interval shrinks by 3."""
    single = chinchilla_runs(n=40)
    code = np.repeat(np.arange(40), 9)
    jitter = 1 + 1e-9 * np.random.default_rng(4).random(360)  # not an exact copy, which would be dropped
    copied = Runs.from_arrays(single.loss[code] * jitter, P=single.P[code], N=single.N[code], run=code)
    one, nine = CHINCHILLA.fit(single), CHINCHILLA.fit(copied)
    assert nine.parameters["alpha"] == pytest.approx(one.parameters["alpha"], rel=1e-4)
    honest = width(one, "run")
    assert width(nine, "run") == pytest.approx(honest, rel=0.02)
    assert width(nine, "row") < 0.5 * honest


def test_coverage_of_the_bootstrap():
    """90 % intervals of a prediction inside the range, 30 tables: within the binomial margin of 88 %, as percentile
    intervals of 60 rows are known to lose a little."""
    made, truth = CASES["power"]
    hits, tables = 0, 30
    for seed in range(tables):
        found = made.fit(runs_of(made, truth, np.random.default_rng(1000 + seed), 60, 0.01), LeastSquares())
        draws = found.boot(100, rng=np.random.default_rng(seed)).predict(C=1e20)
        low, high = np.quantile(draws, [0.05, 0.95])
        hits += low <= made.predict(truth, C=1e20) <= high
    low, high = binom.interval(0.999, tables, 0.88)
    assert low <= hits <= min(high, tables)


def test_resamples_of_few_runs_say_that_they_are_undetermined():
    found = CHINCHILLA.fit(chinchilla_runs(n=6))
    boot = found.boot(60, rng=np.random.default_rng(5))
    distinct = (np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), size=60) > 0).sum(axis=1)
    assert not boot.converged[distinct < 5].any()


def test_progress_is_reported():
    told = []
    CHINCHILLA.fit(chinchilla_runs(n=30)).boot(20, rng=np.random.default_rng(0), progress=lambda *a: told.append(a))
    assert told[-1] == (20, 20, "bootstrap") and all(a[1] == 20 for a in told)


def test_a_floor_that_is_0_in_the_fit_is_free_in_its_resamples():
    found = next(f for f in (CHINCHILLA.fit(chinchilla_runs(s, 60, 0.01, E=0.02)) for s in range(20)) if f.certificate.boundary)
    boot = found.boot(200, rng=np.random.default_rng(0))
    assert (boot.parameters["E"] > 1e-3).any() and (boot.parameters["E"] < 1e-6).any()
