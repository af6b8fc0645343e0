"""lipschitz() on torch modules: never below an attained quotient, exact where it says so, and clear about what it refuses."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from limitlib.bounds import Ball, Box, Shell, TokenBall, WholeSpace
from limitlib.lipschitz import NormShells, UnsupportedLayer, lipschitz

ACTIVATIONS = [
    nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.ELU(), nn.SELU(), nn.Softplus(),
    nn.LeakyReLU(0.2),
    nn.Hardswish(), nn.Hardtanh(), nn.Mish(), nn.PReLU(), nn.Softsign(), nn.CELU(0.5), nn.ReLU6(), nn.LogSigmoid(),
    nn.Tanhshrink(), nn.Softshrink(),
]  # fmt: skip


def fresh(seed):
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def steeper(module, factor=2.0):
    """Weights and biases several times as large, so that nonlinearities are felt."""
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(factor).add_(0.1 * torch.randn_like(p))
    return module.double().eval()


def jacobian_norm(f, x, p=2):
    """Largest operator norm of the Jacobian, dense, at points x (n, *shape)."""
    found = 0.0
    for point in x:
        J = torch.autograd.functional.jacobian(lambda v: f(v[None])[0], point)
        J = J.reshape(-1, point.numel())
        found = max(found, float(torch.linalg.matrix_norm(J, p)))
    return found


def quotient(f, x, p=2):
    """Largest difference quotient over all pairs of the points x (n, *shape)."""
    with torch.no_grad():
        y = f(x)
    dx, dy = (v.flatten(1)[:, None] - v.flatten(1)[None] for v in (x, y))
    size = torch.linalg.vector_norm(dx, p, dim=-1)
    return float((torch.linalg.vector_norm(dy, p, dim=-1)[size > 0] / size[size > 0]).max())


def attained(f, x, p=2):
    near = torch.cat([x, x + 1e-3 * torch.randn_like(x)])
    return max(jacobian_norm(f, x[:4], p), quotient(f, near, p))


# ------------------------------------------------------------------------------------------------- chains and closed forms


def test_a_linear_layer_has_its_norm():
    rng = fresh(0)
    for _ in range(20):
        m, n = rng.integers(1, 7, 2)
        layer = nn.Linear(n, m).double()
        truth = np.linalg.norm(layer.weight.detach().numpy(), 2)
        bound = lipschitz(layer)
        assert bound.lower <= truth * (1 + 1e-12) and truth <= bound.upper * (1 + 1e-15)
        assert bound.upper <= truth * (1 + 1e-6) and bound.domain == WholeSpace()


def test_float32_weights_are_the_numbers_that_count():
    layer = nn.Linear(5, 5)
    truth = np.linalg.norm(layer.weight.detach().numpy().astype(float), 2)
    assert lipschitz(layer).upper == pytest.approx(truth, rel=1e-6)
    assert lipschitz(layer).upper >= truth


def test_stacked_linear_layers_are_one_matrix():
    fresh(1)
    net = nn.Sequential(nn.Linear(4, 9), nn.Dropout(), nn.Identity(), nn.Linear(9, 3)).double().eval()
    product = (net[3].weight @ net[0].weight).detach().numpy()
    for p in (1, 2, math.inf):
        assert lipschitz(net, norm=(p, p)).upper == pytest.approx(np.linalg.norm(product, p), rel=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: str(a))
def test_every_activation_alone_has_its_largest_slope(activation):
    bound = lipschitz(activation.double(), input_shape=(1,))
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    slopes = torch.diff(activation(x)).detach().abs() / torch.diff(x)
    assert float(slopes.max()) <= bound.upper * (1 + 1e-9)
    assert bound.upper <= float(slopes.max()) * (1 + 1e-3)


def test_random_perceptrons_in_three_norms():
    rng = fresh(2)
    for case in range(40):
        sizes = rng.integers(1, 7, rng.integers(2, 5))
        layers = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(int(a), int(b)), copy.deepcopy(ACTIVATIONS[rng.integers(len(ACTIVATIONS))])]
        net = steeper(nn.Sequential(*layers[:-1]))
        x = 2 * torch.randn(12, int(sizes[0]), dtype=torch.float64)
        for p in (1, 2, math.inf):
            bound = lipschitz(net, norm=(p, p))
            assert attained(net, x, p) <= bound.upper * (1 + 1e-9), (case, p)
            product = math.prod(
                lipschitz(m, norm=(p, p), input_shape=(1,) if not hasattr(m, "in_features") else None).upper for m in net
            )
            assert bound.upper <= product * (1 + 1e-9)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_local_bounds_hold_and_tend_to_the_jacobian(p):
    rng = fresh(3)
    for _ in range(12):
        net = steeper(nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2)))
        center = rng.standard_normal(3)
        truth = jacobian_norm(net, torch.from_numpy(center)[None], p)
        uppers = []
        for radius in (1.0, 1e-2, 1e-6):
            domain = Ball(center, radius, p)
            x = torch.from_numpy(domain.sample(10, rng))
            bound = lipschitz(net, domain, norm=(p, p))
            assert (
                attained(net, torch.from_numpy(domain.sample(6, rng)), p)
                if radius == 0
                else jacobian_norm(net, x[:5], p) <= bound.upper
            )
            assert quotient(net, x, p) <= bound.upper * (1 + 1e-6 / radius)
            uppers.append(bound.upper)
        assert uppers[2] <= uppers[0] * (1 + 1e-12)
        assert uppers[2] == pytest.approx(truth, rel=1e-3)


def test_a_box_with_a_dead_layer_is_constant():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[0].bias.fill_(-100.0)
    bound = lipschitz(net, Box([-1, -1], [1, 1]))
    assert bound.upper == 0.0 and bound.kind == "exact"
    assert lipschitz(net).upper > 0


def test_a_zero_matrix_anywhere_makes_a_constant():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[2].weight.zero_()
    assert lipschitz(net).upper == 0.0


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e120])
def test_extreme_scales(scale):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    unit = lipschitz(net).upper
    with torch.no_grad():
        net[0].weight.mul_(scale)
        net[0].bias.mul_(scale)
    assert lipschitz(net).upper == pytest.approx(unit * scale, rel=1e-4)


def test_sawtooth_where_the_product_overestimates():
    # |x| = relu(x) + relu(-x) has constant 1; the product of the norms says 2.
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[2].weight.fill_(1.0)
    assert lipschitz(net, method="composition").upper == pytest.approx(2.0, rel=1e-6)
    assert lipschitz(net, method="sdp").upper == pytest.approx(1.0, rel=1e-3)
    assert lipschitz(net, method="exact").upper == pytest.approx(1.0, rel=1e-9)
    assert lipschitz(net).kind == "exact"


# --------------------------------------------------------------------------------------------- convolutions, pooling, norms


def images(shape, n=8):
    return torch.randn(n, *shape, dtype=torch.float64)


CONVOLUTIONAL = {
    "plain": lambda: (nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 2, stride=2)), (2, 6, 6)),
    "padded and pooled": lambda: (
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)), (1, 6, 6)),
    "overlapping pool": lambda: (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, stride=1)), (1, 7, 7)),
    "adaptive pool": lambda: (nn.Sequential(nn.Conv2d(1, 2, 2), nn.AdaptiveMaxPool2d(2)), (1, 6, 6)),
    "batch norm": lambda: (
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(1),
                      nn.Flatten()), (2, 5, 5)),
    "batch norm in front": lambda: (nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3), nn.BatchNorm1d(3)), (5,)),
    "groups, dilation": lambda: (
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2, dilation=2, padding=2), nn.Tanh(), nn.AvgPool2d(2)), (4, 6, 6)),
    "transposed": lambda: (nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.ReLU(), nn.Conv2d(3, 1, 3)), (2, 4, 4)),
    "one dimension": lambda: (
        nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), nn.ELU(), nn.AvgPool1d(2), nn.Flatten(),
                      nn.Linear(12, 2)), (2, 8)),
    "group norm": lambda: (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4, eps=0.1), nn.ReLU()), (2, 5, 5)),
    "instance norm": lambda: (nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3, eps=0.1, affine=True)), (2, 5, 5)),
    "zero padding": lambda: (nn.Sequential(nn.ZeroPad2d(2), nn.Conv2d(1, 2, 3), nn.Softmax(1)), (1, 4, 4)),
    "upsampled": lambda: (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 2, 3)), (1, 4, 4)),
    "pixel shuffle": lambda: (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)), (1, 6, 6)),
    "log softmax": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.LogSoftmax(1)), (1, 3, 3)),
    "layer norm of images": lambda: (nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm([2, 3, 3], eps=0.1)), (1, 5, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks(name):
    for seed in range(3):
        fresh(seed)
        net, shape = CONVOLUTIONAL[name]()
        steeper(net)
        for m in net.modules():
            if hasattr(m, "running_var") and m.running_var is not None:
                m.running_var.uniform_(0.3, 2.0)
                m.running_mean.normal_()
        bound = lipschitz(net, input_shape=shape)
        assert attained(net, images(shape)) <= bound.upper * (1 + 1e-9)
        assert bound.upper < 1e3


@pytest.mark.parametrize("p", [1, math.inf])
def test_convolutions_in_other_norms(p):
    for seed in range(3):
        fresh(seed)
        net = steeper(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, groups=1), nn.MaxPool2d(2)))
        bound = lipschitz(net, input_shape=(2, 6, 6), norm=(p, p))
        assert attained(net, images((2, 6, 6)), p) <= bound.upper * (1 + 1e-9)


def test_a_convolution_too_large_to_write_out():
    fresh(0)
    for conv in (
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, stride=2, groups=4),
        nn.ConvTranspose2d(8, 8, 3, stride=2, groups=2),
        nn.AvgPool2d(3, 2, 1),
    ):
        conv = conv.double()
        for p in (1, 2, math.inf):
            if isinstance(conv, nn.AvgPool2d) and p == 1:
                continue
            upper = lipschitz(conv, input_shape=(8, 20, 20), norm=(p, p)).upper
            x = torch.randn(6, 8, 20, 20, dtype=torch.float64)
            assert quotient(conv, x, p) <= upper
            if p == 2:
                v = torch.randn(1, 8, 20, 20, dtype=torch.float64)
                linear = lambda u, c=conv: c(u) - c(torch.zeros_like(u))  # noqa: E731
                for _ in range(60):
                    v = torch.autograd.functional.vjp(linear, v, linear(v))[1]
                    v = v / v.norm()
                reached = float(linear(v).norm().detach())
                assert reached <= upper <= 1.1 * reached


# ------------------------------------------------------------------------------------------------------------ user's forward


class Residual(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b, self.gain = nn.Linear(d, d), nn.Linear(d, d), nn.Parameter(torch.randn(d))

    def forward(self, x):
        h = x + 0.5 * F.gelu(self.a(x)) * self.gain
        return h - self.b(torch.tanh(h)) / 3.0


class Heads(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b = nn.Linear(d, 3), nn.Linear(d, 4)

    def forward(self, x):
        u, v = F.relu(self.a(x)), torch.sigmoid(self.b(x))
        left, right = torch.cat([u, v], dim=-1).split([2, 5], dim=-1)
        return torch.cat([left.sum(-1, keepdim=True), right.mean(dim=-1, keepdim=True), right[..., 1:3], -x], dim=-1)


class Gate(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x):
        return torch.sigmoid(self.a(x)) * torch.tanh(self.b(x))


class Shapes(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a = nn.Linear(d, d)
        self.b = nn.Linear(2 * d, 2)

    def forward(self, x):
        n = x.shape[0]
        h = F.relu(self.a(x)).unsqueeze(1).expand(n, 2, x.size(-1)).transpose(1, 2)
        h = torch.flatten(h.contiguous(), 1)
        return self.b(h).view(n, 2).softmax(dim=-1)


class Tied(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a = nn.Linear(d, d, bias=False)

    def forward(self, x):
        return F.linear(torch.stack([self.a(x), x], dim=1).sum(1), self.a.weight) @ self.a.weight


class Constant(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.c = nn.Parameter(torch.randn(1, d))

    def forward(self, x):
        return torch.cat([self.c, 0.0 * x], dim=-1) + 1.0


@pytest.mark.parametrize("kind", [Residual, Heads, Gate, Shapes, Tied, Constant])
@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_forward_functions_of_every_kind(kind, p):
    if kind is Shapes and p != 2:
        return
    for seed in range(4):
        fresh(seed)
        net = steeper(kind(4))
        x = 2 * torch.randn(10, 4, dtype=torch.float64)
        f = net
        if kind is Constant:
            assert lipschitz(net, input_shape=(4,), norm=(p, p)).upper == 0.0
            continue
        bound = lipschitz(f, input_shape=(4,), norm=(p, p))
        assert attained(f, x, p) <= bound.upper * (1 + 1e-9)
        box = Box(-np.ones(4), np.ones(4))
        local = lipschitz(f, box, norm=(p, p), input_shape=(4,))
        inside = torch.from_numpy(box.sample(10, np.random.default_rng(seed)))
        assert max(jacobian_norm(f, inside[:4], p), quotient(f, inside, p)) <= local.upper * (1 + 1e-9)


def test_affine_parts_of_one_source_are_added_before_norms_are_taken():
    class Cancel(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x):
            return self.a(x) - self.a(x) + 2 * x

    assert lipschitz(Cancel().double()).upper == pytest.approx(2.0, rel=1e-9)


def test_mixed_norms_lie_between():
    fresh(5)
    for _ in range(4):
        net = steeper(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
        x = torch.randn(30, 3, dtype=torch.float64)
        with torch.no_grad():
            y = net(x)
        for p, q in ((1, 2), (2, 1), (2, math.inf), (math.inf, 2), (1, math.inf), (math.inf, 1)):
            dx, dy = (v[:, None] - v[None] for v in (x, y))
            size = torch.linalg.vector_norm(dx, p, dim=-1)
            found = float((torch.linalg.vector_norm(dy, q, dim=-1)[size > 0] / size[size > 0]).max())
            bound = lipschitz(net, norm=(p, q))
            assert found <= bound.upper and bound.norm == (p, q)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        x = F.dropout(F.avg_pool2d(x, 2, stride=1), 0.5, training=self.training)
        return F.layer_norm(x.permute(0, 2, 3, 1).flatten(1), (2,), eps=0.1)


def test_functions_in_place_of_layers():
    for seed in range(3):
        fresh(seed)
        net = steeper(Pooled())
        x = torch.randn(8, 1, 6, 6, dtype=torch.float64)
        assert attained(net, x) <= lipschitz(net, input_shape=(1, 6, 6)).upper


@pytest.mark.parametrize("kind", [Residual, Heads, Gate])
def test_lower_ends_are_attained(kind):
    for seed in range(3):
        rng = fresh(seed)
        net = steeper(kind(4))
        for domain in (Ball(np.zeros(4), 1.0), Box(-np.ones(4), np.ones(4)), WholeSpace()):
            bound = lipschitz(net, domain, input_shape=(4,), rng=rng)
            assert 0 < bound.lower <= bound.upper or bound.upper == math.inf
            a, b = (torch.from_numpy(v)[None] for v in (bound.witness.a, bound.witness.b))
            with torch.no_grad():
                found = float((net(a) - net(b)).norm() / (a - b).norm())
            assert found >= bound.lower * (1 - 1e-9)


def test_perceptrons_of_the_book_one_member_at_a_time():
    from limitlib.models import GainMLP, ResidualMLP

    fresh(0)
    net = GainMLP([1.3], [0], depth=5, width=8, classes=3, activation="tanh", dtype=torch.float64)
    hidden = np.linalg.norm(net.readout[0].detach().numpy(), 2) * 1.3**5
    assert lipschitz(net, method="composition").upper == pytest.approx(hidden, rel=1e-6)
    for settings in ({"norm": False}, {"norm": True, "affine": True}, {"norm": True, "final_norm": True}):
        net = ResidualMLP([1.1], [0], depth=2, width=6, classes=3, dtype=torch.float64, **settings)
        bound = lipschitz(net)
        x = torch.randn(8, 6, dtype=torch.float64)
        assert jacobian_norm(lambda v, net=net: net(v)[0], x) <= bound.upper
    with pytest.raises(UnsupportedLayer, match="ensemble of 2 members"):
        lipschitz(GainMLP([1.0, 1.1], [0, 1], depth=2, width=4))


# -------------------------------------------------------------------------------------------------------- reparametrisations


def test_parametrised_and_weight_normed_layers():
    fresh(0)
    plain = nn.Linear(4, 4).double()
    truth = np.linalg.norm(plain.weight.detach().numpy(), 2)
    assert lipschitz(parametrizations.weight_norm(plain)).upper == pytest.approx(truth, rel=1e-6)
    old = nn.Linear(4, 4).double()
    truth = np.linalg.norm(old.weight.detach().numpy(), 2)
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(old)
    assert lipschitz(old).upper == pytest.approx(truth, rel=1e-6)
    spectral = parametrizations.spectral_norm(nn.Linear(6, 6).double()).eval()
    truth = np.linalg.norm(spectral.weight.detach().numpy(), 2)
    assert lipschitz(spectral).upper == pytest.approx(truth, rel=1e-6)
    assert truth >= 0.99  # power iteration divides by a lower estimate, so "1-Lipschitz" is not certified
    orthogonal = parametrizations.orthogonal(nn.Linear(5, 5).double())
    assert lipschitz(nn.Sequential(orthogonal, nn.ReLU(), orthogonal)).upper == pytest.approx(1.0, rel=1e-3)


# ------------------------------------------------------------------------------------------------------ tokens and shells


class PreNorm(nn.Module):
    def __init__(self, d, norm):
        super().__init__()
        self.norm, self.a, self.b = norm, nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        return x + self.b(F.gelu(self.a(self.norm(x))))


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_pre_norm_perceptron_on_a_shell(kind):
    for seed in range(5):
        rng = fresh(seed)
        d, r = 6, 1.5
        block = steeper(PreNorm(d, getattr(nn, kind)(d)))
        shell = Shell(r, centred=kind == "LayerNorm")
        bound = lipschitz(block, shell)
        x = rng.standard_normal((60, d)) * rng.uniform(0.5, 3, (60, 1))
        x = torch.from_numpy(x[shell.contains(x)])
        assert attained_pairs(block, x) <= bound.upper
        assert lipschitz(block).upper > 3 * bound.upper  # without the shell: 1 / sqrt(eps)
        assert "shell" in bound.source


def attained_pairs(f, x):
    return max(jacobian_norm(f, x[:6]), quotient(f, x))


def test_a_plain_shell_does_not_help_layer_norm_and_the_source_says_so():
    block = PreNorm(5, nn.LayerNorm(5)).double()
    plain, centred = lipschitz(block, Shell(2.0)), lipschitz(block, Shell(2.0, centred=True))
    assert plain.upper == pytest.approx(lipschitz(block).upper, rel=1e-6) and "constant vectors" in plain.source
    assert centred.upper < plain.upper / 10


def test_each_norm_layer_may_have_its_shell():
    net = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 5), nn.LayerNorm(5)).double()
    both = lipschitz(net, NormShells({"0": Shell(1.0, centred=True), "2": Shell(0.5, centred=True)}))
    one = lipschitz(net, NormShells({"0": Shell(1.0, centred=True)}))
    assert both.upper < one.upper < lipschitz(net).upper
    assert both.upper == pytest.approx(
        lipschitz(net, NormShells({"": Shell(1.0, centred=True), "2": Shell(0.5, centred=True)})).upper
    )


def test_layer_norm_gain_is_folded_into_the_next_matrix():
    norm, linear = nn.LayerNorm(4), nn.Linear(4, 3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([10.0, 1.0, 1.0, 1.0]))
        linear.weight[:, 0] = 0.0
    net = nn.Sequential(norm, linear).double()
    W = linear.weight.detach().numpy() * norm.weight.detach().numpy() @ (np.eye(4) - 0.25)
    assert lipschitz(net).upper == pytest.approx(np.linalg.norm(W, 2) / math.sqrt(1e-5), rel=1e-6)


def test_tokens_share_one_constant():
    fresh(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    assert lipschitz(net, tokens=7).upper == pytest.approx(lipschitz(net).upper, rel=1e-9)
    small = lipschitz(net, TokenBall(0.1), tokens=7).upper
    assert small <= lipschitz(net).upper * (1 + 1e-12)
    x = 0.1 * F.normalize(torch.randn(20, 7, 3, dtype=torch.float64), dim=-1)
    assert attained_pairs(net, x) <= small


# ------------------------------------------------------------------------------------------------------------------ refusals


def test_errors_name_the_argument_the_value_and_the_fix():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"torch\.nn\.Module; got function"):
        lipschitz(lambda x: x)
    with pytest.raises(ValueError, match="method='fast' is unknown"):
        lipschitz(net, method="fast")
    with pytest.raises(ValueError, match="exponents 1, 2 and inf"):
        lipschitz(net, norm=(3, 3))
    with pytest.raises(ValueError, match="budget=0"):
        lipschitz(net, budget=0)
    with pytest.raises(ValueError, match="tokens=0"):
        lipschitz(net, tokens=0)
    with pytest.raises(ValueError, match="center has 3 entries"):
        lipschitz(net, Ball(np.zeros(3), 1.0), input_shape=(2,))
    with pytest.raises(ValueError, match="input_shape"):
        lipschitz(net, input_shape=(5,))
    with pytest.raises(ValueError, match="input_shape is needed"):
        lipschitz(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match="fully connected ReLU"):
        lipschitz(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3)), method="exact")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_named_with_its_path(dtype):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).to(dtype))
    with pytest.raises(ValueError, match=r"1\.weight is b?float16; convert with \.float\(\)"):
        lipschitz(net)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(bad):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        net[1].bias[0] = bad
    with pytest.raises(ValueError, match=r"1\.bias holds NaN or inf"):
        lipschitz(net)


def test_training_mode_matters_only_where_it_does():
    assert lipschitz(nn.Sequential(nn.Linear(2, 2), nn.ReLU()).train()).upper > 0
    for layer in (nn.Dropout(), nn.BatchNorm1d(2), parametrizations.spectral_norm(nn.Linear(2, 2))):
        with pytest.raises(ValueError, match=r"training mode; call \.eval\(\)"):
            lipschitz(nn.Sequential(nn.Linear(2, 2), layer).train())


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Squares(nn.Module):
    def forward(self, x):
        return x**2


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real


@pytest.mark.parametrize(("module", "words"), [
    (Branches(), "cannot be traced"), (Squares(), "no rule for the function 'pow'"), (Fourier(), "no rule for the function"),
    (nn.Embedding(5, 3), "indices"), (nn.GRU(3, 3), "GRU"), (nn.Bilinear(2, 2, 2), "Bilinear"),
])  # fmt: skip
def test_layers_without_a_rule_are_named(module, words):
    with pytest.raises(UnsupportedLayer, match=words) as caught:
        lipschitz(nn.Sequential(nn.Identity(), module), input_shape=(3,))
    assert isinstance(caught.value, TypeError) and caught.value.fix


def test_hooks_are_refused():
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].register_forward_hook(lambda m, i, o: 2 * o)
    with pytest.raises(UnsupportedLayer, match="forward hook"):
        lipschitz(net)


class Overwrites(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.act, self.a = how, nn.ReLU(inplace=True), nn.Linear(3, 3)

    def forward(self, x):
        h = self.a(x)
        if self.how == "layer":
            return self.act(h) + h
        if self.how == "function":
            return F.relu(h, inplace=True) * 1.0 + h
        if self.how == "method":
            return h.mul_(3.0) + h
        if self.how == "view":
            v = h.view(-1, 3)
            h += 1.0
            return v + x
        h = self.act(h)
        h += x
        return self.act(h)


@pytest.mark.parametrize("how", ["layer", "function", "method", "view"])
def test_overwriting_a_value_that_is_read_later_is_refused(how):
    with pytest.raises(UnsupportedLayer, match="in place"):
        lipschitz(Overwrites(how))


def test_overwriting_a_value_that_is_not_needed_is_harmless():
    fresh(0)
    net = steeper(Overwrites("harmless"))
    assert quotient(net, torch.randn(9, 3, dtype=torch.float64)) <= lipschitz(net).upper


def test_a_subclass_with_its_own_forward_is_traced_and_not_taken_for_its_parent():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = Doubled(3, 3).double()
    truth = 2 * np.linalg.norm(layer.weight.detach().numpy(), 2)
    assert lipschitz(nn.Sequential(layer)).upper == pytest.approx(truth, rel=1e-6)


def test_unbounded_products_are_infinite_with_the_reason():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)

        def forward(self, x):
            return x * self.a(x)

    bound = lipschitz(Product())
    assert bound.upper == math.inf and "unbounded" in bound.source
    assert math.isfinite(lipschitz(Product(), Ball(np.zeros(2), 1.0)).upper)


def test_the_module_is_left_as_it_was():
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2), nn.BatchNorm1d(2)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    lipschitz(net, input_shape=(1, 6), rng=np.random.default_rng(0))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(not m._forward_hooks and not m.training for m in net.modules())


class Whole(nn.Module):
    def forward(self, x):
        return x.to(torch.int64).float()


class JumpingSoftplus(nn.Module):
    def forward(self, x):
        return F.softplus(x, 1.0, 0.1)


class Louder(nn.Linear):
    def __call__(self, x):
        return 10 * super().__call__(x)


class Scaled(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 10 * weight, bias)


def replaced_on_the_instance():
    made = nn.Linear(3, 3)
    made.forward = lambda x: 10 * x
    return made


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [
        (Whole(), (3,), "jumps"),
        (JumpingSoftplus(), (3,), "leave threshold at 20"),
        (Louder(3, 3), (3,), "__call__"),
        (nn.Sequential(Louder(3, 3)), (3,), "__call__"),
        (replaced_on_the_instance(), (3,), "replaced on the instance"),
        (Scaled(3, 64, 3), (3, 32, 32), "_conv_forward"),
        (nn.LSTM(3, 3), (3,), "no rule for LSTM"),
        (nn.DataParallel(nn.Linear(3, 3)), (3,), "model.module"),
        (nn.MaxPool1d(2, return_indices=True), (1, 8), "several values"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(module, shape, said):
    with pytest.raises(UnsupportedLayer, match=said):
        lipschitz(module.eval(), input_shape=shape)


def test_a_wrong_number_of_channels_names_the_layer_and_the_argument():
    with pytest.raises(ValueError, match=r"^0: an input of shape .* input_shape="):
        lipschitz(nn.Sequential(nn.Conv2d(1, 2, 3)), input_shape=(3, 8, 8))


def test_somebody_elses_class_of_a_known_name_is_not_taken_for_torchs():
    class Tanh(nn.Module):
        def forward(self, x):
            return 7 * torch.tanh(x)

    class LayerNorm(nn.Module):  # as in nanoGPT: no normalized_shape
        def forward(self, x):
            return F.layer_norm(x, (4,), None, None, 1e-5)

    found = lipschitz(nn.Sequential(Tanh()), input_shape=(4,)).upper
    assert 7 <= found <= 7 * (1 + 1e-9)
    assert lipschitz(LayerNorm(), input_shape=(4,)).upper >= 1 / math.sqrt(1e-5) * (1 - 1e-9)


def test_an_adapter_in_a_linear_layers_place_is_refused():
    class Adapter(nn.Module):  # shows the weight of what it wraps, as the adapters of peft do
        def __init__(self, base):
            super().__init__()
            self.base = base

        weight = property(lambda self: self.base.weight)
        bias = property(lambda self: self.base.bias)

        def forward(self, x):
            return 5 * self.base(x)

    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    layer.linear1 = Adapter(layer.linear1)
    with pytest.raises(UnsupportedLayer, match="linear1: Adapter where a Linear is expected"):
        lipschitz(layer, tokens=3)
