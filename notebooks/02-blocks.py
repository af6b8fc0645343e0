# %% [markdown]
# # Blocks: which of them expand, and by how much
# When a residual block, an attention layer or a normalisation layer is nonexpansive, decided exactly where that is possible
# and by brackets elsewhere. The statements and proofs are in the [chapter](../../book/02-blocks.md).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import itertools
import math

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import nn
from torch.nn import functional as F

# %%
from limitlib import companion, corpora
from limitlib.bounds import Ball, Shell, TokenBall, WholeSpace
from limitlib.companion import PALETTE, direct_label
from limitlib.lipschitz import (
    ascent_lower,
    attention_bound,
    averaged_composition,
    layer_bound,
    lipschitz,
    relu_exact,
    sdp_upper,
)
from limitlib.operators import operator_norm

# %%
P = companion.profile(
    profile,
    smoke=dict(seeds=1, steps=30, width=8, depths=(1, 2), hidden=4, seconds=2.0, radii=4, shells=3, cloud=300, covers=4),
    cpu=dict(seeds=3, steps=400, width=12, depths=(1, 2, 3, 4), hidden=5, seconds=60, radii=9, shells=9, cloud=1347, covers=9),
)

# %% [markdown]
# ## Small residual networks on digits
# The digits, reduced to their first principal axes, are classified by three residual blocks and a readout. The branch of a
# block is one hidden layer, as wide as its input. Four kinds: a free ReLU branch; a convex potential branch
# $-2W^\top\mathrm{relu}(Wx+b)$ with $\|W\|=1$; a GELU branch behind LayerNorm (pre-norm); LayerNorm after the sum (post-norm).

# %%
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # many small products
rng = np.random.default_rng(seed)
width = P["width"]
data = corpora.digits()
principal = np.linalg.svd(data.x, full_matrices=False)[2][:width].T
unit = (data.x @ principal).std()
inputs, tests = (torch.tensor(x @ principal / unit) for x in (data.x, data.x_test))
labels, test_labels = torch.tensor(data.y), torch.tensor(data.y_test)


def gaussian(draw, rows, columns):
    return torch.tensor(draw.standard_normal((rows, columns)) / math.sqrt(columns))


# %%
def linear(draw, inputs, outputs):
    """A linear layer with Gaussian weights of variance 1/inputs and zero bias."""
    layer = nn.Linear(inputs, outputs)
    layer.weight.data, layer.bias.data = gaussian(draw, outputs, inputs), torch.zeros(outputs)
    return layer


# %%
class Potential(nn.Module):
    """The branch -2 W' relu(W x + b) with W divided by its norm: a full gradient step on a convex potential."""

    def __init__(self, draw):
        super().__init__()
        self.inner = linear(draw, width, width)

    def weight(self):
        return self.inner.weight / torch.linalg.matrix_norm(self.inner.weight, 2)

    def forward(self, x):
        W = self.weight()
        return -2 * torch.relu(x @ W.T + self.inner.bias) @ W


# %%
class Residual(nn.Module):
    """The blocks x + f(x), x + f(LN(x)) and LN(x + f(x)); the norm has no gain and no bias."""

    def __init__(self, draw, kind):
        super().__init__()
        self.kind, act = kind, nn.ReLU() if kind == "free" else nn.GELU()
        hidden_layer = (linear(draw, width, width), act, linear(draw, width, width))
        self.branch = Potential(draw) if kind == "potential" else nn.Sequential(*hidden_layer)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, x):
        if self.kind == "post-norm":
            return self.norm(x + self.branch(x))
        return x + self.branch(self.norm(x) if self.kind == "pre-norm" else x)


def weights(branch):
    """Inner and outer weight of a branch."""
    return (branch.weight(), -2 * branch.weight().T) if isinstance(branch, Potential) else (branch[0].weight, branch[2].weight)


# %%
def train(net, x, draw):
    """Minibatch Adam on the cross-entropy of the digits; the net comes back frozen."""
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(P["steps"]):
        batch = draw.integers(0, len(labels), 128)
        optimiser.zero_grad()
        F.cross_entropy(net(x[batch]), labels[batch]).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


# %%
nets = {}
kinds = ("free", "potential", "pre-norm", "post-norm")
for kind, s in itertools.product(kinds, range(P["seeds"])):
    draw = np.random.default_rng([seed + s, 2])
    blocks = [Residual(draw, kind) for _ in range(3)]
    nets[kind, s] = train(nn.Sequential(*blocks, linear(draw, width, 10)), inputs, draw)
for kind in kinds:
    found = [float((nets[kind, s](tests).argmax(1) == test_labels).double().mean()) for s in range(P["seeds"])]
    companion.record(f"K9.accuracy_{kind.replace('-', '_')}", np.mean(found), fmt=".3f", badge="measured", seeds=P["seeds"])

# %% [markdown]
# ## The exact constant of a residual ReLU block (theorem T1.5b)
# The rows of the inner weight are independent, so every pattern of active units occurs on an open region, and the constant of
# $I+hF$ is the largest norm over all patterns. What comes out: every free block expands at every step, and the potential
# blocks keep the constant one up to their full step.

