"""Forms for which the book has no open runs: data made from each give its own constants back."""

import numpy as np
import pytest

from limitlib.scaling import LeastSquares, Runs, law

P, N = np.geomspace(2e7, 2e9, 4), np.geomspace(1e9, 3e11, 4)


def crossed(**axes):
    grid = np.meshgrid(*axes.values(), indexing="ij")
    return {name: g.ravel() for name, g in zip(axes, grid, strict=True)}


@pytest.mark.parametrize(("name", "truth", "columns"), [
    ("repetition", dict(E=1.87, A=521.0, B=1488.0, alpha=0.353, beta=0.353, R_star=15.4),
     crossed(P=P, N=N, unique=np.array([2e8, 1e9]))),
    ("multilingual", dict(E=1.7, A=400.0, B=1200.0, alpha=0.34, beta=0.36, tau=0.3),
     crossed(P=P[:3], N=N[:3], N2=np.array([1e8, 3e9, 1e11]))),
    ("multimodal", dict(E=1.2, A=400.0, B1=600.0, B2=300.0, D=900.0, alpha=0.34, beta1=0.35, beta2=0.25, gamma=0.45),
     crossed(P=P[:3], N1=np.geomspace(1e8, 1e11, 4), N2=np.geomspace(1e8, 1e11, 4))),
    ("broken", dict(E=1.6, A=60.0, c0=0.1, c1=0.25, d1=1e20, f1=0.4), dict(C=np.geomspace(1e17, 1e23, 30))),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_exact_data_give_their_own_constants(name, truth, columns):
    if name == "multimodal":
        columns = columns | {"N": columns["N1"] + columns["N2"]}
    form = law(name)
    runs = Runs.from_arrays(form.predict(truth, **columns), run="=row", **columns)
    fit = form.fit(runs, LeastSquares("log"))
    assert fit.parameters == pytest.approx(truth, rel=1e-8)


def test_tokens_seen_once_are_not_repeated():
    truth = dict(E=1.87, A=521.0, B=1488.0, alpha=0.353, beta=0.353, R_star=15.4)
    once = law("repetition").predict(truth, P=1e9, N=2e10, unique=2e10)
    plain = law("chinchilla").predict({k: v for k, v in truth.items() if k != "R_star"}, P=1e9, N=2e10)
    assert once == pytest.approx(plain, rel=1e-14)
    worn = law("repetition").predict(truth, P=1e9, N=1e15, unique=2e10)
    assert worn == pytest.approx(1.87 + 521 * 1e9**-0.353 + 1488 * (2e10 * 16.4) ** -0.353, rel=1e-12)
