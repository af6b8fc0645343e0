"""Objectives: closed forms, derivatives, the majorant above, and what they refuse."""

import numpy as np
import pytest

from limitlib.scaling import LeastSquares, LogHuber, Weighted

R = np.concatenate([[0.0], np.random.default_rng(0).normal(scale=0.02, size=400)])
ALL = [LogHuber(1e-3), LogHuber(0.02), LeastSquares(), LeastSquares("raw")]


def test_huber_by_hand():
    o = LogHuber(0.1)
    assert o.rho(np.array([0.05, -0.1, 0.3, -0.3])) == pytest.approx([0.00125, 0.005, 0.025, 0.025], rel=1e-14)
    assert o.slope(np.array([0.05, -0.3])) == pytest.approx([0.05, -0.1])
    assert o.curvature(np.array([0.05, 0.3])).tolist() == [1.0, 0.0]


def test_huber_with_a_wide_delta_is_least_squares():
    wide, squares = LogHuber(1.0), LeastSquares()
    for name in ("rho", "slope", "curvature", "majorant"):
        assert np.array_equal(getattr(wide, name)(R), getattr(squares, name)(R))


@pytest.mark.parametrize("o", ALL, ids=lambda o: o.describe())
def test_slope_and_curvature_are_derivatives_away_from_the_kink(o):
    delta = getattr(o, "delta", np.inf)
    r, h = R[np.abs(np.abs(R) - delta) > 1e-6], 1e-7
    assert o.slope(r) == pytest.approx((o.rho(r + h) - o.rho(r - h)) / (2 * h), abs=1e-9)
    assert o.curvature(r) == pytest.approx((o.slope(r + h) - o.slope(r - h)) / (2 * h), abs=1e-6)


@pytest.mark.parametrize("o", ALL, ids=lambda o: o.describe())
def test_majorant_touches_and_lies_above(o):
    for at in R[:40]:
        quadratic = o.rho(at) + 0.5 * o.majorant(at) * (R**2 - at**2)
        assert (quadratic >= o.rho(R) - 1e-15).all()
        assert o.majorant(at) * at == pytest.approx(float(o.slope(at)), rel=1e-14)


def test_scales_and_descriptions():
    assert (LogHuber().scale, LeastSquares().scale, LeastSquares("raw").scale) == ("log", "log", "raw")
    assert "0.001" in LogHuber().describe() and "ln loss" in LeastSquares().describe()
    assert Weighted(LeastSquares("raw"), "w").scale == "raw" and "weighted by w" in Weighted(LogHuber(), "w").describe()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LogHuber(0.0), ValueError, "delta=0.0 must be positive"),
        (lambda: LogHuber(float("nan")), ValueError, "delta=nan"),
        (lambda: LogHuber("small"), TypeError, "delta='small'"),
        (lambda: LeastSquares("linear"), ValueError, "scale='linear' is unknown"),
        (lambda: Weighted(Weighted(LogHuber(), "w"), "w"), TypeError, "must be LogHuber"),
        (lambda: Weighted(LogHuber(), [1.0, -1.0]), ValueError, "weights must be at least 0"),
        (lambda: Weighted(LogHuber(), [1.0, np.nan]), ValueError, "weights must not be NaN"),
        (lambda: Weighted(LogHuber(), [1.0, np.inf]), ValueError, "weights must be finite"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