# %%
patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=width)))


def pattern_jacobians(branch):
    """The Jacobians of a one-hidden-layer ReLU branch, one for each pattern; (patterns, width, width)."""
    inner, outer = weights(branch)
    return (outer * patterns[:, None, :]) @ inner


# %%
def exact_constant(jacobians, h):
    J = torch.eye(width) + h * jacobians
    return float(torch.linalg.eigvalsh(J.mT @ J)[:, -1].max().sqrt())


branches = {k: [b.branch for s in range(P["seeds"]) for b in nets[k, s][:3]] for k in kinds}
companion.record("K9.seeds", P["seeds"])
smallest = min(float(torch.linalg.svdvals(weights(b)[0])[-1]) for k in ("free", "potential") for b in branches[k])
companion.record("K9.rows_independent", smallest, badge="measured", seeds=P["seeds"])

# %%
free = [pattern_jacobians(b) for b in branches["free"]]
potential = [pattern_jacobians(b) for b in branches["potential"]]
companion.record("K9.free_lip_least", min(exact_constant(J, 1.0) for J in free), fmt=".3f", badge="measured", seeds=P["seeds"])
companion.record("K9.free_lip_most", max(exact_constant(J, 1.0) for J in free), fmt=".3f", badge="measured", seeds=P["seeds"])
dahlquist = [float(torch.linalg.eigvalsh((J + J.mT) / 2)[:, -1].max()) for J in free]
companion.record("K9.free_dahlquist_least", min(dahlquist), fmt=".3f", badge="measured", seeds=P["seeds"])
for key, h in (("1", 1.0), ("12", 1.2)):
    companion.record(f"K9.potential_lip_{key}", max(exact_constant(J, h) for J in potential), fmt=".9f", badge="theory")

# %% [markdown]
# Theorem T1.5b says more: to be nonexpansive at any step, every unit must write against the direction from which it reads.
# The cosines between the two directions tell how far the trained units are from that; in the potential blocks all are minus
# one.

# %%
cosine = {k: torch.cat([F.cosine_similarity(o.T, i, dim=1) for i, o in (weights(b) for b in branches[k])]) for k in kinds}
for kind in ("free", "potential"):
    companion.record(f"K9.cosine_{kind}_most", float(cosine[kind].max()), fmt=".3f", badge="measured", seeds=P["seeds"])
companion.record("K9.units_along", float((cosine["free"] > 0).double().mean()), fmt=".2f", badge="measured", seeds=P["seeds"])

# %% [markdown]
# ### Break: a unit that writes across what it reads
# One unit of the plane reads $(1,1)$ and writes $-e_1$. Its Jacobian has negative trace, and still no step makes it
# nonexpansive, because its kernel is not that of the transpose.

# %%
oblique = np.array([[-1.0, -1.0], [0.0, 0.0]])
companion.record("K9.oblique_unit_lip", np.linalg.norm(np.eye(2) + 0.5 * oblique, 2), fmt=".6f")

# %% [markdown]
# ### Break: a unit that is not monotone
# The same tied block with GELU in the place of ReLU. GELU falls on part of the line, and there the block pushes outward. For
# gain $c=h\|W\|^2\le2$ its constant is $1-cm$, with $m=1-1.128904\ldots$ the least slope of GELU. A pair of points attains it.

# %%
tied = weights(branches["potential"][0])[0]
where = torch.linalg.solve(tied, torch.full((width,), -math.sqrt(2.0)))
step = 1e-5 * torch.linalg.svd(tied)[2][0]
tied_gelu = lambda x: x - F.gelu(x @ tied.T) @ tied  # noqa: E731
attained = (tied_gelu(where + step) - tied_gelu(where - step)).norm() / (2 * step.norm())
companion.record("K9.gelu_tied_lip", float(attained), fmt=".6f", badge="theory")

# %% [markdown]
# ## How averagedness composes with depth (theorem T1.5c)
# The quantity $\alpha/(1-\alpha)$ adds along the depth. With ten blocks of constant one half the stack is averaged with ten
# elevenths. Small rotations attain this, so no better constant can be proved.


# %%
def attained_averagedness(alphas, size=1e-3):
    """Averagedness of a product of planar rotation averages at small angles in the worst proportion."""
    a = np.asarray(alphas)
    Q = np.outer(a, a) + np.diag(a * (1 - a))
    theta = size * np.linalg.solve(Q, a)
    z = np.prod(1 - a + a * np.exp(1j * theta))
    return abs(1 - z) ** 2 / (2 * (1 - z).real)


def composed(alphas):
    total = alphas[0]
    for a in alphas[1:]:
        total = averaged_composition(total, a)
    return total


