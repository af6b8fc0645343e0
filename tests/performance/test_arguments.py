"""What is no real number, no function or no finite risk is refused by name; huge constants give inf, a zero among them 0."""

import math

import numpy as np
import pytest

from limitlib.iteration import rotation_residual, shift_residual
from limitlib.performance import (
    PowerLawMass,
    SpectralMeasure,
    decompose,
    injected_bound,
    iterated_limit,
    judge,
    limit_along,
    monotone_envelope,
    pl_bound,
    untied_entropy,
)

CONSTANTS = dict(N=10, P=1, K=1, beta=0.5, q=0.5, initial_gap=1.0, parameter_lipschitz=1.0, radius=1.0, dimension=1)
GRID = [2.0**i for i in range(8)]
PARTS = dict(trained=0, minimiser=0, best=0)


@pytest.mark.parametrize("bad", ["5", None, 1j, True, ["1", "2"]])
@pytest.mark.parametrize(
    "make",
    [
        PowerLawMass(1.0).mass,
        PowerLawMass(1.0).error,
        SpectralMeasure(parts=[PowerLawMass(1.0)]).mass,
        SpectralMeasure(parts=[PowerLawMass(1.0)]).error,
        lambda bad: SpectralMeasure(atoms=bad, weights=[1.0, 1.0]),
        lambda bad: SpectralMeasure(atoms=[0.1, 0.2], weights=bad),
        lambda bad: SpectralMeasure.of_matrix(bad, [1.0]),
        lambda bad: pl_bound(1.0, mu=0.5, L=1.0, K=bad),
        lambda bad: judge(bad, GRID),
        lambda bad: judge(GRID, bad),
        monotone_envelope,
        rotation_residual,
        shift_residual,
    ],
)
def test_no_real_numbers(make, bad):
    with pytest.raises(TypeError, match="must hold real numbers"):
        make(bad)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: decompose(lambda h: math.nan, float, **PARTS), ValueError, "risk.trained.=nan must be finite"),
        (lambda: decompose(float, lambda h: math.inf, **PARTS), ValueError, "empirical_risk.trained.=inf must be finite"),
        (lambda: decompose(lambda h: 1j, float, **PARTS), TypeError, "risk.trained.=1j must be a real number"),
        (lambda: decompose(float, lambda h: np.ones(2), **PARTS), TypeError, "empirical_risk.trained."),
        (lambda: decompose(1.0, float, **PARTS), TypeError, "^risk=1.0 must be a function"),
        (lambda: decompose(float, None, **PARTS), TypeError, "empirical_risk=None must be a function"),
        (lambda: limit_along(1.0, lambda n: (n,)), TypeError, "E=1.0 must be a function"),
        (lambda: limit_along(lambda n: 1.0, 3), TypeError, "path=3 must be a function"),
        (lambda: limit_along(lambda n: 1.0, lambda n: n), TypeError, "path must give"),
        (lambda: limit_along(lambda n: "1", lambda n: (n,)), TypeError, "E at .*='1' must be a real number"),
        (lambda: limit_along(lambda n: np.ones(2), lambda n: (n,)), TypeError, "E at"),
        (lambda: iterated_limit(None, ("K",)), TypeError, "E=None must be a function"),
        (lambda: rotation_residual(3, relaxation=True), TypeError, "relaxation=.* must be a real number"),
    ],
)
def test_functions_and_what_they_return(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_an_array_of_one_element_is_a_number():
    found = limit_along(lambda n: np.array([1 / n]), lambda n: (n,))
    assert found.status == "converges" and found.values[0] == 1 / 8


def test_huge_constants():
    huge = injected_bound(**CONSTANTS, loss_lipschitz=1e308, readout_lipschitz=1e308, state_bound=1.0)
    assert huge.architecture == math.inf
    assert injected_bound(**CONSTANTS, loss_lipschitz=1e308, readout_lipschitz=1e308, state_bound=0.0).architecture == 0.0
    constants = dict(q=0.5, dimension=2, parameter_lipschitz=1e308, radius=1e308)
    assert untied_entropy(1.0, **constants) == math.inf and untied_entropy(math.inf, **constants) == 0.0
