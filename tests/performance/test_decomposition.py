"""The four terms of an error: they add up, one of them can have either sign, and a false minimiser is refused."""

import math

import numpy as np
import pytest

from limitlib.performance import decompose


def test_the_four_terms_add_up():
    risks = {"trained": 0.5, "minimiser": 0.4, "best": 0.35, "limit": 0.3}
    empirical = {"trained": 0.3, "minimiser": 0.2, "best": 0.37, "limit": 0.4}
    parts = decompose(risks.get, empirical.get, trained="trained", minimiser="minimiser", best="best", limit="limit",
                      optimal_risk=0.1)  # fmt: skip
    assert parts.excess == pytest.approx(0.4)
    assert parts.optimisation == pytest.approx(0.1) and parts.architecture == pytest.approx(0.05)
    assert parts.sample == pytest.approx(0.2 - 0.15) and parts.selection == pytest.approx(-0.15)


def test_the_third_bracket_is_not_always_negative():
    """E4.1: with one predictor in the class, R_S exceeds R on nearly half of the samples; in the mean it does not."""
    rng = np.random.default_rng(7)
    observed = rng.binomial(100, 0.3, 100_000) / 100
    selections = [decompose(lambda _: 0.3, lambda _, r=r: r, trained=0, minimiser=0, best=0).selection for r in observed[:500]]
    assert np.mean(np.array(selections) > 1e-12) == pytest.approx(np.mean(observed[:500] > 0.3), abs=1e-12)
    assert np.mean(observed > 0.3 + 1e-9) == pytest.approx(0.450876, abs=0.01)
    assert abs(observed.mean() - 0.3) < 4 * 0.0458 / math.sqrt(1e5)


def test_a_minimiser_that_is_none_is_refused():
    with pytest.raises(ValueError, match="minimiser has the empirical risk"):
        decompose(lambda h: h, lambda h: -h, trained=2.0, minimiser=1.0, best=0.0)
    with pytest.raises(ValueError, match="best has the risk"):
        decompose(lambda h: h, lambda h: h, trained=1.0, minimiser=1.0, best=2.0)