# %%
depths = np.unique(np.geomspace(1, 100, 13).astype(int))
along = {a: [composed([a] * n) for n in depths] for a in (0.1, 0.5)}
shown = {a: [attained_averagedness([a] * n, 1e-3 / n) for n in depths] for a in along}
companion.record("K9.averaged_depth10", composed([0.5] * 10), fmt=".6f", badge="theory")
companion.record("K9.averaged_depth10_attained", attained_averagedness([0.5] * 10, 1e-4), fmt=".6f")
summable = composed([0.5 / i**2 for i in range(1, 100_001)])
companion.record("K9.averaged_summable", summable, fmt=".6f", badge="theory")

# %%
steps = np.linspace(0, 1.4, 29 if profile != "smoke" else 8)
curves = {f"free {i}": [exact_constant(J, h) for h in steps] for i, J in enumerate(free[:3])}
curves["potential"] = [exact_constant(potential[0], h) for h in steps]
rows = [{"panel": "step", "curve": k, "x": x, "value": v} for k in curves for x, v in zip(steps, curves[k], strict=True)]
for name, kept in (("composed", along), ("attained", shown)):
    rows += [{"panel": f"depth, {name}", "curve": a, "x": n, "value": v}
             for a in kept for n, v in zip(depths, kept[a], strict=True)]  # fmt: skip
alt = """Left: the exact Lipschitz constant of three trained ReLU residual blocks rises above one at every positive step, while
a convex potential block keeps the value one up to its full step and rises after it. Right: the averagedness constant of a
stack rises towards one with depth, along the curve n a / (1 + (n - 1) a), which small rotations attain."""

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.4)
for k, curve in curves.items():
    look = dict(color=PALETTE["blue"], marker="o") if k == "potential" else dict(color=PALETTE["vermillion"], marker="s")
    left.plot(steps, curve, ls="-", ms=3.5, markevery=4, **look)
left.axhline(1, color=PALETTE["black"], ls="--", marker="", lw=1.2)
direct_label(left, 0.05, 3.9, "three trained\nReLU blocks", "vermillion", xytext=(0, 0))
direct_label(left, 0.98, 0.72, "convex potential block", "blue", xytext=(0, 0), ha="center")
left.set(xlabel="step h, 1 = as trained (no unit)", ylabel="Lip(I + hF), exact (no unit)", ylim=(0.5, 6.6), xlim=(0, 1.45))
left.set_title("A trained ReLU block expands\nat every step")
# %%
for a, colour, marker in ((0.1, "green", "^"), (0.5, "purple", "D")):
    right.plot(depths, along[a], color=PALETTE["black"], ls="--", marker="", lw=1.2)
    right.plot(depths, shown[a], color=PALETTE[colour], ls="", marker=marker)
direct_label(right, 6, 0.30, "each block 0.1-averaged", "green", xytext=(0, 0))
direct_label(right, 0.75, 0.93, "each block\n½-averaged", "purple", xytext=(0, 0))
right.set(xlabel="number of blocks n", ylabel="averagedness of the stack (no unit)", xscale="log",
          ylim=(0, 1.05), xlim=(0.7, 130))  # fmt: skip
right.set_xticks([1, 10, 100], ["1", "10", "100"])
right.set_title("Depth spends averagedness:\nα/(1−α) adds up")
companion.save_figure(fig, "02-blocks-residual", alt=alt, data=rows, badge="measured")

# %% [markdown]
# ## What an upper bound is worth: four numbers for one network
# ReLU networks on digits with one to four hidden layers. For each: the product of the layers' norms, the semidefinite bound,
# the exact constant by branch and bound over the linear pieces, and the slope that gradient ascent attains. The order
# attained, exact, semidefinite, product is a theorem; how far apart they are is not. Where branch and bound leaves a gap, the
# upper bounds are divided by its lower end and the attained slope by its upper end.

# %%
hidden, small = P["hidden"], inputs[:, : P["hidden"]]


def four_numbers(depth, s):
    """Product of norms, semidefinite bound, exact constant and attained slope of one trained ReLU network."""
    draw = np.random.default_rng([seed + s, 3, depth])
    layers = [m for _ in range(depth) for m in (linear(draw, hidden, hidden), nn.ReLU())]
    net = train(nn.Sequential(*layers, linear(draw, hidden, 10)), small, draw)
    kernels, biases = zip(*((m.weight.numpy(), m.bias.numpy()) for m in net if isinstance(m, nn.Linear)), strict=True)
    exact = relu_exact(kernels, biases, WholeSpace(), max_seconds=P["seconds"])
    product = math.prod(operator_norm(W).upper for W in kernels)
    attained = ascent_lower(net, WholeSpace(), shape=hidden, rng=draw).lower
    return dict(product=product, sdp=sdp_upper(kernels).upper, exact=exact.upper, exact_lower=exact.lower, attained=attained)


ladder = []
for depth, s in itertools.product(P["depths"], range(P["seeds"])):
    ladder.append(dict(depth=depth, seed=s, **four_numbers(depth, s)))
    companion.progress(len(ladder), len(P["depths"]) * P["seeds"], "networks")

