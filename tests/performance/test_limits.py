"""Limits along paths: the counterexamples of chapter 5, and the refusal to judge what the values don't show."""

import math

import numpy as np
import pytest

from limitlib.bounds import Estimate
from limitlib.performance import iterated_limit, judge, least_squares_risk, limit_along


def test_the_order_of_limits():
    """P / (N + P): 0 if N goes first, 1 if P goes first."""
    n_first = iterated_limit(lambda N, P: P / (N + P), ("N", "P"))
    p_first = iterated_limit(lambda N, P: P / (N + P), ("P", "N"))
    assert n_first.status == p_first.status == "converges"
    assert n_first.limit.value == pytest.approx(0, abs=1e-2) and p_first.limit.value == pytest.approx(1, abs=1e-2)


def test_the_path_decides():
    def risk(N, P):
        return float(least_squares_risk(N, P, signal=1.0, noise=0.25))

    half = limit_along(risk, lambda n: (2 * n, n))
    assert half.status == "converges" and half.limit.value == pytest.approx(0.25, rel=1e-3)
    double = limit_along(risk, lambda n: {"N": n, "P": 2 * n})
    assert double.limit.value == pytest.approx(0.75, rel=1e-3)
    assert limit_along(risk, lambda n: (n, n)).limit == math.inf  # the mean does not exist at P = N


@pytest.mark.parametrize("seed", range(20))
def test_geometric_convergence_is_extrapolated(seed):
    rng = np.random.default_rng([seed, 5])
    limit, size, ratio = rng.normal(), rng.normal(), rng.uniform(0.1, 0.85)
    found = judge(limit + size * ratio ** np.arange(12.0), np.arange(12.0))
    assert found.status == "converges" and found.limit.low <= limit <= found.limit.high
    assert found.limit.value == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (np.arange(12.0), "diverges"),
        (2.0 ** np.arange(12), "diverges"),
        ((-1.0) ** np.arange(12), "oscillates"),
        (np.log(np.arange(2.0, 14.0)), "undecided"),  # it diverges, but twelve equally spaced values don't show it
        (np.full(12, 3.0), "converges"),
        (np.full(12, np.inf), "diverges"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, np.inf, 1], "undecided"),
        (np.random.default_rng(0).normal(size=12), "undecided"),
    ],
)
def test_the_words(values, status):
    assert judge(values, np.arange(12.0)).status == status


def test_an_inner_limit_that_is_missing_is_named():
    found = iterated_limit(lambda N, P: (-1.0) ** (N.bit_length()) + 1 / P, ("N", "P"))
    assert found.status == "undecided" and "oscillates at P=8" in found.reason


def test_bad_input():
    with pytest.raises(ValueError, match="at least 7 increasing"):
        limit_along(lambda n: n, lambda n: (n,), n=[1, 2, 3])
    with pytest.raises(ValueError, match="E is NaN at"):
        limit_along(lambda n: math.nan, lambda n: (n,))
    with pytest.raises(ValueError, match="name each variable once"):
        iterated_limit(lambda N: N, ("N", "N"))


def test_an_estimate_is_no_bound():
    assert isinstance(limit_along(lambda n: 1 / n, lambda n: (n,)).limit, Estimate)
