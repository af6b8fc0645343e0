"""The pooled mixing law: its closed form, its derivatives, exact recovery, shares of 0, and the certified best mixture."""

import numpy as np
import pytest

from limitlib.scaling import LeastSquares, LogHuber, Runs, best_mixture, law
from limitlib.scaling.pooled import PooledSurface

DOMAINS = ["web", "code", "books"]
TRUTH = {"w_web": 0.02, "w_code": 0.5, "w_books": 0.001, "gamma": 0.2, "a": 0.6}


def mixtures(n, seed=0):
    shares = np.random.default_rng(seed).dirichlet(np.ones(3), size=n)
    shares[: n // 4, 2] = 0.0  # many shares of real mixtures are exactly 0
    return dict(zip(DOMAINS, (shares / shares.sum(axis=1, keepdims=True)).T, strict=True))


def test_closed_form():
    found = law("mixing-pooled", domains=DOMAINS).predict(TRUTH, web=0.25, code=0.75, books=0.0)
    assert found == pytest.approx((0.02 * 0.25**0.6 + 0.5 * 0.75**0.6) ** -0.2, rel=1e-14)
    plain = law("mixing-pooled", domains=DOMAINS, saturating=False)
    found = plain.predict({k: v for k, v in TRUTH.items() if k != "a"}, web=2.0, code=6.0, books=0.0)  # normalised
    assert found == pytest.approx((0.02 * 0.25 + 0.5 * 0.75) ** -0.2, rel=1e-14)


@pytest.mark.parametrize("saturating", [True, False])
def test_derivatives_are_those_of_the_value(saturating):
    rng = np.random.default_rng(1)
    logs = np.log(rng.dirichlet(np.ones(3), size=6))
    logs[0, 1] = -1e5  # a share of 0
    surface = PooledSurface(logs, saturating)
    theta, c, h = rng.normal(size=(2, surface.p)), rng.normal(size=(2, 6)), 1e-5
    steps = h * np.eye(surface.p)
    slope = np.stack([(surface.value(theta + s) - surface.value(theta - s)) / (2 * h) for s in steps], axis=2)
    assert np.allclose(surface.at(theta).slope, slope, atol=1e-8)
    curve = np.stack([(surface.at(theta + s).pull(c) - surface.at(theta - s).pull(c)) / (2 * h) for s in steps], axis=1)
    assert np.allclose(surface.at(theta).curve(np.zeros_like(c), c), curve, atol=1e-7)
    square = np.einsum("bn,bnp,bnq->bpq", c, slope, slope)
    assert np.allclose(surface.at(theta).curve(c, np.zeros_like(c)), square, atol=1e-7)


@pytest.mark.parametrize("saturating", [True, False])
def test_exact_data_give_their_own_constants(saturating):
    form, columns = law("mixing-pooled", domains=DOMAINS, saturating=saturating), mixtures(40)
    truth = TRUTH if saturating else {k: v for k, v in TRUTH.items() if k != "a"}
    runs = Runs.from_arrays(form.predict(truth, **columns), run="=row", **columns)
    fit = form.fit(runs, LogHuber(1e-3))
    assert fit.certificate.converged
    assert fit.parameters == pytest.approx(truth, rel=1e-9)


def test_a_useless_domain_is_named_at_the_boundary():
    form, columns = law("mixing-pooled", domains=DOMAINS), mixtures(60)
    loss = form.predict({**TRUTH, "w_books": 0.0}, **columns)
    loss *= np.exp(np.random.default_rng(3).normal(scale=1e-3, size=60) + 0.002 * columns["books"])
    fit = form.fit(Runs.from_arrays(loss, run="=row", **columns), LeastSquares("log"))
    assert fit.certificate.boundary == ("w_books",) and fit.certificate.converged
    assert fit.parameters["w_books"] == 0


def test_the_best_mixture_has_a_tangent_plane_certificate():
    form = law("mixing-pooled", domains=DOMAINS)
    targets = [TRUTH, {**TRUTH, "w_web": 1.0, "w_code": 0.01, "a": 0.8}]
    best = best_mixture(form, targets)
    assert sum(best.shares.values()) == pytest.approx(1) and 0 <= best.gap < 1e-5
    others = np.random.default_rng(2).dirichlet(np.ones(3), size=4000)
    columns = dict(zip(DOMAINS, others.T, strict=True))
    means = np.mean([form.predict(t, **columns) for t in targets], axis=0)
    assert best.loss <= means.min() and means.min() - best.loss < 1e-3
    assert np.isnan(best_mixture(form, [{**TRUTH, "a": 1.2}]).gap)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="at least two distinct"):
        law("mixing-pooled", domains=["web", "web"])
    form = law("mixing-pooled", domains=DOMAINS)
    with pytest.raises(ValueError, match="needs the shares books"):
        form.predict(TRUTH, web=0.5, code=0.5)
    with pytest.raises(ValueError, match="sum to 0"):
        form.predict(TRUTH, web=0.0, code=0.0, books=0.0)
    with pytest.raises(TypeError, match="mixing-pooled"):
        best_mixture(law("chinchilla"), [TRUTH])
    with pytest.raises(ValueError, match="at least one target"):
        best_mixture(form, [])
