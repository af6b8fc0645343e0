"""Additive laws with a form per column, against the named laws that they contain and against closed forms."""

import numpy as np
import pytest

from limitlib.scaling import Runs, law


def table(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return {"P": np.exp(rng.uniform(np.log(1e7), np.log(2e9), n)), "K": rng.uniform(1e10, 3e11, n)}


def test_closed_form():
    form = law("mixed", powers="P", exponentials="K", roots="N")
    assert form.variables == ("P", "K", "N")
    truth = {"E": 1.5, "A_P": 300.0, "a_P": 0.3, "A_K": 0.7, "q_K": 0.9, "A_N": 40.0}
    found = form.predict(truth, P=1e8, K=3.0, N=1e6)
    assert found == pytest.approx(1.5 + 300 * 1e8**-0.3 + 0.7 * 0.9**3 + 40 / 1e3, rel=1e-13)


@pytest.mark.parametrize(("named", "own", "renamed"), [
    (law("critical", variables="PK"), law("mixed", powers="PK"), {"p": "a_P", "k": "a_K"}),
    (law("paper", variables="PK"), law("mixed", exponentials="PK"), {"lip": "q_P", "beta": "q_K"}),
])  # fmt: skip
def test_the_named_laws_are_special_cases(named, own, renamed):
    columns = table()
    noise = np.random.default_rng(1).normal(scale=0.01, size=40)
    loss = (2 + 200 * columns["P"] ** -0.3 + 1e5 * columns["K"] ** -0.5) * np.exp(noise)
    runs = Runs.from_arrays(loss, run="=row", **columns)
    one, two = named.fit(runs), own.fit(runs)
    assert two.value == pytest.approx(one.value, rel=1e-9)
    assert {renamed.get(k, k): v for k, v in one.parameters.items()} == pytest.approx(two.parameters, rel=1e-4)


def test_exact_data_give_their_own_constants():
    form, columns = law("mixed", powers="P", roots="K"), table(seed=2)
    truth = {"E": 1.8, "A_P": 250.0, "A_K": 4e4, "a_P": 0.31}
    fit = form.fit(Runs.from_arrays(form.predict(truth, **columns), run="=row", **columns))
    assert fit.parameters == pytest.approx(truth, rel=1e-8) and fit.certificate.converged


@pytest.mark.parametrize("wrong", [{}, {"powers": "PK", "roots": "K"}])
def test_columns_are_named_once(wrong):
    with pytest.raises(ValueError, match="name at least one, and none twice"):
        law("mixed", **wrong)