# %%
unit_of = {"product": "exact_lower", "sdp": "exact_lower", "attained": "exact"}  # each on its unfavourable side
share = {k: np.array([r[k] / r[u] for r in ladder]).reshape(-1, P["seeds"]) for k, u in unit_of.items()}
measured = dict(fmt=".3f", badge="measured", seeds=P["seeds"])
companion.record("K9.ladder_product", share["product"][-1].mean(), **measured)
companion.record("K9.ladder_product_one_layer", share["product"][0].mean(), **measured)
companion.record("K9.ladder_sdp", share["sdp"].max(), **measured)
companion.record("K9.ladder_attained", share["attained"].min(), **measured)
ordered = all(r["attained"] <= r["exact"] and r["exact_lower"] <= r["sdp"] and r["sdp"] <= r["product"] for r in ladder)
companion.record("K9.ladder_ordered", ordered, badge="measured")
companion.record("K9.ladder_width", max(r["exact"] / r["exact_lower"] - 1 for r in ladder), fmt=".1e", badge="measured")

# %%
fig, ax = companion.new_figure(height=3.2)
looks = {"product": ("vermillion", "s", "product of the norms"), "sdp": ("purple", "D", "semidefinite bound"),
         "attained": ("blue", "^", "attained by ascent")}  # fmt: skip
for shift, (key, (colour, marker, text)) in zip((0, 0, 0.04), looks.items(), strict=True):
    ax.plot(P["depths"], share[key].mean(axis=1), color=PALETTE[colour], marker="", ls="-")
    for column in share[key].T:
        ax.plot(np.array(P["depths"]) + shift, column, color=PALETTE[colour], marker=marker, ls="", mfc="white")
    direct_label(ax, {"product": 1.75}.get(key, 2.1), {"product": 2.1, "sdp": 1.19, "attained": 0.78}[key], text, colour)
ax.axhline(1, color=PALETTE["black"], ls="--", marker="", lw=1.2)
ax.set(xlabel="hidden layers", ylabel="in units of the exact\nconstant (no unit)", ylim=(0.6, None))
ax.set(xticks=list(P["depths"]), xlim=(0.9, P["depths"][-1] + 0.15))
title = """The product of norms overstates the constant of trained
ReLU networks up to several times; the semidefinite bound far less"""
ax.set_title(title)
alt = """Relative to the exact Lipschitz constant of small trained ReLU networks, the product of the layers' norms grows with
depth well above one, the semidefinite bound stays much closer from above, and gradient ascent never above one."""
companion.save_figure(fig, "02-blocks-ladder", alt=alt, data=ladder, badge="measured")

# %% [markdown]
# ## Attention on a token ball (theorem T1.8a)
# One head on four tokens of width four, with Gaussian weights. For tokens in a ball of radius $R$: the slope that is attained,
# the kernel's bound, the simple bound proved in the chapter, and the bound of Castin, Ablin and Peyré.

# %%
n, d = 4, 4
Wq, Wk, Wv = (rng.standard_normal((d, d)) / math.sqrt(d) for _ in range(3))
a, v = np.linalg.norm(Wq.T @ Wk, 2) / math.sqrt(d), np.linalg.norm(Wv, 2)


def simple_bound(R):
    p = 1 / (1 + (n - 1) * math.exp(-2 * a * R**2))
    return v * (math.sqrt(n * p) + a * R**2 * (1 + math.sqrt(n * p)))


def castin_bound(R):
    return math.sqrt(3) * v * math.sqrt(a**2 * R**4 * (4 * n + 1) + n)


def attention(x):
    """The head on tokens of shape (..., n, d)."""
    q, k, value = (x @ torch.tensor(W).T for W in (Wq, Wk, Wv))
    return torch.softmax(q @ k.mT / math.sqrt(d), -1) @ value

# %%
balls = []
for R in np.geomspace(0.1, 30, P["radii"]):
    kernel = attention_bound(Wq, Wk, Wv, domain=TokenBall(R), tokens=n, rng=np.random.default_rng([seed, 4]))
    balls.append(dict(R=R, attained=kernel.lower, kernel=kernel.upper, simple=simple_bound(R), castin=castin_bound(R)))
    companion.progress(len(balls), P["radii"], "token balls")
ratio = np.array([[b[k] / b["attained"] for k in ("kernel", "simple", "castin")] for b in balls])
companion.record("K9.attention_bracket_worst", float(ratio[:, 0].max()), fmt=".2f", badge="measured")
companion.record("K9.attention_against_castin", float(np.max(ratio[:, 0] / ratio[:, 2])), fmt=".2f", badge="measured")
companion.record("K9.attention_against_simple", float(np.max(ratio[:, 0] / ratio[:, 1])), fmt=".2f", badge="measured")
companion.record("K9.attention_small_ball", balls[0]["kernel"] / v, fmt=".3f", badge="theory")
companion.record("K9.attention_attained_least", balls[0]["attained"] / v, fmt=".3f", badge="measured")
growth = np.log(balls[-1]["kernel"] / balls[-2]["kernel"]) / np.log(balls[-1]["R"] / balls[-2]["R"])
companion.record("K9.attention_growth", growth, fmt=".3f", badge="theory")

