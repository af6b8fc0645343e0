"""limitlib.operators: Jacobians against closed forms and torch.func, sharpness against an eigenvalue solver."""

import numpy as np
import pytest
import torch

from limitlib.models import GainMLP, ResidualMLP
from limitlib.operators import jacobian, jacobian_singular_values, pair_ratios, sharpness

DOUBLE = torch.float64


def points(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def test_the_jacobian_of_a_linear_map_is_its_matrix():
    A = points(3, 5)
    found = jacobian(lambda x: x @ A.T, points(2, 4, 5))
    assert found.shape == (2, 4, 3, 5)
    assert torch.equal(found, A.expand(2, 4, 3, 5))


def test_the_jacobian_of_a_pointwise_map_is_diagonal():
    x = points(6, 4)
    assert torch.allclose(jacobian(torch.tanh, x), torch.diag_embed(1 - torch.tanh(x) ** 2), atol=1e-15)


@pytest.mark.parametrize("net", [GainMLP([0.9, 1.2], [0, 1], depth=3, width=6, dtype=DOUBLE),
                                 ResidualMLP([0.9, 1.2], [0, 1], depth=3, width=6, dtype=DOUBLE)])  # fmt: skip
def test_the_fast_jacobian_equals_the_slow_one(net):
    x = points(2, 3, 6)
    fast = jacobian(net.stack, x)
    whole = torch.func.jacrev(net.stack)(x)  # (2, 3, 6, 2, 3, 6), zero off the diagonal of points
    for m in range(2):
        for p in range(3):
            assert torch.allclose(fast[m, p], whole[m, p, :, m, p, :], atol=1e-13)


def test_singular_values_and_their_summaries():
    A = torch.diag(torch.tensor([3.0, 4.0, 0.0], dtype=DOUBLE))[:2]
    found = jacobian_singular_values(lambda x: x @ A.T, points(5, 3))
    assert found.values == pytest.approx(np.tile([4.0, 3.0], (5, 1)))
    assert found.local == pytest.approx(np.full(5, 4.0))
    assert found.chi == pytest.approx(np.full(5, 25 / 3))
    assert found.rms == pytest.approx(np.sqrt(np.full(5, 25 / 3)))
    assert found.lower == pytest.approx(4.0)


def test_local_is_a_lower_bound_that_tightens_with_points_and_rms_is_below_it():
    f = lambda x: torch.sin(3 * x)  # noqa: E731  sup = 3, attained where cos(3x) = +-1 in every coordinate
    few, many = (jacobian_singular_values(f, points(n, 2)) for n in (3, 400))
    assert few.lower <= many.lower <= 3 and many.lower > 2.99
    assert (many.rms <= many.local + 1e-12).all()


def test_pair_ratios_never_exceed_the_sup_constant():
    A = points(4, 4)
    ratios = pair_ratios(lambda x: x @ A, points(2, 30, 4))
    assert ratios.shape == (2, 30 * 29 // 2)
    assert (ratios <= np.linalg.norm(A.numpy(), 2) * (1 + 1e-12)).all()
    assert pair_ratios(lambda x: -2 * x, points(5, 3)) == pytest.approx(np.full(10, 2.0))
    with pytest.raises(ValueError, match="two equal points"):
        pair_ratios(torch.tanh, torch.zeros(2, 3))


def test_points_without_a_finite_jacobian_hold_nan_and_leave_the_others_alone():
    f = lambda x: torch.exp(x)  # noqa: E731
    found = jacobian_singular_values(f, torch.tensor([[0.0], [1e4]], dtype=DOUBLE))
    assert found.local[0] == 1 and np.isnan(found.local[1])


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"x\[None\]"):
        jacobian(torch.tanh, torch.zeros(3))
    with pytest.raises(ValueError, match="keep the leading dimensions"):
        jacobian(lambda x: x.sum(0), torch.zeros(2, 3))


# --- sharpness


def quadratic(H):
    return lambda p: 0.5 * torch.einsum("mi,mij,mj->m", p[0], H, p[0])


def test_sharpness_of_a_quadratic_is_its_top_eigenvalue_for_every_member():
    rng = np.random.default_rng(5)
    Q = np.linalg.qr(rng.standard_normal((3, 6, 6)))[0]
    spectra = np.array([1, 2, 3])[:, None] * np.array([5.0, 3, 2, 1, 0.5, -1])
    H = torch.tensor(np.einsum("mij,mj,mkj->mik", Q, spectra, Q))
    found = sharpness(quadratic(H), [points(3, 6)], iters=80, rng=np.random.default_rng(0))
    assert found.value == pytest.approx([5, 10, 15], rel=1e-9)
    assert (found.residual < 1e-6).all()


def test_sharpness_is_a_lower_bound_with_an_honest_residual_before_it_converges():
    H = torch.diag(torch.tensor([4.0, 3.9, 1.0, 0.0], dtype=DOUBLE))[None]
    for iters in (1, 2, 5, 20):
        found = sharpness(quadratic(H), [points(1, 4)], iters=iters, rng=np.random.default_rng(1))
        assert found.value[0] <= 4 + 1e-12
        assert np.abs(np.array([4, 3.9, 1, 0]) - found.value[0]).min() <= found.residual[0] + 1e-9


def test_sharpness_equals_the_eigenvalue_of_a_dense_hessian():
    x, y = points(20, 3), points(20, 2, seed=1)
    shapes = [(3, 4), (4, 2)]
    parameters = [points(1, *s, seed=7 + i) for i, s in enumerate(shapes)]

    def loss(p):
        return ((torch.tanh(x @ p[0]) @ p[1] - y) ** 2).mean((-1, -2))

    def flat(v):
        return loss([v[:12].reshape(1, 3, 4), v[12:].reshape(1, 4, 2)])[0]

    H = torch.autograd.functional.hessian(flat, torch.cat([p.flatten() for p in parameters]))
    values = torch.linalg.eigvalsh(H)
    assert values[-1] > -values[0]
    found = sharpness(loss, parameters, iters=400, rng=np.random.default_rng(0))
    assert found.value[0] == pytest.approx(values[-1].item(), rel=1e-8)
    again = sharpness(loss, parameters, iters=1, start=found.vectors)
    assert again.value[0] == pytest.approx(values[-1].item(), rel=1e-8)


def test_a_dominant_negative_curvature_shows_as_negative():
    H = torch.diag(torch.tensor([-3.0, 1.0], dtype=DOUBLE))[None]
    assert sharpness(quadratic(H), [points(1, 2)], iters=60, rng=np.random.default_rng(0)).value[0] == pytest.approx(-3)


def test_sharpness_asks_for_a_start():
    with pytest.raises(ValueError, match="give rng"):
        sharpness(quadratic(torch.eye(2, dtype=DOUBLE)[None]), [points(1, 2)])
    with pytest.raises(ValueError, match="iters=0"):
        sharpness(quadratic(torch.eye(2, dtype=DOUBLE)[None]), [points(1, 2)], iters=0, rng=np.random.default_rng(0))
