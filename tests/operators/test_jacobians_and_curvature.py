"""limitlib.operators: Jacobians against closed forms and torch.func, sharpness against an eigenvalue solver."""

import math

import numpy as np
import pytest
import torch

from limitlib.bounds import Ball
from limitlib.models import GainMLP, ResidualMLP
from limitlib.operators import (
    jacobian,
    jacobian_norm,
    jacobian_rms,
    jacobian_singular_values,
    pair_ratios,
    sharpness,
)

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


# --- products with the Jacobian


def rng():
    return np.random.default_rng(0)


def block(dtype=DOUBLE, width=12):
    torch.manual_seed(0)
    made = torch.nn.TransformerEncoderLayer(width, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True, dtype=dtype)
    return made.eval()


def token_jacobians(f, x):
    size = x[0].numel()
    return torch.stack([torch.func.jacrev(lambda z: f(z[None])[0])(p).reshape(-1, size) for p in x]).detach().numpy()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_products_find_the_singular_values_of_a_transformer_block():
    f, x = block(), points(3, 5, 12)
    J = token_jacobians(f, x)
    truth = np.linalg.svd(J, compute_uv=False)[:, 0]
    found = jacobian_norm(f, x, iters=59, rng=rng(), rtol=1e-7, point_dims=2)
    assert (found.lower <= truth).all() and (found.lower >= truth * (1 - 1e-6)).all() and np.isinf(found.upper).all()
    attained = np.linalg.norm(J @ found.vectors.reshape(3, 60, 1), axis=1)[:, 0]
    assert attained == pytest.approx(found.lower, rel=1e-12)
    whole = jacobian_norm(f, x, iters=60, point_dims=2)  # written out: 60 products would do it
    assert (whole.lower <= truth * (1 + 1e-13)).all() and (whole.upper >= truth * (1 - 1e-13)).all()
    assert whole.upper == pytest.approx(whole.lower, rel=1e-9) and "written out" in whole.source
    frobenius = np.sqrt(np.square(J).sum((1, 2)) / 60)
    exact = jacobian_rms(f, x, probes=60, point_dims=2)
    assert exact.value == pytest.approx(frobenius, rel=1e-12) and exact.exact and (exact.standard_error == 0).all()
    guessed = jacobian_rms(f, x, probes=40, rng=rng(), point_dims=2)
    assert not guessed.exact and (np.abs(guessed.value - frobenius) < 5 * guessed.standard_error).all()
    assert (guessed.standard_error < 0.05 * frobenius).all()


def test_products_agree_with_dense_jacobians_over_many_networks():
    """Lower <= truth for every point, however few steps; converged where there are enough."""
    for seed in range(12):
        net = GainMLP([1.3], [seed], depth=3, width=40, dtype=DOUBLE)
        x = points(1, 6, 40, seed=seed)
        truth = jacobian_singular_values(net.stack, x)
        for iters in (1, 2, 5, 39):
            found = jacobian_norm(net.stack, x, iters=iters, rng=rng(), rtol=1e-9)
            assert found.lower.shape == (1, 6) and (found.lower <= truth.local * (1 + 1e-14)).all()
        assert found.lower == pytest.approx(truth.local, rel=1e-6) and (found.residual < 1e-2).all()


@pytest.mark.parametrize("iters", [10, 60])
def test_every_point_stands_alone(iters):
    f = lambda x: torch.exp(x) * x.mean(-1, keepdim=True)  # noqa: E731
    x = points(4, 50)
    x[1] = 1e4  # not finite there
    found, alone = (jacobian_norm(f, p, iters=iters, rng=rng(), rtol=1e-8) for p in (x, x[2:3]))
    assert np.isnan(found.lower[1]) and np.isnan(found.upper[1]) and np.isfinite(found.lower[[0, 2, 3]]).all()
    assert found.lower[2] == pytest.approx(alone.lower[0], rel=1e-2)
    assert np.isnan(jacobian_rms(f, x, probes=4, rng=rng()).value).tolist() == [False, True, False, False]
    assert found.bound().lower == np.nanmax(found.lower)