# %% [markdown]
# Around a fixed token matrix the ball may shrink. The bound must then tend to the Jacobian norm at the centre, and the sum of
# three norms does not.

# %%
centre = rng.standard_normal((n, d))
jacobian = torch.func.jacrev(attention)(torch.tensor(centre)).reshape(n * d, n * d).numpy()
slope = operator_norm(jacobian)
locals_ = []
for r in np.geomspace(1e-6, 1.0, P["radii"]):
    local = attention_bound(Wq, Wk, Wv, domain=Ball(centre.ravel(), r), tokens=n, rng=np.random.default_rng([seed, 5]))
    R = r + np.linalg.norm(centre, axis=1).max()
    locals_.append(dict(r=r, lower=max(local.lower, slope.lower), upper=local.upper, simple=simple_bound(R)))
companion.record("K9.attention_local_limit", locals_[0]["upper"] / slope.upper, fmt=".6f", badge="theory")
companion.record("K9.attention_simple_at_centre", locals_[0]["simple"] / slope.upper, fmt=".1f", badge="measured")

# %%
rows = [dict(panel="token ball", x=b["R"], attained=b["attained"], kernel=b["kernel"], simple=b["simple"], castin=b["castin"])
        for b in balls]  # fmt: skip
rows += [dict(panel="around a point", x=b["r"], attained=b["lower"], kernel=b["upper"], simple=b["simple"], castin=None)
         for b in locals_]  # fmt: skip

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.5)
looks = {"castin": ("vermillion", "s", "-"), "simple": ("purple", "D", "-"), "kernel": ("black", "", "--"),
         "attained": ("blue", "o", "")}  # fmt: skip
for key, (colour, marker, dash) in looks.items():
    left.loglog([b["R"] for b in balls], [b[key] for b in balls], color=PALETTE[colour], marker=marker, ls=dash)
left.set(xlabel="token radius R (no unit)", ylabel="Lipschitz constant of the head (no unit)")
left.set_title("Attention on a token ball:\nboth ends grow like R²")
texts = (("castin", "Castin et al. 2024", -6, 4, "right"), ("simple", "T1.8a", -7, 3, "right"),
         ("kernel", "kernel", 6, -6, "left"), ("attained", "attained", 6, -5, "left"))  # fmt: skip
for key, text, dx, dy, side in texts:
    spot = balls[2 * len(balls) // 3]
    direct_label(left, spot["R"], spot[key], text, looks[key][0], xytext=(dx, dy), ha=side)

# %%
for key, colour, marker, dash in (("simple", "purple", "D", "-"), ("upper", "black", "", "--"), ("lower", "blue", "o", "")):
    right.loglog([b["r"] for b in locals_], [b[key] for b in locals_], color=PALETTE[colour], marker=marker, ls=dash)
direct_label(right, 1e-6, locals_[0]["simple"], "T1.8a on the enclosing token ball", "purple", xytext=(0, -11))
direct_label(right, 1e-3, 5, "kernel", "black", xytext=(4, 0))
direct_label(right, 1e-6, 1.75, "attained", "blue", xytext=(0, 0))
right.set_yticks([2, 5, 10, 20, 40], ["2", "5", "10", "20", "40"])
right.yaxis.minorticks_off()
right.set(ylim=(1.55, 50), xlabel="radius r of the ball about one point (no unit)", ylabel="Lipschitz constant (no unit)")
right.set_title("Around a point the bound closes\non the Jacobian")
alt = """Left: attained slope, kernel bound, simple bound and published bound of one attention head grow like the squared token
radius, in this order. Right: as the ball about one token matrix shrinks, the kernel's bound falls to the Jacobian norm at its
centre while the simple bound stays well above it."""
companion.save_figure(fig, "02-blocks-attention", alt=alt, data=rows, badge="theory")

# %% [markdown]
# ### Break: post-norm does not cure attention (theorem T1.8c)
# Attention with unit weights, then LayerNorm of the sum. At the tokens $(0,te,-te)$ the first sum is zero, where LayerNorm is
# steepest. The slope is $(4/3+2t^2/3)/\sqrt\varepsilon$.

# %%
eps = 1e-5
e = torch.tensor([1.0, -1.0, 0.0, 0.0]) / math.sqrt(2)


def post_normed(x):
    return F.layer_norm(x + torch.softmax(x @ x.mT, -1) @ x, (4,), eps=eps)


def post_norm_slope(t):
    """Derivative of the first output token along e when the first input token moves along e, at (0, te, -te)."""
    move = torch.stack([e, 0 * e, 0 * e])
    return float(torch.func.jvp(post_normed, (torch.stack([0 * e, t * e, -t * e]),), (move,))[1][0] @ e)


for t in (1, 10, 100):
    companion.record(f"K9.post_norm_slope_t{t}", post_norm_slope(float(t)), fmt=".2f", badge="theory")

# %% [markdown]
# ## Normalisation layers, softmax and activations (theorem T1.8b)
# The kernel's constants against closed forms.

# %%
size = 16


def norm_bound(name, domain):
    return layer_bound(name, domain=domain, d=size, eps=eps)


companion.record("K9.rmsnorm_whole", norm_bound("rms_norm", WholeSpace()).upper, fmt=".4f", badge="theory")
companion.record("K9.layernorm_whole", norm_bound("layer_norm", WholeSpace()).upper, fmt=".4f", badge="theory")
companion.record("K9.layernorm_shell", norm_bound("layer_norm", Shell(2.0, centred=True)).upper, fmt=".6f", badge="theory")
companion.record("K9.layernorm_plain_shell", norm_bound("layer_norm", Shell(2.0)).upper, fmt=".4f", badge="theory")
companion.record("K9.softmax", layer_bound("softmax").upper, fmt=".6f", badge="theory")
companion.record("K9.gelu", layer_bound("gelu").upper, fmt=".6f", badge="theory")
companion.record("K9.silu", layer_bound("silu").upper, fmt=".6f", badge="theory")

# %% [markdown]
# Points attain both: on the centred shell a pair on its inner sphere, on the plain shell a pair near a constant vector.


# %%
def attained_norm(r, centred):
    """A pair quotient of LayerNorm inside the shell of radius r."""
    u = torch.zeros(2, size)
    u[0, :2], u[1, 2:4] = torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])
    pair = u * r / math.sqrt(2) if centred else 1e-6 * u + 2 * r / math.sqrt(size)
    out = F.layer_norm(pair, (size,), eps=eps)
    return float((out[0] - out[1]).norm() / (pair[0] - pair[1]).norm())


shells = []
for r in np.geomspace(1e-3, 30, P["shells"]):
    bounds = {k: norm_bound("layer_norm", Shell(r, centred=k == "centred")).upper for k in ("centred", "plain")}
    shells.append(dict(r=r, **bounds, attained_centred=attained_norm(r, True), attained_plain=attained_norm(r, False)))
companion.record("K9.shell_centred_gap", max(abs(s["centred"] / s["attained_centred"] - 1) for s in shells), fmt=".1e")
companion.record("K9.shell_plain_gap", max(abs(s["plain"] / s["attained_plain"] - 1) for s in shells), fmt=".1e")

# %% [markdown]
# ## Trained pre-norm and post-norm blocks
# The third blocks of the networks above, on shells: the tokens that enter a normalisation have a deviation of root mean square
# at least $q$. The attained end comes from Jacobians at points of the shell.

# %%
states, third = {}, {}
for kind in ("pre-norm", "post-norm"):
    third[kind], x = nets[kind, 0][2], inputs
    with torch.no_grad():
        x = nets[kind, 0][1](nets[kind, 0][0](x))
    states[kind] = x


def deviation(x):
    """Root mean square of the deviation of each token from its mean."""
    return (x - x.mean(-1, keepdim=True)).square().mean(-1).sqrt()


def steepest(block, x):
    """Largest Jacobian norm of a block over the points x: an attained lower end."""
    return float(torch.linalg.svdvals(torch.vmap(torch.func.jacrev(block))(x))[:, 0].max())


# %%
summed = states["post-norm"] + third["post-norm"].branch(states["post-norm"])
room = {kind: deviation(x) for kind, x in states.items()}
room["post-norm"] = torch.minimum(room["post-norm"], deviation(summed))
seen = {kind: float(least.min()) for kind, least in room.items()}
profiles = []
for kind, q in itertools.product(third, np.geomspace(1e-3, 0.5, P["shells"])):
    x, inside = states[kind], states[kind][room[kind] >= q]
    if kind == "pre-norm":  # points moved onto the inner sphere of the shell lie in it too
        inside = torch.cat([inside, (x - x.mean(-1, keepdim=True)) * (q * (1 + 1e-9) / room[kind])[:, None]])
    bound = lipschitz(third[kind], Shell(q * math.sqrt(width), centred=True), rng=rng)
    attained = steepest(third[kind], inside) if len(inside) else 0.0
    profiles.append(dict(kind=kind, q=q, upper=bound.upper, attained=attained))

# %%
for kind in third:
    key = kind.replace("-", "_")
    whole = lipschitz(third[kind], WholeSpace(), rng=rng)
    found = lipschitz(third[kind], Shell(seen[kind] * math.sqrt(width), centred=True), rng=rng)
    companion.record(f"K9.{key}_whole_upper", whole.upper, fmt=".0f", badge="measured")
    companion.record(f"K9.{key}_seen", seen[kind], fmt=".2f", badge="measured")
    companion.record(f"K9.{key}_shell_upper", found.upper, fmt=".2f", badge="measured")
    companion.record(f"K9.{key}_shell_attained", steepest(third[kind], states[kind]), fmt=".2f", badge="measured")
sides = all(p["attained"] <= p["upper"] for p in profiles)
companion.record("K9.shell_brackets_hold", sides, badge="measured")