def test_the_bound_of_the_best_point_carries_its_witness():
    A = points(40, 40)
    f = lambda x: torch.tanh(x @ A.T)  # noqa: E731
    x = 0.1 * points(7, 40)
    found = jacobian_norm(f, x, iters=20, rng=rng())
    b = found.bound(Ball(np.zeros(40), 2.0))
    point, direction = b.witness
    assert b.lower == found.lower.max() and b.upper == math.inf and b.domain == Ball(np.zeros(40), 2.0)
    assert b.kind == "certified" and "Golub-Kahan steps in float64" in b.source
    step = 1e-6 * torch.tensor(direction)
    quotient = (f(torch.tensor(point) + step) - f(torch.tensor(point) - step)).norm() / 2e-6
    assert quotient.item() == pytest.approx(b.lower, rel=1e-6) and b.lower <= np.linalg.norm(A.numpy(), 2)


def test_float32_says_so_and_its_margin_covers_what_rounding_does():
    """The same weights in both precisions: the float32 end stays below the float64 truth at the same point."""
    small, large = block(torch.float32), block(DOUBLE)
    large.load_state_dict(small.state_dict())
    x = points(6, 5, 12).float()
    found = jacobian_norm(small, x, iters=59, rng=rng(), rtol=1e-6, point_dims=2)
    truth = jacobian_norm(large, x.double(), iters=60, point_dims=2)
    assert (found.lower <= truth.upper).all() and (found.lower >= truth.lower * (1 - 1e-4)).all()
    assert found.dtype == "float32" and "float32" in found.source and found.bound().kind == "estimate"
    unmargined = found.lower * (1 + 8 * np.finfo(np.float32).eps * math.sqrt(120))
    assert (np.abs(unmargined / truth.lower - 1) < 0.5 * 8 * np.finfo(np.float32).eps * math.sqrt(120)).all()


def test_maps_without_a_derivative_to_speak_of():
    x = points(3, 50)
    assert (jacobian_norm(lambda x: torch.zeros_like(x), x, rng=rng()).lower == 0).all()
    assert (jacobian_norm(lambda x: x.round().detach(), x, rng=rng()).lower == 0).all()
    assert jacobian_norm(lambda x: -2 * x, x, rng=rng()).lower == pytest.approx(np.full(3, 2.0))
    rank_one = jacobian_norm(lambda x: x.sum(-1, keepdim=True).expand(*x.shape), x, rng=rng())
    assert rank_one.lower == pytest.approx(np.full(3, 50.0)) and (rank_one.lower <= 50).all()
    assert (jacobian_rms(lambda x: torch.zeros_like(x), x, rng=rng()).value == 0).all()


def test_narrow_maps_are_written_out_from_the_shorter_side():
    A = points(70, 3)
    for f, x in [(lambda x: x @ A.T, points(4, 3)), (lambda x: x @ A, points(4, 70))]:
        found = jacobian_norm(f, x)
        truth = np.linalg.norm(A.numpy(), 2)
        assert (found.lower <= truth).all() and (found.upper >= truth).all() and (found.upper < truth * (1 + 1e-9)).all()
    single = jacobian_norm(lambda x: x @ A, points(70))  # one point, without a batch
    assert single.lower.shape == () and single.bound().lower == single.lower


def test_a_search_leaves_the_module_as_it_was():
    f, x = block(), points(2, 5, 12).requires_grad_(True)
    jacobian_norm(f, x, rng=rng(), iters=4, point_dims=2)
    assert x.grad is None and all(p.grad is None for p in f.parameters())


def test_bad_arguments_of_the_products_are_named():
    x = points(2, 50)
    for call, error, words in [
        (lambda: jacobian_norm(torch.tanh, x), ValueError, "rng is needed"),
        (lambda: jacobian_norm(torch.tanh, x, iters=0, rng=rng()), ValueError, "iters=0"),
        (lambda: jacobian_norm(torch.tanh, x.half(), rng=rng()), ValueError, r"float16 .*\.float\(\)"),
        (lambda: jacobian_norm(torch.tanh, x.long(), rng=rng()), TypeError, "floating-point"),
        (lambda: jacobian_norm(torch.tanh, x, rng=rng(), point_dims=3), ValueError, "point_dims"),
        (lambda: jacobian_norm(lambda x: x.sum(0), x, rng=rng()), ValueError, "leading dimensions"),
        (lambda: jacobian_rms(torch.tanh, x), ValueError, "rng is needed"),
        (lambda: jacobian_rms(torch.tanh, x, probes=1, rng=rng()), ValueError, "probes=1"),
        (lambda: jacobian_norm(lambda x: x / 0, x, rng=rng()).bound(), ValueError, "no point has a finite"),
    ]:
        with pytest.raises(error, match=words):
            call()


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