# %% [markdown]
# Theorem T1.8c says how little a branch may vary if its pre-norm block is nonexpansive on the whole space. On the sphere of
# radius $\sqrt{d/2}$ its slope would have to be below $2\sqrt{2\varepsilon}$. The trained branches are far above, and
# the block attains a slope that proves the expansion.

# %%
pre = [net[i] for s in range(P["seeds"]) for net in [nets["pre-norm", s]] for i in range(3)]
probe = rng.standard_normal((200, width))
probe -= probe.mean(axis=1, keepdims=True)
probe = torch.tensor(probe / np.linalg.norm(probe, axis=1, keepdims=True))
sphere = math.sqrt(width / 2) * probe
across = torch.eye(width) - 1 / width - probe[:, :, None] * probe[:, None, :]
across_slopes = [torch.linalg.matrix_norm(torch.vmap(torch.func.jacrev(b.branch))(sphere) @ across, 2).max() for b in pre]
companion.record("K9.sphere_limit", 2 * math.sqrt(2 * eps), fmt=".5f", badge="theory")
companion.record("K9.sphere_slope_least", float(min(across_slopes)), fmt=".2f", badge="measured", seeds=P["seeds"])
start = math.sqrt(2 * eps) * sphere  # LN sends these points to the sphere
expansion = min(steepest(b, start) for b in pre)
companion.record("K9.pre_norm_whole_attained", expansion, fmt=".0f", badge="measured", seeds=P["seeds"])

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.5)
r = [s["r"] for s in shells]
for key, colour, marker in (("plain", "vermillion", "s"), ("centred", "blue", "o")):
    left.loglog(r, [s[key] for s in shells], color=PALETTE["black"], ls="--", marker="", lw=1.2)
    left.loglog(r, [s[f"attained_{key}"] for s in shells], color=PALETTE[colour], ls="", marker=marker)
direct_label(left, 1e-3, 316, "plain shell: constant vectors stay in", "vermillion", xytext=(0, 10))
direct_label(left, 0.25, 16, "centred shell", "blue", xytext=(10, 6))
left.set(xlabel="least norm r of the shell (no unit)", ylabel="Lipschitz constant of LayerNorm (no unit)", ylim=(0.08, 1500))
left.set_title("Only a centred shell tames\nLayerNorm")
for kind, colour, marker, dash in (("pre-norm", "purple", "D", "-"), ("post-norm", "green", "^", (0, (2, 2)))):
    part = [p for p in profiles if p["kind"] == kind]
    right.loglog([p["q"] for p in part], [p["upper"] for p in part], color=PALETTE[colour], ls=dash, marker="", lw=1.8)
    shown = [p for p in part if p["attained"] > 0]
    right.loglog([p["q"] for p in shown], [p["attained"] for p in shown], color=PALETTE[colour], ls="", marker=marker)
right.axhline(1, color=PALETTE["black"], ls=":", marker="", lw=1.2)
right.set(xlabel="least deviation q on the shell (rms)", ylabel="Lipschitz constant of the block (no unit)")
direct_label(right, 0.03, 700, "certified upper ends", "black", xytext=(0, 0))
direct_label(right, 9e-4, 60, "pre-norm, attained", "purple", xytext=(0, 0))
direct_label(right, 9e-4, 2.7, "post-norm, attained at training states", "green", xytext=(0, 0))
right.set_title("Trained blocks expand on\nevery shell tried")

# %%
rows = [dict(panel="LayerNorm", x=s["r"], **{k: v for k, v in s.items() if k != "r"}) for s in shells]
columns = ("centred", "plain", "attained_centred", "attained_plain")
rows = [{**row, "kind": None, "upper": None, "attained": None} for row in rows]
rows += [dict(panel="block", x=p["q"], **dict.fromkeys(columns), kind=p["kind"], upper=p["upper"], attained=p["attained"])
         for p in profiles]  # fmt: skip
alt = """Left: on centred shells the constant of LayerNorm falls like one over the radius, on plain shells it stays at 316,
and points attain both. Right: certified upper ends of trained pre-norm and post-norm blocks fall as the shell moves away from
constant vectors; the attained slopes lie below them and above one on every shell."""
companion.save_figure(fig, "02-blocks-norms", alt=alt, data=rows, badge="measured")

# %% [markdown]
# ## Entropy numbers before and after a block, with both ends (theorem T1.6a)
# The digits as they enter and leave a block. Greedy points give both ends: the radii of $k$ balls above, and below the fact
# that $mk+1$ points far apart cannot fit into $k$ small balls. Moving each centre towards its farthest point improves the upper
# end; any choice of centres is allowed there.


# %%
def entropy_numbers(points, covers):
    """Lower and upper ends of e_k of a finite set, for k in covers; (len(covers), 2)."""
    near, order, radii = np.full(len(points), np.inf), [0], []
    while len(order) < len(points):
        near = np.minimum(near, np.linalg.norm(points - points[order[-1]], axis=1))
        order.append(int(near.argmax()))
        radii.append(near.max())
    return np.array([(packing_end(np.array(radii), k), covering_end(points, order[:k])) for k in covers])


def packing_end(radii, k):
    m = np.arange(1, len(radii) // k + 1)
    return float(np.max(radii[m * k - 1] * np.sqrt(m / (2 * (m + 1)))))


# %%
def covering_end(points, chosen):
    """Radius of a covering by balls whose centres begin at the chosen points and move towards the farthest member."""
    centres, best = points[chosen].copy(), np.inf
    for step in range(60):
        distance = cdist(points, centres)
        owner, own = distance.argmin(axis=1), distance.min(axis=1)
        best = min(best, float(own.max()))
        farthest = np.zeros(len(centres), dtype=int)
        farthest[owner[np.argsort(own)]] = np.argsort(own)
        centres += (points[farthest] - centres) / (step + 2)
    return best


# %%
covers = 2 ** np.arange(P["covers"])
cloud = inputs[: P["cloud"]]


def before_and_after(kind, index):
    """The states that enter and leave one block of the first network of a kind."""
    with torch.no_grad():
        x = nets[kind, 0][:index](cloud)
        return x.numpy(), nets[kind, 0][index](x).numpy()


chosen = {"free": ("free", 2), "potential": ("potential", 2), "post_norm": ("post-norm", 0)}
clouds = {name: before_and_after(*place) for name, place in chosen.items()}
clouds["tenfold"] = (cloud.numpy(), 10 * cloud.numpy())
quotients = {}
for done, (name, (x, y)) in enumerate(clouds.items(), 1):
    before, after = entropy_numbers(x, covers), entropy_numbers(y, covers)
    quotients[name] = np.stack([after[:, 0] / before[:, 1], after[:, 1] / before[:, 0]])
    companion.progress(done, len(clouds), "entropy numbers")

# %% [markdown]
# A lower end above one refutes nonexpansiveness on this very cloud, an upper end below one shows that it was brought together
# at that scale. For the potential block the constant one is an upper end as well. The tenfold dilation, condensing by
# definition, checks the routine: its bracket must hold ten.

# %%
caps = {"potential": exact_constant(potential[2], 1.0), "free": exact_constant(free[2], 1.0)}
for name, cap in caps.items():
    quotients[name][1] = np.minimum(quotients[name][1], cap * (1 + 1e-12))
companion.record("K4.entropy_free_lower", float(quotients["free"][0].max()), fmt=".2f", badge="measured")
below = all(quotients[name][0].max() <= cap * (1 + 1e-9) for name, cap in caps.items())
companion.record("K4.entropy_below_lip", below, badge="measured")
companion.record("K4.entropy_potential_lower", float(quotients["potential"][0].max()), fmt=".2f", badge="measured")
companion.record("K4.entropy_post_norm_upper", float(quotients["post_norm"][1].min()), fmt=".2f", badge="measured")
low, high = quotients["tenfold"]
companion.record("K4.entropy_tenfold_held", bool((low <= 10).all() and (high >= 10).all()))
companion.record("K4.entropy_tenfold_width", float((high / low).max()), fmt=".2f", badge="measured")

# %%
fig, ax = companion.new_figure(height=3.4)
looks = {"free": ("vermillion", "s", 0.88), "potential": ("blue", "o", 1.0), "post_norm": ("green", "^", 1.13)}
for name, (colour, marker, shift) in looks.items():
    ends = quotients[name]
    ax.vlines(covers * shift, ends[0], ends[1], color=PALETTE[colour], lw=2.2)
    ax.plot(covers * shift, ends[0], color=PALETTE[colour], ls="", marker=marker)
    ax.plot(covers * shift, ends[1], color=PALETTE[colour], ls="", marker=marker, mfc="white")
ax.axhline(1, color=PALETTE["black"], ls="--", marker="", lw=1.2)
direct_label(ax, 1.5, 3.1, "last free ReLU block", "vermillion", xytext=(0, 0))
direct_label(ax, 0.8, 0.5, "last potential\nblock", "blue", xytext=(0, 0))
direct_label(ax, 6.2, 0.3, "first post-norm block", "green", xytext=(0, 0))
direct_label(ax, 310, 0.23, "filled: lower end\nopen: upper end", "black", xytext=(0, 0), ha="right")
ax.set(xscale="log", yscale="log", xlabel="number of balls k", ylim=(0.17, 4))
ax.set_ylabel("entropy number\nafter / before (no unit)")
ax.set_xticks(covers, [str(k) for k in covers])
ax.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
ax.minorticks_off()
ax.set_title("The ratio of entropy numbers, with both ends, tells\na block that spreads a cloud from one that gathers it")
# %%
rows = [dict(block=name, k=int(k), lower=low, upper=high) for name, ends in quotients.items()
        for k, low, high in zip(covers, *ends, strict=True)]  # fmt: skip
alt = """Brackets of the ratio of entropy numbers against the number of balls: for the free ReLU block the lower ends lie above
one for most k, for the potential block all upper ends are at most one, for the first post-norm block the ends are below one at
small k."""
companion.save_figure(fig, "02-blocks-entropy", alt=alt, data=rows, badge="measured")
